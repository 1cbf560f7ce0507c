"""Plugins of the running server: enabled, disabled and reloaded from their files; wishes outlive a restart."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio

from elemta.app import Environment, Wishes, WishesDamaged, read_wishes, write_wishes
from elemta.app.plugin_keeper import PluginKeeper
from elemta.app.plugins import Belongings, load_at_start, open_plugin_keeper
from elemta.config import Config, OnStall, PluginConfig, SettingsError
from elemta.events import Event, EventBus, PluginChanged, PluginStalled
from elemta.plugin import HookArguments, PluginUnusable, Standing
from elemta.spool import Suppression, open_memo

CODE = """
from elemta.plugin.api import Plugin, Reject, hook

class Saying(Plugin):
    @hook("rcpt")
    async def check(self):
        return Reject({text!r})
"""


def write(folder: Path, text: str, name: str = "p") -> Path:
    file = folder / f"{name}.py"
    file.write_text(CODE.format(text=text))
    file.chmod(0o600)
    return file


class NoResolver:
    pass


@asynccontextmanager
async def keeping(
    folder: Path, *entries: PluginConfig
) -> AsyncGenerator[tuple[PluginKeeper, list[Event]], None]:
    config = Config(hostname="mx.example.org", state_dir=folder / "state", plugins=entries)
    config.state_dir.mkdir(exist_ok=True)
    environment, bus = Environment(), EventBus()
    events: list[Event] = []
    bus.observe("test", events.append)
    start = load_at_start(config, environment)
    async with (
        open_memo(None, clock=environment.clock, on_trouble=lambda what, detail: None) as memo,
        open_plugin_keeper(
            start,
            Belongings(
                environment,
                memo,
                Suppression(None, environment.clock),
                NoResolver(),
                config.hostname,
                config.state_dir,
            ),
            bus,
        ) as keeper,
    ):
        yield keeper, events


async def said(keeper: PluginKeeper) -> str:
    verdict = await keeper.host.ask("rcpt", HookArguments(recipient="a@example.org"), {})
    return getattr(verdict.decision, "text", "")


async def test_a_file_is_loaded_again_and_one_that_is_broken_is_not(tmp_path: Path) -> None:
    file = write(tmp_path, "one")
    async with keeping(tmp_path, PluginConfig("p", path=file)) as (keeper, events):
        assert await said(keeper) == "one"
        write(tmp_path, "two")
        assert await said(keeper) == "one"
        await keeper.reload("p")
        assert await said(keeper) == "two"
        file.write_text("this is no Python")
        with pytest.raises(PluginUnusable, match="SyntaxError"):
            await keeper.reload("p")
        assert await said(keeper) == "two"
        file.chmod(0o666)
        with pytest.raises(PluginUnusable, match="can be written by others"):
            await keeper.reload("p")
        assert await said(keeper) == "two"
        with pytest.raises(PluginUnusable, match="no plugin q"):
            await keeper.reload("q")
        assert [each.change for each in events if isinstance(each, PluginChanged)] == ["reloaded"]


async def test_what_is_switched_off_stays_off_over_a_restart_until_it_is_switched_on(tmp_path: Path) -> None:
    entry = PluginConfig("p", path=write(tmp_path, "one"))
    async with keeping(tmp_path, entry) as (keeper, _):
        await keeper.disable("p")
        assert await said(keeper) == ""
        assert [each["standing"] for each in keeper.listing()] == ["disabled"]
        with pytest.raises(PluginUnusable, match="not in service"):
            await keeper.reload("p")
    async with keeping(tmp_path, entry) as (keeper, _):
        assert await said(keeper) == ""
        await keeper.enable("p")
        assert await said(keeper) == "one"
        assert [each["standing"] for each in keeper.listing()] == ["running"]
    async with keeping(tmp_path, attrs.evolve(entry, enabled=False)) as (keeper, _):
        assert await said(keeper) == "one"


async def test_a_plugin_that_cannot_be_loaded_is_not_enabled_and_no_wish_is_kept(tmp_path: Path) -> None:
    entry = PluginConfig("p", path=tmp_path / "gone.py", enabled=False)
    async with keeping(tmp_path, entry) as (keeper, events):
        with pytest.raises(PluginUnusable, match=r"there is no .*gone\.py"):
            await keeper.enable("p")
        assert not [each for each in events if isinstance(each, PluginChanged)]
    assert read_wishes(tmp_path / "state") == Wishes()


async def test_a_wish_that_cannot_be_written_down_is_not_granted(tmp_path: Path) -> None:
    entry = PluginConfig("p", path=write(tmp_path, "one"))
    async with keeping(tmp_path, entry) as (keeper, _):
        keeper.state_dir = tmp_path / "nowhere"
        with pytest.raises(OSError):
            await keeper.disable("p")
        assert await said(keeper) == "one"


async def test_another_configuration_adds_changes_and_removes(tmp_path: Path) -> None:
    first = PluginConfig("p", path=write(tmp_path, "first"))
    other = PluginConfig("q", path=write(tmp_path, "other", "q"), before=("p",))
    async with keeping(tmp_path, first) as (keeper, _):
        services = keeper.host._services
        cast = await keeper.prepare((first, other))
        assert await said(keeper) == "first"
        keeper.commit(cast)
        assert await said(keeper) == "other"
        assert keeper.host._services[1] is services[0]  # it was not touched
        cast = await keeper.prepare((attrs.evolve(first, timeout=1.0),))
        keeper.abandon(cast)
        assert await said(keeper) == "other"
        with pytest.raises(PluginUnusable, match="circle"):
            await keeper.prepare((attrs.evolve(first, before=("q",)), other))
        keeper.commit(await keeper.prepare(()))
        assert await said(keeper) == ""
        await trio.lowlevel.checkpoint()


def test_a_damaged_file_of_wishes_is_told_and_not_guessed_at(tmp_path: Path) -> None:
    (tmp_path / "plugins.json").write_text('{"enabled": [1]}')
    with pytest.raises(WishesDamaged, match=r"plugins\.json cannot be read"):
        read_wishes(tmp_path)


def test_wishes_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_wishes(tmp_path, Wishes({"a": True}))
    (tmp_path / "plugins.new").mkdir()
    with pytest.raises(OSError):
        write_wishes(tmp_path, Wishes({"a": False}))
    assert json.loads((tmp_path / "plugins.json").read_text()) == {"enabled": {"a": True}}


def test_a_plugin_that_operators_want_and_that_is_broken_keeps_the_server_from_starting(
    tmp_path: Path,
) -> None:
    config = Config(
        hostname="mx.example.org",
        state_dir=tmp_path,
        plugins=(PluginConfig("p", path=tmp_path / "gone.py", enabled=False),),
    )
    assert load_at_start(config, Environment()).loaded == ()
    write_wishes(tmp_path, Wishes({"p": True}))
    with pytest.raises(SettingsError):
        load_at_start(config, Environment())


SPINNING = """
import time
from elemta.plugin.api import Plugin, Reject, hook

