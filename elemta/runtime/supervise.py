"""Run a child so that its crash stays where it is: restarted after a pause, or reported and over.

The border is `except* Exception`: a child's error and a cancel from outside may arrive in one
BaseExceptionGroup, which `except Exception` would let pass whole. `except*` takes the errors and
lets Cancelled, KeyboardInterrupt and SystemExit go on. The report is made inside the handler,
because nothing behind it runs when such a rest goes on.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import attrs
import trio

from .drain import Drain
from .groups import summarize
from .log import get_logger

OnCrash: TypeAlias = Callable[[str, BaseException], None]
"""Told the child's name and its error: bare if it was one, else as a group."""

_log = get_logger(__name__)


class Restart(enum.Enum):
    """What follows a crash. A child that returns is done in either case."""

    ON_CRASH = "on-crash"
    """Run it again after a pause."""
    ESCALATE = "escalate"
    """It is essential: report the crash and raise it, which ends whoever stands above."""


@attrs.frozen
class Backoff:
    """How long to pause before a restart: doubling, and from the start again after a quiet time."""

    first: float = 1.0
    longest: float = 300.0
    quiet: float = 600.0
    """A child that ran this long before it crashed counts as new."""

    def delay(self, crashes: int) -> float:
        """The pause after that many crashes in a row, counted from 1."""
        # 2.0 ** 1024 overflows; 60 doublings are past any longest pause.
        return float(min(self.first * 2.0 ** min(crashes - 1, 60), self.longest))


async def supervise(
    name: str,
    child: Callable[[], Awaitable[None]],
    *,
    on_crash: OnCrash,
    restart: Restart = Restart.ON_CRASH,
    backoff: Backoff = Backoff(),
    drain: Drain | None = None,
) -> None:
    """Run `child()` until it returns, again after each crash.

    Never raises an error of the child, except with `Restart.ESCALATE`. Cancelled: so is the child,
    or the pause. Once `drain` has begun a crashed child is not started again, so that nobody
    waits for its pause.
    """
    crashes = 0
    while True:
        started = trio.current_time()
        crashed = False
        try:
            await child()
        except* Exception as group:
            crashed = True
            _report(on_crash, name, _bare(group))
            if restart is Restart.ESCALATE:
                raise
        if not crashed or (drain is not None and drain.draining):
            return
        crashes = 1 if trio.current_time() - started >= backoff.quiet else crashes + 1
        if drain is None:
            await trio.sleep(backoff.delay(crashes))
            continue
        with trio.move_on_after(backoff.delay(crashes)):
            await drain.wait_draining()
            return


async def contain(name: str, child: Callable[[], Awaitable[None]], *, on_crash: OnCrash) -> bool:
    """Run `child()` once; a crash is reported and over. Returns whether it ended without one.

    For what is never restarted: a session, an attempt. Cancelled: so is the child.
    """
    sound = True
    try:
        await child()
    except* Exception as group:
        sound = False
        _report(on_crash, name, _bare(group))
    return sound


def _bare(group: ExceptionGroup[Exception]) -> Exception:
    """The error in groups of one, as it was raised."""
    error: Exception = group
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _report(on_crash: OnCrash, name: str, error: Exception) -> None:
    try:
        on_crash(name, error)
    except Exception as failure:
        # The report of a crash must not become one.
        _log.error(
            "the report of a crash failed", task=name, error=summarize(error), failure=summarize(failure)
        )
