"""Counts numbers by how large they are, in fixed memory."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import attrs


@attrs.frozen
class HistogramStatistics:
    """How many there were up to each bound, all together, and their sum."""

    bounds: tuple[float, ...]
    cumulative: tuple[int, ...]
    """One number for each bound."""
    count: int
    total: float


class Histogram:
    """Sync, below a microsecond for each number."""

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds` rise; what is above the last one is counted, too."""
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._total = 0.0

    def observe(self, value: float) -> None:
        """Count one."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def statistics(self) -> HistogramStatistics:
        cumulative = []
        seen = 0
        for count in self._counts:
            seen += count
            cumulative.append(seen)
        return HistogramStatistics(self._bounds, tuple(cumulative[:-1]), seen, self._total)
