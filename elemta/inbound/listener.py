"""Accept connections and run their sessions, until the drain; and change what listens meanwhile.

The accept loops and the sessions live in two nurseries: when a drain begins accepting stops at once,
and the sessions get until its deadline. A crash ends its session only, never the nursery. A reload
gives each accept loop the context of its next sessions, begins loops and ends others; sessions
keep the context that they began with.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random

import attrs
import trio

from elemta import smtp
from elemta.auth import Authenticator
from elemta.config import Config, HostPort, ListenerConfig, ListenerTls
from elemta.delivery import Verifier
from elemta.events import EventBus, FlightRecorder
from elemta.mail import Reply, replies
from elemta.plugin import PluginHost
from elemta.policy import Gate, Notary
from elemta.routing import Router
from elemta.runtime import (
    Drain,
    LoadGauge,
    Memo,
    QuickSocketStream,
    WallClock,
    bind,
    contain,
    noted,
    supervise,
)
from elemta.spool import Spool
from elemta.tls import TlsContexts

from .accepting import CAPACITY_ERRORS, Arrival, ListenerSource, SocketSource, Source
from .binding import BoundListener, Inherited, rebind
from .context import Services, SessionContext, make_context
from .injection import Injection, Wishes, begin_injection
from .kept_senders import KeptSenders
from .limits import Admission, ClientLimits, ClientLimitsStatistics
from .presence import send_and_close
from .refusals import CapacityReporter, RefusalReporter
from .session import Session, SessionView

_CAPACITY_PAUSE = 0.1
"""Seconds without accepting after the system was out of something."""
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
    shed: int
    """Connections turned away because the machine could not keep up."""


@attrs.define(eq=False)
class _Acceptor:
    """One accept loop: of one socket of one listener."""

    source: Source
    context: SessionContext
    """Of the sessions that begin from now on."""
    refusals: RefusalReporter
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)


@attrs.frozen
class ListenersChange:
    """What becomes of the listeners by a reload, ready to be made."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    """Those that keep their sockets and treat new sessions otherwise, or got another address."""
    commit: Callable[[], None]
    """Make the change. Sync, cannot fail."""
    abandon: Callable[[], None]
    """Or do not: everything is as before."""


class Listeners:
    """Handle on what listens. Made by `open_listeners`."""

    def __init__(
        self,
        bound: Sequence[BoundListener],
        config: Config,
        services: Services,
        *,
        inherited: Inherited | None = None,
        most_sessions: int | None = None,
    ) -> None:
        self._bound = tuple(bound)
        self._config = config
        self._services = services
        self._inherited = inherited
        self._limits = ClientLimits(config.limits, config.relay.networks, most=most_sessions)
        self._acceptors: dict[object, _Acceptor] = {}
        """By the socket or listener that they accept from."""
        self._accepting: trio.Nursery | None = None
        self._serving: trio.Nursery | None = None
        self._sessions: set[Session] = set()
        self._accepted = 0
        self._crashed = 0
        self._paused = 0
        self._shed = 0

    @property
    def bound(self) -> tuple[BoundListener, ...]:
        """The listeners as they are now."""
        return self._bound

    @property
    def addresses(self) -> tuple[HostPort, ...]:
        """Where connections are accepted; port 0 has become a number."""
        return tuple(address for each in self._bound for address in each.addresses)

    @property
    def sessions(self) -> tuple[SessionView, ...]:
        """All sessions as they stand now, the oldest first."""
        return tuple(sorted((session.view() for session in self._sessions), key=lambda view: -view.seconds))

    def close_session(self, id: str) -> bool:
        """End a session as an operator wants it (`Session.close`); whether there was one. Sync."""
        for session in self._sessions:
            if session.id == id:
                session.close()
                return True
        return False

    def begin_injection(self, wishes: Wishes, size: int) -> Injection:
        """Begin a message that no session brings, with the settings of this moment; raises as
        `elemta.inbound.injection.begin_injection`."""
        return begin_injection(self._config, self._services, wishes, size)

    def statistics(self) -> ListenersStatistics:
        return ListenersStatistics(
            self._limits.statistics(), self._accepted, self._crashed, self._paused, self._shed
        )

    # --- Changing ---------------------------------------------------------------------------------------

    def prepare(self, config: Config) -> ListenersChange:
        """Bind what a new configuration has more, and say what would change. Nothing has changed yet.

        On commit a listener that is gone stops accepting, and its sessions go on; new sessions of all
        listeners have the new configuration, with its limits and timeouts.

        Raises:
          BindError: an address cannot be used; everything is as before.
        """
        before = {each.config.name: each.config for each in self._bound}
        after = {each.name: each for each in config.listeners}
        rebinding = rebind(config.listeners, self._bound, inherited=self._inherited)

        def commit() -> None:
            self._config = config
            self._bound = rebinding.bound
            self._limits.replace(config.limits, config.relay.networks)
            if self._accepting is None or self._services.drain.draining:
                abandon()  # the server stops, and nobody would close them
            else:
                self._reconcile(self._accepting)

        def abandon() -> None:
            for each in rebinding.added:
                each.close()

        return ListenersChange(
            added=tuple(name for name in after if name not in before),
            removed=tuple(name for name in before if name not in after),
            changed=tuple(name for name in after if name in before and after[name] != before[name]),
            commit=commit,
            abandon=abandon,
        )

    def replace_authenticator(self, authenticator: Authenticator | None) -> None:
        """Let clients log in by this one; sessions that began before keep theirs. Holds from the next change
        that is committed."""
        self._services = attrs.evolve(self._services, authenticator=authenticator)

    def _reconcile(self, accepting: trio.Nursery) -> None:
        """Let exactly what is bound be accepted from, each with its context."""
        wanted: dict[object, ListenerConfig] = {}
        for each in self._bound:
            for source in (*each.sockets, *each.listeners):
                wanted[source] = each.config
        for source in [source for source in self._acceptors if source not in wanted]:
            self._acceptors.pop(source).scope.cancel(reason="the listener is gone")
        contexts: dict[str, SessionContext] = {}
        for source, listener in wanted.items():
            if listener.name not in contexts:
                contexts[listener.name] = self._make_context(listener)
            context = contexts[listener.name]
            acceptor = self._acceptors.get(source)
            if acceptor is not None:
                acceptor.context = context
                continue
            acceptor = _Acceptor(_source_of(source), context, RefusalReporter(self._services))
            self._acceptors[source] = acceptor
            accepting.start_soon(self._run_acceptor, acceptor, name=f"listener {listener.name}")

    def _make_context(self, listener: ListenerConfig) -> SessionContext:
        services, tls = self._services, self._services.tls
        if tls is not None and listener.client_certificates:
            services = attrs.evolve(services, tls=tls.for_listener(listener))
        return make_context(self._config, listener, services)

    # --- Accepting --------------------------------------------------------------------------------------

    async def _run_acceptor(self, acceptor: _Acceptor) -> None:
        """Accept until the listener is gone. Those who connected before that still get a session."""
        accept = functools.partial(self._accept, acceptor)
        name = f"listener {acceptor.context.listener.name}"
        services = self._services
        try:
            with acceptor.scope:
                await supervise(name, accept, on_crash=services.report_crash, drain=services.drain)
            if acceptor.scope.cancel_called:
                for arrival in acceptor.source.leftover():
                    await self._admit(acceptor, arrival)
        finally:
            await trio.aclose_forcefully(acceptor.source)

    async def _accept(self, acceptor: _Acceptor) -> None:
        """Accept until cancelled. Raises for errors that say that the listener itself is broken."""
        reporter = CapacityReporter(self._services)
        while True:
            trouble: OSError | None = None
            arrivals: Sequence[Arrival] = ()
            try:
                arrivals = await acceptor.source.accept()
            except OSError as error:
                if error.errno not in CAPACITY_ERRORS:
                    raise
                trouble = error
            for arrival in arrivals:
                await self._admit(acceptor, arrival)
            if trouble is not None:
                self._paused += 1
                context = acceptor.context
                told = acceptor.source.turn_all_away(_words(context, replies.SERVER_BUSY))
                reporter.report(context.listener.name, trouble, told)
                await trio.sleep(_CAPACITY_PAUSE)

    async def _admit(self, acceptor: _Acceptor, arrival: Arrival) -> None:
        """Start the session of a new connection, or turn it away; for a socket both without waiting."""
        context = acceptor.context
        overload = self._services.load.overload() if self._services.load is not None else ""
        if overload:
            self._shed += 1
            await self._turn_away(acceptor, arrival, replies.overloaded(overload))
            return
        forwarded = context.listener.proxy_protocol
        admission = self._limits.admit(arrival.peer, forwarded=forwarded)
        if isinstance(admission, Reply):
            await self._turn_away(acceptor, arrival, admission)
            return
        self._accepted += 1
        assert self._serving is not None
        self._serving.start_soon(self._serve, context, arrival, admission, name=f"session {arrival.peer}")

    async def _turn_away(self, acceptor: _Acceptor, arrival: Arrival, reply: Reply) -> None:
        acceptor.refusals.report(acceptor.context.listener.name, arrival.peer, reply)
        words = _words(acceptor.context, reply)
        stream = arrival.stream
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

    async def _serve(self, context: SessionContext, arrival: Arrival, admission: Admission) -> None:
        """One session from its stream to the closed stream. Raises nothing but what cancels everything."""
        stream = arrival.stream
        session: Session | None = None

        async def hold() -> None:
            nonlocal session
            identify = functools.partial(self._limits.identify, admission)
            session = Session(stream, context, arrival.peer, arrival.port, identify=identify)
            self._sessions.add(session)
            with bind(session=session.id), noted(session.note):
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

    async def _run(  # noqa: ASYNC114 - open_listeners starts it
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Accept until the drain begins; then let each session come to its end."""
        drain = self._services.drain
        # Not the nursery around the block of `open_listeners`: the hard deadline must not cancel that.
        async with trio.open_nursery() as sessions:
            drain.attach_hard(sessions.cancel_scope)
            self._serving = sessions
            async with trio.open_nursery() as accepting:
                self._accepting = accepting
                self._reconcile(accepting)
                task_status.started()
                await drain.wait_draining()
                self._accepting = None
                accepting.cancel_scope.cancel(reason="the server is stopping")
            for each in self._bound:
                each.close()  # those that were never accepted from, as the drain came first
            for session in tuple(self._sessions):
                session.begin_drain()


