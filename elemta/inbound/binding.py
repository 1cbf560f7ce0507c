"""Listening sockets, bound before anything else starts, and bound anew when the configuration changes."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import TypeAlias

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

Inherited: TypeAlias = Mapping[str, Sequence[socket.socket]]
"""Sockets that someone else bound for us, by their names (systemd's FileDescriptorName)."""


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
    listeners: Iterable[ListenerConfig], *, port: int | None = None, inherited: Inherited | None = None
) -> tuple[BoundListener, ...]:
    """Bind every listener; on an error those that were bound are closed again.

    Args:
      port: instead of the configured one, for the first listener.
      inherited: sockets that listen already. A listener has those of its name, else those at its
        address. They stay the caller's, and what is closed here is a copy of the descriptor.

    Raises:
      BindError: an address cannot be used.
    """
    listeners = tuple(listeners)
    if port is not None and listeners:
        first = attrs.evolve(listeners[0], address=HostPort(listeners[0].address.host, port))
        rest = listeners[1:]
        bound = rebind((first, *rest), (), inherited=inherited).bound
        return (attrs.evolve(bound[0], config=listeners[0]), *bound[1:])
    return rebind(listeners, (), inherited=inherited).bound


@attrs.frozen
class Rebinding:
    """From one set of listeners to another."""

    bound: tuple[BoundListener, ...]
    """The new set. A listener whose address is as before has its sockets as before."""
    added: tuple[BoundListener, ...]
    """Those of the new set that listen since now; close them where the change is not to be made."""
    leaving: tuple[BoundListener, ...]
    """Those of the old set whose sockets are in use no more."""


def rebind(
    listeners: Iterable[ListenerConfig],
    current: Sequence[BoundListener],
    *,
    inherited: Inherited | None = None,
) -> Rebinding:
    """Bind what the new listeners have and the current ones have not. The current ones go on undisturbed.

    Raises:
      BindError: an address cannot be used; what was bound is closed again.
    """
    rest = list(current)
    bound: list[BoundListener] = []
    added: list[BoundListener] = []
    try:
        for listener in listeners:
            kept = _take(rest, listener)
            if kept is not None:
                bound.append(attrs.evolve(kept, config=listener))
                continue
            sockets = _adopt(listener, inherited or {})
            if not sockets:
                # The rest is what the new set has no use for, or not yet: its turn may come behind this one.
                ours = [sock for each in (*current, *bound) for sock in each.sockets]
                sockets = _bind(listener.address, ours)
            added.append(BoundListener(listener, sockets))
            bound.append(added[-1])
    except BaseException:
        for each in added:
            each.close()
        raise
    return Rebinding(tuple(bound), tuple(added), tuple(rest))


def _take(rest: list[BoundListener], listener: ListenerConfig) -> BoundListener | None:
    """What listens at the listener's address already, by preference under its name."""
    same = [each for each in rest if each.config.address == listener.address]
    same.sort(key=lambda each: each.config.name != listener.name)
    if not same or (listener.address.port == 0 and same[0].config.name != listener.name):
        return None  # port 0 is any free one: another listener's is another's
    rest.remove(same[0])
    return same[0]


def _adopt(listener: ListenerConfig, inherited: Inherited) -> tuple[socket.socket, ...]:
    """Copies of the sockets that someone else bound for this listener."""
    copies: list[socket.socket] = []
    try:
        found = inherited.get(listener.name) or [
            sock for sockets in inherited.values() for sock in sockets if _is_at(sock, listener.address)
        ]
        for sock in found:
            if not _is_listening(sock):
                raise BindError(
                    f"the inherited socket of {listener.name!r}",
                    "it is no listening TCP socket",
                    "ListenStream= with Accept=no in the socket unit",
                )
            copies.append(sock.dup())
            _prepare(copies[-1])
    except OSError as cause:
        _close_all(copies)
        raise BindError(
            f"the inherited socket of {listener.name!r}", os.strerror(cause.errno or 0)
        ) from cause
    except BindError:
        _close_all(copies)
        raise
    return tuple(copies)


def _close_all(sockets: Iterable[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def unclaimed(inherited: Inherited, bound: Iterable[BoundListener]) -> tuple[str, ...]:
    """Inherited sockets that no listener accepts from, by name and address: clients there wait for ever."""
    # Not asked of the sockets: a server that is stopped while it starts has closed them by now.
    served = {address for each in bound for address in each.addresses}
    return tuple(
        f"{name} at {_address_of(sock)}"
        for name, sockets in inherited.items()
        for sock in sockets
        if _address_of(sock) not in served
    )


def _is_listening(sock: socket.socket) -> bool:
    return sock.type == socket.SOCK_STREAM and bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _is_at(sock: socket.socket, address: HostPort) -> bool:
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or not _is_listening(sock):
        return False
    bound = _address_of(sock)
    everywhere = not address.host and bound.host in ("0.0.0.0", "::")  # noqa: S104 - compared only
    return bound.port == address.port and (bound.host == address.host or everywhere)


def _bind(address: HostPort, ours: Sequence[socket.socket]) -> tuple[socket.socket, ...]:
    tries = _PORT_TRIES if address.port == 0 else 1
    while True:
        tries -= 1
        sockets: list[socket.socket] = []
        try:
            with _sharing(address, ours) as shared:
                _bind_families(address, sockets, shared=shared)
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


@contextlib.contextmanager
def _sharing(address: HostPort, ours: Sequence[socket.socket]) -> Generator[bool, None, None]:
    """Let a new socket be bound beside our own ones at that port, from `127.0.0.1:25` to `:25`, say.

    Linux allows that where both say SO_REUSEPORT, and looks at it while binding only; each connection goes to
    the most exact address. The option is taken back at once, so that a second server still gets "in use".
    """
    neighbours = [sock for sock in ours if address.port and _address_of(sock).port == address.port]
    try:
        for sock in neighbours:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        yield bool(neighbours)
    finally:
        for sock in neighbours:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)


def _bind_families(address: HostPort, sockets: list[socket.socket], *, shared: bool) -> None:
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
            if shared:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind((socket_address[0], port, *socket_address[2:]))
            sock.listen(BACKLOG)
            if shared:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
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
