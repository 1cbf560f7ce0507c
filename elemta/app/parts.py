"""What a reload swaps, part by part: which sections each stands for, and how it prepares."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from elemta.auth import Authenticator, AuthFilesError
from elemta.config import Config
from elemta.inbound import BindError, Listeners
from elemta.plugin import PluginUnusable
from elemta.policy import Notary, SigningError
from elemta.queue import QueueManager
from elemta.routing import Router
from elemta.runtime import ThreadPool, run_in_thread
from elemta.tls import TlsContexts, TlsFilesError

from .ourselves import Ourselves
from .plugin_keeper import PluginKeeper
from .reload import Part, Prepared, ReloadFailed
from .reporting import Reporting


def tls_part(tls: TlsContexts) -> Part:
    """Certificates: read again at each reload, for their files may have changed."""
    pool = ThreadPool("tls-reload", 1)

    async def prepare(config: Config) -> Prepared:
        try:
            swap = await run_in_thread(pool, tls.prepare, config.tls)
        except TlsFilesError as error:
            raise ReloadFailed(str(error)) from error

        def commit() -> tuple[str, ...]:
            before = _fingerprints(tls)
            swap()
            return ("certificates",) if _fingerprints(tls) != before else ()

        return Prepared(commit)

    return Part(frozenset({"tls"}), prepare, always=True)


def _fingerprints(tls: TlsContexts) -> list[str]:
    return [certificate.fingerprint for certificate in tls.certificates()]


def router_part(router: Router) -> Part:
    """Domains, routes, recipients and rewritten senders; their files are read again at each reload."""

    pool = ThreadPool("recipients-reload", 1)

    async def prepare(config: Config) -> Prepared:
        try:
            swap = await run_in_thread(pool, router.prepare, config)
        except ValueError as error:
            raise ReloadFailed(str(error)) from error
        return Prepared(lambda: _quiet(swap))

    return Part(
        frozenset({"domains", "routes", "postmaster", "srs"}),
        prepare,
        uses=frozenset({"hostname", "listeners", "delivery"}),
        always=True,
    )


def listeners_part(listeners: Listeners, ourselves: Ourselves) -> Part:
    """Listeners, and the settings that sessions begin with."""

    async def prepare(config: Config) -> Prepared:  # noqa: ASYNC124 - others wait
        try:
            change = listeners.prepare(config)
        except BindError as error:
            raise ReloadFailed(str(error)) from error

        def commit() -> tuple[str, ...]:
            change.commit()
            ourselves.replace(listeners.addresses)
            return (
                *(f"listener {name} added" for name in change.added),
                *(f"listener {name} removed" for name in change.removed),
                *(f"listener {name} changed" for name in change.changed),
            )

        return Prepared(commit, change.abandon)

    return Part(
        frozenset({"listeners", "relay", "limits", "timeouts", "proxies", "submission"}),
        prepare,
        uses=frozenset({"hostname", "domains", "postmaster", "delivery", "policy", "auth"}),
    )


def auth_part(listeners: Listeners, make: Callable[[Config], Awaitable[Authenticator | None]]) -> Part:
    """Accounts. Register it in front of the listeners: they begin their sessions with it."""

    async def prepare(config: Config) -> Prepared:
        try:
            authenticator = await make(config)
        except AuthFilesError as error:
            raise ReloadFailed(str(error)) from error
        return Prepared(lambda: _quiet(lambda: listeners.replace_authenticator(authenticator)))

    return Part(frozenset({"auth"}), prepare, uses=frozenset({"hostname"}))


def notary_part(notary: Notary, credentials: Path | None) -> Part:
    """Checks and signatures of messages. Keys are read again at each reload, for their files may have
    changed."""

    async def prepare(config: Config) -> Prepared:
        try:
            swap = await notary.prepare(config, credentials)
        except SigningError as error:
            raise ReloadFailed(str(error)) from error
        return Prepared(lambda: _quiet(swap))

    return Part(frozenset({"policy", "signing"}), prepare, uses=frozenset({"hostname"}), always=True)


def plugins_part(keeper: PluginKeeper) -> Part:
    """Plugins: those whose entry changed are loaded and started anew, those that are gone are stopped."""

    async def prepare(config: Config) -> Prepared:
        try:
            cast = await keeper.prepare(config.plugins)
        except PluginUnusable as error:
            raise ReloadFailed(str(error)) from error
        return Prepared(lambda: _quiet(lambda: keeper.commit(cast)), lambda: keeper.abandon(cast))

    return Part(frozenset({"plugins"}), prepare)


def reporting_part(reporting: Reporting, start: Config) -> Part:
    """Reports about DMARC. `start` is the configuration the server began with."""

    async def prepare(config: Config) -> Prepared:  # noqa: ASYNC124 - others wait
        def swap() -> None:
            reporting.config = config

        before, after = start.policy.dmarc, config.policy.dmarc
        changed = (before.reports, before.report_rows) != (after.reports, after.report_rows)
        return Prepared(lambda: _quiet(swap), restart=("policy.dmarc.reports",) if changed else ())

    return Part(frozenset(), prepare, uses=frozenset({"policy", "hostname"}))


def queue_part(queue: QueueManager, replace_transports: Callable[[Config], None], start: Config) -> Part:
    """When mail is tried, how next hops are treated. `start` is the configuration the server began with."""

    async def prepare(config: Config) -> Prepared:  # noqa: ASYNC124 - others wait
        def swap() -> None:
            queue.replace(config)
            replace_transports(config)

        restart = []
        if config.queue.lease != start.queue.lease:
            restart.append("queue.lease")
        if config.hostname != start.hostname:
            restart.append("hostname of the admin port")
        return Prepared(lambda: _quiet(swap), restart=tuple(restart))

    sections = frozenset({"queue", "delivery", "shaping", "sources", "hostname"})
    return Part(sections, prepare, uses=frozenset({"timeouts"}), always=True)


def simple_part(
    sections: frozenset[str], replace: Callable[[Config], None], *, uses: frozenset[str] = frozenset()
) -> Part:
    """Settings that are put to use by one call which cannot fail."""

    async def prepare(config: Config) -> Prepared:  # noqa: ASYNC124 - others wait
        return Prepared(lambda: _quiet(lambda: replace(config)))

    return Part(sections, prepare, uses)


def _quiet(swap: Callable[[], None]) -> tuple[str, ...]:
    """A swap of which there is nothing to tell but the names of its sections."""
    swap()
    return ()
