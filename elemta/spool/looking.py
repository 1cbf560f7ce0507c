"""Looking into the spool from the event loop: in a thread with a connection of its own.

What is seen was durable a moment ago.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import TypeVar

from elemta.mail import MessageId
from elemta.runtime import ThreadPool, WallClock, run_in_thread

from .audit import YOUNG_FILE, audit_files
from .errors import SpoolError
from .folder import BODIES
from .readers import Reader
from .store import Differences, Place, Store, StoreReader
from .values import (
    BacklogShare,
    Difference,
    History,
    Page,
    Pause,
    QueueEntry,
    QueueFilter,
    ShareKey,
    SpoolStatistics,
    StoredMessage,
    Wanted,
)

T = TypeVar("T")

LONGEST_AUDIT = 120.0


class Looking:
    """The part of the spool that changes nothing.

    All raise:
      SpoolError: it took too long, or could not be read.
    """

    def __init__(self, store: Store, looks: Reader, files: ThreadPool, clock: WallClock) -> None:
        self._store = store
        self._looks = looks
        self._files = files
        self._clock = clock

    async def list(self, which: QueueFilter, *, after: Place = None, limit: int = 100) -> list[QueueEntry]:
        """Messages with a matching recipient and those recipients, oldest first, behind `after`."""
        most = max(0, limit)
        return await self._looks.run(lambda reader: reader.list(which, after=after, limit=most))

    async def matching(self, which: QueueFilter, *, after: Place = None, limit: int = 100) -> Page:
        """As `list`, the ids only."""
        most = max(0, limit)
        return await self._looks.run(lambda reader: reader.matching(which, after=after, limit=most))

    async def show(self, message: MessageId) -> QueueEntry | None:
        """One message with all its recipients."""
        return await self._looks.run(lambda reader: reader.show(message))

    async def stored(self, message: MessageId) -> StoredMessage | None:
        """One message with its envelope."""
        return await self._looks.run(lambda reader: reader.stored(message))

    async def totals(self) -> SpoolStatistics:
        """Counts of all recipients, recounted."""
        return await self._looks.run(lambda reader: reader.statistics())

    async def history(self, message: MessageId) -> History | None:
        """The life of a message that is here, or was and is still known."""
        return await self._looks.run(functools.partial(_history, message))

    async def find(self, wanted: Wanted, *, limit: int = 20) -> tuple[History, ...]:
        """The lives of messages that are searched for: what is here first, then what is gone."""
        return tuple(await self._looks.run(lambda reader: find_lives(reader, wanted, limit=limit)))

    async def pauses(self) -> tuple[Pause, ...]:
        """What is paused, or was until its time was over."""
        return tuple(await self._looks.run(lambda reader: reader.pauses()))

    async def shares(self, by: ShareKey, limit: int = 20) -> tuple[BacklogShare, ...]:
        """What most of the backlog has in common."""
        return tuple(await self._looks.run(lambda reader: reader.shares(by, limit)))

    async def leases(self) -> frozenset[tuple[MessageId, int, int]]:
        """Message, position and lease of all that is claimed."""
        return frozenset(await self._looks.run(lambda reader: reader.leases()))

    async def audit(self, limit: int = 20) -> tuple[Difference, ...]:
        """Compare everything that must agree, body files too; at most `limit` differences of each kind."""
        found = await self._looks.run(lambda reader: reader.audit(limit), longest=LONGEST_AUDIT)
        if self._store.directory is not None:
            found += await self._audit_files(limit)
        return tuple(found)

    async def _audit_files(self, limit: int) -> Differences:
        assert self._store.directory is not None
        look: Callable[..., Differences] = functools.partial(
            audit_files, self._store.directory / BODIES, before=time.time() - YOUNG_FILE
        )
        expected = await self._looks.run(lambda reader: reader.body_files())
        found = await run_in_thread(self._files, look, expected)
        if not found:
            return []
        # Meanwhile messages came and went: what is true remains.
        expected = await self._looks.run(lambda reader: reader.body_files())
        again = set(await run_in_thread(self._files, look, expected))
        return [each for each in found if each in again][:limit]


def find_lives(reader: StoreReader, wanted: Wanted, *, limit: int) -> list[History]:
    """As `Looking.find`.

    Raises:
      SpoolError: what is known of one is damaged.
    """
    ids = reader.find_living(wanted, limit)
    ids += reader.find_ended(wanted, limit - len(ids))
    lives = (_history(id, reader) for id in ids)
    return [life for life in lives if life is not None and wanted.is_met_by(life)]


def _history(message: MessageId, reader: StoreReader) -> History | None:
    try:
        return reader.history(message)
    except ValueError as problem:
        raise SpoolError(f"what is known of {message} is damaged: {problem}") from problem
