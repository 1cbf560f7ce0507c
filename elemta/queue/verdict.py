"""What follows from the outcome of an attempt: the recipient's state, its next time, the notice."""

from __future__ import annotations

from random import Random

import attrs

from elemta.config import QueueConfig
from elemta.mail import (
    Action,
    Cause,
    Deferred,
    DeliverBy,
    DeliverByMode,
    Delivered,
    Envelope,
    Failed,
    Notify,
    Outcome,
    Recipient,
    Reply,
    replies,
)
from elemta.spool import HELD_AS_CORRUPT, BodyCorrupt, ClaimedRecipient, RecipientState

from .retry import GiveUp, RetrySchedule

CRASHES = "crashes"
"""Why a recipient is held whose attempts crash."""
UNKNOWN_STEPS = 2
"""So many waits of the schedule are left out where nobody knows whether the message was taken: each attempt
may be a duplicate, and a server that is too slow with its 250 is not quicker soon (RFC 1047)."""


@attrs.frozen
class Terms:
    """The times of a message, on the wall clock as it is now."""

    start: float
    """From when on its age counts: when it was received, or released to be sent (RFC 4865)."""
    deliver_by: DeliverBy | None = None

    @property
    def returns_at(self) -> float | None:
        """The sender's deadline from which on it is returned instead of tried (RFC 2852, mode R)."""
        by = self.deliver_by
        return by.deadline if by is not None and by.mode is DeliverByMode.RETURN else None


@attrs.frozen
class Verdict:
    """What becomes of one recipient."""

    claimed: ClaimedRecipient
    outcome: Outcome
    state: RecipientState
    due: float | None = None
    """Next attempt, where QUEUED."""
    notice: Action | None = None
    """What the sender is to be told."""
    to_postmaster: bool = False
    """It is a notice itself, and instead of its sender, who is nobody, postmaster is told."""
    retry_until: float | None = None
    hold: str | None = None
    """Why, where HELD."""
    crashed: bool = False
    """The attempt had no result of its own: it crashed."""


@attrs.frozen(eq=False)
class Judge:
    """Knows the rules: RFC 5321 §4.5.4.1, RFC 3461 §5, RFC 2852, RFC 4865, and ours against poison."""

    config: QueueConfig
    schedule: RetrySchedule
    random: Random

    def judge(
        self,
        envelope: Envelope,
        terms: Terms,
        claimed: ClaimedRecipient,
        outcome: Outcome,
        *,
        now: float,
        not_before: float = 0.0,
        may_tell: bool = True,
    ) -> Verdict:
        """What follows. Without `may_tell` (the original is out of reach) nothing is given up that the sender
        would be told of, nor told: the next attempt does that."""
        if isinstance(outcome, Delivered):
            notice = _success_notice(envelope, claimed.recipient, outcome)
            return Verdict(claimed, outcome, RecipientState.DELIVERED, notice=notice)
        if isinstance(outcome, Failed):
            late = outcome.cause is Cause.EXPIRED
            return self._ended(envelope, claimed, outcome, expired=late)
        null = envelope.reverse_path.is_null
        unknown = outcome.cause is Cause.UNKNOWN_AFTER_DOT
        step = self.schedule.after(
            claimed.attempts + (UNKNOWN_STEPS if unknown else 0),
            received=terms.start,
            now=now,
            null_sender=null,
            delay_noticed=claimed.delay_noticed,
            random=self.random,
            not_before=not_before,
            deliver_by=terms.deliver_by,
        )
        if isinstance(step, GiveUp):
            if not may_tell and not null:
                return Verdict(claimed, outcome, RecipientState.QUEUED, due=now + self.config.retry[0])
            if step.deadline:
                outcome = too_late(outcome)
            return self._ended(envelope, claimed, outcome, expired=True)
        notice = Action.DELAYED if step.delay_notice and may_tell else None
        if notice and not _wants_delay_notice(claimed.recipient, terms):
            notice = None
        return Verdict(
            claimed,
            outcome,
            RecipientState.QUEUED,
            due=step.due,
            notice=notice,
            retry_until=self.schedule.end(terms.start, null_sender=null, deliver_by=terms.deliver_by),
        )

    def _ended(
        self, envelope: Envelope, claimed: ClaimedRecipient, outcome: Outcome, *, expired: bool
    ) -> Verdict:
        state = RecipientState.EXPIRED if expired else RecipientState.FAILED
        # RFC 5321 §6.1, RFC 3461 §5.2.4: nobody is told of what the null sender sent.
        told = not envelope.reverse_path.is_null and Notify.FAILURE in claimed.recipient.notify
        return Verdict(claimed, outcome, state, notice=Action.FAILED if told else None)

    def crashed(self, verdict: Verdict, error: BaseException) -> Verdict:
        """The same after an attempt that crashed, and perhaps once too often."""
        claimed = verdict.claimed
        if isinstance(error, BodyCorrupt):
            return damaged(claimed, error)
        crashes = claimed.interrupted + 1
        if self.is_poison(crashes):
            verdict = poisoned(claimed, crashes, type(error).__name__)
        return attrs.evolve(verdict, crashed=True)

    def is_poison(self, crashes: int) -> bool:
        """Whether so many crashes in a row are too many."""
        return 0 < self.config.hold_after_crashes <= crashes

    def is_suspect(self, crashes: int) -> bool:
        """Whether one crash more would be too many."""
        return crashes > 0 and self.is_poison(crashes + 1)