class Spinning(Plugin):
    @hook("rcpt")
    async def check(self, recipient):
        end = time.monotonic() + {patience}
        while recipient.startswith("spin") and time.monotonic() < end:
            pass
        return Reject("answered")
"""


@pytest.mark.deadline(60.0)
@pytest.mark.parametrize("action", list(OnStall))
async def test_a_plugin_that_stalls_the_loop_is_dealt_with_as_configured(
    action: OnStall, tmp_path: Path
) -> None:
    file = tmp_path / "p.py"
    # Where it is not broken off, it has to end by itself.
    patience = 0.5 if action is OnStall.TELL else 3600
    file.write_text(SPINNING.format(patience=patience))
    file.chmod(0o600)
    entry = PluginConfig("p", path=file, stall=0.15, on_stall=action, timeout=30.0)
    async with keeping(tmp_path, entry) as (keeper, events):
        await keeper.host.ask("rcpt", HookArguments(recipient="spin@example.org"), {})
        while not (stalls := [each for each in events if isinstance(each, PluginStalled)]):
            await trio.sleep(0.01)
        assert (stalls[0].plugin, stalls[0].action) == ("p", action.value)
        assert stalls[0].place.startswith(str(file))
        match action:
            case OnStall.TELL:
                assert await said(keeper) == "answered"
            case OnStall.SUSPEND:
                assert keeper.host.statuses()[0].standing is Standing.SUSPENDED
            case OnStall.PROCESS:
                while keeper.listing()[0]["isolation"] != "process":
                    await trio.sleep(0.01)
                assert await said(keeper) == "answered"
                await keeper.reload("p")
                assert keeper.listing()[0]["isolation"] == "task"
