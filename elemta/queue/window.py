"""How many connections a destination bears now: feedback in the manner of Postfix's scheduler. Pure."""

from __future__ import annotations

import attrs

COHORTS_TO_DEATH = 3
"""Failed cohorts (a whole window's worth of failed connections without a success) until a destination
counts as dead. Postfix takes 1; one lost packet should not suspend a destination that has one connection."""


@attrs.define(eq=False)
class ConcurrencyWindow:
    """A window that grows by 1/size with each success and shrinks by 1/size with each failure to connect.

    So a full cohort of successes adds one connection, and a full cohort of failures takes one.
    """

    initial: int
    limit: int
    _size: float = attrs.field(init=False)
    _failures: float = attrs.field(init=False, default=0.0)

    def __attrs_post_init__(self) -> None:
        self._size = float(min(self.initial, self.limit))

    @property
    def size(self) -> int:
        """Connections allowed now, at least one."""
        return int(self._size)

    @property
    def is_dead(self) -> bool:
        """Too many failures with no success between them."""
        return self._failures >= COHORTS_TO_DEATH

    def resize(self, limit: int) -> None:
        """Allow at most so many from now on."""
        self.limit = limit
        self._size = min(self._size, float(limit))

    def copy(self, limit: int) -> ConcurrencyWindow:
        """One that begins where this one is, with another limit."""
        copy = ConcurrencyWindow(self.initial, limit)
        copy._size, copy._failures = min(self._size, float(limit)), self._failures
        return copy

    def success(self) -> None:
        """A delivery ended with a word of the next hop, whatever it was: it is alive."""
        self._failures = 0.0
        if self._size < self.limit:
            self._size = min(float(self.limit), self._size + 1.0 / self._size)

    def failure(self) -> None:
        """The next hop could not be reached, broke off or asked us to go away."""
        self._failures += 1.0 / int(self._size)
        self._size = max(1.0, self._size - 1.0 / self._size)

    def revive(self) -> None:
        """After a suspension: start again, carefully."""
        self._failures = 0.0
        self._size = 1.0
