"""A queue that delivers over SMTP to hosts in a network in memory, on virtual time: what becomes of a message
whatever its next hops do, and of the notices about it."""

from __future__ import annotations

import email
import email.message
import email.policy
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import attrs
import trio
from delivery_helpers import TLS

from elemta.config import Config, QueueConfig, SpoolConfig
from elemta.delivery import DeliveryContext, make_transport
from elemta.events import Event, EventBus
from elemta.mail import (
    Envelope,
    MessageId,
    Origin,
    Recipient,
    ReversePath,
    make_id,
    parse_mailbox,
)
from elemta.queue import QueueManager, open_queue
from elemta.routing import Router
from elemta.runtime import Drain
from elemta.spool import MemoryStore, RecipientEntry, Spool, open_spool
from elemta.testing.dns import FakeResolver
from elemta.testing.network import MemoryNetwork, open_memory_network
from elemta.testing.peers import SinkPeer
from elemta.tls import TlsContexts

FIRST, SECOND, THIRD, HOME = "192.0.2.1", "192.0.2.2", "192.0.2.3", "198.51.100.1"
ZONE = {
    "example.org": {"MX": [(10, "a.example.org"), (20, "b.example.org"), (30, "c.example.org")]},
    "a.example.org": {"A": [FIRST]},
    "b.example.org": {"A": [SECOND]},
    "c.example.org": {"A": [THIRD]},
    "one.example": {"MX": [(10, "a.example.org")]},
    "home.example": {"MX": [(10, "mail.home.example")]},
    "mail.home.example": {"A": [HOME]},
}
"""Three hosts for example.org, one for one.example; the senders are at home.example."""
EPOCH = 1_750_000_000.0


class Clock:
    """The wall clock of the bed."""

    def time(self) -> float:
        return EPOCH + trio.current_time()


@attrs.define(eq=False)
class HopBed:
    """The queue, its network, and what came home."""

    network: MemoryNetwork
    spool: Spool
    queue: QueueManager
    home: SinkPeer
    random: Random
    events: list[Event] = attrs.field(factory=list)
    _published: trio.Event = attrs.field(factory=trio.Event)

    def listen(self, host: str, *peers: Any, capacity: int = 256 * 1024) -> None:
        """Each connection to the host meets the next peer; the last one serves all that follow."""
        waiting = list(peers)

        async def serve(stream: Any) -> None:
            await (waiting.pop(0) if len(waiting) > 1 else waiting[0]).serve(stream)

        self.network.listen(host, 25, serve, capacity=capacity)

    async def accept(
        self,
        *recipients: str | Recipient,
        sender: str = "ann@home.example",
        body: bytes = b"Subject: hello\r\nMessage-ID: <1@home.example>\r\n\r\nBody\r\n",
        **more: Any,
    ) -> MessageId:
        """Take a message as a session would."""
        message = MessageId(make_id(int(trio.current_time() * 1000), self.random.getrandbits(35)))
        draft = self.spool.new_draft(message)
        await draft.write(body)
        people = tuple(
            Recipient(parse_mailbox(each, utf8=True)) if isinstance(each, str) else each
            for each in recipients
        )
        path = ReversePath(parse_mailbox(sender, utf8=True) if sender else None)
        await self.spool.commit(
            draft,
            message=message,
            envelope=Envelope(path, people, **more),
            origin=Origin("s", "192.0.2.9"),
            prefix=b"Received: from x by mx.example\r\n",
        )
        return message

    async def _next_event(self) -> None:
        self._published = published = trio.Event()
        await published.wait()

    def note(self, event: Event) -> None:
        """What happened, for those who wait for it."""
        self.events.append(event)
        self._published.set()

    def of(self, kind: str) -> list[Any]:
        return [event for event in self.events if event.type == kind]

    async def wait_for(self, kind: str, count: int = 1) -> list[Any]:
        """The events of a kind, once there are so many. Takes no time but that of the bed."""
        while len(self.of(kind)) < count:
            await self._next_event()
        return self.of(kind)

    async def entry(self, message: MessageId, index: int = 0) -> RecipientEntry:
        """A recipient that is still in the spool."""
        await self.spool.wait_recorded()
        entry = await self.spool.show(message)
        assert entry is not None
        return entry.recipients[index]

    async def notice(self, number: int = 1) -> email.message.EmailMessage:
        """The notice of that number that came home, parsed."""
        while len(self.home.messages) < number:
            await self._next_event()
        content = self.home.messages[number - 1].content
        message = email.message_from_bytes(content, policy=email.policy.default)
        assert isinstance(message, email.message.EmailMessage)
        return message


@asynccontextmanager
async def open_hop_bed(
    *,
    config: Config | None = None,
    zone: Mapping[str, Any] | None = None,
    tls: TlsContexts = TLS,
    authentic: Sequence[str] = (),
    delays: Mapping[str, float] | None = None,
    **settings: Any,
) -> AsyncGenerator[HopBed, None]:
    """A bed with nobody at the hosts but those at home. `settings` are of `[queue]`; jitter is off.
    `delays`: of DNS, see `FakeResolver`."""
    if config is None:
        queue = attrs.evolve(QueueConfig(retry_jitter=0.0), **settings)
        config = Config(hostname="mx.example", queue=queue)
    random, drain, bus = Random(7), Drain(), EventBus()
    home = SinkPeer()
    async with open_memory_network() as network:
        context = DeliveryContext(
            hostname="mx.example",
            resolver=FakeResolver(zone or ZONE, authentic=authentic, delays=delays),
            network=network,
            tls=tls,
            timeouts=config.timeouts,
            config=config.delivery,
            clock=Clock(),
            random=random,
        )
        network.listen(HOME, 25, home.serve)
        async with (
            open_spool(
                Path("nowhere"),
                SpoolConfig(),
                message_size=10**7,
                lease=config.queue.lease,
                clock=Clock(),
                random=random,
                on_trouble=lambda what, detail: None,
                store=MemoryStore(),
            ) as spool,
            open_queue(
                config,
                spool,
                Router(config),
                lambda route: make_transport(route, context),
                bus,
                clock=Clock(),
                random=random,
                drain=drain,
            ) as queue,
        ):
            bed = HopBed(network, spool, queue, home, random)
            bus.observe("test", bed.note)
            yield bed
