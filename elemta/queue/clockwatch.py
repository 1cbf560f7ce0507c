"""Notices that the wall clock was set, and tells where earlier times lie on the clock as it is now.

What is stored are times of the wall clock, which an operator, NTP or a suspended machine may move by
days. Waits and ages are to last as long as they were meant to, so that a clock set forward neither
expires all mail nor tries all of it at once, and one set back leaves nothing waiting for days
(RELIABILITY F18). Trio's clock is not set; the difference between the two tells.
"""

from __future__ import annotations

import math
from collections import deque

import attrs
import trio

from elemta.runtime import WallClock

LEAST_SECONDS = 10.0
"""A smaller step, and the slow drift between the two clocks, is not worth a word."""
MOST_JUMPS = 100
"""Jumps that are remembered; a clock that is set more often is beyond help."""


@attrs.frozen
class Jump:
    """The wall clock was set at some time since it was looked at last."""

    before: float
    """What it would show now if it had not been."""
    seconds: float
    """By how much: forward, or back where below 0."""
    earliest: float
    """What it showed at least right after it was set: what was written since then lies above."""

    @property
    def span(self) -> tuple[float, float]:
        """Where due times lie that were meant for the clock as it was: from, up to."""
        if self.seconds > 0:
            return self.before, self.earliest
        # What was written since it was set back may lie there, too, and is then tried too early, once.
        return self.before + self.seconds, math.inf


@attrs.define(eq=False)
class ClockWatch:
    """Compares the wall clock with Trio's whenever it is asked."""

    clock: WallClock
    _seen: tuple[float, float] | None = None
    """Wall clock and Trio's clock at the last look."""
    _jumps: deque[Jump] = attrs.field(factory=lambda: deque(maxlen=MOST_JUMPS))

    def look(self) -> tuple[float, Jump | None]:
        """The time, and whether the clock was set since the last look."""
        wall, steady = self.clock.time(), trio.current_time()
        last, self._seen = self._seen, (wall, steady)
        if last is None:
            return wall, None
        expected = last[0] + steady - last[1]
        if abs(wall - expected) < LEAST_SECONDS:
            return wall, None
        jump = Jump(expected, wall - expected, last[0] + wall - expected)
        self._jumps.append(jump)
        return wall, jump

    def present(self, stamp: float) -> float:
        """Where a moment that was written down as `stamp` lies on the clock as it is now.

        Where the clock was set back, a stamp that both the old and the new clock have shown is taken for one
        of the new: the message lives longer rather than shorter.
        """
        earlier = False
        for jump in self._jumps:
            # What is older than one jump is older than all that followed.
            earlier = earlier or stamp <= min(jump.before, jump.earliest)
            if earlier:
                stamp += jump.seconds
        return stamp
