"""How much happened in the last half hour: counts by step of time, within fixed memory."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence

import attrs
import trio

from elemta.events import (
    CommandRejected,
    Event,
    MessageAccepted,
    MessageRejected,
    RecipientDeferred,
    RecipientDelivered,
    RecipientFailed,
    SessionOpened,
    SessionRefused,
)
from elemta.runtime import WallClock
from elemta.spool import SpoolError, SpoolStatistics

STEP = 10.0
"""Seconds that are counted together."""
STEPS = 180
"""How many of them are kept."""
RATE_STEPS = 6
"""Whole steps that a present rate is taken from: a minute."""
_TOTALS_SHARE = 0.02
"""Of the time at most so much goes into counting the queue, which takes longer the longer it is."""

DELAYS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0, 432000.0)
"""Seconds from acceptance to delivery by which deliveries are told apart."""


@attrs.define(eq=False)
class Step:
    """What happened in one step of time, and how it stood at its end."""

    number: int
    sessions: int = 0
    refused: int = 0
    accepted: int = 0
    octets: int = 0
    rejected: int = 0
    """Commands and bodies that were refused."""
    delivered: int = 0
    deferred: int = 0
    failed: int = 0
    delays: list[int] = attrs.field(factory=lambda: [0] * (len(DELAYS) + 1))
    """Deliveries by how long they took."""
    queued: int | None = None
    """Recipients that wait or are under way; None: nobody looked."""
    held: int | None = None
    open_sessions: int | None = None
    attempts: int | None = None
    lag: float | None = None
    """The worst lateness of the event loop, in seconds."""
    commit: float | None = None
    """The longest time that storing took, in seconds."""


COUNTED = ("sessions", "refused", "accepted", "octets", "rejected", "delivered", "deferred", "failed")
MEASURED = ("queued", "held", "open_sessions", "attempts", "lag", "commit")


@attrs.frozen
class Moment:
    """How it stands now."""

    open_sessions: int
    attempts: int
    lag: float
    commit: float


class Trend:
    """A ring of steps. `observe` is an observer of the event bus; run `run` under supervision."""

    def __init__(self, clock: WallClock) -> None:
        self._clock = clock
        self._steps: deque[Step] = deque(maxlen=STEPS + 1)
        self._steps.append(Step(self._number()))
        self.totals: SpoolStatistics | None = None
        """As they were last counted."""

    def observe(self, event: Event) -> None:
        """Count the event. Sync, below a microsecond."""
        match event:
            case RecipientDelivered():
                step = self._step()
                step.delivered += 1
                step.delays[bisect_left(DELAYS, event.seconds)] += 1
            case MessageAccepted():
                step = self._step()
                step.accepted += 1
                step.octets += event.size
            case SessionOpened():
                self._step().sessions += 1
            case CommandRejected() | MessageRejected():
                self._step().rejected += 1
            case RecipientDeferred():
                self._step().deferred += 1
            case RecipientFailed():
                self._step().failed += 1
            case SessionRefused():
                self._step().refused += 1 + event.more

    def _number(self) -> int:
        return int(self._clock.time() // STEP)

    def _step(self) -> Step:
        number = self._number()
        newest = self._steps[-1]
        # A clock that was set back: what happens counts for the newest step until time has caught up.
        if number <= newest.number:
            return newest
        for missing in range(max(newest.number + 1, number - STEPS), number + 1):
            self._steps.append(Step(missing))
        return self._steps[-1]

    async def run(
        self, moment: Callable[[], Moment], count: Callable[[], Awaitable[SpoolStatistics]]
    ) -> None:
        """Note at each step how it stands, until cancelled."""
        resume = 0.0
        while True:
            begun = trio.current_time()
            if begun >= resume:
                try:
                    self.totals = await count()
                except SpoolError:
                    self.totals = None
                resume = begun + (trio.current_time() - begun) / _TOTALS_SHARE
            self._note(moment())
            await trio.sleep(STEP - self._clock.time() % STEP)

    def _note(self, moment: Moment) -> None:
        step, totals = self._step(), self.totals
        step.open_sessions, step.attempts = moment.open_sessions, moment.attempts
        step.lag, step.commit = moment.lag, moment.commit
        if totals is not None:
            step.queued, step.held = totals.queued, totals.held

    # --- What it tells -----------------------------------------------------------------------------------

    def steps(self) -> list[Step]:
        """All that are kept, the oldest first; the last one is not over yet."""
        self._step()
        return list(self._steps)

    def rates(self) -> dict[str, float]:
        """What happened in each second of the last minute."""
        steps = self.steps()
        whole = steps[-1 - RATE_STEPS : -1] or steps
        seconds = STEP * len(whole)
        return {name: sum(getattr(step, name) for step in whole) / seconds for name in COUNTED}

    def series(self) -> dict[str, list[float | None]]:
        """Each count and measure by step, and when each step began."""
        steps = self.steps()
        told: dict[str, list[float | None]] = {"time": [step.number * STEP for step in steps]}
        for name in (*COUNTED, *MEASURED):
            told[name] = [getattr(step, name) for step in steps]
        told["delay_half"] = [quantile(step.delays, 0.5) for step in steps]
        told["delay_most"] = [quantile(step.delays, 0.95) for step in steps]
        return told

    def delays(self, steps: int = 30) -> tuple[float | None, float | None]:
        """Within how many seconds half and 95 of 100 were delivered, lately."""
        sums = [sum(column) for column in zip(*(step.delays for step in self.steps()[-steps:]), strict=True)]
        return quantile(sums, 0.5), quantile(sums, 0.95)


def quantile(counts: Sequence[int], part: float) -> float | None:
    """The bound below which so large a part lies; None: there is nothing."""
    total = sum(counts)
    if not total:
        return None
    seen = 0
    for bound, count in zip(_bounds(), counts, strict=True):
        seen += count
        if seen >= part * total:
            return bound
    return DELAYS[-1]


def _bounds() -> Iterable[float]:
    return (*DELAYS, DELAYS[-1])
