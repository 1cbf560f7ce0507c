"""The ways out of a plugin: connections to services beside the server, and HTTP requests, all bounded.

The same in both tiers: in the loop over the server's network, in a worker over the network of the machine.
The services are named by the operator, so no address is prohibited. Each request has a connection of its own:
what is asked here is near, and a connection that was kept may be broken just then.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol
from urllib.parse import urlsplit

import attrs
import h11
import trio

from elemta.runtime import Network, harden

MOST_OPEN = 64
"""Connections of one plugin at a time; who wants one more waits for one to end."""
LONGEST_CONNECT = 30.0
"""Seconds for the wait for a place, the address, the connection and the handshake together."""
LONGEST_REQUEST = 120.0
"""Seconds for one HTTP request, whatever the caller's own deadline is."""
MOST_ADDRESSES = 4
"""Of one host that are tried."""
MOST_BODY = 1 << 20
"""Octets of an answer, if the caller does not say another number."""
_MOST_HEAD = 32 * 1024
_PIECE = 64 * 1024
_PORTS = {"http": 80, "https": 443}


class OutsideFailed(Exception):
    """There is no connection, or no answer that makes sense; the text says why, for the operator."""


@attrs.frozen
class HttpAnswer:
    """What a server answered, whatever its status."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    """Names in lower case."""
    body: bytes = attrs.field(default=b"", repr=False)

    def header(self, name: str) -> str | None:
        """The value of the first field of that name; None where there is none."""
        wanted = name.lower()
        return next((value for each, value in self.headers if each == wanted), None)


class AsksDns(Protocol):
    """What a name is looked up with."""

    async def query(self, name: str, kind: Any) -> Any:  # Any: of elemta.dns
        """One question."""


class Outside:
    """What one plugin may connect to: anything, a few at a time. `http` makes requests the same way."""

    def __init__(self, network: Network, resolver: AsksDns) -> None:
        self._network = network
        self._resolver = resolver
        self._places = trio.CapacityLimiter(MOST_OPEN)
        self._trust: ssl.SSLContext | None = None
        self.http = Http(self)

    @asynccontextmanager
    async def connect(
        self, address: str, *, tls: ssl.SSLContext | bool = False
    ) -> AsyncGenerator[trio.abc.Stream, None]:
        """A connection while the block runs: `async with self.context.connect("127.0.0.1:3310") as stream`.

        It takes at most `LONGEST_CONNECT` to begin; what is done in the block is bounded by the caller's own
        deadline, such as that of the hook. It is closed at the end, without waiting for the other side.

        Args:
          address: `host:port`, `[2001:db8::1]:port`, or `unix:/path` for a socket in the file system.
          tls: True: with a certificate of that name that this machine trusts; or a context to use instead.

        Raises:
          OutsideFailed: there is no connection, or it was lost in the block.
        """
        async with self._places_within():
            stream = await self._opened(address, tls)
            try:
                yield stream
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise OutsideFailed(f"{address}: the connection was lost") from error
            finally:
                await trio.aclose_forcefully(stream)

    @asynccontextmanager
    async def _places_within(self) -> AsyncGenerator[None, None]:
        borrower = object()
        with trio.move_on_after(LONGEST_CONNECT) as scope:
            await self._places.acquire_on_behalf_of(borrower)
        if scope.cancelled_caught:
            raise OutsideFailed(f"{MOST_OPEN} connections of this plugin are open, and none ended in time")
        try:
            yield
        finally:
            self._places.release_on_behalf_of(borrower)

    async def _opened(self, address: str, tls: ssl.SSLContext | bool) -> trio.abc.Stream:
        opened: list[trio.abc.Stream] = []
        with trio.move_on_after(LONGEST_CONNECT):
            try:
                opened.append(await self._dial(address, tls))
            except OSError as error:
                raise OutsideFailed(
                    f"{address} cannot be reached: {error.strerror or type(error).__name__}"
                ) from error
        if not opened:
            raise OutsideFailed(f"{address} cannot be reached within {LONGEST_CONNECT:g} s")
        return opened[0]

    async def _dial(self, address: str, tls: ssl.SSLContext | bool) -> trio.abc.Stream:
        if address.startswith("unix:"):
            return await self._network.connect_local(address.removeprefix("unix:"))
        host, port = split_address(address)
        stream = await self._dial_host(host, port)
        if tls is False:
            return stream
        from elemta.tls import TlsFailed, start_tls  # noqa: PLC0415 - heavy, and few plugins need it

        try:
            private, _ = await start_tls(
                stream, self._trusting() if tls is True else tls, server_side=False, hostname=host
            )
        except TlsFailed as error:
            await trio.aclose_forcefully(stream)
            raise OutsideFailed(f"{address}: no TLS: {error.reason}") from error
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return private

    async def _dial_host(self, host: str, port: int) -> trio.abc.Stream:
        from elemta.dns import Status, addresses  # noqa: PLC0415 - as above

        found = await addresses(self._resolver, host)  # type: ignore[arg-type]  # has what is needed
        if found.status is not Status.OK:
            raise OutsideFailed(f"{host} has no address ({found.detail or found.status.value})")
        *others, last = found.addresses[:MOST_ADDRESSES]
        for each in others:
            try:
                return await self._network.connect(each, port)
            except OSError:
                continue
        return await self._network.connect(last, port)

    def _trusting(self) -> ssl.SSLContext:
        if self._trust is None:
            self._trust = harden(ssl.create_default_context())
        return self._trust


@attrs.frozen(eq=False)
class Http:
    """Makes HTTP requests over the connections of one plugin."""

    outside: Outside = attrs.field(repr=False)

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | Iterable[bytes] = b"",
        size: int | None = None,
        most: int = MOST_BODY,
        tls: ssl.SSLContext | None = None,
        through: str | None = None,
    ) -> HttpAnswer:
        """Ask once, and return the answer, whatever its status. Redirects are answers like others.

        Cancelled, or failed: the other side may have done what was asked.

        Args:
          url: `http://` or `https://`.
          headers: names and values; these as UTF-8.
          body: whole, or in pieces that together have `size` octets.
          most: octets that the body of the answer may have.
          tls: what to trust instead of the authorities of this machine.
          through: connect there instead of to the host of the URL, such as `unix:/run/rspamd.sock`.

        Raises:
          OutsideFailed: there is no answer within `LONGEST_REQUEST`, none that is HTTP, or one too large.
          ValueError: the URL is none.
        """
        target = read_url(url)
        secure: ssl.SSLContext | bool = target.secure and (tls if tls is not None else True)
        given = [("Host", target.host), ("User-Agent", "elemta"), ("Connection", "close"), *headers]
        fields = [(name.encode("ascii"), value.encode("utf-8", "replace")) for name, value in given]
        if isinstance(body, bytes):
            size, body = len(body), _pieces(body)
        elif size is None:
            raise ValueError("a body in pieces needs its size")
        if size or method in ("POST", "PUT", "PATCH"):
            fields.append((b"Content-Length", str(size).encode("ascii")))
        try:
            request = h11.Request(method=method, target=target.path, headers=fields)
        except h11.LocalProtocolError as error:
            raise ValueError(f"no HTTP request: {error}") from error
        with trio.move_on_after(LONGEST_REQUEST):
            async with self.outside.connect(through or target.address, tls=secure) as stream:
                try:
                    return await _exchange(stream, request, body, most)
                except h11.ProtocolError as error:
                    raise OutsideFailed(f"{target.address}: no HTTP: {error}") from error
        raise OutsideFailed(f"{target.address}: no answer within {LONGEST_REQUEST:g} s")


@attrs.frozen
class Url:
    """A URL in parts."""

    secure: bool
    host: str
    """With its port where that is not the usual one, as in the field Host."""
    address: str
    """To connect to."""
    path: str


def read_url(url: str) -> Url:
    """The parts of an HTTP URL.

    Raises:
      ValueError: it is none that can be asked.
    """
    parts = urlsplit(url)
    port = parts.port  # ValueError of its own
    if parts.scheme not in _PORTS or not parts.hostname or parts.username is not None:
        raise ValueError(f"{url!r} is no URL that begins with http://host or https://host")
    if not url.isascii() or any(each <= " " for each in url):
        raise ValueError(f"{url!r} has characters that no URL has")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    usual = _PORTS[parts.scheme]
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    shown = host if port in (None, usual) else f"{host}:{port}"
    return Url(parts.scheme == "https", shown, f"{host}:{usual if port is None else port}", path)


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port`.

    Raises:
      OutsideFailed: it is no such text.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise OutsideFailed(f"{address!r} is no address: it has to look like host:port or unix:/path")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _pieces(body: bytes) -> Iterable[bytes]:
    view = memoryview(body)
    return (bytes(view[start : start + _PIECE]) for start in range(0, len(body), _PIECE))


async def _exchange(
    stream: trio.abc.Stream, request: h11.Request, body: Iterable[bytes], most: int
) -> HttpAnswer:
    machine = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MOST_HEAD)
    await stream.send_all(machine.send(request) or b"")
    for piece in body:
        await stream.send_all(machine.send(h11.Data(data=piece)) or b"")
    # Only chunks have an end of their own; else the other side may have answered and gone by now
    if last := machine.send(h11.EndOfMessage()):
        await stream.send_all(last)
    response: h11.Response | None = None
    received = bytearray()
    while True:
        event = machine.next_event()
        match event:
            case h11.NEED_DATA:
                machine.receive_data(bytes(await stream.receive_some(_PIECE)))
            case h11.Response():
                response = event
            case h11.Data():
                received += event.data
                if len(received) > most:
                    raise OutsideFailed(f"an answer of more than {most} octets")
            case h11.EndOfMessage():
                assert response is not None
                fields = tuple(
                    (bytes(name).decode("latin-1"), bytes(value).decode("latin-1"))
                    for name, value in response.headers
                )
                return HttpAnswer(response.status_code, fields, bytes(received))
            case h11.ConnectionClosed() | h11.PAUSED:
                raise OutsideFailed("the connection ended before the answer")
