"""What the tests of deliveries share: a message, a context, a connection to a peer."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from elemta.config import DeliveryConfig, RouteTls, TimeoutsConfig, TlsConfig, TransportKind
from elemta.delivery import (
    Connection,
    DeliveryContext,
    LmtpTransport,
    Parcel,
    SmtpConnection,
    SmtpTransport,
    Transport,
    make_transport,
)
from elemta.mail import Envelope, MessageId, Recipient, parse_mailbox, parse_reverse_path
from elemta.routing import Route
from elemta.runtime import TrioWallClock
from elemta.testing.dns import FakeResolver
from elemta.testing.network import MemoryNetwork, open_memory_network
from elemta.tls import TlsContexts

HOST = "192.0.2.1"
PREFIX = b"Received: from client by mx.example\r\n"
BODY = b"Subject: hello\r\n\r\nBody\r\n"
CONTENT = PREFIX + BODY
TIMEOUTS = TimeoutsConfig()
TLS = TlsContexts(TlsConfig())


@attrs.define
class FakeContent:
    """Content in memory, or with `pieces` as it comes from a file."""

    prefix: bytes = PREFIX
    whole: bytes = BODY
    pieces: Iterable[bytes] | None = None
    size_of_pieces: int = 0
    error: Exception | None = None
    opened: int = 0

    @property
    def body(self) -> bytes | None:
        return self.whole if self.pieces is None else None

    @property
    def size(self) -> int:
        return len(self.prefix) + (len(self.whole) if self.pieces is None else self.size_of_pieces)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[_Reader]:
        self.opened += 1
        if self.error is not None:
            raise self.error
        yield _Reader(iter([self.whole] if self.pieces is None else self.pieces))
        await trio.lowlevel.checkpoint()


class _Reader:
    def __init__(self, pieces: Any) -> None:
        self._pieces = pieces

    async def read(self) -> bytes:
        await trio.lowlevel.checkpoint()
        return next(self._pieces, b"")


def streamed(*pieces: bytes, prefix: bytes = PREFIX) -> FakeContent:
    return FakeContent(prefix=prefix, pieces=pieces, size_of_pieces=sum(map(len, pieces)))


def recipient(text: str = "ann@example.org", **kwargs: Any) -> Recipient:
    return Recipient(parse_mailbox(text, utf8=True), **kwargs)


def make_parcel(
    *recipients: str | Recipient, sender: str = "<bob@example.net>", content: Any = None, **envelope: Any
) -> Parcel:
    people = tuple(
        recipient(item) if isinstance(item, str) else item for item in recipients or ("ann@example.org",)
    )
    return Parcel(
        MessageId("0123456789abcdef"),
        Envelope(parse_reverse_path(sender, utf8=True), people, **envelope),
        people,
        FakeContent() if content is None else content,
    )


def make_context(network: MemoryNetwork, zone: Any = None, **kwargs: Any) -> DeliveryContext:
    fields: dict[str, Any] = {
        "hostname": "mx.example",
        "resolver": zone if isinstance(zone, FakeResolver) else FakeResolver(zone or {}),
        "network": network,
        "tls": TLS,
        "timeouts": TIMEOUTS,
        "config": DeliveryConfig(),
        "clock": TrioWallClock(),
        "random": random.Random(1),
    }
    return DeliveryContext(**{**fields, **kwargs})


def fixed_route(port: int = 25, *, lmtp: bool = False, tls: RouteTls = RouteTls.NONE) -> Route:
    kind = TransportKind.LMTP if lmtp else TransportKind.SMTP
    return Route(kind, HOST, port, tls=tls)


def mx_route(domain: str = "example.org") -> Route:
    return Route(TransportKind.SMTP, domain, 25, use_mx=True)


@asynccontextmanager
async def open_transport(
    *peers: Any, lmtp: bool = False, tls: RouteTls = RouteTls.NONE, capacity: int = 256 * 1024, **kwargs: Any
) -> AsyncIterator[Transport]:
    """A transport to a fixed host where each connection meets the next of the peers."""
    async with open_memory_network() as network:
        waiting = list(peers)

        async def serve(stream: Any) -> None:
            await waiting.pop(0).serve(stream)

        network.listen(HOST, 25, serve, capacity=capacity)
        yield make_transport(fixed_route(lmtp=lmtp, tls=tls), make_context(network, **kwargs))


@asynccontextmanager
async def connected(*peers: Any, lmtp: bool = False, **kwargs: Any) -> AsyncIterator[SmtpConnection]:
    """An open connection to the first of the peers."""
    async with open_transport(*peers, lmtp=lmtp, **kwargs) as transport:
        assert isinstance(transport, LmtpTransport if lmtp else SmtpTransport)
        connection = await transport.connect()
        try:
            yield connection
        finally:
            await connection.aclose()


async def deliver_one(connection: Connection, *recipients: str, **kwargs: Any) -> Any:
    """The outcome, or with several recipients the outcomes, of one parcel."""
    outcomes = await connection.deliver(make_parcel(*recipients, **kwargs))
    return outcomes[0] if len(outcomes) == 1 else outcomes
