"""The asynchronous face of the spool that everybody uses, with the durability promise of each method."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Protocol

from elemta.config import SpoolConfig
from elemta.mail import Cause, Envelope, MessageId, Origin

from .draft import Draft
from .store import (
    AttemptRecord,
    Claim,
    QueueEntry,
    QueueFilter,
    Receipt,
    SpoolStatistics,
    Store,
    StoredMessage,
)


class Intake(Protocol):
    """Where freshly accepted messages go at once, if there is room (the queue)."""

    def reserve(self, octets: int, recipients: int) -> bool: ...
    def cancel(self, octets: int, recipients: int) -> None: ...
    def put(self, claim: Claim) -> None: ...
    def wake(self) -> None: ...


class BodyReader(Protocol):
    async def read(self) -> bytes: ...


class Content(Protocol):
    @property
    def prefix(self) -> bytes: ...
    @property
    def body(self) -> bytes | None: ...
    @property
    def size(self) -> int: ...
    def open(self) -> AbstractAsyncContextManager[BodyReader]: ...


class Spool:
    """The spool of this process."""

    deliveries_paused: bool
    """Completions cannot be written (disk full): start no new attempt, so that nothing is sent twice."""
    pending_records: int
    """Records not yet committed, for back-pressure."""

    def new_draft(self, message: MessageId) -> Draft:
        raise NotImplementedError

    async def commit(
        self,
        draft: Draft,
        *,
        message: MessageId,
        envelope: Envelope,
        origin: Origin,
        prefix: bytes,
        hold: str | None = None,
    ) -> Receipt:
        raise NotImplementedError

    def set_intake(self, intake: Intake | None) -> None:
        raise NotImplementedError

    def record(self, record: AttemptRecord) -> None:
        raise NotImplementedError

    def unclaim(
        self, message: MessageId, leases: Sequence[tuple[int, int]], due: float, reason: Cause
    ) -> None:
        raise NotImplementedError

    def extend(self, message: MessageId, leases: Sequence[tuple[int, int]]) -> None:
        """Keep claims for another `lease` seconds from now."""
        raise NotImplementedError

    async def wait_recorded(self) -> None:
        raise NotImplementedError

    async def claim(self, limit: int) -> list[Claim]:
        """Up to `limit` due recipients (perhaps fewer although more are due; `[]` while deliveries are paused)."""
        raise NotImplementedError

    async def next_due(self) -> float | None:
        raise NotImplementedError

    async def hold(self, which: QueueFilter, reason: str) -> int:
        raise NotImplementedError

    async def release(self, which: QueueFilter) -> int:
        raise NotImplementedError

    async def retry(self, which: QueueFilter) -> int:
        raise NotImplementedError

    async def remove(self, which: QueueFilter) -> list[MessageId]:
        raise NotImplementedError

    async def list(
        self, which: QueueFilter, *, after: MessageId | None = None, limit: int = 100
    ) -> list[QueueEntry]:
        raise NotImplementedError

    async def show(self, message: MessageId) -> QueueEntry | None:
        raise NotImplementedError

    async def stored(self, message: MessageId) -> StoredMessage | None:
        raise NotImplementedError

    async def totals(self) -> SpoolStatistics:
        """Counts of all recipients (a read in a thread)."""
        raise NotImplementedError

    def open_body(self, message: StoredMessage) -> AbstractAsyncContextManager[BodyReader]:
        raise NotImplementedError

    def content(self, message: StoredMessage) -> Content:
        raise NotImplementedError

    def check_room(self, size: int = 0) -> None:
        raise NotImplementedError


@asynccontextmanager
async def open_spool(
    state_dir: Path,
    config: SpoolConfig,
    *,
    message_size: int,
    lease: float = 900.0,
    clock: object,
    random: Random,
    on_trouble: Callable[[str, str], None],
    store: Store | None = None,
) -> AsyncGenerator[Spool, None]:
    raise NotImplementedError
    yield
