"""Which notice goes to whom, if any (RFC 3461 §5.2, RFC 3464, RFC 5321 §6.1). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import attrs

from elemta.mail import (
    NULL_PATH,
    BodyType,
    Envelope,
    MessageId,
    Notify,
    Origin,
    Outcome,
    Recipient,
    Ret,
)
from elemta.mail.dsn import Action, DsnRecipient, DsnReport, build_dsn
from elemta.spool import ClaimedRecipient, NewMessage, StoredMessage


@attrs.frozen
class Subject:
    """One recipient that a notice is about."""

    claimed: ClaimedRecipient
    outcome: Outcome
    will_retry_until: float | None = None


def wanted(message: StoredMessage, claimed: ClaimedRecipient, when: Notify) -> bool:
    """Whether the sender is to be told. Never for the null sender: no bounce of a bounce (RFC 5321 §6.1)."""
    return not message.envelope.reverse_path.is_null and when in claimed.recipient.notify


def wants_whole_message(message: StoredMessage) -> bool:
    """Whether the notice carries the message whole (RET=FULL, RFC 3461 §4.3), not only its header."""
    return message.envelope.ret is Ret.FULL


def plan_notice(
    message: StoredMessage,
    subjects: Sequence[Subject],
    action: Action,
    *,
    original: bytes,
    hostname: str,
    notice: MessageId,
    now: float,
) -> NewMessage:
    """The notice to the sender of `message` about `subjects`, ready to be stored.

    `original` is the header block of the message, or all of it (see `wants_whole_message`).
    """
    sender = message.envelope.reverse_path.mailbox
    assert sender is not None, "there is nobody to tell"
    utf8 = message.envelope.smtputf8
    report = DsnReport(
        message=notice,
        hostname=hostname,
        recipient=sender,
        date=now,
        arrival=message.received,
        action=action,
        envelope_id=message.envelope.envelope_id,
        original_message=message.id,
        recipients=tuple(
            DsnRecipient(
                recipient=subject.claimed.recipient,
                outcome=subject.outcome,
                last_attempt=now,
                will_retry_until=subject.will_retry_until,
            )
            for subject in subjects
        ),
        original=original,
        whole=wants_whole_message(message),
        smtputf8=utf8,
    )
    built = build_dsn(report)
    envelope = Envelope(
        NULL_PATH,
        (Recipient(sender),),
        body_type=BodyType.EIGHT_BIT_MIME if built.needs_8bit else BodyType.SEVEN_BIT,
        smtputf8=utf8,
    )
    return NewMessage(
        id=notice,
        envelope=envelope,
        origin=Origin(session="", peer="local", hello=hostname, protocol="LOCAL"),
        prefix=b"",
        body=built.content,
        size=len(built.content),
        digest=blake2b(built.content, digest_size=16).digest(),
        received=now,
    )
