"""One plugin in service: its tier kept running, what it observes handed on, its end once nobody needs it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import attrs
import trio

from elemta.runtime import Backoff, Histogram, HistogramStatistics, summarize, supervise

from .hooks import HOOKS
from .member import Member
from .metrics import SECONDS, Metrics
from .tier import Failure, PluginFailed
from .views import HookArguments
from .watchdog import Watched

MOST_WAITING = 1_000
"""Things that an observer has not heard of yet; what is more it never hears of."""
_GRACE = 1.0
"""Seconds beyond the timeout of a plugin for calls that were begun before another version took its place."""

Hearing: TypeAlias = tuple[str, HookArguments]


@attrs.frozen(eq=False)
class Ward:
    """A plugin that the host is given: the member, and the numbers it counts."""

    member: Member
    metrics: Metrics = attrs.field(factory=Metrics)
    watched: Watched | None = None
    """By what its code is known, where that runs in the loop."""


@attrs.define(eq=False)
class Service:
    """A ward while it is looked after. Its `run` is a task of the host."""

    ward: Ward
    settled: trio.Event = attrs.field(factory=trio.Event)
    """It was tried to be started once."""
    failure: PluginFailed | None = None
    """Why the first start came to nothing."""
    missed: int = 0
    """Things it was not told of, since too many waited."""
    _took: dict[str, Histogram] = attrs.field(factory=dict)
    _calls: int = 0
    _leaving: bool = False
    _idle: trio.Event = attrs.field(factory=trio.Event)
    _heard: trio.Event = attrs.field(factory=trio.Event)
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    _sender: trio.MemorySendChannel[Hearing] = attrs.field(init=False)
    _receiver: trio.MemoryReceiveChannel[Hearing] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._sender, self._receiver = trio.open_memory_channel[Hearing](MOST_WAITING)

    @property
    def member(self) -> Member:
        return self.ward.member

    @property
    def observes(self) -> bool:
        """Whether it has any hook at which nobody waits for it."""
        return any(HOOKS[hook].observes for hook in self.member.hooks)

    # --- Calls --------------------------------------------------------------------------------------------

    def hear(self, hook: str, arguments: HookArguments) -> None:
        """Let it know, when it gets there. Sync."""
        try:
            self._sender.send_nowait((hook, arguments))
        except trio.WouldBlock:
            self.missed += 1

    def begin(self) -> None:
        """A call begins; `end` has to follow."""
        self._calls += 1

    def end(self) -> None:
        """A call has ended."""
        self._calls -= 1
        if self._leaving and not self._calls:
            self._idle.set()

    def took(self, hook: str, seconds: float) -> None:
        """A call at that hook ended after so long, however it ended."""
        histogram = self._took.get(hook)
        if histogram is None:
            histogram = self._took[hook] = Histogram(SECONDS)
        histogram.observe(seconds)

    def durations(self) -> dict[str, HistogramStatistics]:
        """How long its calls took, by hook."""
        return {hook: each.statistics() for hook, each in self._took.items()}

    # --- Its life -----------------------------------------------------------------------------------------

    async def run(
        self, call: Callable[[Service, str, HookArguments], Awaitable[object]], failed: Callable[..., None]
    ) -> None:
        """Start the plugin, again after a pause where it does not start, and tell it what it observes.

        Until `stop`, or cancelled. `call` makes a call and may raise PluginFailed; `failed` is told of starts
        that came to nothing.
        """
        with self._scope:
            async with trio.open_nursery() as nursery:
                if self.observes:
                    nursery.start_soon(self._pump, call)
                else:
                    self._heard.set()
                await self._keep(failed)

    async def _keep(self, failed: Callable[..., None]) -> None:
        member = self.member

        async def start() -> None:
            async with trio.open_nursery() as nursery:
                await nursery.start(member.tier.start)
                self.settled.set()

        def on_crash(_: str, error: BaseException) -> None:
            failure = (
                error if isinstance(error, PluginFailed) else PluginFailed(Failure.CRASH, summarize(error))
            )
            failed(self, "startup", failure)
            if not self.settled.is_set():
                self.failure = failure
                self.settled.set()

        await supervise(f"plugin {member.name}", start, on_crash=on_crash, backoff=Backoff())

    async def _pump(self, call: Callable[[Service, str, HookArguments], Awaitable[object]]) -> None:
        async for hook, arguments in self._receiver:
            try:
                await call(self, hook, arguments)
            except PluginFailed:
                await trio.lowlevel.checkpoint()  # it was told, and there is nobody to decide for
        self._heard.set()

    async def retire(self) -> None:
        """It is asked and told nothing any more: let it finish what was begun, then stop it.

        Takes at most its timeout and a second.
        """
        self._leaving = True
        self._sender.close()
        if not self._calls:
            self._idle.set()
        with trio.move_on_after(self.member.entry.timeout + _GRACE):
            await self._heard.wait()
            await self._idle.wait()
        self.stop()

    def stop(self) -> None:
        """End it now."""
        self._scope.cancel(reason="the plugin was taken out of service")
