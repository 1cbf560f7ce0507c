"""Streams and where they lead: connect to one address, peer and local address, replay of given bytes."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from abc import ABC, abstractmethod
from typing import TypeAlias

import trio

from .sockets import quick

SocketAddress: TypeAlias = tuple[str, int]
"""Address and port as text and number, IPv4-mapped IPv6 unmapped, without a zone."""

UNIX_PEER: SocketAddress = ("unix", 0)
"""The other end of a Unix domain socket."""

_DISCARD_PORT = 9
_IP_BIND_ADDRESS_NO_PORT = 24
"""linux/in.h: choose the source port at connect, so that one port serves many destinations."""


class SourceUnusable(OSError):
    """The local address that was asked for cannot be bound."""


class Network(ABC):
    """Makes outgoing connections."""

    @abstractmethod
    async def connect(self, host: str, port: int, *, source: str | None = None) -> trio.abc.Stream:
        """Connect to one IP address, from the address `source` where given.

        Cancelled: nothing is left open.

        Raises:
          SourceUnusable: the local address cannot be bound; nothing was sent.
          OSError: as the system says it: refused, unreachable, timed out …
          ValueError: `host` or `source` is not an IP address. Names are never looked up here.
        """

    async def connect_local(self, path: str) -> trio.abc.Stream:
        """Connect to a socket in the file system. Cancelled: nothing is left open.

        Raises:
          OSError: as the system says it.
        """
        return await trio.open_unix_socket(path)


class SystemNetwork(Network):
    """The network of this machine."""

    async def connect(self, host: str, port: int, *, source: str | None = None) -> trio.abc.Stream:
        version = ipaddress.ip_address(host).version
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        if source is not None and ipaddress.ip_address(source).version != version:
            raise ValueError(f"source {source} does not go with {host}")
        sock = trio.socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if source is not None:
                with contextlib.suppress(OSError):  # an older kernel binds the port at once, which works too
                    sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
                try:
                    await sock.bind((source, 0))
                except OSError as error:
                    raise SourceUnusable(*error.args) from error
            await sock.connect((host, port))
            return quick(trio.SocketStream(sock))
        except BaseException:
            sock.close()
            raise


class ReplayStream(trio.abc.HalfCloseableStream):
    """A stream that first gives back bytes that were read too early (behind a PROXY header, say)."""

    def __init__(
        self, stream: trio.abc.Stream, replay: bytes = b"", *, peer: SocketAddress | None = None
    ) -> None:
        self.stream = stream
        self._replay = replay
        self._peer = peer

    @property
    def peer_address(self) -> SocketAddress:
        """The address that was given, such as that of a PROXY header, else the stream's own."""
        return self._peer if self._peer is not None else peer_address(self.stream)

    @property
    def local_address(self) -> SocketAddress:
        return local_address(self.stream)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What is to be replayed first; cancelled, nothing of it is lost."""
        if not self._replay:
            return bytes(await self.stream.receive_some(max_bytes))
        if max_bytes is not None and max_bytes < 1:
            raise ValueError("max_bytes must be >= 1")
        await trio.lowlevel.checkpoint()
        size = len(self._replay) if max_bytes is None else max_bytes
        data, self._replay = self._replay[:size], self._replay[size:]
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """End our direction where the stream below can."""
        if not isinstance(self.stream, trio.abc.HalfCloseableStream):
            raise TypeError(f"{type(self.stream).__name__} cannot be closed in one direction")
        await self.stream.send_eof()

    async def aclose(self) -> None:
        self._replay = b""
        await self.stream.aclose()


def plain_address(host: str) -> str:
    """An address as text without zone, and IPv4 where it is an IPv4-mapped IPv6 address."""
    host = host.partition("%")[0]
    if not host.lower().startswith("::ffff:"):
        return host
    mapped = ipaddress.IPv6Address(host).ipv4_mapped
    return host if mapped is None else str(mapped)


def peer_address(stream: trio.abc.Stream) -> SocketAddress:
    """Who is at the other end, through TLS and other wrappers.

    Raises:
      OSError: the connection is gone already.
      TypeError: the stream leads to no socket and has no `peer_address`.
    """
    return _address(stream, "peer_address", "getpeername")


def local_address(stream: trio.abc.Stream) -> SocketAddress:
    """Our end; raises as `peer_address` does."""
    return _address(stream, "local_address", "getsockname")


def _address(stream: trio.abc.Stream, attribute: str, method: str) -> SocketAddress:
    inner: object = stream
    while isinstance(inner, trio.SSLStream):
        inner = inner.transport_stream
    known = getattr(inner, attribute, None)
    if known is not None:
        host, port = known
        return plain_address(host), port
    sock = getattr(inner, "socket", None)
    if sock is None:
        raise TypeError(f"{type(inner).__name__} has no address")
    if sock.family == socket.AF_UNIX:
        return UNIX_PEER
    host, port = getattr(sock, method)()[:2]
    return plain_address(host), port


def is_own_address(host: str) -> bool:
    """Whether this machine has that IP address, as the kernel sees it. Nothing is sent.

    What is sent to an address of one's own is sent from it. (To try to bind to it says less: where
    `ip_nonlocal_bind` is set, for a fail-over, any address can be bound to.)
    """
    address = ipaddress.ip_address(host)
    if address.is_loopback:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((host, _DISCARD_PORT))
            return ipaddress.ip_address(sock.getsockname()[0].partition("%")[0]) == address
    except OSError:
        return False
