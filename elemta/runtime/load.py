"""Whether the process is behind: how late the event loop is, and how long commits take.

A small task sleeps and looks how much later than asked it wakes: so late is everything else, too.
Both measures are smoothed, so that one slow moment sheds nothing, and have a window with the worst
of the last seconds, so that load is not shed and taken in turns: overload begins when the smoothed
measure reaches its limit, and ends when that is at half of it and no single measure of the window
was above it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import attrs
import trio

INTERVAL = 0.25
"""Seconds between two looks at the loop."""
SMOOTHING = 5.0
"""Seconds after which a measure has lost two thirds of its weight."""
WINDOW = 10.0
"""Seconds for which the worst measure is remembered."""
_GRAIN = 0.1
"""Seconds within which only the worst measure is kept, so that the window takes bounded memory."""
_RECOVERED = 0.5
"""Part of the limit to which the smoothed measure must fall before overload ends."""


@attrs.frozen
class LoadStatistics:
    """How it stands now, in seconds."""

    lag: float
    """By how much the event loop is late, smoothed."""
    worst_lag: float
    """The same at the worst moment of the window."""
    commit: float
    """How long commits take, smoothed."""
    worst_commit: float
    overload: str
    """Empty, or why new work is refused."""
    overloads: int
    """How often that began."""


class LoadGauge:
    """Says when to shed load. Run `run` under supervision; `overload` is an attribute look-up."""

    def __init__(
        self,
        *,
        lag_limit: float,
        commit_limit: float,
        on_change: Callable[[str], None] | None = None,
    ) -> None:
        """A limit of 0 is never reached. `on_change` is told what `overload` says from now on; it is
        called in the loop and must not raise."""
        self._lag = _Measure("processing is {} behind", lag_limit)
        self._commit = _Measure("storing takes {}", commit_limit)
        self._on_change = on_change
        self._reason = ""
        self._overloads = 0

    def set_limits(self, *, lag_limit: float, commit_limit: float) -> None:
        """Other limits from now on (reload)."""
        self._lag.limit = lag_limit
        self._commit.limit = commit_limit
        self._judge()

    async def run(self, commits: Callable[[], tuple[int, float]] | None = None) -> None:
        """Measure until cancelled.

        `commits` gives the number of commits so far and the seconds that the last one took; it is
        asked at each turn. Without it, feed `observe_commit`.
        """
        count: int | None = None
        last = trio.current_time()
        while True:
            await trio.sleep(INTERVAL)
            now = trio.current_time()
            passed, last = now - last, now
            self._lag.observe(now, max(0.0, passed - INTERVAL), passed)
            # Without this, overload by slow commits could not end: who refuses mail commits nothing.
            self._commit.decay(now, passed)
            if commits is not None:
                known, seconds = commits()
                if count is not None and known != count:
                    self._commit.observe(now, seconds, seconds)
                count = known
            self._judge()

    def observe_commit(self, seconds: float) -> None:
        """A commit took that long."""
        self._commit.observe(trio.current_time(), seconds, max(seconds, INTERVAL))
        self._judge()

    def overload(self) -> str:
        """Empty, or why new work should be refused, fit for a reply: `storing takes 12.0 s`."""
        return self._reason

    def statistics(self) -> LoadStatistics:
        return LoadStatistics(
            self._lag.smoothed,
            self._lag.worst,
            self._commit.smoothed,
            self._commit.worst,
            self._reason,
            self._overloads,
        )

    def _judge(self) -> None:
        reasons = [reason for measure in (self._lag, self._commit) if (reason := measure.judge())]
        before, self._reason = self._reason, ", ".join(reasons)
        if bool(before) == bool(self._reason):
            return
        if self._reason:
            self._overloads += 1
        if self._on_change is not None:
            self._on_change(self._reason)


class _Measure:
    """A number of seconds that is smoothed, with the worst of a window and a limit with hysteresis."""

    def __init__(self, text: str, limit: float) -> None:
        self._text = text
        self.limit = limit
        self.smoothed = 0.0
        self._exceeded = False
        self._descending: deque[tuple[float, float]] = deque()
        """Time and value of the worst of the window, and of each that is the worst once those before it
        are too old: the values only fall, so the queue stays short."""

    @property
    def worst(self) -> float:
        return self._descending[0][1] if self._descending else 0.0

    def observe(self, now: float, value: float, passed: float) -> None:
        """A measure that stands for the `passed` seconds before it."""
        self.smoothed += (1.0 - math.exp(-passed / SMOOTHING)) * (value - self.smoothed)
        worse = self._descending
        while worse and worse[-1][1] <= value:
            worse.pop()
        if not worse or now - worse[-1][0] >= _GRAIN:
            worse.append((now, value))
        self._forget(now)

    def decay(self, now: float, passed: float) -> None:
        """Nothing was measured in the `passed` seconds."""
        self.smoothed *= math.exp(-passed / SMOOTHING)
        self._forget(now)

    def _forget(self, now: float) -> None:
        while self._descending and self._descending[0][0] < now - WINDOW:
            self._descending.popleft()

    def judge(self) -> str:
        if not self.limit:
            self._exceeded = False
        elif self._exceeded:
            self._exceeded = self.smoothed > self.limit * _RECOVERED or self.worst > self.limit
        else:
            self._exceeded = self.smoothed >= self.limit
        return self._text.format(f"{max(self.smoothed, self.worst):.1f} s") if self._exceeded else ""
