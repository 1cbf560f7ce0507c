"""The admin application over connections in memory, on a real queue with a store in memory."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import attrs
import trio

from elemta.admin import Facts
from elemta.admin.application import build_application
from elemta.admin.guard import Guard
from elemta.admin.http import Application, HttpConnection
from elemta.admin.tokens import TokenFile
from elemta.config import Config, SpoolConfig
from elemta.delivery import ConnectFailed, Connection, Transport
from elemta.events import AccessRefused, Event, EventBus
from elemta.inbound import Listeners
from elemta.inbound.context import Services
from elemta.mail import (
    BodyType,
    Cause,
    Deferred,
    Envelope,
    MessageId,
    Origin,
    Recipient,
    Reply,
    ReversePath,
    make_id,
    parse_mailbox,
)
from elemta.queue import open_queue
from elemta.routing import Router
from elemta.runtime import Drain, TrioWallClock
from elemta.runtime.threads import in_place
from elemta.spool import MemoryStore, Spool, StoredMessage, Suppression, open_spool
from elemta.spool.memo import FileMemo
from elemta.testing.network import MemoryStream, memory_connection

TOKEN = "a-token-of-some-length"
HOSTS = frozenset({"localhost", "127.0.0.1", "::1", "mx.example.org"})


class _Refusing(Transport):
    """A next hop that cannot be reached."""

    async def connect(self) -> Connection:
        await trio.lowlevel.checkpoint()
        raise ConnectFailed(
            Deferred(Cause.CONNECT, Reply.of(451, "4.4.1", "no answer"), "far.example[192.0.2.1]:25")
        )


@attrs.frozen
class Answer:
    """One response, taken apart."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@attrs.define(eq=False)
class Bed:
    """The application and what is behind it."""

    application: Application
    facts: Facts
    spool: Spool
    events: list[Event]
    nursery: trio.Nursery
    guard: Guard

    def connect(self, *, trusted: bool = False) -> MemoryStream:
        """The client's end of a connection that is being served."""
        client, server = memory_connection(("127.0.0.1", 40000), ("127.0.0.1", 8025))
        self.nursery.start_soon(HttpConnection(server, self.application, trusted).serve)
        return client

    async def send_raw(self, data: bytes, *, trusted: bool = False) -> bytes:
        """Everything that comes back for these octets until the connection ends."""
        stream = self.connect(trusted=trusted)
        with suppress(trio.BrokenResourceError):  # refused before the end
            await stream.send_all(data)
        return await read_to_end(stream)

    async def request(
        self,
        method: str,
        path: str,
        *,
        token: str | None = TOKEN,
        host: str = "localhost:8025",
        body: bytes = b"",
        trusted: bool = False,
        **headers: str,
    ) -> Answer:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close"]
        if token is not None:
            lines.append(f"Authorization: Bearer {token}")
        if body:
            lines.append(f"Content-Length: {len(body)}")
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return parse(await self.send_raw("\r\n".join([*lines, "", ""]).encode() + body, trusted=trusted))

    async def stored(self, message: str) -> tuple[StoredMessage, bytes]:
        """What is in the spool, and its content."""
        found = await self.spool.stored(MessageId(message))
        assert found is not None
        content = bytearray(found.prefix)
        async with self.spool.open_body(found) as reader:
            while piece := await reader.read():
                content += piece
        return found, bytes(content)

    async def accept(
        self,
        *recipients: str,
        sender: str = "anna@client.example",
        content: bytes = b"Subject: x\r\n\r\nhello\r\n",
    ) -> MessageId:
        """Store a message as a session would."""
        message = MessageId(make_id(int(trio.current_time() * 1000), Random(len(recipients)).getrandbits(35)))
        draft = self.spool.new_draft(message)
        await draft.write(content)
        envelope = Envelope(
            ReversePath(parse_mailbox(sender)),
            tuple(Recipient(parse_mailbox(recipient)) for recipient in recipients),
            BodyType.SEVEN_BIT,
        )
        await self.spool.commit(
            draft,
            message=message,
            envelope=envelope,
            origin=Origin("s", "192.0.2.9"),
            prefix=b"Received: x\r\n",
        )
        await trio.sleep(1)  # virtual: the first attempt is over
        return message


def parse(data: bytes) -> Answer:
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    pairs = (line.partition(": ") for line in lines)
    return Answer(int(first.split()[1]), {name.lower(): value for name, _, value in pairs}, body)


async def read_to_end(stream: MemoryStream) -> bytes:
    data = bytearray()
    try:
        while piece := await stream.receive_some():
            data += piece
    except trio.BrokenResourceError:
        pass
    return bytes(data)


@asynccontextmanager
async def open_bed(tokens: TokenFile | None = None) -> AsyncGenerator[Bed, None]:
    in_place.set(True)
    config = Config(hostname="mx.example.org")
    clock, random, drain, bus = TrioWallClock(), Random(7), Drain(), EventBus()
    events: list[Event] = []
    queue_router = Router(config)
    bus.observe("test", events.append)
    async with (
        open_spool(
            Path("nowhere"),
            SpoolConfig(),
            message_size=10**6,
            lease=config.queue.lease,
            clock=clock,
            random=random,
            on_trouble=lambda what, detail: None,
            store=MemoryStore(),
        ) as spool,
        open_queue(
            config, spool, queue_router, lambda _: _Refusing(), bus, clock=clock, random=random, drain=drain
        ) as queue,
        trio.open_nursery() as nursery,
    ):
        facts = Facts("0.0", "mx.example.org", clock.time(), spool, queue, bus, drain, clock)
        facts.listeners = lambda: [{"name": "mx", "role": "mx", "address": "127.0.0.1:25", "sessions": 2}]
        bus.observe("metrics", facts.counts.observe)

        def tell(peer: str, reason: str) -> None:
            bus.publish(AccessRefused(time=clock.time(), peer=peer, reason=reason))

        facts.memo = FileMemo(None, clock=clock, on_trouble=lambda what, detail: None)
        facts.config = lambda: config
        facts.suppression = Suppression(None, clock)
        services = Services(spool, queue_router, bus, clock, random, drain)
        facts.inbound = Listeners((), config, services)
        guard = Guard(TOKEN, HOSTS, clock, tokens.find if tokens else lambda token, now: None, tell)
        yield Bed(build_application(facts, guard), facts, spool, events, nursery, guard)
        nursery.cancel_scope.cancel()
