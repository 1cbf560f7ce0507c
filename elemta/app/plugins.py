"""Plugins of the configuration: loads them, and hands each what it may use."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import attrs

from elemta.dns import Resolver
from elemta.events import EventBus
from elemta.plugin import LoadedPlugin, Member, PluginHost, TaskTier, Ward, open_plugins
from elemta.plugin.api import Context, Metrics
from elemta.runtime import Memo, WallClock, get_logger

from .environment import Environment


@attrs.frozen(eq=False)
class MemoState:
    """What one plugin remembers, in its own namespace of the memo."""

    name: str
    memo: Memo
    clock: WallClock

    async def get(self, key: str) -> bytes | None:
        return await self.memo.get(self._key(key))

    def put(self, key: str, value: bytes, seconds: float) -> None:
        self.memo.put(self._key(key), value, self.clock.time() + seconds)

    def forget(self, key: str) -> None:
        self.memo.forget(self._key(key))

    def _key(self, key: str) -> str:
        return f"plugin-{self.name}/{key}"


@asynccontextmanager
async def open_plugin_host(
    loaded: Sequence[LoadedPlugin], environment: Environment, memo: Memo, resolver: Resolver, bus: EventBus
) -> AsyncGenerator[PluginHost | None, None]:
    """Run these plugins while the block runs; None where there are none."""
    if not loaded:
        yield None
        return
    wards = [_ward(each, environment.clock, memo, resolver) for each in loaded]
    async with open_plugins(wards, bus, environment.clock) as host:
        yield host


def _ward(loaded: LoadedPlugin, clock: WallClock, memo: Memo, resolver: Resolver) -> Ward:
    name, metrics = loaded.entry.name, Metrics()
    context = Context(
        name, get_logger(f"plugin.{name}"), clock, metrics, MemoState(name, memo, clock), resolver
    )
    return Ward(Member(loaded.entry, TaskTier(loaded, context), frozenset(loaded.hooks)), metrics.counts)
