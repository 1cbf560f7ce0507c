"""Claims due recipients from the spool as there is room for them; sleeps until the next is due.

Nothing is polled: the scheduler wakes when something is due, when an operator or a notice made something
due, and when room has returned. Once a minute it looks again in any case, because a wall clock may be set.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs
import trio

from elemta.spool import Spool, SpoolFull

if TYPE_CHECKING:
    from .manager import QueueManager

CLAIM_LIMIT = 500
"""Recipients in one claim, so that a long backlog never holds up the commits of new mail."""
SHORTEST_SLEEP = 0.05
"""Seconds between two claims that found nothing: what is due may be refused for now (a full disk)."""
LONGEST_SLEEP = 60.0
"""Seconds. The wall clock may be set while we sleep on Trio's clock (RELIABILITY F18)."""


@attrs.define(eq=False)
class Scheduler:
    """The one task that takes mail out of the spool's backlog."""

    manager: QueueManager
    spool: Spool
    _next_due: float = math.inf
    _wake: trio.Event = attrs.field(factory=trio.Event)

    def wake(self) -> None:
        """Look again now. Sync, cannot fail."""
        self._wake.set()

    def note_due(self, due: float) -> None:
        """Something will be due then; wakes the scheduler where that is earlier than what it waits for."""
        if due < self._next_due:
            self._next_due = due
            self._wake.set()

    async def run(self) -> None:
        """Claim until cancelled or draining. What was claimed and not handed on comes back with its lease."""
        while not self.manager.drain.draining:
            self._wake = trio.Event()
            room = self.manager.backlog_room()
            if room <= 0 or self.spool.deliveries_paused:
                await self._sleep(LONGEST_SLEEP if room <= 0 else 1.0)
                continue
            limit = min(room, CLAIM_LIMIT)
            try:
                claims = await self.spool.claim(limit)
            except SpoolFull:
                claims = []
            for claim in claims:
                self.manager.take_claim(claim)
            if claims:
                await trio.lowlevel.checkpoint()
                continue
            self._next_due = math.inf
            try:
                due = await self.spool.next_due()
            except SpoolFull:
                due = self.manager.clock.time()
            if due is not None:
                self._next_due = min(self._next_due, due)
            # What is due and was not given (a full disk) is asked for again, but not in a hot loop.
            wait = max(SHORTEST_SLEEP, self._next_due - self.manager.clock.time())
            await self._sleep(min(LONGEST_SLEEP, wait))

    async def _sleep(self, seconds: float) -> None:
        if seconds > 0:
            with trio.move_on_after(seconds):
                await self._wake.wait()
