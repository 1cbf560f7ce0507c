"""Which notice goes to whom, if any (RFC 3461 §5.2, RFC 3464, RFC 5321 §6.1). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import attrs

from elemta.mail import MessageId, Notify, Origin, Outcome, Ret
from elemta.mail.dsn import Action, DsnRecipient, DsnReport, build_dsn, notice_envelope
from elemta.spool import ClaimedRecipient, NewMessage, StoredMessage


@attrs.frozen
class Subject:
    """One recipient that a notice is about."""

    claimed: ClaimedRecipient
    outcome: Outcome
    retry_until: float | None = None


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
    complete: bool,
    hostname: str,
    notice: MessageId,
    now: float,
) -> NewMessage:
    """The notice to the sender of `message` about `subjects`, ready to be stored.

    `original` is the message as stored: its header block at least, all of it where `complete`.
    """
    report = DsnReport(
        hostname=hostname,
        message=notice,
        time=now,
        original=message.id,
        envelope=message.envelope,
        arrival=message.received,
        recipients=tuple(
            DsnRecipient(
                recipient=subject.claimed.recipient,
                action=action,
                reply=subject.outcome.reply,
                remote=subject.outcome.remote,
                from_remote=getattr(subject.outcome, "from_remote", False),
                last_attempt=now,
                retry_until=subject.retry_until,
            )
            for subject in subjects
        ),
        content=original,
        complete=complete,
    )
    body = build_dsn(report)
    return NewMessage(
        id=notice,
        envelope=notice_envelope(report, body),
        origin=Origin(session="", peer="local", hello=hostname, protocol="LOCAL"),
        prefix=b"",
        body=body,
        size=len(body),
        digest=blake2b(body, digest_size=16).digest(),
        received=now,
    )
