"""Take connections from one listening socket, several at a time, whatever the system does to it."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from abc import abstractmethod
from collections.abc import Sequence

import attrs
import trio

from elemta.runtime import UNIX_PEER, QuickSocketStream, SocketAddress, peer_address, plain_address, quick

CAPACITY_ERRORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
"""The system is out of something; it may have it again in a moment (accept(2))."""
_CONNECTION_ERRORS = frozenset(
    # accept(2): what became of the connection before it was accepted, or a firewall's no
    {
        errno.ECONNABORTED, errno.ECONNRESET, errno.EPERM, errno.EPROTO, errno.ENETDOWN, errno.ENOPROTOOPT,
        errno.EHOSTDOWN, errno.ENONET, errno.EHOSTUNREACH, errno.EOPNOTSUPP, errno.ENETUNREACH,
        errno.ETIMEDOUT, errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT, errno.ENOSR,
    }
)  # fmt: skip
BATCH = 16
"""Connections taken in one turn. With one in a turn, a busy server takes few; with all, a flood of one
listener keeps the others waiting."""
_LEFTOVER = 4 * 1024
"""Most connections that are taken from a socket that is given up: more than any backlog."""


@attrs.frozen
class Arrival:
    """A connection that was accepted, and who it is from."""

    stream: trio.abc.Stream
    peer: str
    port: int


class Source(trio.abc.AsyncResource):
    """Where connections of one listener come from."""

    @abstractmethod
    async def accept(self) -> Sequence[Arrival]:
        """The next connections, at least one unless they came and went. Cancelled: none is lost.

        Raises:
          OSError: the system is out of something (`CAPACITY_ERRORS`), or the socket is broken.
        """

    def leftover(self) -> Sequence[Arrival]:
        """What waits in the backlog of a source that is given up. Sync."""
        return ()

    def turn_all_away(self, words: bytes) -> int:
        """Without descriptors for more: say that to those who wait, and close; how many were told. Sync."""
        return 0

    @abstractmethod
    async def aclose(self) -> None:
        """Stop listening. Done also when cancelled."""


class SocketSource(Source):
    """A listening socket of this machine."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._spare = -1
        """A descriptor that is given up for a moment where none is left."""
        self._keep_spare()

    async def accept(self) -> Sequence[Arrival]:
        await trio.lowlevel.checkpoint()  # the others' turn; nothing was taken yet
        while True:
            found = self._take(BATCH)
            if found:
                return found
            await trio.lowlevel.wait_readable(self._socket)

    def leftover(self) -> Sequence[Arrival]:
        with contextlib.suppress(OSError):
            return self._take(_LEFTOVER)
        return ()

    def turn_all_away(self, words: bytes) -> int:
        count = 0
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1
        try:
            while count < BATCH:
                connection, _ = self._socket.accept()
                with connection:
                    connection.setblocking(False)
                    with contextlib.suppress(OSError):
                        connection.send(words)
                count += 1
        except OSError:
            pass  # nobody waits any more, or another thread took the descriptor
        self._keep_spare()
        return count

    async def aclose(self) -> None:
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1
        await trio.lowlevel.checkpoint()

    def _keep_spare(self) -> None:
        with contextlib.suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _take(self, most: int) -> list[Arrival]:
        found: list[Arrival] = []
        for _ in range(most):
            try:
                connection, address = self._socket.accept()
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in _CONNECTION_ERRORS:
                    continue
                if found:
                    break  # it will be met again at the next turn
                raise
            peer, port = _peer_of(connection, address)
            found.append(Arrival(QuickSocketStream(connection), peer, port))
        return found


class ListenerSource(Source):
    """A listener of another network, as in simulations."""

    def __init__(self, listener: trio.abc.Listener[trio.abc.Stream]) -> None:
        self._listener = listener

    async def accept(self) -> Sequence[Arrival]:
        try:
            stream = await self._listener.accept()
        except OSError as error:
            if error.errno not in _CONNECTION_ERRORS:
                raise
            return ()
        if isinstance(stream, trio.SocketStream):
            stream = quick(stream)
        try:
            peer, port = peer_address(stream)
        except OSError:  # it came and went
            await trio.aclose_forcefully(stream)
            return ()
        return (Arrival(stream, peer, port),)

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self._listener)


def _peer_of(connection: socket.socket, address: tuple[str, int] | str) -> SocketAddress:
    if connection.family == socket.AF_UNIX or isinstance(address, str):
        return UNIX_PEER
    return plain_address(address[0]), address[1]
