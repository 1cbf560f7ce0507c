"""Accept connections and run their sessions, until the drain.

The accept loops and the sessions live in two nurseries: when a drain begins accepting stops at once,
and the sessions get until its deadline. A crash ends its session only, never the nursery.
"""

from __future__ import annotations

import errno
import functools
import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from random import Random

import attrs
import trio

from elemta import smtp
from elemta.config import Config, HostPort, ListenerTls
from elemta.events import EventBus, SessionRefused
from elemta.mail import Reply, replies
from elemta.routing import Router
from elemta.runtime import Drain, QuickSocketStream, WallClock, bind, contain, peer_address, quick, supervise
from elemta.spool import Spool
from elemta.tls import TlsContexts

from .binding import BoundListener
from .context import Services, SessionContext, make_context
from .limits import Admission, ClientLimits, ClientLimitsStatistics
from .presence import send_and_close
from .session import Session, SessionView

_CAPACITY_ERRORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
"""The system is out of something; it may have it again in a moment (accept(2))."""
_CONNECTION_ERRORS = frozenset(
    # accept(2): what became of the connection before it was accepted, or a firewall's no
    {
        errno.ECONNABORTED, errno.ECONNRESET, errno.EPERM, errno.EPROTO, errno.ENETDOWN, errno.ENOPROTOOPT,
        errno.EHOSTDOWN, errno.ENONET, errno.EHOSTUNREACH, errno.EOPNOTSUPP, errno.ENETUNREACH,
        errno.ETIMEDOUT, errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT, errno.ENOSR,
    }
)  # fmt: skip
_CAPACITY_PAUSE = 0.1
"""Seconds without accepting after such an error."""
_CAPACITY_REPORTS = 60.0
"""Seconds between two reports of it."""
_LAST_WORD = 1.0
"""Seconds that a client which is turned away has to take the reply, where that can take any."""
_CLOSING = 5.0
"""Seconds for closing a connection politely (the closing alert of TLS)."""


@attrs.frozen
class ListenersStatistics:
    sessions: ClientLimitsStatistics
    accepted: int
    """Connections that became sessions."""
    crashed: int
    """Sessions that ended by a bug of ours."""
    paused: int
    """Times that accepting paused because the system was out of descriptors or memory."""


class Listeners:
    """Handle on what listens. Made by `open_listeners`."""

    def __init__(self, addresses: tuple[HostPort, ...], config: Config, services: Services) -> None:
        self.addresses = addresses
        """Where connections are accepted; port 0 has become a number."""
        self._config = config
        self._services = services
        self._limits = ClientLimits(config.limits, config.relay.networks)
        self._sessions: set[Session] = set()
        self._accepted = 0
        self._crashed = 0
        self._paused = 0

    @property
    def sessions(self) -> tuple[SessionView, ...]:
        """All sessions as they stand now, the oldest first."""
        return tuple(sorted((session.view() for session in self._sessions), key=lambda view: -view.seconds))

    def statistics(self) -> ListenersStatistics:
        return ListenersStatistics(self._limits.statistics(), self._accepted, self._crashed, self._paused)

    # --- Accepting --------------------------------------------------------------------------------------

    async def _accept(
        self, context: SessionContext, listener: trio.abc.Listener[trio.abc.Stream], sessions: trio.Nursery
    ) -> None:
        """Accept until cancelled. Raises for errors that say that the listener itself is broken."""
        reporter = _CapacityReporter(context)
        while True:
            trouble: OSError | None = None
            try:
                stream = await listener.accept()
            except OSError as error:
                if error.errno not in _CAPACITY_ERRORS | _CONNECTION_ERRORS:
                    raise
                trouble = error
            if trouble is None:
                await self._admit(context, stream, sessions)
            elif trouble.errno in _CAPACITY_ERRORS:
                self._paused += 1
                reporter.report(trouble)
                await trio.sleep(_CAPACITY_PAUSE)
            else:
                await trio.lowlevel.checkpoint()

    async def _admit(self, context: SessionContext, stream: trio.abc.Stream, sessions: trio.Nursery) -> None:
        """Start the session of a new connection, or turn it away."""
        if isinstance(stream, trio.SocketStream):
            stream = quick(stream)
        try:
            address = peer_address(stream)
        except OSError:
            address = None  # it came and went
        if address is None:
            await trio.aclose_forcefully(stream)
            return
        peer, port = address
        admission = self._limits.admit(peer)
        if isinstance(admission, Reply):
            await self._turn_away(context, stream, peer, admission)
            return
        self._accepted += 1
        sessions.start_soon(self._serve, context, stream, peer, port, admission, name=f"session {peer}")

    async def _turn_away(
        self, context: SessionContext, stream: trio.abc.Stream, peer: str, reply: Reply
    ) -> None:
        services = context.services
        services.bus.publish(
            SessionRefused(
                time=services.clock.time(), listener=context.listener.name, peer=peer, reason=str(reply)
            )
        )
        # RFC 5321 §3.1, §3.8. With its enhanced code, though RFC 2034 §4 keeps them out of greetings: this
        # is the only word the client gets, and the code says which of our limits it met, as Postfix's
        # does. A client that expects TLS could not read it.
        words = b"" if context.listener.tls is ListenerTls.IMPLICIT else smtp.format_reply(reply)
        if isinstance(stream, QuickSocketStream):
            send_and_close(stream, words)
            return
        with trio.move_on_after(_LAST_WORD):
            try:
                await stream.send_all(words)
            except trio.BrokenResourceError:
                pass  # it has gone by itself
        await trio.aclose_forcefully(stream)

    # --- Sessions ---------------------------------------------------------------------------------------

    async def _serve(
        self, context: SessionContext, stream: trio.abc.Stream, peer: str, port: int, admission: Admission
    ) -> None:
        """One session from its stream to the closed stream. Raises nothing but what cancels everything."""
        session: Session | None = None

        async def hold() -> None:
            nonlocal session
            session = Session(stream, context, peer, port)
            self._sessions.add(session)
            with bind(session=session.id):
                await session.run()
            with trio.move_on_after(_CLOSING):
                await session.stream.aclose()

        def on_crash(name: str, error: BaseException) -> None:
            self._crashed += 1
            self._services.report_crash(name, error, session=session.id if session else "")

        try:
            sound = await contain("session", hold, on_crash=on_crash)
            if not sound and session is not None:
                last_word = functools.partial(session.say, replies.INTERNAL_ERROR)
                await contain("last word", last_word, on_crash=_ignore)
        finally:
            self._limits.release(admission)
            if session is not None:
                self._sessions.discard(session)
            await trio.aclose_forcefully(session.stream if session is not None else stream)

    # --- From begin to end ------------------------------------------------------------------------------

    async def _run(self, bound: Sequence[BoundListener]) -> None:
        """Accept until the drain begins; then let each session come to its end."""
        drain = self._services.drain
        # Not the nursery around the block of `open_listeners`: the hard deadline must not cancel that.
        async with trio.open_nursery() as sessions:
            drain.attach_hard(sessions.cancel_scope)
            await self._accept_all(bound, sessions)
            for session in tuple(self._sessions):
                session.begin_drain()

    async def _accept_all(self, bound: Sequence[BoundListener], sessions: trio.Nursery) -> None:
        drain = self._services.drain
        opened = [(each.config, listener) for each in bound for listener in _listeners_of(each)]
        try:
            async with trio.open_nursery() as accepting:
                for listener_config, listener in opened:
                    context = make_context(self._config, listener_config, self._services)
                    accept = functools.partial(self._accept, context, listener, sessions)
                    name = f"listener {listener_config.name}"
                    accepting.start_soon(
                        functools.partial(
                            supervise, name, accept, on_crash=self._services.report_crash, drain=drain
                        )
                    )
                await drain.wait_draining()
                accepting.cancel_scope.cancel(reason="the server is stopping")
        finally:
            for _, listener in opened:
                await trio.aclose_forcefully(listener)


