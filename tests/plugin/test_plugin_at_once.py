"""Methods without an await are called in the task of whoever asks: nothing of what they do stays there."""

import contextvars
from functools import wraps
from typing import ClassVar

import pytest
import trio
from plugin_bed import running

from elemta.plugin import Failure, HookArguments, PluginFailed, Reject
from elemta.plugin.api import Plugin, hook
from elemta.plugin.leash import awaits

WORD = contextvars.ContextVar("word", default="")


class Plain(Plugin):
    """Fails in the way that the recipient names, without an await."""

    kept: ClassVar[list[trio.CancelScope]] = []

    @hook("rcpt")
    async def check(self, recipient):
        return getattr(self, recipient)()

    def reject(self):
        return Reject("No")

    def error(self):
        raise ValueError("x\r\ny")

    def exit(self):
        raise SystemExit(1)

    def interrupt(self):
        raise KeyboardInterrupt

    def group(self):
        raise BaseExceptionGroup("g", [ValueError("a"), SystemExit(2)])

    def end(self):
        raise StopIteration(7)

    def nonsense(self):
        return 42

    async def coroutine(self):
        raise AssertionError("nobody awaits this")

    def deep(self):
        return self.deep()

    def two_scopes(self):
        for _ in range(2):
            self.leak()

    def cancelled_scope(self):
        self.leak()
        self.kept[-1].cancel()

    def leak(self):
        self.kept.append(trio.CancelScope())
        self.kept[-1].__enter__()

    def leak_and_raise(self):
        self.leak()
        raise ValueError("and more")

    def leak_in_a_scope(self):
        with trio.CancelScope():
            self.leak()

    def remember(self):
        WORD.set("changed")


@pytest.mark.parametrize(
    ("way", "detail"),
    [
        ("error", "ValueError: x\\r\\ny ("),
        ("exit", "SystemExit: 1"),
        ("interrupt", "KeyboardInterrupt"),
        ("group", "BaseExceptionGroup: g"),
        ("end", "coroutine raised StopIteration"),
        ("nonsense", "BadAnswer"),
        ("deep", "RecursionError"),
        ("leak", "RuntimeError: it left a cancel scope open"),
        ("two_scopes", "RuntimeError: it left a cancel scope open"),
        ("cancelled_scope", "RuntimeError: it left a cancel scope open"),
        ("leak_and_raise", "ValueError: and more"),
        ("leak_in_a_scope", "RuntimeError: Cancel scope stack corrupted"),
        ("no_such_method", "AttributeError"),
    ],
)
async def test_each_way_of_failing_costs_its_call_only(way, detail, autojump_clock):
    async with running(Plain, timeout=2.0) as tier:
        with trio.move_on_after(5) as ours:
            with pytest.raises(PluginFailed) as caught:
                await tier.call("rcpt", HookArguments(recipient=way))
            assert caught.value.kind is Failure.ERROR
            assert detail in caught.value.detail
            assert (await tier.call("rcpt", HookArguments(recipient="reject"))).decision == Reject("No")
            await trio.sleep(3)  # nothing of the plugin cancels the caller
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep, 1)
            await trio.sleep_forever()
        assert ours.cancelled_caught  # and the caller's own deadline holds
        assert tier.statistics().failures == {Failure.ERROR: 1}
        assert tier.statistics().calls == 2


async def test_a_coroutine_that_is_returned_is_no_answer():
    async with running(Plain) as tier:
        with (
            pytest.warns(RuntimeWarning, match="never awaited"),
            pytest.raises(PluginFailed, match="BadAnswer"),
        ):
            await tier.call("rcpt", HookArguments(recipient="coroutine"))


async def test_context_variables_of_the_caller_are_as_before():
    WORD.set("ours")
    async with running(Plain) as tier:
        await tier.call("rcpt", HookArguments(recipient="remember"))
    assert WORD.get() == "ours"


async def test_a_caller_who_is_cancelled_gets_his_answer_and_is_cancelled_then():
    async with running(Plain) as tier:
        with trio.CancelScope() as scope:
            scope.cancel()
            answer = await tier.call("rcpt", HookArguments(recipient="reject"))
            await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        assert answer.decision == Reject("No")


async def _plain(self):
    async def inner():
        await trio.sleep(1)

    return [inner for _ in range(3)]


async def _awaiting(self):
    if self is None:
        await trio.sleep(1)


async def _looping(self):
    async for _ in self:
        pass


async def _within(self):
    async with self:
        pass


async def _comprehending(self):
    return [each async for each in self]


async def _generating(self):
    yield 1


@wraps(_plain)
async def _wrapped(self):
    return await _plain(self)


def _sync(self):
    return _awaiting(self)


class _Callable:
    async def __call__(self):
        return None


def test_what_awaits_is_seen_in_the_code():
    assert not awaits(_plain)
    for each in (
        _awaiting,
        _looping,
        _within,
        _comprehending,
        _generating,
        _wrapped,
        _sync,
        _Callable(),
        print,
    ):
        assert awaits(each), each
