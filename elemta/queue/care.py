"""Looks after the queue once a minute: leases of what is in memory, deadlines, what is stuck or idle."""

from __future__ import annotations

import attrs
import trio

from .context import QueueContext
from .room import Room
from .sites import Sites

HEARTBEAT = 60.0
"""Seconds between looks at leases, stuck dispatchers and suspensions that ended."""


@attrs.frozen(eq=False)
class Care:
    """The heartbeat."""

    context: QueueContext
    room: Room
    sites: Sites

    async def run(self) -> None:
        """Look around until cancelled."""
        while True:
            await trio.sleep(HEARTBEAT)
            self.beat()

    def beat(self) -> None:
        """One look around."""
        self.extend_leases(older_than=self.context.config.queue.lease / 2)
        self._end_stuck()
        self.sites.return_overdue()
        self.sites.forget_idle()

    def extend_leases(self, *, older_than: float) -> None:
        """Keep the claims that are in memory and were made or extended so many seconds ago."""
        now = trio.current_time()
        for active in self.room.active:
            if now - active.since >= older_than:
                active.since = now
                self.context.spool.extend(
                    active.message.id, [(claimed.index, claimed.lease) for claimed in active.recipients]
                )

    def _end_stuck(self) -> None:
        now = trio.current_time()
        for dispatcher in self.sites.dispatchers:
            if dispatcher.job is None or dispatcher.progress != dispatcher.seen:
                dispatcher.seen, dispatcher.seen_at = dispatcher.progress, now
            elif now - dispatcher.seen_at >= self.context.config.timeouts.stuck:
                dispatcher.scope.cancel(reason="no progress")
