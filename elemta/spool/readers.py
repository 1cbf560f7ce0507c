"""Looking at the store from the event loop: over a connection of its own in a thread, bounded in time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import apsw
import trio

from elemta.runtime import ThreadPool, run_in_thread
from elemta.runtime.threads import check_cancelled

from .errors import SpoolError
from .queries import SqliteReader
from .store import Store, StoreReader

T = TypeVar("T")

LONGEST = 10.0
"""Seconds of one look. A longer one would keep the write-ahead log from beginning anew."""
_STEPS = 10_000
"""Virtual machine steps between looks at the clock: under a millisecond."""


class Reader:
    """One connection and one thread at a time. Opened at start, because at the limit of open files a
    new connection fails where an open one works (RELIABILITY 0.1 item 6)."""

    def __init__(self, store: Store, name: str, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._reader: StoreReader | None = store.open_reader()
        self._store = store
        self._pool = ThreadPool(name, 1)
        self._monotonic = monotonic

    async def run(self, function: Callable[[StoreReader], T], *, longest: float | None = None) -> T:
        """Call `function` with the reader, for `longest` seconds at most. Cancelled, it is interrupted.

        Raises:
          SpoolError: it took too long, or could not be read.
        """
        if self._reader is None:
            await trio.lowlevel.checkpoint()
            return function(self._store)
        return await run_in_thread(self._pool, self._look, self._reader, function, longest or LONGEST)

    def _look(self, reader: StoreReader, function: Callable[[StoreReader], T], longest: float) -> T:
        assert isinstance(reader, SqliteReader)
        deadline = self._monotonic() + longest

        def interrupt() -> bool:
            check_cancelled()
            return self._monotonic() > deadline

        reader.connection.set_progress_handler(interrupt, _STEPS)
        try:
            return function(reader)
        except apsw.InterruptError as cause:
            raise SpoolError(f"reading took longer than {longest:g} s; ask for less at a time") from cause
        except apsw.Error as cause:
            raise SpoolError(f"the spool cannot be read: {cause}") from cause
        finally:
            reader.connection.set_progress_handler(None)

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
