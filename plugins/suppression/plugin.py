"""Sends nothing more to addresses that do not exist: bounces come back to signed paths and are read."""

from __future__ import annotations

import enum
import fnmatch
import re
import secrets
from pathlib import Path
from typing import Final

import attrs

from elemta.config import DomainPattern
from elemta.mail import MailSyntaxError, parse_domain
from elemta.plugin.api import (
    Answer,
    ByteSize,
    Changes,
    Context,
    Discard,
    Duration,
    EnvelopeView,
    MessageView,
    OutcomeView,
    Plugin,
    RecipientAction,
    RecipientChange,
    Redirect,
    Reject,
    SessionView,
    hook,
    periodic,
)

from .memory import ByHand, Memory, Sent, read_by_hand
from .notice import Told, read_notice
from .verp import Verp, read_secret

LOOK_EVERY: Final = 30.0
"""Seconds between two looks into the operator's file."""
_REPLY: Final = re.compile(r"[245]\d\d ([245]\.\d{1,3}\.\d{1,3})\b")


class Do(enum.StrEnum):
    """What becomes of mail to an address on the list."""

    REJECT = "reject"
    DISCARD = "discard"
    """The recipient is left out, and the sender not told."""


def _domain(_: object, attribute: attrs.Attribute[str], value: str) -> None:
    try:
        parse_domain(value)
    except MailSyntaxError as error:
        raise ValueError(f"{attribute.name} is {value!r}: {error}") from error


@attrs.frozen
class Settings:
    senders: tuple[DomainPattern, ...]
    """Domains of the senders that this is about."""
    domain: str = attrs.field(validator=_domain)
    """Where bounces come to: a domain of this server that has nothing else."""
    secret_file: Path
    """A file with a secret: `openssl rand -base64 32`."""
    prefix: str = attrs.field(default="bounces", validator=attrs.validators.matches_re(r"[a-z0-9._-]{1,24}"))
    lifetime: Duration = 14 * 86400.0
    """How long bounces of a message are heeded."""
    suppressed: Do = Do.REJECT
    text: str = "This address does not exist any more: {why}"
    """What the client reads."""
    keep: Duration = 180 * 86400.0
    """How long an address is on the list."""
    hard: tuple[str, ...] = ("5.*",)
    """Codes that bring an address on it at once."""
    not_hard: tuple[str, ...] = (
        "5.1.7",
        "5.1.8",
        "5.2.2",
        "5.2.3",
        "5.3.*",
        "5.4.*",
        "5.5.*",
        "5.6.*",
        "5.7.*",
    )
    """Among these, those that only count: of the message or of us rather than of the address."""
    soft_limit: int = attrs.field(default=5, validator=attrs.validators.ge(0))
    """So many other failures bring it on the list as well; 0: none do."""
    soft_window: Duration = 7 * 86400.0
    """Within that time."""
    forward: bool = True
    """The sender gets the bounce all the same."""
    scan: ByteSize = 256 * 1024
    """How much of a bounce is read."""
    file: Path | None = None
    """Addresses that are on the list by hand, and with `!` before them those that never are."""


