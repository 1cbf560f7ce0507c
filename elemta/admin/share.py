"""A bound on the part of the event loop's time that work of low importance may take."""

from __future__ import annotations

import time
from collections.abc import Callable

import trio


class Share:
    """Says when to go on: what is spent is paid back by waiting, so that on average `part` of time is taken.

    What was not used is kept for `burst` seconds of work, so a quiet watcher never waits.
    """

    def __init__(self, part: float, burst: float, clock: Callable[[], float] = time.thread_time) -> None:
        self.part = part
        self.clock = clock
        """What work is measured with: processor time of the loop's thread, in which what others take of
        a busy machine does not count."""
        self._credit = burst
        self._burst = burst
        self._as_of = 0.0

    def spend(self, seconds: float) -> None:
        """So much was used. Sync."""
        self._settle()
        self._credit -= seconds

    async def wait(self) -> None:
        """Wait until what was used is paid back; other tasks get their turn in any case."""
        self._settle()
        await trio.sleep(max(0.0, -self._credit / self.part))

    def _settle(self) -> None:
        now = trio.current_time()
        passed, self._as_of = now - self._as_of, now
        self._credit = min(self._burst, self._credit + passed * self.part)
