"""What may be wrong with DNS as a whole, on virtual time and on loopback, for those who ask it."""

from __future__ import annotations

import enum
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import attrs
import trio

from elemta.config import DnsConfig
from elemta.dns import (
    Answer,
    CachingResolver,
    MxRecord,
    Record,
    RecordKind,
    Resolver,
    Status,
    TlsaRecord,
    open_resolver,
)
from elemta.testing.dns import DnsServer, FakeResolver, Fault


class Outage(enum.Enum):
    """What every question meets."""

    SILENCE = "silence"
    """No name server answers: each question ends with the resolver's own deadline."""
    LATE = "late"
    """The right answer, a minute later than anybody waits."""
    SERVFAIL = "servfail"
    NXDOMAIN = "nxdomain"
    """Nothing exists, with a SOA that says for how long."""
    NODATA = "nodata"
    LIES = "lies"
    """An answer to everything, and none that makes sense."""


LATE_SECONDS = 60.0
LIES: dict[RecordKind, tuple[Record, ...]] = {
    RecordKind.TXT: (b"\x00\xff=;" * 60, b"v=spf2 all", b"", b"p=;;;", b"v=DMARC2; p=what"),
    RecordKind.A: ("203.0.113.66",),
    RecordKind.AAAA: ("2001:db8::66",),
    RecordKind.PTR: ("not a host", "203.0.113.66"),
    RecordKind.MX: (MxRecord(0, ""), MxRecord(5, "not a host"), MxRecord(9, "203.0.113.66")),
    RecordKind.TLSA: (TlsaRecord(255, 255, 255, b""), TlsaRecord(3, 1, 1, b"short")),
}


@attrs.define(eq=False)
class BrokenResolver(Resolver):
    """Answers from a zone, unless there is an outage. What it was asked late is answered all the same."""

    inner: FakeResolver
    outage: Outage | None = None
    answered: int = 0

    async def query(self, name: str, kind: RecordKind) -> Answer:
        match self.outage:
            case Outage.SILENCE:
                await trio.sleep_forever()
            case Outage.LATE:
                await trio.sleep(LATE_SECONDS)
            case Outage.SERVFAIL:
                await trio.lowlevel.checkpoint()
                return Answer(Status.FAILED, canonical=name, detail=f"{name} {kind}: SERVFAIL")
            case Outage.NXDOMAIN:
                await trio.lowlevel.checkpoint()
                return Answer(Status.NXDOMAIN, ttl=60.0, canonical=name)
            case Outage.NODATA:
                await trio.lowlevel.checkpoint()
                return Answer(Status.NODATA, ttl=60.0, canonical=name)
            case Outage.LIES:
                await trio.lowlevel.checkpoint()
                return Answer(Status.OK, LIES.get(kind, ()), 60.0, canonical=name)
        answer = await self.inner.query(name, kind)
        self.answered += 1
        return answer


@asynccontextmanager
async def broken(
    inner: FakeResolver,
    outage: Outage | None,
    config: DnsConfig = DnsConfig(),  # noqa: B008 - frozen
) -> AsyncGenerator[tuple[CachingResolver, BrokenResolver], None]:
    """The resolver of the server over one that is broken so."""
    source = BrokenResolver(inner, outage)
    async with open_resolver(config, inner=source) as resolver:
        yield resolver, source


class Always(dict[str, Fault]):
    """The same fault for every name."""

    def __init__(self, fault: Fault) -> None:
        super().__init__()
        self.fault = fault

    def get(self, name: str, default: object = None) -> Fault:  # type: ignore[override]
        return self.fault


@asynccontextmanager
async def faulty(
    server: DnsServer, fault: Fault | None, config: DnsConfig
) -> AsyncGenerator[CachingResolver, None]:
    """The resolver of the server with a name server on loopback that errs so with every question."""
    if fault is not None:
        server.faults = Always(fault)
    async with trio.open_nursery() as nursery:
        address = await nursery.start(server.serve)
        async with open_resolver(attrs.evolve(config, nameservers=(address,))) as resolver:
            yield resolver
        nursery.cancel_scope.cancel()
