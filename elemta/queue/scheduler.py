"""Claims due recipients from the spool as there is room for them; sleeps until the next is due.

Nothing is polled: the scheduler wakes when something is due, when an operator or a notice made something
due, and when room has returned. Once a minute it looks again in any case, because a wall clock may be set.
"""

from __future__ import annotations

import math

import attrs
import trio

from elemta.events import ClockChanged
from elemta.spool import SpoolFull

from .care import Care
from .claims import Claims
from .clockwatch import ClockWatch, Jump
from .context import QueueContext
from .sites import SUSPEND_SECONDS

CLAIM_LIMIT = 500
"""Recipients in one claim, so that a long backlog never holds up the commits of new mail."""
SHORTEST_SLEEP = 0.05
"""Seconds between two claims that found nothing: what is due may be refused for now (a full disk)."""
LONGEST_SLEEP = 60.0
"""Seconds. The wall clock may be set while we sleep on Trio's clock (RELIABILITY F18)."""


@attrs.define(eq=False)
class Scheduler:
    """The one task that takes mail out of the spool's backlog."""

    context: QueueContext
    claims: Claims
    care: Care
    watch: ClockWatch
    _unshifted: list[Jump] = attrs.field(factory=list)
    """Jumps of the clock that the due times have not followed yet."""
    _clamped: bool = False
    """Whether it was made sure that nobody waits for longer than any schedule says."""

    async def run(self) -> None:
        """Claim until cancelled or draining. What was claimed and not handed on comes back with its lease."""
        bell, spool = self.context.bell, self.context.spool
        while not self.context.drain.draining:
            bell.rearm()
            now = await self._look_at_clock()
            room = self.claims.room.for_backlog()
            if room <= 0 or spool.deliveries_paused:
                await bell.wait(LONGEST_SLEEP if room <= 0 else 1.0)
                continue
            try:
                avoid = self.claims.crowd.domains()
                claims = await spool.claim(min(room, CLAIM_LIMIT), now=now, avoid=avoid)
            except SpoolFull:
                claims = []
            for claim in claims:
                self.claims.take(claim)
            if claims:
                await trio.lowlevel.checkpoint()
                continue
            bell.due = math.inf
            try:
                due = await spool.next_due(avoid=self.claims.crowd.domains())
            except SpoolFull:
                due = now
            if due is not None:
                bell.due = min(bell.due, due)
            # What is due and was not given (a full disk) is asked for again, but not in a hot loop.
            wait = max(SHORTEST_SLEEP, bell.due - self.context.clock.time())
            await bell.wait(min(LONGEST_SLEEP, wait))

    async def _look_at_clock(self) -> float:
        """The time to claim by; where the clock was set, due times and leases have been moved along."""
        now = self._look()
        while self._unshifted or not self._clamped:
            try:
                await self._mend_due_times(now)
            except SpoolFull:
                return self._look()  # what is left to mend is kept in mind until there is room
            now = self._look()
        return now

    def _look(self) -> float:
        now, jump = self.watch.look()
        if jump is not None:
            # Before anything is claimed: a clock set forward ends every lease, and what is under way would be
            # tried twice.
            self.care.extend_leases(older_than=0.0)
            self._unshifted.append(jump)
            self._clamped = False
        return now

    async def _mend_due_times(self, now: float) -> None:
        spool = self.context.spool
        while self._unshifted:
            jump = self._unshifted[0]
            moved = await spool.shift_due(*jump.span, by=jump.seconds)
            self._unshifted.pop(0)
            self.context.bus.publish(ClockChanged(time=now, seconds=round(jump.seconds, 3), moved=moved))
        if not self._clamped:
            longest = self.claims.results.judge.schedule.longest_wait + 2 * SUSPEND_SECONDS
            await spool.clamp_due(now, waiting=longest, leased=self.context.config.queue.lease)
            self._clamped = True
