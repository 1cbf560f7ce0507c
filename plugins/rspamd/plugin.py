"""Asks Rspamd about each message, does what it says, and makes the changes that it wants."""

from __future__ import annotations

import enum
import ipaddress
import re
from pathlib import Path

import attrs

from elemta.dns import look_up_reverse
from elemta.plugin.api import (
    Answer,
    ByteSize,
    Changes,
    Decision,
    Defer,
    Discard,
    Duration,
    EnvelopeView,
    HeaderAction,
    HeaderChange,
    Hold,
    MessageView,
    NoteValue,
    OutsideFailed,
    Plugin,
    Quarantine,
    Reject,
    SessionView,
    hook,
)

from .answer import Scan, read_answer

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Do(enum.StrEnum):
    """What an action of Rspamd comes to."""

    PASS = "pass"  # noqa: S105 - no password
    TAG = "tag"
    """Take it, with `spam_header`."""
    DEFER = "defer"
    REJECT = "reject"
    QUARANTINE = "quarantine"
    HOLD = "hold"
    DISCARD = "discard"


@attrs.frozen
class Settings:
    url: str = "http://127.0.0.1:11333"
    """Of a normal worker or a proxy; `https://` is possible."""
    socket: str = ""
    """Connect to this socket in the file system instead of the host of the URL."""
    password_file: Path | None = None
    """A file with the password of the worker, where that wants one."""
    max_size: ByteSize = 50 * 1024 * 1024
    """Larger messages are not checked."""
    max_answer: ByteSize = 1024 * 1024
    """Of an answer."""
    reverse_names: Duration = 3.0
    """How long the name of the client is looked up in DNS; 0: not at all, then Rspamd knows none."""
    make_changes: bool = True
    """Make the changes of header, sender and recipients that Rspamd wants."""
    spam_header: str = "X-Spam"
    """Says `Yes` in what is tagged; strangers' fields of that name are taken out. Empty: none."""
    text: str = "Spam message rejected"
    """What a client reads whose message is rejected, where Rspamd has no text of its own."""
    reject: Do = Do.REJECT
    soft_reject: Do = Do.DEFER
    greylist: Do = Do.PASS
    """Only a hint: where Rspamd greylists itself, it says `soft reject`."""
    quarantine: Do = Do.QUARANTINE
    discard: Do = Do.DISCARD
    rewrite_subject: Do = Do.TAG
    add_header: Do = Do.TAG
    other: Do = Do.PASS
    """Actions of your own."""

    def deed(self, action: str) -> Do:
        """What is to be done."""
        match action.replace(" ", "_"):
            case "no_action":
                return Do.PASS
            case ("reject" | "soft_reject" | "greylist" | "quarantine" | "discard"
                  | "rewrite_subject" | "add_header") as known:  # fmt: skip
                deed: Do = getattr(self, known)
                return deed
            case _:
                return self.other


class Rspamd(Plugin[Settings]):
    Config = Settings
    _password = ""

    @hook("startup")
    async def read_password(self) -> None:
        if self.config.password_file is not None:
            self._password = self.config.password_file.read_text().strip()

    @hook("message")
    async def check(
        self, session: SessionView | None, envelope: EnvelopeView, message: MessageView
    ) -> Answer | None:
        config = self.config
        if message.size > config.max_size:
            self.context.metrics.count("too large")
            return None
        answer = await self.context.http.request(
            "POST",
            f"{config.url.rstrip('/')}/checkv2",
            headers=[*await self._about(session), *_envelope(envelope)],
            body=message.chunks(),
            size=message.size,
            most=config.max_answer,
            through=f"unix:{config.socket}" if config.socket else None,
        )
        if answer.status != 200:
            raise OutsideFailed(f"{config.url} answers with status {answer.status}")
        scan = read_answer(answer.body, message)
        self.context.metrics.count(_counted(scan.action))
        return self._meaning(scan, message)

    async def _about(self, session: SessionView | None) -> list[tuple[str, str]]:
        about = [("MTA-Name", self.context.hostname)]
        if self._password:
            about.append(("Password", self._password))
        if session is None:
            return about
        about += [("Queue-Id", session.id), ("Helo", _clean(session.hello))]
        try:
            address = ipaddress.ip_address(session.peer)
        except ValueError:
            pass  # a socket in the file system
        else:
            about.append(("IP", str(address)))
            if self.context.resolver is not None and self.config.reverse_names:
                found = await look_up_reverse(
                    self.context.resolver, address, seconds=self.config.reverse_names
                )
                about.append(("Hostname", found.name or "unknown"))
        if session.identity is not None:
            about.append(("User", _clean(session.identity.name)))
        if session.tls is not None:
            about += [("TLS-Version", session.tls.version), ("TLS-Cipher", session.tls.cipher)]
        return about

    def _meaning(self, scan: Scan, message: MessageView) -> Answer:
        deed = self.config.deed(scan.action)
        notes: dict[str, NoteValue] = {
            "action": scan.action,
            "score": scan.score,
            "symbols": " ".join(scan.symbols)[:4000],
        }
        reason = _clean(f"{scan.action} {scan.score:g} of {scan.required:g}: {' '.join(scan.symbols)}")[:500]
        decision = _decision(deed, _clean(scan.message), self.config.text, reason)
        if decision is not None and not isinstance(decision, Hold | Quarantine):
            return Answer(decision, notes=notes)
        headers = list(scan.headers) if self.config.make_changes else []
        name = self.config.spam_header
        if name and deed is not Do.PASS:
            headers.insert(0, HeaderChange(HeaderAction.REPLACE, name, "Yes"))
        elif name and message.header(name) is not None:
            headers.insert(0, HeaderChange(HeaderAction.REMOVE, name))
        if deed is not Do.PASS and scan.subject is not None:
            headers.append(HeaderChange(HeaderAction.REPLACE, "Subject", scan.subject))
        changes = Changes(
            headers=tuple(headers),
            recipients=scan.recipients if self.config.make_changes else (),
            sender=scan.sender if self.config.make_changes else None,
        )
        return Answer(changes=changes, notes=notes) if decision is None else Answer(decision, changes, notes)


def _decision(deed: Do, said: str, text: str, reason: str) -> Decision | None:
    match deed:
        case Do.REJECT:
            return Reject(said or text, code=554, reason=reason)
        case Do.DEFER:
            return Defer(said or "Try again later", reason=reason)
        case Do.QUARANTINE:
            return Quarantine(reason)
        case Do.HOLD:
            return Hold(reason)
        case Do.DISCARD:
            return Discard(reason)
        case Do.PASS | Do.TAG:
            return None


def _envelope(envelope: EnvelopeView) -> list[tuple[str, str]]:
    recipients = [("Rcpt", _clean(each)) for each in envelope.recipients]
    return [("From", _clean(envelope.sender)), *recipients]


def _clean(text: str) -> str:
    """As the value of a field of HTTP, or as text of one line."""
    return _CONTROL.sub("?", text).strip()


def _counted(action: str) -> str:
    return _clean(action)[:40]
