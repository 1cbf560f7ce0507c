"""The two-phase stop: "finish" until one deadline, then "now", as an object that is passed down.

Everyone learns of a drain at the same moment and measures against the same absolute times, so all
levels finish in parallel; the nesting of `async with` only fixes the order in which they close.
"""

from __future__ import annotations

import math
import weakref

import trio


class Drain:
    """Whether the server is stopping, why, and until when.

    `deadline` ends the time for finishing what is under way; what still runs then is cancelled.
    `hard_deadline` ends the time for cleaning up behind that. Both are on Trio's clock.
    """

    def __init__(self) -> None:
        self.reason = ""
        self.deadline = math.inf
        self.hard_deadline = math.inf
        self._begun = trio.Event()
        self._scopes: weakref.WeakSet[trio.CancelScope] = weakref.WeakSet()
        self._hard_scopes: weakref.WeakSet[trio.CancelScope] = weakref.WeakSet()

    @property
    def draining(self) -> bool:
        return self._begun.is_set()

    def begin(self, reason: str, grace: float, hard: float) -> None:
        """Start draining: `grace` seconds to finish from now on, then `hard` seconds to clean up.

        A further call may bring the end nearer, never put it off; the first reason stays. Sync.
        """
        deadline = trio.current_time() + grace
        self.deadline = min(self.deadline, deadline)
        self.hard_deadline = min(self.hard_deadline, deadline + hard)
        if not self.draining:
            self.reason = reason
            self._begun.set()
        for scope in tuple(self._scopes):
            self._shorten(scope, self.deadline)
        for scope in tuple(self._hard_scopes):
            self._shorten(scope, self.hard_deadline)

    async def wait_draining(self) -> None:
        """Wait until the drain begins; at once if it has."""
        await self._begun.wait()

    def attach(self, scope: trio.CancelScope) -> None:
        """Let the scope (a nursery's, say) end at `deadline`, also when that comes nearer later.

        An earlier deadline of its own is kept. Code that moves the deadline of an attached scope
        must take the smaller of its own and `Drain.deadline`.
        """
        self._scopes.add(scope)
        self._shorten(scope, self.deadline)

    def attach_hard(self, scope: trio.CancelScope) -> None:
        """The same for `hard_deadline`."""
        self._hard_scopes.add(scope)
        self._shorten(scope, self.hard_deadline)

    @staticmethod
    def _shorten(scope: trio.CancelScope, deadline: float) -> None:
        scope.deadline = min(scope.deadline, deadline)
