"""The nursery tree on one screen: what runs inside what, so what stops before what."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import attrs
import trio

import elemta
from elemta.admin import Facts, bind_admin, load_or_make_token, open_admin
from elemta.config import Config
from elemta.delivery import DeliveryContext, Transport, make_transport
from elemta.dns import Resolver, open_resolver
from elemta.events import EventBus, ServerStarted, ServerStopping, StorageTrouble, TaskCrashed, log_events
from elemta.inbound import BoundListener, Listeners, open_listeners
from elemta.queue import open_queue
from elemta.routing import Route, Router
from elemta.runtime import Drain, Logging, LogPump, ThreadPool, is_own_address, summarize
from elemta.spool import Spool, SpoolFull, SpoolUnavailable, open_spool
from elemta.tls import TlsContexts

from .capture import Captured, CaptureTransport
from .environment import Environment
from .reload import Reloader
from .signals import handle_signals
from .systemd import Notifier, feed_watchdog


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
    pump: LogPump,
    logging: Logging,
    read_again: Callable[[], Config] | None = None,
    capture: Capture | None = None,
    process_environment: Mapping[str, str] = os.environ,
    signals: bool = True,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run the server until it is told to stop.

    Raises (before anything is accepted, bare; later in groups whose leaves matter):
      SpoolInUse, SpoolForeign: the state folder cannot be used.
      TokenError, TlsFilesError, OSError: files or addresses of the configuration cannot be used.
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

    log = log_events(bus, pump, config.logging.level)

    def set_level(level: str) -> None:
        nonlocal log
        logging.set_level(level)
        log.close()
        log = log_events(bus, pump, level)

    tls = TlsContexts(config.tls)
    router = Router(config)
    reloader = Reloader(config, read_again, router, tls, bus, clock, notifier, set_level)
    async with (
        _open_log(pump),
        _essential(drain, config, reloader, signals=signals) as nursery,
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
        _open_resolver(config, environment) as resolver,
        open_queue(
            config,
            spool,
            router,
            _transports(config, environment, resolver, tls, bound, capture),
            bus,
            clock=clock,
            random=random,
            drain=drain,
        ) as queue,
        open_admin(
            bind_admin(config.admin.address, config.state_dir),
            facts := Facts(
                elemta.__version__, config.hostname, clock.time(), spool, queue, bus, drain, clock
            ),
            load_or_make_token(config.admin.token_file or config.state_dir / "admin.token"),
            _admin_hosts(config),
            on_crash=on_crash,
            drain=drain,
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
        ) as listeners,
    ):
        facts.listeners = partial(_describe, bound, listeners)
        totals = await spool.totals()
        bus.publish(
            ServerStarted(
                time=clock.time(),
                version=elemta.__version__,
                listeners=tuple(str(address) for address in listeners.addresses),
                queued=totals.queued,
            )
        )
        nursery.start_soon(feed_watchdog, notifier, partial(_is_alive, spool))
        notifier.ready("running")
        task_status.started(Server(listeners, facts, drain))
        await drain.wait_draining()
        notifier.stopping(drain.reason)
        bus.publish(ServerStopping(time=clock.time(), reason=drain.reason))


@asynccontextmanager
async def _open_log(pump: LogPump) -> AsyncGenerator[None, None]:
    """The log pump outside everything else, so that the last words of the others are written."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump.run)
        try:
            yield
        finally:
            nursery.cancel_scope.cancel(reason="nothing more to log")


@asynccontextmanager
async def _essential(
    drain: Drain, config: Config, reloader: Reloader, *, signals: bool
) -> AsyncGenerator[trio.Nursery, None]:
    """Signals and watchdog: a crash of one of them ends the process."""
    async with trio.open_nursery() as nursery:
        if signals:
            await nursery.start(partial(handle_signals, drain, config.timeouts, reloader.reload))
        yield nursery
        nursery.cancel_scope.cancel(reason="the server has stopped")


@asynccontextmanager
async def _open_resolver(config: Config, environment: Environment) -> AsyncGenerator[Resolver, None]:
    if environment.resolver is not None:
        yield environment.resolver
        return
    async with open_resolver(config.dns) as resolver:
        yield resolver


def _transports(
    config: Config,
    environment: Environment,
    resolver: Resolver,
    tls: TlsContexts,
    bound: Sequence[BoundListener],
    capture: Capture | None,
) -> Callable[[Route], Transport]:
    if capture is not None:
        transport = CaptureTransport(capture.folder, capture.show, ThreadPool("capture", 2))
        return lambda _: transport
    ours = {(address.host, address.port) for listener in bound for address in listener.addresses}
    ports_everywhere = {port for host, port in ours if host in ("", "0.0.0.0", "::")}  # noqa: S104 - compared
    context = DeliveryContext(
        hostname=config.hostname,
        resolver=resolver,
        network=environment.network,
        tls=tls,
        timeouts=config.timeouts,
        config=config.delivery,
        clock=environment.clock,
        random=environment.random,
        state_dir=config.state_dir,
        is_local_address=lambda host, port: (
            (host, port) in ours or (port in ports_everywhere and is_own_address(host))
        ),
    )
    return lambda route: make_transport(route, context)


def _is_alive(spool: Spool) -> bool:
    """Whether mail can still be stored; a full disk is no reason to be restarted."""
    try:
        spool.check_room()
    except SpoolFull:
        return True
    except SpoolUnavailable:
        return False
    return True


def _describe(bound: Sequence[BoundListener], listeners: Listeners) -> list[dict[str, object]]:
    """Each listener with its addresses and the number of its sessions."""
    sessions = Counter(view.listener for view in listeners.sessions)
    return [
        {
            "name": each.config.name,
            "role": each.config.role.value,
            "address": ", ".join(str(address) for address in each.addresses),
            "sessions": sessions[each.config.name],
        }
        for each in bound
    ]


def _admin_hosts(config: Config) -> frozenset[str]:
    hosts = {"localhost", "127.0.0.1", "::1", config.hostname, socket.gethostname().lower()}
    if config.admin.address is not None:
        hosts.add(config.admin.address.host.lower())
    return frozenset(hosts)
