"""Asks SpamAssassin's spamd about each message, and acts by its score."""

from __future__ import annotations

import ipaddress
import re

import attrs

from elemta.dns import look_up_reverse
from elemta.mail.trace import date
from elemta.plugin.api import (
    Answer,
    ByteSize,
    Changes,
    Defer,
    Discard,
    Duration,
    EnvelopeView,
    HeaderAction,
    HeaderChange,
    MessageView,
    NoteValue,
    OutsideFailed,
    Plugin,
    Quarantine,
    Reject,
    SessionView,
    field_value,
    hook,
)

from .answer import MOST, Ask, NoAnswer, Scan, is_complete, read_answer

_HARMFUL = re.compile(r"[^\x21\x23-\x27\x2a-\x3a\x3d\x3f-\x5b\x5d-\x7e]")
"""Not in the fields that we write for spamd: blanks, quotes, brackets, controls, other scripts."""
_USER = re.compile(r"[A-Za-z0-9._@+-]{1,128}")


def _user(_: object, attribute: attrs.Attribute[str], value: str) -> None:
    if value and not _USER.fullmatch(value):
        raise ValueError("user is a name of letters, digits and . _ @ + -")


@attrs.frozen
class Settings:
    address: str = "127.0.0.1:783"
    """Of spamd: `host:port`, or `unix:/path`."""
    ask: Ask = Ask.SYMBOLS
    """What `headers` writes beside the score: the rules that were met; `report`: of spam, `X-Spam-Report`,
    too; `headers`: all `X-Spam-` fields that SpamAssassin is set up to add, in the place of ours."""
    user: str = attrs.field(default="", validator=_user)
    """Whose preferences spamd takes; empty: its own."""
    own: bool = False
    """Ask also about mail of our users and machines."""
    max_size: ByteSize = 512 * 1024
    """Larger messages are not checked."""
    reject: float | None = None
    """Score from which a message is rejected; none: nothing is."""
    defer: float | None = None
    quarantine: float | None = None
    """Score from which it is taken and held as suspect."""
    discard: float | None = None
    text: str = "The message looks like spam"
    """What a client reads whose message is rejected or deferred."""
    headers: bool = True
    """Write `X-Spam-Flag` (spam only), `X-Spam-Score` and `X-Spam-Status`; all `X-Spam-` fields of strangers
    are taken out."""
    subject: str = ""
    """Put before the subject of spam, such as `[SPAM]`."""
    reverse_names: Duration = 3.0
    """How long the name of the client is looked up in DNS; 0: not at all."""


_FIELDS = ("X-Spam-Flag", "X-Spam-Score", "X-Spam-Status", "X-Spam-Level", "X-Spam-Report")
"""What others act by: those of strangers are taken out first, should there be too many."""
_STRANGE = re.compile(r"(?i)X-Spam-[\x21-\x39\x3b-\x7e]{1,60}")
_MOST_STRANGE = 500
_LONGEST_SUBJECT = 8_000
"""Characters; a longer one stays as it is."""


