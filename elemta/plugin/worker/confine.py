"""Take from this process what a plugin does not need, for ever: memory, files, processes, privileges.

Runs in the worker, before any line of the plugin. The limits are the kernel's (setrlimit), no new
privileges is the kernel's, and so is the filter of system calls, which is written here by hand: thirty
instructions of the classic packet filter need no library. The filter is there because RLIMIT_NPROC counts
all processes of a user and is not applied to root: without it a fork bomb goes off.

Not a wall against a hostile plugin, which may open what the server's user may open; a net under one
that fails.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import resource
import signal
import struct

import attrs

_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2
_F_SETSIG = 10


@attrs.frozen
class Limits:
    """What one worker may use."""

    memory: int = 512 * 1024 * 1024
    """Address space, in octets. Behind it Python raises MemoryError."""
    processor: int = 3600
    """Seconds of processor time in the life of a worker. It is replaced shortly before."""
    files: int = 128
    """Open files and connections."""
    file_size: int = 64 * 1024 * 1024
    """The longest file that it may write, in octets."""
    processes: int = 0
    """Child processes. 0: it can start none, by a filter of system calls."""


NICE = 5
"""Of a worker: where processors are scarce, a plugin that computes gets a third of what the server gets."""


class Unconfined(Exception):
    """The limits could not be set; the worker must not go on."""


def confine(limits: Limits) -> tuple[str, ...]:
    """Set the limits. Returns what this system does not offer, in words for the log.

    Raises:
      Unconfined: the kernel refused a limit that it has.
    """
    missing: list[str] = []
    os.nice(max(0, NICE - os.nice(0)))
    try:
        _limit(resource.RLIMIT_AS, limits.memory)
        _limit(resource.RLIMIT_NOFILE, limits.files)
        _limit(resource.RLIMIT_FSIZE, limits.file_size)
        _limit(resource.RLIMIT_CORE, 0)
        # The soft limit sends SIGXCPU, upon which the worker asks to be replaced; the hard one kills.
        hard = limits.processor + 10
        resource.setrlimit(resource.RLIMIT_CPU, (limits.processor, hard))
        if limits.processes:
            _limit(resource.RLIMIT_NPROC, limits.processes)
    except (OSError, ValueError) as error:
        raise Unconfined(f"a limit of this worker cannot be set: {error}") from error
    # Python ignores SIGXFSZ, so that a file that is too long is an OSError in the plugin.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        missing.append("no new privileges")
    table = _SYSTEM_CALLS.get(platform.machine())
    if table is None:
        missing.append(f"the filter of system calls (not written for {platform.machine()})")
    elif not _filter(libc, table, forks=limits.processes > 0):
        missing.append("the filter of system calls (not in this kernel)")
    return tuple(missing)


def die_with(lifeline: int) -> None:
    """Have the kernel kill this process and its group when the other end of a pipe is closed.

    PR_SET_PDEATHSIG is about the *thread* that started the process, and Trio starts processes in
    threads that end when they are idle. A pipe is closed when the server ends, however that happens, and
    this needs no code to run here: a worker that is in the middle of a regular expression goes too.
    """
    fcntl.fcntl(lifeline, _F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
    flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | os.O_ASYNC | os.O_NONBLOCK)
    try:
        ended = os.read(lifeline, 1) == b""
    except BlockingIOError:
        return
    if ended:  # the server ended before the signal was asked for
        os.killpg(0, signal.SIGKILL)


def _limit(what: int, value: int) -> None:
    hard = resource.getrlimit(what)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(what, (value, value))


# The classic packet filter (linux/filter.h, linux/seccomp.h): octets 0-3 of the data are the number of the
# call, 4-7 the architecture, 16-23 the first argument.
_LOAD, _JUMP_EQUAL, _JUMP_SET, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_CLONE_THREAD = 0x00010000


@attrs.frozen
class _SystemCalls:
    architecture: int
    clone: int
    clone3: int
    kill: int
    forking: tuple[int, ...]
    """fork, vfork, execve, execveat."""
    never: tuple[int, ...]
    """ptrace, setsid, setpgid, process_vm_writev, tkill, pidfd_send_signal."""


_SYSTEM_CALLS = {
    "x86_64": _SystemCalls(0xC000003E, 56, 435, 62, (57, 58, 59, 322), (101, 112, 109, 311, 200, 424)),
    "aarch64": _SystemCalls(0xC00000B7, 220, 435, 129, (221, 281), (117, 157, 154, 271, 130, 424)),
}


def _filter(libc: ctypes.CDLL, calls: _SystemCalls, *, forks: bool) -> bool:
    program = [
        (_LOAD, 0, 0, 4),
        (_JUMP_EQUAL, 1, 0, calls.architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),
    ]

    def refuse(number: int, error: int) -> None:
        program.extend([(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE | error)])

    # Leaving the process group would be leaving the reach of the signal that ends it.
    for number in calls.never:
        refuse(number, errno.EPERM)
    if not forks:
        for number in calls.forking:
            refuse(number, errno.EPERM)
        # The arguments of clone3 are behind a pointer; without it libc falls back on clone.
        refuse(calls.clone3, errno.ENOSYS)
        program.extend(
            [
                (_JUMP_EQUAL, 0, 4, calls.clone),
                (_LOAD, 0, 0, 16),
                (_JUMP_SET, 1, 0, _CLONE_THREAD),  # threads are welcome
                (_RETURN, 0, 0, _REFUSE | errno.EPERM),
                (_RETURN, 0, 0, _ALLOW),
            ]
        )
    program.extend(
        [
            (_JUMP_EQUAL, 0, 3, calls.kill),
            (_LOAD, 0, 0, 16),
            (_JUMP_EQUAL, 1, 0, os.getpid()),  # itself, and nobody else
            (_RETURN, 0, 0, _REFUSE | errno.EPERM),
            (_RETURN, 0, 0, _ALLOW),
        ]
    )
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    head = struct.pack("@HP", len(program), ctypes.addressof(buffer))
    result: int = libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.c_char_p(head), 0, 0)
    return result == 0
