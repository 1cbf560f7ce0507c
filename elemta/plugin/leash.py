"""Runs a stranger's coroutine so that it ends when it is cancelled, also if it does not want to.

One that awaits nothing, which its code shows, is run to its end by a plain call, and Trio has no part in it.

Trio resumes a task by sending an outcome to its coroutine, and a cancel is one such outcome. What stands
between the two sees how often a cancel was delivered: code that catches it each time is closed. Only what
waits under a shield without a deadline cannot be reached; such a plugin belongs in a process.
"""

from __future__ import annotations

import ctypes
import dis
import inspect
import types
from collections.abc import Coroutine, Generator
from typing import Any

import outcome
import trio


class Stalled(BaseException):
    """Raised by the watchdog in a plugin that computes without an await, where it stands."""

    def __str__(self) -> str:
        return "computed for too long without an await, and was broken off"


_SUSPENDING = frozenset({"YIELD_VALUE", "SEND", "YIELD_FROM"})
PATIENCE = 1_000
"""Cancels that one call may catch. Clean-up that is right sees a handful of them."""


@types.coroutine
def leash(coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:  # Any: Trio's own messages
    """Await the coroutine.

    Cancelled more often than anyone needs: the coroutine is closed, and Cancelled goes on.
    """
    delivered = 0
    sent: Any = None
    while True:
        try:
            trap = coroutine.send(sent)
        except StopIteration as end:
            return end.value
        except Stalled:
            if (
                inspect.getcoroutinestate(coroutine) != inspect.CORO_CLOSED
            ):  # it came to its next await just before
                _close(coroutine)
            raise
        sent = yield trap
        if type(sent) is outcome.Error and isinstance(sent.error, trio.Cancelled):
            delivered += 1
            if delivered > PATIENCE:
                _close(coroutine)
                sent.unwrap()


def awaits(function: object) -> bool:
    """Whether calling it makes anything else than a coroutine that runs through to its end in one step."""
    code = getattr(function, "__code__", None)
    if not isinstance(code, types.CodeType) or not inspect.iscoroutinefunction(function):
        return True
    # An await, and what `async for` and `async with` are made of, suspends by one of these
    return any(each.opname in _SUSPENDING for each in dis.get_instructions(code))


def run_through(coroutine: Coroutine[Any, Any, Any]) -> Any:  # Any: what a plugin returns
    """Run a coroutine of a function that does not await (`awaits`) in this task, and return what it does.

    Raises:
      RuntimeError: it left a cancel scope open, which is closed now.
    """
    task = trio.lowlevel.current_task()
    # A scope of ours around the call would tell the same, and cost more than all the rest
    before = task._cancel_status
    try:
        coroutine.send(None)
    except StopIteration as end:
        if task._cancel_status is before:
            return end.value
    finally:
        if task._cancel_status is not before:
            _close_scopes(task, before)
    _close(coroutine)
    raise RuntimeError("it left a cancel scope open, or awaited what its code does not show")


def _close_scopes(task: trio.lowlevel.Task, before: Any) -> None:  # Any: Trio's own
    """Close those that were opened within."""
    while task._cancel_status is not before and before.encloses(task._cancel_status):
        task._cancel_status._scope.__exit__(None, None, None)


STEPS = frozenset({leash.__code__, run_through.__code__})
"""By these codes a step of a plugin is known in a stack."""


def _close(coroutine: Coroutine[Any, Any, Any]) -> None:
    layers: list[Any] = []  # Any: coroutines, and at the bottom what Trio awaits
    layer: Any = coroutine
    while layer is not None:
        layers.append(layer)
        layer = getattr(layer, "cr_await", None)
    try:
        coroutine.close()
    except BaseException:  # noqa: ASYNC103 - whatever its clean-up does, it is over
        for each in layers:
            _keep_for_good(each)


def _keep_for_good(coroutine: object) -> None:
    """Collecting what ignores GeneratorExit runs it again: for ever, if it then loops. A list would only put
    that off until the interpreter ends, which could not end. So one reference too many is counted."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(coroutine))
