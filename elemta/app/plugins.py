"""Plugins of the configuration: loads them, and hands each what it may use."""

from __future__ import annotations

import json
import pickle
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import attrs

from elemta.dns import RecordKind, Resolver
from elemta.events import EventBus
from elemta.plugin import (
    ENTRY,
    ApartPlugin,
    LoadedPlugin,
    Member,
    PluginHost,
    ProcessTier,
    TaskTier,
    Ward,
    WorkerSettings,
    find_file,
    open_plugins,
    setup_of,
)
from elemta.plugin.api import Context, Metrics
from elemta.runtime import Memo, WallClock, get_logger

from .environment import Environment

_LONGEST_COUNTER = 100
"""Characters of the name of a counter that a worker may choose."""


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
    loaded: Sequence[LoadedPlugin | ApartPlugin],
    environment: Environment,
    memo: Memo,
    resolver: Resolver,
    bus: EventBus,
    state_dir: Path,
) -> AsyncGenerator[PluginHost | None, None]:
    """Run these plugins while the block runs; None where there are none."""
    if not loaded:
        yield None
        return
    wards = [
        _ward(each, environment.clock, memo, resolver)
        if isinstance(each, LoadedPlugin)
        else _ward_apart(each, environment, memo, resolver, state_dir)
        for each in loaded
    ]
    async with open_plugins(wards, bus, environment.clock) as host:
        yield host


def _ward(loaded: LoadedPlugin, clock: WallClock, memo: Memo, resolver: Resolver) -> Ward:
    name, metrics = loaded.entry.name, Metrics()
    context = Context(
        name, get_logger(f"plugin.{name}"), clock, metrics, MemoState(name, memo, clock), resolver
    )
    return Ward(Member(loaded.entry, TaskTier(loaded, context), frozenset(loaded.hooks)), metrics.counts)


@attrs.frozen(eq=False)
class WorkerDesk:
    """Answers what the workers of one plugin ask. Nothing of what they say is believed."""

    metrics: Metrics
    state: MemoState
    resolver: Resolver

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
        if name == "state.put":
            key, text, seconds = json.loads(content)
            self.state.put(str(key), str(text).encode("latin-1"), float(seconds))
        elif name == "state.forget":
            self.state.forget(content.decode())
        elif name == "count":
            for counter, by in json.loads(content).items():
                self.metrics.count(str(counter)[:_LONGEST_COUNTER], int(by))
        else:
            raise ValueError(f"there is no question {name!r}")
        return b""


def _ward_apart(
    loaded: ApartPlugin, environment: Environment, memo: Memo, resolver: Resolver, state_dir: Path
) -> Ward:
    entry, metrics = loaded.entry, Metrics()
    desk = WorkerDesk(metrics, MemoState(entry.name, memo, environment.clock), resolver)
    settings = WorkerSettings(
        name=entry.name,
        entry=ENTRY,
        setup=setup_of(entry, find_file(entry)),
        directory=(state_dir / "plugins" / entry.name).absolute(),
    )
    tier = ProcessTier(
        settings,
        timeout=entry.timeout,
        question=desk.answer,
        random=environment.random,
    )
    return Ward(Member(entry, tier, frozenset(loaded.hooks)), metrics.counts)
