"""How much memory all bodies that are being received take together."""

from __future__ import annotations


class MemoryBudget:
    """Counts octets against a limit. Who takes them looks at `exceeded`, and makes do with less."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    @property
    def exceeded(self) -> bool:
        return self.used > self.limit

    def add(self, octets: int) -> None:
        """Count what was taken; a negative number is what was given back."""
        self.used += octets