class SpamAssassin(Plugin[Settings]):
    Config = Settings

    @hook("message")
    async def check(
        self, session: SessionView | None, envelope: EnvelopeView, message: MessageView
    ) -> Answer | None:
        config = self.config
        if session is None or (not config.own and (session.trusted or session.identity is not None)):
            return None
        if message.size > config.max_size:
            self.context.metrics.count("too large")
            return Answer(changes=Changes(headers=tuple(self._taken_out(message))))
        try:
            scan = read_answer(await self._ask(await self._trace(session, envelope), message), config.ask)
        except NoAnswer as error:
            raise OutsideFailed(f"{config.address} {error}") from error
        self.context.metrics.count("spam" if scan.is_spam else "ham")
        return self._meaning(scan, message)

    async def _ask(self, trace: bytes, message: MessageView) -> bytes:
        head = f"{self.config.ask.upper()} SPAMC/1.5\r\nContent-length: {len(trace) + message.size}\r\n"
        if self.config.user:
            head += f"User: {self.config.user}\r\n"
        received = bytearray()
        async with self.context.connect(self.config.address) as stream:
            await stream.send_all(f"{head}\r\n".encode("ascii") + trace)
            for piece in message.chunks():
                await stream.send_all(piece)
            while not is_complete(bytes(received)) and (answered := await stream.receive_some(MOST)):
                received += answered
                if len(received) > MOST:
                    raise OutsideFailed(f"{self.config.address} answers without end")
        return bytes(received)

    async def _trace(self, session: SessionView, envelope: EnvelopeView) -> bytes:
        """The fields that the message will get from us: by them SpamAssassin knows client and sender."""
        try:
            address = ipaddress.ip_address(session.peer)
        except ValueError:
            address = ipaddress.ip_address("127.0.0.1")  # a socket in the file system
        name = ""
        if self.context.resolver is not None and self.config.reverse_names:
            found = await look_up_reverse(self.context.resolver, address, seconds=self.config.reverse_names)
            name = found.name
        shown = f"[IPv6:{address}]" if address.version == 6 else f"[{address}]"
        protocol = "ESMTPA" if session.identity is not None else "ESMTP"
        hello = _HARMFUL.sub("", session.hello)[:255] or "unknown"
        lines = [
            f"Return-Path: <{_HARMFUL.sub('', envelope.sender)[:320]}>",
            f"Received: from {hello} ({name or 'unknown'} {shown})",
            f"\tby {self.context.hostname or 'localhost'} with {protocol} id {session.id};",
            f"\t{date(self.context.clock.time())}",
            "",
        ]
        return "\r\n".join(lines).encode("ascii", "replace")

    def _meaning(self, scan: Scan, message: MessageView) -> Answer:
        config = self.config
        notes: dict[str, NoteValue] = {
            "spam": scan.is_spam,
            "score": scan.score,
            "rules": " ".join(scan.rules)[:4000],
        }
        reason = f"score {scan.score:g} of {scan.required:g}: {' '.join(scan.rules)}"[:500]
        if config.discard is not None and scan.score >= config.discard:
            return Answer(Discard(reason), notes=notes)
        if config.reject is not None and scan.score >= config.reject:
            return Answer(Reject(config.text, code=554, reason=reason), notes=notes)
        if config.defer is not None and scan.score >= config.defer:
            return Answer(Defer(config.text, reason=reason), notes=notes)
        changes = self._fields(scan, message)
        if config.quarantine is not None and scan.score >= config.quarantine:
            return Answer(Quarantine(reason), changes, notes)
        return Answer(changes=changes, notes=notes)

    def _fields(self, scan: Scan, message: MessageView) -> Changes:
        changes = self._taken_out(message)
        if self.config.headers:
            written = scan.fields if self.config.ask is Ask.HEADERS else self._own_fields(scan)
            changes += [HeaderChange(HeaderAction.ADD, name, value) for name, value in written]
        if self.config.subject and scan.is_spam:
            raw = next((each.raw for each in message.headers if each.name.lower() == "subject"), b"")
            old = raw.strip().decode("utf-8", "replace")
            new = field_value(f"{self.config.subject} {old}".strip())
            if not old.startswith(self.config.subject) and len(new) <= _LONGEST_SUBJECT:
                changes.append(HeaderChange(HeaderAction.REPLACE, "Subject", new))
        return Changes(headers=tuple(changes))

    def _own_fields(self, scan: Scan) -> list[tuple[str, str]]:
        word = "Yes" if scan.is_spam else "No"
        folded = ",\r\n\t".join(scan.rules) or "none"
        status = f"{word}, score={scan.score:g} required={scan.required:g}\r\n\ttests={folded}"
        fields = [("X-Spam-Score", f"{scan.score:g}"), ("X-Spam-Status", status)]
        if scan.is_spam:
            fields.append(("X-Spam-Flag", "YES"))
            if scan.report:
                fields.append(("X-Spam-Report", scan.report))
        return fields

    def _taken_out(self, message: MessageView) -> list[HeaderChange]:
        """What a stranger says of his own message is not left for filters behind us to believe."""
        if not self.config.headers:
            return []
        there = {each.name.lower() for each in message.headers if _STRANGE.fullmatch(each.name)}
        known = [name for name in _FIELDS if name.lower() in there]
        others = sorted(there - {name.lower() for name in _FIELDS})
        return [HeaderChange(HeaderAction.REMOVE, name) for name in [*known, *others][:_MOST_STRANGE]]
