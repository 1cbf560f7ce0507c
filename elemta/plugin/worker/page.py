"""A page of memory that the server shares with a worker: which call is running at this moment.

A worker that dies cannot say what it was doing. It writes the call before each step of a task, so that
the server can read it afterwards: that call failed, and the others that were in the worker can be given
to another one. The server only reads, and believes nothing: a number that it does not know is no call.
"""

from __future__ import annotations

import contextvars
import mmap
import os
import struct

import attrs
import trio

_FORM = struct.Struct("=QQ")
SIZE = mmap.PAGESIZE

current_call: contextvars.ContextVar[int] = contextvars.ContextVar("current_call", default=0)
"""The call that a task works for. Inherited by the tasks that it starts."""


@attrs.frozen(slots=True)
class Progress:
    """What a page says: the call whose code is running (0: none), and how many steps there were."""

    call: int
    steps: int


class SharedPage:
    """The server's end. The descriptor is handed to the worker, and closed here once it has been."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("elemta-worker", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, SIZE)
        self._map = mmap.mmap(self.fd, SIZE, mmap.MAP_SHARED, mmap.PROT_READ)

    def read(self) -> Progress:
        """What the worker wrote last."""
        call, steps = _FORM.unpack_from(self._map)
        return Progress(call, steps)

    def close(self) -> None:
        self._map.close()
        os.close(self.fd)


class PageInstrument(trio.abc.Instrument):
    """In the worker: writes the page at each step of a task."""

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, SIZE, mmap.MAP_SHARED)
        self._steps = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._steps += 1
        _FORM.pack_into(self._map, 0, task.context.get(current_call, 0), self._steps)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self._steps += 1
        _FORM.pack_into(self._map, 0, 0, self._steps)
