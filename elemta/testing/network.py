"""A network in memory: named addresses with listeners, and addresses that refuse, are out of reach, or hang.

It moves with Trio's clock, so on a mock clock whole days of connecting and waiting pass at once.
"""

from __future__ import annotations

import errno
import ipaddress
import operator
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeAlias

import attrs
import trio

from elemta.runtime import Network, SocketAddress, SourceUnusable

Handler: TypeAlias = Callable[["MemoryStream"], Awaitable[None]]

CAPACITY = 256 * 1024
"""Octets that one direction holds before the sender waits, about what Linux keeps for a socket."""


class _Direction:
    """One direction of a connection: octets under way, and who has closed what."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.data = bytearray()
        self.ended = False
        """The sender said so, or closed."""
        self.sender_closed = False
        self.receiver_closed = False
        self.reset = False
        self._sending = False
        self._receiving = False
        self._changed = trio.Event()

    def change(self) -> None:
        """Wake who waits, to look again."""
        self._changed.set()
        self._changed = trio.Event()

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        with self._only_sender():
            rest = memoryview(bytes(data))
            await trio.lowlevel.checkpoint()
            if self.sender_closed or self.ended:
                raise trio.ClosedResourceError("this end is closed")
            while rest:  # with nothing to send it is no error that the other end is gone, as with a socket
                await self._wait_for_room()
                size = self.capacity - len(self.data)
                self.data += rest[:size]
                rest = rest[size:]
                self.change()

    async def wait_for_room(self) -> None:
        with self._only_sender():
            await trio.lowlevel.checkpoint()
            await self._wait_for_room()

    async def end(self) -> None:
        with self._only_sender():
            await trio.lowlevel.checkpoint()
            if self.sender_closed:
                raise trio.ClosedResourceError("this end is closed")
            self.ended = True
            self.change()

    async def receive(self, max_bytes: int | None) -> bytes:
        if max_bytes is not None and operator.index(max_bytes) < 1:
            raise ValueError("max_bytes must be >= 1")
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving")
        self._receiving = True
        try:
            await trio.lowlevel.checkpoint()
            while True:
                self._check(closed=self.receiver_closed)
                if self.data:
                    taken = bytes(self.data[:max_bytes])
                    del self.data[: len(taken)]
                    self.change()
                    return taken
                if self.ended:
                    return b""
                await self._changed.wait()
        finally:
            self._receiving = False

    async def _wait_for_room(self) -> None:
        while True:
            self._check(closed=self.sender_closed or self.ended)
            if self.receiver_closed:
                raise trio.BrokenResourceError("the other end is closed")
            if len(self.data) < self.capacity:
                return
            await self._changed.wait()

    def _check(self, *, closed: bool) -> None:
        if closed:
            raise trio.ClosedResourceError("this end is closed")
        if self.reset:
            raise trio.BrokenResourceError("connection reset by peer")

    @contextmanager
    def _only_sender(self) -> Iterator[None]:
        if self._sending:
            raise trio.BusyResourceError("another task is sending")
        self._sending = True
        try:
            yield
        finally:
            self._sending = False


class MemoryStream(trio.abc.HalfCloseableStream):
    """One end of a connection in memory. It holds a sender back as a socket does, and knows its addresses."""

    def __init__(
        self,
        outgoing: _Direction,
        incoming: _Direction,
        *,
        peer_address: SocketAddress,
        local_address: SocketAddress,
    ) -> None:
        self._outgoing = outgoing
        self._incoming = incoming
        self.peer_address = peer_address
        self.local_address = local_address

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Cancelled: a part of it may have been sent, as with a socket."""
        await self._outgoing.send(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._outgoing.wait_for_room()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return await self._incoming.receive(max_bytes)

    async def send_eof(self) -> None:
        await self._outgoing.end()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Close at once; what was sent still arrives. Idempotent."""
        self._outgoing.ended = self._outgoing.sender_closed = True
        self._incoming.receiver_closed = True
        self._outgoing.change()
        self._incoming.change()

    def reset(self) -> None:
        """End the connection as a RST does: both ends are broken, and what was under way is gone."""
        for way in (self._outgoing, self._incoming):
            way.reset = True
            way.data.clear()
            way.change()


def memory_connection(
    client: SocketAddress = ("192.0.2.200", 40000),
    server: SocketAddress = ("192.0.2.1", 25),
    *,
    capacity: int = CAPACITY,
) -> tuple[MemoryStream, MemoryStream]:
    """Both ends of a connection, the client's first."""
    there, back = _Direction(capacity), _Direction(capacity)
    return (
        MemoryStream(there, back, peer_address=server, local_address=client),
        MemoryStream(back, there, peer_address=client, local_address=server),
    )


@attrs.frozen
class Attempt:
    """A call of `connect`, whatever became of it."""

    time: float
    """On Trio's clock."""
    host: str
    port: int
    source: str | None


@attrs.frozen
class _Listener:
    handler: Handler
    delay: float
    capacity: int


@attrs.frozen
class _Failure:
    error: int
    delay: float


_NO_ROUTE = _Failure(errno.ENETUNREACH, 0.0)


class MemoryNetwork(Network):
    """Addresses and what answers there; an address that was never named is unreachable.

    What is said of a port goes before what is said of its whole host. Made by `open_memory_network`.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self.attempts: list[Attempt] = []
        """Every call of `connect`, in order."""
        self.own_addresses = {"192.0.2.200", "2001:db8::200"}
        """Addresses that may be a source; the first of a family is the default one."""
        self._nursery = nursery
        self._answers: dict[tuple[str, int | None], _Listener | _Failure | None] = {}
        self._local: dict[str, Handler] = {}
        self._next_port = 40000

    def listen(
        self, host: str, port: int, handler: Handler, *, delay: float = 0.0, capacity: int = CAPACITY
    ) -> None:
        """Let `handler(stream)` serve each connection in a task of its own; the stream is closed behind it.

        What the handler raises fails the test. `delay` is how long connecting takes.
        """
        self._answers[_key(host, port)] = _Listener(handler, delay, capacity)

    def refuse(self, host: str, port: int | None = None, *, delay: float = 0.0) -> None:
        """Nobody listens: ConnectionRefusedError."""
        self.fail(host, port, error=errno.ECONNREFUSED, delay=delay)

    def unreachable(self, host: str, port: int | None = None, *, delay: float = 0.0) -> None:
        """No route to the host."""
        self.fail(host, port, error=errno.EHOSTUNREACH, delay=delay)

    def fail(self, host: str, port: int | None = None, *, error: int, delay: float = 0.0) -> None:
        """Connecting ends in that errno."""
        self._answers[_key(host, port)] = _Failure(error, delay)

    def hang(self, host: str, port: int | None = None) -> None:
        """Packets vanish: connecting never ends by itself."""
        self._answers[_key(host, port)] = None

    def listen_local(self, path: str, handler: Handler) -> None:
        """Let `handler(stream)` serve each connection to that socket of the file system, as `listen` does."""
        self._local[path] = handler

    async def connect_local(self, path: str) -> MemoryStream:
        await trio.lowlevel.checkpoint()
        if path not in self._local:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        client, server = memory_connection()
        self._nursery.start_soon(_serve, self._local[path], server, name=path)
        return client

    async def connect(self, host: str, port: int, *, source: str | None = None) -> MemoryStream:
        address = ipaddress.ip_address(host)
        host = str(address)
        self.attempts.append(Attempt(trio.current_time(), host, port, source))
        local = self._source(address.version, source)
        answer = self._answers.get(
            (host, port), self._answers.get((host, None), _Failure(errno.ENETUNREACH, 0.0))
        )
        if answer is None:
            await trio.sleep_forever()
        await trio.sleep(answer.delay)
        if isinstance(answer, _Failure):
            raise OSError(answer.error, os.strerror(answer.error))
        self._next_port += 1
        client, server = memory_connection((local, self._next_port), (host, port), capacity=answer.capacity)
        self._nursery.start_soon(_serve, answer.handler, server, name=f"{host}:{port}")
        return client

    def _source(self, version: int, source: str | None) -> str:
        own = sorted(text for text in self.own_addresses if ipaddress.ip_address(text).version == version)
        if source is None:
            if not own:
                raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))
            return own[0]
        if ipaddress.ip_address(source).version != version:
            raise ValueError(f"source {source} does not go with IPv{version}")
        if source not in own:
            raise SourceUnusable(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
        return source


@asynccontextmanager
async def open_memory_network() -> AsyncIterator[MemoryNetwork]:
    """A network for the time of the block; at its end all handlers are cancelled."""
    async with trio.open_nursery() as nursery:
        yield MemoryNetwork(nursery)
        nursery.cancel_scope.cancel()


async def _serve(handler: Handler, stream: MemoryStream) -> None:
    try:
        await handler(stream)
    finally:
        stream.close()


def _key(host: str, port: int | None) -> tuple[str, int | None]:
    return str(ipaddress.ip_address(host)), port
