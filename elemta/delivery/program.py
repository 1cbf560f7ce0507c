"""Run one program with its standard input, within limits, and leave nothing of it behind.

There is no shell: what is in the arguments is never read as a command. The program has a session and
process group of its own; whoever is left in that group when it ends, or when its time is over, is
killed. The limits are set before it gets the first octet of its input.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence

import attrs
import trio

MOST_OUTPUT = 4096
"""Octets of what it says that are kept; the rest is read and forgotten."""
REAP_SECONDS = 5.0
"""How long a killed process may take to be gone."""
_REST_SECONDS = 1.0
"""How long its output may be held open by one that left the group."""
_FILES = 256
_LARGEST_FILE = 1 << 30


class CannotStart(Exception):
    """There is no such program, or it may not be run; the text says why."""


Feed = Callable[[trio.abc.SendStream], Awaitable[None]]


@attrs.frozen
class Limits:
    """What a program may use up."""

    seconds: float
    memory: int
    """Octets of address space, for each of its processes."""


@attrs.frozen
class Ended:
    """How it ended."""

    status: int | None
    """Its exit status; below zero the signal that killed it; None: its time was over."""
    output: bytes
    """The beginning of what it wrote to standard output and standard error."""


async def run_program(
    arguments: Sequence[str], environment: Mapping[str, str], limits: Limits, feed: Feed
) -> Ended:
    """Run it; `feed` writes its input, which it need not read.

    Cancelled, it is killed with its group.

    Raises:
      CannotStart
      Exception: of `feed`, but not that the input was closed; the program is killed.
    """
    try:
        process = await trio.lowlevel.open_process(
            list(arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=dict(environment),
            start_new_session=True,
            umask=0o077,
            restore_signals=True,
        )
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise CannotStart(reason) from error
    try:
        return await _attend(process, limits, feed)
    finally:
        _kill_group(process.pid)
        with trio.move_on_after(REAP_SECONDS, shield=True):
            await process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with trio.move_on_after(REAP_SECONDS, shield=True):
                    await stream.aclose()


async def _attend(process: trio.Process, limits: Limits, feed: Feed) -> Ended:
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout
    output = bytearray()
    trouble: list[Exception] = []

    async def write() -> None:
        try:
            await feed(stdin)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # it has read enough
        except Exception as error:
            # Its input stays open until it is killed: an end would pass half a message for a whole one.
            trouble.append(error)
            nursery.cancel_scope.cancel(reason="the input cannot be read")
            return
        await stdin.aclose()

    async def read() -> None:
        try:
            while piece := await stdout.receive_some():
                output.extend(piece[: MOST_OUTPUT - len(output)])
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return

    with trio.move_on_after(limits.seconds) as scope:
        _limit(process.pid, limits)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            nursery.start_soon(write)
            await process.wait()
            _kill_group(process.pid)  # so that nobody holds the pipes
            nursery.cancel_scope.deadline = trio.current_time() + _REST_SECONDS
    if trouble:
        raise trouble[0]
    return Ended(None if scope.cancelled_caught else process.returncode, bytes(output))


def _limit(pid: int, limits: Limits) -> None:
    seconds = int(limits.seconds) + 1
    for what, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, limits.memory),
        (resource.RLIMIT_NOFILE, _FILES),
        (resource.RLIMIT_FSIZE, _LARGEST_FILE),
    ):
        try:
            hard = resource.prlimit(pid, what)[1]
            most = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.prlimit(pid, what, (most, most))
        except ProcessLookupError:  # it has ended already
            return


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # nobody is left, or it became somebody else's
        return
