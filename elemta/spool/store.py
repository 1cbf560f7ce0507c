"""The synchronous contract of a store, and the values that go in and out of it.

A store is used by one writer only: its methods change state inside a transaction that the writer
opens and commits. They run between two checkpoints of the event loop and wait for nothing;
`commit` alone flushes to the disk and may run in another thread (never at the same time as another
call). Times are seconds since 1970 on the wall clock.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, TypeAlias

import attrs

from elemta.mail import Cause, Envelope, MessageId, Origin, Outcome, Recipient

PRIORITY_SECONDS = 60.0
"""What one level of priority (RFC 6710) is worth in seconds of waiting, wherever mail queues up."""


class RecipientState(enum.IntEnum):
    """Where a recipient stands. Exactly one owner at any time: a lease, a due time, or a hold."""

    QUEUED = 0
    HELD = 1
    DELIVERED = 2
    FAILED = 3
    EXPIRED = 4
    REMOVED = 5

    @property
    def is_final(self) -> bool:
        return self >= RecipientState.DELIVERED


@attrs.frozen
class NewMessage:
    """A message that is to be stored, complete: trace fields and all."""

    id: MessageId
    envelope: Envelope
    origin: Origin
    prefix: bytes
    """Header fields that were put before the body as received (Received …)."""
    body: bytes | None
    """What was received. `None`: it lies in the body file of that id, already synced."""
    size: int
    """Octets of prefix and body."""
    digest: bytes
    """BLAKE2b-128 of body, then prefix."""
    received: float
    hold: str | None = None
    """Hold all recipients, for this reason."""

    @property
    def awaits_release(self) -> bool:
        """Whether it may not be tried yet (RFC 4865)."""
        release = self.envelope.release_at
        return release is not None and release > self.received

    @property
    def first_due(self) -> float:
        """When its recipients are due, if they are not claimed at once. What is urgent is due as if it had
        waited already (RFC 6710), so that it is claimed first without a further index."""
        if self.awaits_release:
            assert self.envelope.release_at is not None
            return self.envelope.release_at
        return self.received - PRIORITY_SECONDS * max(0, self.envelope.priority)

    @property
    def first_reason(self) -> str:
        """Why they wait until then."""
        return Cause.FUTURE_RELEASE.value if self.awaits_release else "new"


@attrs.frozen
class Receipt:
    """The message is on stable storage; say so to the client."""

    message: MessageId


@attrs.frozen
class StoredMessage:
    """A message as the queue and the transports see it."""

    id: MessageId
    envelope: Envelope
    origin: Origin
    prefix: bytes
    body: bytes | None
    """In memory, or `None`: ask `Spool.open_body`."""
    size: int
    digest: bytes
    received: float


@attrs.frozen
class ClaimedRecipient:
    """One recipient that an attempt now owns."""

    index: int
    """Position in the envelope."""
    recipient: Recipient
    attempts: int
    """With this one."""
    lease: int
    """Number to present when recording."""
    delay_noticed: bool = False
    """Whether the sender was already told that it is late."""
    interrupted: int = 0
    """Attempts in a row that crashed, or whose process died before it wrote down what became of them."""


@attrs.frozen
class Claim:
    """Recipients of one message that this process may now try."""

    message: StoredMessage
    recipients: tuple[ClaimedRecipient, ...]


@attrs.frozen
class RecipientResult:
    """What an attempt did to one recipient and what follows."""

    index: int
    lease: int
    outcome: Outcome
    state: RecipientState
    """Final, or QUEUED to try again at `due`, or HELD."""
    due: float | None = None
    delay_noticed: bool = False
    hold: str | None = None
    """Why, where HELD for another reason than the outcome's."""
    crashed: bool = False
    """The attempt crashed: it counts as interrupted. One that did not sets that count back to 0."""


@attrs.frozen
class AttemptRecord:
    """The results of one attempt and the notices they cause: one transaction, all or nothing."""

    message: MessageId
    results: tuple[RecipientResult, ...]
    notices: tuple[NewMessage, ...] = ()

    def __attrs_post_init__(self) -> None:
        if len({result.index for result in self.results}) != len(self.results):
            raise ValueError("a recipient twice in one record")


