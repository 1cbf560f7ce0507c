"""Resolvers for tests: one that answers from a dict."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TypeAlias

import attrs
import trio

from elemta.dns import Answer, MxRecord, Record, RecordKind, Resolver, Status, normalize_name

RecordLike: TypeAlias = Record | tuple[int, str]
"""A record, or for short `(10, "mx.example.org")` for an MX; `str` does for TXT too."""
Zone: TypeAlias = Mapping[str, Mapping[str, Sequence[RecordLike]]]
"""`{"example.org": {"MX": [(10, "mx.example.org")]}, "mx.example.org": {"A": ["192.0.2.1"]}}`."""

MAX_CHAIN = 16


class FakeResolver(Resolver):
    """Answers from a zone that a test may change at any time.

    A name in the zone without the kind asked for is NODATA, one that is not there NXDOMAIN. CNAMEs
    are followed. `failing` holds names, or pairs of name and kind, that answer FAILED; `delays` the
    seconds (of Trio's clock) that a name takes; `authentic` the names with the AD bit. `queries` is
    what was asked, in order.
    """

    def __init__(
        self,
        zone: Zone | None = None,
        *,
        failing: Collection[str | tuple[str, str]] = (),
        delays: Mapping[str, float] | None = None,
        authentic: Collection[str] = (),
        ttl: float = 300.0,
    ) -> None:
        self.zone: dict[str, dict[str, Sequence[RecordLike]]] = {
            _key(name): dict(kinds) for name, kinds in (zone or {}).items()
        }
        self.failing = set(failing)
        self.delays = dict(delays or {})
        self.authentic = set(authentic)
        self.ttl = ttl
        self.queries: list[tuple[str, RecordKind]] = []

    def add(self, name: str, kind: RecordKind | str, *records: RecordLike) -> None:
        """Put these records there instead of what was there of that kind."""
        self.zone.setdefault(_key(name), {})[str(kind)] = records

    async def query(self, name: str, kind: RecordKind) -> Answer:
        key = normalize_name(name)
        await trio.lowlevel.checkpoint()
        if key is None:
            return Answer(Status.NXDOMAIN, detail="not a name that DNS can hold")
        self.queries.append((key, kind))
        if key in self.delays:
            await trio.sleep(self.delays[key])
        if key in self.failing or (key, str(kind)) in self.failing:
            return Answer(Status.FAILED, canonical=key, detail=f"{key} {kind}: SERVFAIL")
        return attrs.evolve(self._find(key, kind), authentic=key in self.authentic)

    def _find(self, key: str, kind: RecordKind) -> Answer:
        for _ in range(MAX_CHAIN):
            kinds = self.zone.get(key)
            if kinds is None:
                return Answer(Status.NXDOMAIN, ttl=self.ttl, canonical=key)
            if kinds.get(str(kind)):
                records = tuple(_record(record, kind) for record in kinds[str(kind)])
                return Answer(Status.OK, records, self.ttl, canonical=key)
            alias = kinds.get("CNAME")
            if not alias:
                return Answer(Status.NODATA, ttl=self.ttl, canonical=key)
            key = _key(str(alias[0]))
        return Answer(Status.FAILED, canonical=key, detail="CNAME chain is too long")


def _key(name: str) -> str:
    key = normalize_name(name)
    if key is None:
        raise ValueError(f"{name!r} is not a name that DNS can hold")
    return key


def _record(record: RecordLike, kind: RecordKind) -> Record:
    if isinstance(record, tuple):
        return MxRecord(*record)
    if kind is RecordKind.TXT and isinstance(record, str):
        return record.encode()
    if isinstance(record, str) and kind in (RecordKind.CNAME, RecordKind.PTR):
        return record.lower().removesuffix(".")
    return record
