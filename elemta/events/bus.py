"""Tell everyone who watches: publish is sync, cannot fail, and waits for nobody.

A slow watcher loses its oldest events and is told how many; a broken one is contained and counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from types import TracebackType
from typing import TypeAlias

import attrs
import trio

from elemta.runtime import get_logger, summarize

from .spans import Spans
from .types import Event

OnEvent: TypeAlias = Callable[[Event], None]

_log = get_logger(__name__)


@attrs.frozen
class Batch:
    """What a subscription received at once, oldest first."""

    events: tuple[Event, ...]
    lost: int
    """Events before these that were dropped because the subscriber was slow."""


@attrs.frozen
class ObserverStatistics:
    name: str
    failures: int
    last_error: str


@attrs.frozen
class SubscriptionStatistics:
    name: str
    waiting: int
    lost: int


@attrs.frozen
class BusStatistics:
    published: int
    observers: tuple[ObserverStatistics, ...]
    subscriptions: tuple[SubscriptionStatistics, ...]


class Observer:
    """A callback on the bus; `close()` takes it off."""

    def __init__(self, bus: EventBus, name: str, callback: OnEvent) -> None:
        self.name = name
        self.failures = 0
        self.last_error = ""
        self._bus = bus
        self._callback = callback

    def close(self) -> None:
        """Idempotent; also from within the callback."""
        self._bus._remove_observer(self)

    def _failed(self, event: Event, error: Exception) -> None:
        self.failures += 1
        self.last_error = summarize(error)
        # Powers of two: an observer that fails for every event must not fill the log.
        if self.failures & (self.failures - 1) == 0:
            _log.error(
                "an event observer failed",
                observer=self.name,
                event_type=event.type,
                error=self.last_error,
                failures=self.failures,
            )


class Subscription:
    """A bounded stream of events for one task. Close it, or use it in a `with` block."""

    def __init__(self, bus: EventBus, name: str, size: int, types: frozenset[str] | None) -> None:
        self.name = name
        self.lost = 0
        """In total."""
        self._bus = bus
        self._types = types
        self._events: deque[Event] = deque(maxlen=size)
        self._size = size
        self._untold = 0
        self._arrived = trio.Event()
        self._closed = False

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def receive_batch(self) -> Batch:
        """Wait until there is something; then all of it. For one task at a time.

        Cancelled: nothing is taken.

        Raises:
          trio.ClosedResourceError: the subscription is closed.
        """
        if self._events and not self._closed:
            await trio.lowlevel.checkpoint()
        while not self._closed and not self._events:
            await self._arrived.wait()
        if self._closed:
            raise trio.ClosedResourceError
        self._arrived = trio.Event()
        batch = Batch(tuple(self._events), self._untold)
        self._events.clear()
        self._untold = 0
        return batch

    def close(self) -> None:
        """Take it off the bus; what was not received is gone. Idempotent."""
        self._closed = True
        self._events.clear()
        self._bus._remove_subscription(self)
        self._arrived.set()

    def _put(self, event: Event) -> None:
        if self._types is not None and event.type not in self._types:
            return
        events = self._events
        if not events:
            self._arrived.set()
        elif len(events) == self._size:
            # the deque drops its oldest
            self.lost += 1
            self._untold += 1
        events.append(event)


class EventBus:
    """Where events go. Used from Trio's thread only; there is nothing to open or end."""

    def __init__(self) -> None:
        # Replaced whole, so that a watcher may come or go while an event is published.
        self._observers: tuple[Observer, ...] = ()
        self._subscriptions: tuple[Subscription, ...] = ()
        self._published = 0
        self.spans = Spans()
        """Where steps are measured, for who wants to know how long they took."""

    def publish(self, event: Event) -> None:
        """Show the event to every watcher. Sync; never raises an observer's error, never waits."""
        self._published += 1
        for observer in self._observers:
            try:
                observer._callback(event)
            except Exception as error:
                observer._failed(event, error)
        for subscription in self._subscriptions:
            subscription._put(event)

    def observe(self, name: str, callback: OnEvent) -> Observer:
        """Call `callback(event)` inside each `publish`, before it returns: keep it to a microsecond.

        What it raises is counted and goes no further.
        """
        observer = Observer(self, name, callback)
        self._observers = (*self._observers, observer)
        return observer

    def subscribe(self, size: int, *, name: str = "", types: Collection[str] | None = None) -> Subscription:
        """A stream from now on, of at most `size` waiting events; with `types` only those of them."""
        if size < 1:
            raise ValueError("size must be at least 1")
        subscription = Subscription(self, name, size, None if types is None else frozenset(types))
        self._subscriptions = (*self._subscriptions, subscription)
        return subscription

    def statistics(self) -> BusStatistics:
        return BusStatistics(
            self._published,
            tuple(ObserverStatistics(each.name, each.failures, each.last_error) for each in self._observers),
            tuple(
                SubscriptionStatistics(each.name, len(each._events), each.lost)
                for each in self._subscriptions
            ),
        )

    def _remove_observer(self, observer: Observer) -> None:
        self._observers = tuple(each for each in self._observers if each is not observer)

    def _remove_subscription(self, subscription: Subscription) -> None:
        self._subscriptions = tuple(each for each in self._subscriptions if each is not subscription)
