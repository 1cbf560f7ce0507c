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

Three things can go wrong with a batch. One request fails by itself: the store undoes it, where need be
by running the whole batch once more with savepoints, and the others go on. The disk is full: nothing of
the batch is stored; new messages learn so, and results of attempts are kept, the ballast is given up
and they are tried again, alone. Anything else: nobody knows what is stored (RELIABILITY D4), so all
fail with `SpoolUnavailable` and so does everything later, and the error goes up the nursery and ends
the process.

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

from .errors import BatchSpoiled, LeaseLost, SpoolError, SpoolFull, SpoolUnavailable
from .handover import Handover
from .janitor import Janitor
from .requests import Operation, Request, RequestState
from .store import Store
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
        janitor: Janitor | None = None,
    ) -> None:
        self._store = store
        self._handover = handover
        self._alarm = alarm
        self._on_trouble = on_trouble
        self._janitor = janitor
        self._thread = WriterThread() if store.flushes else None
        self._urgent: deque[AnyRequest] = deque()
        self._lazy: deque[AnyRequest] = deque()
        self._taken_lazy = 0
        self._lazy_due = math.inf
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
        self._checkpoints = self._log_pages = self._lost_leases = 0
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
        if not self.deliveries_paused or self._lazy_due == math.inf:
            self._lazy_due = trio.current_time()
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
        self._refuse([*self._urgent, *self._lazy])
        self._urgent.clear()
        self._lazy.clear()
        self._wake()
        self._on_trouble("unavailable", summarize(cause))

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
            self._log_pages,
            self._lost_leases,
            self.deliveries_paused,
        )

    # The task

    async def run(self) -> None:
        """Work until closed. Ignores cancellation: what was taken is decided, what was recorded is written.

        Raises:
          SpoolUnavailable: storage failed, or the writer did. All who waited know.
        """
        try:
            while await self._wait_for_work():
                await self._work_off()
        except Exception as cause:
            self.fail(cause)
        finally:
            self._ended = True
            # Only after a `fail` or a BaseException is anybody left here.
            self._refuse([*self._urgent, *self._lazy])
            self._end_thread()
        if self._failure is not None:
            raise _unavailable(self._failure) from self._failure

    def _end_thread(self) -> None:
        if self._thread is not None:
            self._thread.close()

    def _wake(self) -> None:
        if self._parked is not None:
            self._parked.set()

    def _ready(self) -> bool:
        return self._failure is not None or self._closing or bool(self._urgent) or self._lazy_ready()

    def _lazy_ready(self) -> bool:
        if not self._lazy:
            return False
        many = len(self._lazy) >= LAZY_COUNT and not self.deliveries_paused
        return many or trio.current_time() >= self._lazy_due

    def _leaves_lazy(self) -> bool:
        """Whether the next batch goes without them: it only looks, or they could not be written just now."""
        if self._closing or self._lazy_ready():
            return False
        return self.deliveries_paused or not any(request.writes for request in self._urgent)

    async def _wait_for_work(self) -> bool:
        """Returns whether there is more to do."""
        while not self._ready():
            if not self._lazy:
                self._lazy_due = math.inf  # a barrier that was withdrawn may have left one behind
            self._parked = trio.Event()
            with trio.move_on_at(self._lazy_due, shield=True) as self._scope:
                await self._parked.wait()
            self._parked = self._scope = None
        if self._failure is not None:
            return False
        return not self._closing or bool(self._urgent or self._lazy)

    async def _work_off(self) -> None:
        batch = self._take()
        try:
            try:
                await self._process(batch)
            except SpoolFull as cause:
                self._keep_lazy(batch, cause)
        except Exception as cause:
            self.fail(cause)
            raise
        finally:
            # Undecided are those of a batch that failed for another reason than a full disk.
            self._refuse(request for request in batch if request.state is RequestState.TAKEN)
            self._taken_lazy = 0
        await self._tidy()

    def _take(self) -> list[AnyRequest]:
        batch: list[AnyRequest] = []
        weight = octets = 0
        if self.deliveries_paused:
            self._refuse_while_paused()
        leaving = self._leaves_lazy()
        # New mail waits behind results of attempts, but is not kept out by them.
        share = MOST_WEIGHT // 2 if self._urgent else MOST_WEIGHT
        for queue, most in ((self._lazy, 0 if leaving else share), (self._urgent, MOST_WEIGHT)):
            while queue and most:
                request = queue[0]
                weight += request.weight
                octets += request.octets
                if batch and (weight > most or octets > MOST_OCTETS):
                    break
                queue.popleft()
                request.state = RequestState.TAKEN
                batch.append(request)
            if queue is self._lazy:
                self._taken_lazy = len(batch)
        if not leaving:
            self._lazy_due = -math.inf if self._lazy else math.inf
        return batch

    async def _process(self, batch: list[AnyRequest]) -> None:
        store = self._store
        writing = any(request.writes for request in batch)
        try:
            self._apply(batch, writing=writing)
        except BatchSpoiled:
            store.rollback()
            for request in batch:
                request.undone()
            self._apply(batch, writing=writing, careful=True)
        if writing:
            store.seal()
            start = trio.current_time()
            await self._flush(store.commit)
            self._count(batch, trio.current_time() - start)
        self._answer(batch)

    def _apply(self, batch: list[AnyRequest], *, writing: bool, careful: bool = False) -> None:
        store = self._store
        if writing:
            store.begin(careful=careful)
        for request in batch:
            request.error = None
            try:
                request.apply(store)
            except (SpoolFull, SpoolUnavailable, BatchSpoiled):
                raise
            except Exception as error:  # the store has undone it; whoever asked for it is told
                request.error = error
                request.undone()

    def _answer(self, batch: list[AnyRequest]) -> None:
        due = False
        for request in batch:
            if request.error is None:
                request.settle(outcome.Value(request.result))
                due |= request.stored()
            else:
                self._refused(request, request.error)
        aftermath = self._store.take_aftermath()
        for corrupt in aftermath.corrupt:
            self._on_trouble("corrupt", f"{corrupt.message}: {corrupt.problem}")
        if aftermath.body_files and self._janitor is not None:
            self._janitor.clean(aftermath)
        if due:
            self._handover.wake()
        if self._full and self._shows_room(batch):
            self._full = self.deliveries_paused = False
            self._on_trouble("recovered", "there is room again")
            self._handover.wake()

    def _shows_room(self, batch: list[AnyRequest]) -> bool:
        """Whether the disk is full no more: something was written (a look succeeds all the same), and
        no result still waits to be. A barrier is none: it writes nothing, so nothing would follow it."""
        wrote = any(request.writes and request.error is None for request in batch)
        return wrote and not any(request.writes for request in self._lazy)

    def _refused(self, request: AnyRequest, error: Exception) -> None:
        if request.task is None:
            # The attempt's lease is someone else's now, or runs out: nothing is in limbo.
            lost = isinstance(error, LeaseLost)
            self._lost_leases += lost
            self._on_trouble("lease-lost" if lost else "record", summarize(error))
        request.settle(outcome.Error(error))

    async def _flush(self, function: Callable[[], None]) -> None:
        if self._thread is None:
            function()
            await trio.lowlevel.cancel_shielded_checkpoint()
        else:
            await self._thread.run(function, alarm=self._alarm, on_slow=self._report_slow)

    def _count(self, batch: list[AnyRequest], seconds: float) -> None:
        self._commits += 1
        self._requests += len(batch)
        self._last_group = len(batch)
        self._largest_group = max(self._largest_group, len(batch))
        self._last_seconds = seconds
        self._total_seconds += seconds
        self._log_pages = self._store.checkpoint_size
        if self._slow and seconds <= self._alarm:
            self._slow = False
            self._on_trouble("recovered", f"a commit took {seconds:.3f} s again")

    def _report_slow(self) -> None:
        if not self._slow:
            self._slow = True
            self._on_trouble("slow", f"a commit takes longer than {self._alarm:g} s")

    async def _tidy(self) -> None:
        """Move the write-ahead log into the database where it has grown and nobody waits, or it must be."""
        # On a full disk this is what may make room: the log begins anew in the space that it has.
        if not self.deliveries_paused:
            if self._log_pages < self._next_checkpoint:
                return
            if self._urgent and self._log_pages < self._next_checkpoint + 3 * CHECKPOINT_PAGES:
                return
        try:
            await self._flush(self._store.checkpoint)
        except SpoolFull:
            pass  # nothing is lost; the log is kept and grows until there is room
        self._checkpoints += 1
        self._log_pages = self._store.checkpoint_size
        # A reader in the middle of a long listing keeps the log from beginning anew.
        self._next_checkpoint = self._log_pages + CHECKPOINT_PAGES

    # A full disk

    def _keep_lazy(self, batch: list[AnyRequest], cause: SpoolFull) -> None:
        """Nothing of the batch is stored: refuse what is new, keep what has happened."""
        self._store.rollback()
        for request in batch:
            request.undone()
        kept, refused = batch[: self._taken_lazy], batch[self._taken_lazy :]
        for request in reversed(kept):
            request.state = RequestState.WAITING
            self._lazy.appendleft(request)
        self._refuse_full(refused, cause)
        if not self._full:
            self._full = True
            self._on_trouble("full", str(cause))
        if kept:
            self.deliveries_paused = True
            given_up = self._janitor is not None and self._janitor.give_up_ballast()
            retry = 0.0 if given_up else _FULL_PAUSE
            self._lazy_due = trio.current_time() + retry
            if self._closing and retry:
                # The attempts stay leased; the next start makes them due again (P5: perhaps twice).
                self._on_trouble(
                    "record", f"{len(self._lazy)} results of attempts are lost: the disk is full"
                )
                self._refuse_full(list(self._lazy), cause)
                self._lazy.clear()

    def _refuse_while_paused(self) -> None:
        writing = [request for request in self._urgent if request.writes]
        for request in writing:
            self._urgent.remove(request)
        self._refuse_full(writing, SpoolFull("the disk is full"))

    def _refuse_full(self, requests: Iterable[AnyRequest], cause: SpoolFull) -> None:
        for request in requests:
            error = SpoolFull(str(cause))
            error.__cause__ = cause
            request.settle(outcome.Error(error))

    def _refuse(self, requests: Iterable[AnyRequest]) -> None:
        """End requests of which nobody knows what became; each gets an error of its own."""
        cause = self._failure
        for request in list(requests):
            error = _unavailable(cause)
            error.__cause__ = cause
            request.undone()
            request.settle(outcome.Error(error))


def _unavailable(cause: BaseException | None) -> SpoolUnavailable:
    if isinstance(cause, SpoolError):
        return SpoolUnavailable(str(cause))
    return SpoolUnavailable("the writer ended" if cause is None else summarize(cause))
