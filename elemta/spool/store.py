"""The synchronous contract of a store.

A store is used by one writer only: its methods change state inside a transaction that the writer
opens and commits. They run between two checkpoints of the event loop and wait for nothing;
`commit` alone flushes to the disk and may run in another thread (never at the same time as another
call). Times are seconds since 1970 on the wall clock.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import ClassVar, TypeAlias

from elemta.mail import Cause, MessageId

from .clues import Block, Span
from .values import (
    Aftermath,
    AttemptRecord,
    BacklogShare,
    Claim,
    Difference,
    History,
    NewMessage,
    Page,
    Pause,
    PauseKind,
    QueueEntry,
    QueueFilter,
    Removal,
    ShareKey,
    SpoolStatistics,
    StoredMessage,
    Wanted,
)

# Inside the classes below `list` is a method, so these types have names.
QueueEntries: TypeAlias = list[QueueEntry]
Place: TypeAlias = int | MessageId | None
"""Where a listing goes on: behind a place, or a message; `None`: from the first."""
Differences: TypeAlias = list[Difference]
Leases: TypeAlias = list[tuple[MessageId, int, int]]
Shares: TypeAlias = list[BacklogShare]
Pauses: TypeAlias = list[Pause]
Ids: TypeAlias = list[MessageId]
Blocks: TypeAlias = list[int]


class StoreReader(ABC):
    """Looking at what is stored, without changing it."""

    @abstractmethod
    def next_due(self, avoid: Collection[str] = ()) -> float | None:
        """The earliest due time of a recipient that is neither held, leased nor in the domains `avoid`."""

    @abstractmethod
    def list(self, which: QueueFilter, *, after: Place, limit: int) -> QueueEntries:
        """Messages with a matching recipient, oldest first, behind `after`, at most `limit`."""

    @abstractmethod
    def show(self, message: MessageId) -> QueueEntry | None:
        """One message with all its recipients."""

    @abstractmethod
    def stored(self, message: MessageId) -> StoredMessage | None:
        """One message with its envelope; the body stays where it is."""

    @abstractmethod
    def body(self, message: MessageId) -> bytes | None:
        """The body as kept in the store; None where it lies in a file or there is no such message."""

    @abstractmethod
    def body_files(self) -> dict[MessageId, int]:
        """Messages whose body lies in a file, with the octets that it must have."""

    @abstractmethod
    def matching(self, which: QueueFilter, *, after: Place, limit: int) -> Page:
        """As `list`, the ids only."""

    @abstractmethod
    def statistics(self) -> SpoolStatistics: ...

    @abstractmethod
    def history(self, message: MessageId) -> History | None:
        """The life of a message that is here, or was and is still known."""

    @abstractmethod
    def find_living(self, wanted: Wanted, limit: int) -> Ids:
        """Messages that are here, the oldest first. May find some more: `Wanted.is_met_by` is exact."""

    @abstractmethod
    def find_ended(self, wanted: Wanted, limit: int) -> Ids:
        """Messages that are gone and still known, the last ones first; as above."""

    def next_span(self) -> Span | None:
        """What the index of searches can take next; None: nothing, or there is no index."""
        return None

    def make_block(self, span: Span) -> Block:
        """Go through the rows of a span, whose frontier was moved."""
        raise NotImplementedError

    def stale_blocks(self) -> Blocks:
        """Blocks of the index of which nothing is left."""
        return []

    @abstractmethod
    def pauses(self) -> Pauses:
        """What is paused, or was until its time was over."""

    @abstractmethod
    def shares(self, by: ShareKey, limit: int) -> Shares:
        """What most of the backlog has in common."""

    @abstractmethod
    def audit(self, limit: int) -> Differences:
        """Compare everything that must agree; at most `limit` differences of each kind. The body files are
        the caller's to look at (`body_files`)."""

    @abstractmethod
    def leases(self) -> Leases:
        """Message, position and lease of what is claimed."""

    @abstractmethod
    def close(self) -> None: ...


