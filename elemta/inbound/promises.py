"""What MAIL asks for beyond delivery: by when, not before, how urgently. Taken on, or refused."""

from __future__ import annotations

import attrs

from elemta.mail import DeliverBy, DeliverByMode, Reply, replies
from elemta.smtp import MailParams, format_date_time


@attrs.frozen(slots=True)
class Promises:
    """What a message is promised, as absolute times of the wall clock."""

    deliver_by: DeliverBy | None = None
    """RFC 2852."""
    release_at: float | None = None
    """RFC 4865."""
    hold_request: str | None = None
    """How that was asked for, as notices quote it (RFC 4865 §5.1.2)."""
    priority: int = 0
    """RFC 6710."""


NO_PROMISES = Promises()


def has_requests(params: MailParams) -> bool:
    """Whether there is anything for `take_promises`."""
    return (
        params.deliver_by is not None
        or params.priority is not None
        or params.hold_for is not None
        or params.hold_until is not None
    )


def take_promises(
    params: MailParams, *, now: float, longest_hold: float, may_submit: bool
) -> Promises | Reply:
    """What this client's message is promised, or the reply that refuses it.

    Args:
      longest_hold: seconds that a message may be held back, as announced.
      may_submit: it is one of our users, by its address or an account; only they come before others.
    """
    release_at: float | None = params.hold_until
    hold_request = None
    if params.hold_for is not None:
        release_at = now + params.hold_for
        hold_request = f"for;{params.hold_for}"
    elif params.hold_until is not None:
        hold_request = f"until;{format_date_time(params.hold_until)}"
    if release_at is not None and release_at - now > longest_hold:
        return replies.HOLD_TOO_LONG  # RFC 4865 §4.2
    deliver_by = None
    wanted = params.deliver_by
    if wanted is not None:
        deliver_by = DeliverBy(now + wanted.seconds, wanted.mode, wanted.trace)
        # RFC 2852 §4: to return it when the time is over, there must be some; also once it is released
        if wanted.mode is DeliverByMode.RETURN and deliver_by.deadline <= max(now, release_at or now):
            return replies.DELIVER_BY_PAST
        if release_at is not None and release_at > deliver_by.deadline:
            return replies.DELIVER_BY_PAST  # RFC 4865 §5.2.2: in either mode
    priority = params.priority or 0
    if priority > 0 and not may_submit:
        priority = 0  # RFC 6710 §5, §9: nobody from outside comes before our own mail
    return Promises(deliver_by, release_at, hold_request, priority)