@attrs.frozen
class Removal:
    """What an operator's removal ended."""

    recipients: int
    messages: tuple[MessageId, ...]
    """Those of which nothing is left, in order."""


@attrs.frozen
class QueueFilter:
    """Which recipients an operation or listing is about; what is None does not restrict."""

    messages: tuple[MessageId, ...] | None = None
    sender: str | None = None
    """Exact address; `<>` is the null sender."""
    recipient: str | None = None
    domain: str | None = None
    """Of the recipient."""
    state: RecipientState | None = None


@attrs.frozen
class RecipientEntry:
    """One recipient as listings show it."""

    index: int
    address: str
    state: RecipientState
    attempts: int
    due: float | None
    """Next attempt, where queued."""
    leased: bool
    """An attempt is under way."""
    reason: str
    """Machine-readable: a `Cause`, `new`, or why it is held."""
    reply: str
    """The last reply or error in one line, escaped where shown."""
    remote: str
    last_attempt: float | None
    interrupted: int = 0
    """The last attempts in a row that crashed or ended with their process; each may have been a delivery
    (RFC 1047)."""


@attrs.frozen
class QueueEntry:
    """One message as listings show it."""

    id: MessageId
    sender: str
    received: float
    size: int
    peer: str
    recipients: tuple[RecipientEntry, ...]


@attrs.frozen
class SpoolStatistics:
    """Counts of recipients. `accepted` counts every recipient ever stored, notices included;
    accepted = delivered + failed + expired + removed + held + queued, at any time."""

    accepted: int
    delivered: int
    failed: int
    expired: int
    removed: int
    held: int
    queued: int
    """Waiting or under way."""
    leased: int
    """The part of `queued` that is under way."""
    messages: int
    octets: int
    oldest: float | None
    """When the oldest message that is still here was received."""


@attrs.frozen
class Corrupt:
    """A message that is there but cannot be sent; its recipients are held with the reason `corrupt`."""

    message: MessageId
    problem: str


@attrs.frozen
class Aftermath:
    """What the last commit leaves to do outside the transaction."""

    body_files: tuple[MessageId, ...] = ()
    """Messages that are gone and whose body lies in a file."""
    corrupt: tuple[Corrupt, ...] = ()
    """Messages that were found damaged and are now held."""


NO_AFTERMATH = Aftermath()


# Inside the classes below `list` is a method, so these types have names.
QueueEntries: TypeAlias = list[QueueEntry]
MessageIds: TypeAlias = list[MessageId]


class StoreReader(ABC):
    """Looking at what is stored, without changing it."""

    @abstractmethod
    def next_due(self) -> float | None:
        """The earliest due time of a recipient that is neither held nor leased."""

    @abstractmethod
    def list(self, which: QueueFilter, *, after: MessageId | None, limit: int) -> QueueEntries:
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
    def matching(self, which: QueueFilter, *, after: MessageId | None, limit: int) -> MessageIds:
        """As `list`, the ids only."""

    @abstractmethod
    def statistics(self) -> SpoolStatistics: ...

    @abstractmethod
    def close(self) -> None: ...


class Store(StoreReader):
    """What a spool writes to."""

    flushes: ClassVar[bool]
    """Whether `commit` and `checkpoint` wait for a disk and so belong in a thread."""
    directory: Path | None = None
    """Folder for the bodies that are kept as files; `None`: every body is kept in the store."""

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
    def claim(self, limit: int, lease: int, now: float, lease_until: float) -> list[Claim]:
        """Take up to `limit` due recipients, oldest due time first, grouped by message.

        Raises the attempt count and moves `due` to `lease_until` in the same step, so that a
        process that dies simply does not come back for them before that.
        """

    @abstractmethod
    def unclaim(
        self, message: MessageId, leases: Sequence[tuple[int, int]], due: float, reason: Cause
    ) -> None:
        """Give back (index, lease) pairs that were not tried: due again at `due`, the attempt not counted."""

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
    def remove(self, which: QueueFilter) -> Removal:
        """End matching recipients that are not leased, without a notice."""
