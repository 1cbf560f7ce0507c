"""The last events with their numbers: what a live tail reads from, each watcher at its own pace.

Nothing is copied for a watcher: he is a place in the ring, and what he loses by being slow is what the
ring has dropped by then. So watchers cost `observe` nothing, however many there are and whatever they do.
"""

from __future__ import annotations

import trio

from elemta.events import Event, MessageAccepted, MessageRejected, log_record
from elemta.runtime import render_json

from .websocket import text_frame

_HEAVY = (MessageAccepted, MessageRejected)
"""Events that are as large as a client makes them: each recipient counts as one more."""


class EventRing:
    """The last `size` events; those of many recipients count more, which bounds the memory.

    The first number is the time of the start in microseconds since 1970 and each event takes the next. So
    numbers only grow, also from one life of the server to the next, and fit into JavaScript's integers.
    """

    def __init__(self, size: int, started: float) -> None:
        self.first = int(started * 1_000_000)
        """The number of the first event of this life."""
        self.oldest = self.first
        """The number of the oldest event that is kept."""
        self.newest = self.first - 1
        """The number of the last event."""
        self._size = size
        self._room = size
        self._events: list[Event | None] = [None] * size
        self._frames: list[bytes | None] = [None] * size
        self.waiting: trio.Event | None = None
        """Set by the next event, once."""

    def observe(self, event: Event) -> None:
        """Keep the event. For the event bus: sync, a microsecond at most."""
        number = self.newest = self.newest + 1
        place = number % self._size
        weight = 1 + len(event.recipients) if isinstance(event, _HEAVY) else 1
        self._room -= weight
        while self._room < 0 and self.oldest < number:
            self._drop_oldest()
        self._events[place] = event
        self._frames[place] = None
        if self.waiting is not None:
            self.waiting.set()
            self.waiting = None

    def _drop_oldest(self) -> None:
        place = self.oldest % self._size
        event = self._events[place]
        self._room += 1 + len(event.recipients) if isinstance(event, _HEAVY) else 1
        self._events[place] = self._frames[place] = None
        self.oldest += 1

    def event(self, number: int) -> Event:
        """One that is kept."""
        event = self._events[number % self._size]
        assert event is not None
        return event

    def frame(self, number: int) -> bytes:
        """The same as a message of a WebSocket: JSON with its number `seq` before what the log says. Made
        once for all watchers."""
        place = number % self._size
        frame = self._frames[place]
        if frame is None:
            record = {"seq": number, **log_record(self.event(number))}
            frame = self._frames[place] = text_frame(render_json(record)[:-1])
        return frame
