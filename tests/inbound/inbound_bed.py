"""A server of inbound sessions in memory, and clients that talk to it."""

import ipaddress
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from random import Random
from typing import Any

import attrs
import trio

from elemta.config import (
    Config,
    DomainPattern,
    DomainsConfig,
    HostPort,
    ListenerConfig,
    ListenerRole,
    ListenerTls,
    RelayConfig,
    RouteConfig,
    RoutePattern,
    SpoolConfig,
    TransportKind,
)
from elemta.events import Event, EventBus, FlightRecorder
from elemta.inbound import BoundListener, Listeners, open_listeners
from elemta.mail import Domain, Envelope, MessageId, Origin
from elemta.routing import Router
from elemta.runtime import Drain, TrioWallClock
from elemta.spool import MemoryStore, NewMessage, QueueFilter, StoredMessage, open_spool
from elemta.testing.network import memory_connection

STRANGER = "192.0.2.200"
FRIEND = "10.1.2.3"
"""In relay.networks of the bed's configuration."""


class FakeListener(trio.abc.Listener[trio.abc.Stream]):
    """Gives the streams, and raises the errors, that it was fed; then waits."""

    def __init__(self) -> None:
        self._feed, self._items = trio.open_memory_channel[trio.abc.Stream | Exception](1000)
        self.closed = False
        self.accepts = 0

    def put(self, item: trio.abc.Stream | Exception) -> None:
        self._feed.send_nowait(item)

    async def accept(self) -> trio.abc.Stream:
        self.accepts += 1
        item = await self._items.receive()
        if isinstance(item, Exception):
            raise item
        return item

    async def aclose(self) -> None:
        self.closed = True
        self._feed.close()
        await trio.lowlevel.checkpoint()


