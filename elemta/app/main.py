"""The nursery tree on one screen: what runs inside what, so what stops before what."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import attrs
import trio

import elemta
from elemta.admin import TOKENS_FILE, Facts, TokenFile, bind_admin, load_or_make_token, open_admin
from elemta.config import Config
from elemta.delivery import (
    RESULTS_FILE,
    DeliveryContext,
    HttpsClient,
    MtaSts,
    Shaping,
    Sources,
    TlsResults,
    Transport,
    mail_hosts,
    make_transport,
    open_verifier,
)
from elemta.dns import CachingResolver, Resolver, open_resolver
from elemta.events import (
    EventBus,
    FlightRecorder,
    ServerStarted,
    ServerStopping,
    SourceFailed,
    StorageTrouble,
    TaskCrashed,
)
from elemta.inbound import BoundListener, Inherited, Listeners, open_listeners, unclaimed
from elemta.queue import open_queue
from elemta.routing import ProhibitedNetworks, Route, Router
from elemta.runtime import (
    Drain,
    Memo,
    ThreadPool,
    get_logger,
    noting_births,
    summarize,
    supervise,
)
from elemta.spool import (
    SUPPRESSION_FILE,
    Spool,
    SpoolFull,
    SpoolUnavailable,
    Suppression,
    open_memo,
    open_spool,
)
from elemta.tls import TlsContexts

from .capture import Captured, CaptureTransport
from .certificates import watch_dates, watch_files
from .descriptors import raise_descriptor_limit
from .dns_view import DnsView
from .environment import Environment
from .judges import open_judges
from .logs import Logs
from .ourselves import Ourselves
from .parts import auth_part, listeners_part, plugins_part, queue_part, router_part, simple_part, tls_part
from .plugins import Belongings, load_at_start, open_plugin_keeper
from .reload import Reloader
from .signals import begin_drain, handle_signals
from .systemd import Notifier, feed_watchdog
from .tls_reports import TlsReporter
from .tracing import open_tracing
from .unraisable import unraisable_to_log

_log = get_logger(__name__)


@attrs.frozen
class Server:
    """What runs, for whoever started it (tests, the console)."""

    listeners: Listeners
    facts: Facts
    drain: Drain


@attrs.frozen
class Capture:
    """Development mode: where captured mail goes and who shows it."""

    folder: Path
    show: Callable[[Captured], None]


async def run(  # noqa: ASYNC114 - tests and the command line start it
    config: Config,
    bound: Sequence[BoundListener],
    *,
    environment: Environment | None = None,
    logs: Logs,
    read_again: Callable[[], Config] | None = None,
    capture: Capture | None = None,
    inherited: Inherited | None = None,
    process_environment: Mapping[str, str] = os.environ,
    signals: bool = True,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run the server until it is told to stop.

    Raises (before anything is accepted, bare; later in groups whose leaves matter):
      SpoolInUse, SpoolForeign: the state folder cannot be used.
      SettingsError: a plugin cannot be loaded.
      TokenError, TlsFilesError, AuthFilesError, SigningError, OSError: files or addresses of the
        configuration cannot be used.
      SpoolUnavailable: storage failed while running; everything was stopped.
    """
    environment = environment or Environment()
    notifier = Notifier.from_environment(process_environment)
    clock, random = environment.clock, environment.random
    drain, bus = Drain(), EventBus()

    def on_crash(name: str, error: BaseException) -> None:
        bus.publish(TaskCrashed(time=clock.time(), task=name, error=summarize(error)))

    def on_trouble(what: str, detail: str) -> None:
        bus.publish(StorageTrouble(time=clock.time(), what=what, detail=detail))

    logs.follow(bus)
    flights = FlightRecorder(config.admin.flights)
    start = load_at_start(config, environment)
    tls = TlsContexts(config.tls, authorities=environment.authorities)
    ourselves = Ourselves(address for each in bound for address in each.addresses)
    router = Router(config, is_our_address=ourselves.is_address)
    results = None
    if config.tls_reports.collect:
        kept = None if environment.store is not None else config.state_dir / RESULTS_FILE
        results = TlsResults(kept, clock, on_trouble)

    def on_source_failure(name: str, address: str, reason: str) -> None:
        bus.publish(SourceFailed(time=clock.time(), source=name, address=address, error=reason))

    sources = Sources(config.sources, on_source_failure)
    carriers = _Carriers(config, environment, tls, ourselves, capture, results, sources)
    reloader = Reloader(config, read_again, bus, clock, notifier, drain)
    reloader.add(tls_part(tls))
    reloader.add(router_part(router))
    reloader.add(logs.part())
    async with (
        _open_log(logs),
        open_tracing(config, bus, clock),
        _essential(drain, reloader, signals=signals) as nursery,
        open_spool(
            config.state_dir,
            config.spool,
            message_size=config.limits.message_size,
            lease=config.queue.lease,
            clock=clock,
            random=random,
            on_trouble=on_trouble,
            store=environment.store,
        ) as spool,
        # A store that was given instead of the files of the state folder has a memo without a file, too
        open_memo(
            None if environment.store is not None else config.state_dir / "memo.sqlite",
            clock=clock,
            on_trouble=on_trouble,
        ) as memo,
        _open_suppression(config, environment) as suppression,
        _open_resolver(config, environment) as resolver,
        open_judges(
            config,
            environment,
            spool,
            resolver,
            reloader,
            bus,
            memo,
            drain=drain,
            on_crash=on_crash,
        ) as judges,
        # Around the queue and the sessions: both ask plugins to their last moment
        open_plugin_keeper(
            start,
            Belongings(environment, memo, suppression, resolver, config.hostname, config.state_dir),
            bus,
        ) as keeper,
        open_verifier(
            config, router, make := carriers.make_with(resolver, memo), bus, clock, memo
        ) as verifier,
        open_queue(
            config,
            spool,
            router,
            make,
            bus,
            clock=clock,
            random=random,
            drain=drain,
            sign=judges.notary.sign_own,
            plugins=keeper.host,
            survey=None if capture is not None else partial(mail_hosts, resolver=resolver),
            flights=flights,
            state_dir=None if environment.store is not None else config.state_dir,
        ) as queue,
        open_admin(
            bind_admin(config.admin.address, config.state_dir) if environment.watched else [],
            facts := Facts(
                elemta.__version__, config.hostname, clock.time(), spool, queue, bus, drain, clock
            ),
            load_or_make_token(config.admin.token_file or config.state_dir / "admin.token"),
            TokenFile(config.state_dir / TOKENS_FILE),
            _admin_hosts(config),
            on_crash=on_crash,
            drain=drain,
            config=config.admin,
        ),
        open_listeners(
            bound,
            config=config,
            spool=spool,
            router=router,
            bus=bus,
            clock=clock,
            random=random,
            drain=drain,
            tls=tls,
            authenticator=judges.authenticator,
            gate=judges.gate,
            notary=judges.notary,
            plugins=keeper.host,
            load=judges.load,
            flights=flights,
            verifier=None if capture is not None else verifier,
            memo=memo,
            inherited=inherited,
            most_sessions=raise_descriptor_limit(),
        ) as listeners,
    ):
        facts.listeners = partial(_describe, listeners)
        facts.tls = tls
        facts.keeper = keeper
        facts.dns = DnsView(resolver) if isinstance(resolver, CachingResolver) else None
        facts.inbound = listeners
        facts.plugins = keeper.host
        facts.notary = judges.notary
        facts.log = logs.statistics
        facts.flights = flights
        facts.memo = memo
        facts.suppression = suppression
        facts.config = lambda: reloader.config
        facts.reload = reloader.reload
        facts.begin_drain = lambda reason: begin_drain(drain, reloader.config.timeouts, reason)
        facts.load = judges.load
        facts.gate = judges.gate
        facts.verifier = verifier
        reloader.add(
            simple_part(frozenset({"verification"}), verifier.replace, uses=frozenset({"domains", "routes"}))
        )
        reloader.add(queue_part(queue, carriers.replace, config))
        reloader.add(auth_part(listeners, judges.make_authenticator))
        reloader.add(plugins_part(keeper))
        reloader.add(listeners_part(listeners, ourselves))
        totals = await spool.totals()
        bus.publish(
            ServerStarted(
                time=clock.time(),
                version=elemta.__version__,
                listeners=tuple(str(address) for address in listeners.addresses),
                queued=totals.queued,
            )
        )
        nursery.start_soon(feed_watchdog, notifier, partial(_is_alive, spool), name="watchdog")
        watches = (("certificate files", watch_files), ("certificate dates", watch_dates))
        for name, watch in watches if environment.watched else ():
            child = partial(watch, tls, bus, clock)
            nursery.start_soon(partial(supervise, name, child, on_crash=on_crash, drain=drain), name=name)
        if (renew := carriers.renew_policies) is not None:
            renew = partial(renew, stored=memo.values)
            nursery.start_soon(
                partial(supervise, "policies of domains", renew, on_crash=on_crash, drain=drain),
                name="policies of domains",
            )
        if results is not None:
            nursery.start_soon(
                partial(supervise, "tls results", results.run, on_crash=on_crash, drain=drain),
                name="tls results",
            )
        if results is not None and config.tls_reports.send:
            reporter = TlsReporter(
                config=lambda: reloader.config,
                results=results,
                resolver=resolver,
                client=carriers.https_client(resolver),
                spool=spool,
                wake=queue.wake,
                clock=clock,
                random=random,
                sign=judges.notary.sign_own,
            )
            nursery.start_soon(
                partial(supervise, "tls reports", reporter.run, on_crash=on_crash, drain=drain),
                name="tls reports",
            )
        for each in unclaimed(inherited or {}, bound):
            _log.warning("an inherited socket belongs to no listener", socket=each)
        notifier.ready("running")
        task_status.started(Server(listeners, facts, drain))
        await drain.wait_draining()
        notifier.stopping(drain.reason)
        bus.publish(ServerStopping(time=clock.time(), reason=drain.reason))