class Store(StoreReader):
    """What a spool writes to."""

    flushes: ClassVar[bool]
    """Whether `commit` and `checkpoint` wait for a disk and so belong in a thread."""
    directory: Path | None = None
    """Folder for the bodies that are kept as files; `None`: every body is kept in the store."""
    keeps_ended: bool = True
    """Whether the history of a message outlives it, until `forget`."""

    @abstractmethod
    def begin(self, *, careful: bool = False) -> None:
        """Open the transaction of a batch; with `careful` each operation can be undone by itself."""

    @abstractmethod
    def seal(self) -> None:
        """Do what is left to do before `commit` (the counters), so that it has nothing but to flush.

        Raises what `commit` raises. `commit` does it itself where the caller did not.
        """

    @abstractmethod
    def commit(self) -> None:
        """Make the batch durable; returns when it is on stable storage.

        Raises:
          SpoolFull: nothing of the batch is stored.
          SpoolUnavailable: unknown; the store must not be used again.
        """

    @abstractmethod
    def rollback(self) -> None:
        """Undo the batch; does nothing where the storage has already done so."""

    @abstractmethod
    def take_aftermath(self) -> Aftermath:
        """What is left to do since the last call; to be called behind a successful commit."""

    @property
    def checkpoint_size(self) -> int:
        """How much a `checkpoint` would move, in pages; 0: nothing."""
        return 0

    def checkpoint(self) -> None:
        """Move committed pages to where they belong; outside of transactions. May run in another thread.

        Raises:
          SpoolFull: nothing is lost; try again later.
          SpoolUnavailable: as in `commit`.
        """

    def open_reader(self) -> StoreReader | None:
        """A reader with a connection of its own for another thread; `None`: this store reads at once."""
        return None

    @abstractmethod
    def accept(self, message: NewMessage, *, lease: int | None, lease_until: float) -> None:
        """Store a message; with a lease its recipients start as claimed, first attempt counted.

        Raises:
          SpoolFull: there is no room for the batch; nothing but `rollback` may follow.
          SpoolError: there is such a message, or it cannot be written down; the rest of the batch
            is as it was.
        """

    @abstractmethod
    def record(
        self,
        record: AttemptRecord,
        now: float,
        *,
        notice_leases: Sequence[int | None] = (),
        lease_until: float = 0.0,
    ) -> bool:
        """Write down an attempt; returns whether the message is gone (all recipients final).

        Its notices are stored as `accept` does, with `notice_leases` in their order, none where
        that is shorter.

        Raises:
          LeaseLost: a lease in it is stale; nothing was changed.
          SpoolFull: there is no room for the batch; nothing but `rollback` may follow.
        """

    @abstractmethod
    def claim(
        self, limit: int, lease: int, now: float, lease_until: float, *, avoid: Collection[str] = ()
    ) -> list[Claim]:
        """Take up to `limit` due recipients, oldest due time first, grouped by message; none in the domains
        `avoid`, which stay due.

        Raises the attempt count and moves `due` to `lease_until` in the same step, so that a
        process that dies simply does not come back for them before that.
        """

    @abstractmethod
    def seize(self, which: QueueFilter, lease: int, lease_until: float) -> list[Claim]:
        """Take matching recipients that nobody has claimed, due or not, held ones too, to end them.

        No attempt is counted; what was held is held again if nothing is recorded.
        """

    @abstractmethod
    def unclaim(
        self, message: MessageId, leases: Sequence[tuple[int, int]], due: float | None, reason: Cause
    ) -> None:
        """Give back (index, lease) pairs that were not tried, the attempt not counted: due again at `due`, or
        held where that is `None`."""

    @abstractmethod
    def extend(self, message: MessageId, leases: Sequence[tuple[int, int]], lease_until: float) -> None:
        """Keep claims that are still being worked on."""

    @abstractmethod
    def shift_due(self, after: float, until: float, by: float, limit: int) -> tuple[int, float | None]:
        """The clock was set: move due times in [after, until] by `by` seconds, earliest first, of at most
        `limit` recipients that wait for an attempt. Those that await their release stay.

        Returns how many, and where to go on from (`after` of the next call); `None`: that was all.
        `until` may be infinite where `by` is below 0; else nothing moved may land in the range again.
        """

    @abstractmethod
    def clamp_due(self, now: float, *, waiting: float, leased: float, limit: int) -> int:
        """Nobody waits longer than any schedule says: make due now what is due in more than `waiting` seconds
        and does not await its release, and let no lease last longer than `leased` seconds from now.

        Of each at most `limit`; returns how many there were in all.
        """

    @abstractmethod
    def release_leases(self, now: float) -> int:
        """End all leases, because their process is known to be gone: due now, and counted as
        interrupted; returns how many."""

    @abstractmethod
    def hold(self, which: QueueFilter, reason: str) -> int:
        """Hold matching queued recipients (those under way are held when their attempt is recorded
        as deferred); returns how many."""

    @abstractmethod
    def release(self, which: QueueFilter, now: float) -> int:
        """Make matching held recipients due now, their crashes forgotten; returns how many."""

    @abstractmethod
    def retry(self, which: QueueFilter, now: float) -> int:
        """Make matching queued recipients that are not leased due now; returns how many."""

    @abstractmethod
    def remove(self, which: QueueFilter, now: float) -> Removal:
        """End matching recipients that are not leased, without a notice."""

    @abstractmethod
    def resume(self, which: QueueFilter, now: float) -> int:
        """Make matching recipients due now that were put aside because of a pause; returns how many."""

    @abstractmethod
    def set_pause(self, pause: Pause) -> None:
        """Write down a pause; one of the same kind and value is replaced."""

    @abstractmethod
    def end_pause(self, kind: PauseKind, value: str) -> bool:
        """Forget a pause; returns whether there was one."""

    def move_frontier(self, span: Span) -> None:
        """The index of searches will go up to there: what comes below from now on is late. Needs no batch."""
        raise NotImplementedError

    def add_block(self, block: Block) -> None:
        """Put it into the index."""
        raise NotImplementedError

    def drop_blocks(self, blocks: Sequence[int]) -> None:
        """Take these out of the index."""
        raise NotImplementedError

    @abstractmethod
    def forget(self, before: float, most: int, *, after: int, limit: int) -> tuple[int, int | None]:
        """Drop the histories of messages that ended before a time, and the oldest of more than `most`.

        Looks at `limit` of them behind `after` (0: from the first); returns how many it dropped, and where
        to go on from; `None`: that was all.
        """
