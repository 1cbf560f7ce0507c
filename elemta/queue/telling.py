"""Tells the watchers what became of recipients: verdicts as events."""

from __future__ import annotations

from elemta.events import EventBus, RecipientDeferred, RecipientDelivered, RecipientFailed, RecipientHeld
from elemta.mail import Deferred, Delivered
from elemta.spool import ClaimedRecipient, RecipientState, StoredMessage

from .site import Site
from .verdict import Verdict


def tell(
    bus: EventBus, site: Site, message: StoredMessage, verdict: Verdict, *, now: float, age: float
) -> None:
    """One event for the recipient; `age`: seconds since the message was received."""
    claimed, outcome = verdict.claimed, verdict.outcome
    if isinstance(outcome, Delivered):
        tell_delivered(bus, site, message, claimed, outcome, now=now, age=age)
    elif verdict.state is RecipientState.HELD:
        tell_held(bus, message, verdict, now)
    elif verdict.due is not None:
        bus.publish(
            RecipientDeferred(
                time=now,
                message=message.id,
                recipient=str(claimed.recipient.mailbox),
                route=str(site.route),
                remote=outcome.remote,
                cause=outcome.cause,
                reply=str(outcome.reply),
                detail=outcome.detail,
                attempts=claimed.attempts,
                due=verdict.due,
            )
        )
    else:
        bus.publish(
            RecipientFailed(
                time=now,
                message=message.id,
                recipient=str(claimed.recipient.mailbox),
                route=str(site.route),
                remote=outcome.remote,
                cause=outcome.cause,
                reply=str(outcome.reply),
                detail=outcome.detail,
                attempts=claimed.attempts,
                expired=verdict.state is RecipientState.EXPIRED,
            )
        )


def tell_delivered(
    bus: EventBus,
    site: Site,
    message: StoredMessage,
    claimed: ClaimedRecipient,
    outcome: Delivered,
    *,
    now: float,
    age: float,
) -> None:
    """The next hop took it."""
    bus.publish(
        RecipientDelivered(
            time=now,
            message=message.id,
            recipient=str(claimed.recipient.mailbox),
            route=str(site.route),
            remote=outcome.remote,
            reply=str(outcome.reply),
            attempts=claimed.attempts,
            seconds=round(age, 3),
        )
    )


def tell_held(bus: EventBus, message: StoredMessage, verdict: Verdict, now: float) -> None:
    """The server put it on hold."""
    outcome = verdict.outcome
    detail = outcome.detail if isinstance(outcome, Deferred) else ""
    bus.publish(
        RecipientHeld(
            time=now,
            message=message.id,
            recipient=str(verdict.claimed.recipient.mailbox),
            reason=verdict.hold or "",
            detail=detail or outcome.reply.text,
            attempts=verdict.claimed.attempts,
        )
    )