def _source_of(source: object) -> Source:
    if isinstance(source, trio.abc.Listener):
        return ListenerSource(source)
    return SocketSource(source)  # type: ignore[arg-type]  # the other thing that a BoundListener has


def _words(context: SessionContext, reply: Reply) -> bytes:
    """What a client that is turned away can read: nothing, where it expects TLS."""
    # RFC 5321 §3.1, §3.8. With its enhanced code, though RFC 2034 §4 keeps them out of greetings: this is
    # the only word the client gets, and the code says which of our limits it met, as Postfix's does.
    if context.listener.tls is ListenerTls.IMPLICIT:
        return b""
    return smtp.format_reply(smtp.name_host(reply, context.config.hostname))


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
    authenticator: Authenticator | None = None,
    gate: Gate | None = None,
    notary: Notary | None = None,
    plugins: PluginHost | None = None,
    load: LoadGauge | None = None,
    flights: FlightRecorder | None = None,
    verifier: Verifier | None = None,
    memo: Memo | None = None,
    inherited: Inherited | None = None,
    most_sessions: int | None = None,
) -> AsyncGenerator[Listeners, None]:
    """Accept connections on what was bound while the block runs; the sockets are ours from here on.

    When the drain begins, accepting stops, sessions that wait for a command are told 421 and closed,
    the others may finish what is under way until the drain's deadline, and whatever still runs at its
    hard deadline is cancelled. Leaving the block waits for that; where nobody has begun a drain yet, it
    begins one. Cancelled: all sessions end at once; what was not committed is discarded.

    Args:
      flights: keeps what was said in sessions that failed.
      verifier: asks next hops about recipients.
      memo: keeps what does not fit into addresses.
      inherited: what a reload may find further sockets in.
      most_sessions: bounds the sessions beside `limits.sessions`, by what the system allows.
    """
    services = Services(
        spool=spool,
        router=router,
        bus=bus,
        clock=clock,
        random=random,
        drain=drain,
        tls=tls,
        authenticator=authenticator,
        gate=gate,
        notary=notary,
        plugins=plugins,
        load=load,
        flights=flights,
        verifier=verifier,
        kept_senders=None if memo is None else KeptSenders(memo),
    )
    async with trio.open_nursery() as nursery:
        listeners = Listeners(bound, config, services, inherited=inherited, most_sessions=most_sessions)
        await nursery.start(listeners._run)
        yield listeners
        if not drain.draining:
            timeouts = config.timeouts
            grace = max(0.0, timeouts.drain - timeouts.hard_cancel)
            drain.begin("listeners closed", grace, timeouts.hard_cancel)
