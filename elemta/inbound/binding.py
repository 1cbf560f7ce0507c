"""Listening sockets, bound before anything else starts, so that "address in use" arrives bare."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterable, Mapping, Sequence

import attrs
import trio

from elemta.config import HostPort, ListenerConfig

BACKLOG = 1024
"""Connections that the kernel completes while the accept loop is busy; it caps this at somaxconn."""
_PORT_TRIES = 10
"""How often a free port is sought that is free for every family."""

_HINTS = {
    errno.EADDRINUSE: "another program listens there; `ss -ltnp` shows which",
    errno.EACCES: "ports below 1024 need CAP_NET_BIND_SERVICE or a socket from systemd",
    errno.EPERM: "ports below 1024 need CAP_NET_BIND_SERVICE or a socket from systemd",
    errno.EADDRNOTAVAIL: "this machine has no such address",
    errno.EAFNOSUPPORT: "this machine does not speak that family of addresses",
}


class BindError(Exception):
    """A listener's address cannot be used: which, why, and what to do about it."""

    def __init__(self, address: str, reason: str, hint: str = "", *, in_use: bool = False) -> None:
        super().__init__(f"cannot listen on {address}: {reason}" + (f" ({hint})" if hint else ""))
        self.address = address
        self.reason = reason
        self.hint = hint
        self.in_use = in_use
        """Whether it may work later, when another program has let go of it."""


@attrs.frozen
class BoundListener:
    """A listener of the configuration with what accepts its connections."""

    config: ListenerConfig
    sockets: tuple[socket.socket, ...] = ()
    listeners: tuple[trio.abc.Listener[trio.abc.Stream], ...] = ()
    """Instead of sockets: a network that is not the machine's, as in simulations."""

    addresses: tuple[HostPort, ...] = attrs.field(init=False)
    """Where it really listens: port 0 has become a number."""

    @addresses.default
    def _find_addresses(self) -> tuple[HostPort, ...]:
        return tuple(_address_of(sock) for sock in self.sockets)

    def close(self) -> None:
        """Close the sockets that `open_listeners` was not given."""
        for sock in self.sockets:
            sock.close()


def bind_all(
    listeners: Iterable[ListenerConfig],
    *,
    port: int | None = None,
    inherited: Mapping[str, Sequence[socket.socket]] | None = None,
) -> tuple[BoundListener, ...]:
    """Bind every listener; on an error those that were bound are closed again.

    Args:
      port: instead of the configured one, for the first listener.
      inherited: sockets that listen already, by the name of their listener (systemd).

    Raises:
      BindError: an address cannot be used.
    """
    bound: list[BoundListener] = []
    try:
        for listener in listeners:
            if listener.proxy_protocol:
                # Taken as an ordinary client the balancer's address would count, perhaps as a trusted one.
                raise BindError(
                    str(listener.address), "proxy_protocol is not available yet", "set it to false"
                )
            sockets = tuple((inherited or {}).get(listener.name, ()))
            if sockets:
                for sock in sockets:
                    _adopt(listener, sock)
            else:
                address = listener.address
                if port is not None and not bound:
                    address = HostPort(address.host, port)
                sockets = _bind(address)
            bound.append(BoundListener(listener, sockets))
    except BaseException:
        for each in bound:
            each.close()
        raise
    return tuple(bound)


def _adopt(listener: ListenerConfig, sock: socket.socket) -> None:
    """Take over a socket that someone else bound."""
    try:
        listening = sock.type == socket.SOCK_STREAM and sock.getsockopt(
            socket.SOL_SOCKET, socket.SO_ACCEPTCONN
        )
    except OSError as cause:
        raise BindError(
            f"the inherited socket of {listener.name!r}", os.strerror(cause.errno or 0)
        ) from cause
    if not listening:
        raise BindError(
            f"the inherited socket of {listener.name!r}",
            "it is no listening TCP socket",
            "ListenStream= with Accept=no in the socket unit",
        )
    _prepare(sock)


def _bind(address: HostPort) -> tuple[socket.socket, ...]:
    tries = _PORT_TRIES if address.port == 0 else 1
    while True:
        tries -= 1
        sockets: list[socket.socket] = []
        try:
            _bind_families(address, sockets)
        except OSError as cause:
            for sock in sockets:
                sock.close()
            # A port that is free for one family need not be for the other: seek another one.
            if tries and sockets and cause.errno == errno.EADDRINUSE:
                continue
            reason = cause.strerror or str(cause)
            hint = _HINTS.get(cause.errno or 0, "")
            raise BindError(str(address), reason, hint, in_use=cause.errno == errno.EADDRINUSE) from cause
        return tuple(sockets)


def _bind_families(address: HostPort, sockets: list[socket.socket]) -> None:
    """Bind each family of the address, all to one port; also on an error `sockets` has what was bound."""
    try:
        found = socket.getaddrinfo(
            address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except UnicodeError as cause:
        raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL)) from cause
    port = address.port
    missing: OSError | None = None
    for family, kind, protocol, _, socket_address in found:
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:
            if error.errno != errno.EAFNOSUPPORT:
                raise
            missing = error
            continue
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                # Each family has its own socket, so that an IPv4 client always shows an IPv4 address.
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((socket_address[0], port, *socket_address[2:]))
            sock.listen(BACKLOG)
        except OSError as error:
            sock.close()
            if not address.host and error.errno == errno.EADDRNOTAVAIL:  # a family that is switched off
                missing = error
                continue
            raise
        port = sock.getsockname()[1]
        sockets.append(sock)
        _prepare(sock)
    if not sockets:
        raise missing or OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))


def _prepare(sock: socket.socket) -> None:
    """Set what accepted connections inherit (Linux), which saves a call for each."""
    sock.setblocking(False)
    for level, option in ((socket.IPPROTO_TCP, socket.TCP_NODELAY), (socket.SOL_SOCKET, socket.SO_KEEPALIVE)):
        with contextlib.suppress(OSError):  # a Unix domain socket has neither
            sock.setsockopt(level, option, 1)


def _address_of(sock: socket.socket) -> HostPort:
    name = sock.getsockname()
    if isinstance(name, tuple):
        return HostPort(name[0], name[1])
    return HostPort(str(name) or "unix", 0)
