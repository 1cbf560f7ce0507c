"""The whole server inside a test: its listeners, next hops and DNS in memory, its clock the test's.

With `autojump_clock` (pytest-trio) days of retries pass in milliseconds. Nothing is bound, connected to or
looked up outside of the process; only the state folder is a real one, and is gone afterwards.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import attrs
import trio

from elemta.app import Environment, Logs, Wanted, Way, run
from elemta.app.main import Server
from elemta.config import Config, DomainsConfig, HostPort, ListenerConfig
from elemta.events import Event
from elemta.inbound import BoundListener
from elemta.mail import Domain
from elemta.runtime import LEVELS, LogPump, Record, TrioWallClock
from elemta.runtime.threads import in_place
from elemta.spool import MemoryStore, Spool, Store

from .dns import FakeResolver, Zone
from .network import MemoryNetwork, MemoryStream, memory_connection, open_memory_network

_AUTHORITIES = Path(__file__).with_name("nobody.pem")
"""Of one authority, whose key is gone. To read all that the system trusts takes longer than most tests."""

E = TypeVar("E", bound=Event)
V = TypeVar("V")

DEFAULT = Config(
    hostname="mx.example.org",
    listeners=(ListenerConfig("mx", HostPort("192.0.2.1", 25)),),
    domains=DomainsConfig(local=(Domain("example.org"),)),
)
"""Takes mail for example.org from everybody and sends it to the MX that the zone names."""


class _Listener(trio.abc.Listener[trio.abc.Stream]):
    """Accepts what `put` brings."""

    def __init__(self) -> None:
        self._sender, self._receiver = trio.open_memory_channel[trio.abc.Stream](1000)

    def put(self, stream: trio.abc.Stream) -> None:
        self._sender.send_nowait(stream)

    async def accept(self) -> trio.abc.Stream:
        return await self._receiver.receive()

    async def aclose(self) -> None:
        self._sender.close()
        await trio.lowlevel.checkpoint()


class _QuietPump(LogPump):
    """Writes where it is called: a thread would let the clock of the test jump meanwhile (TRIO 3.12)."""

    def __init__(self, records: list[dict[str, Any]]) -> None:
        super().__init__(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))
        self.events: list[Event] = []
        self._log = records

    def put(self, record: Record) -> None:
        self._log.append(dict(record))
        super().put(record)

    def put_lazy(self, make: Callable[[V], Record], value: V) -> None:
        if isinstance(value, Event):
            self.events.append(value)
        super().put_lazy(make, value)

    async def run(self) -> None:
        await trio.sleep_forever()


@attrs.define(eq=False)
class RunningServer:
    """A server that accepts mail. Made by `open_test_server`."""

    config: Config
    network: MemoryNetwork
    """Where it connects to: `network.listen("192.0.2.25", 25, SinkPeer().serve)`."""
    resolver: FakeResolver
    """What DNS says; its zone may change at any time."""
    server: Server
    """Its parts: `server.facts.spool`, `server.facts.queue`, `server.listeners`, `server.drain`."""
    events: list[Event]
    """Everything that has happened, in order."""
    log: list[dict[str, Any]]
    """What was logged beside the events, by plugins for example: `level`, `event` and what else was said."""
    _listeners: dict[str, _Listener]
    _changed: trio.Event = attrs.field(factory=trio.Event)
    _next_port: int = 50000

    @property
    def spool(self) -> Spool:
        return self.server.facts.spool

    def connect(self, *, listener: str | None = None, peer: str = "192.0.2.200") -> MemoryStream:
        """A new connection from that address to the listener of that name, or to the first one."""
        name = self.config.listeners[0].name if listener is None else listener
        address = next(each.address for each in self.config.listeners if each.name == name)
        self._next_port += 1
        client, ours = memory_connection((peer, self._next_port), (address.host, address.port))
        self._listeners[name].put(ours)
        return client

    def seen(self, kind: type[E]) -> list[E]:
        """The events of that class so far."""
        return [event for event in self.events if isinstance(event, kind)]

    async def wait_for(self, kind: type[E], matches: Callable[[E], bool] = lambda event: True) -> E:
        """The first event of that class that matches, whether it has happened or will; without a bound."""
        looked_at = 0
        while True:
            for event in self.events[looked_at:]:
                if isinstance(event, kind) and matches(event):
                    return event
            looked_at = len(self.events)
            await self._changed.wait()

    def _observe(self, event: Event) -> None:
        self.events.append(event)
        self._changed.set()
        self._changed = trio.Event()


async def _run_in_place(*args: Any, **kwargs: Any) -> None:
    """`run` without threads: one that is slow would let the clock of the test jump meanwhile (TRIO 3.12)."""
    in_place.set(True)
    await run(*args, **kwargs)


@asynccontextmanager
async def open_test_server(
    config: Config = DEFAULT,
    *,
    zone: Zone | None = None,
    resolver: FakeResolver | None = None,
    store: Store | None = None,
    seed: int = 0,
) -> AsyncIterator[RunningServer]:
    """Run the server of `config` around the block, with `zone` for its DNS, or with the `resolver`; it is
    stopped at the end.

    Its listeners are in memory: `RunningServer.connect`. Messages are in a `MemoryStore`, or in the `store`
    that is given, which is closed at the end. Equal seeds make equal ids and equal jitter.
    """
    listeners = {each.name: _Listener() for each in config.listeners}
    resolver = resolver or FakeResolver({} if zone is None else zone)
    bound = [BoundListener(each, listeners=(listeners[each.name],)) for each in config.listeners]
    with tempfile.TemporaryDirectory(prefix="elemta-test-") as folder:
        config = attrs.evolve(config, state_dir=Path(folder))
        async with open_memory_network() as network, trio.open_nursery() as nursery:
            environment = Environment(
                clock=TrioWallClock(),
                random=Random(seed),  # noqa: S311 - a test is to be repeated
                network=network,
                resolver=resolver,
                store=store or MemoryStore(),
                authorities=_AUTHORITIES,
                watched=False,
            )
            log: list[dict[str, Any]] = []
            pump = _QuietPump(log)
            logs = Logs((Way("log", pump, Wanted(LEVELS[config.logging.level])),))
            with logs.taking_all(environment.clock):
                start = partial(
                    _run_in_place,
                    config,
                    bound,
                    environment=environment,
                    logs=logs,
                    process_environment={},
                    signals=False,
                )
                server: Server = await nursery.start(start)
                # Those of the start were logged before anybody could observe
                running = RunningServer(config, network, resolver, server, [*pump.events], log, listeners)
                server.facts.bus.observe("test", running._observe)
                try:
                    yield running
                finally:
                    # At once; a test that is about stopping begins the drain itself.
                    server.drain.begin("the test is over", 0.0, 0.0)
