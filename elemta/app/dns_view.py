"""The cache of DNS as the admin port shows it: entries, one look-up, forgetting."""

from __future__ import annotations

from elemta.config import DnsConfig
from elemta.dns import (
    Answer,
    CachedAnswer,
    CachingResolver,
    MxRecord,
    Record,
    RecordKind,
    Resolver,
    TlsaRecord,
    open_resolver,
)
from elemta.runtime import escape_text


class DnsView:
    """What `elemta.admin` asks of the resolver."""

    def __init__(self, resolver: CachingResolver) -> None:
        self._resolver = resolver

    def statistics(self) -> dict[str, int]:
        """The numbers of `CacheStatistics` by name."""
        found = self._resolver.statistics()
        return {
            "entries": found.entries,
            "octets": found.octets,
            "in_flight": found.in_flight,
            "hits": found.hits,
            "misses": found.misses,
            "joined": found.joined,
            "evicted": found.evicted,
            "failures": found.failures,
        }

    def cached(self, name: str | None, most: int) -> list[dict[str, object]]:
        """What is remembered, of one name or of all."""
        return [_entry_as_json(entry) for entry in self._resolver.cached(name)[:most]]

    async def lookup(self, name: str, kind: str) -> dict[str, object]:
        """The answer, from the cache or not.

        Raises:
          ValueError: such a type of record is never asked for.
        """
        return await look_up(self._resolver, name, kind)

    def flush(self, name: str | None) -> int:
        """Forget one name, or all; how many answers there were."""
        return self._resolver.flush(name)


async def look_up(resolver: Resolver, name: str, kind: str) -> dict[str, object]:
    """The answer as JSON.

    Raises:
      ValueError: such a type of record is never asked for.
    """
    try:
        wanted = RecordKind(kind.upper())
    except ValueError:
        raise ValueError(f"type is one of {', '.join(RecordKind)}") from None
    return {"name": name, "type": wanted.value, **_answer_as_json(await resolver.query(name, wanted))}


async def look_up_alone(config: DnsConfig, name: str, kind: str) -> dict[str, object]:
    """The same without a server, by a resolver of its own."""
    async with open_resolver(config) as resolver:
        return await look_up(resolver, name, kind)


def _entry_as_json(entry: CachedAnswer) -> dict[str, object]:
    return {
        "name": entry.name,
        "type": "any" if entry.kind is None else entry.kind.value,
        "age": round(entry.age, 1),
        **_answer_as_json(entry.answer),
    }


def _answer_as_json(answer: Answer) -> dict[str, object]:
    return {
        "status": answer.status.value,
        "records": [record_text(record) for record in answer.records],
        "ttl": round(answer.ttl, 1),
        "authentic": answer.authentic,
        "canonical": escape_text(answer.canonical),
        "detail": escape_text(answer.detail),
    }


def record_text(record: Record) -> str:
    """One record as in a zone file, safe for a terminal."""
    match record:
        case MxRecord():
            return escape_text(f"{record.preference} {record.host}.")
        case TlsaRecord():
            return f"{record.usage} {record.selector} {record.matching} {record.data.hex()}"
        case bytes():
            return escape_text(record.decode("latin-1"))
        case _:
            return escape_text(record)