@asynccontextmanager
async def _open_log(logs: Logs) -> AsyncGenerator[None, None]:
    """The log pump outside everything else, so that the last words of the others are written."""
    with unraisable_to_log(), noting_births():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(logs.run, name="log")
            try:
                yield
            finally:
                nursery.cancel_scope.cancel(reason="nothing more to log")


@asynccontextmanager
async def _essential(
    drain: Drain, reloader: Reloader, *, signals: bool
) -> AsyncGenerator[trio.Nursery, None]:
    """Signals and watchdog: a crash of one of them ends the process."""
    async with trio.open_nursery() as nursery:
        if signals:
            handle = partial(handle_signals, drain, lambda: reloader.config.timeouts, reloader.reload)
            await nursery.start(handle)
        yield nursery
        nursery.cancel_scope.cancel(reason="the server has stopped")


@asynccontextmanager
async def _open_suppression(config: Config, environment: Environment) -> AsyncGenerator[Suppression, None]:
    path = None if environment.store is not None else config.state_dir / SUPPRESSION_FILE
    suppression = Suppression(path, environment.clock)
    try:
        yield suppression
    finally:
        suppression.close()


@asynccontextmanager
async def _open_resolver(config: Config, environment: Environment) -> AsyncGenerator[Resolver, None]:
    if environment.resolver is not None:
        yield environment.resolver
        return
    async with open_resolver(config.dns) as resolver:
        yield resolver


