"""The overview over HTTP: rates, how it came to this, the queue by destination, what needs a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from elemta.plugin import PluginStatus, Standing
from elemta.queue import SiteStatistics
from elemta.spool import BacklogShare, ShareKey, SpoolStatistics

from .operations import Operation, Parameter
from .shapes import ListenerShown, Shape
from .steering import as_builtins, json_response
from .tokens import Scope
from .trend import RATE_STEPS, STEP, Moment

if TYPE_CHECKING:
    from .api import Facts

MOST_DESTINATIONS = 50
"""Those with the most to do."""
MOST_PLUGINS = 20
MOST_SHARES = 12
EXPIRES_SOON = 7 * 86400.0
"""Seconds before the end of a certificate from which on a person should know."""


class Attention(Shape):
    """What a person should look at."""

    level: Literal["error", "warning"]
    text: str


class Delay(Shape):
    """Within how many seconds half and 95 of 100 were delivered, lately; null: nothing was."""

    half: float | None
    most: float | None


class Load(Shape):
    """How busy the server is, in seconds."""

    lag: float
    worst_lag: float
    commit: float
    worst_commit: float
    overload: str
    """Empty, or why new work is refused."""
    overloads: int


class QueueCounts(Shape):
    """Recipients since the spool was made, and those in it now."""

    accepted: int
    delivered: int
    failed: int
    expired: int
    removed: int
    held: int
    queued: int
    leased: int
    messages: int
    octets: int
    oldest: float | None
    ended: int
    difference: int
    """Anything but 0 is a loss."""


class PluginShown(Shape):
    """A plugin."""

    name: str
    standing: str
    hooks: list[str]
    shadow: bool
    isolation: str
    calls: int
    active: int
    failures: dict[str, int]
    restarts: int
    seconds: float
    mean_seconds: float
    missed: int
    metrics: dict[str, float]


class Overview(Shape):
    """The server at one moment, and how it came to this."""

    version: str
    hostname: str
    started: float
    now: float
    draining: bool
    attention: list[Attention]
    rates: dict[str, float]
    """Per second, in the last `rate_seconds`."""
    rate_seconds: float
    delay: Delay
    load: Load | None
    sessions: int
    attempts: int
    queue: QueueCounts
    oldest_seconds: float | None
    domains: list[BacklogShare]
    causes: list[BacklogShare]
    destinations: list[SiteStatistics]
    more_destinations: int
    plugins: list[PluginShown]
    listeners: list[ListenerShown]
    step: float | msgspec.UnsetType = msgspec.UNSET
    """Seconds that each number of the series stands for."""
    series: dict[str, list[float | None]] | msgspec.UnsetType = msgspec.UNSET


def moment_of(facts: Facts) -> Moment:
    """What the trend notes at each step. Sync."""
    load = None if facts.load is None else facts.load.statistics()
    return Moment(
        open_sessions=facts.open_sessions(),
        attempts=len(facts.queue.underway.views()),
        lag=0.0 if load is None else load.worst_lag,
        commit=0.0 if load is None else load.worst_commit,
    )


def plugin_as_json(status: PluginStatus) -> dict[str, Any]:
    """A plugin as the overview shows it."""
    statistics = status.statistics
    return {
        "name": status.name,
        "standing": status.standing.value,
        "hooks": list(status.hooks),
        "shadow": status.shadow,
        "isolation": statistics.isolation,
        "calls": statistics.calls,
        "active": statistics.active,
        "failures": {kind.value: count for kind, count in statistics.failures.items() if count},
        "restarts": statistics.restarts,
        "seconds": statistics.seconds,
        "mean_seconds": statistics.seconds / statistics.calls if statistics.calls else 0.0,
        "missed": status.missed,
        "metrics": status.measured.values,
    }


def attention(
    facts: Facts, totals: SpoolStatistics, sites: list[SiteStatistics], plugins: tuple[PluginStatus, ...]
) -> list[dict[str, str]]:
    """What a person should look at: `error` what is wrong with this server, `warning` what may pass."""
    found = []

    def tell(level: str, text: str) -> None:
        found.append({"level": level, "text": text})

    for reason in facts.readiness().reasons:
        tell("error", reason)
    if totals.difference:
        tell("error", f"the books do not balance: {totals.difference} recipients; see elemta queue audit")
    load = None if facts.load is None else facts.load.statistics()
    if load is not None and load.overload:
        tell("error", f"overloaded: {load.overload}; new mail is deferred")
    for status in plugins:
        if status.standing is not Standing.RUNNING:
            tell("warning", f"plugin {status.name} is {status.standing.value}")
    for certificate in () if facts.tls is None else facts.tls.certificates():
        left = certificate.not_after - facts.clock.time()
        if left < EXPIRES_SOON:
            state = f"ends in {left / 86400:.0f} days" if left > 0 else "has ended"
            tell("error" if left <= 0 else "warning", f"certificate {certificate.path} {state}")
    if totals.held:
        tell("warning", f"{totals.held} recipients are held and wait for a decision")
    for site in sites:
        if site.suspended_for:
            tell(
                "warning",
                f"{site.route} is left alone for {site.suspended_for:.0f} s: {site.suspended_because}",
            )
    return found


class _Overview:
    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    async def overview(self, request: Request) -> Response:
        facts, trend = self._facts, self._facts.trend
        now = facts.clock.time()
        totals = await facts.spool.totals()
        statistics = facts.queue.statistics()
        sites = sorted(statistics.sites, key=_business, reverse=True)[:MOST_DESTINATIONS]
        plugins = () if facts.plugins is None else facts.plugins.statuses()
        slowest = sorted(plugins, key=lambda each: each.statistics.seconds, reverse=True)
        load = None if facts.load is None else facts.load.statistics()
        half, most = (None, None) if trend is None else trend.delays()
        answer: dict[str, Any] = {
            "version": facts.version,
            "hostname": facts.hostname,
            "started": facts.started,
            "now": now,
            "draining": facts.drain.draining,
            "attention": attention(facts, totals, sites, plugins),
            "rates": {} if trend is None else trend.rates(),
            "rate_seconds": STEP * RATE_STEPS,
            "delay": {"half": half, "most": most},
            "load": None if load is None else as_builtins(load),
            "sessions": facts.open_sessions(),
            "attempts": len(facts.queue.underway.views()),
            "queue": as_builtins(totals) | {"difference": totals.difference},
            "oldest_seconds": None if totals.oldest is None else max(0.0, now - totals.oldest),
            "domains": await self._shares(ShareKey.DOMAIN),
            "causes": await self._shares(ShareKey.REASON),
            "destinations": [as_builtins(site) for site in sites],
            "more_destinations": max(0, len(statistics.sites) - len(sites)),
            "plugins": [plugin_as_json(status) for status in slowest[:MOST_PLUGINS]],
            "listeners": facts.listeners(),
        }
        if trend is not None and request.query_params.get("series") != "no":
            answer["step"] = STEP
            answer["series"] = trend.series()
        return json_response(answer)

    async def _shares(self, by: ShareKey) -> list[dict[str, object]]:
        return [as_builtins(share) for share in await self._facts.spool.shares(by, MOST_SHARES)]


def _business(site: SiteStatistics) -> tuple[int, int, float]:
    return site.ready, site.dispatchers, site.suspended_for


def overview_operations(facts: Facts) -> list[Operation]:
    """The path of this module."""
    return [
        Operation(
            id="overview",
            method="GET",
            path="/api/v1/overview",
            handler=_Overview(facts).overview,
            scope=Scope.READ,
            summary="Rates, load, destinations, plugins, and what needs a person",
            answer=Overview,
            query=(Parameter("series", "`no`: without the last half hour", {"enum": ["yes", "no"]}),),
            tag="live",
        )
    ]
