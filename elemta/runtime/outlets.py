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
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

SMALL_DATAGRAM = 2048
"""Octets that every receiver should take (RFC 5424 6.1)."""
_AGAIN_AFTER = 1.0
"""Seconds between two attempts to reach who is not there; over a network twice as long after each …"""
_LONGEST_AGAIN_AFTER = 60.0
"""… up to so many."""
_CONNECT_SECONDS = 15.0
"""For a connection and its TLS handshake, both over as many writes as it takes."""


class Outlet(Protocol):
    """Where a `LogPump` writes."""

    @property
    def keeps(self) -> bool:
        """What could not be written because of an error is to be written again."""

    def write(self, data: bytes, patience: float) -> tuple[int, OSError | None]:
        """Write what can be written within that many seconds: how many octets, and what stopped it."""

    def close(self) -> None:
        """Idempotent."""


class FileOutlet:
    """A file that grows. After `reopen` the next write opens the name anew: it may have been moved away."""

    keeps = False

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


class DatagramOutlet:
    """Each record in a datagram of its own: journald, syslog on this machine or over UDP (RFC 5426)."""

    keeps = False

    def __init__(self, address: str | tuple[str, int], *, end: bytes = b"\n") -> None:
        """`address`: of a socket in the file system, or IP address and port. `end`: what ends each record."""
        self._address = address
        self._end = end
        self._socket: socket.socket | None = None
        self._not_before = 0.0

    def close(self) -> None:
        found, self._socket = self._socket, None
        if found is not None:
            found.close()

    def write(self, data: bytes, patience: float) -> tuple[int, OSError | None]:
        deadline = time.monotonic() + patience
        written = 0
        try:
            sock = self._connected()
            for record in _records(data, self._end):
                if not _send(sock, record, deadline):
                    break
                written += len(record) + len(self._end)
        except OSError as error:
            self.close()
            return written, error
        return written, None

    def _connected(self) -> socket.socket:
        if self._socket is None:
            if time.monotonic() < self._not_before:
                raise OSError(errno.ENOTCONN, "not there")
            self._not_before = time.monotonic() + _AGAIN_AFTER
            self._socket = self._open()
            self._socket.setblocking(False)
        return self._socket

    def _open(self) -> socket.socket:
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


class StreamOutlet:
    """Records over TCP, each with its length before it (RFC 6587 3.4.1), or over TLS (RFC 5425).

    While the receiver is not there nothing is written, and it is tried again less and less often. What had
    left when a connection broke may not have arrived: syslog has no receipts.
    """

    keeps = True

    def __init__(
        self, address: tuple[str, int], *, tls: ssl.SSLContext | None = None, name: str | None = None
    ) -> None:
        """`address`: IP address and port. `name`: what the receiver's certificate must be for, default its
        address."""
        self._address = address
        self._tls = tls
        self._name = name or address[0]
        self._socket: socket.socket | None = None
        self._open = False
        """Connected, and the TLS handshake is done."""
        self._give_up = 0.0
        self._not_before = 0.0
        self._pause = 0.0
        self._rest = b""
        """Of a frame that was sent in part: what follows must begin with it."""

    def write(self, data: bytes, patience: float) -> tuple[int, OSError | None]:
        deadline = time.monotonic() + patience
        written = begun = 0
        try:
            sock = self._connected(deadline)
            if sock is None or not self._flush(sock, deadline):
                return 0, None
            for record in _records(data, b"\n"):
                self._rest = b"%d %b" % (len(record), record)
                begun = len(record) + 1
                if not self._flush(sock, deadline):
                    return written + begun, None  # the rest of it has its place
                written += begun
                self._pause = 0.0
        except OSError as error:
            self.close()
            self._not_before = time.monotonic() + (self._pause or _AGAIN_AFTER)
            self._pause = min(_LONGEST_AGAIN_AFTER, 2 * (self._pause or _AGAIN_AFTER))
            return written, error
        return written, None

    def close(self) -> None:
        found, self._socket = self._socket, None
        self._rest = b""
        if found is None:
            return
        if isinstance(found, ssl.SSLSocket) and self._open:
            with contextlib.suppress(OSError, ValueError):
                found.unwrap()  # RFC 5425 4.4: says that it is the end, and waits for no answer
        self._open = False
        found.close()

    def _connected(self, deadline: float) -> socket.socket | None:
        """None: not yet."""
        if self._socket is None:
            if time.monotonic() < self._not_before:
                return None
            self._give_up = time.monotonic() + _CONNECT_SECONDS
            family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
            self._socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
            _check(self._socket.connect_ex(self._address))
        if not self._open and not (self._connect(deadline) and self._shake_hands(deadline)):
            if time.monotonic() > self._give_up:
                raise TimeoutError(errno.ETIMEDOUT, "it does not answer")
            return None
        self._open = True
        if self._has_ended(self._socket):
            raise BrokenPipeError(errno.EPIPE, "the receiver ended the connection")
        return self._socket

    def _connect(self, deadline: float) -> bool:
        assert self._socket is not None
        if isinstance(self._socket, ssl.SSLSocket):
            return True
        if not _wait(self._socket, select.POLLOUT, deadline):
            return False
        _check(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        if self._tls is not None:
            self._socket = self._tls.wrap_socket(
                self._socket, server_hostname=self._name, do_handshake_on_connect=False
            )
        return True

    def _shake_hands(self, deadline: float) -> bool:
        while isinstance(self._socket, ssl.SSLSocket):
            try:
                self._socket.do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as wish:
                if not _wait(self._socket, _event(wish), deadline):
                    return False
            else:
                break
        return True

    def _has_ended(self, sock: socket.socket) -> bool:
        """Receivers say nothing; what can be read is their end, or TLS's own."""
        if not _wait(sock, select.POLLIN, 0.0):
            return False
        try:
            return not sock.recv(1024)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False

    def _flush(self, sock: socket.socket, deadline: float) -> bool:
        wanted: int = select.POLLOUT
        while self._rest:
            if not _wait(sock, wanted, deadline):
                return False
            try:
                self._rest = self._rest[sock.send(self._rest) :]
            except BlockingIOError:
                pass
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as wish:
                wanted = _event(wish)
            else:
                wanted = select.POLLOUT
        return True


def _event(wish: ssl.SSLError) -> int:
    return select.POLLIN if isinstance(wish, ssl.SSLWantReadError) else select.POLLOUT


def _check(number: int) -> None:
    """Raise what a connection came to."""
    if number not in (0, errno.EINPROGRESS):
        raise OSError(number, os.strerror(number))


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
            if not _wait(sock, select.POLLOUT, deadline) or time.monotonic() >= deadline:
                return False
            time.sleep(0.001)  # poll calls writable what has no room for this record
        except OSError as error:
            if error.errno != errno.EMSGSIZE or len(record) <= SMALL_DATAGRAM:
                raise
            record = record[:SMALL_DATAGRAM].decode(errors="ignore").encode()
        else:
            return True


def _wait(sock: socket.socket, event: int, deadline: float) -> bool:
    poll = select.poll()
    poll.register(sock, event)
    return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
