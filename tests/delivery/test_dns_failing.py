"""DNS that is dead, slow, broken or lies, for mail that leaves: it waits, or fails for good where DNS says so."""

from __future__ import annotations

import random

import pytest
import trio
import trio.testing
from delivery_helpers import make_context
from dns_outages import Outage, broken, faulty

from elemta.config import DnsConfig, RouteTls, TransportKind
from elemta.delivery.security import Security, plan_security
from elemta.dns import RecordKind, Resolver, Status, TlsaRecord, addresses
from elemta.mail import Cause, Deferred, Failed, parse_domain
from elemta.routing import MxPlan, Route, plan_mx
from elemta.testing.dns import DnsServer, FakeResolver, Fault
from elemta.testing.network import open_memory_network

HOST = "mx.example.org"
DANE = TlsaRecord(3, 1, 1, bytes(32))
NAMES = {"example.org", HOST, f"_25._tcp.{HOST}"}
LONGEST = DnsConfig().timeout + 1.0
"""Of one question; the cache gives those behind it a second more than they give themselves."""
IMPATIENT = DnsConfig(query_timeout=0.05, timeout=0.15)


def zone() -> FakeResolver:
    records = {
        "example.org": {"MX": [(10, HOST)]},
        HOST: {"A": ["192.0.2.1"]},
        f"_25._tcp.{HOST}": {"TLSA": [DANE]},
    }
    return FakeResolver(records, authentic=NAMES)  # type: ignore[arg-type]


async def plan(resolver: Resolver) -> MxPlan | Failed | Deferred:
    return await plan_mx(
        parse_domain("example.org"), resolver, hostname="us.example", random=random.Random(1)
    )


def told(found: MxPlan | Failed | Deferred) -> str:
    return "planned" if isinstance(found, MxPlan) else f"{found.reply.code} {found.reply.enhanced_text}"


@pytest.mark.parametrize(
    ("outage", "expected"),
    [
        (None, "planned"),
        (Outage.SILENCE, "451 4.4.3"),
        (Outage.LATE, "451 4.4.3"),
        (Outage.SERVFAIL, "451 4.4.3"),
        (Outage.NXDOMAIN, "550 5.1.2"),
        (Outage.NODATA, "550 5.4.4"),
        (Outage.LIES, "550 5.4.4"),
    ],
)
async def test_what_becomes_of_the_search_for_a_mail_host(
    outage: Outage | None, expected: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with broken(zone(), outage) as (resolver, _):
        begin = trio.current_time()
        assert told(await plan(resolver)) == expected
        assert trio.current_time() - begin <= 2 * LONGEST  # MX, then addresses


@pytest.mark.parametrize("outage", [Outage.SILENCE, Outage.LATE, Outage.SERVFAIL])
async def test_a_host_whose_addresses_are_not_known_for_now_stays_in_the_plan(
    outage: Outage, autojump_clock: trio.testing.MockClock
) -> None:
    async with broken(zone(), None) as (resolver, source):
        await resolver.query("example.org", RecordKind.MX)
        source.outage = outage
        found = await plan(resolver)
        assert told(found) == "451 4.4.3"


@pytest.mark.parametrize("tls", [RouteTls.OPPORTUNISTIC, RouteTls.DANE, RouteTls.DANE_ONLY])
@pytest.mark.parametrize("outage", [None, *Outage])
async def test_what_cannot_be_known_of_a_certificate_is_no_reason_to_go_without(
    outage: Outage | None, tls: RouteTls, autojump_clock: trio.testing.MockClock
) -> None:
    route = Route(TransportKind.SMTP, "example.org", 25, use_mx=True, tls=tls)
    async with broken(zone(), None) as (resolver, source), open_memory_network() as network:
        found = await addresses(resolver, HOST)
        assert (found.status, found.authentic) == (Status.OK, True)
        source.outage = outage
        context = make_context(network, resolver=resolver)
        begin = trio.current_time()
        security = await plan_security(route, HOST, found, context, authentic=True)
        assert trio.current_time() - begin <= LONGEST
    match outage:
        case None:
            assert isinstance(security, Security)
            assert (security.level, security.rules) == (RouteTls.REQUIRED, (DANE,))
        case Outage.SILENCE | Outage.LATE | Outage.SERVFAIL:
            # RFC 7672 2.1.2: who is between us and DNS could make TLSA records disappear
            assert isinstance(security, Deferred)
            assert security.cause is Cause.DNS
        case _ if tls is RouteTls.DANE_ONLY:
            assert isinstance(security, Deferred)
            assert security.cause is Cause.CERTIFICATE
        case _:  # no record, or (lies) none that DNSSEC vouches for
            assert isinstance(security, Security)
            assert security.level is RouteTls.OPPORTUNISTIC


HARMLESS = {Fault.TRUNCATE, Fault.CUT, Fault.FORGED_FIRST, Fault.NO_EDNS}


@pytest.mark.parametrize("fault", list(Fault), ids=str)
async def test_whatever_a_name_server_does_mail_waits(fault: Fault) -> None:
    server = DnsServer()
    server.add("example.org", "MX", f"10 {HOST}.")
    server.add(HOST, "A", "192.0.2.1")
    dns = DnsConfig(query_timeout=0.5, timeout=1.0) if fault in HARMLESS else IMPATIENT
    with trio.fail_after(4.0):
        async with faulty(server, fault, dns) as resolver:
            found = await plan(resolver)
    assert told(found) == ("planned" if fault in HARMLESS else "451 4.4.3")
