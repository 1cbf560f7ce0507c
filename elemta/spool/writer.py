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

from collections.abc import Callable

import attrs
import outcome
import trio

from elemta.runtime import Histogram, HistogramStatistics, summarize

from .errors import BatchSpoiled, LeaseLost, SpoolFull, SpoolUnavailable
from .gathering import AnyRequest, Gathering, unavailable
from .handover import Handover
from .janitor import Janitor
from .requests import RequestState
from .store import Store
from .thread import WriterThread

_FULL_PAUSE = 1.0
"""Seconds between tries to write results to a full disk."""
CHECKPOINT_PAGES = 2000
"""16 MiB of write-ahead log, then it is moved into the database when nobody waits; at four times
that, also when someone does."""
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_GROUPS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
SHORT_CHECKPOINT_PAGES = 128
"""The same while room is short. The log can then go on in the space that it has when the disk is full, and so
little of it needs a new place in the database that the ballast is enough."""


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
    seconds: HistogramStatistics
    """Of the flush alone."""
    groups: HistogramStatistics
    """Requests in a commit."""


class Writer(Gathering):
    """The task that works off the requests to one store."""

    def __init__(
        self,
        store: Store,
        handover: Handover,
        *,
        alarm: float,
        on_trouble: Callable[[str, str], None],
        janitor: Janitor | None = None,
    ) -> None:
        super().__init__(on_trouble)
        self._store = store
        self._handover = handover
        self._alarm = alarm
        self._janitor = janitor
        self._thread = WriterThread() if store.flushes else None
        self._full = False
        self._slow = False
        self._next_checkpoint = CHECKPOINT_PAGES
        self._commits = self._requests = self._last_group = self._largest_group = 0
        self._checkpoints = self._log_pages = self._lost_leases = 0
        self._last_seconds = self._total_seconds = 0.0
        self._seconds, self._groups = Histogram(_SECONDS), Histogram(_GROUPS)

    # For other tasks

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
            self._seconds.statistics(),
            self._groups.statistics(),
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
            raise unavailable(self._failure) from self._failure

    def _end_thread(self) -> None:
        if self._thread is not None:
            self._thread.close()

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
        self._seconds.observe(seconds)
        self._groups.observe(len(batch))
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
            if self._log_pages < self._next_checkpoint and not self._saves_room():
                return
            if self._urgent and self._next_checkpoint <= self._log_pages < self._latest_checkpoint:
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

    @property
    def _latest_checkpoint(self) -> int:
        return self._next_checkpoint + 3 * CHECKPOINT_PAGES

    def _saves_room(self) -> bool:
        """Whether the log is to be moved early because it may soon be unable to grow."""
        least = self._next_checkpoint - CHECKPOINT_PAGES + SHORT_CHECKPOINT_PAGES
        return self._janitor is not None and self._log_pages >= least and self._janitor.is_room_short()

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
