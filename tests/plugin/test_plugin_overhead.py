"""What a question costs: counted in Trio's turns, which are the same on every machine."""

import trio
from plugin_bed import hosting, loaded

from elemta.plugin import HookArguments
from elemta.plugin.api import Plugin, hook


class Empty(Plugin):
    @hook("rcpt")
    async def check(self):
        return None


class Waiting(Plugin):
    @hook("rcpt")
    async def check(self):
        await self.nothing()

    async def nothing(self):
        return None


class Turns(trio.abc.Instrument):
    def __init__(self) -> None:
        self.steps = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += 1


async def test_a_hook_takes_two_turns_of_the_loop():
    async with hosting(loaded(Waiting)) as (host, _, _):
        about = HookArguments(recipient="a@example.org")
        turns = Turns()
        trio.lowlevel.add_instrument(turns)
        try:
            for _ in range(100):
                await host.ask("rcpt", about, {})
        finally:
            trio.lowlevel.remove_instrument(turns)
        assert 200 <= turns.steps <= 220


async def test_a_hook_without_an_await_takes_none():
    async with hosting(loaded(Empty)) as (host, _, _):
        with trio.testing.assert_no_checkpoints():
            verdict = await host.ask("rcpt", HookArguments(recipient="a@example.org"), {})
        assert verdict.plugin == ""
        assert host.statuses()[0].statistics.calls == 1


async def test_a_hook_that_nobody_has_takes_no_turn():
    async with hosting(loaded(Empty)) as (host, _, _):
        with trio.testing.assert_no_checkpoints():
            verdict = await host.ask("mail", HookArguments(), {})
        assert verdict.plugin == ""
