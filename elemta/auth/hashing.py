"""Slow computations in threads of their own, with a bound on how many wait for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

from elemta.runtime import ThreadPool, ThreadPools, ThreadPoolStatistics, run_in_thread

from .store import StoreUnavailable

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

POOL = "passwords"


class HashingBusy(StoreUnavailable):
    """Too many passwords wait to be checked: somebody floods us with logins."""


class HashingPool:
    """The pool `passwords` of the server's thread pools."""

    def __init__(self, threads: int, waiting: int, pools: ThreadPools | None = None) -> None:
        self._pool: ThreadPool = (pools or ThreadPools()).open(POOL, threads)
        self._most_waiting = waiting

    async def run(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """As `run_in_thread`: once it runs it is not cancelled.

        Raises:
          HashingBusy: at once, where too many wait already.
        """
        if self._pool.statistics().waiting >= self._most_waiting:
            raise HashingBusy("too many passwords wait to be checked")
        return await run_in_thread(self._pool, function, *args)

    def statistics(self) -> ThreadPoolStatistics:
        return self._pool.statistics()
