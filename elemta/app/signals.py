"""SIGTERM and SIGINT: drain, a second one hurries. SIGHUP: reload."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable

import trio

from elemta.config import TimeoutsConfig
from elemta.runtime import Drain


async def handle_signals(
    drain: Drain,
    timeouts: Callable[[], TimeoutsConfig],
    reload: Callable[[], Awaitable[object]],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Turn signals into a drain or a reload until cancelled. Only in the main thread.

    `timeouts` gives those that hold at the moment of the signal.
    """
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as received:
        task_status.started()
        async for number in received:
            if number == signal.SIGHUP:
                await reload()
            elif drain.draining:
                # A hurried stop is as safe as a crash: what is committed is committed.
                drain.begin("second signal", 0.0, timeouts().hard_cancel)
            else:
                begin_drain(drain, timeouts(), signal.Signals(number).name)


def begin_drain(drain: Drain, timeouts: TimeoutsConfig, reason: str) -> None:
    """The orderly stop, within `timeouts.drain` in all."""
    hard = min(timeouts.hard_cancel, timeouts.drain)
    drain.begin(reason, timeouts.drain - hard, hard)
