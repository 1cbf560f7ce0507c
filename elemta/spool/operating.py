"""What operators do to recipients: hold, release, retry, remove, pause. In steps, so that mail flows on."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

import attrs

from elemta.mail import MessageId
from elemta.runtime import ThreadPool, WallClock

from .handover import Handover
from .looking import Looking
from .readers import Reader
from .requests import Operation
from .store import Store
from .values import Claim, Pause, PauseKind, QueueFilter, Removal
from .writer import Writer

T = TypeVar("T")

CHUNK = 200
"""Messages that one step changes, so that new mail does not wait behind it."""


class Operating(Looking):
    """The part of the spool that operators use. Cancelled, the steps done so far stay.

    All raise:
      SpoolFull: the rest stays as it is.
      SpoolUnavailable: storage failed.
      SpoolError: the spool could not be read.
    """

    def __init__(
        self,
        store: Store,
        writer: Writer,
        handover: Handover,
        looks: Reader,
        files: ThreadPool,
        clock: WallClock,
    ) -> None:
        super().__init__(store, looks, files, clock)
        self._writer = writer
        self._handover = handover

    async def hold(self, which: QueueFilter, reason: str) -> int:
        """Hold queued recipients; returns how many."""
        return sum(await self._in_chunks(which, lambda store, chunk: store.hold(chunk, reason)))

    async def release(self, which: QueueFilter) -> int:
        """Make held recipients due now; returns how many."""
        counts = await self._in_chunks(which, lambda store, chunk: store.release(chunk, self._clock.time()))
        return self._woken(sum(counts))

    async def retry(self, which: QueueFilter) -> int:
        """Make queued recipients that are not under way due now; returns how many."""
        counts = await self._in_chunks(which, lambda store, chunk: store.retry(chunk, self._clock.time()))
        return self._woken(sum(counts))

    async def remove(self, which: QueueFilter) -> Removal:
        """End recipients that are not under way, without a notice."""
        chunks = await self._in_chunks(which, lambda store, chunk: store.remove(chunk, self._clock.time()))
        return Removal(
            sum(chunk.recipients for chunk in chunks),
            tuple(message for chunk in chunks for message in chunk.messages),
        )

    async def resume(self, which: QueueFilter) -> int:
        """Make recipients due now that a pause put aside; returns how many."""
        counts = await self._in_chunks(which, lambda store, chunk: store.resume(chunk, self._clock.time()))
        return self._woken(sum(counts))

    async def seize(self, messages: tuple[MessageId, ...], which: QueueFilter) -> list[Claim]:
        """Claim matching recipients of these messages that nobody has claimed, to end them. No attempt is
        counted; what was held is held again if nothing is recorded."""
        chunk = attrs.evolve(which, messages=messages)

        def take(store: Store) -> list[Claim]:
            return store.seize(chunk, self._handover.next_lease(), self._handover.lease_until())

        return await self._writer.submit(Operation(take))

    async def set_pause(self, pause: Pause) -> None:
        """Write down a pause; it is durable when this returns."""
        await self._writer.submit(Operation(lambda store: store.set_pause(pause)))

    async def end_pause(self, kind: PauseKind, value: str) -> bool:
        """Forget a pause; returns whether there was one."""
        return await self._writer.submit(Operation(lambda store: store.end_pause(kind, value)))

    def keep_ended(self, keep: bool) -> None:
        """Whether the histories of messages outlive them from now on."""
        self._store.keeps_ended = keep

    async def forget(self, before: float, most: int) -> int:
        """Drop the histories of messages that ended before a time, and the oldest of more than `most`."""
        dropped, after = 0, 0
        while True:
            step = functools.partial(_forget, before, most, after)
            count, further = await self._writer.submit(Operation(step))
            dropped += count
            if further is None:
                return dropped
            after = further

    async def _in_chunks(self, which: QueueFilter, change: Callable[[Store, QueueFilter], T]) -> list[T]:
        results = []
        after = None
        while True:
            page = await self.matching(which, after=after, limit=CHUNK)
            if page.messages:
                chunk = attrs.evolve(which, messages=page.messages)
                results.append(await self._writer.submit(Operation(functools.partial(_call, change, chunk))))
            if page.further is None:
                return results
            after = page.further

    def _woken(self, count: int) -> int:
        if count:
            self._handover.wake()
        return count


def _call(change: Callable[[Store, QueueFilter], T], which: QueueFilter, store: Store) -> T:
    return change(store, which)


def _forget(before: float, most: int, after: int, store: Store) -> tuple[int, int | None]:
    return store.forget(before, most, after=after, limit=CHUNK)
