"""What all parts of the queue share: settings, the spool, the clocks, where to tell of things."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

import attrs
import trio

from elemta.config import Config
from elemta.delivery import Override
from elemta.events import EventBus, FlightRecorder, TaskCrashed
from elemta.plugin import PluginHost
from elemta.runtime import Drain, WallClock, summarize
from elemta.spool import Spool

from .bell import Bell


def _unsigned(message: bytes) -> bytes:
    """Nobody signs."""
    return b""


@attrs.define(eq=False)
class QueueContext:
    """Made once by `open_queue`; everything in it is injected."""

    config: Config
    """Changed by a reload: look here each time, rather than keep a part of it."""
    spool: Spool
    bus: EventBus
    clock: WallClock
    random: Random
    drain: Drain
    nursery: trio.Nursery
    bell: Bell
    sign: Callable[[bytes], bytes] = _unsigned
    """What to put before a message of our own: its signatures. Sync, never raises."""
    plugins: PluginHost | None = None
    """Who is asked about mail in the queue."""
    overrides: Mapping[str, Override] = attrs.field(factory=dict)
    """Limits that operators set for single destinations (`Limits`). Replaced, never changed."""
    flights: FlightRecorder | None = None
    """Who keeps what was said in attempts that failed."""

    def tell_crash(self, task: str, error: BaseException, message: str = "") -> None:
        """A part of the queue crashed and was contained."""
        self.bus.publish(
            TaskCrashed(time=self.clock.time(), task=task, error=summarize(error), message=message)
        )
