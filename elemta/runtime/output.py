"""Write to a descriptor that others share, without ever blocking for longer than asked.

O_NONBLOCK is no way: it belongs to the open file, which the parent's shell shares. So sockets are sent
to with MSG_DONTWAIT, and pipes and terminals are written in pieces for which `poll` said there is room.
(Another process that fills the same pipe between the two calls is not guarded against.)
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import select
import socket
import stat
import termios
import time


class Output:
    """A duplicate of a descriptor. Closed by somebody else, the original may come to mean another
    file, such as the database; this one stays what it was."""

    def __init__(self, fd: int) -> None:
        self._fd: int | None = None
        self._socket: socket.socket | None = None
        self._pipe_size = 0
        self._pieces = True
        with contextlib.suppress(OSError):  # closed already: everything written to it is lost
            # Not below 3: nobody must find this file where they expect a standard stream.
            self._fd = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
            mode = os.fstat(self._fd).st_mode
            self._pieces = not stat.S_ISREG(mode)
            if stat.S_ISSOCK(mode):
                self._socket = socket.socket(fileno=self._fd)
            elif stat.S_ISFIFO(mode):
                self._pipe_size = fcntl.fcntl(self._fd, fcntl.F_GETPIPE_SZ)

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
                    # poll calls a socket writable that has no room for this piece
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
        if self._pieces:
            # POSIX pipe(7): up to PIPE_BUF octets fit where poll says writable; an empty pipe takes its size.
            size = select.PIPE_BUF
            if self._pipe_size:
                unread = array.array("i", [0])
                fcntl.ioctl(fd, termios.FIONREAD, unread)
                size = self._pipe_size if unread[0] == 0 else size
            view = view[:size]
        return os.write(fd, view)