class _CapacityReporter:
    """Tells that the system is out of descriptors or memory: at once, then once per interval."""

    def __init__(self, context: SessionContext) -> None:
        self._context = context
        self._next = -math.inf
        self._times = 0

    def report(self, error: OSError) -> None:
        self._times += 1
        now = trio.current_time()
        if now < self._next:
            return
        self._next = now + _CAPACITY_REPORTS
        name = errno.errorcode.get(error.errno or 0, "")
        services = self._context.services
        services.bus.publish(
            SessionRefused(
                time=services.clock.time(),
                listener=self._context.listener.name,
                peer="",
                reason=f"accepting pauses: {name} ({self._times} times)",
            )
        )
        self._times = 0


def _ignore(name: str, error: BaseException) -> None:
    """The session crashed and was reported; whether its last word got through does not matter."""


@asynccontextmanager
async def open_listeners(
    bound: Sequence[BoundListener],
    *,
    config: Config,
    spool: Spool,
    router: Router,
    bus: EventBus,
    clock: WallClock,
    random: Random,
    drain: Drain,
    tls: TlsContexts | None = None,
) -> AsyncGenerator[Listeners, None]:
    """Accept connections on what was bound while the block runs; the sockets are ours from here on.

    When the drain begins, accepting stops, sessions that wait for a command are told 421 and closed,
    the others may finish what is under way until the drain's deadline, and whatever still runs at its
    hard deadline is cancelled. Leaving the block waits for that; where nobody has begun a drain yet, it
    begins one. Cancelled: all sessions end at once; what was not committed is discarded.
    """
    services = Services(spool, router, bus, clock, random, drain, tls)
    addresses = tuple(address for each in bound for address in each.addresses)
    async with trio.open_nursery() as nursery:
        listeners = Listeners(addresses, config, services)
        nursery.start_soon(listeners._run, bound)
        yield listeners
        if not drain.draining:
            timeouts = config.timeouts
            grace = max(0.0, timeouts.drain - timeouts.hard_cancel)
            drain.begin("listeners closed", grace, timeouts.hard_cancel)


def _listeners_of(bound: BoundListener) -> tuple[trio.abc.Listener[trio.abc.Stream], ...]:
    return bound.listeners + tuple(
        trio.SocketListener(trio.socket.from_stdlib_socket(sock)) for sock in bound.sockets
    )
