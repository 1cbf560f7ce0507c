"""Sends a journal report of each message that is accepted: its envelope, and the message itself unchanged."""

from __future__ import annotations

import enum
import secrets
import zlib
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

from .handing import Conversation
from .record import Form, Record, form_of, is_ours, is_report, needs_eight_bit, record_of, report

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
        # Not at startup: a worker process has no answers of its server by then
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
        pieces = report(record, form, message.chunks(), hostname=hostname, to=self.config.to, key=self._key)
        async with self.context.connect(self.config.server, tls=self.config.tls) as stream:
            await Conversation(stream, hostname).hand_in(
                self.config.sender, self.config.to, eight_bit=needs_eight_bit(record, form), message=pieces
            )


def _look(
    session: SessionView | None, envelope: EnvelopeView, message: MessageView, time: float
) -> tuple[Record, Form]:
    return record_of(session, envelope, message, time), form_of(message.chunks())


def _is_in(address: str, patterns: tuple[DomainPattern, ...]) -> bool:
    domain = address.rpartition("@")[2].lower()
    return any(each.covers(domain) for each in patterns)
