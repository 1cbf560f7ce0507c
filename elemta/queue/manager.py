"""Opens the queue and holds its parts together.

The flow is one way. A claim (fresh from its acceptance through the spool's `Intake`, or from the
scheduler) becomes jobs (`claims`), a job waits in the ready queue of its site (`sites`), a dispatcher
carries it, `results` turns its outcomes into one record in the spool and tells the watchers. Everything
that changes state is synchronous; what awaits is only the delivery itself and the reading of a header
for a notice.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random

import attrs
import trio

from elemta.config import Config
from elemta.delivery import Transport
from elemta.events import EventBus, FlightRecorder
from elemta.plugin import PluginHost
from elemta.routing import Route, Router
from elemta.runtime import Drain, Restart, WallClock, supervise
from elemta.spool import Spool

from .bell import Bell
from .care import Care
from .claims import Claims
from .clockwatch import ClockWatch
from .context import QueueContext
from .desk import Desk
from .detours import Detours
from .dispatcher import Dispatcher
from .gate import Gate
from .limits import Limits
from .notices import Notices
from .operations import Operations
from .pauses import Pauses
from .results import Results
from .retention import Retention
from .retry import RetrySchedule
from .room import Room
from .scheduler import Scheduler
from .site import SiteStatistics
from .sites import Sites, Survey
from .underway import Underway
from .verdict import Judge


@attrs.frozen
class QueueStatistics:
    """The queue in memory at one moment."""

    active_messages: int
    active_octets: int
    fresh_messages: int
    sites: tuple[SiteStatistics, ...]
    draining: bool


class QueueManager:
    """The running queue: what the outside asks of it."""

    def __init__(
        self,
        context: QueueContext,
        router: Router,
        make_transport: Callable[[Route], Transport],
        survey: Survey | None = None,
        state_dir: Path | None = None,
    ) -> None:
        self.context = context
        self.drain = context.drain
        self.room = Room(context.config.queue, context.drain, context.bell)
        judge = _make_judge(context)
        watch = ClockWatch(context.clock)
        self.gate = Gate(context)
        detours = Detours(router)
        self.results = Results(context, self.room, Notices(context), judge, watch, self.gate, detours)
        self.sites = Sites(
            context, self.results, lambda site: Dispatcher(desk, site, make_transport(site.route)), survey
        )
        desk = Desk(context, self.gate, self.results, self.sites)
        self.underway = Underway(self.sites.dispatchers)
        pauses = Pauses()
        self.claims = Claims(context, self.room, self.sites, self.results, pauses, self.gate)
        self.operations = Operations(context, router, self.claims, pauses)
        self.limits = Limits(context, state_dir, self._reshape)
        self.care = Care(context, self.room, self.sites)
        self.scheduler = Scheduler(context, self.claims, self.care, watch)
        self.retention = Retention(context)
        self.retention.apply()

    @property
    def config(self) -> Config:
        return self.context.config

    def wake(self) -> None:
        """Something may be due. Sync, cannot fail."""
        self.context.bell.ring()

    def replace(self, config: Config) -> None:
        """Go by another configuration from now on (reload). Sync, cannot fail.

        Times that are written down stay; windows keep their size, within the new limit. `queue.lease` stays
        as it was: claims that are out were made for that long.
        """
        lease = self.context.config.queue.lease
        self.context.config = attrs.evolve(config, queue=attrs.evolve(config.queue, lease=lease))
        self.room.config = self.context.config.queue
        self.results.judge = _make_judge(self.context)
        self.retention.apply()
        self._reshape()

    def _reshape(self) -> None:
        self.sites.reshape()
        self.wake()

    def statistics(self) -> QueueStatistics:
        """A snapshot; sync and cheap."""
        now = trio.current_time()
        return QueueStatistics(
            active_messages=self.room.messages,
            active_octets=self.room.octets,
            fresh_messages=self.room.fresh,
            sites=tuple(site.statistics(now) for site in self.sites.all),
            draining=self.drain.draining,
        )

    # --- tasks -----------------------------------------------------------------------------------

    async def run_drain(self) -> None:
        """Once a drain begins: no new attempts, end those that have sent nothing, give back what waits."""
        await self.drain.wait_draining()
        self.wake()
        self.claims.stop_asking()
        self.sites.drain()


def _make_judge(context: QueueContext) -> Judge:
    return Judge(context.config.queue, RetrySchedule(context.config.queue), context.random)


@asynccontextmanager
async def open_queue(
    config: Config,
    spool: Spool,
    router: Router,
    make_transport: Callable[[Route], Transport],
    bus: EventBus,
    *,
    clock: WallClock,
    random: Random,
    drain: Drain,
    sign: Callable[[bytes], bytes] | None = None,
    plugins: PluginHost | None = None,
    survey: Survey | None = None,
    flights: FlightRecorder | None = None,
    state_dir: Path | None = None,
) -> AsyncGenerator[QueueManager, None]:
    """Run the queue around the block.

    On the way out the queue drains: attempts that have sent nothing end at once, the others may finish
    until `drain.deadline`; then what is left is cancelled and recorded as such.

    Args:
      sign: gives the signatures to put before a notice. Sync, never raises.
      plugins: who is asked about mail in the queue; to be open for longer than the queue.
      survey: says which hosts stand behind a route; those with the same hosts share their limits.
      flights: keeps what was said in attempts that failed.
      state_dir: where limits that operators set for destinations are kept; None: in memory only.
    """
    async with trio.open_nursery() as nursery:
        context = QueueContext(config, spool, bus, clock, random, drain, nursery, Bell())
        if sign is not None:
            context.sign = sign
        context.plugins = plugins
        context.flights = flights
        manager = QueueManager(context, router, make_transport, survey, state_dir)
        manager.limits.load()
        await manager.operations.load()  # before anything is taken in hand
        drain.attach(nursery.cancel_scope)
        spool.set_intake(manager.claims)
        care = trio.CancelScope()

        def start_always(helpers: trio.Nursery, name: str, run: Callable[[], Awaitable[None]]) -> None:
            always = partial(supervise, name, run, on_crash=context.tell_crash, restart=Restart.ON_CRASH)
            helpers.start_soon(always, name=name)

        async def run_care() -> None:
            with care:
                async with trio.open_nursery() as helpers:
                    start_always(helpers, "queue heartbeat", manager.care.run)
                    start_always(helpers, "queue retention", manager.retention.run)
                    start_always(helpers, "queue pauses", manager.operations.run)

        nursery.start_soon(run_care, name="queue care")
        nursery.start_soon(manager.run_drain, name="queue drain")

        async def run_scheduler() -> None:
            await supervise("scheduler", manager.scheduler.run, on_crash=context.tell_crash, drain=drain)

        nursery.start_soon(run_scheduler, name="scheduler")
        try:
            yield manager
        finally:
            spool.set_intake(None)
            care.cancel(reason="the queue closes")
            if not drain.draining:
                # The block ended without a drain (an error, a test): there is nothing to wait for.
                drain.begin("the queue closes", 0.0, 0.0)
