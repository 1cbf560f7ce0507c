"""A token bucket: how much of something may go out now, and when more may. Pure."""

from __future__ import annotations

import attrs

from elemta.delivery import Allowance

_ROUNDING = 1e-9
"""Part of a bucket that numbers may be wrong by: nobody waits for that."""


@attrs.define(eq=False)
class Bucket:
    """Full at first. What is larger than the whole bucket may go when it is full, and leaves a debt."""

    allowance: Allowance
    _level: float = attrs.field(init=False)
    _filled: float = attrs.field(default=0.0, init=False)

    def __attrs_post_init__(self) -> None:
        self._level = self.allowance.burst

    def wait(self, amount: float, now: float) -> float:
        """Seconds until so much may go; 0: now."""
        self._fill(now)
        lacking = min(amount, self.allowance.burst) - self._level
        return lacking / self.allowance.rate if lacking > self.allowance.burst * _ROUNDING else 0.0

    def credit(self, now: float) -> float:
        """Seconds for which it has saved up; negative: it is in debt."""
        self._fill(now)
        return self._level / self.allowance.rate

    def is_full(self, now: float) -> bool:
        """Whether nothing is used up."""
        return not self.wait(self.allowance.burst, now)

    def take(self, amount: float, now: float) -> None:
        """It goes, whether it may or not."""
        self._fill(now)
        self._level -= amount

    def give_back(self, amount: float, now: float) -> None:
        """It did not go after all."""
        self.take(-amount, now)

    def change(self, allowance: Allowance, now: float) -> None:
        """Another allowance from now on; what was used up stays used up."""
        self._fill(now)
        self._level += allowance.burst - self.allowance.burst
        self.allowance = allowance

    def _fill(self, now: float) -> None:
        level = self._level + max(0.0, now - self._filled) * self.allowance.rate
        self._level = min(self.allowance.burst, level)
        self._filled = now