class Suppression(Plugin[Settings]):
    Config = Settings

    def __init__(self, config: Settings, context: Context) -> None:
        super().__init__(config, context)
        self._verp = Verp(read_secret(config.secret_file), config.prefix, config.domain.lower())
        self._memory = Memory(
            context.suppression,
            context.state,
            context.clock,
            config.keep,
            config.soft_window,
            config.soft_limit,
        )
        self._by_hand = ByHand()
        self._seen: float | None = None

    # --- Mail of ours -------------------------------------------------------------------------------------

    @hook("rcpt")
    async def check(self, session: SessionView, envelope: EnvelopeView, recipient: str) -> Reject | None:
        if self._verp.is_ours(recipient):
            if self._verp.identity(recipient, self.context.clock.time()) is None:
                self.context.metrics.count("refused bounces")
                return Reject("No such return path, or its time is over", enhanced="5.1.1")
            return None
        if self.config.suppressed is not Do.REJECT or not self._is_about(session, envelope):
            return None
        why = await self._why(recipient)
        if why is None:
            return None
        self.context.metrics.count("rejected")
        return self._refusal(why)

    @hook("message")
    async def send(
        self, session: SessionView | None, envelope: EnvelopeView, message: MessageView
    ) -> Answer | Redirect | Discard | Reject | None:
        returned = [each for each in envelope.recipients if self._verp.is_ours(each)]
        if returned:
            return await self._come_back(envelope, returned, message)
        if not self._is_about(session, envelope):
            return None
        stopped = {each: why for each in envelope.recipients if (why := await self._why(each)) is not None}
        left = tuple(each for each in envelope.recipients if each not in stopped)
        if stopped:
            self.context.metrics.count("left out", len(stopped))
        if not left:
            if self.config.suppressed is Do.REJECT:
                return self._refusal(next(iter(stopped.values())))
            return Discard("all recipients are suppressed")
        identity = secrets.token_bytes(6)
        self._memory.remember(identity, Sent.of(envelope.sender, left), self.config.lifetime)
        return Answer(
            changes=Changes(
                sender=self._verp.address(identity, self.context.clock.time() + self.config.lifetime),
                recipients=tuple(RecipientChange(RecipientAction.REMOVE, each) for each in stopped),
            )
        )

    def _is_about(self, session: SessionView | None, envelope: EnvelopeView) -> bool:
        ours = session is None or session.trusted or session.identity is not None
        if self._verp.is_ours(envelope.sender):
            return False  # it comes back from a filter, and has its return path
        domain = envelope.sender.rpartition("@")[2].lower()
        return ours and any(each.covers(domain) for each in self.config.senders)

    async def _why(self, address: str) -> str | None:
        if address.lower() in self._by_hand.never:
            return None
        if address.lower() in self._by_hand.stopped:
            return "suppressed"
        return await self._memory.why(address)

    def _refusal(self, why: str) -> Reject:
        return Reject(self.config.text.replace("{why}", why), enhanced="5.1.6", reason=f"suppressed: {why}")

    # --- What comes back ----------------------------------------------------------------------------------

    async def _come_back(
        self, envelope: EnvelopeView, returned: list[str], message: MessageView
    ) -> Redirect | Discard | Answer | Reject:
        identity = self._verp.identity(returned[0], self.context.clock.time())
        sent = None if identity is None else await self._memory.sent(identity)
        if len(envelope.recipients) > 1:  # a bounce is of one message, and goes to its sender alone
            return Reject("A bounce has one recipient", enhanced="5.5.3")
        if sent is None:
            self.context.metrics.count("bounces of nothing known")
            return Discard("a bounce of a message that is not remembered")
        told = await self.context.in_thread(self._read, message)
        heard = set[str]()
        for each in told:
            recipient = sent.find(each.addresses)
            if recipient.lower() in heard:
                continue  # several names of one recipient, as behind an alias, are one failure
            if recipient and each.action == "failed":
                heard.add(recipient.lower())
            await self._hear(recipient, each)
        self.context.metrics.count("bounces" if told else "other answers")
        if not self.config.forward:
            return Discard("a bounce that was read")
        return Redirect((sent.sender,), "a bounce for the sender")

    def _read(self, message: MessageView) -> tuple[Told, ...]:
        content = bytearray()
        for piece in message.chunks():
            content += piece
            if len(content) >= self.config.scan:
                break
        return read_notice(bytes(content[: self.config.scan]))

    async def _hear(self, recipient: str, told: Told) -> None:
        if not recipient:
            self.context.metrics.count("bounces of nobody known")
        elif told.action == "failed":
            await self._failed(recipient, told.status, final=told.status.startswith("5"))

    @hook("failed")
    async def fail(self, outcome: OutcomeView) -> None:
        """A delivery of our own failed; our notice about it says the same, and comes later."""
        if self._verp.is_ours(outcome.recipient) or not outcome.remote:
            return  # nobody else has said anything of the address
        found = _REPLY.match(outcome.reply)
        if found is None:
            return
        final = found[1].startswith("5") and not outcome.expired
        if final and self._is_hard(found[1]):
            await self._stop(outcome.recipient, found[1])

    async def _failed(self, recipient: str, status: str, *, final: bool) -> None:
        if final and self._is_hard(status):
            await self._stop(recipient, status)
            return
        self.context.metrics.count("soft bounces")
        if recipient.lower() in self._by_hand.never:
            return
        if await self._memory.count(recipient, f"{status}, again and again"):
            self._told(recipient, status)

    def _is_hard(self, status: str) -> bool:
        return _fits(status, self.config.hard) and not _fits(status, self.config.not_hard)

    async def _stop(self, recipient: str, status: str) -> None:
        if recipient.lower() not in self._by_hand.never and await self._memory.add(recipient, status):
            self._told(recipient, status)

    def _told(self, recipient: str, status: str) -> None:
        self.context.metrics.count("suppressed")
        self.context.log.info("an address is suppressed", recipient=recipient, status=status)

    # --- By hand ------------------------------------------------------------------------------------------

    @periodic(LOOK_EVERY)
    async def look(self) -> None:
        if self.config.file is None:
            return
        try:
            changed = self.config.file.stat().st_mtime
            if changed == self._seen:
                return
            by_hand, wrong = await self.context.in_thread(read_by_hand, self.config.file)
        except OSError as error:
            self.context.log.error("the file of addresses cannot be read", reason=str(error))
            return
        for each in wrong:
            self.context.log.error("a line of the file of addresses is left out", reason=each)
        for each in by_hand.never:
            await self._memory.remove(each)
        self._by_hand, self._seen = by_hand, changed


def _fits(status: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(status, each) for each in patterns)
