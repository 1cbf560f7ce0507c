"""How values are written down: envelope and origin as JSON, outcomes as texts, times as milliseconds."""

from __future__ import annotations

import msgspec

from elemta.mail import (
    NO_MARKS,
    NULL_PATH,
    PHASES,
    AddressLiteral,
    BodyType,
    Deed,
    DeliverBy,
    DeliverByMode,
    Delivered,
    Domain,
    DsnOptions,
    Envelope,
    Identity,
    Mailbox,
    Marks,
    Notify,
    Origin,
    Outcome,
    Phases,
    Recipient,
    Ret,
    ReversePath,
    TlsFacts,
    parse_domain,
)
from elemta.mail.envelope import NO_DSN_OPTIONS

from .errors import SpoolError

_LONGEST_TEXT = 2000
"""Characters of a remote's reply that are kept; RFC 5321 §4.5.3.1.5 has 512 octets in a line."""


def to_milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def to_seconds(milliseconds: int) -> float:
    return milliseconds / 1000


def sender_text(path: ReversePath) -> str:
    """As filters and listings show it: the address, or `<>`."""
    return "<>" if path.mailbox is None else str(path.mailbox)


def describe(outcome: Outcome) -> tuple[str, str, str]:
    """Reason, reply and remote of an outcome, as they are kept."""
    reason = "delivered" if isinstance(outcome, Delivered) else str(outcome.cause)
    return reason, plain(str(outcome.reply)), plain(outcome.remote)


def outcome_detail(outcome: Outcome, note: str = "") -> str:
    """What only the operator is to know of an outcome, behind a note of its attempt."""
    detail = "" if isinstance(outcome, Delivered) else outcome.detail
    if note:
        detail = f"{note}; {detail}" if detail else note
    return plain(detail)


def phase_list(phases: Phases) -> list[float]:
    """Phases as they are kept: their seconds in order."""
    return [getattr(phases, name) for name in PHASES]


def plain(text: str) -> str:
    """Text from strangers in a form that can be stored: bounded, and lone surrogates shown as escapes."""
    text = text[:_LONGEST_TEXT]
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class _StoredRecipient(msgspec.Struct, array_like=True):
    local_part: str
    domain: str
    notify: int | None = None
    original_recipient: str | None = None
    sender: tuple[str, str] | None = None


class _StoredOrigin(msgspec.Struct, array_like=True):
    session: str
    peer: str
    port: int
    hello: str
    protocol: str
    listener: str
    tls: tuple[str, str, bool] | None
    identity: tuple[str, str] | None
    traceparent: str = ""


class _Details(msgspec.Struct, array_like=True):
    # Arrays, not objects: half the octets in each row. New fields go to the end, with a default.
    sender: tuple[str, str] | None
    recipients: list[_StoredRecipient]
    body_type: str
    smtputf8: bool
    ret: str | None
    envelope_id: str | None
    require_tls: bool
    priority: int
    origin: _StoredOrigin
    deliver_by: tuple[float, str, bool] | None = None
    release_at: float | None = None
    tags: tuple[str, ...] = ()
    deeds: tuple[tuple[str, str, str], ...] = ()
    hold_request: str | None = None
    marks: tuple[str, str] = ("", "")
    quarantined: bool = False


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Details)


def encode_details(envelope: Envelope, origin: Origin, marks: Marks = NO_MARKS) -> str:
    """Envelope, origin and marks as one JSON text.

    Raises:
      SpoolError: something in them is no text that can be stored.
    """
    sender = envelope.reverse_path.mailbox
    tls, identity, by = origin.tls, origin.identity, envelope.deliver_by
    details = _Details(
        None if sender is None else (sender.local_part, sender.domain.text),
        [_stored_recipient(recipient) for recipient in envelope.recipients],
        envelope.body_type.value,
        envelope.smtputf8,
        None if envelope.ret is None else envelope.ret.value,
        envelope.envelope_id,
        envelope.require_tls,
        envelope.priority,
        _StoredOrigin(
            plain(origin.session),
            plain(origin.peer),
            origin.port,
            plain(origin.hello),
            plain(origin.protocol),
            plain(origin.listener),
            None if tls is None else (plain(tls.version), plain(tls.cipher), tls.verified),
            None if identity is None else (plain(identity.name), plain(identity.mechanism)),
            plain(origin.traceparent),
        ),
        None if by is None else (by.deadline, by.mode.value, by.trace),
        envelope.release_at,
        tuple(plain(tag) for tag in envelope.tags),
        tuple((plain(each.plugin), each.hook, plain(each.what)) for each in envelope.deeds),
        envelope.hold_request,
        (plain(marks.message_id), marks.subject),
        envelope.quarantined,
    )
    try:
        return _encoder.encode(details).decode()
    except UnicodeError as cause:
        raise SpoolError("the envelope is no text that can be stored") from cause


