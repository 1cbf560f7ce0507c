"""Who decides about clients: accounts, policy, and how busy we are."""

from __future__ import annotations

import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import attrs
import trio

from elemta.auth import REFRESH, Authenticator, has_logins, make_authenticator
from elemta.config import Config
from elemta.dns import Resolver
from elemta.events import EventBus, ServerOverloaded
from elemta.policy import Breaker, Gate, Notary, ReportCollector, credentials_folder, load_keys
from elemta.runtime import Drain, LoadGauge, Memo, OnCrash, ThreadPool, run_in_thread, supervise
from elemta.spool import Spool, Tally

from .alarms import Alarms, watch_refusals
from .environment import Environment
from .failure_reports import FailureReporting
from .parts import notary_part, reporting_part, simple_part
from .reload import Reloader
from .reporting import Reporting


@attrs.frozen
class Judges:
    """What sessions ask."""

    gate: Gate
    notary: Notary
    load: LoadGauge
    memo: Memo
    """What is remembered beyond a restart."""
    authenticator: Authenticator | None
    """None: there are no accounts."""
    make_authenticator: Callable[[Config], Awaitable[Authenticator | None]]
    """One for another configuration (reload)."""


@asynccontextmanager
async def open_judges(
    config: Config,
    environment: Environment,
    spool: Spool,
    resolver: Resolver,
    reloader: Reloader,
    bus: EventBus,
    memo: Memo,
    *,
    drain: Drain,
    on_crash: OnCrash,
) -> AsyncGenerator[Judges, None]:
    """Make the judges, and measure how busy we are while the block runs.

    Raises:
      AuthFilesError: the accounts cannot be read.
      SigningError: a key cannot be used.
    """
    clock, random = environment.clock, environment.random
    load = LoadGauge(
        lag_limit=config.limits.loop_lag,
        commit_limit=config.limits.commit_latency,
        on_change=lambda reason: bus.publish(ServerOverloaded(time=clock.time(), reason=reason)),
    )
    async with trio.open_nursery() as nursery:
        alarms = Alarms(config, spool, bus, clock, random)
        folder = None if environment.store is not None else config.state_dir
        breaker = Breaker(config.policy.breaker, memo, clock, folder, alarms.tell)
        watch_refusals(bus, breaker)
        gate = Gate(config, resolver, clock, random, memo, breaker)
        credentials = credentials_folder()
        keys = load_keys(config, credentials)  # blocks, as all files of a start: nobody is served yet
        notary = Notary(config, keys, resolver, clock)

        async def make(fresh: Config) -> Authenticator | None:
            made = await _make_authenticator(fresh, environment, memo)
            if made is not None:
                look = partial(_keep_current, weakref.ref(made))
                nursery.start_soon(
                    partial(supervise, "accounts", look, on_crash=on_crash, drain=drain), name="accounts"
                )
            return made

        authenticator = await make(config)
        reloader.add(
            simple_part(frozenset({"policy"}), gate.replace, uses=frozenset({"hostname", "postmaster"}))
        )
        reloader.add(
            simple_part(
                frozenset(),
                lambda fresh: load.set_limits(
                    lag_limit=fresh.limits.loop_lag, commit_limit=fresh.limits.commit_latency
                ),
                uses=frozenset({"limits"}),
            )
        )
        reloader.add(notary_part(notary, credentials))
        reloader.add(
            simple_part(frozenset(), alarms.replace, uses=frozenset({"policy", "hostname", "postmaster"}))
        )
        if config.policy.dmarc.reports and environment.store is None:
            notary.reports = ReportCollector()
            tally = Tally(config.state_dir / "reports.sqlite", config.policy.dmarc.report_rows)
            reporting = Reporting(config, tally, notary.reports, notary, spool, resolver, clock, random)
            reloader.add(reporting_part(reporting, config))
            nursery.start_soon(
                partial(supervise, "reports", reporting.run, on_crash=on_crash, drain=drain), name="reports"
            )
        failing = FailureReporting(config, notary, spool, resolver, clock, random)
        reloader.add(simple_part(frozenset(), failing.replace, uses=frozenset({"policy", "hostname"})))
        nursery.start_soon(
            partial(supervise, "failure reports", failing.run, on_crash=on_crash, drain=drain),
            name="failure reports",
        )
        tell = partial(alarms.run, notary)
        nursery.start_soon(partial(supervise, "alarms", tell, on_crash=on_crash, drain=drain), name="alarms")
        if environment.watched:
            measure = partial(load.run, partial(_commits, spool))
            nursery.start_soon(
                partial(supervise, "load gauge", measure, on_crash=on_crash, drain=drain), name="load gauge"
            )
        yield Judges(gate, notary, load, memo, authenticator, make)
        nursery.cancel_scope.cancel(reason="nobody is judged any more")


async def _make_authenticator(config: Config, environment: Environment, memo: Memo) -> Authenticator | None:
    if not has_logins(config):
        return None
    make = partial(make_authenticator, config, random=environment.random, clock=environment.clock, memo=memo)
    return await run_in_thread(ThreadPool("auth-files", 1), make)


async def _keep_current(find: weakref.ref[Authenticator]) -> None:
    """Look after changes of the accounts as long as a session or a listener has this authenticator."""
    while (authenticator := find()) is not None:
        await authenticator.refresh()
        authenticator = None
        await trio.sleep(REFRESH)


def _commits(spool: Spool) -> tuple[int, float]:
    statistics = spool.statistics()
    return statistics.commits, statistics.last_seconds
