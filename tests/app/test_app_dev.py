"""Configurations made for development."""

from __future__ import annotations

import socket
from ipaddress import ip_network

import attrs
import pytest

from elemta.app import NoFreePort, default_config, dev, for_development, free_port, with_port, without_auth
from elemta.config import Config, HostPort, ListenerAuth, ListenerConfig, ListenerTls, RelayConfig

BASE = Config(
    hostname="mx.example.org",
    listeners=(
        ListenerConfig("mx", HostPort("127.0.0.1", 25), tls=ListenerTls.STARTTLS, auth=ListenerAuth.REQUIRED),
        ListenerConfig("mx6", HostPort("::1", 25)),
        ListenerConfig("other", HostPort("127.0.0.1", 24)),
    ),
    relay=RelayConfig((ip_network("192.0.2.0/24"),)),
)


def ports(config: Config) -> list[int]:
    return [listener.address.port for listener in config.listeners]


def test_with_port_moves_the_first_listener_and_those_on_its_port() -> None:
    moved = with_port(BASE, 2525)
    assert ports(moved) == [2525, 2525, 24]
    assert [listener.address.host for listener in moved.listeners] == ["127.0.0.1", "::1", "127.0.0.1"]
    assert ports(BASE) == [25, 25, 24]


def test_with_port_without_listeners_changes_nothing() -> None:
    empty = attrs.evolve(BASE, listeners=())
    assert with_port(empty, 2525) == empty


def test_without_auth_lets_this_machine_send_anywhere_and_keeps_tls() -> None:
    opened = without_auth(BASE)
    assert opened.relay.networks == (
        ip_network("192.0.2.0/24"),
        ip_network("127.0.0.0/8"),
        ip_network("::1/128"),
    )
    assert {listener.auth for listener in opened.listeners} == {ListenerAuth.OFF}
    assert opened.listeners[0].tls is ListenerTls.STARTTLS
    assert without_auth(opened) == opened


def test_for_development_also_drops_tls() -> None:
    made = for_development(BASE)
    assert {listener.tls for listener in made.listeners} == {ListenerTls.OFF}
    assert {listener.auth for listener in made.listeners} == {ListenerAuth.OFF}
    assert made.hostname == BASE.hostname


def test_the_default_listens_on_loopback_only_and_trusts_loopback_only() -> None:
    config = default_config(2525)
    assert [listener.address for listener in config.listeners] == [HostPort("127.0.0.1", 2525)]
    assert all(network.is_loopback for network in config.relay.networks)
    assert config.admin.address is None


def test_the_first_port_that_is_free_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
        probe.close()
        monkeypatch.setattr(dev, "PORTS", [taken.getsockname()[1], free])
        assert free_port() == free
        monkeypatch.setattr(dev, "PORTS", [taken.getsockname()[1]])
        with pytest.raises(NoFreePort, match=r"use --port"):
            free_port()
