"""Plugins of the configuration: loads them, and hands each what it may use."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio

from elemta.config import Config, OnStall, PluginConfig
from elemta.dns import RecordKind, Resolver
from elemta.events import EventBus, PluginStalled, TaskCrashed
from elemta.plugin import (
    ENTRY,
    ApartPlugin,
    Limits,
    LoadedPlugin,
    Member,
    Outside,
    ProcessTier,
    Stall,
    SuppressedAddress,
    TaskTier,
    Ward,
    Watchdog,
    Watched,
    WorkerSettings,
    find_file,
    load_plugins,
    open_plugins,
    setup_of,
    timeouts_of,
)
from elemta.plugin.api import Context, Metrics
from elemta.runtime import Memo, WallClock, contain, get_logger, summarize
from elemta.spool import LONGEST_ADDRESS, Suppression, SuppressionUnavailable

from .environment import Environment
from .plugin_keeper import PluginKeeper
from .plugin_wishes import Wishes, read_wishes


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


@attrs.frozen(eq=False)
class SharedList:
    """The suppression list of the server, for one plugin."""

    name: str
    kept: Suppression

    async def find(self, address: str) -> SuppressedAddress | None:
        with _as_os_error():
            found = await self.kept.find(address)
        return None if found is None else SuppressedAddress(**attrs.asdict(found))

    async def add(self, address: str, why: str, seconds: float | None) -> bool:
        if not 0 < len(address) <= LONGEST_ADDRESS or not (seconds is None or math.isfinite(seconds)):
            raise ValueError(f"addresses have up to {LONGEST_ADDRESS} characters, and times an end")
        with _as_os_error():
            return await self.kept.add(address, why, self.name, seconds)

    async def remove(self, address: str) -> bool:
        with _as_os_error():
            return await self.kept.remove([address]) > 0


@contextmanager
def _as_os_error() -> Iterator[None]:
    """What plugins are promised where the list does not answer."""
    try:
        yield
    except SuppressionUnavailable as error:
        raise OSError(str(error)) from error


@attrs.frozen(eq=False)
class Belongings:
    """What all plugins use of the server."""

    environment: Environment
    memo: Memo
    suppression: Suppression
    resolver: Resolver
    hostname: str
    state_dir: Path


@attrs.frozen
class Start:
    """What is loaded before the server begins."""

    entries: tuple[PluginConfig, ...]
    """Of the configuration."""
    wishes: Wishes
    loaded: tuple[LoadedPlugin | ApartPlugin, ...]


def load_at_start(config: Config, environment: Environment) -> Start:
    """Load the plugins of the configuration, as operators want them. Blocking.

    Raises:
      SettingsError: a plugin cannot be loaded.
      WishesDamaged: what operators wanted cannot be read.
    """
    wishes = Wishes() if environment.store is not None else read_wishes(config.state_dir)
    return Start(config.plugins, wishes, load_plugins(wishes.applied(config.plugins)))


@asynccontextmanager
async def open_plugin_keeper(
    start: Start, belongings: Belongings, bus: EventBus
) -> AsyncGenerator[PluginKeeper, None]:
    """Run these plugins, and those that take their place, while the block runs."""

    environment = belongings.environment

    def make(each: LoadedPlugin | ApartPlugin) -> Ward:
        if isinstance(each, LoadedPlugin):
            return _ward(each, belongings)
        return _ward_apart(each, belongings)

    keeper = PluginKeeper(
        make=make,
        entries=start.entries,
        wishes=start.wishes,
        state_dir=None if environment.store is not None else belongings.state_dir,
        bus=bus,
        clock=environment.clock,
    )
    async with open_plugins(keeper.begin_with(start.loaded), bus, environment.clock) as host:
        keeper.host = host
        if environment.store is not None:  # on virtual time
            yield keeper
            return
        async with _open_watchdog(keeper):
            yield keeper


@asynccontextmanager
async def _open_watchdog(keeper: PluginKeeper) -> AsyncGenerator[None, None]:
    """Watch the plugins of the loop while the block runs, and do about a stall what `on_stall` says."""
    async with trio.open_nursery() as nursery:

        def on_crash(name: str, error: BaseException) -> None:
            keeper.bus.publish(TaskCrashed(time=keeper.clock.time(), task=name, error=summarize(error)))

        def on_stall(stall: Stall) -> None:
            entry = next((each for each in keeper.entries if each.name == stall.plugin), None)
            if entry is None:
                return
            keeper.bus.publish(
                PluginStalled(
                    time=keeper.clock.time(),
                    plugin=stall.plugin,
                    place=stall.place,
                    seconds=round(stall.seconds, 3),
                    action=entry.on_stall.value,
                )
            )
            if entry.on_stall is OnStall.SUSPEND:
                keeper.host.suspend(stall.plugin, f"stalled the loop at {stall.place}")
            elif entry.on_stall is OnStall.PROCESS:
                move = partial(keeper.move_apart, stall.plugin)
                nursery.start_soon(partial(contain, f"move plugin {stall.plugin}", move, on_crash=on_crash))

        watchdog = Watchdog(on_stall)

        def look() -> None:
            watchdog.watch(keeper.host.watched())

        keeper.host.on_change = look
        look()
        try:
            yield
        finally:
            keeper.host.on_change = _nothing
            watchdog.close()
            nursery.cancel_scope.cancel(reason="the server stops")


def _nothing() -> None:
    """Nobody watches."""


def _ward(loaded: LoadedPlugin, belongings: Belongings) -> Ward:
    name, metrics, clock = loaded.entry.name, Metrics(), belongings.environment.clock
    context = Context(
        name,
        get_logger(f"plugin.{name}"),
        clock,
        metrics,
        MemoState(name, belongings.memo, clock),
        belongings.resolver,
        belongings.hostname,
        outside=Outside(belongings.environment.network, belongings.resolver),
        suppression_list=SharedList(name, belongings.suppression),
    )
    member = Member(loaded.entry, TaskTier(loaded, context), frozenset(loaded.hooks))
    return Ward(member, metrics, Watched.of(loaded.entry, loaded.plugin))


@attrs.frozen(eq=False)
class WorkerDesk:
    """Answers what the workers of one plugin ask. Nothing of what they say is believed."""

    metrics: Metrics
    state: MemoState
    resolver: Resolver
    suppression: SharedList

    async def answer(self, name: str, content: bytes) -> bytes:
        """One question.

        Raises:
          ValueError: it is none, or what it wants is not allowed.
        """
        if name == "state.get":
            value = await self.state.get(content.decode())
            return b"" if value is None else b"+" + value
        if name == "query":
            host, kind = json.loads(content)
            # Read by the worker only, and pickled here: what it gets is the server's.
            return pickle.dumps(await self.resolver.query(str(host), RecordKind(kind)))
        if name.startswith("suppression."):
            return json.dumps(await self._suppression(name, json.loads(content))).encode()
        if name == "state.put":
            key, text, seconds = json.loads(content)
            self.state.put(str(key), str(text).encode("latin-1"), float(seconds))
        elif name == "state.forget":
            self.state.forget(content.decode())
        elif name == "measure":
            self._measure(json.loads(content))
        else:
            raise ValueError(f"there is no question {name!r}")
        return b""

    async def _suppression(self, name: str, said: list[Any]) -> object:  # Any: a worker's JSON
        address, listed = str(said[0]), self.suppression
        if name == "suppression.find":
            found = await listed.find(address)
            return None if found is None else attrs.asdict(found)
        if name == "suppression.add":
            return await listed.add(address, str(said[1]), None if said[2] is None else float(said[2]))
        if name == "suppression.remove":
            return await listed.remove(address)
        raise ValueError(f"there is no question {name!r}")

    def _measure(self, said: dict[str, dict[str, Any]]) -> None:  # Any: a worker's JSON
        for counter, by in said["counts"].items():
            self.metrics.count(str(counter), int(by))
        for gauge, value in said["gauges"].items():
            self.metrics.set(str(gauge), float(value))
        for duration, seconds in said["durations"].items():
            for each in seconds:
                self.metrics.observe(str(duration), float(each))


def _ward_apart(loaded: ApartPlugin, belongings: Belongings) -> Ward:
    entry, metrics, environment = loaded.entry, Metrics(), belongings.environment
    desk = WorkerDesk(
        metrics,
        MemoState(entry.name, belongings.memo, environment.clock),
        belongings.resolver,
        SharedList(entry.name, belongings.suppression),
    )
    settings = WorkerSettings(
        name=entry.name,
        entry=ENTRY,
        setup=setup_of(entry, find_file(entry), belongings.hostname),
        directory=(belongings.state_dir / "plugins" / entry.name).absolute(),
        limits=Limits(memory=entry.memory),
    )
    tier = ProcessTier(
        settings,
        timeout=entry.timeout,
        timeouts=timeouts_of(entry, loaded.hooks),
        question=desk.answer,
        random=environment.random,
        workers=entry.workers,
    )
    return Ward(Member(entry, tier, frozenset(loaded.hooks)), metrics)
