"""How fast clients may be: token buckets per address, network, account and role, all bounded in memory."""

from __future__ import annotations

import attrs

from elemta.config import ListenerRole, PolicyConfig, RateConfig, RateOf, RatePer
from elemta.runtime import RateLimiter, RateLimiterStatistics, WallClock, take_from_all

from .client import Client
from .networks import network_of


@attrs.frozen
class RateStatistics:
    """One rate, by what its configuration says, and how it went."""

    name: str
    limiter: RateLimiterStatistics


class Rates:
    """The configured rates. A client is counted by each that applies to it, or refused by one of them."""

    def __init__(self, config: PolicyConfig, clock: WallClock, before: Rates | None = None) -> None:
        """`before` were the rates until now: what stays the same keeps its counts."""
        self._config = config
        same = before is not None and (
            (before._config.rate_keys, before._config.ipv4_network, before._config.ipv6_network)
            == (config.rate_keys, config.ipv4_network, config.ipv6_network)
        )
        kept = dict(before._limiters) if before is not None and same else {}
        self._limiters: dict[RateConfig, RateLimiter[str]] = {
            rate: kept.get(rate) or _limiter(rate, config.rate_keys, clock) for rate in config.rates
        }

    def take(self, what: RateOf, client: Client) -> str | None:
        """Count one connection, message or recipient; the rate that refuses it, in words, or None."""
        buckets = []
        rates = []
        for rate, limiter in self._limiters.items():
            if rate.count is what and (rate.role is None or rate.role is client.role):
                key = self._key(rate.per, client)
                if key is not None:
                    rates.append(rate)
                    buckets.append((limiter, key))
        refused = take_from_all(buckets)
        return None if refused is None else _describe(rates[refused])

    def _key(self, per: RatePer, client: Client) -> str | None:
        """Under what the client is counted; None where it is not."""
        if per is RatePer.ROLE:
            return str(client.role)
        if per is RatePer.ACCOUNT:
            return client.identity.name if client.identity is not None else None
        if client.identity is not None or client.address is None:
            return None
        if per is RatePer.ADDRESS:
            return str(client.address)
        return network_of(client.address, self._config.ipv4_network, self._config.ipv6_network)

    def statistics(self) -> tuple[RateStatistics, ...]:
        return tuple(
            RateStatistics(_describe(rate), limiter.statistics()) for rate, limiter in self._limiters.items()
        )


def _limiter(rate: RateConfig, keys: int, clock: WallClock) -> RateLimiter[str]:
    per_second = rate.limit.count / rate.limit.seconds
    return RateLimiter(per_second, float(rate.burst or rate.limit.count), clock=clock, keys=keys)


def _describe(rate: RateConfig) -> str:
    where = f" ({rate.role})" if isinstance(rate.role, ListenerRole) else ""
    return f"{rate.count} per {rate.per}: {rate.limit}{where}"
