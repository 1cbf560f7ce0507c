"""Wall clock as an argument, and the one text form of its times.

Trio's clock bounds waits and means nothing after a restart; what is stored or shown is wall clock.
"""

from __future__ import annotations

import math
import time
from typing import Protocol

import attrs
import trio

_LATEST = 253402300799.0
"""The last second that RFC 3339 can write: the end of the year 9999."""


class WallClock(Protocol):
    """Tells the time of day."""

    def time(self) -> float:
        """Seconds since 1970, UTC."""


class SystemClock:
    """The clock of this machine."""

    def time(self) -> float:
        return time.time()


@attrs.frozen
class TrioWallClock:
    """A wall clock that moves with Trio's, so that a mock clock moves both. Works only inside a Trio run."""

    epoch: float = 1_750_000_000.0
    """The wall clock where Trio's clock stands at 0."""

    def time(self) -> float:
        return self.epoch + trio.current_time()


_last = (0, "1970-01-01T00:00:00.")
"""The second that was asked for last and its text: most times of a busy server share it."""


def rfc3339(seconds: float) -> str:
    """UTC with milliseconds, as in `2026-03-01T12:00:00.125Z` (RFC 3339 5.6); what the form cannot
    hold is moved to its nearest end."""
    global _last  # noqa: PLW0603 - a cache of one entry; replaced whole, so threads see a matching pair
    if not 0.0 <= seconds <= _LATEST:
        seconds = _LATEST if seconds > 0 else 0.0
    whole = math.floor(seconds)
    number, text = _last
    if whole != number:
        text = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(whole))
        _last = (whole, text)
    # A double near today is 0.2 µs coarse: without the small addition 0.3 s would show as 299 ms.
    return f"{text}{min(999, int((seconds - whole) * 1000 + 0.0005)):03d}Z"
