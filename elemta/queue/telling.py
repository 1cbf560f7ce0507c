"""Tells the watchers what became of recipients: verdicts as events."""

from __future__ import annotations

from elemta.events import (
    EventBus,
    RecipientDeferred,
    RecipientDelivered,
    RecipientDiscarded,
    RecipientFailed,
    RecipientHeld,
)
from elemta.mail import Deferred, Delivered, Failed
from elemta.spool import NO_FACTS, AttemptFacts, ClaimedRecipient, RecipientState, StoredMessage

from .site import Site
from .verdict import Verdict


def tell(
    bus: EventBus,
    site: Site,
    message: StoredMessage,
    verdict: Verdict,
    *,
    now: float,
    age: float,
    facts: AttemptFacts = NO_FACTS,
) -> None:
    """One event for the recipient; `age`: seconds since the message was received."""
    claimed, outcome = verdict.claimed, verdict.outcome
    if isinstance(outcome, Delivered):
        tell_delivered(bus, site, message, claimed, outcome, now=now, age=age, facts=facts)
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
                delays=_delays(age, facts),
                phases=facts.phases,
                traceparent=message.origin.traceparent,
            )
        )
    elif verdict.state is RecipientState.REMOVED:
        bus.publish(
            RecipientDiscarded(
                time=now,
                message=message.id,
                recipient=str(claimed.recipient.mailbox),
                reason=outcome.detail if isinstance(outcome, Failed) else "",
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
                delays=_delays(age, facts),
                phases=facts.phases,
                traceparent=message.origin.traceparent,
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
    facts: AttemptFacts = NO_FACTS,
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
            delays=_delays(age, facts),
            phases=facts.phases,
            traceparent=message.origin.traceparent,
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


def _delays(age: float, facts: AttemptFacts) -> tuple[float, ...] | None:
    """Where the time went since the message was received; nothing where there was no attempt."""
    if not facts.seconds:
        return None
    before = max(0.0, age - facts.waited - facts.seconds)
    transmit = max(0.0, facts.seconds - facts.connect)
    return (round(before, 3), round(facts.waited, 3), round(facts.connect, 3), round(transmit, 3))
