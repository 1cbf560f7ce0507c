"""Write to a descriptor that others share, without ever blocking for longer than asked.

O_NONBLOCK belongs to the open file, which the parent's shell shares, so it must not be set on what we
were given. Sockets are sent to with MSG_DONTWAIT; pipes and terminals are opened once more, for us alone.
Where that is not allowed (a terminal after `su`) they are written in pieces that a pipe takes when `poll`
says so; then a stopped terminal, or another process that fills the same pipe in between, can hold us.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import stat
import time


class Output:
    """A descriptor of our own for the same file. Should somebody close the original, its number may come
    to mean another file, such as the database; this one stays what it was."""

    keeps = False

    def __init__(self, fd: int) -> None:
        self._fd: int | None = None
        self._socket: socket.socket | None = None
        self._piece = 0
        with contextlib.suppress(OSError):  # closed already: everything written to it is lost
            # Not below 3: nobody must find this file where they expect a standard stream.
            self._fd = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
            mode = os.fstat(self._fd).st_mode
            if stat.S_ISSOCK(mode):
                self._socket = socket.socket(fileno=self._fd)
            elif not stat.S_ISREG(mode):
                self._open_again(self._fd)

    def write(self, data: bytes, patience: float) -> tuple[int, OSError | None]:
        """Write what can be written within that many real seconds. Returns how many octets that was,
        and the error that stopped it, if one did. May be called from any thread, by one at a time."""
        fd = self._fd
        if fd is None:
            return 0, OSError("closed")
        view = memoryview(data)
        written = 0
        end = time.monotonic() + patience
        poll = select.poll()
        poll.register(fd, select.POLLOUT)
        try:
            while written < len(data):
                if not poll.poll(max(0.0, end - time.monotonic()) * 1000):
                    break
                try:
                    written += self._write_some(fd, view[written:])
                except BlockingIOError:
                    # poll calls writable what has no room for this piece
                    if time.monotonic() >= end:
                        break
                    time.sleep(0.001)
        except OSError as error:
            return written, error
        return written, None

    def close(self) -> None:
        fd, self._fd = self._fd, None
        if self._socket is not None:
            self._socket.close()
        elif fd is not None:
            os.close(fd)

    def _write_some(self, fd: int, view: memoryview) -> int:
        if self._socket is not None:
            return self._socket.send(view, socket.MSG_DONTWAIT)
        return os.write(fd, view[: self._piece] if self._piece else view)

    def _open_again(self, fd: int) -> None:
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            again = os.open(f"/proc/self/fd/{fd}", flags)
        except OSError:
            # POSIX: where poll calls a pipe writable, it takes PIPE_BUF octets without blocking.
            self._piece = select.PIPE_BUF
        else:
            os.dup2(again, fd, inheritable=False)
            os.close(again)
