"""The last part of the way: real sockets on loopback, with a client that is not ours."""

import random
import smtplib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from inbound_bed import Client, FakeSpool, make_config

from elemta.config import Config, HostPort
from elemta.events import Event, EventBus, SessionClosed
from elemta.inbound import Listeners, bind_all, open_listeners
from elemta.routing import Router
from elemta.runtime import Drain, SystemClock


@attrs.define
class Server:
    listeners: Listeners
    spool: FakeSpool
    events: list[Event]
    drain: Drain

    @property
    def address(self) -> HostPort:
        return self.listeners.addresses[0]

    @asynccontextmanager
    async def dial(self) -> AsyncIterator[Client]:
        async with await trio.open_tcp_stream(self.address.host, self.address.port) as stream:
            yield Client(stream)


@asynccontextmanager
async def open_server(config: Config) -> AsyncIterator[Server]:
    events: list[Event] = []
    bus = EventBus()
    bus.observe("test", events.append)
    spool, drain = FakeSpool(), Drain()
    async with open_listeners(
        bind_all(config.listeners),
        config=config,
        spool=spool,  # type: ignore[arg-type]
        router=Router(config),
        bus=bus,
        clock=SystemClock(),
        random=random.Random(1),
        drain=drain,
    ) as listeners:
        yield Server(listeners, spool, events, drain)


async def test_smtplib_sends_messages():
    def send(address: HostPort) -> None:
        with smtplib.SMTP(address.host, address.port, timeout=4) as client:
            client.sendmail("a@else.example", ["b@ours.example", "c@ours.example"], "Subject: 1\n\n.x\n")
            client.sendmail("a@else.example", ["b@ours.example"], b"Subject: 2\r\n\r\n" + b"x" * 300_000)
            with pytest.raises(smtplib.SMTPRecipientsRefused):
                client.sendmail("a@else.example", ["v@foreign.example"], "Subject: 3\n\n")

    async with open_server(make_config()) as server:
        with trio.fail_after(4):
            await trio.to_thread.run_sync(send, server.address)
        bodies = [body for *_, body in server.spool.stored.values()]
        assert bodies == [b"Subject: 1\r\n\r\n.x\r\n", b"Subject: 2\r\n\r\n" + b"x" * 300_000 + b"\r\n"]
        server.drain.begin("test", 1, 1)


async def test_a_client_that_left_before_the_commit_is_noticed():
    async with open_server(make_config()) as server:
        server.spool.on_step = lambda name: trio.sleep(0.01) if name == "write" else None
        async with server.dial() as client:
            await client.hello()
            await client.begin()
            await client.say("DATA")
            # It leaves with its last octet: nobody would read the 250, so nothing is taken over (D3).
            await client.send(b"Subject: x\r\n\r\n.\r\n")
        while not any(isinstance(event, SessionClosed) for event in server.events):
            await trio.sleep(0.001)
        assert server.spool.stored == {}
        assert server.spool.drafts[0].state == "discarded"


async def test_a_client_that_said_quit_at_once_gets_its_message_through():
    async with open_server(make_config()) as server, server.dial() as client:
        await client.hello()
        await client.begin()
        await client.say("DATA")
        await client.send(b"Subject: x\r\n\r\n.\r\nQUIT\r\n")
        assert isinstance(client.stream, trio.SocketStream)
        await client.stream.send_eof()
        assert [line[:3] for line in await client.rest()] == ["250", "221"]
        assert len(server.spool.stored) == 1


async def test_a_client_too_many_reads_its_421():
    config = make_config(limits={"sessions_per_client": 1})
    async with open_server(config) as server, server.dial() as first, server.dial() as second:
        await first.hello()
        assert await second.rest() == ["421 4.7.0 mx.ours.example too many connections from your address"]


async def test_when_the_server_has_gone_nobody_listens():
    async with open_server(make_config()) as server:
        address = server.address
        async with server.dial() as client:
            await client.hello()
            server.drain.begin("test", 1, 1)
            assert [line[:9] for line in await client.rest()] == ["421 4.3.2"]
    with pytest.raises(OSError, match="connect"):
        await trio.open_tcp_stream(address.host, address.port)
