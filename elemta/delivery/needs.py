"""What a message needs of the next hop, and whether what that announced is enough."""

from __future__ import annotations

import math

import attrs

from elemta.mail import (
    BodyType,
    Cause,
    DeliverBy,
    DeliverByMode,
    Envelope,
    Failed,
    ForwardPath,
    Notify,
    Recipient,
    Reply,
    ReversePath,
    replies,
    split_header,
)
from elemta.smtp import ByTime, Capabilities, Mail, MailParams, Rcpt, RcptParams

from .transport import Content

_MOST_SECONDS = 999_999_999
"""RFC 2852 §4: nine digits."""
TOO_LARGE = Reply.of(552, "5.3.4", "the message is larger than the destination takes")
"""RFC 1870 §6.1: the announced size is known, so it is not tried."""
REQUIRETLS_NEEDED = Reply.of(550, "5.7.30", "REQUIRETLS support required")
"""RFC 8689 §4.2.1, §5."""


@attrs.frozen
class EightBit:
    """Where a message has octets above 127."""

    header: bool
    anywhere: bool


async def find_eight_bit(content: Content, envelope: Envelope, offered: Capabilities) -> EightBit:
    """Look for octets above 127, as far as the answer can matter for this next hop.

    A message in memory is looked at at once. A larger one is read through only where the next hop
    lacks something; else it is taken to have some, which costs nothing: 8BITMIME allows 7-bit text.

    Raises:
      Exception: of the spool, where the body cannot be read.
    """
    if content.body is not None:
        return eight_bit_in_memory(content)
    if offered.eight_bit_mime and (offered.smtputf8 or not envelope.smtputf8):
        return EightBit(header=False, anywhere=True)
    header, anywhere, in_header, tail = not content.prefix.isascii(), False, True, content.prefix[-3:]
    async with content.open() as reader:
        while piece := await reader.read():
            if in_header:
                text = tail + piece
                end = text.find(b"\r\n\r\n")
                in_header = end < 0
                header = header or not (text if end < 0 else text[:end]).isascii()
                tail = text[-3:]
            anywhere = anywhere or not piece.isascii()
    return EightBit(header, header or anywhere)


def eight_bit_in_memory(content: Content) -> EightBit:
    """The same for a message that is in memory."""
    body = content.body
    assert body is not None
    if body.isascii() and content.prefix.isascii():
        return EightBit(header=False, anywhere=False)
    text = content.prefix + body
    return EightBit(header=not text[: split_header(text)].isascii(), anywhere=True)


def needs_conversion(envelope: Envelope, eight_bit: EightBit, offered: Capabilities) -> bool:
    """Whether the next hop takes the message only as 7-bit lines (RFC 6152 §3, RFC 3030 §3)."""
    if envelope.body_type is BodyType.BINARY_MIME:
        return not (offered.binary_mime and offered.chunking)
    return eight_bit.anywhere and not offered.eight_bit_mime


def mail_command(
    envelope: Envelope,
    size: int,
    eight_bit: EightBit,
    offered: Capabilities,
    *,
    secure: bool,
    now: float,
    final: bool = False,
) -> Mail | Failed:
    """MAIL for this next hop, or why the message cannot go there at all.

    `secure`: the session has TLS with a certificate that was verified. `now`: wall clock. `final`: the next
    hop is where the message ends.
    """
    if envelope.require_tls and not (secure and offered.require_tls):  # RFC 8689 §4.2.1
        return Failed(Cause.UNSUPPORTED, REQUIRETLS_NEEDED)
    path = envelope.reverse_path
    # RFC 6531 §3.5: not to be sent where it is not understood. Without any address or header that needs it,
    # the parameter alone is no reason to fail.
    utf8 = not _is_ascii(path) or (envelope.smtputf8 and (offered.smtputf8 or eight_bit.header))
    if utf8 and not offered.smtputf8:
        return Failed(Cause.UNSUPPORTED, replies.REMOTE_SMTPUTF8_NEEDED)
    if needs_conversion(envelope, eight_bit, offered):
        return Failed(Cause.UNSUPPORTED, replies.CONVERSION_NEEDED)
    deadline = envelope.deliver_by
    by = None if deadline is None else _time_left(deadline, offered, now)
    if deadline is not None and deadline.mode is DeliverByMode.RETURN and by is None and not final:
        # RFC 2852 §4: it may only go on to a server that keeps the deadline
        return Failed(Cause.EXPIRED, replies.EXPIRED, detail="the next hop does not promise the deadline")
    if offered.size and size > offered.size:
        return Failed(Cause.UNSUPPORTED, TOO_LARGE, detail=f"{size} octets, at most {offered.size}")
    return Mail(
        path,
        MailParams(
            size=size if offered.size is not None else None,
            body_type=_body_type(envelope, eight_bit),
            smtputf8=utf8,
            # RFC 3461 §5.2.1: passed on as they came
            ret=envelope.ret if offered.dsn else None,
            envelope_id=envelope.envelope_id if offered.dsn else None,
            require_tls=envelope.require_tls,
            priority=envelope.priority if offered.mt_priority else None,  # RFC 6710 §4.2
            deliver_by=by,
        ),
    )


def _body_type(envelope: Envelope, eight_bit: EightBit) -> BodyType | None:
    if envelope.body_type is BodyType.BINARY_MIME:
        return BodyType.BINARY_MIME
    return BodyType.EIGHT_BIT_MIME if eight_bit.anywhere else None


def _time_left(by: DeliverBy, offered: Capabilities, now: float) -> ByTime | None:
    """The deadline for this next hop (RFC 2852 §4); None: it knows none, or not one so near."""
    if offered.deliver_by is None:
        return None
    seconds = math.floor(by.deadline - now)
    if by.mode is DeliverByMode.RETURN and seconds < max(1, offered.deliver_by):
        return None
    return ByTime(max(-_MOST_SECONDS, min(seconds, _MOST_SECONDS)), by.mode, by.trace)


def must_tell_delays(envelope: Envelope, offered: Capabilities) -> bool:
    """Whether the next hop is to tell the sender of delays because it does not know of his deadline
    (RFC 2852 §4.1.4.2)."""
    by = envelope.deliver_by
    return by is not None and by.mode is DeliverByMode.NOTIFY and offered.deliver_by is None


def rcpt_command(
    recipient: Recipient, offered: Capabilities, *, utf8: bool, tell_delays: bool = False
) -> Rcpt | Failed:
    """RCPT for this next hop, or why this recipient cannot be reached through it.

    `tell_delays`: as `must_tell_delays` says, which goes before RFC 3461 §5.2.1.
    """
    if not recipient.mailbox.is_ascii and not utf8:
        return Failed(Cause.UNSUPPORTED, replies.REMOTE_SMTPUTF8_NEEDED)
    path = ForwardPath(recipient.mailbox)
    notify = recipient.dsn.notify
    if tell_delays and notify is not Notify.NEVER:
        notify = recipient.notify | Notify.DELAY
    if not offered.dsn or (notify is None and recipient.dsn.original_recipient is None):
        return Rcpt(path)
    return Rcpt(path, RcptParams(notify, recipient.dsn.original_recipient))


def _is_ascii(path: ReversePath) -> bool:
    return path.mailbox is None or path.mailbox.is_ascii
