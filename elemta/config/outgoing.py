"""Settings of shaping and sources that are each in order but do not go together."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from .contradiction import Contradiction
from .positions import KeyPath
from .schema import Config
from .units import did_you_mean, shown

_BURSTS = {
    "connection_burst": "connection_rate",
    "message_burst": "message_rate",
    "byte_burst": "byte_rate",
}


def find_outgoing(config: Config) -> Iterator[Contradiction]:
    """Compare them with each other and with what uses them."""
    yield from _shaping(config)
    yield from _sources(config)


def _shaping(config: Config) -> Iterator[Contradiction]:
    first: dict[tuple[object, object], int] = {}
    for index, table in enumerate(config.shaping):
        path: KeyPath = ("shaping", index)
        earlier = first.setdefault((table.match, table.mx), index)
        if earlier != index:
            yield Contradiction(path, f"shaping[{earlier}] is for the same", "make them one")
        settings = {field.name: getattr(table, field.name) for field in attrs.fields(type(table))}
        if not any(value is not None for name, value in settings.items() if name not in ("match", "mx")):
            yield Contradiction(path, "it changes nothing", "add a setting such as concurrency = 5")
        for burst, rate in _BURSTS.items():
            if settings[burst] is not None and settings[rate] is None:
                others: tuple[KeyPath, ...] = ((*path, rate),)
                yield Contradiction((*path, burst), f"a burst of what has no {rate}", f"set {rate}", others)


def _sources(config: Config) -> Iterator[Contradiction]:
    first: dict[str, int] = {}
    pools = {pool for source in config.sources for pool in source.pools}
    for index, source in enumerate(config.sources):
        path: KeyPath = ("sources", index)
        earlier = first.setdefault(source.name, index)
        if earlier != index:
            reason = f"{shown(source.name)} is already the name of sources[{earlier}]"
            yield Contradiction((*path, "name"), reason, "give each source its own")
        elif source.name in pools:
            reason = f"{shown(source.name)} is the name of a pool as well"
            yield Contradiction((*path, "name"), reason, "it would not be clear which is meant")
        if source.ipv4 is None and source.ipv6 is None:
            yield Contradiction(path, "it has no address", "set ipv4, ipv6 or both")
    known = pools | set(first)
    users: list[tuple[KeyPath, str | None]] = [
        *((("routes", index, "source"), route.source) for index, route in enumerate(config.routes)),
        *((("shaping", index, "source"), table.source) for index, table in enumerate(config.shaping)),
        (("delivery", "source"), config.delivery.source),
    ]
    for user, name in users:
        if name is not None and name not in known:
            hint = did_you_mean(name, known) or "add [[sources]] with that name or pool"
            yield Contradiction(user, f"there is no source or pool {shown(name)}", hint, (("sources",),))
