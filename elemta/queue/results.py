"""Writes down what became of jobs: results, next times and notices, or that they were not tried."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import partial

import attrs
import trio

from elemta.mail import Cause, Deferred, Delivered, Outcome
from elemta.runtime import contain
from elemta.spool import (
    NO_FACTS,
    AttemptFacts,
    AttemptRecord,
    ClaimedRecipient,
    RecipientResult,
    RecipientState,
    StoredMessage,
)

from .clockwatch import ClockWatch
from .context import QueueContext
from .detours import Detours, softened
from .gate import Gate, Ruling
from .notices import Notices, Original
from .room import Room
from .site import Job, Site
from .telling import tell, tell_delivered, tell_held
from .verdict import Judge, Terms, Verdict, poisoned, too_late

SPREAD_SECONDS = 30.0
"""What waited for a suspension to end comes back within so many seconds behind it, not all at once."""
SUSPECT_SECONDS = 10.0
"""A recipient that may be poison and cannot be tried yet comes back after so many seconds, and the spread."""


@attrs.define(eq=False)
class Results:
    """Turns outcomes into records. Everything is synchronous but the reading of a header for a notice."""

    context: QueueContext
    room: Room
    notices: Notices
    judge: Judge
    watch: ClockWatch
    gate: Gate
    detours: Detours

    async def settle(
        self, site: Site, job: Job, outcomes: Sequence[Outcome], facts: AttemptFacts = NO_FACTS
    ) -> None:
        """Write down what an attempt did and tell the watchers.

        Without a notice to write there is no checkpoint before the record, so that a cancel cannot lose
        the word of the next hop (TRIO 3.6). With one, the wait for the original is shielded and short.
        """
        if _is_plain_success(job, outcomes):
            self._record_delivered(site, job, outcomes, facts)
            return
        verdicts = self.notices.for_postmaster(job.message, self._verdicts(site, job, outcomes))
        original = None
        if any(verdict.notice for verdict in verdicts):
            original = await self.notices.original(job.message)
        self._record(site, job, verdicts, original, facts)

    async def rule(self, site: Site, job: Job, ruling: Ruling) -> None:
        """Write down what plugins decided in the place of an attempt."""
        if ruling.state is None:
            await self.settle(site, job, [ruling.outcome] * len(job.recipients))
            return
        hold = ruling.reason if ruling.state is RecipientState.HELD else None
        verdicts = [Verdict(each, ruling.outcome, ruling.state, hold=hold) for each in job.recipients]
        self._record(site, job, verdicts, None)

    def settle_later(self, site: Site, job: Job, outcome: Outcome, facts: AttemptFacts = NO_FACTS) -> None:
        """Settle in a task of its own: a notice may have to read the message first."""
        outcomes = [outcome] * len(job.recipients)
        self.context.nursery.start_soon(self._settle_contained, site, job, outcomes, facts)

    async def _settle_contained(
        self, site: Site, job: Job, outcomes: list[Outcome], facts: AttemptFacts
    ) -> None:
        def on_crash(name: str, error: BaseException) -> None:
            self.context.tell_crash(name, error, job.message.id)

        async def settle() -> None:
            await self.settle(site, job, outcomes, facts)

        if not await contain("settle", settle, on_crash=on_crash):
            self.give_back(job.message, job.recipients, site)
            self.room.job_done(job)

    def record_end(
        self,
        site: Site,
        job: Job,
        outcome: Outcome,
        facts: AttemptFacts,
        error: BaseException | None = None,
    ) -> None:
        """Record the same for all recipients, at once and so without a notice: the attempt was ended,
        or it crashed with `error`."""
        verdicts = self._verdicts(site, job, [outcome] * len(job.recipients), may_tell=False)
        if error is not None:
            verdicts = [self.judge.crashed(verdict, error) for verdict in verdicts]
        self._record(site, job, verdicts, None, facts)

    def expire(self, site: Site, job: Job) -> None:
        """The sender's deadline is over: return the message instead of trying it (RFC 2852, mode R)."""
        self.settle_later(site, job, too_late())

    def hold_poison(self, message: StoredMessage, recipients: Iterable[ClaimedRecipient]) -> None:
        """Hold recipients whose attempts crashed the server too often, without another one."""
        now = self.context.clock.time()
        verdicts = [poisoned(claimed, claimed.interrupted) for claimed in recipients]
        for verdict in verdicts:
            tell_held(self.context.bus, message, verdict, now)
        self.context.spool.record(AttemptRecord(message.id, tuple(_result(verdict) for verdict in verdicts)))

    def give_back_job(self, job: Job) -> None:
        """The job was not tried: the server stops."""
        self.give_back(job.message, job.recipients, None)
        self.room.job_done(job)

    def give_back(
        self, message: StoredMessage, recipients: Sequence[ClaimedRecipient], site: Site | None
    ) -> None:
        """Return recipients that were not tried: due when the site's suspension ends, or now on a drain; now
        as well where they go another way."""
        due, cause = self.context.clock.time(), Cause.SHUTDOWN
        if site is not None and not self.context.drain.draining:
            failure = site.last_failure
            leaving = [
                each for each in recipients if self.detours.begins_untried(site.route, message, each, failure)
            ]
            if leaving:
                assert isinstance(failure, Deferred)
                self._unclaim(message, leaving, due, failure.cause)
                recipients = [each for each in recipients if each not in leaving]
            due += max(0.0, site.suspended_until - trio.current_time())
            due += self.context.random.uniform(0.0, SPREAD_SECONDS)
            cause = Cause.BUSY if failure is None else getattr(failure, "cause", Cause.CONNECT)
        self._unclaim(message, recipients, due, cause)

    def await_release(self, message: StoredMessage, recipients: Iterable[ClaimedRecipient]) -> None:
        """Return recipients that somebody made due before the time that their sender set (RFC 4865)."""
        release = message.envelope.release_at
        assert release is not None
        self._unclaim(message, recipients, release, Cause.FUTURE_RELEASE)

    def put_aside(self, message: StoredMessage, recipients: Iterable[ClaimedRecipient]) -> None:
        """Return recipients that are paused: they wait for the end of the pause, not for a time."""
        leases = [(claimed.index, claimed.lease) for claimed in recipients]
        self.context.spool.unclaim(message.id, leases, None, Cause.PAUSED)

    def wait_for_turn(self, message: StoredMessage, recipients: Iterable[ClaimedRecipient]) -> None:
        """Return recipients for whose destination enough is ready: due now, behind what was due before. The
        scheduler need not look at once: it is told when less is ready."""
        leases = [(claimed.index, claimed.lease) for claimed in recipients]
        self.context.spool.unclaim(message.id, leases, self.context.clock.time(), Cause.BUSY)

    def wait_for_slot(
        self, message: StoredMessage, recipients: Iterable[ClaimedRecipient], slot: float
    ) -> None:
        """Return recipients whose turn by the rates of their destination comes later, at this Trio time."""
        due = self.context.clock.time() + slot - trio.current_time()
        self._unclaim(message, recipients, due, Cause.RATE)

    def put_off(self, message: StoredMessage, recipients: Iterable[ClaimedRecipient]) -> None:
        """Return recipients that may be poison until fewer of them are under way."""
        wait = SUSPECT_SECONDS + self.context.random.uniform(0.0, SPREAD_SECONDS)
        self._unclaim(message, recipients, self.context.clock.time() + wait, Cause.BUSY)

    def _unclaim(
        self, message: StoredMessage, recipients: Iterable[ClaimedRecipient], due: float, cause: Cause
    ) -> None:
        by = self.terms(message).deliver_by
        if by is not None and by.deadline > self.context.clock.time() and cause is not Cause.FUTURE_RELEASE:
            due = min(due, by.deadline)
        leases = [(claimed.index, claimed.lease) for claimed in recipients]
        self.context.spool.unclaim(message.id, leases, due, cause)
        self.context.bell.note_due(due)

    def terms(self, message: StoredMessage) -> Terms:
        """The times of a message on the wall clock as it is now."""
        envelope, received = message.envelope, message.received
        start = self.watch.present(received)
        by, release = envelope.deliver_by, envelope.release_at
        if by is not None:
            by = attrs.evolve(by, deadline=by.deadline + start - received)
        if release is not None and release > received:  # RFC 4865: its time begins with its release
            start = self.watch.present(release)
        return Terms(start, by)

    def time_left(self, message: StoredMessage) -> float:
        """Seconds until the message is to be returned instead of tried; infinite for most."""
        if message.envelope.deliver_by is None:
            return math.inf
        end = self.terms(message).returns_at
        return math.inf if end is None else end - self.context.clock.time()

    def must_tell_delay(self, message: StoredMessage, claimed: ClaimedRecipient) -> bool:
        """Whether the sender is to be told now that the time he named is over (RFC 2852, mode N)."""
        if message.envelope.deliver_by is None or claimed.delay_noticed:
            return False
        terms, null = self.terms(message), message.envelope.reverse_path.is_null
        late = self.judge.schedule.late(terms.start, null_sender=null, deliver_by=terms.deliver_by)
        return self.context.clock.time() >= late

    def _verdicts(
        self, site: Site, job: Job, outcomes: Sequence[Outcome], *, may_tell: bool = True
    ) -> list[Verdict]:
        now = self.context.clock.time()
        terms = self.terms(job.message)
        not_before = now + max(0.0, site.suspended_until - trio.current_time())
        judge = partial(self.judge.judge, job.message.envelope, terms, now=now, may_tell=may_tell)
        verdicts = []
        for claimed, outcome in zip(job.recipients, outcomes, strict=True):
            if self.detours.begins(site.route, job.message, claimed, outcome):
                verdict = judge(claimed, softened(outcome))
                verdicts.append(attrs.evolve(verdict, due=None if verdict.due is None else now))
            else:
                verdicts.append(judge(claimed, outcome, not_before=not_before))
        return verdicts

    def _record_delivered(
        self, site: Site, job: Job, outcomes: Sequence[Outcome], facts: AttemptFacts
    ) -> None:
        """`_record` for what most mail comes to, without what it does not need."""
        context, message = self.context, job.message
        now = context.clock.time()
        age = max(0.0, now - self.watch.present(message.received))
        results = []
        facts = self._with_note(site, job, facts)
        for claimed, outcome in zip(job.recipients, outcomes, strict=True):
            assert isinstance(outcome, Delivered)
            site.delivered += 1
            tell_delivered(context.bus, site, message, claimed, outcome, now=now, age=age, facts=facts)
            results.append(RecipientResult(claimed.index, claimed.lease, outcome, RecipientState.DELIVERED))
        context.spool.record(AttemptRecord(message.id, tuple(results), facts=facts))
        self.room.job_done(job)
        if self.gate.asks("after_attempt"):
            self.gate.tell_attempt(site, job, outcomes, facts)

    def _record(
        self,
        site: Site,
        job: Job,
        verdicts: Sequence[Verdict],
        original: Original | None,
        facts: AttemptFacts = NO_FACTS,
    ) -> None:
        """One record for the job: results, next times, notices. Sync; then the watchers hear of it."""
        now = self.context.clock.time()
        age = max(0.0, now - self.watch.present(job.message.received))
        for verdict in verdicts:
            site.count(verdict.outcome)
            tell(self.context.bus, site, job.message, verdict, now=now, age=age, facts=facts)
            if verdict.due is not None:
                self.context.bell.note_due(verdict.due)
        notices = () if original is None else self.notices.plan(job.message, verdicts, original, now)
        results = tuple(_result(verdict) for verdict in verdicts)
        facts = self._with_note(site, job, facts)
        self.context.spool.record(AttemptRecord(job.message.id, results, notices, facts))
        self.room.job_done(job)
        if self.gate.asks("after_attempt"):
            self.gate.tell_attempt(site, job, [verdict.outcome for verdict in verdicts], facts)

    def _with_note(self, site: Site, job: Job, facts: AttemptFacts) -> AttemptFacts:
        """The facts, with what plugins changed about where the recipients go."""
        note = job.active.notes.get(site.route) if job.active.notes else None
        return facts if note is None else attrs.evolve(facts, note=note)


def _is_plain_success(job: Job, outcomes: Sequence[Outcome]) -> bool:
    """Whether all was delivered and nobody asked to be told of that."""
    if job.message.envelope.deliver_by is not None:
        return False
    for claimed, outcome in zip(job.recipients, outcomes, strict=True):
        if not isinstance(outcome, Delivered) or claimed.recipient.dsn.notify is not None:
            return False
    return True


def _result(verdict: Verdict) -> RecipientResult:
    claimed = verdict.claimed
    waits = verdict.state is RecipientState.QUEUED
    return RecipientResult(
        claimed.index,
        claimed.lease,
        verdict.outcome,
        verdict.state,
        due=verdict.due,
        delay_noticed=waits and (claimed.delay_noticed or verdict.notice is not None),
        hold=verdict.hold,
        crashed=verdict.crashed,
    )