def poisoned(claimed: ClaimedRecipient, crashes: int, error: str = "") -> Verdict:
    """Held for an operator, with its story."""
    story = f"held: {crashes} attempts in a row ended in a crash"
    if error:
        story += f", the last with {error}"
    outcome = Deferred(Cause.INTERNAL, Reply.of(451, "4.3.0", story))
    return Verdict(claimed, outcome, RecipientState.HELD, hold=CRASHES)


def damaged(claimed: ClaimedRecipient, error: BodyCorrupt) -> Verdict:
    """Held because what is stored is not what was received: it is never sent (RELIABILITY D10)."""
    outcome = Deferred(Cause.CORRUPT, replies.CONTENT_CORRUPT, detail=str(error))
    return Verdict(claimed, outcome, RecipientState.HELD, hold=HELD_AS_CORRUPT)


def too_late(last: Outcome | None = None) -> Failed:
    """The sender's deadline is over (RFC 2852 §4: 5.4.7)."""
    if last is None:
        return Failed(Cause.EXPIRED, replies.EXPIRED)
    return Failed(Cause.EXPIRED, replies.EXPIRED, last.remote, detail=str(last.reply))


def _success_notice(envelope: Envelope, recipient: Recipient, outcome: Delivered) -> Action | None:
    """What the sender wants to know of a delivery."""
    if envelope.reverse_path.is_null:
        return None
    relay, by = outcome.relay, envelope.deliver_by
    if recipient.dsn.notify is None and by is None:  # most of all mail
        return None
    asked = Notify.SUCCESS in recipient.notify
    if relay is None:
        return Action.DELIVERED if asked else None
    if asked and not relay.dsn:  # RFC 3461 §5.2.2: it will not tell, so say how far the message came
        return Action.RELAYED
    if by is None or recipient.notify is Notify.NEVER:
        return None
    # RFC 2852 §4.1.4: whoever asked for a trace is told of each server on the way; and from one that knows no
    # deadlines nobody will tell that it is late.
    if by.trace or (by.mode is DeliverByMode.NOTIFY and not relay.deliver_by):
        return Action.RELAYED
    return None


def _wants_delay_notice(recipient: Recipient, terms: Terms) -> bool:
    by = terms.deliver_by
    if by is not None and by.mode is DeliverByMode.NOTIFY:
        return recipient.notify is not Notify.NEVER  # RFC 2852 §4: asked for by MAIL, whatever RCPT named
    return Notify.DELAY in recipient.notify
