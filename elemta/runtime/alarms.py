"""Deadlines that move at every step and hardly ever pass: many alarms, one timer.

Theory of operation. Moving the deadline of a cancel scope makes Trio book it anew, some 5 µs, and a
session moves its deadline with each command. Nearly all of those moves are to a later time. So an
`Alarm` keeps its deadline as a plain number, and is booked only for a time before the one that it is
booked for already; when a booking comes due, the alarm either rings, which cancels a scope, or is
booked again for the time that it has by then. It rings exactly at its time, as a scope would.

The timer is a system task of Trio's run, made with the first alarm. Should it crash, so does the run:
a server whose waits have no end must not go on.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable

import trio

_FEWEST = 256
"""Bookings from which on those of no use are cleared away, when they are the most."""


class Alarm:
    """Calls a function at a time that may be moved. For one Trio run."""

    __slots__ = ("_booked", "_ring", "_timer", "time")

    def __init__(self, ring: Callable[[], object]) -> None:
        """`ring` is sync and does not raise: it cancels a scope or sets an event."""
        self._ring = ring
        self.time = math.inf
        """When it rings, by Trio's clock."""
        self._booked = math.inf
        self._timer = _timer()

    def set(self, time: float) -> None:
        """Move it, later or earlier; `inf`: it never rings. Sync.

        A time that has passed rings at once.
        """
        self.time = time
        if time < self._booked:
            self._timer.book(self, time)

    def close(self) -> None:
        """It rings no more. May be repeated."""
        self.time = math.inf


class _Timer:
    """Books alarms and lets them ring."""

    def __init__(self) -> None:
        self._bookings: list[tuple[float, int, Alarm]] = []
        self._number = 0
        self._clear_at = _FEWEST
        self._sleep: trio.CancelScope | None = None

    def book(self, alarm: Alarm, time: float) -> None:
        if time <= trio.current_time():
            alarm.time = math.inf
            alarm._ring()
            return
        alarm._booked = time
        self._number += 1
        heapq.heappush(self._bookings, (time, self._number, alarm))
        if len(self._bookings) >= self._clear_at:
            self._clear()
        if self._sleep is not None and time < self._sleep.deadline:
            self._sleep.deadline = time

    def _clear(self) -> None:
        """Drop what would not ring: alarms that were closed, bookings that an earlier one replaced."""
        self._bookings = [booking for booking in self._bookings if _is_useful(booking)]
        heapq.heapify(self._bookings)
        self._clear_at = max(_FEWEST, 2 * len(self._bookings))

    async def run(self) -> None:
        while True:
            due = self._bookings[0][0] if self._bookings else math.inf
            if due > trio.current_time():
                with trio.CancelScope(deadline=due) as self._sleep:
                    await trio.sleep_forever()
                self._sleep = None
                continue
            booking = heapq.heappop(self._bookings)
            _, _, alarm = booking
            if booking[0] != alarm._booked:
                continue
            alarm._booked = math.inf
            if alarm.time < math.inf:
                self.book(alarm, alarm.time)


def _is_useful(booking: tuple[float, int, Alarm]) -> bool:
    time, _, alarm = booking
    useful = time == alarm._booked and alarm.time < math.inf
    if not useful and time == alarm._booked:
        alarm._booked = math.inf
    return useful


_TIMER: trio.lowlevel.RunVar[_Timer] = trio.lowlevel.RunVar("alarms")


def _timer() -> _Timer:
    try:
        return _TIMER.get()
    except LookupError:
        timer = _Timer()
        _TIMER.set(timer)
        trio.lowlevel.spawn_system_task(timer.run, name="alarms")
        return timer
