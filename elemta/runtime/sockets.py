"""A TCP stream for the hot path: one system call where that is enough, and few function calls around it.

`trio.SocketStream` makes every call a full checkpoint and wraps each in several context managers, which costs
more than the kernel's part of a short read or write. Here a call that can go on at once does: it is a
cancellation point always, and lets others run only now and then. Who loops over it lets others run himself.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import trio

_Wait: TypeAlias = Callable[[socket.socket], Awaitable[None]]

_CHUNK = 65536
_TURNS = 16
"""Calls that went on at once, after which others get their turn whatever the caller does."""
_CLOSED = frozenset({errno.EBADF, errno.ENOTSOCK})


class QuickSocketStream(trio.abc.HalfCloseableStream):
    """A connected TCP socket as a stream. For one reader and one writer at a time, which is not checked."""

    __slots__ = ("_turns", "socket")

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock
        self._turns = 0

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The next octets, `b""` at the end. Cancelled, nothing was taken."""
        await self._checkpoint()
        while True:
            try:
                return self.socket.recv(_CHUNK if max_bytes is None else max_bytes)
            except BlockingIOError:
                await self._wait(trio.lowlevel.wait_readable)
            except OSError as error:
                raise _translated(error) from error

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send everything. Cancelled or failed: some, all or none of it was sent."""
        await self._checkpoint()
        rest: bytes | bytearray | memoryview = data
        while True:
            try:
                sent = self.socket.send(rest)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                raise _translated(error) from error
            if sent == len(rest):
                return
            rest = memoryview(rest)[sent:]
            await self._wait(trio.lowlevel.wait_writable)

    def send_now(self, data: bytes) -> int:
        """Send as much as goes without waiting; how much that was. Sync.

        Raises:
          trio.BrokenResourceError, trio.ClosedResourceError: as `send_all` does.
        """
        try:
            return self.socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise _translated(error) from error

    async def wait_send_all_might_not_block(self) -> None:
        await self._wait(trio.lowlevel.wait_writable)

    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise _translated(error) from error

    async def aclose(self) -> None:
        """Close; who waits on the stream is told. Done also when cancelled."""
        if self.socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self.socket)
            self.socket.close()
        await trio.lowlevel.checkpoint()

    async def _checkpoint(self) -> None:
        self._turns += 1
        if self._turns % _TURNS:
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            await trio.lowlevel.checkpoint()
        if self.socket.fileno() < 0:
            raise trio.ClosedResourceError("this socket was closed")

    async def _wait(self, wait: _Wait) -> None:
        try:
            await wait(self.socket)
        except OSError as error:
            raise _translated(error) from error


def quick(stream: trio.SocketStream) -> QuickSocketStream:
    """The same connection as a quick stream; the given one is done with."""
    family, kind, protocol = stream.socket.family, stream.socket.type, stream.socket.proto
    return QuickSocketStream(socket.socket(family, kind, protocol, fileno=stream.socket.detach()))


def _translated(error: OSError) -> Exception:
    if error.errno in _CLOSED:
        return trio.ClosedResourceError("this socket was closed")
    return trio.BrokenResourceError(f"socket connection broken: {error}")
