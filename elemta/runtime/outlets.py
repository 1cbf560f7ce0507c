"""Where a log can go beside a descriptor: a file that is opened again on demand, and sockets.

Like `Output` they are written to by one thread at a time, for no longer than asked. What they get are whole
lines, or whole groups of lines where an empty line ends each; sockets send these one by one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

SMALL_DATAGRAM = 2048
"""Octets that every receiver should take (RFC 5424 6.1)."""
_AGAIN_AFTER = 1.0
"""Seconds between two attempts to reach who is not there."""


class Outlet(Protocol):
    """Where a `LogPump` writes."""

    def write(self, data: bytes, patience: float) -> tuple[int, OSError | None]:
        """Write what can be written within that many seconds: how many octets, and what stopped it."""

    def close(self) -> None:
        """Idempotent."""


class FileOutlet:
    """A file that grows. After `reopen` the next write opens the name anew: it may have been moved away."""

    def __init__(self, path: Path, mode: int = 0o640) -> None:
        """Opens it, so that what is wrong is known at once.

        Raises:
          OSError: it cannot be written.
        """
        self.path = path
        self._mode = mode
        self._fd: int | None = self._open()
        self._again = False

    def reopen(self) -> None:
        """Sync and quick: the opening is left to the thread that writes."""
        self._again = True

    def write(self, data: bytes, patience: float) -> tuple[int, OSError | None]:
        if self._again:
            self._again = False
            with contextlib.suppress(OSError):  # else on with the old one: it is still a place for the log
                fresh = self._open()
                self.close()
                self._fd = fresh
        if self._fd is None:
            return 0, OSError(errno.EBADF, "closed")
        try:
            return os.write(self._fd, data), None
        except OSError as error:
            return 0, error

    def close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY
        return os.open(self.path, flags, self._mode)


class _SocketOutlet:
    """What sockets have in common: they are connected for what there is to write, again after an error."""

    def __init__(self, connect: Callable[[float], socket.socket]) -> None:
        """`connect` takes the seconds it may need."""
        self._connect = connect
        self._socket: socket.socket | None = None
        self._not_before = 0.0

    def close(self) -> None:
        found, self._socket = self._socket, None
        if found is not None:
            found.close()

    def _connected(self, patience: float) -> socket.socket:
        if self._socket is None:
            if time.monotonic() < self._not_before:
                raise OSError(errno.ENOTCONN, "not there")
            self._not_before = time.monotonic() + _AGAIN_AFTER
            self._socket = self._connect(max(patience, 0.01))
            self._socket.setblocking(False)
        return self._socket


class DatagramOutlet(_SocketOutlet):
    """Each record in a datagram of its own: journald, syslog on this machine or over UDP (RFC 5426)."""

    def __init__(self, address: str | tuple[str, int], *, end: bytes = b"\n") -> None:
        """`address`: of a socket in the file system, or IP address and port. `end`: what ends each record."""
        self._address = address
        self._end = end
        super().__init__(self._open)

    def write(self, data: bytes, patience: float) -> tuple[int, OSError | None]:
        deadline = time.monotonic() + patience
        written = 0
        try:
            sock = self._connected(patience)
            for record in _records(data, self._end):
                if not _send(sock, record, deadline):
                    break
                written += len(record) + len(self._end)
        except OSError as error:
            self.close()
            return written, error
        return written, None

    def _open(self, patience: float) -> socket.socket:
        if isinstance(self._address, str):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            where: str | tuple[str, int] = self._address
        else:
            family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
            sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            where = self._address
        try:
            sock.connect(where)
        except OSError:
            sock.close()
            raise
        return sock


class StreamOutlet(_SocketOutlet):
    """Records over TCP, each with its length before it (octet counting, RFC 6587 3.4.1)."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._rest = b""
        """Of a frame that was sent in part: what follows must begin with it."""
        super().__init__(lambda patience: socket.create_connection(address, timeout=patience))

    def write(self, data: bytes, patience: float) -> tuple[int, OSError | None]:
        deadline = time.monotonic() + patience
        written = 0
        try:
            sock = self._connected(patience)
            if not self._flush(sock, deadline):
                return 0, None
            for record in _records(data, b"\n"):
                self._rest = b"%d %b" % (len(record), record)
                written += len(record) + 1
                if not self._flush(sock, deadline):
                    break
        except OSError as error:
            self.close()
            self._rest = b""
            return written, error
        return written, None

    def _flush(self, sock: socket.socket, deadline: float) -> bool:
        while self._rest:
            if not _writable(sock, deadline):
                return False
            with contextlib.suppress(BlockingIOError):
                self._rest = self._rest[sock.send(self._rest) :]
        return True


def _records(data: bytes, end: bytes) -> Iterator[bytes]:
    begin = 0
    while (at := data.find(end, begin)) >= 0:
        yield data[begin:at]
        begin = at + len(end)


def _send(sock: socket.socket, record: bytes, deadline: float) -> bool:
    while True:
        try:
            sock.send(record)
        except BlockingIOError:
            if not _writable(sock, deadline) or time.monotonic() >= deadline:
                return False
            time.sleep(0.001)  # poll calls writable what has no room for this record
        except OSError as error:
            if error.errno != errno.EMSGSIZE or len(record) <= SMALL_DATAGRAM:
                raise
            record = record[:SMALL_DATAGRAM].decode(errors="ignore").encode()
        else:
            return True


def _writable(sock: socket.socket, deadline: float) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
