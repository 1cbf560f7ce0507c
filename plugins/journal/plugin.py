"""Sends a journal report of each message that is accepted: its envelope, and the message itself unchanged."""

from __future__ import annotations

import enum
import secrets
import ssl
import zlib
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Final

import attrs

from elemta.config import DomainPattern
from elemta.mail import MailSyntaxError, parse_mailbox
from elemta.plugin.api import (
    Context,
    EnvelopeView,
    MessageView,
    Plugin,
    SessionView,
    hook,
)

from .handing import Conversation, NoTls
from .record import Form, Record, form_of, is_ours, is_report, needs_eight_bit, record_of, report
from .security import Security, StartTls, make_context

KEY_KEPT: Final = 366 * 86400.0
"""Seconds for which the key is remembered by which reports are known again."""


class Direction(enum.StrEnum):
    INCOMING = "incoming"
    """From strangers."""
    OUTGOING = "outgoing"
    """From clients that may send anywhere: our users and machines."""


def _mailbox(_: object, attribute: attrs.Attribute[str], value: str) -> None:
    try:
        parse_mailbox(value, utf8=True)
    except MailSyntaxError as error:
        raise ValueError(f"{attribute.name} is {value!r}: {error}") from error


def _mailbox_if_any(_: object, attribute: attrs.Attribute[str], value: str) -> None:
    if value:
        _mailbox(_, attribute, value)


def _mailboxes(_: object, attribute: attrs.Attribute[tuple[str, ...]], value: tuple[str, ...]) -> None:
    for each in value:
        _mailbox(_, attribute, each)  # type: ignore[arg-type]  # for its name


@attrs.frozen
class Settings:
    to: str = attrs.field(validator=_mailbox)
    """The address that gets a journal report of each message."""
    server: str = "127.0.0.1:25"
    """Where reports are handed in over SMTP: this server itself, or that of the archive."""
    tls: bool = False
    """Speak TLS to it from the first octet (RFC 8314), with a certificate of that name."""
    starttls: StartTls = StartTls.OPPORTUNISTIC
    """Otherwise, whether to ask for TLS behind the greeting."""
    ca_file: Path | None = None
    """Authorities that are trusted, in PEM, in the place of those of this machine."""
    sender: str = attrs.field(default="", validator=_mailbox_if_any)
    """Who is told where a report cannot be delivered; empty: nobody."""
    direction: tuple[Direction, ...] = (Direction.INCOMING, Direction.OUTGOING)
    domains: tuple[DomainPattern, ...] = ()
    """Only messages with a sender or recipient in one of them."""
    sample: float = attrs.field(default=1.0, validator=[attrs.validators.gt(0), attrs.validators.le(1)])
    """The share of messages that are reported."""
    not_to: tuple[str, ...] = attrs.field(default=(), validator=_mailboxes)
    """Archives of other servers: what is for these alone is not reported, since it gets there."""


class Journal(Plugin[Settings]):
    Config = Settings

    def __init__(self, config: Settings, context: Context) -> None:
        super().__init__(config, context)
        self._archives = {each.lower() for each in (config.to, *config.not_to) if each}
        self._key = b""
        self._tls: ssl.SSLContext | None = None

    @hook("enqueue")
    async def tell(self, session: SessionView | None, envelope: EnvelopeView, message: MessageView) -> None:
        await self._find_key()
        if not self._is_wanted(session, envelope, message):
            self.context.metrics.count("not reported")
            return
        # Large messages, and large headers, take their time to look through
        record, form = await self.context.in_thread(
            _look, session, envelope, message, self.context.clock.time()
        )
        await self._report(record, form, message)
        self.context.metrics.count("reported")

    async def _find_key(self) -> None:
        # Not at startup: workers that start together would each make one
        if not self._key:
            state = self.context.state
            # Another call may have found one in the meantime
            self._key = await state.get("key") or self._key or secrets.token_bytes(32)
            state.put("key", self._key, KEY_KEPT)

    def _is_wanted(self, session: SessionView | None, envelope: EnvelopeView, message: MessageView) -> bool:
        if is_report(self._key, message):
            return False
        if all(each.lower() in self._archives for each in envelope.recipients):
            return False  # it gets there anyway, and of a report would come another one
        direction = Direction.OUTGOING if is_ours(session) else Direction.INCOMING
        if direction not in self.config.direction:
            return False
        if self.config.domains and not any(
            _is_in(each, self.config.domains) for each in (envelope.sender, *envelope.recipients)
        ):
            return False
        return self.config.sample >= 1.0 or zlib.crc32(message.id.encode()) < self.config.sample * 2**32

    async def _report(self, record: Record, form: Form, message: MessageView) -> None:
        hostname = self.context.hostname or "localhost"
        eight_bit = needs_eight_bit(record, form)

        def pieces() -> Iterable[bytes]:
            return report(record, form, message.chunks(), hostname=hostname, to=self.config.to, key=self._key)

        security = await self._find_security()
        try:
            await self._hand_in(pieces(), eight_bit, security)
        except NoTls as error:
            if security.level is not StartTls.OPPORTUNISTIC:
                raise
            self.context.log.warning("handing a report in without TLS", reason=str(error))
            self.context.metrics.count("without TLS")
            await self._hand_in(pieces(), eight_bit, security.without())

    async def _hand_in(self, pieces: Iterable[bytes], eight_bit: bool, security: Security) -> None:
        config, hostname = self.config, self.context.hostname or "localhost"
        tls = security.context if config.tls and security.context is not None else False
        talking = security.without() if config.tls else security
        async with self.context.connect(config.server, tls=tls) as stream:
            conversation = Conversation(stream, hostname, talking)
            await conversation.hand_in(config.sender, config.to, eight_bit=eight_bit, message=pieces)

    async def _find_security(self) -> Security:
        config, context = self.config, None
        if not config.server.startswith("unix:") and (config.tls or config.starttls is not StartTls.OFF):
            verify = config.tls or config.starttls is StartTls.VERIFIED
            if self._tls is None:
                make = partial(make_context, config.ca_file, verify=verify)
                self._tls = await self.context.in_thread(make)
            context = self._tls
        host = config.server.rpartition(":")[0].removeprefix("[").removesuffix("]")
        return Security(config.starttls, context, host)


def _look(
    session: SessionView | None, envelope: EnvelopeView, message: MessageView, time: float
) -> tuple[Record, Form]:
    return record_of(session, envelope, message, time), form_of(message.chunks())


def _is_in(address: str, patterns: tuple[DomainPattern, ...]) -> bool:
    domain = address.rpartition("@")[2].lower()
    return any(each.covers(domain) for each in patterns)
