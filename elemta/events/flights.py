"""A flight recorder: what was said in sessions and attempts that failed, the last of them, in bounded memory.

What is recorded is kept as the objects that were at hand; who looks at it makes text of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import TypeAlias

import attrs

MOST_ENTRIES = 200
"""Of one transcript; of a longer one the beginning and the end stay."""
HEAD = 20
"""Entries of the beginning that always stay: greeting, hello, TLS."""
_ENTRY = 160
"""Octets that an entry is taken to need, besides its own text."""
_FLIGHT = 600

Entry: TypeAlias = tuple[float, str, object]
"""When, by `perf_counter`; who; what."""


class Transcript:
    """What is said in one session, in order. Cheap: nothing is made into text."""

    __slots__ = ("_entries", "dropped")

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self.dropped = 0
        """How many of the middle are gone."""

    def note(self, side: str, what: object) -> None:
        """Add what was said."""
        entries = self._entries
        if len(entries) >= MOST_ENTRIES:
            surplus = (MOST_ENTRIES - HEAD) // 2
            del entries[HEAD : HEAD + surplus]
            self.dropped += surplus
        entries.append((perf_counter(), side, what))

    def all(self) -> tuple[Entry, ...]:
        """All that is left."""
        return tuple(self._entries)

    def since(self, mark: object) -> tuple[Entry, ...]:
        """The beginning up to the first mark, and all from the last mark that is this one.

        Where that is not there any more, all that is left."""
        marks = [place for place, entry in enumerate(self._entries) if isinstance(entry[2], Mark)]
        ours = [place for place in marks if self._entries[place][2] == mark]
        if not ours:
            return self.all()
        head = min(marks[0], HEAD)
        return tuple(self._entries[:head] + self._entries[max(head, ours[-1]) :])


@attrs.frozen
class Mark:
    """Where in a session something begins that is about one message."""

    message: str


@attrs.frozen(kw_only=True, eq=False)
class Flight:
    """What was said in a session or an attempt that failed."""

    id: str
    kind: str
    """`session` or `attempt`."""
    time: float
    """When it was over; wall clock."""
    about: str
    """The session or attempt, by its id."""
    peer: str
    message: str = ""
    """The id of the message that it was about, if it was about one."""
    cause: str = ""
    entries: tuple[Entry, ...] = ()
    dropped: int = 0

    @property
    def size(self) -> int:
        """Octets that it is taken to need."""
        texts = sum(len(what) for _, _, what in self.entries if isinstance(what, (bytes, str)))
        return _FLIGHT + _ENTRY * len(self.entries) + texts


class FlightRecorder:
    """The last flights, as many as fit."""

    def __init__(self, capacity: int) -> None:
        """`capacity`: octets, estimated; 0: nothing is kept."""
        self._capacity = capacity
        self._flights: deque[Flight] = deque()
        self._size = 0
        self._number = 0

    @property
    def capacity(self) -> int:
        return self._capacity

    @capacity.setter
    def capacity(self, capacity: int) -> None:
        self._capacity = capacity
        self._trim()

    def keep(
        self,
        kind: str,
        entries: Sequence[Entry],
        *,
        time: float,
        about: str,
        peer: str,
        message: str = "",
        cause: str = "",
        dropped: int = 0,
    ) -> Flight | None:
        """Keep this one, and drop older ones that do not fit any more. Sync."""
        if not self._capacity or not entries:
            return None
        self._number += 1
        flight = Flight(
            id=str(self._number),
            kind=kind,
            time=time,
            about=about,
            peer=peer,
            message=message,
            cause=cause,
            entries=tuple(entries),
            dropped=dropped,
        )
        self._flights.append(flight)
        self._size += flight.size
        self._trim()
        return flight

    def _trim(self) -> None:
        while self._flights and self._size > self._capacity:
            self._size -= self._flights.popleft().size

    def __iter__(self) -> Iterator[Flight]:
        """The newest first."""
        return reversed(self._flights)

    def find(self, id: str) -> Flight | None:
        """The one with this id, if it is still there."""
        return next((flight for flight in self._flights if flight.id == id), None)
