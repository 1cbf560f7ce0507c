"""Work in threads, each purpose with a limiter of its own.

Trio's default limiter is shared by everything, name look-ups included; jobs that wait for other
jobs of the same pool would lock each other out. So every purpose names its pool.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final, TypeVar, TypeVarTuple

import attrs
import trio

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

in_place: Final[ContextVar[bool]] = ContextVar("elemta_threads_in_place", default=False)
"""Set for tests on virtual time: the task and those it starts do the work themselves, in the loop. The clock
of a test jumps whenever all tasks wait, and so it would jump, by hours, while a thread still works."""


_all_pools: weakref.WeakSet[ThreadPool] = weakref.WeakSet()
"""Of this process."""


@attrs.frozen
class ThreadPoolStatistics:
    name: str
    size: int
    running: int
    waiting: int


@attrs.define(eq=False)
class ThreadPool:
    """A named bound on threads for one purpose. Equal names are still different pools."""

    name: str
    size: int
    limiter: trio.CapacityLimiter = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.limiter = trio.CapacityLimiter(self.size)
        _all_pools.add(self)

    def statistics(self) -> ThreadPoolStatistics:
        """Only within Trio."""
        limiter = self.limiter.statistics()
        return ThreadPoolStatistics(self.name, self.size, limiter.borrowed_tokens, limiter.tasks_waiting)


def pool_statistics() -> list[ThreadPoolStatistics]:
    """All pools of this process by name; those of the same name together."""
    found: dict[str, ThreadPoolStatistics] = {}
    for pool in tuple(_all_pools):
        one, other = pool.statistics(), found.get(pool.name, ThreadPoolStatistics(pool.name, 0, 0, 0))
        found[pool.name] = ThreadPoolStatistics(
            pool.name,
            one.size + other.size,
            one.running + other.running,
            one.waiting + other.waiting,
        )
    return [found[name] for name in sorted(found)]


class ThreadPools:
    """The pools of one server by name, so that all can be looked at together."""

    def __init__(self) -> None:
        self._pools: dict[str, ThreadPool] = {}

    def open(self, name: str, size: int) -> ThreadPool:
        """Make a pool.

        Raises:
          ValueError: there is one of that name; a purpose shares its threads with nobody.
        """
        if name in self._pools:
            raise ValueError(f"thread pool {name!r} exists")
        pool = self._pools[name] = ThreadPool(name, size)
        return pool

    def __getitem__(self, name: str) -> ThreadPool:
        return self._pools[name]

    def statistics(self) -> tuple[ThreadPoolStatistics, ...]:
        return tuple(pool.statistics() for pool in self._pools.values())


async def run_in_thread(
    pool: ThreadPool, function: Callable[[*Ts], T], *args: *Ts, abandon_on_cancel: bool = False
) -> T:
    """Call `function(*args)` in a thread of the pool and return its result, or raise its error.

    Cancelled before the thread starts (on entry, or waiting for room in the pool), the function
    never ran. Once it runs it cannot be cancelled, by no deadline and no shield: the call waits for
    its end and returns its result, and the next checkpoint raises. So it happened or it did not.
    With `abandon_on_cancel` the caller goes on at once; the thread keeps its place in the pool to its end.
    """
    if in_place.get():
        await trio.lowlevel.checkpoint()
        return function(*args)
    return await trio.to_thread.run_sync(
        function,
        *args,
        limiter=pool.limiter,
        abandon_on_cancel=abandon_on_cancel,
        thread_name=f"elemta-{pool.name}",
    )


def check_cancelled() -> None:
    """In a thread of `run_in_thread`: raise if the call that waits for it was cancelled."""
    if not in_place.get():
        trio.from_thread.check_cancelled()
