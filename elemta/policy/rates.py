"""How fast mail may come: token buckets per client, account, address and route, bounded in memory.

What a rate over an hour or more has counted is kept in the memo, so that a restart gives nobody a second
hour. Shorter ones are full again before a restart is over.
"""

from __future__ import annotations

import hashlib
import math
import struct

import attrs
import trio

from elemta.config import ListenerRole, PolicyConfig, RateConfig, RateOf, RatePer
from elemta.mail import Mailbox
from elemta.runtime import Memo, RateLimiter, RateLimiterStatistics, WallClock, take_from_all

from .client import Client
from .networks import network_of

REMEMBERED = 3600.0
"""Seconds of a rate that is kept in the memo."""
READ_SECONDS = 2.0
"""For what the memo knows of a bucket; if that is late, it is full."""
_BUCKET = struct.Struct(">dd")


@attrs.frozen
class Occasion:
    """What is counted: one connection, message or recipient of a client."""

    what: RateOf
    client: Client
    sender: Mailbox | None = None
    """None: not known yet, or the null sender."""
    recipient: Mailbox | None = None
    """None: not known yet, or the bare postmaster."""
    route: str = ""
    """Where the recipient's mail goes, as text; empty where that is not known."""


@attrs.frozen
class RateStatistics:
    """One rate, by what its configuration says, and how it went."""

    name: str
    limiter: RateLimiterStatistics


class Rates:
    """The configured rates. An occasion is counted by each that applies to it, or refused by one of them."""

    def __init__(
        self, config: PolicyConfig, clock: WallClock, memo: Memo, before: Rates | None = None
    ) -> None:
        """`before` were the rates until now: what stays the same keeps its counts."""
        self._config = config
        self._clock = clock
        self._memo = memo
        same = before is not None and (
            (before._config.rate_keys, before._config.ipv4_network, before._config.ipv6_network)
            == (config.rate_keys, config.ipv4_network, config.ipv6_network)
        )
        kept = dict(before._limiters) if before is not None and same else {}
        self._limiters: dict[RateConfig, RateLimiter[str]] = {
            rate: kept.get(rate) or _limiter(rate, config.rate_keys, clock) for rate in config.rates
        }
        self.by_route = any(rate.per is RatePer.ROUTE for rate in config.rates)
        """Whether any rate wants to know the route."""

    async def take(self, occasion: Occasion) -> str | None:
        """Count it; or the rate that refuses it, in words. Cancelled, nothing was counted."""
        rates, buckets = [], []
        for rate, limiter in self._limiters.items():
            key = self._key(rate, occasion)
            if key is None:
                continue
            if rate.limit.seconds >= REMEMBERED and limiter.level(key) is None:
                await self._recall(rate, limiter, key)
            rates.append(rate)
            buckets.append((limiter, key))
        refused = take_from_all(buckets)
        if refused is not None:
            return _describe(rates[refused])
        for rate, (limiter, key) in zip(rates, buckets, strict=True):
            if rate.limit.seconds >= REMEMBERED:
                self._remember(rate, limiter, key)
        return None

    def _key(self, rate: RateConfig, occasion: Occasion) -> str | None:
        """Under what it is counted; None where the rate does not apply."""
        client = occasion.client
        if rate.count is not occasion.what or rate.trusted is not client.trusted:
            return None
        if rate.role is not None and rate.role is not client.role:
            return None
        match rate.per:
            case RatePer.ROLE:
                return str(client.role)
            case RatePer.ACCOUNT:
                return client.identity.name if client.identity is not None else None
            case RatePer.SENDER:
                return None if occasion.sender is None else str(occasion.sender).lower()
            case RatePer.RECIPIENT:
                return None if occasion.recipient is None else str(occasion.recipient).lower()
            case RatePer.DOMAIN:
                return None if occasion.recipient is None else occasion.recipient.domain.text.lower()
            case RatePer.ROUTE:
                return occasion.route or None
            case RatePer.ADDRESS | RatePer.NETWORK:
                if client.address is None or (client.identity is not None and not client.trusted):
                    return None
                if rate.per is RatePer.ADDRESS:
                    return str(client.address)
                return network_of(client.address, self._config.ipv4_network, self._config.ipv6_network)

    async def _recall(self, rate: RateConfig, limiter: RateLimiter[str], key: str) -> None:
        found: bytes | None = None
        with trio.move_on_after(READ_SECONDS):
            found = await self._memo.get(_memo_key(rate, key))
        if found is not None and len(found) == _BUCKET.size:
            tokens, since = _BUCKET.unpack(found)
            if math.isfinite(tokens) and math.isfinite(since):
                limiter.restore(key, tokens, since)

    def _remember(self, rate: RateConfig, limiter: RateLimiter[str], key: str) -> None:
        now, tokens = self._clock.time(), limiter.level(key) or 0.0
        full = now + (limiter.burst - tokens) / limiter.rate
        self._memo.put(_memo_key(rate, key), _BUCKET.pack(tokens, now), full)

    def statistics(self) -> tuple[RateStatistics, ...]:
        return tuple(
            RateStatistics(_describe(rate), limiter.statistics()) for rate, limiter in self._limiters.items()
        )


def _limiter(rate: RateConfig, keys: int, clock: WallClock) -> RateLimiter[str]:
    per_second = rate.limit.count / rate.limit.seconds
    return RateLimiter(per_second, float(rate.burst or rate.limit.count), clock=clock, keys=keys)


def _describe(rate: RateConfig) -> str:
    where = [str(rate.role)] if isinstance(rate.role, ListenerRole) else []
    if rate.trusted:
        where.append("trusted")
    return f"{rate.count} per {rate.per}: {rate.limit}" + (f" ({', '.join(where)})" if where else "")


def _memo_key(rate: RateConfig, key: str) -> str:
    # No part can hold a NUL; 128 bits, so that nobody finds two of the same
    data = f"{_describe(rate)}\0{key}".encode("utf-8", "surrogatepass")
    return f"rate/{hashlib.blake2b(data, digest_size=16).hexdigest()}"
