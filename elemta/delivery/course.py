"""The course of one attempt: how long each of its phases takes."""

from __future__ import annotations

import trio

from elemta.mail import Phases

_DIGITS = 4
"""Of a second: tenths of a millisecond, so that also a hop in the same house can be read."""


class Course:
    """Made for an attempt by who makes it; transport and connection tell it how they get on. Sync.

    A phase lasts until the next is entered, or nothing more is done. One that comes again, as at the next
    host, goes on where it was.
    """

    __slots__ = ("_phase", "_since", "_spent")

    def __init__(self) -> None:
        self._spent: dict[str, float] = {}
        self._phase = ""
        self._since = 0.0

    def enter(self, phase: str) -> None:
        """What comes now belongs to this phase, one of those of `Phases`."""
        if phase == self._phase:
            return
        now = trio.current_time()
        if self._phase:
            self._spent[self._phase] = self._spent.get(self._phase, 0.0) + now - self._since
        self._phase, self._since = phase, now

    def leave(self) -> None:
        """What comes now belongs to no phase."""
        self.enter("")

    def phases(self) -> Phases:
        """So far, with the present one up to now."""
        present = self._phase
        self.leave()
        if present:
            self.enter(present)
        return Phases(**{name: round(seconds, _DIGITS) for name, seconds in self._spent.items()})
