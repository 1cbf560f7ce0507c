"""How a next hop is to be treated: `[delivery]`, changed by the `[[shaping]]` tables that fit."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import attrs

from elemta.config import (
    ByteRate,
    Config,
    DeliveryConfig,
    HostPattern,
    Rate,
    RouteTls,
    ShapingConfig,
    TransportKind,
    format_duration,
)
from elemta.routing import Route

from .overrides import Override

T = TypeVar("T")

_NONE: Mapping[str, Override] = MappingProxyType({})
_BURSTS = {
    "connection_rate": "connection_burst",
    "message_rate": "message_burst",
    "byte_rate": "byte_burst",
}


@attrs.frozen
class Allowance:
    """So much in the long run, and so much at once."""

    amount: float
    seconds: float
    burst: float

    @property
    def rate(self) -> float:
        """Per second."""
        return self.amount / self.seconds


@attrs.frozen
class Shape:
    """The settings for one next hop. Those with equal hosts and equal shapes are treated as one."""

    concurrency: int
    initial_concurrency: int
    recipients_per_transaction: int
    messages_per_connection: int
    connection_lifetime: float
    idle: float
    connections: Allowance | None = None
    messages: Allowance | None = None
    octets: Allowance | None = None
    source: str | None = None
    """Where connections come from: one of `[[sources]]`, or a pool of them."""
    tls: RouteTls | None = None
    """What is asked of the next hop, where the route says no more than opportunistic."""
    tables: tuple[str, ...] = ()
    """The tables that fit, the most specific first."""

    def applied(self, route: Route) -> Route:
        """The route as it is to be taken."""
        tls = route.tls
        if self.tls is not None and tls is RouteTls.OPPORTUNISTIC:
            tls = self.tls
        if (tls, route.source or self.source) == (route.tls, route.source):
            return route
        return attrs.evolve(route, tls=tls, source=route.source or self.source)

    def limits(self) -> dict[str, int | str]:
        """What it says, in words."""
        shown: dict[str, int | str] = {
            "connections": self.concurrency,
            "connections at first": min(self.initial_concurrency, self.concurrency),
            "recipients in a transaction": self.recipients_per_transaction,
            "messages over a connection": self.messages_per_connection,
            "longest use of a connection": format_duration(self.connection_lifetime),
            "kept without work": format_duration(self.idle),
        }
        for name, allowance in (
            ("connections in a time", self.connections),
            ("messages in a time", self.messages),
            ("octets in a time", self.octets),
        ):
            if allowance is not None:
                rate = f"{allowance.amount:.0f}/{format_duration(allowance.seconds)}"
                shown[name] = f"{rate}, {allowance.burst:.0f} at once"
        return shown


class _Table:
    """One `[[shaping]]` table, ready to be compared."""

    def __init__(self, config: ShapingConfig) -> None:
        self.config = config
        self._match = _compiled(config.match)
        self._mx = _compiled(config.mx)
        nothing = (False, -1)
        self.rank = (
            nothing if config.match is None else config.match.rank,
            nothing if config.mx is None else config.mx.rank,
        )

    @property
    def name(self) -> str:
        """As people know it."""
        parts = [
            f"{name} {pattern}"
            for name, pattern in (("match", self.config.match), ("mx", self.config.mx))
            if pattern is not None
        ]
        return ", ".join(parts) or "all"

    def fits(self, name: str, hosts: Collection[str]) -> bool:
        if self._match is not None and not self._match.fullmatch(name):
            return False
        return self._mx is None or any(self._mx.fullmatch(host) for host in hosts)


def _compiled(pattern: HostPattern | None) -> re.Pattern[str] | None:
    return None if pattern is None else pattern.expression


class Shaping:
    """All tables of a configuration. Immutable; look-ups are sync and cost a comparison with each table that
    is not for one name."""

    def __init__(self, config: Config, overrides: Mapping[str, Override] = _NONE) -> None:
        """`overrides` are what operators set, by the name of the route: before all tables."""
        self._overrides = overrides
        self._delivery = config.delivery
        self._plain = shape_of(config.delivery, ())
        self._exact: dict[str, list[_Table]] = {}
        self._patterns: list[_Table] = []
        for each in config.shaping:
            if each.match is not None and each.match.is_exact:
                self._exact.setdefault(each.match.text, []).append(_Table(each))
            else:
                self._patterns.append(_Table(each))

    def of(self, route: Route, hosts: Collection[str] = ()) -> Shape:
        """The shape for a route whose MX names these hosts (lower case), as far as they are known."""
        if route.transport not in (TransportKind.SMTP, TransportKind.LMTP):
            return self._plain
        override = self._overrides.get(str(route)) if self._overrides else None
        if override is None and not self._patterns and route.next_hop not in self._exact:
            return self._plain
        if not route.use_mx:
            hosts = (route.next_hop,)
        tables = [*self._exact.get(route.next_hop, ()), *self._patterns]
        found = [table for table in tables if table.fits(route.next_hop, hosts)]
        # Of equal ones the first in the file counts.
        found.sort(key=lambda table: table.rank, reverse=True)
        configs, names = [table.config for table in found], tuple(table.name for table in found)
        if override is not None:
            # The name tells it from others with the same hosts and limits: each has its own.
            configs, names = [override.settings, *configs], (f"set for {route}", *names)
        return shape_of(self._delivery, configs, names)


def shape_of(delivery: DeliveryConfig, tables: Iterable[ShapingConfig], names: tuple[str, ...] = ()) -> Shape:
    """What these tables make of the settings, the most specific first."""
    settings: dict[str, Any] = {}  # of every type that a field has
    for table in tables:
        for field in attrs.fields(ShapingConfig):
            value = getattr(table, field.name)
            if value is None or field.name in settings or field.name in _BURSTS.values():
                continue
            settings[field.name] = value
            if (burst := _BURSTS.get(field.name)) is not None:
                settings[burst] = getattr(table, burst)  # a rate and its burst belong together
    merged = attrs.evolve(ShapingConfig(), **settings)
    return Shape(
        concurrency=_or(merged.concurrency, delivery.concurrency),
        initial_concurrency=_or(merged.initial_concurrency, delivery.initial_concurrency),
        recipients_per_transaction=_or(
            merged.recipients_per_transaction, delivery.recipients_per_transaction
        ),
        messages_per_connection=_or(merged.messages_per_connection, delivery.messages_per_connection),
        connection_lifetime=_or(merged.connection_lifetime, delivery.connection_lifetime),
        idle=_or(merged.idle, delivery.idle),
        connections=_allowance(merged.connection_rate, merged.connection_burst),
        messages=_allowance(merged.message_rate, merged.message_burst),
        octets=_allowance(merged.byte_rate, merged.byte_burst),
        source=_or(merged.source, delivery.source),
        tls=merged.tls,
        tables=names,
    )


def _or(value: T | None, default: T) -> T:
    return default if value is None else value


def _allowance(rate: Rate | ByteRate | None, burst: float | None) -> Allowance | None:
    if rate is None:
        return None
    amount = rate.octets if isinstance(rate, ByteRate) else rate.count
    return Allowance(amount, rate.seconds, burst or amount)
