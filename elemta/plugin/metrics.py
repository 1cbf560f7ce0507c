"""What a plugin counts and measures itself: a bounded number of names, whatever it does. Sync, and pure."""

from __future__ import annotations

from math import isfinite

import attrs

from elemta.runtime import Histogram, HistogramStatistics

MOST_NAMES = 100
"""Names of one plugin, counters, gauges and durations together; what is more is not kept."""
LONGEST_NAME = 100
"""Characters; what is longer is cut."""
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Bounds of durations, of what plugins measure and of their calls."""


@attrs.frozen
class Measured:
    """The numbers of one plugin at one moment."""

    counts: dict[str, int] = attrs.field(factory=dict)
    gauges: dict[str, float] = attrs.field(factory=dict)
    durations: dict[str, HistogramStatistics] = attrs.field(factory=dict)

    @property
    def values(self) -> dict[str, float]:
        """Counters and gauges, for listings."""
        return {**self.counts, **self.gauges}


@attrs.frozen(eq=False)
class Metrics:
    """Numbers of a plugin, for `elemta plugin list` and /metrics.

    A name is text of the author's, such as "listed"; it belongs to one kind of number.
    """

    counts: dict[str, int] = attrs.field(factory=dict)
    gauges: dict[str, float] = attrs.field(factory=dict, init=False)
    durations: dict[str, Histogram] = attrs.field(factory=dict, init=False)

    def count(self, name: str, by: int = 1) -> None:
        """Add to a counter; at most 100 names count."""
        name = name[:LONGEST_NAME]
        if name in self.counts or self._is_new(name):
            self.counts[name] = self.counts.get(name, 0) + by

    def set(self, name: str, value: float) -> None:
        """Say how much of something there is now."""
        name = name[:LONGEST_NAME]
        if name in self.gauges or self._is_new(name):
            self.gauges[name] = float(value)

    def observe(self, name: str, seconds: float) -> None:
        """Say how long something took."""
        name, seconds = name[:LONGEST_NAME], float(seconds)
        if not isfinite(seconds):
            return
        if name not in self.durations and self._is_new(name):
            self.durations[name] = Histogram(SECONDS)
        if name in self.durations:
            self.durations[name].observe(seconds)

    def measured(self) -> Measured:
        """All of it, as it is now."""
        durations = {name: each.statistics() for name, each in self.durations.items()}
        return Measured(dict(self.counts), dict(self.gauges), durations)

    def _is_new(self, name: str) -> bool:
        names = [*self.counts, *self.gauges, *self.durations]
        return len(names) < MOST_NAMES and name not in names
