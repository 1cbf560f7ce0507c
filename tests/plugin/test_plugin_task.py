"""The tier in the loop: whatever a plugin does, its caller gets an answer or a failure in time."""

from typing import ClassVar

import pytest
import trio
from plugin_bed import running

from elemta.plugin import Continue, Failure, HookArguments, PluginFailed, Reject
from elemta.plugin.api import Plugin, background, hook, periodic

ABOUT = HookArguments(recipient="a@example.org")


class Odd(Exception):
    def __str__(self) -> str:
        raise ValueError("no text for you")


class Failing(Plugin):
    """Fails in the way that the recipient names."""

    kept: ClassVar[list[object]] = []

    @hook("rcpt")
    async def check(self, recipient):
        return await getattr(self, recipient)()

    async def reject(self):
        return Reject("No")

    async def error(self):
        raise ValueError("x\r\ny")

    async def odd(self):
        raise Odd

    async def exit(self):
        raise SystemExit(1)

    async def interrupt(self):
        raise KeyboardInterrupt

    async def group(self):
        raise BaseExceptionGroup("g", [ValueError("a"), SystemExit(2)])

    async def nonsense(self):
        return 42

    async def not_here(self):
        return __import__("elemta.plugin").plugin.Hold("only at message")

    async def hang(self):
        await trio.sleep_forever()

    async def swallow(self):
        while True:
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                pass

    async def swallow_all(self):
        while True:
            try:
                await trio.sleep_forever()
            except BaseException:
                pass

    async def late(self):
        with trio.CancelScope(shield=True):
            await trio.sleep(20)
        return Reject("too late")

    async def leaked_scope(self):
        scope = trio.CancelScope()
        self.kept.append(scope)
        scope.__enter__()

    async def leaked_nursery(self):
        manager = trio.open_nursery()
        self.kept.append(manager)
        nursery = await manager.__aenter__()
        nursery.start_soon(trio.sleep_forever)

    async def cancels_itself(self):
        with trio.CancelScope() as scope:
            scope.cancel()
            await trio.sleep(1)


@pytest.mark.parametrize(
    ("way", "kind", "detail"),
    [
        ("error", Failure.ERROR, "ValueError: x\\r\\ny ("),
        ("odd", Failure.ERROR, "Odd"),
        ("exit", Failure.ERROR, "SystemExit: 1"),
        ("interrupt", Failure.ERROR, "KeyboardInterrupt"),
        ("group", Failure.ERROR, "BaseExceptionGroup: g"),
        ("nonsense", Failure.ERROR, "BadAnswer"),
        ("not_here", Failure.ERROR, "Hold is no answer at the hook 'rcpt'"),
        ("no_such_method", Failure.ERROR, "AttributeError"),
        ("hang", Failure.TIMEOUT, "no answer in time"),
        ("swallow", Failure.TIMEOUT, "no answer in time"),
        ("swallow_all", Failure.TIMEOUT, "no answer in time"),
        ("late", Failure.TIMEOUT, "no answer in time"),
        ("leaked_scope", Failure.ERROR, "RuntimeError"),
    ],
)
async def test_each_way_of_failing_costs_its_call_only(way, kind, detail, autojump_clock):
    async with running(Failing, timeout=2.0) as tier:
        before = trio.current_time()
        with pytest.raises(PluginFailed) as caught:
            await tier.call("rcpt", HookArguments(recipient=way))
        assert trio.current_time() - before <= 2.001
        assert caught.value.kind is kind
        assert detail in caught.value.detail
        answer = await tier.call("rcpt", HookArguments(recipient="reject"))
        assert answer.decision == Reject("No")
        assert tier.statistics().failures == {kind: 1}
        await trio.sleep(30)
        assert tier.statistics().active == 0


async def test_a_plugin_may_cancel_what_it_does_itself(autojump_clock):
    async with running(Failing) as tier:
        answer = await tier.call("rcpt", HookArguments(recipient="cancels_itself"))
        assert answer.decision == Continue()


async def test_a_nursery_left_open_restarts_the_plugin(autojump_clock):
    async with running(Failing, timeout=2.0) as tier:
        with pytest.raises(PluginFailed):
            await tier.call("rcpt", HookArguments(recipient="leaked_nursery"))
        await trio.sleep(5)
        assert tier.statistics().restarts <= 1
        assert (await tier.call("rcpt", HookArguments(recipient="reject"))).decision == Reject("No")


async def test_a_caller_who_leaves_cancels_the_call(autojump_clock):
    async with running(Failing, timeout=60.0) as tier:
        with trio.move_on_after(1) as scope:
            await tier.call("rcpt", HookArguments(recipient="hang"))
        assert scope.cancelled_caught
        await trio.testing.wait_all_tasks_blocked()
        assert tier.statistics().active == 0


async def test_a_plugin_that_swallows_every_cancel_keeps_no_server_from_stopping(autojump_clock):
    with trio.fail_after(10):
        async with running(Failing, timeout=2.0) as tier:
            for way in ("swallow", "swallow_all"):
                with pytest.raises(PluginFailed):
                    await tier.call("rcpt", HookArguments(recipient=way))


class Crashing(Plugin):
    began = 0

    @hook("startup")
    async def begin(self):
        Crashing.began += 1

    @hook("rcpt")
    async def check(self):
        return None

    @background
    async def work(self):
        await trio.sleep(10)
        if Crashing.began == 1:
            raise SystemExit(1)
        await trio.sleep_forever()


async def test_a_background_task_that_crashes_restarts_the_plugin_after_a_pause(autojump_clock):
    Crashing.began = 0
    async with running(Crashing) as tier:
        assert (await tier.call("rcpt", ABOUT)).decision == Continue()
        await trio.sleep(10.5)
        with pytest.raises(PluginFailed, match="SystemExit") as caught:
            await tier.call("rcpt", ABOUT)
        assert caught.value.kind is Failure.CRASH
        assert not tier.statistics().running
        await trio.sleep(1)
        assert (await tier.call("rcpt", ABOUT)).decision == Continue()
        assert tier.statistics().restarts == 1
        assert Crashing.began == 2


class Ticking(Plugin):
    ticks: ClassVar[list[float]] = []
    ended: ClassVar[list[str]] = []

    @periodic(60)
    async def tick(self):
        self.ticks.append(self.context.clock.time())

    @hook("shutdown")
    async def end(self, reason):
        await trio.sleep(0.1)
        self.ended.append(reason)


async def test_a_periodic_task_runs_with_pauses_and_the_end_is_told(autojump_clock):
    Ticking.ticks.clear()
    Ticking.ended.clear()
    async with running(Ticking):
        await trio.sleep(150)
    assert len(Ticking.ticks) == 3
    assert Ticking.ended == ["stop"]


class Broken(Plugin):
    @hook("startup")
    async def begin(self):
        raise OSError("no such disk")


async def test_a_plugin_that_cannot_begin_says_why():
    with pytest.raises(BaseExceptionGroup) as caught:
        async with running(Broken):
            pass
    assert caught.group_contains(PluginFailed, match="no such disk", depth=1)
