"""A plugin that computes without an await is named with its line, and broken off; the loop goes on."""

import inspect
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from plugin_bed import loaded, ward_of

from elemta.config import OnStall, PluginConfig
from elemta.events import EventBus
from elemta.plugin import Continue, Defer, HookArguments, PluginHost, Stall, Watchdog, Watched, open_plugins
from elemta.plugin.api import Plugin, background, hook
from elemta.plugin.loader import load_plugin
from elemta.runtime import TrioWallClock

pytestmark = pytest.mark.deadline(30.0)  # real seconds: a thread watches the loop
HERE = __file__


class Spinning(Plugin[Any]):
    @hook("rcpt")
    async def spin(self) -> None:
        while True:
            self._count()

    def _count(self) -> int:
        return sum(range(1000))


class Sleeping(Plugin[Any]):
    @hook("rcpt")
    async def sleep(self) -> None:
        time.sleep(0.5)  # a call into C, which nothing can break off
        await trio.sleep(0)


class Catching(Plugin[Any]):
    @hook("rcpt")
    async def catch(self) -> None:
        for _ in range(3):
            try:
                while True:
                    self._nothing()
            except BaseException:
                pass

    def _nothing(self) -> None:
        pass


class Background(Plugin[Any]):
    @background
    async def spin(self) -> None:
        while True:
            pass


class Quick(Plugin[Any]):
    @hook("rcpt")
    async def check(self) -> None:
        await trio.sleep(0.3)


@asynccontextmanager
async def watching(
    plugin: type[Plugin[Any]], **entry: Any
) -> AsyncIterator[tuple[PluginHost, list[Stall], trio.Event]]:
    stalls: list[Stall] = []
    told = trio.Event()

    def on_stall(stall: Stall) -> None:
        stalls.append(stall)
        told.set()

    watchdog = Watchdog(on_stall)
    made = loaded(plugin, stall=0.15, **entry)
    watchdog.watch([Watched.of(made.entry, plugin)])
    try:
        async with open_plugins([ward_of(made)], EventBus(), TrioWallClock()) as host:
            yield host, stalls, told
    finally:
        watchdog.close()


def line_of(plugin: type[Plugin[Any]]) -> range:
    lines, first = inspect.getsourcelines(plugin)
    return range(first, first + len(lines))


async def ask(host: PluginHost) -> Any:
    return (await host.ask("rcpt", HookArguments(recipient="a@example.org"), {})).decision


@pytest.mark.parametrize("plugin", [Spinning, Sleeping, Catching])
async def test_a_step_that_does_not_end_is_broken_off_and_named(plugin: type[Plugin[Any]]) -> None:
    async with watching(plugin, timeout=20.0) as (host, stalls, told):
        decision = await ask(host)
        await told.wait()
        assert (stalls[0].plugin, len(stalls)) == ("p", 1)
        file, _, line = stalls[0].place.rpartition(":")
        assert file == HERE
        assert int(line) in line_of(plugin)
        if plugin is not Catching:  # who catches it, again and again, and then ends, has answered
            assert isinstance(decision, Defer)
        await trio.sleep(0)  # the loop goes on


async def test_of_two_plugins_of_one_file_the_right_one_is_named(tmp_path: Path) -> None:
    file = tmp_path / "plugin.py"
    file.write_text(
        "from elemta.plugin.api import NoConfig, Plugin, hook\n"
        "class Both(Plugin[NoConfig]):\n"
        "    @hook('rcpt')\n"
        "    async def spin(self, recipient):\n"
        "        while recipient.startswith(self.context.name):\n"
        "            pass\n"
    )
    stalls: list[Stall] = []
    told = trio.Event()

    def on_stall(stall: Stall) -> None:
        stalls.append(stall)
        told.set()

    watchdog = Watchdog(on_stall)
    both = [load_plugin(PluginConfig(name, path=file, stall=0.15, timeout=20.0)) for name in ("one", "two")]
    watchdog.watch([Watched.of(each.entry, each.plugin) for each in both])
    try:
        async with open_plugins(list(map(ward_of, both)), EventBus(), TrioWallClock()) as host:
            for name in ("one", "two"):
                await host.ask("rcpt", HookArguments(recipient=f"{name}@example.org"), {})
                await told.wait()
                told = trio.Event()
    finally:
        watchdog.close()
    assert [each.plugin for each in stalls] == ["one", "two"]


async def test_a_task_of_the_plugin_is_broken_off_as_well() -> None:
    async with watching(Background) as (host, stalls, told):
        await told.wait()
        assert stalls[0].plugin == "p"
        while not host.statuses()[0].statistics.restarts:
            await trio.sleep(0.01)


async def test_what_is_only_to_be_told_is_not_broken_off() -> None:
    class Slow(Plugin[Any]):
        @hook("rcpt")
        async def spin(self) -> None:
            end = time.monotonic() + 0.6
            while time.monotonic() < end:
                pass

    async with watching(Slow, on_stall=OnStall.TELL) as (host, stalls, told):
        assert await ask(host) == Continue()
        await told.wait()
        assert len(stalls) == 1


async def test_a_plugin_that_waits_is_let_alone() -> None:
    async with watching(Quick) as (host, stalls, _):
        for _ in range(3):
            assert await ask(host) == Continue()
        assert stalls == []


async def test_without_plugins_nothing_is_watched() -> None:
    watchdog = Watchdog(lambda stall: None)
    watchdog.watch([])
    assert watchdog._batches is None
    watchdog.watch([Watched.of(loaded(Quick).entry, Quick)])
    assert watchdog._batches is not None
    watchdog.watch([])
    assert watchdog._batches is None
