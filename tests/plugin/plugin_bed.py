"""Plugins made of text or classes, and a host that runs them, without a server."""

import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from elemta.config import PluginConfig
from elemta.events import Event, EventBus
from elemta.plugin import LoadedPlugin, Member, PluginHost, TaskTier, Ward, open_plugins
from elemta.plugin.api import Context, Metrics, NoConfig, Plugin, hook_methods, task_methods
from elemta.runtime import Backoff, TrioWallClock, get_logger


class FakeState:
    """Remembers in a dict, for ever."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    async def get(self, key: str) -> bytes | None:
        await trio.lowlevel.checkpoint()
        return self.values.get(key)

    def put(self, key: str, value: bytes, seconds: float) -> None:
        self.values[key] = value

    def forget(self, key: str) -> None:
        self.values.pop(key, None)


def loaded(plugin: type[Plugin[Any]], name: str = "p", **entry: Any) -> LoadedPlugin:
    """As the loader would have it."""
    return LoadedPlugin(
        PluginConfig(name, **entry),
        plugin,
        NoConfig(),
        hook_methods(plugin),
        task_methods(plugin),
        inspect.getfile(plugin),
    )


def tier_of(plugin: LoadedPlugin) -> TaskTier:
    context = Context(plugin.entry.name, get_logger("plugin"), TrioWallClock(), Metrics(), FakeState())
    return TaskTier(plugin, context, backoff=Backoff(first=1.0))


def ward_of(plugin: LoadedPlugin) -> Ward:
    return Ward(Member(plugin.entry, tier_of(plugin), frozenset(plugin.hooks)))


@asynccontextmanager
async def running(plugin: type[Plugin[Any]], **entry: Any) -> AsyncIterator[TaskTier]:
    """One plugin in its tier."""
    tier = tier_of(loaded(plugin, **entry))
    async with trio.open_nursery() as nursery:
        await nursery.start(tier.start)
        yield tier
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def hosting(*plugins: LoadedPlugin) -> AsyncIterator[tuple[PluginHost, list[Event], EventBus]]:
    """A host with these plugins, and what was told."""
    bus = EventBus()
    events: list[Event] = []
    bus.observe("test", events.append)
    async with open_plugins([ward_of(each) for each in plugins], bus, TrioWallClock()) as host:
        yield host, events, bus