def _stored_recipient(recipient: Recipient) -> _StoredRecipient:
    mailbox, dsn, sender = recipient.mailbox, recipient.dsn, recipient.sender
    return _StoredRecipient(
        mailbox.local_part,
        mailbox.domain.text,
        None if dsn.notify is None else dsn.notify.value,
        dsn.original_recipient,
        None if sender is None else (sender.local_part, sender.domain.text),
    )


def decode_details(text: str) -> tuple[Envelope, Origin]:
    """What `encode_details` wrote.

    Raises:
      ValueError: the text is damaged.
    """
    details = _decoder.decode(text)
    origin = details.origin
    sender, by = details.sender, details.deliver_by
    envelope = Envelope(
        NULL_PATH if sender is None else ReversePath(Mailbox(sender[0], _domain(sender[1]))),
        tuple(_recipient(stored) for stored in details.recipients),
        BodyType(details.body_type),
        details.smtputf8,
        None if details.ret is None else Ret(details.ret),
        details.envelope_id,
        details.require_tls,
        details.priority,
        None if by is None else DeliverBy(by[0], DeliverByMode(by[1]), by[2]),
        details.release_at,
        details.tags,
        tuple(Deed(*each) for each in details.deeds) if details.deeds else (),
        details.hold_request,
        details.quarantined,
    )
    return envelope, Origin(
        origin.session,
        origin.peer,
        origin.port,
        origin.hello,
        origin.protocol,
        origin.listener,
        None if origin.tls is None else TlsFacts(*origin.tls),
        None if origin.identity is None else Identity(*origin.identity),
        origin.traceparent,
    )


def decode_marks(text: str) -> Marks:
    """The marks in what `encode_details` wrote.

    Raises:
      ValueError: the text is damaged.
    """
    return Marks(*_decoder.decode(text).marks)


def search_texts(text: str) -> tuple[tuple[str, str] | None, list[tuple[str, str]], str, str]:
    """Sender, recipients (local part and domain each), Message-ID and mark of the subject.

    Raises:
      ValueError: the text is damaged.
    """
    details = _decoder.decode(text)
    recipients = [(recipient.local_part, recipient.domain) for recipient in details.recipients]
    return details.sender, recipients, *details.marks


def marks_part(*, message_id: str | None = None, subject: str | None = None) -> str:
    """What stands in the text of messages with that mark."""
    if message_id is not None:
        return f"[{_encoder.encode(plain(message_id)).decode()},"
    return f',"{subject}"]'


def mailbox_part(mailbox: Mailbox) -> str:
    """What stands in the text of messages in whose envelope that mailbox is, without an opening bracket."""
    return _encoder.encode((mailbox.local_part, mailbox.domain.text)).decode()[:-1]


def _recipient(stored: _StoredRecipient) -> Recipient:
    mailbox = Mailbox(stored.local_part, _domain(stored.domain))
    if stored.notify is None and stored.original_recipient is None and stored.sender is None:
        return Recipient(mailbox, NO_DSN_OPTIONS)
    notify = None if stored.notify is None else Notify(stored.notify)
    sender = None if stored.sender is None else Mailbox(stored.sender[0], _domain(stored.sender[1]))
    return Recipient(mailbox, DsnOptions(notify, stored.original_recipient), sender)


def _domain(text: str) -> Domain | AddressLiteral:
    # Stored is final: a name was checked when it came in. Only a literal has parts to find again.
    return parse_domain(text) if text.startswith("[") else Domain(text)
