"""What one call of an empty hook costs: in the task tier one by one, in the process tier with fifty under way.

python benchmarks/plugins.py [calls]
"""

import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import trio

from elemta.config import PluginConfig
from elemta.events import EventBus
from elemta.plugin import (
    NO_ANSWER,
    HookArguments,
    LoadedPlugin,
    Member,
    SessionView,
    TaskTier,
    Ward,
    open_plugins,
)
from elemta.plugin.api import Context, Metrics, NoConfig, Plugin, hook, hook_methods, task_methods
from elemta.plugin.process import ProcessTier
from elemta.plugin.worker import Link, Served, WorkerSettings, pack_answer, unpack_arguments
from elemta.runtime import TrioWallClock, get_logger

AT_ONCE = 50
ARGUMENTS = HookArguments(session=SessionView("s", "mx", "mx", "192.0.2.1"), recipient="a@example.org")


class Empty(Served):
    """A plugin that has no objection."""

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await trio.sleep_forever()

    async def call(self, hook: str, content: bytes) -> bytes:
        unpack_arguments(content)
        await trio.lowlevel.checkpoint()
        return pack_answer(NO_ANSWER)


def load(setup: dict[str, Any], link: Link) -> Served:
    """Entry of the worker."""
    return Empty()


class EmptyInTheLoop(Plugin[NoConfig]):
    """The same as its author writes it."""

    @hook("rcpt")
    async def check(self) -> None:
        return None


class Forgetful:
    """State of a plugin that has none."""

    async def get(self, key: str) -> bytes | None:
        await trio.lowlevel.checkpoint()
        return None

    def put(self, key: str, value: bytes, seconds: float) -> None:
        pass

    def forget(self, key: str) -> None:
        pass


async def _run_task_tier(calls: int) -> None:
    clock = TrioWallClock()
    loaded = LoadedPlugin(
        PluginConfig("empty"),
        EmptyInTheLoop,
        NoConfig(),
        hook_methods(EmptyInTheLoop),
        task_methods(EmptyInTheLoop),
        __file__,
    )
    tier = TaskTier(loaded, Context("empty", get_logger("plugin"), clock, Metrics(), Forgetful()))
    ward = Ward(Member(loaded.entry, tier, frozenset(loaded.hooks)))
    async with open_plugins([ward], EventBus(), clock) as host:
        started = time.perf_counter()
        for _ in range(calls):
            await host.ask("rcpt", ARGUMENTS, {})
        seconds = time.perf_counter() - started
    assert tier.statistics().calls == calls
    sys.stdout.write(f"task tier: {seconds / calls * 1e6:.0f} µs per call, one by one\n")


async def _question(name: str, content: bytes) -> bytes:
    await trio.lowlevel.checkpoint()
    return b""


async def _run(calls: int, folder: Path) -> None:
    settings = WorkerSettings(name="empty", entry="plugins:load", setup={}, directory=folder, calls=1 << 40)
    tier = ProcessTier(settings, timeout=10.0, question=_question, random=random.Random(1), workers=2)

    async def ask() -> None:
        for _ in range(calls // AT_ONCE):
            await tier.call("rcpt", ARGUMENTS)

    async with trio.open_nursery() as nursery:
        await nursery.start(tier.start)
        started = time.perf_counter()
        async with trio.open_nursery() as callers:
            for _ in range(AT_ONCE):
                callers.start_soon(ask)
        seconds = time.perf_counter() - started
        sys.stdout.write(f"process tier: {seconds / calls * 1e6:.0f} µs per call, {AT_ONCE} at once\n")
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    trio.run(_run_task_tier, count)
    with tempfile.TemporaryDirectory() as name:
        trio.run(_run, count, Path(name))
