"""Development mode: a configuration that needs no file, no TLS, no accounts, and sends nothing anywhere."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path

import attrs

from elemta.config import (
    Config,
    DomainsConfig,
    HostPort,
    ListenerAuth,
    ListenerConfig,
    ListenerTls,
    LogFormat,
    LoggingConfig,
    LogLevel,
    RelayConfig,
)

PORTS = range(2525, 2529)
"""Tried in this order where no port was asked for."""
STATE_DIR = Path("var/dev")
LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


class NoFreePort(Exception):
    """All of `PORTS` are taken."""


def free_port() -> int:
    """The first of `PORTS` that nobody listens on.

    Raises:
      NoFreePort: none is free.
    """
    for port in PORTS:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise NoFreePort(
        f"ports {PORTS[0]} to {PORTS[-1]} of 127.0.0.1 are all in use: stop what listens there, or use --port"
    )


def default_config(port: int) -> Config:
    """The configuration of `elemta run --dev` without a file."""
    return Config(
        hostname="localhost.localdomain",
        state_dir=STATE_DIR,
        listeners=(ListenerConfig(name="dev", address=HostPort("127.0.0.1", port)),),
        domains=DomainsConfig(),
        relay=RelayConfig(networks=LOOPBACK),
        logging=LoggingConfig(format=LogFormat.CONSOLE, level=LogLevel.WARNING),
    )


def without_auth(config: Config) -> Config:
    """Nobody needs an account: clients on this machine may send anywhere, others only to our domains."""
    networks = tuple(dict.fromkeys((*config.relay.networks, *LOOPBACK)))
    listeners = tuple(attrs.evolve(listener, auth=ListenerAuth.OFF) for listener in config.listeners)
    return attrs.evolve(config, relay=RelayConfig(networks=networks), listeners=listeners)


def for_development(config: Config) -> Config:
    """A configuration from a file, made harmless: no TLS, no accounts. (That nothing is sent is the
    transports' part: all of them capture.)"""
    open_ = without_auth(config)
    listeners = tuple(attrs.evolve(listener, tls=ListenerTls.OFF) for listener in open_.listeners)
    return attrs.evolve(open_, listeners=listeners)


def with_port(config: Config, port: int) -> Config:
    """Let the first listener, and those that share its port on other addresses, listen on `port`."""
    if not config.listeners:
        return config
    replaced = config.listeners[0].address.port
    listeners = tuple(
        attrs.evolve(listener, address=HostPort(listener.address.host, port))
        if listener.address.port == replaced
        else listener
        for listener in config.listeners
    )
    return attrs.evolve(config, listeners=listeners)
