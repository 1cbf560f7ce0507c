"""Answers kept for as long as they hold, and one query in flight for all who ask the same.

What is believed for how long:

| answer | time |
| --- | --- |
| OK | its TTL, between `min_ttl` and `max_ttl` |
| NXDOMAIN, NODATA | its negative TTL (RFC 2308 §5), between `min_ttl` and `negative_ttl` |
| FAILED | `failure_ttl` (RFC 9520 §3.2), so that a dead zone costs one wait, not one for each message |

The query runs as a task of the resolver, not of whoever asked first: those who ask may come and go.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from random import Random
from typing import TypeAlias

import attrs
import trio

from elemta.config import DnsConfig
from elemta.runtime import TrioWallClock, WallClock

from .answers import Answer, MxRecord, RecordKind, Status, TlsaRecord
from .client import DnsResolver
from .names import normalize_name
from .resolver import Resolver

MAX_OCTETS = 32 * 1024 * 1024
"""Of answers kept, beside the configured number of them: strangers choose what is asked (RELIABILITY P7)."""
MAX_IN_FLIGHT = 4096
"""Different questions at once; one more is answered FAILED at once."""

GRACE = 1.0
"""Seconds beyond `timeout` that the inner resolver has to say itself what kept it."""

_ENTRY_OCTETS = 400
"""What an entry takes beside its records, roughly."""

_Key: TypeAlias = tuple[str, RecordKind | None]
"""Name and kind; no kind: the name does not exist, so no kind does (RFC 8020)."""


@attrs.frozen(slots=True)
class _Entry:
    answer: Answer
    stored: float
    expires: float
    octets: int


@attrs.define(eq=False)
class _Flight:
    """A query that is under way, and who waits for it."""

    answer: Answer
    """FAILED until it has come."""
    done: trio.Event = attrs.field(factory=trio.Event)


@attrs.frozen
class CachedAnswer:
    """One entry of the cache."""

    name: str
    kind: RecordKind | None
    """None: the name does not exist, whatever is asked of it."""
    answer: Answer
    """Its TTL is what is left."""
    age: float
    """Seconds."""


@attrs.frozen
class CacheStatistics:
    """What the cache holds now, and counts since the start."""

    entries: int
    octets: int
    in_flight: int
    hits: int
    misses: int
    joined: int
    """Asked while the same query was in flight."""
    evicted: int
    """Dropped for want of room, before they expired."""
    failures: int
    """Queries that came back FAILED."""


class CachingResolver(Resolver):
    """A resolver in front of another one. Made by `open_resolver`, whose nursery its queries run in."""

    def __init__(self, inner: Resolver, config: DnsConfig, clock: WallClock, nursery: trio.Nursery) -> None:
        self._inner = inner
        self._config = config
        self._clock = clock
        self._nursery = nursery
        self._closed = False
        self._entries: OrderedDict[_Key, _Entry] = OrderedDict()  # the one used longest ago first
        self._octets = 0
        self._flights: dict[_Key, _Flight] = {}
        self._hits = self._misses = self._joined = self._evicted = self._failures = 0

    def statistics(self) -> CacheStatistics:
        return CacheStatistics(
            len(self._entries),
            self._octets,
            len(self._flights),
            self._hits,
            self._misses,
            self._joined,
            self._evicted,
            self._failures,
        )

    def cached(self, name: str | None = None) -> list[CachedAnswer]:
        """What is remembered and still holds, of one name or of all; those used last first."""
        wanted = None if name is None else normalize_name(name)
        now = self._clock.time()
        return [
            CachedAnswer(*key, attrs.evolve(entry.answer, ttl=entry.expires - now), now - entry.stored)
            for key, entry in reversed(self._entries.items())
            if entry.stored <= now < entry.expires and (name is None or key[0] == wanted)
        ]

    def flush(self, name: str | None = None) -> int:
        """Forget all answers, or those of one name; how many there were. Queries in flight go on."""
        if name is None:
            keys = list(self._entries)
        else:
            normalized = normalize_name(name)
            keys = [key for key in self._entries if key[0] == normalized]
        for key in keys:
            self._drop(key)
        return len(keys)

    async def query(self, name: str, kind: RecordKind) -> Answer:
        """From the cache, else from the inner resolver, within the configured `timeout` (and a grace).

        Cancelling ends the wait only: the query goes on for others and for the cache.
        """
        normalized = normalize_name(name)
        if normalized is None:
            await trio.lowlevel.checkpoint()
            return Answer(Status.NXDOMAIN, detail="not a name that DNS can hold")
        cached = self._find((normalized, None)) or self._find((normalized, kind))
        if cached is not None:
            self._hits += 1
            await trio.lowlevel.checkpoint()
            return cached
        key = (normalized, kind)
        flight = self._flights.get(key)
        if flight is None:
            self._misses += 1
            if self._closed or len(self._flights) >= MAX_IN_FLIGHT:
                await trio.lowlevel.checkpoint()
                reason = "the resolver is closed" if self._closed else "too many queries in flight"
                return _failed(normalized, kind, reason)
            flight = self._start(normalized, kind)
        else:
            self._joined += 1
        await flight.done.wait()
        return flight.answer

    def _start(self, name: str, kind: RecordKind) -> _Flight:
        flight = _Flight(_failed(name, kind, "the resolver was closed"))
        self._flights[name, kind] = flight
        self._nursery.start_soon(self._fly, flight, name, kind, name=f"dns {name} {kind}")
        return flight

    async def _fly(self, flight: _Flight, name: str, kind: RecordKind) -> None:
        try:
            with trio.move_on_after(self._config.timeout + GRACE) as scope:
                flight.answer = await self._inner.query(name, kind)
            if scope.cancelled_caught:
                flight.answer = _failed(name, kind, "no answer in time")
        except (
            Exception
        ) as error:  # a bug below must not end the process: those who wait get FAILED, with its name
            flight.answer = _failed(name, kind, f"internal error ({type(error).__name__}: {error})")
        finally:
            # No await from here on: whatever happened, those who wait are released with an answer.
            del self._flights[name, kind]
            self._keep(name, kind, flight.answer)
            flight.done.set()

    def close(self) -> None:
        """From now on what is not cached is FAILED."""
        self._closed = True

    def _find(self, key: _Key) -> Answer | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        now = self._clock.time()
        # A wall clock may be set back (RELIABILITY F18): what comes from the future is not believed.
        if not entry.stored <= now < entry.expires:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return attrs.evolve(entry.answer, ttl=entry.expires - now)

    def _keep(self, name: str, kind: RecordKind, answer: Answer) -> None:
        whole_name = answer.status is Status.NXDOMAIN and answer.canonical == name
        key = (name, None if whole_name else kind)
        match answer.status:
            case Status.OK:
                lifetime = min(max(answer.ttl, self._config.min_ttl), self._config.max_ttl)
            case Status.FAILED:
                self._failures += 1
                lifetime = self._config.failure_ttl
            case _:
                lifetime = min(max(answer.ttl, self._config.min_ttl), self._config.negative_ttl)
        self._drop(key)
        now = self._clock.time()
        octets = _octets(name, answer)
        self._entries[key] = _Entry(answer, now, now + lifetime, octets)
        self._octets += octets
        while len(self._entries) > self._config.cache_entries or self._octets > MAX_OCTETS:
            self._drop(next(iter(self._entries)))
            self._evicted += 1

    def _drop(self, key: _Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._octets -= entry.octets


def _failed(name: str, kind: RecordKind, reason: str) -> Answer:
    return Answer(Status.FAILED, canonical=name, detail=f"{name} {kind}: {reason}")


def _octets(name: str, answer: Answer) -> int:
    total = _ENTRY_OCTETS + len(name) + len(answer.canonical) + len(answer.detail)
    for record in answer.records:
        match record:
            case MxRecord():
                total += 150 + len(record.host)
            case TlsaRecord():
                total += 150 + len(record.data)
            case _:
                total += 60 + len(record)
    return total


_STEADY = TrioWallClock()


@asynccontextmanager
async def open_resolver(
    config: DnsConfig,
    clock: WallClock = _STEADY,
    *,
    random: Random | None = None,
    inner: Resolver | None = None,
) -> AsyncGenerator[CachingResolver, None]:
    """A caching resolver over DNS (or over `inner`), with a nursery for its queries.

    Answers age by `clock`; the default is Trio's, which nobody sets forward or back.
    `random` makes the ids of questions; the default is the kernel's randomness, as RFC 5452 §9.2 wants.

    On the way out queries in flight are cancelled, and whoever still waits for one gets FAILED.

    Raises:
      ValueError: a configured name server is not given by its address.
    """
    source = DnsResolver(config, random=random) if inner is None else inner
    async with trio.open_nursery() as nursery:
        resolver = CachingResolver(source, config, clock, nursery)
        try:
            yield resolver
        finally:
            resolver.close()
            nursery.cancel_scope.cancel("the resolver is closed")
