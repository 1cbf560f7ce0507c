"""A queue on virtual time: memory store, scripted transports, no sockets, no threads."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import attrs
import trio

from elemta.config import Config, DomainsConfig, PluginConfig, QueueConfig, RouteConfig, SpoolConfig
from elemta.delivery import ConnectFailed, Connection, Parcel, SessionLimits, Transport
from elemta.events import Event, EventBus
from elemta.mail import (
    Cause,
    Deferred,
    Delivered,
    Envelope,
    Failed,
    MessageId,
    Origin,
    Outcome,
    Recipient,
    Reply,
    ReversePath,
    TlsFacts,
    make_id,
    parse_mailbox,
)
from elemta.plugin import LoadedPlugin, Member, TaskTier, Ward, open_plugins
from elemta.plugin.api import Context, Metrics, NoConfig, Plugin, hook_methods, task_methods
from elemta.queue import QueueManager, open_queue
from elemta.routing import Route, Router
from elemta.runtime import Drain, get_logger
from elemta.spool import MemoryStore, RecipientEntry, Spool, open_spool

OK = Delivered(Reply.of(250, "2.0.0", "ok"), "next.example[192.0.2.1]:25")
LATER = Deferred(Cause.REMOTE_REPLY, Reply.of(451, "4.3.0", "later"), "next.example", from_remote=True)
NEVER = Failed(Cause.REMOTE_REPLY, Reply.of(550, "5.1.1", "no such user"), "next.example", from_remote=True)
UNREACHABLE = Deferred(Cause.CONNECT, Reply.of(451, "4.4.1", "no answer"))
Answer = Callable[[Parcel], Awaitable[list[Outcome]]]


@attrs.define(eq=False)
class ScriptedTransport(Transport):
    """Each connection answers with `answer`; `refuse` makes connecting fail."""

    answer: Answer
    refuse: Outcome | None = None
    connects: int = 0
    open: int = 0
    most_open: int = 0
    parcels: list[Parcel] = attrs.field(factory=list)
    usable_after: Callable[[Parcel], bool] = lambda _: True
    limits: SessionLimits = attrs.field(factory=SessionLimits)
    tls: TlsFacts | None = None
    on_deliver: Callable[[Callable[[], Parcel | None]], object] = lambda _: None
    """Gets what a connection asks for the parcel behind the present one."""

    async def connect(self) -> Connection:
        await trio.lowlevel.checkpoint()
        self.connects += 1
        if self.refuse is not None:
            raise ConnectFailed(self.refuse)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        connection = _Connection(self, self.limits)
        connection.tls = self.tls
        return connection


@attrs.define(eq=False)
class _Connection(Connection):
    transport: ScriptedTransport
    limits: SessionLimits
    is_usable: bool = True
    in_dot: bool = False
    now: str = "idle"

    @property
    def usable(self) -> bool:
        return self.is_usable

    @property
    def phase(self) -> str:
        return self.now

    @property
    def dot_sent(self) -> bool:
        return self.in_dot

    async def deliver(self, parcel: Parcel) -> list[Outcome]:
        self.transport.parcels.append(parcel)
        self.now = "mail"
        await trio.lowlevel.checkpoint()
        self.now, self.in_dot = "final-dot", True
        if self.following is not None:
            self.transport.on_deliver(self.following)
        outcomes = await self.transport.answer(parcel)
        self.now, self.in_dot = "idle", False
        self.is_usable = self.transport.usable_after(parcel)
        return outcomes

    async def aclose(self) -> None:
        self.transport.open -= 1


async def answer_ok(parcel: Parcel) -> list[Outcome]:
    await trio.sleep(0.01)
    return [OK] * len(parcel.recipients)


def answers(*outcomes: Outcome) -> Answer:
    """The same outcomes for every parcel, one per recipient; the last one repeats."""

    async def answer(parcel: Parcel) -> list[Outcome]:
        await trio.sleep(0.01)
        return [outcomes[min(i, len(outcomes) - 1)] for i in range(len(parcel.recipients))]

    return answer


@attrs.define(eq=False)
class Bed:
    """A queue with its spool and what it was told."""

    spool: Spool
    queue: QueueManager
    drain: Drain
    events: list[Event]
    transports: dict[str, ScriptedTransport]
    random: Random
    clock: SettableClock

    def kinds(self) -> list[str]:
        return [event.type for event in self.events]

    def parcels(self, site: str) -> list[Parcel]:
        """What the next hop at a site got."""
        transport = self.transports.get(site)
        return [] if transport is None else transport.parcels

    async def entry(self, message: MessageId, index: int = 0) -> RecipientEntry:
        """A recipient that is still in the spool."""
        await self.spool.wait_recorded()
        entry = await self.spool.show(message)
        assert entry is not None
        return entry.recipients[index]

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.events if event.type == kind]

    async def accept(
        self,
        *recipients: str | Recipient,
        sender: str | None = "sender@example.org",
        body: bytes = b"Subject: x\r\n\r\nhello\r\n",
        **more: Any,
    ) -> MessageId:
        """Store a message as a session would; `more` are fields of its envelope."""
        message = MessageId(make_id(int(trio.current_time() * 1000), self.random.getrandbits(35)))
        draft = self.spool.new_draft(message)
        await draft.write(body)
        envelope = Envelope(
            ReversePath(parse_mailbox(sender) if sender else None),
            tuple(
                Recipient(parse_mailbox(recipient)) if isinstance(recipient, str) else recipient
                for recipient in recipients
            ),
            **more,
        )
        origin = Origin("s", "192.0.2.9")
        await self.spool.commit(
            draft, message=message, envelope=envelope, origin=origin, prefix=b"Received: x\r\n"
        )
        return message


@attrs.define
class SettableClock:
    """The wall clock of a machine whose operator may set it."""

    offset: float = 1_750_000_000.0

    def time(self) -> float:
        return self.offset + trio.current_time()


@asynccontextmanager
async def open_bed(
    answer: Answer = answer_ok,
    *,
    config: Config | None = None,
    refuse: Outcome | None = None,
    clock: SettableClock | None = None,
    store: MemoryStore | None = None,
    sign: Callable[[bytes], bytes] | None = None,
    plugins: Sequence[LoadedPlugin] = (),
    survey: Callable[[Route], Awaitable[frozenset[str]]] | None = None,
) -> AsyncGenerator[Bed, None]:
    """`answer` serves every site; a test may replace the transport of one. With a `store` of an earlier
    bed: that server has died and starts again."""
    config = config or Config(hostname="mx.example.net")
    clock = clock or SettableClock()
    random, drain, bus = Random(7), Drain(), EventBus()
    events: list[Event] = []
    bus.observe("test", events.append)
    transports: dict[str, ScriptedTransport] = {}

    def make_transport(route: Route) -> Transport:
        return transports.setdefault(str(route), ScriptedTransport(answer, refuse))

    async with (
        open_plugins([_ward(each) for each in plugins], bus, clock) as host,
        open_spool(
            Path("nowhere"),
            SpoolConfig(),
            message_size=10**6,
            lease=config.queue.lease,
            clock=clock,
            random=random,
            on_trouble=lambda what, detail: None,
            store=store or MemoryStore(),
        ) as spool,
        open_queue(
            config,
            spool,
            Router(config),
            make_transport,
            bus,
            clock=clock,
            random=random,
            drain=drain,
            sign=sign,
            plugins=host,
            survey=survey,
        ) as queue,
    ):
        yield Bed(spool, queue, drain, events, transports, random, clock)


class _NoState:
    """Remembers nothing."""

    async def get(self, key: str) -> bytes | None:
        await trio.lowlevel.checkpoint()
        return None

    def put(self, key: str, value: bytes, seconds: float) -> None:
        pass

    def forget(self, key: str) -> None:
        pass


def plugin(made: type[Plugin[Any]], name: str = "p", **entry: Any) -> LoadedPlugin:
    """A class as the loader would have it."""
    return LoadedPlugin(
        PluginConfig(name, **entry), made, NoConfig(), hook_methods(made), task_methods(made), __file__
    )


def _ward(loaded: LoadedPlugin) -> Ward:
    context = Context(loaded.entry.name, get_logger("plugin"), SettableClock(), Metrics(), _NoState())
    return Ward(Member(loaded.entry, TaskTier(loaded, context), frozenset(loaded.hooks)))


def config_with(**changes: object) -> Config:
    """The queue's settings changed, jitter off."""
    queue = attrs.evolve(QueueConfig(retry_jitter=0.0), **changes)
    return Config(hostname="mx.example.net", queue=queue)


def local_config(*routes: RouteConfig) -> Config:
    return Config(hostname="mx.example.net", domains=DomainsConfig(), routes=routes)
