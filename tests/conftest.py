"""What holds for every test: a deadline, and errors shown bare rather than inside a group of one."""

import functools
import inspect
import signal
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import pytest
import trio

DEFAULT_DEADLINE = 5.0
"""Seconds, of the clock that the test runs on (virtual with `autojump_clock`, then give more)."""


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what goes on in the background so, and what tests start would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _limited(function: Callable[..., Awaitable[Any]], seconds: float) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(function)
    async def run(*args: Any, **kwargs: Any) -> Any:
        with trio.fail_after(seconds):
            return await function(*args, **kwargs)

    return run


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        function = getattr(item, "obj", None)
        if inspect.iscoroutinefunction(function):
            marker = item.get_closest_marker("deadline")
            seconds = marker.args[0] if marker else DEFAULT_DEADLINE
            if {"autojump_clock", "mta"} & set(getattr(item, "fixturenames", ())):
                seconds = max(seconds, 30 * 86400.0)
            item.obj = _limited(function, seconds)  # type: ignore[attr-defined]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    try:
        return (yield)
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        raise (error if error is not group else group) from None
