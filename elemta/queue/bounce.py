"""The notice to the sender of a message, ready to be stored (RFC 3461 §5.2, RFC 3464, RFC 5321 §6.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from elemta.mail import (
    Cause,
    DsnRecipient,
    DsnReport,
    Failed,
    Mailbox,
    MessageId,
    Ret,
)
from elemta.spool import NewMessage, StoredMessage, new_notice

from .verdict import Verdict


def wants_whole_message(message: StoredMessage) -> bool:
    """Whether a failure notice carries the message whole (RET=FULL, RFC 3461 §4.3), not only its header."""
    return message.envelope.ret is Ret.FULL


def plan_notice(
    message: StoredMessage,
    verdicts: Sequence[Verdict],
    *,
    original: bytes,
    complete: bool,
    hostname: str,
    notice: MessageId,
    now: float,
    sign: Callable[[bytes], bytes],
    to: Mailbox | None = None,
) -> NewMessage:
    """The notice to the sender of `message` about recipients that it is to be told of.

    `original` is the message as stored: its header block at least, all of it where `complete`. The notice is
    for the sender, or for the mailbox `to`.
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
                recipient=verdict.claimed.recipient,
                action=verdict.notice,
                reply=verdict.outcome.reply,
                remote=verdict.outcome.remote,
                from_remote=verdict.outcome.from_remote,
                last_attempt=None if _gave_no_attempt(verdict) else now,
                retry_until=verdict.retry_until,
            )
            for verdict in verdicts
            if verdict.notice is not None
        ),
        content=original,
        complete=complete,
        to=to,
    )
    return new_notice(report, sign)


def _gave_no_attempt(verdict: Verdict) -> bool:
    """Whether it is about a deadline or the operator rather than about what came of an attempt just now."""
    outcome = verdict.outcome
    return isinstance(outcome, Failed) and outcome.cause in (Cause.EXPIRED, Cause.OPERATOR)
