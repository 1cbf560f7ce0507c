"""Opens the admin port and the socket in the state folder; neither ever takes mail down."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import attrs
import trio

from elemta.config import AdminConfig, HostPort
from elemta.events import AccessRefused
from elemta.runtime import Drain, contain, supervise

from .api import Facts
from .application import build_application
from .guard import Guard
from .health import ResolverWatch
from .http import Application, HttpConnection, WebSockets
from .overview import moment_of
from .tail import CLOSE_SECONDS, Tail
from .tokens import TokenFile
from .trend import Trend
from .watchers import Watchers

MAX_CONNECTIONS = 64
"""Of HTTP at each socket, so that strangers at the port cannot keep the operator out of his own."""
SOCKET_NAME = "admin.sock"
_ACCEPT_PAUSE = 0.1
"""Seconds without accepting when the process is out of descriptors or memory."""


def bind_admin(address: HostPort | None, state_dir: Path) -> list[socket.socket]:
    """The bound sockets: the one in the state folder first, mode 0600, then the TCP one where configured.

    The spool's lock must be held: a socket that is there already is a dead server's and is replaced.

    Raises:
      OSError: with the address in its `filename`.
    """
    path = state_dir / SOCKET_NAME
    with suppress(FileNotFoundError):
        path.unlink()
    local = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sockets = [local]
    try:
        before = os.umask(0o177)
        try:
            # A path longer than sun_path (108 octets) is reached through its folder's descriptor.
            folder = os.open(state_dir, os.O_PATH | os.O_CLOEXEC)
            try:
                local.bind(f"/proc/self/fd/{folder}/{SOCKET_NAME}")
            finally:
                os.close(folder)
        finally:
            os.umask(before)
        local.listen(64)
        if address is not None:
            family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
            tcp = socket.socket(family, socket.SOCK_STREAM)
            sockets.append(tcp)
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tcp.bind((address.host, address.port))
            tcp.listen(64)
    except OSError as error:
        for opened in sockets:
            opened.close()
        where = str(address) if len(sockets) > 1 else str(path)
        raise OSError(error.errno, error.strerror, where) from error
    return sockets


@attrs.frozen(eq=False)
class _Door:
    """One socket: who is served there, and by what."""

    application: Application
    websockets: WebSockets
    trusted: bool
    nursery: trio.Nursery
    on_crash: Callable[[str, BaseException], None]
    limiter: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(MAX_CONNECTIONS))

    async def accept(self, listener: trio.SocketListener) -> None:
        """Serve who comes, until cancelled."""
        while True:
            try:
                stream = await listener.accept()
            except OSError:
                await trio.sleep(_ACCEPT_PAUSE)
                continue
            try:
                self.limiter.acquire_on_behalf_of_nowait(stream)
            except trio.WouldBlock:
                await trio.aclose_forcefully(stream)
                continue
            self.nursery.start_soon(self._serve, stream, name="admin connection")

    async def _serve(self, stream: trio.SocketStream) -> None:
        counted = True

        def leave() -> None:
            nonlocal counted
            if counted:
                counted = False
                self.limiter.release_on_behalf_of(stream)

        try:
            connection = HttpConnection(
                stream, self.application, self.trusted, self.websockets, on_upgrade=leave
            )
            await contain("admin request", connection.serve, on_crash=self.on_crash)
        finally:
            leave()


@asynccontextmanager
async def open_admin(
    sockets: list[socket.socket],
    facts: Facts,
    token: str,
    tokens: TokenFile,
    hosts: frozenset[str],
    *,
    on_crash: Callable[[str, BaseException], None],
    drain: Drain,
    config: AdminConfig,
) -> AsyncGenerator[Facts, None]:
    """Serve around the block; without sockets nobody asks, and nothing is measured. On the way out those who
    watch get the last events and are told that it is the end; requests are cut and the sockets closed."""
    facts.bus.observe("metrics", facts.counts.observe)
    guard = Guard(token, hosts, facts.clock, tokens.find, partial(_tell_refused, facts))
    watchers = facts.watchers = Watchers(
        facts.bus,
        facts.clock,
        events=config.tail_events,
        limit=config.tail_clients,
        listener_of=facts.listener_of_sessions,
    )
    resolver = facts.resolver = ResolverWatch(lambda: None if facts.dns is None else facts.dns.statistics())
    trend = facts.trend = Trend(facts.clock)
    facts.bus.observe("trend", trend.observe)
    application = build_application(facts, guard)
    tail = Tail(watchers, guard, facts.version, facts.hostname)
    async with _closing(sockets), trio.open_nursery() as nursery:
        for sock in sockets:
            listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
            door = _Door(application, tail, sock.family == socket.AF_UNIX, nursery, on_crash)
            _start(nursery, "admin", partial(door.accept, listener), on_crash, drain)
        if sockets:
            _start(nursery, "tail", watchers.run, on_crash, drain)
            _start(nursery, "resolver watch", resolver.run, on_crash, drain)
            watch = partial(trend.run, partial(moment_of, facts), facts.spool.totals)
            _start(nursery, "trend", watch, on_crash, drain)
        try:
            yield facts
        finally:
            watchers.close()
            with trio.move_on_after(CLOSE_SECONDS, shield=True):
                await watchers.wait_gone()
            nursery.cancel_scope.cancel(reason="the admin port closes")


def _tell_refused(facts: Facts, peer: str, reason: str) -> None:
    facts.bus.publish(AccessRefused(time=facts.clock.time(), peer=peer, reason=reason))


def _start(
    nursery: trio.Nursery,
    name: str,
    child: Callable[[], Awaitable[None]],
    on_crash: Callable[[str, BaseException], None],
    drain: Drain,
) -> None:
    nursery.start_soon(partial(supervise, name, child, on_crash=on_crash, drain=drain), name=name)


@asynccontextmanager
async def _closing(sockets: Iterable[socket.socket]) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        for sock in sockets:
            sock.close()
