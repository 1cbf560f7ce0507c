"""Turns claims into jobs: each recipient to the site of its route, or back into the spool.

A claim is fresh, straight from its acceptance, or one of the scheduler's. Here is the spool's `Intake`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import attrs
import trio

from elemta.mail import Deferred, Mailbox, Outcome
from elemta.routing import Route
from elemta.runtime import contain
from elemta.spool import Claim, ClaimedRecipient, StoredMessage, sender_text

from .context import QueueContext
from .crowd import Crowd
from .gate import Gate, Routing, Ruling
from .pauses import Pauses
from .results import Results
from .room import Room, octets_in_memory
from .site import Active, Job, Site
from .sites import Sites

MOST_SUSPECTS = 10
"""Messages with recipients that may be what crashes the server are tried so many at a time. All that is
in memory counts as under way at a crash, so this bounds how many innocent ones the next crash condemns."""

ROUTE_QUESTIONS = 16
"""Recipients of one message about which plugins are asked at the same time."""

COARSENESS = 0.001
"""Seconds. The spool keeps due times in milliseconds, so a claim may be that much early."""


@attrs.define(eq=False)
class Claims:
    """Where claimed mail comes in. All methods are synchronous, change memory only, and do not raise."""

    context: QueueContext
    room: Room
    sites: Sites
    results: Results
    pauses: Pauses
    gate: Gate
    crowd: Crowd = attrs.field(factory=Crowd)
    _asking: set[trio.CancelScope] = attrs.field(factory=set, init=False)

    def reserve(self, octets: int, recipients: int) -> bool:
        """Whether a message about to be stored may come here at once, with its body in memory."""
        return self.room.reserve(octets, recipients)

    def cancel(self, octets: int, recipients: int) -> None:
        """The reserved message was not stored after all."""
        self.room.cancel(octets)

    def put(self, claim: Claim) -> None:
        """A message was stored and is claimed by this process: deliver it."""
        self._dispatch(claim, fresh=True)

    def wake(self) -> None:
        """Something may be due."""
        self.context.bell.ring()

    def take(self, claim: Claim) -> None:
        """The scheduler claimed this."""
        release = claim.message.envelope.release_at
        if release is not None and release > self.context.clock.time() + COARSENESS:
            self.results.await_release(claim.message, claim.recipients)
            return
        suspect = False
        if any(claimed.interrupted for claimed in claim.recipients):
            claim, suspect = self._screen(claim)
            if not claim.recipients:
                return
        self.room.claimed(octets_in_memory(claim.message))
        self._dispatch(claim, fresh=False, suspect=suspect)

    def _screen(self, claim: Claim) -> tuple[Claim, bool]:
        """Keep out what crashes the server: what did so too often is held, what may do so waits for its turn.

        Returns what may be tried now, and whether suspects are among that.
        """
        judge, message = self.results.judge, claim.message
        held, put_off, tried = [], [], []
        suspect = False
        for claimed in claim.recipients:
            if judge.is_poison(claimed.interrupted):
                held.append(claimed)
            elif judge.is_suspect(claimed.interrupted) and self.room.suspects >= MOST_SUSPECTS:
                put_off.append(claimed)
            else:
                suspect = suspect or judge.is_suspect(claimed.interrupted)
                tried.append(claimed)
        if held:
            self.results.hold_poison(message, held)
        if put_off:
            self.results.put_off(message, put_off)
        return Claim(message, tuple(tried)), suspect

    def _dispatch(self, claim: Claim, *, fresh: bool, suspect: bool = False) -> None:
        now, message = trio.current_time(), claim.message
        active = Active(message, claim.recipients, octets_in_memory(message), fresh, now, suspect)
        self.room.enter(active)
        if self.gate.asks("route"):
            active.jobs += 1  # the question: its end is that of a job without recipients
            self.context.nursery.start_soon(self._ask_routes, active, name=f"route {message.id}")
            return
        self._place(active, self._by_route(claim.message, claim.recipients))
        if not active.jobs:
            self.room.forget(active)

    async def _ask_routes(self, active: Active) -> None:
        """Ask the plugins where the recipients of a claim go. Cancelled: those not placed yet go back."""
        message, waiting = active.message, list(active.recipients)

        def on_crash(name: str, error: BaseException) -> None:
            self.context.tell_crash(name, error, message.id)

        async def ask() -> None:
            routed: dict[Route, list[ClaimedRecipient]] = {}
            limit = trio.CapacityLimiter(ROUTE_QUESTIONS)

            async def ask_one(claimed: ClaimedRecipient) -> None:
                async with limit:
                    found = self.results.detours.route(message, claimed)
                    answers[claimed.index] = await self.gate.route(active, claimed, found)

            answers: dict[int, Routing] = {}
            async with trio.open_nursery() as nursery:
                for claimed in active.recipients:
                    nursery.start_soon(ask_one, claimed)
            for claimed in active.recipients:
                answer = answers[claimed.index]
                if answer.ruling is not None:
                    await self._rule(active, claimed, answer.route, answer.ruling)
                    waiting.remove(claimed)
                    continue
                routed.setdefault(answer.route, []).append(claimed)
                if answer.priority is not None:
                    active.priority = answer.priority
                if answer.note:
                    active.notes[answer.route] = answer.note
            waiting.clear()
            self._place(active, routed.items())

        scope = trio.CancelScope()
        self._asking.add(scope)
        try:
            with scope:
                await contain("route", ask, on_crash=on_crash)
        finally:
            self._asking.discard(scope)
            if waiting and self.context.drain.draining:
                self.results.give_back(message, waiting, None)
            elif waiting:
                self.results.put_off(message, waiting)
            self.room.job_done(Job(active, ()))

    async def _rule(self, active: Active, claimed: ClaimedRecipient, route: Route, ruling: Ruling) -> None:
        job = Job(active, (claimed,))
        active.jobs += 1
        try:
            await self.results.rule(self.sites.at(route), job, ruling)
        except BaseException:
            active.jobs -= 1
            raise

    def stop_asking(self) -> None:
        """The server stops: what plugins are asked about goes back."""
        for scope in self._asking:
            scope.cancel(reason="server stops")

    def _place(self, active: Active, routed: Iterable[tuple[Route, Sequence[ClaimedRecipient]]]) -> None:
        """Make jobs of what goes to each route, or give it back."""
        now, message = trio.current_time(), active.message
        left = self.results.time_left(message)
        share = self.room.share(fresh=active.fresh)
        touched: list[Site] = []
        for route, recipients in routed:
            if self.pauses.any:
                recipients = self._put_aside(message, route, recipients)
                if not recipients:
                    continue
            site = self.sites.at(route)
            if self.context.drain.draining:
                self.results.give_back(message, recipients, site)
            elif left <= COARSENESS:
                active.jobs += 1
                self.results.expire(site, Job(active, tuple(recipients)))
            elif site.is_suspended(now):
                self._to_suspended(active, site, recipients)
            elif site.is_crowded(share, message.envelope.reverse_path):
                self.crowd.add(site, recipients)
                self.results.wait_for_turn(message, recipients)
            else:
                touched.append(site)
                self._make_jobs(active, site, recipients, now + left)
        for site in touched:
            self.sites.staff(site)

    def _make_jobs(
        self, active: Active, site: Site, recipients: Sequence[ClaimedRecipient], deadline: float
    ) -> None:
        """One for each transaction; those whose turn by the rates comes much later wait in the spool."""
        provider = site.provider
        for part in _transactions(recipients, site.shape.recipients_per_transaction):
            job = Job(active, part, deadline)
            if provider.is_paced:
                slot = provider.slot(job, trio.current_time(), fresh=active.fresh)
                if slot is not None:
                    self.results.wait_for_slot(job.message, job.recipients, slot)
                    continue
            active.jobs += 1
            site.add(job)

    def put_ready_aside(self) -> None:
        """Something was paused: of what waits for a connection, put that back into the spool."""
        for site in self.sites.all:
            for job in site.withdraw_ready():
                recipients = self._put_aside(job.message, site.route, job.recipients)
                if recipients:
                    job.recipients = tuple(recipients)
                    site.restore(job)
                else:
                    self.room.job_done(job)

    def _put_aside(
        self, message: StoredMessage, route: Route, recipients: Sequence[ClaimedRecipient]
    ) -> Sequence[ClaimedRecipient]:
        """Put back what is paused; returns the others."""
        sender, name = sender_text(message.envelope.reverse_path), str(route)
        paused = [
            claimed
            for claimed in recipients
            if self.pauses.find(sender=sender, domain=claimed.recipient.mailbox.domain.text, route=name)
        ]
        if not paused:
            return recipients
        self.results.put_aside(message, paused)
        return [claimed for claimed in recipients if claimed not in paused]

    async def end(self, claim: Claim, outcome: Outcome) -> None:
        """Give all recipients of a claim the same outcome, without an attempt. Cancelled, the rest is given
        back as it was."""
        message = claim.message
        octets = octets_in_memory(message)
        self.room.claimed(octets)
        active = Active(message, claim.recipients, octets, fresh=False, since=trio.current_time())
        self.room.enter(active)
        jobs = [
            (route, Job(active, tuple(recipients)))
            for route, recipients in self._by_route(claim.message, claim.recipients)
        ]
        active.jobs = len(jobs)
        while jobs:
            route, job = jobs[0]
            try:
                await trio.lowlevel.checkpoint()  # a step of many must not own the loop
                await self.results.settle(self.sites.at(route), job, [outcome] * len(job.recipients))
            except BaseException:
                for _, left in jobs:
                    self.results.give_back_job(left)
                raise
            jobs.pop(0)

    def _to_suspended(self, active: Active, site: Site, recipients: Sequence[ClaimedRecipient]) -> None:
        """The site is left alone: back into the spool, with a word to the sender who wanted one by now."""
        message, failure = active.message, site.last_failure
        late = [claimed for claimed in recipients if self.results.must_tell_delay(message, claimed)]
        if late and isinstance(failure, Deferred):
            active.jobs += 1
            self.results.settle_later(site, Job(active, tuple(late)), failure)
            recipients = [claimed for claimed in recipients if claimed not in late]
        if recipients:
            self.results.give_back(message, recipients, site)

    def _by_route(
        self, message: StoredMessage, recipients: tuple[ClaimedRecipient, ...]
    ) -> Iterable[tuple[Route, Sequence[ClaimedRecipient]]]:
        detours = self.results.detours
        if len(recipients) == 1:
            return ((detours.route(message, recipients[0]), [recipients[0]]),)
        routes: dict[Route, list[ClaimedRecipient]] = {}
        for claimed in recipients:
            routes.setdefault(detours.route(message, claimed), []).append(claimed)
        return routes.items()


def _transactions(
    recipients: Sequence[ClaimedRecipient], largest: int
) -> Iterator[tuple[ClaimedRecipient, ...]]:
    """Recipients that the next hop may be told of together: so many at most, and all from one sender."""
    if any(claimed.recipient.sender is not None for claimed in recipients):
        by_sender: dict[Mailbox | None, list[ClaimedRecipient]] = {}
        for claimed in recipients:
            by_sender.setdefault(claimed.recipient.sender, []).append(claimed)
        groups: Iterable[Sequence[ClaimedRecipient]] = by_sender.values()
    else:
        groups = (recipients,)
    for group in groups:
        for start in range(0, len(group), largest):
            yield tuple(group[start : start + largest])
