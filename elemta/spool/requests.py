"""What a batch is made of: each request knows its statements and what follows when they are stored or not."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Generic, TypeVar

import attrs
import outcome
import trio

from .handover import Handover, Offer
from .store import Store
from .values import AttemptRecord, NewMessage, Receipt

T = TypeVar("T")


class RequestState(enum.Enum):
    WAITING = enum.auto()
    """May still be withdrawn: the store has not seen it."""
    TAKEN = enum.auto()
    """In a batch: will be decided, and whoever waits for it waits for that."""
    DONE = enum.auto()


@attrs.define(eq=False)
class Request(ABC, Generic[T]):
    """One thing to be done in the store, and perhaps a task that waits for it."""

    state: RequestState = attrs.field(default=RequestState.WAITING, init=False)
    task: trio.lowlevel.Task | None = attrs.field(default=None, init=False)
    result: T | None = attrs.field(default=None, init=False)
    error: Exception | None = attrs.field(default=None, init=False)
    """Its own failure; the rest of the batch is not touched by it."""

    writes = True
    """Whether it needs a transaction."""

    @property
    def weight(self) -> int:
        """About how many statements it takes."""
        return 4

    @property
    def octets(self) -> int:
        return 0

    @abstractmethod
    def apply(self, store: Store) -> None:
        """Run the statements and set `result`; raising undoes them."""

    def stored(self) -> bool:
        """The batch is durable. Returns whether something became due."""
        return False

    def undone(self) -> None:
        """Nothing of it is stored, or nobody knows; `apply` may come again."""

    def settle(self, verdict: outcome.Outcome[T]) -> None:
        """Decided, once and for all: let the waiting task go on."""
        if self.state is RequestState.DONE:
            return
        self.state = RequestState.DONE
        if self.task is not None:
            task, self.task = self.task, None
            trio.lowlevel.reschedule(task, verdict)


@attrs.define(eq=False)
class Operation(Request[T]):
    """A function of the store."""

    function: Callable[[Store], T]
    writes: bool = True
    wakes: bool = False
    """Whether something may be due when it is stored."""

    def apply(self, store: Store) -> None:
        self.result = self.function(store)

    def stored(self) -> bool:
        return self.wakes


@attrs.define(eq=False)
class Accept(Request[Receipt]):
    """Store a new message, with the notices that follow from its coming."""

    message: NewMessage
    handover: Handover
    notices: tuple[NewMessage, ...] = ()
    offers: list[Offer | None] = attrs.field(factory=list)

    @property
    def weight(self) -> int:
        return 4 + len(self.message.envelope.recipients) + 5 * len(self.notices)

    @property
    def octets(self) -> int:
        return sum(len(each.body or b"") for each in (self.message, *self.notices))

    def apply(self, store: Store) -> None:
        for message in (self.message, *self.notices):
            offer = self.handover.offer(message)
            self.offers.append(offer)
            lease = None if offer is None else offer.lease
            store.accept(message, lease=lease, lease_until=self.handover.lease_until())
        self.result = Receipt(self.message.id)

    def stored(self) -> bool:
        due = False
        for message, offer in zip((self.message, *self.notices), self.offers, strict=True):
            if offer is not None:
                self.handover.complete(offer)
            else:
                due = due or message.hold is None
        return due

    def undone(self) -> None:
        for offer in self.offers:
            if offer is not None:
                self.handover.withdraw(offer)
        self.offers.clear()


@attrs.define(eq=False)
class Record(Request[bool]):
    """Write down what an attempt did, with the notices that follow from it."""

    record: AttemptRecord
    handover: Handover
    now: float
    offers: list[Offer | None] = attrs.field(factory=list)

    @property
    def weight(self) -> int:
        return 4 + 2 * len(self.record.results)

    @property
    def octets(self) -> int:
        return sum(len(notice.body or b"") for notice in self.record.notices)

    def apply(self, store: Store) -> None:
        for notice in self.record.notices:
            self.offers.append(self.handover.offer(notice))
        leases = [None if offer is None else offer.lease for offer in self.offers]
        self.result = store.record(
            self.record, self.now, notice_leases=leases, lease_until=self.handover.lease_until()
        )

    def stored(self) -> bool:
        for offer in self.offers:
            if offer is not None:
                self.handover.complete(offer)
        return None in self.offers or any(result.due is not None for result in self.record.results)

    def undone(self) -> None:
        for offer in self.offers:
            if offer is not None:
                self.handover.withdraw(offer)
        self.offers.clear()