@attrs.define(eq=False)
class _Carriers:
    """Makes transports, each with the settings of its moment."""

    config: Config
    environment: Environment
    tls: TlsContexts
    ourselves: Ourselves
    capture: Capture | None
    results: TlsResults | None
    sources: Sources
    context: DeliveryContext | None = None

    def https_client(self, resolver: Resolver) -> HttpsClient:
        return HttpsClient(
            resolver,
            self.environment.network,
            lambda: self.tls.client(verify=True),
            lambda: ProhibitedNetworks.of(self.config.delivery, self.config.delivery.port),
        )

    def make_with(self, resolver: Resolver, memo: Memo) -> Callable[[Route], Transport]:
        if self.capture is not None:
            pool = ThreadPool("capture", 2)
            folder, show = self.capture.folder, self.capture.show
            return lambda _: CaptureTransport(folder, show, pool)
        client = self.https_client(resolver)
        self.context = DeliveryContext(
            hostname=self.config.hostname,
            resolver=resolver,
            network=self.environment.network,
            tls=self.tls,
            timeouts=self.config.timeouts,
            config=self.config.delivery,
            clock=self.environment.clock,
            random=self.environment.random,
            state_dir=self.config.state_dir,
            is_local_address=self.ourselves.is_listener,
            tls_results=self.results,
            shaping=Shaping(self.config),
            sources=self.sources,
            mta_sts=MtaSts(resolver, client, self.environment.clock, memo, lambda: self.config.timeouts),
        )
        return self._make

    @property
    def renew_policies(self) -> Callable[..., Awaitable[None]] | None:
        """Keeps the policies of domains (MTA-STS) from growing old; None where none are used."""
        if self.context is None or self.context.mta_sts is None:
            return None
        return partial(self.context.mta_sts.run, wanted=lambda: self.config.delivery.mta_sts)

    def _make(self, route: Route) -> Transport:
        assert self.context is not None
        return make_transport(route, self.context)

    def replace(self, config: Config) -> None:
        """Use other settings for connections from now on."""
        self.config = config
        if self.context is not None:
            self.context = attrs.evolve(
                self.context,
                hostname=config.hostname,
                timeouts=config.timeouts,
                config=config.delivery,
                shaping=Shaping(config),
            )
        self.sources.replace(config.sources)


def _is_alive(spool: Spool) -> bool:
    """Whether mail can still be stored; a full disk is no reason to be restarted."""
    try:
        spool.check_room()
    except SpoolFull:
        return True
    except SpoolUnavailable:
        return False
    return True


def _describe(listeners: Listeners) -> list[dict[str, object]]:
    """Each listener with its addresses and the number of its sessions."""
    sessions = Counter(view.listener for view in listeners.sessions)
    return [
        {
            "name": each.config.name,
            "role": each.config.role.value,
            "address": ", ".join(str(address) for address in each.addresses),
            "sessions": sessions[each.config.name],
        }
        for each in listeners.bound
    ]


def _admin_hosts(config: Config) -> frozenset[str]:
    hosts = {
        "localhost",
        "127.0.0.1",
        "::1",
        config.hostname,
        socket.gethostname().lower(),
        *config.admin.names,
    }
    if config.admin.address is not None:
        hosts.add(config.admin.address.host.lower())
    return frozenset(hosts)