class Client:
    """The other end of one session."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._buffer = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def line(self) -> str:
        """The next line; empty at the end of the session."""
        while b"\r\n" not in self._buffer:
            data = await self.stream.receive_some(65536)
            if not data:
                assert not self._buffer, self._buffer
                return ""
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line.decode()

    async def reply(self) -> str:
        """The next reply, lines joined by a newline."""
        lines = [await self.line()]
        while lines[-1][3:4] == "-":
            lines.append(await self.line())
        return "\n".join(lines)

    async def say(self, line: str) -> str:
        await self.send(line.encode() + b"\r\n")
        return await self.reply()

    async def hello(self, verb: str = "EHLO") -> str:
        """Greeting and hello."""
        assert (await self.reply()).startswith("220 ")
        reply = await self.say(f"{verb} client.example")
        assert reply.startswith("250")
        return reply

    async def begin(
        self, sender: str = "a@else.example", recipients: Sequence[str] = ("b@ours.example",)
    ) -> None:
        """MAIL and RCPT."""
        assert (await self.say(f"MAIL FROM:<{sender}>"))[:3] == "250"
        for recipient in recipients:
            assert (await self.say(f"RCPT TO:<{recipient}>"))[:3] == "250"

    async def data(self, body: bytes = b"Subject: x\r\n\r\nhello\r\n") -> str:
        """DATA with its body; the last reply."""
        assert (await self.say("DATA"))[:3] == "354"
        await self.send(body + b".\r\n")
        return await self.reply()

    async def quit(self) -> None:
        assert (await self.say("QUIT"))[:3] == "221"
        assert await self.line() == ""

    async def rest(self) -> list[str]:
        """All lines to the end of the session."""
        lines = []
        while line := await self.line():
            lines.append(line)
        return lines


@attrs.define
class FakeDraft:
    message: MessageId
    spool: "FakeSpool"
    data: bytearray = attrs.field(factory=bytearray)
    state: str = "open"

    @property
    def size(self) -> int:
        return len(self.data)

    @property
    def head(self) -> bytes:
        end = self.data.find(b"\r\n\r\n")
        return bytes(self.data if end < 0 else self.data[: end + 4])

    async def write(self, data: bytes) -> None:
        assert self.state == "open", "written after its end"
        await self.spool.step("write")
        self.data += data

    def discard(self) -> None:
        if self.state != "kept":
            self.state = "discarded"


class FakeSpool:
    """As much of a spool as sessions use; each step may be made to wait or to fail."""

    def __init__(self) -> None:
        self.drafts: list[FakeDraft] = []
        self.stored: dict[str, tuple[Envelope, Origin, bytes, bytes]] = {}
        self.holds: dict[str, str | None] = {}
        self.notices: list[NewMessage] = []
        self.room: Callable[[int], None] = lambda size: None
        self.on_step: Callable[[str], Any] = lambda name: None
        """Called at each step; may raise, or return an awaitable that is waited for."""

    async def step(self, name: str) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        waiting = self.on_step(name)
        if waiting is not None:
            await waiting

    def check_room(self, size: int = 0) -> None:
        self.room(size)

    def new_draft(self, message: MessageId) -> FakeDraft:
        waiting = self.on_step("draft")
        assert waiting is None
        draft = FakeDraft(message, self)
        self.drafts.append(draft)
        return draft

    async def commit(
        self,
        draft: FakeDraft,
        *,
        message: MessageId,
        envelope: Envelope,
        origin: Origin,
        prefix: bytes,
        hold: str | None = None,
        notices: Sequence[NewMessage] = (),
    ) -> None:
        await self.step("submit")  # may be cancelled: nothing is stored
        with trio.CancelScope(shield=True):
            # As the real one: once it is taken there is an end to it, whatever is pending
            waiting = self.on_step("decide")
            if waiting is not None:
                await waiting
        draft.state = "kept"
        self.stored[message] = (envelope, origin, prefix, bytes(draft.data))
        self.holds[message] = hold
        self.notices += notices


@attrs.define(eq=False)
class Bed:
    config: Config
    spool: Any
    store: MemoryStore
    bus: EventBus
    drain: Drain
    clock: TrioWallClock
    listener: FakeListener
    nursery: trio.Nursery
    listeners: Listeners
    events: list[Event]

    def dial(self, peer: str = STRANGER, *, capacity: int = 256 * 1024, port: int = 40000) -> Client:
        """Connect; the session begins as soon as the server runs."""
        client, server = memory_connection((peer, port), ("192.0.2.1", 25), capacity=capacity)
        self.listener.put(server)
        return Client(client)

    def seen(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if type(event) is kind]

    def stored(self) -> list[tuple[StoredMessage, bytes]]:
        """What the real spool has: messages and their bodies."""
        found = []
        for entry in self.store.list(QueueFilter(), after=None, limit=1000):
            message = self.store.stored(entry.id)
            body = self.store.body(entry.id)
            assert message is not None
            assert body is not None
            found.append((message, body))
        return found


def make_config(
    *,
    role: ListenerRole = ListenerRole.MX,
    tls: ListenerTls = ListenerTls.OFF,
    limits: dict[str, Any] | None = None,
    timeouts: dict[str, Any] | None = None,
    max_hops: int = 50,
    listener: dict[str, Any] | None = None,
    proxies: dict[str, Any] | None = None,
    submission: dict[str, Any] | None = None,
) -> Config:
    """`listener` and the others: settings of that section that are not their defaults."""
    config = Config(
        hostname="mx.ours.example",
        listeners=(ListenerConfig("test", HostPort("127.0.0.1", 0), role, tls, **(listener or {})),),
        domains=DomainsConfig(
            local=(Domain("ours.example"),), relay=(DomainPattern(Domain("backup.example")),)
        ),
        relay=RelayConfig((ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))),
        routes=(
            RouteConfig(RoutePattern(domain=DomainPattern(Domain("ours.example"))), TransportKind.DISCARD),
        ),
    )
    return attrs.evolve(
        config,
        limits=attrs.evolve(config.limits, **(limits or {})),
        timeouts=attrs.evolve(config.timeouts, **(timeouts or {})),
        delivery=attrs.evolve(config.delivery, max_hops=max_hops),
        proxies=attrs.evolve(config.proxies, **(proxies or {})),
        submission=attrs.evolve(config.submission, **(submission or {})),
    )


@asynccontextmanager
async def open_bed(
    config: Config | None = None,
    *,
    spool: FakeSpool | None = None,
    tls: Any = None,
    cancel: bool = True,
    authenticator: Any = None,
    gate: Any = None,
    notary: Any = None,
    load: Any = None,
    flights: FlightRecorder | None = None,
    memo: Any = None,
) -> AsyncIterator[Bed]:
    """A running server. With a FakeSpool, or the real one over a MemoryStore. At the end everything is
    cancelled, unless told otherwise, so that no test waits for a drain that it is not about."""
    config = config or make_config()
    clock, random, bus, drain = TrioWallClock(), Random(7), EventBus(), Drain()
    events: list[Event] = []
    bus.observe("test", events.append)
    store = MemoryStore()
    opened: Any = (
        nullcontext(spool)
        if spool is not None
        else open_spool(
            Path("unused"),
            SpoolConfig(),
            message_size=config.limits.message_size,
            clock=clock,
            random=random,
            on_trouble=lambda what, detail: None,
            store=store,
        )
    )
    listener = FakeListener()
    with trio.CancelScope() as scope:
        async with (
            opened as real,
            open_listeners(
                [BoundListener(config.listeners[0], listeners=(listener,))],
                config=config,
                spool=real,
                router=Router(config),
                bus=bus,
                clock=clock,
                random=random,
                drain=drain,
                tls=tls,
                authenticator=authenticator,
                gate=gate,
                notary=notary,
                load=load,
                flights=flights,
                memo=memo,
            ) as listeners,
            trio.open_nursery() as nursery,
        ):
            yield Bed(config, real, store, bus, drain, clock, listener, nursery, listeners, events)
            if cancel:
                scope.cancel()


def hang() -> Any:
    return trio.sleep_forever()
