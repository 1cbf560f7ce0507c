"""Which proof a host owes, by route and by what DNSSEC shows, and what becomes of mail without it."""

import hashlib
import ssl

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from delivery_helpers import deliver_one, make_context
from test_tls import TlsPeer

from elemta.config import DeliveryConfig, RouteTls, TransportKind
from elemta.delivery import ConnectFailed, make_transport
from elemta.dns import RecordKind, TlsaRecord
from elemta.mail import Cause, Deferred, Delivered, Failed
from elemta.routing import Route
from elemta.testing.dns import FakeResolver
from elemta.testing.network import open_memory_network
from elemta.testing.peers import SinkPeer

MX, ONE, TWO = "example.org", "mx1.example.org", "mx2.example.org"
ADDRESSES = {ONE: "203.0.113.1", TWO: "203.0.113.2"}
EVERYTHING = {MX, ONE, TWO, f"_25._tcp.{ONE}", f"_25._tcp.{TWO}"}
WRONG = TlsaRecord(3, 1, 1, bytes(32))
UNUSABLE = TlsaRecord(1, 1, 1, bytes(32))
OPPORTUNISTIC, REQUIRED, VERIFIED = RouteTls.OPPORTUNISTIC, RouteTls.REQUIRED, RouteTls.VERIFIED
DANE, DANE_ONLY = RouteTls.DANE, RouteTls.DANE_ONLY


class Host:
    """A server certificate, issued by an authority that nobody knows."""

    def __init__(self, *names):
        self.authority = trustme.CA()
        issued = self.authority.issue_cert(*names)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issued.configure_cert(self.context)
        self.own = rule(3, issued.cert_chain_pems[0].bytes())
        self.anchor = TlsaRecord(2, 0, 0, ssl.PEM_cert_to_DER_cert(self.authority.cert_pem.bytes().decode()))


def rule(usage, pem):
    key = x509.load_pem_x509_certificate(pem).public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return TlsaRecord(usage, 1, 1, hashlib.sha256(spki).digest())


@pytest.fixture(scope="module")
def host():
    return Host(ONE)


def zone(tlsa, *, authentic=EVERYTHING, failing=(), hosts=(ONE,)):
    records = {MX: {"MX": [(10 * index, name) for index, name in enumerate(hosts, 1)]}}
    for name in hosts:
        records[name] = {"A": [ADDRESSES[name]]}
    for name, found in tlsa.items():
        records[f"_25._tcp.{name}"] = {"TLSA": list(found)}
    return FakeResolver(records, authentic=authentic, failing=failing)


async def attempt(resolver, *peers, tls=OPPORTUNISTIC, config=None, use_mx=True, **envelope):
    """The outcome of one message, the facts of its session and the addresses that were dialled."""
    waiting = list(peers)
    async with open_memory_network() as network:

        async def serve(stream):
            await waiting.pop(0).serve(stream)

        for address in ADDRESSES.values():
            network.listen(address, 25, serve)
        context = make_context(network, resolver, config=config or DeliveryConfig(ipv6=False))
        route = Route(TransportKind.SMTP, MX if use_mx else ONE, 25, use_mx=use_mx, tls=tls)
        try:
            connection = await make_transport(route, context).connect()
        except ConnectFailed as failed:
            return failed.outcome, None, [each.host for each in network.attempts]
        outcome = await deliver_one(connection, **envelope)
        await connection.aclose()
        return outcome, connection.tls, [each.host for each in network.attempts]


def asked_for_tlsa(resolver):
    return [name for name, kind in resolver.queries if kind is RecordKind.TLSA]


@pytest.mark.parametrize("tls", [OPPORTUNISTIC, REQUIRED, DANE, DANE_ONLY])
async def test_host_that_meets_its_records_is_proven(tls, host, autojump_clock):
    for records in ([host.own], [host.anchor], [WRONG, host.own]):
        outcome, facts, _ = await attempt(zone({ONE: records}), TlsPeer(host.context), tls=tls)
        assert isinstance(outcome, Delivered)
        assert facts.verified


