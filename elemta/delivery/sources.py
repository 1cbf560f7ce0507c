"""Which of our addresses a connection comes from: pools with weights, and what to do without one of them.

An address that cannot be bound (it was taken from this machine, or is not there yet) is left out for a while
and another one of the pool is taken. State is in memory only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

import attrs
import trio

from elemta.config import SourceConfig

FAILED_SECONDS = 300.0
"""How long an address that could not be bound is left out."""

OnFailure = Callable[[str, str, str], None]
"""Is told the name of the source, the address and the reason. Sync, does not raise."""


def _tell_nobody(_name: str, _address: str, _reason: str) -> None:
    """Nobody wants to know."""


@attrs.frozen
class Origin:
    """Where one connection comes from."""

    name: str
    address: str
    hello: str | None
    """Our name there; None: the one of the server."""


class NoSource(Exception):
    """The pool has no address of that family, or none that can be bound."""


@attrs.define(eq=False)
class Departure:
    """The address of one connection, chosen anew where it cannot be bound."""

    pool: str
    origin: Origin
    _sources: Sources
    _ipv6: bool
    _random: Random
    _failed: set[str] = attrs.field(factory=set)

    def fail(self, reason: str) -> None:
        """It could not be bound: note that, and choose another.

        Raises:
          NoSource: there is none.
        """
        self._failed.add(self.origin.name)
        self._sources.note_failure(self.origin, reason)
        self.origin = self._sources.choose(self.pool, self._ipv6, self._random, without=self._failed)


class Sources:
    """The `[[sources]]` of a configuration, and which of them fail."""

    def __init__(self, sources: Sequence[SourceConfig], on_failure: OnFailure = _tell_nobody) -> None:
        self._on_failure = on_failure
        self._failed: dict[str, float] = {}
        self.replace(sources)

    def replace(self, sources: Sequence[SourceConfig]) -> None:
        """Use others from now on; connections that are open stay. Which failed is forgotten."""
        self._failed.clear()
        self._members: dict[str, list[SourceConfig]] = {}
        for source in sources:
            for name in (source.name, *source.pools):
                self._members.setdefault(name, []).append(source)

    def members(self, pool: str) -> Sequence[SourceConfig]:
        """The sources of a pool, or the one of that name."""
        return self._members.get(pool, ())

    def depart(self, pool: str, address: str, random: Random) -> Departure:
        """From where to connect to the address.

        Raises:
          NoSource: the pool has no address of that family.
        """
        ipv6 = ":" in address
        return Departure(pool, self.choose(pool, ipv6, random), self, ipv6, random)

    def choose(self, pool: str, ipv6: bool, random: Random, *, without: set[str] | None = None) -> Origin:
        """One by chance and weight, of those that did not fail lately as long as there is one."""
        able = [
            (source, address)
            for source in self.members(pool)
            if (address := source.ipv6 if ipv6 else source.ipv4) is not None
            and source.name not in (without or ())
        ]
        now = trio.current_time()
        good = [each for each in able if self._failed.get(each[1], 0.0) <= now] or able
        if not good:
            raise NoSource(f"no address of {pool} for {'IPv6' if ipv6 else 'IPv4'}")
        weights = [source.weight for source, _ in good]
        if any(weights):
            source, address = random.choices(good, weights)[0]
        else:
            source, address = random.choice(good)
        return Origin(source.name, address, source.hello)

    def note_failure(self, origin: Origin, reason: str) -> None:
        """Leave the address out for a while."""
        now = trio.current_time()
        if self._failed.get(origin.address, 0.0) <= now:
            self._on_failure(origin.name, origin.address, reason)
        self._failed[origin.address] = now + FAILED_SECONDS
