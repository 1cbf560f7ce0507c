"""A reload: all or nothing, and it tells what changed."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncGenerator, Callable
from ipaddress import ip_network
from pathlib import Path
from random import Random

import attrs
import pytest
import trio
import trio.testing
from ports import free_port

from elemta.app.ourselves import Ourselves
from elemta.app.parts import auth_part, listeners_part, queue_part, router_part, simple_part, tls_part
from elemta.app.reload import Part, Prepared, Reloader, ReloadFailed
from elemta.app.systemd import Notifier
from elemta.auth import AuthFilesError
from elemta.config import (
    AuthConfig,
    Config,
    ConfigError,
    DomainsConfig,
    HostPort,
    LimitsConfig,
    ListenerConfig,
    LoggingConfig,
    LogLevel,
    RelayConfig,
    RouteConfig,
    RoutePattern,
    TlsConfig,
    TransportKind,
    parse_config,
)
from elemta.events import EventBus, ServerReloaded
from elemta.inbound import Listeners, bind_all, open_listeners
from elemta.mail import Domain, parse_mailbox
from elemta.routing import Destination, Router
from elemta.runtime import Drain, SystemClock
from elemta.tls import TlsContexts

OLD = Config(
    hostname="mx.example.org",
    listeners=(ListenerConfig("mx", HostPort("127.0.0.1", 0)),),
    domains=DomainsConfig(local=(Domain("old.example"),)),
)
NEW = attrs.evolve(OLD, domains=DomainsConfig(local=(Domain("new.example"),)))


@attrs.define(eq=False)
class Bed:
    """A reloader with its parts, what it will read, and what it told."""

    fresh: Config | Exception | None = None
    events: list[ServerReloaded] = attrs.field(factory=list)
    levels: list[str] = attrs.field(factory=list)
    router: Router = attrs.field(factory=lambda: Router(OLD))
    tls: TlsContexts = attrs.field(factory=lambda: TlsContexts(OLD.tls))
    drain: Drain = attrs.field(factory=Drain)
    reloader: Reloader = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        bus = EventBus()
        bus.observe("test", self.events.append)  # type: ignore[arg-type]

        def read() -> Config:
            if isinstance(self.fresh, Exception):
                raise self.fresh
            assert self.fresh is not None
            return self.fresh

        self.reloader = Reloader(OLD, read, bus, SystemClock(), Notifier(), self.drain)
        self.reloader.add(tls_part(self.tls))
        self.reloader.add(router_part(self.router))
        self.reloader.add(
            simple_part(frozenset({"logging"}), lambda config: self.levels.append(config.logging.level))
        )

    async def reload(self, fresh: Config | Exception) -> ServerReloaded:
        self.fresh = fresh
        await self.reloader.reload()
        return self.events[-1]

    def is_local(self, domain: str) -> bool:
        return self.router.destination(parse_mailbox(f"bob@{domain}")) is Destination.LOCAL


def broken_config() -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse_config("hostname = 5", "elemta.toml")
    return caught.value


async def test_new_domains_replace_the_old() -> None:
    bed = Bed()
    assert (await bed.reload(NEW)).changed == ("domains",)
    assert bed.is_local("new.example")
    assert not bed.is_local("old.example")
    assert (await bed.reload(NEW)).changed == ()


async def test_a_mistake_changes_nothing_and_is_told() -> None:
    bed = Bed()
    event = await bed.reload(broken_config())
    assert "hostname" in event.error
    assert bed.reloader.config is OLD
    assert bed.is_local("old.example")
    assert bed.levels == []
    await bed.reload(NEW)
    assert bed.is_local("new.example")


async def test_a_missing_certificate_keeps_everything_else_old_too(tmp_path: Path) -> None:
    bed = Bed()
    tls = TlsConfig(tmp_path / "absent.pem", tmp_path / "absent.key")
    event = await bed.reload(attrs.evolve(NEW, tls=tls))
    assert "absent.pem" in event.error
    assert event.changed == ()
    assert bed.is_local("old.example")


async def test_a_route_that_cannot_work_changes_nothing() -> None:
    bed = Bed()
    lmtp = RouteConfig(RoutePattern(), TransportKind.LMTP)
    event = await bed.reload(attrs.evolve(NEW, routes=(lmtp,)))
    assert "needs a host" in event.error
    assert bed.is_local("old.example")


async def test_what_needs_a_restart_is_kept_and_said() -> None:
    bed = Bed()
    fresh = attrs.evolve(
        NEW,
        hostname="other.example.org",
        state_dir=Path("elsewhere"),
        logging=LoggingConfig(level=LogLevel.DEBUG),
    )
    event = await bed.reload(fresh)
    assert set(event.changed) == {"domains", "logging"}
    assert set(event.restart) == {"hostname", "state_dir"}
    assert bed.reloader.config == attrs.evolve(fresh, hostname=OLD.hostname, state_dir=OLD.state_dir)
    assert bed.levels == ["debug"]
    # What still waits for the restart is said again.
    event = await bed.reload(fresh)
    assert event.changed == ()
    assert set(event.restart) == {"hostname", "state_dir"}


async def test_without_a_file_nothing_is_read() -> None:
    bed = Bed()
    bed.reloader.read = None
    await bed.reloader.reload()
    assert bed.events == []


async def test_nothing_is_reloaded_while_the_server_stops() -> None:
    bed = Bed(NEW)
    bed.drain.begin("test", 1, 1)
    await bed.reloader.reload()
    assert bed.events == []


# What parts may rely on


def part(
    sections: set[str], log: list[str], name: str, *, fails: bool = False, uses: frozenset[str] = frozenset()
) -> Part:
    async def prepare(config: Config) -> Prepared:
        await trio.lowlevel.checkpoint()
        if fails:
            raise ReloadFailed(f"{name} cannot")
        log.append(f"{name} prepared")

        def commit() -> tuple[str, ...]:
            log.append(f"{name} committed")
            return (f"detail of {name}",)

        return Prepared(commit, lambda: log.append(f"{name} abandoned"))

    return Part(frozenset(sections), prepare, uses)


async def test_parts_commit_only_when_all_have_prepared() -> None:
    bed, log = Bed(), []
    bed.reloader.add(part({"limits"}, log, "one"))
    bed.reloader.add(part({"relay"}, log, "untouched"))
    bed.reloader.add(part({"timeouts"}, log, "two", uses=frozenset({"limits"})))
    event = await bed.reload(attrs.evolve(NEW, limits=LimitsConfig(sessions=7)))
    assert log == ["one prepared", "two prepared", "one committed", "two committed"]
    assert event.changed == ("domains", "limits", "detail of one", "detail of two")


async def test_a_part_that_cannot_makes_the_others_take_back_what_they_did() -> None:
    bed, log = Bed(), []
    bed.reloader.add(part({"limits"}, log, "one"))
    bed.reloader.add(part({"limits"}, log, "two"))
    bed.reloader.add(part({"limits"}, log, "three", fails=True))
    event = await bed.reload(attrs.evolve(NEW, limits=LimitsConfig(sessions=7)))
    assert event.error == "three cannot"
    assert log == ["one prepared", "two prepared", "two abandoned", "one abandoned"]
    assert bed.is_local("old.example")
    assert bed.reloader.config is OLD


async def test_a_reload_that_is_cancelled_leaves_nothing_half_done() -> None:
    bed, log = Bed(NEW), []
    bed.reloader.add(part({"domains"}, log, "one"))

    async def hang(config: Config) -> Prepared:
        await trio.sleep_forever()
        raise AssertionError

    bed.reloader.add(Part(frozenset({"domains"}), hang))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bed.reloader.reload)
        with trio.fail_after(1):
            while not log:
                await trio.sleep(0.001)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert log == ["one prepared", "one abandoned"]
    assert bed.is_local("old.example")
    assert bed.events == []


# Listeners


@contextlib.asynccontextmanager
async def listening(bed: Bed) -> AsyncGenerator[tuple[Listeners, Callable[[int], bool]], None]:
    bound = bind_all(OLD.listeners)
    ourselves = Ourselves(address for each in bound for address in each.addresses)
    async with open_listeners(
        bound,
        config=OLD,
        spool=None,  # type: ignore[arg-type]  # no mail is sent here
        router=bed.router,
        bus=EventBus(),
        clock=SystemClock(),
        random=Random(1),
        drain=bed.drain,
        tls=bed.tls,
    ) as listeners:
        bed.reloader.add(listeners_part(listeners, ourselves))
        yield listeners, lambda port: ourselves.is_listener("127.0.0.1", port)
        bed.drain.begin("over", 0, 0)


async def greeting(port: int) -> bytes:
    with trio.fail_after(5):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            return bytes(await stream.receive_some(1000))


async def test_listeners_come_go_and_change_and_it_is_told() -> None:
    bed = Bed()
    async with listening(bed) as (listeners, is_ours):
        old, new = listeners.addresses[0].port, free_port()
        fresh = attrs.evolve(
            OLD, listeners=(*OLD.listeners, ListenerConfig("two", HostPort("127.0.0.1", new)))
        )
        event = await bed.reload(fresh)
        assert event.changed == ("listeners", "listener two added")
        assert (await greeting(new)).startswith(b"220 ")
        assert is_ours(new)
        event = await bed.reload(attrs.evolve(OLD, listeners=fresh.listeners[1:]))
        assert event.changed == ("listeners", "listener mx removed")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(OSError, match=r"refused|failed"):
            await greeting(old)
        assert not is_ours(old)
        moved = attrs.evolve(fresh.listeners[1], address=HostPort("127.0.0.1", free_port()))
        event = await bed.reload(
            attrs.evolve(OLD, listeners=(moved,), relay=RelayConfig((ip_network("10.0.0.0/8"),)))
        )
        assert event.changed == ("listeners", "relay", "listener two changed")
        assert (await greeting(moved.address.port)).startswith(b"220 ")


async def test_an_address_in_use_keeps_the_old_configuration_whole() -> None:
    bed = Bed()
    async with listening(bed) as (listeners, _):
        with socket.create_server(("127.0.0.1", 0)) as foreign:
            taken = foreign.getsockname()[1]
            fresh = attrs.evolve(NEW, listeners=(ListenerConfig("mx", HostPort("127.0.0.1", taken)),))
            event = await bed.reload(fresh)
        assert "Address already in use" in event.error
        assert bed.is_local("old.example")
        assert (await greeting(listeners.addresses[0].port)).startswith(b"220 ")


async def test_new_sockets_are_closed_again_when_another_part_cannot() -> None:
    bed, port = Bed(), free_port()
    async with listening(bed):
        bed.reloader.add(part({"listeners"}, [], "later", fails=True))
        await bed.reload(attrs.evolve(OLD, listeners=(ListenerConfig("mx", HostPort("127.0.0.1", port)),)))
        assert bed.events[-1].error == "later cannot"
        with socket.create_server(("127.0.0.1", port)):
            pass


# The queue


@attrs.define
class FakeQueue:
    config: Config = OLD

    def replace(self, config: Config) -> None:
        self.config = config


async def test_queue_and_transports_go_by_the_new_configuration_and_what_cannot_is_said() -> None:
    bed, queue, carried = Bed(), FakeQueue(), []
    bed.reloader.add(queue_part(queue, carried.append, OLD))  # type: ignore[arg-type]
    fresh = attrs.evolve(
        OLD,
        hostname="new.example.org",
        queue=attrs.evolve(OLD.queue, lifetime=86400.0, lease=60.0),
        delivery=attrs.evolve(OLD.delivery, concurrency=3),
    )
    event = await bed.reload(fresh)
    assert set(event.changed) == {"hostname", "queue", "delivery"}
    assert event.restart == ("queue.lease", "hostname of the admin port")
    assert queue.config == fresh
    assert carried == [fresh]
    assert (await bed.reload(fresh)).restart == ("queue.lease", "hostname of the admin port")
    assert (await bed.reload(OLD)).restart == ()


# Accounts


async def test_accounts_are_made_anew_and_those_that_cannot_be_read_change_nothing() -> None:
    bed = Bed()
    made: list[Config] = []

    async def make(config: Config) -> None:
        await trio.lowlevel.checkpoint()
        if config.auth.users == Path("broken"):
            raise AuthFilesError(Path("broken"), ": line 1: what is this")
        made.append(config)

    async with listening(bed) as (listeners, _):
        bed.reloader.add(auth_part(listeners, make))
        event = await bed.reload(attrs.evolve(NEW, auth=AuthConfig(users=Path("broken"))))
        assert event.error == "broken: line 1: what is this"
        assert bed.is_local("old.example")
        event = await bed.reload(attrs.evolve(OLD, auth=AuthConfig(users=Path("users"))))
        assert event.changed == ("auth",)
        assert [config.auth.users for config in made] == [Path("users")]