@pytest.mark.parametrize("tls", [OPPORTUNISTIC, REQUIRED, DANE, DANE_ONLY])
async def test_host_that_fails_its_records_gets_no_mail_in_any_other_way(tls, host, autojump_clock):
    outcome, _, dialled = await attempt(zone({ONE: [WRONG]}), TlsPeer(host.context), SinkPeer(), tls=tls)
    assert isinstance(outcome, Deferred)
    assert (outcome.cause, outcome.reply.enhanced_text) == (Cause.CERTIFICATE, "4.7.5")
    assert "DANE" in outcome.detail
    assert len(dialled) == 1
    outcome, _, dialled = await attempt(zone({ONE: [WRONG]}), SinkPeer(), SinkPeer(), tls=tls)
    assert outcome.cause is Cause.TLS_NOT_OFFERED  # RFC 7672 §2.2: stripped STARTTLS is an attack
    assert len(dialled) == 1


async def test_certificate_below_an_anchor_must_name_the_host(autojump_clock):
    other = Host("other.example")
    outcome, _, _ = await attempt(zone({ONE: [other.anchor]}), TlsPeer(other.context))
    assert outcome.cause is Cause.CERTIFICATE
    outcome, _, _ = await attempt(zone({ONE: [other.own]}), TlsPeer(other.context))
    assert isinstance(outcome, Delivered)  # RFC 7672 §3.1.1: usage 3 needs no name
    domain = Host(MX)  # RFC 7672 §3.2.3: the domain itself will do
    outcome, _, _ = await attempt(zone({ONE: [domain.anchor]}), TlsPeer(domain.context))
    assert isinstance(outcome, Delivered)


@pytest.mark.parametrize("missing", [MX, ONE, f"_25._tcp.{ONE}"])
async def test_records_count_only_where_every_step_is_authenticated(missing, host, autojump_clock):
    for tls in (OPPORTUNISTIC, DANE):
        resolver = zone({ONE: [WRONG]}, authentic=EVERYTHING - {missing})
        outcome, facts, _ = await attempt(resolver, TlsPeer(host.context), tls=tls)
        assert isinstance(outcome, Delivered)
        assert not facts.verified
        assert bool(asked_for_tlsa(resolver)) == missing.startswith("_")
    resolver = zone({ONE: [host.own]}, authentic=EVERYTHING - {missing})
    outcome, _, dialled = await attempt(resolver, TlsPeer(host.context), tls=DANE_ONLY)
    assert (outcome.cause, dialled) == (Cause.CERTIFICATE, [])
    assert "no DANE" in outcome.detail


async def test_records_that_cannot_be_had_keep_the_host_from_being_used(host, autojump_clock):
    failing = {(f"_25._tcp.{ONE}", "TLSA")}
    outcome, _, dialled = await attempt(zone({ONE: [host.own]}, failing=failing))
    assert (outcome.cause, dialled) == (Cause.DNS, [])
    # The next host is as good as any
    second = Host(TWO)
    resolver = zone({ONE: [WRONG], TWO: [second.own]}, failing=failing, hosts=(ONE, TWO))
    outcome, facts, dialled = await attempt(resolver, TlsPeer(second.context))
    assert (type(outcome), facts.verified, dialled) == (Delivered, True, [ADDRESSES[TWO]])


async def test_host_that_fails_leaves_the_mail_to_the_next(host, autojump_clock):
    second = Host(TWO)
    resolver = zone({ONE: [WRONG], TWO: [second.own]}, hosts=(ONE, TWO))
    outcome, _, dialled = await attempt(resolver, TlsPeer(host.context), TlsPeer(second.context))
    assert (type(outcome), dialled) == (Delivered, list(ADDRESSES.values()))


