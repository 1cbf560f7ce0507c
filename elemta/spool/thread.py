"""The one thread that flushes: takes a function, runs it, tells the event loop."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

import attrs
import outcome
import trio


@attrs.define(eq=False)
class _Job:
    function: Callable[[], None]
    token: trio.lowlevel.TrioToken
    done: trio.Event = attrs.field(factory=trio.Event)
    result: outcome.Maybe[None] | None = None


class WriterThread:
    """A thread for functions that wait for the disk, one at a time.

    Not Trio's thread cache: waking our own thread and hearing from it costs 3 µs instead of 98, and
    nobody else's job can stand before a commit (PERFORMANCE, "costs to design with").
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        # A daemon: a disk that never answers must not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name="elemta-spool-writer", daemon=True)
        self._thread.start()

    async def run(self, function: Callable[[], None], *, alarm: float, on_slow: Callable[[], None]) -> None:
        """Run the function and return when it has ended, or raise its error. Cannot be cancelled.

        `on_slow` is called once where it takes longer than `alarm` seconds.
        """
        job = _Job(function, trio.lowlevel.current_trio_token())
        self._jobs.put(job)
        with trio.move_on_after(alarm, shield=True):
            await job.done.wait()
        if not job.done.is_set():
            on_slow()
            # shield without a deadline: a thread cannot be cancelled, and whoever waits for this
            # commit may only learn its end (TRIO 3.2, 3.4).
            with trio.CancelScope(shield=True):
                await job.done.wait()
        assert job.result is not None
        job.result.unwrap()

    def close(self) -> None:
        """End the thread; it must be idle."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.result = outcome.capture(job.function)
            try:
                job.token.run_sync_soon(job.done.set)
            except trio.RunFinishedError:
                return
