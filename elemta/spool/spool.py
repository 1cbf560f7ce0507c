"""The asynchronous face of the spool that everybody uses, with the durability promise of each method."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

from elemta.mail import Cause, Envelope, MessageId, Origin, marks_of
from elemta.runtime import ThreadPool, WallClock

from .bodies import Bodies, BodyReader, StoredContent
from .budget import MemoryBudget
from .draft import Draft
from .errors import SpoolFull, SpoolUnavailable
from .handover import Handover, Intake
from .operating import CHUNK, Operating
from .readers import Reader
from .recover import Recovery
from .requests import Accept, Operation, Record
from .space import Space
from .store import Store
from .values import (
    AttemptRecord,
    Claim,
    NewMessage,
    Receipt,
    StoredMessage,
)
from .writer import Writer, WriterStatistics

T = TypeVar("T")

_MOST_CLAIMED = 256
"""Recipients of one claim: a few milliseconds of the event loop."""
_IN_MEMORY = 1 << 62


class Spool(Operating):
    """The spool of this process. Made by `open_spool`; safe to use from any task."""

    def __init__(
        self,
        store: Store,
        writer: Writer,
        handover: Handover,
        *,
        clock: WallClock,
        inline_size: int,
        draft_memory: int,
        space: Space | None,
        readers: tuple[Reader, Reader],
        files: ThreadPool,
        recovery: Recovery,
        on_trouble: Callable[[str, str], None],
    ) -> None:
        looks, bodies = readers
        super().__init__(store, writer, handover, looks, files, clock)
        self.recovery = recovery
        """What start-up found."""
        self._inline_size = _IN_MEMORY if store.directory is None else inline_size
        self._draft_memory = MemoryBudget(draft_memory)
        self._space = space
        self._on_trouble = on_trouble
        self._bodies = Bodies(
            store.directory,
            bodies,
            files,
            on_corrupt=lambda message, problem: on_trouble("corrupt", f"{message}: {problem}"),
        )
        self._was_full = False

    # Accepting

    def check_room(self, size: int = 0) -> None:
        """Whether a message of that size may be taken now. Sync and cheap: for every MAIL.

        Raises:
          SpoolFull: answer 452 4.3.1.
          SpoolUnavailable: storage failed.
        """
        self._writer.check_alive()
        try:
            if self._writer.deliveries_paused:
                raise SpoolFull("the disk is full")
            if self._space is not None:
                self._space.check(size)
        except SpoolFull as problem:
            if not self._was_full:
                self._was_full = True
                self._on_trouble("full", str(problem))
            raise
        if self._was_full:
            self._was_full = False
            self._on_trouble("recovered", "there is room for new mail again")

    def new_draft(self, message: MessageId) -> Draft:
        """Somewhere to put a body that is about to come in. End it with `commit` or `Draft.discard`."""
        return Draft(
            message,
            self._store.directory,
            inline_size=self._inline_size,
            pool=self._files,
            on_failure=self._writer.fail,
            memory=self._draft_memory,
        )

    async def commit(
        self,
        draft: Draft,
        *,
        message: MessageId,
        envelope: Envelope,
        origin: Origin,
        prefix: bytes,
        hold: str | None = None,
        notices: Sequence[NewMessage] = (),
    ) -> Receipt:
        """Store the message durably and return its receipt: it is on stable storage, for all recipients.

        If cancelled while waiting for its turn, nothing is stored, and the draft is to be discarded.
        Once the writer has taken it, the wait cannot be cancelled and the receipt is returned.
        With `hold` its recipients wait for an operator, for that reason. The `notices` are stored with it.

        Raises:
          SpoolFull: nothing is stored; answer 452.
          SpoolUnavailable: unknown; send no reply at all and close the connection (RELIABILITY D4).
          SpoolError: this message cannot be stored; nothing is.
        """
        assert draft.message == message
        await draft.finish()
        new = NewMessage(
            message,
            envelope,
            origin,
            prefix,
            draft.body,
            draft.size + len(prefix),
            draft.digest(prefix),
            self._clock.time(),
            hold,
            marks_of(draft.head),
        )
        try:
            receipt = await self._writer.submit(Accept(new, self._handover, tuple(notices)))
        except SpoolUnavailable:
            draft.keep()  # the row may be there after all; if not, the next start sweeps the file
            raise
        draft.keep()
        return receipt

    def set_intake(self, intake: Intake | None) -> None:
        """From now on offer new messages to this queue; `None`: to nobody, they are stored as due."""
        self._handover.intake = intake

    # Attempts

    @property
    def deliveries_paused(self) -> bool:
        """Results cannot be written (the disk is full): start no attempt, or it may be made twice."""
        return self._writer.deliveries_paused

    @property
    def pending_records(self) -> int:
        """What was recorded and is not durable yet, for back-pressure."""
        return self._writer.pending_records

    async def claim(
        self, limit: int, *, now: float | None = None, avoid: Collection[str] = ()
    ) -> list[Claim]:
        """Take recipients that are due, oldest first: at most `limit`, perhaps fewer although more are
        due (ask again), none while deliveries are paused, none in the domains `avoid`. The bodies stay in the
        spool. With `now` those that were due then: nothing more, should the clock be set before it is done.

        If cancelled while waiting for its turn, nothing is claimed. Later, the claims are returned.

        Raises:
          SpoolUnavailable: storage failed.
        """
        handover = self._handover

        def take(store: Store) -> list[Claim]:
            lease, until = handover.next_lease(), handover.lease_until()
            moment = self._clock.time() if now is None else now
            return store.claim(max(0, min(limit, _MOST_CLAIMED)), lease, moment, until, avoid=avoid)

        try:
            return await self._writer.submit(Operation(take))
        except SpoolFull:
            return []

    async def shift_due(self, after: float, until: float, *, by: float) -> int:
        """The clock was set: move due times in [after, until] by `by` seconds, but not those of
        recipients that await their release; returns how many. In steps; cancelled, those done stay.

        Raises:
          SpoolFull: the rest stays as it is; ask again.
          SpoolUnavailable: storage failed.
        """
        moved, start = 0, after
        while True:
            step = functools.partial(_shift, start, until, by)
            count, further = await self._writer.submit(Operation(step))
            moved += count
            if further is None:
                return moved
            start = further

    async def clamp_due(self, now: float, *, waiting: float, leased: float) -> int:
        """Make due now what would wait for longer than `waiting` seconds, unless it awaits its release, and
        let no lease last longer than `leased` seconds; returns how many. In steps, as `shift_due`.

        Raises what `shift_due` raises.
        """
        moved = 0
        while True:
            step = functools.partial(_clamp, now, waiting, leased)
            count = await self._writer.submit(Operation(step))
            moved += count
            if count < CHUNK:
                return moved

    async def next_due(self, *, avoid: Collection[str] = ()) -> float | None:
        """When the next recipient that nobody holds or has claimed is due, outside of the domains `avoid`;
        seconds since 1970.

        As far as it is committed: `Intake.wake` follows what is recorded and becomes due.
        """
        return await self._writer.submit(Operation(lambda store: store.next_due(avoid), writes=False))

    def record(self, record: AttemptRecord) -> None:
        """Write down an attempt and the notices it causes, soon: with the next batch, or within 20 ms.

        Sync, so no cancel can come between a delivery and its record. A lease that was lost is
        reported and changes nothing.

        Raises:
          SpoolUnavailable: storage failed.
        """
        self._writer.add(Record(record, self._handover, self._clock.time()))

    def unclaim(
        self, message: MessageId, leases: Sequence[tuple[int, int]], due: float | None, reason: Cause
    ) -> None:
        """Give back (index, lease) pairs that were not tried, to be held where `due` is `None`; sync like
        `record`."""
        pairs = tuple(leases)
        give_back = Operation(lambda store: store.unclaim(message, pairs, due, reason), wakes=due is not None)
        self._writer.add(give_back)

    def extend(self, message: MessageId, leases: Sequence[tuple[int, int]]) -> None:
        """Keep claims that are still worked on for another lease from now; sync like `record`."""
        pairs, until = tuple(leases), self._handover.lease_until()
        self._writer.add(Operation(lambda store: store.extend(message, pairs, until)))

    async def wait_recorded(self) -> None:
        """Wait until everything that was recorded, given back or extended so far is durable.

        Raises:
          SpoolUnavailable: storage failed; it may not be.
        """
        await self._writer.wait_lazy()

    def open_body(self, message: StoredMessage) -> AbstractAsyncContextManager[BodyReader]:
        """A reader of the body, which has been checked against its digest when it is entered.

        Raises (on entering):
          BodyCorrupt: it must not be sent.
        """
        return self._bodies.open(message)

    def content(self, message: StoredMessage) -> StoredContent:
        """The message in the form that transports take."""
        return StoredContent(message, self._bodies)

    def statistics(self) -> WriterStatistics:
        """What the writer did and has before it. Sync."""
        return self._writer.statistics()


def _shift(after: float, until: float, by: float, store: Store) -> tuple[int, float | None]:
    return store.shift_due(after, until, by, CHUNK)


def _clamp(now: float, waiting: float, leased: float, store: Store) -> int:
    return store.clamp_due(now, waiting=waiting, leased=leased, limit=CHUNK)
