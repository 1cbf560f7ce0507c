"""Opens the admin port and the socket in the state folder; neither ever takes mail down."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import trio

from elemta.config import HostPort
from elemta.runtime import Drain, contain, supervise

from .api import Facts, build_application
from .auth import Guard
from .http import Application, HttpConnection

MAX_CONNECTIONS = 64
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


@asynccontextmanager
async def open_admin(
    sockets: list[socket.socket],
    facts: Facts,
    token: str,
    hosts: frozenset[str],
    *,
    on_crash: Callable[[str, BaseException], None],
    drain: Drain,
) -> AsyncGenerator[Facts, None]:
    """Serve around the block; on the way out running requests are cut and the sockets closed."""
    facts.bus.observe("metrics", facts.counts.observe)
    application = build_application(facts, Guard(token, hosts))
    async with _closing(sockets), trio.open_nursery() as nursery:
        limiter = trio.CapacityLimiter(MAX_CONNECTIONS)
        for sock in sockets:
            listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
            trusted = sock.family == socket.AF_UNIX
            accept = partial(
                _accept, listener, application, nursery, limiter, trusted=trusted, on_crash=on_crash
            )
            nursery.start_soon(partial(supervise, "admin", accept, on_crash=on_crash, drain=drain))
        try:
            yield facts
        finally:
            nursery.cancel_scope.cancel(reason="the admin port closes")


@asynccontextmanager
async def _closing(sockets: Iterable[socket.socket]) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        for sock in sockets:
            sock.close()


async def _accept(
    listener: trio.SocketListener,
    application: Application,
    nursery: trio.Nursery,
    limiter: trio.CapacityLimiter,
    *,
    trusted: bool,
    on_crash: Callable[[str, BaseException], None],
) -> None:
    while True:
        try:
            stream = await listener.accept()
        except OSError:
            await trio.sleep(_ACCEPT_PAUSE)
            continue
        try:
            limiter.acquire_on_behalf_of_nowait(stream)
        except trio.WouldBlock:
            await trio.aclose_forcefully(stream)
            continue
        nursery.start_soon(_serve, stream, application, limiter, trusted, on_crash)


async def _serve(
    stream: trio.SocketStream,
    application: Application,
    limiter: trio.CapacityLimiter,
    trusted: bool,
    on_crash: Callable[[str, BaseException], None],
) -> None:
    try:
        connection = HttpConnection(stream, application, trusted)
        await contain("admin request", connection.serve, on_crash=on_crash)
    finally:
        limiter.release_on_behalf_of(stream)