async def test_unusable_records_ask_for_tls_without_a_proof(host, autojump_clock):
    outcome, facts, _ = await attempt(zone({ONE: [UNUSABLE]}), TlsPeer(host.context))
    assert (type(outcome), facts.verified) == (Delivered, False)
    outcome, _, dialled = await attempt(zone({ONE: [UNUSABLE]}), SinkPeer(), SinkPeer())
    assert (outcome.cause, len(dialled)) == (Cause.TLS_NOT_OFFERED, 1)
    outcome, _, dialled = await attempt(zone({ONE: [UNUSABLE]}), tls=DANE_ONLY)
    assert (outcome.cause, dialled) == (Cause.CERTIFICATE, [])


async def test_without_records_the_route_decides(host, autojump_clock):
    for tls in (OPPORTUNISTIC, DANE):
        outcome, facts, _ = await attempt(zone({}), SinkPeer(), tls=tls)
        assert (type(outcome), facts) == (Delivered, None)
    outcome, _, _ = await attempt(zone({}), SinkPeer(), tls=REQUIRED)
    assert outcome.cause is Cause.TLS_NOT_OFFERED
    outcome, _, dialled = await attempt(zone({}), SinkPeer(), tls=DANE_ONLY)
    assert (outcome.cause, dialled) == (Cause.CERTIFICATE, [])


async def test_dane_can_be_switched_off_and_routes_can_insist(host, autojump_clock):
    off = DeliveryConfig(ipv6=False, dane=False)
    resolver = zone({ONE: [WRONG]})
    outcome, _, _ = await attempt(resolver, SinkPeer(), config=off)
    assert (type(outcome), asked_for_tlsa(resolver)) == (Delivered, [])
    outcome, _, _ = await attempt(resolver, SinkPeer(), config=off, tls=DANE)
    assert outcome.cause is Cause.TLS_NOT_OFFERED


async def test_fixed_host_is_proven_where_its_route_says_dane(host, autojump_clock):
    resolver = zone({ONE: [host.own]})
    outcome, facts, _ = await attempt(resolver, TlsPeer(host.context), tls=DANE, use_mx=False)
    assert (type(outcome), facts.verified) == (Delivered, True)
    resolver = zone({ONE: [WRONG]})
    outcome, _, _ = await attempt(resolver, SinkPeer(), use_mx=False)
    assert (type(outcome), asked_for_tlsa(resolver)) == (Delivered, [])


async def test_records_of_the_name_behind_an_alias_come_first(host, autojump_clock):
    behind = "real.example.net"
    authentic = EVERYTHING | {behind, f"_25._tcp.{behind}"}
    resolver = FakeResolver(
        {
            MX: {"MX": [(10, ONE)]},
            ONE: {"CNAME": [behind]},
            behind: {"A": [ADDRESSES[ONE]]},
            f"_25._tcp.{behind}": {"TLSA": [host.own]},
            f"_25._tcp.{ONE}": {"TLSA": [WRONG]},
        },
        authentic=authentic,
    )
    outcome, _, _ = await attempt(resolver, TlsPeer(host.context))
    assert isinstance(outcome, Delivered)
    assert asked_for_tlsa(resolver) == [f"_25._tcp.{behind}"]
    del resolver.zone[f"_25._tcp.{behind}"]
    outcome, _, _ = await attempt(resolver, TlsPeer(host.context))
    assert outcome.cause is Cause.CERTIFICATE
    assert asked_for_tlsa(resolver)[1:] == [f"_25._tcp.{behind}", f"_25._tcp.{ONE}"]


async def test_requiretls_goes_to_a_proven_host_of_an_authenticated_domain_only(host, autojump_clock):
    # RFC 8689 §4.2.1
    peer = TlsPeer(host.context, require_tls=True)
    outcome, _, _ = await attempt(zone({ONE: [host.own]}), peer, require_tls=True)
    assert isinstance(outcome, Delivered)
    peer = TlsPeer(host.context, require_tls=True)
    outcome, _, _ = await attempt(zone({}), peer, require_tls=True)
    assert isinstance(outcome, Failed)
    assert outcome.reply.enhanced_text == "5.7.30"
