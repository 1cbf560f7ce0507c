"""Group commit: what gathers while one batch is flushed becomes the next.

Theory of operation
-------------------
One task, `Writer.run`, owns the store. It takes what has gathered, runs all the statements in the
event loop (10 to 40 µs each; from a second thread each would wait for the interpreter lock), and
gives only the flush to the writer thread. While that lasts, requests gather; when it returns, all of
the batch are answered and the next batch begins at once. So the disk is the clock: a single client
waits for one flush and no timer, and a hundred share one.

*Urgent* requests have a task waiting: new messages, claims, operators. *Lazy* ones do not: results
of attempts. They ride along with the next urgent batch, or go alone after 20 ms, or when 200 have
gathered. Lazy ones are taken first, so an operation always sees what was recorded before it.

A waiting task may be cancelled while its request is WAITING; the abort function removes it, and
nothing was stored. Once TAKEN it cannot be: it learns the decision. The two cannot meet, because
taking and aborting are both synchronous in the event loop. Every taken request is settled in
`finally`, whatever happens to the writer.

Three things can go wrong with a batch. One request fails by itself: the store has undone it, the
others go on. The disk is full: nothing of the batch is stored; new messages learn so, and results
of attempts are kept, the ballast is given up and they are tried again, alone. Anything else: nobody
knows what is stored (RELIABILITY D4), so all fail with `SpoolUnavailable` and so does everything
later, and the error goes up the nursery and ends the process.

The writer itself ignores cancellation: it ends when it is closed, after all that has gathered.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import attrs
import outcome
import trio

from elemta.runtime import summarize

from .errors import LeaseLost, SpoolError, SpoolFull, SpoolUnavailable
from .handover import Handover
from .requests import Operation, Request, RequestState
from .store import Aftermath, Store
from .thread import WriterThread

T = TypeVar("T")
AnyRequest = Request[Any]  # each task knows the type of what it waits for; the writer need not

MOST_WEIGHT = 1024
"""Statements in a batch: about 10 ms of the event loop at the outside."""
MOST_OCTETS = 4 * 1024 * 1024
LAZY_SECONDS = 0.02
LAZY_COUNT = 200
_FULL_PAUSE = 1.0
"""Seconds between tries to write results to a full disk."""
CHECKPOINT_PAGES = 2000
"""16 MiB of write-ahead log, then it is moved into the database when nobody waits; at four times
that, also when someone does."""


@attrs.frozen
class WriterStatistics:
    """What the writer did and has before it; numbers in memory."""

    commits: int
    requests: int
    """Committed so far; by `commits` this is the mean group."""
    last_group: int
    largest_group: int
    last_seconds: float
    mean_seconds: float
    """Of the flush alone."""
    waiting: int
    """Tasks whose request is not in a batch yet."""
    pending_records: int
    """Results of attempts that are not durable yet."""
    checkpoints: int
    log_pages: int
    """Pages in the write-ahead log that wait to be moved."""
    lost_leases: int
    """Records that came after their recipient was given to someone else."""
    deliveries_paused: bool


class Writer:
    """The queue of requests to one store, and the task that works it off."""

    def __init__(
        self,
        store: Store,
        handover: Handover,
        *,
        alarm: float,
        on_trouble: Callable[[str, str], None],
        give_up_ballast: Callable[[], bool] = lambda: False,
        on_aftermath: Callable[[Aftermath], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._handover = handover
        self._alarm = alarm
        self._on_trouble = on_trouble
        self._give_up_ballast = give_up_ballast
        self._on_aftermath = on_aftermath
        self._thread = WriterThread() if store.flushes else None
        self._urgent: deque[AnyRequest] = deque()
        self._lazy: deque[AnyRequest] = deque()
        self._taken_lazy = 0
        self._lazy_due = math.inf
        self._hurry = False
        self._closing = False
        self._failure: BaseException | None = None
        self._ended = False
        self._parked: trio.Event | None = None
        self._scope: trio.CancelScope | None = None
        self._full = False
        self._slow = False
        self.deliveries_paused = False
        """Results of attempts cannot be written: start no new one, or it may be made twice."""
        self._next_checkpoint = CHECKPOINT_PAGES
        self._commits = self._requests = self._last_group = self._largest_group = 0
        self._checkpoints = self._lost_leases = 0
        self._last_seconds = self._total_seconds = 0.0

    # For other tasks

    async def submit(self, request: Request[T]) -> T:
        """Have the request stored and return its result.

        If cancelled while waiting for its turn, nothing is stored. Once it is in a batch the wait
        cannot be cancelled and ends with the decision.

        Raises:
          SpoolFull: nothing is stored.
          SpoolUnavailable: unknown whether it is stored; or nothing is stored any more.
          SpoolError: the request itself was refused; nothing is stored.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self.check_alive()
        self._urgent.append(request)
        return await self._wait(request, self._urgent)

    async def wait_lazy(self) -> None:
        """Wait until all that was handed to `add` so far is durable, and have that done at once.

        Raises:
          SpoolUnavailable: it never will be.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self.check_alive()
        barrier = Operation(lambda _: None, writes=False)
        self._lazy.append(barrier)
        self._hurry = True
        await self._wait(barrier, self._lazy)

    async def _wait(self, request: Request[T], queue: deque[AnyRequest]) -> T:
        request.task = trio.lowlevel.current_task()
        self._wake()

        def abort(_: object) -> trio.lowlevel.Abort:
            if request.state is not RequestState.WAITING:
                return trio.lowlevel.Abort.FAILED
            request.state, request.task = RequestState.DONE, None
            queue.remove(request)
            return trio.lowlevel.Abort.SUCCEEDED

        result: T = await trio.lowlevel.wait_task_rescheduled(abort)
        return result

    def add(self, request: AnyRequest) -> None:
        """Have the request stored soon. Sync; nobody waits for it.

        Raises:
          SpoolUnavailable: nothing is stored any more.
        """
        self.check_alive()
        self._lazy.append(request)
        if len(self._lazy) >= LAZY_COUNT:
            self._wake()
        elif self._lazy_due == math.inf:
            self._lazy_due = trio.current_time() + LAZY_SECONDS
            if self._scope is not None:
                self._scope.deadline = min(self._scope.deadline, self._lazy_due)

    def check_alive(self) -> None:
        """
        Raises:
          SpoolUnavailable: nothing is stored any more.
        """
        if self._failure is not None:
            raise _unavailable(self._failure) from self._failure
        if self._ended:
            raise SpoolUnavailable("the spool is closed")

    @property
    def failed(self) -> bool:
        return self._failure is not None

    @property
    def pending_records(self) -> int:
        return len(self._lazy) + self._taken_lazy

    def fail(self, cause: BaseException) -> None:
        """Storage failed, here or elsewhere: everything from now on is refused, and `run` raises."""
        if self._failure is not None:
            return
        self._failure = cause
        self._on_trouble("unavailable", str(cause))
        self._refuse([*self._urgent, *self._lazy])
        self._urgent.clear()
        self._lazy.clear()
        self._wake()

    def close(self) -> None:
        """Let `run` end when everything that has gathered is done."""
        self._closing = True
        self._wake()

    def statistics(self) -> WriterStatistics:
        return WriterStatistics(
            self._commits,
            self._requests,
            self._last_group,
            self._largest_group,
            self._last_seconds,
            self._total_seconds / self._commits if self._commits else 0.0,
            len(self._urgent),
            self.pending_records,
            self._checkpoints,
            self._store.checkpoint_size if not self._busy else self._log_pages,
            self._lost_leases,
            self.deliveries_paused,
        )
