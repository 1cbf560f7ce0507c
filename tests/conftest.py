"""What holds for every test: a deadline, errors shown bare rather than inside a group of one, no secret told."""

import functools
import inspect
import signal
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import hypothesis
import pytest
import secret_watch
import trio
from secret_watch import watch

DEFAULT_DEADLINE = 5.0
"""Seconds, of the clock that the test runs on (virtual with `autojump_clock`, then give more)."""


# An example is as slow as the machine is busy.
hypothesis.settings.register_profile(
    "busy machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("busy machine")

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


secret_watch.install()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "teardown":
        for name, text in report.sections:
            if name.startswith(("Captured stdout", "Captured stderr", "Captured log")):
                watch.hear(text)
        told = watch.findings()
        if told and report.passed:
            report.outcome = "failed"
            report.longrepr = "a secret was told:\n" + "\n".join(told)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    try:
        return (yield)
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        raise (error if error is not group else group) from None
