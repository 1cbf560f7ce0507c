"""Carry log records to where they are written without ever holding up who logs.

`put` appends to a bounded deque and returns. A task takes what has gathered, at most every 50 ms,
renders it and writes it in a thread of its own pool. A reader that has stopped reading fills the
deque, and then records are dropped and counted; nothing waits for it, not even the end of the
process: a thread cannot be cancelled, so each write gives up by itself after a moment.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import attrs
import trio

from .outlets import Outlet
from .output import Output
from .render import Record, Renderer, plain_record, render_json
from .threads import ThreadPool, run_in_thread

V = TypeVar("V")
Item: TypeAlias = Record | tuple[Callable[[Any], Record], Any]  # Any: the pair belongs together, see put_lazy

_PATIENCE = 0.25
"""Real seconds that one write may take."""
_RETRY = 0.5
"""Seconds between two tries to write what is kept."""
_BATCH_RECORDS = 200
"""Rendered between two checkpoints: well under a millisecond."""
_BATCH_OCTETS = 256 * 1024
_LONGEST_LINE = 64 * 1024


@attrs.frozen
class LogStatistics:
    waiting: int
    written: int
    dropped: int
    """For want of room, or because writing failed."""
    unrenderable: int


class LogPump:
    """Where all records go. Writes directly while its `run` is not running: before the loop and after it."""

    def __init__(
        self,
        output: int | Outlet = 2,
        *,
        render: Renderer = render_json,
        size: int = 10_000,
        interval: float = 0.05,
        flush: float = 2.0,
        on_trouble: Callable[[OSError | None], None] | None = None,
    ) -> None:
        """`output`: a descriptor, or what else takes lines. `size` bounds the records that wait; `flush`, in
        seconds, what is written when `run` ends. `on_trouble` is told, in the loop, when an output that keeps
        what it could not write begins to fail, and with None when it writes again."""
        self._output: Outlet = Output(output) if isinstance(output, int) else output
        self._renderer = render
        self._size = size
        self._interval = interval
        self._flush_time = flush
        self._on_trouble = on_trouble
        self._failing = False
        self._has_run = False
        self._pool = ThreadPool("log", 1)
        self._records: deque[Item] = deque()
        self._pending = bytearray()
        """Rendered and not yet written."""
        self._pending_records = 0
        self._line_open = False
        """The last octet that was written does not end a line."""
        self._running = False
        self._rouse_needed = True
        self._event = trio.Event()
        self._thread = 0
        self._token: trio.lowlevel.TrioToken | None = None
        self._direct = threading.Lock()
        self._stuck = False
        self._written = 0
        self._dropped = 0
        self._telling = 0
        """How many drops the report in `_pending` stands for …"""
        self._told = 0
        """… and how many those that were written."""
        self._unrenderable = 0

    def put(self, record: Record) -> None:
        """Take a record. Sync, from any thread; never raises, and never waits while `run` is running.

        The record and its values must not change afterwards.
        """
        self._append(record)

    def put_lazy(self, make: Callable[[V], Record], value: V) -> None:
        """Take a value that becomes a record only where it is rendered: `make(value)`."""
        self._append((make, value))

    def statistics(self) -> LogStatistics:
        return LogStatistics(len(self._records), self._written, self._dropped, self._unrenderable)

    def close(self) -> None:
        """Give the descriptor back; what comes now is dropped. Idempotent; not while `run` is running."""
        self._output.close()

    async def run(self) -> None:
        """Write what comes, until cancelled; then what is left, for at most `flush` seconds."""
        self._token = trio.lowlevel.current_trio_token()
        self._thread = threading.get_ident()
        self._rouse_needed = False
        self._running = self._has_run = True
        try:
            while True:
                await self._wait_for_records()
                await self._write_batch()
                await trio.sleep(_RETRY if self._failing else self._interval)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + self._flush_time) as scope:
                while (self._records or self._pending) and not self._failing:
                    await self._write_batch()
            self._stuck = scope.cancelled_caught
            self._running = False
            self._rouse_needed = True
            self._write_directly()

    def _append(self, item: Item) -> None:
        if len(self._records) >= self._size:
            # Exact also with threads: CPython switches at calls and backward jumps, and here is neither.
            self._dropped += 1
            return
        self._records.append(item)
        if self._rouse_needed:
            self._rouse()

    def _rouse(self) -> None:
        if not self._running:
            self._write_directly()
        elif threading.get_ident() == self._thread:
            self._rouse_needed = False
            self._event.set()
        else:
            assert self._token is not None
            try:
                self._token.run_sync_soon(self._rouse, idempotent=True)
            except trio.RunFinishedError:
                self._write_directly()

    async def _wait_for_records(self) -> None:
        while not self._records and not self._pending:
            self._event = trio.Event()
            self._rouse_needed = True
            try:
                # A thread may have appended before it could see that the loop must be roused.
                if not self._records:
                    await self._event.wait()
            finally:
                self._rouse_needed = False

    async def _write_batch(self) -> None:
        """Cancelled, nothing is lost: what was taken and not written stays in `_pending`."""
        while self._records and len(self._pending) < _BATCH_OCTETS:
            self._render_some()
            await trio.lowlevel.checkpoint()
        if self._pending:
            data = bytes(self._pending)
            written, error = await run_in_thread(self._pool, self._output.write, data, _PATIENCE)
            self._settle(written, error, keep=self._output.keeps)
            if self._output.keeps:
                self._tell(written, error)

    def _tell(self, written: int, error: OSError | None) -> None:
        if error is None and not written:
            return  # it still tries
        if self._failing != (error is not None):
            self._failing = error is not None
            if self._on_trouble is not None:
                self._on_trouble(error)

    def _write_directly(self) -> None:
        # Never waits for the lock: who holds it (another thread, or the code that this signal handler
        # interrupted) looks for records again after letting go.
        while (self._records or self._pending) and self._direct.acquire(blocking=False):
            try:
                self._render_some()
                data = bytes(self._pending)
                written, error = self._output.write(data, 0.0 if self._stuck else 4 * _PATIENCE)
                waits = self._output.keeps and not self._has_run
                self._settle(written, error, keep=waits)
                self._stuck = written < len(data) and (waits or error is None)
                if self._stuck and waits:
                    return  # `run` will write it
                if self._stuck:
                    self._forget_pending()
            finally:
                self._direct.release()

    def _render_some(self) -> None:
        if self._line_open and not self._pending:
            self._pending += b"\n"  # the rest of a torn line is lost
        if self._dropped > self._telling:
            lost = self._dropped - self._telling
            self._telling = self._dropped
            self._pending += self._render(
                {"time": time.time(), "level": "warning", "type": "log.dropped", "records": lost}
            )
        for _ in range(_BATCH_RECORDS):
            try:
                item = self._records.popleft()
            except IndexError:
                return
            self._pending += self._render(item)
            self._pending_records += 1

    def _render(self, item: Item) -> bytes:
        record: Record | None = None
        try:
            record = item[0](item[1]) if isinstance(item, tuple) else item
            line = self._renderer(record)
            if len(line) <= _LONGEST_LINE:
                return line
        except Exception:
            self._unrenderable += 1
        try:
            if record is None:
                assert isinstance(item, tuple)
                record = {"level": "error", "type": "log.unrenderable", "class": type(item[1]).__name__}
            return self._renderer({"time": time.time(), **plain_record(record)})
        except Exception:
            # It is not even a mapping; `unrenderable` says that there was something.
            return b""

    def _settle(self, written: int, error: OSError | None, *, keep: bool = False) -> None:
        data = self._pending
        if written:
            self._line_open = data[written - 1] != 0x0A
        if error is not None and not keep:
            # Reader gone, disk full: drop this batch, go on with the next.
            self._forget_pending()
        elif written == len(data):
            self._written += self._pending_records
            self._pending_records = 0
            self._told = self._telling
            data.clear()
        else:
            del data[:written]

    def _forget_pending(self) -> None:
        self._dropped += self._pending_records
        self._pending_records = 0
        self._telling = self._told
        self._pending.clear()
