"""A reload: all or nothing, and it tells what changed."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import attrs
import pytest

from elemta.app.reload import Reloader
from elemta.app.systemd import Notifier
from elemta.config import (
    Config,
    ConfigError,
    DomainsConfig,
    HostPort,
    ListenerConfig,
    LoggingConfig,
    LogLevel,
    RelayConfig,
    TlsConfig,
    parse_config,
)
from elemta.events import EventBus, ServerReloaded
from elemta.mail import Domain, parse_mailbox
from elemta.routing import Destination, Router
from elemta.runtime import SystemClock
from elemta.tls import TlsContexts

OLD = Config(
    hostname="mx.example.org",
    listeners=(ListenerConfig("mx", HostPort("127.0.0.1", 25)),),
    domains=DomainsConfig(local=(Domain("old.example"),)),
)
NEW = attrs.evolve(OLD, domains=DomainsConfig(local=(Domain("new.example"),)))


@attrs.define(eq=False)
class Bed:
    """A reloader, what it will read, and what it told."""

    fresh: Config | Exception | None = None
    events: list[ServerReloaded] = attrs.field(factory=list)
    levels: list[str] = attrs.field(factory=list)
    router: Router = attrs.field(factory=lambda: Router(OLD))

    def reloader(self) -> Reloader:
        bus = EventBus()
        bus.observe("test", self.events.append)  # type: ignore[arg-type]

        def read() -> Config:
            if isinstance(self.fresh, Exception):
                raise self.fresh
            assert self.fresh is not None
            return self.fresh

        return Reloader(
            OLD, read, self.router, TlsContexts(OLD.tls), bus, SystemClock(), Notifier(), self.levels.append
        )

    def is_local(self, domain: str) -> bool:
        return self.router.destination(parse_mailbox(f"bob@{domain}")) is Destination.LOCAL


def broken_config() -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse_config("hostname = 5", "elemta.toml")
    return caught.value


async def test_new_domains_replace_the_old() -> None:
    bed = Bed(NEW)
    reloader = bed.reloader()
    await reloader.reload()
    assert bed.is_local("new.example")
    assert not bed.is_local("old.example")
    assert [event.changed for event in bed.events] == [("domains",)]
    await reloader.reload()
    assert bed.events[-1].changed == ()


async def test_a_mistake_changes_nothing_and_is_told() -> None:
    bed = Bed(broken_config())
    reloader = bed.reloader()
    await reloader.reload()
    assert reloader.config is OLD
    assert bed.is_local("old.example")
    assert bed.levels == []
    (event,) = bed.events
    assert "hostname" in event.error
    bed.fresh = NEW
    await reloader.reload()
    assert bed.is_local("new.example")


async def test_a_missing_certificate_keeps_everything_else_old_too(tmp_path: Path) -> None:
    bed = Bed(attrs.evolve(NEW, tls=TlsConfig(tmp_path / "absent.pem", tmp_path / "absent.key")))
    await bed.reloader().reload()
    assert bed.is_local("old.example")
    assert "absent.pem" in bed.events[0].error


async def test_what_needs_a_restart_is_kept_and_said() -> None:
    fresh = attrs.evolve(
        NEW,
        hostname="other.example.org",
        listeners=(),
        relay=RelayConfig((ip_network("192.0.2.0/24"),)),
        logging=LoggingConfig(level=LogLevel.DEBUG),
    )
    bed = Bed(fresh)
    reloader = bed.reloader()
    await reloader.reload()
    assert reloader.config.hostname == OLD.hostname
    assert reloader.config.listeners == OLD.listeners
    assert reloader.config.domains == NEW.domains
    assert bed.levels == ["debug"]
    assert set(bed.events[0].changed) == {
        "domains",
        "logging",
        "hostname (needs a restart)",
        "listeners (needs a restart)",
        "relay (needs a restart)",
    }
    # What still waits for the restart is said again.
    await reloader.reload()
    assert "hostname (needs a restart)" in bed.events[1].changed
    assert "domains" not in bed.events[1].changed


async def test_without_a_file_nothing_is_read() -> None:
    bed = Bed()
    reloader = bed.reloader()
    reloader.read = None
    await reloader.reload()
    assert bed.events == []
