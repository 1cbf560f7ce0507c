"""From what a check found and what is configured to what the client is told."""

from __future__ import annotations

from elemta.config import CheckAction
from elemta.mail import Reply

from .client import Refusal


def verdict(
    action: CheckAction, reason: str, *, permanent: Reply, temporary: Reply, finished: bool = True
) -> Refusal | None:
    """The refusal that follows from a check that was failed, or that could not be finished.

    Nobody is refused for good because DNS did not answer.
    """
    if action is CheckAction.REFUSE and finished:
        return Refusal(permanent, reason)
    if action in (CheckAction.REFUSE, CheckAction.DEFER):
        return Refusal(temporary, reason)
    return None


def as_greeting(refusal: Refusal) -> Refusal:
    """The same in place of a greeting, where only 554 and 421 may stand (RFC 5321 §3.1, §3.8)."""
    reply = refusal.reply
    code = 554 if reply.code >= 500 else 421
    return Refusal(Reply(code, reply.enhanced, reply.lines), refusal.reason)
