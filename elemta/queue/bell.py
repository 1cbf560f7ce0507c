"""Wakes the scheduler: when something is due, or when somebody says so."""

from __future__ import annotations

import math

import attrs
import trio


@attrs.define(eq=False)
class Bell:
    """The earliest due time that is known, and an event that ends a wait for it."""

    due: float = math.inf
    """Wall-clock time at which the scheduler looks again."""
    _rung: trio.Event = attrs.field(factory=trio.Event)

    def ring(self) -> None:
        """Look again now. Sync, cannot fail."""
        self._rung.set()

    def note_due(self, due: float) -> None:
        """Something will be due then; rings where that is earlier than what is waited for."""
        if due < self.due:
            self.due = due
            self._rung.set()

    def rearm(self) -> None:
        """Forget what rang so far; what rings from now on ends the next wait."""
        self._rung = trio.Event()

    async def wait(self, seconds: float) -> None:
        """Wait until it rings, at most so long."""
        if seconds > 0:
            with trio.move_on_after(seconds):
                await self._rung.wait()
