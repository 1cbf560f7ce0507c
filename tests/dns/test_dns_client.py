"""The resolver against a name server on loopback that errs in every way it can."""

import ipaddress
import random
from contextlib import asynccontextmanager
from functools import partial

import attrs
import dns.message
import dns.rrset
import pytest
import trio
import trio.testing

from elemta.config import DnsConfig, HostPort
from elemta.dns import DnsResolver, MxRecord, RecordKind, Status, addresses, client, open_resolver
from elemta.dns.servers import DEMOTED_SECONDS, MAX_SERVERS, SILENCES, ServerList, read_resolv_conf
from elemta.testing.dns import DnsServer, Fault

CONFIG = DnsConfig(query_timeout=1.0, timeout=3.0)
IMPATIENT = DnsConfig(query_timeout=0.03, timeout=0.08)
"""For those whose answer never comes: the only time that these tests really wait."""


@asynccontextmanager
async def running(*servers: DnsServer, config: DnsConfig = CONFIG, dead_first: bool = False):
    async with trio.open_nursery() as nursery:
        nameservers = [await nursery.start(server.serve) for server in servers]
        if dead_first:
            nameservers.insert(0, await closed_port())
        yield DnsResolver(attrs.evolve(config, nameservers=tuple(nameservers)), random=random.Random(1))
        nursery.cancel_scope.cancel()


async def closed_port() -> HostPort:
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as udp:
        await udp.bind(("127.0.0.1", 0))
        return HostPort("127.0.0.1", udp.getsockname()[1])


@pytest.fixture
def server() -> DnsServer:
    server = DnsServer()
    server.add("a.test", "A", "192.0.2.1")
    server.add("a.test", "MX", "10 mx.a.test.")
    server.add("alias.test", "CNAME", "a.test.", ttl=30)
    return server


async def test_answer_over_udp(server):
    async with running(server) as resolver:
        answer = await resolver.query("A.Test.", RecordKind.A)
    assert (answer.status, answer.texts, answer.ttl) == (Status.OK, ("192.0.2.1",), 300.0)
    (query,) = server.queries
    assert (query.name, query.kind, query.tcp, query.edns_payload) == ("a.test", "A", False, 1232)


async def test_answers_of_other_statuses(server):
    async with running(server) as resolver:
        assert (await resolver.query("gone.test", RecordKind.A)).status is Status.NXDOMAIN
        assert (await resolver.query("a.test", RecordKind.TXT)).status is Status.NODATA
        assert (await resolver.query("a.test", RecordKind.TXT)).ttl == 60.0
        alias = await resolver.query("alias.test", RecordKind.MX)
        server.soa_minimum = None
        assert (await resolver.query("gone.test", RecordKind.A)).status is Status.NXDOMAIN
    assert (alias.records, alias.ttl, alias.canonical) == ((MxRecord(10, "mx.a.test"),), 30.0, "a.test")


async def test_impossible_name_is_not_sent(server):
    async with running(server) as resolver:
        assert (await resolver.query("a" * 64 + ".test", RecordKind.A)).status is Status.NXDOMAIN
    assert server.queries == []


async def test_server_over_ipv6(server):
    async with trio.open_nursery() as nursery:
        address = await nursery.start(partial(server.serve, host="::1"))
        resolver = DnsResolver(attrs.evolve(CONFIG, nameservers=(address,)))
        server.authentic = True
        answer = await resolver.query("a.test", RecordKind.A)
        assert answer.texts == ("192.0.2.1",)
        assert answer.authentic
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("fault", [Fault.TRUNCATE, Fault.CUT])
async def test_truncated_answer_is_asked_for_over_tcp(server, fault):
    server.faults["a.test"] = fault
    async with running(server) as resolver:
        assert (await resolver.query("a.test", RecordKind.A)).texts == ("192.0.2.1",)
        assert resolver.statistics().over_tcp == 1
    assert [query.tcp for query in server.queries] == [False, True]


async def test_large_answer_comes_whole_over_tcp(server):
    server.add("big.test", "TXT", *(f'"{number:04} {"x" * 200}"' for number in range(60)))
    server.faults["big.test"] = Fault.TRUNCATE
    async with running(server) as resolver:
        assert len((await resolver.query("big.test", RecordKind.TXT)).strings) == 60


@pytest.mark.parametrize(
    ("fault", "detail"),
    [
        (Fault.SERVFAIL, "SERVFAIL"),
        (Fault.REFUSED, "REFUSED"),
        (Fault.GARBLED, "unreadable response"),
        (Fault.FLOOD, "only unrelated datagrams"),
        (Fault.TRUNCATE_ALWAYS, "truncated response over TCP"),
        (Fault.HANG_UP, "connection closed in mid response"),
        (Fault.RESET, "connection lost"),
        (Fault.HUGE, "a response of 65535 octets"),
    ],
)
async def test_server_without_an_answer_fails_at_once(server, fault, detail):
    server.faults["a.test"] = fault
    async with running(server) as resolver:
        answer = await resolver.query("a.test", RecordKind.A)
        assert resolver.statistics().failures == 1
    assert answer.status is Status.FAILED
    assert answer.detail.startswith("a.test A: 127.0.0.1:")
    assert detail in answer.detail


@pytest.mark.parametrize(
    "fault",
    [
        Fault.SERVFAIL,
        Fault.REFUSED,
        Fault.GARBLED,
        Fault.FLOOD,
        Fault.TRUNCATE_ALWAYS,
        Fault.HANG_UP,
        Fault.HUGE,
    ],
)
async def test_next_server_is_asked_then(server, fault):
    bad = DnsServer(faults={"a.test": fault})
    async with running(bad, server) as resolver:
        assert (await resolver.query("a.test", RecordKind.A)).texts == ("192.0.2.1",)


@pytest.mark.parametrize(
    "fault", [Fault.DROP, Fault.WRONG_ID, Fault.WRONG_QUESTION, Fault.NOT_A_RESPONSE, Fault.GARBAGE]
)
async def test_what_is_no_response_is_waited_past_and_asked_again_until_the_deadline(server, fault):
    server.faults["a.test"] = fault
    async with running(server, config=IMPATIENT) as resolver:
        before = trio.current_time()
        answer = await resolver.query("a.test", RecordKind.A)
        assert trio.current_time() - before >= IMPATIENT.timeout
        assert resolver.statistics().silences >= 1
    assert answer.status is Status.FAILED
    assert "did not answer" in answer.detail
    assert len(server.queries) >= 2


async def test_forged_answers_before_the_right_one_are_not_believed(server):
    server.faults["a.test"] = Fault.FORGED_FIRST
    async with running(server) as resolver:
        assert (await resolver.query("a.test", RecordKind.A)).texts == ("192.0.2.1",)
    assert len(server.queries) == 1


class ForgedFromElsewhere(DnsServer):
    """Before each response somebody else, who saw the question, answers it from his own address."""

    async def _answer_udp(self, udp, data, peer):
        forged = dns.message.make_response(dns.message.from_wire(data))
        forged.answer.append(dns.rrset.from_text("a.test.", 60, "IN", "A", "203.0.113.66"))
        with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as other:
            await other.bind(("127.0.0.1", 0))
            await other.sendto(forged.to_wire(), peer)
        await super()._answer_udp(udp, data, peer)


async def test_answer_from_another_address_is_not_even_seen():
    # RFC 5452 §9.1: right id, right question, wrong source
    server = ForgedFromElsewhere()
    server.add("a.test", "A", "192.0.2.1")
    async with running(server) as resolver:
        assert (await resolver.query("a.test", RecordKind.A)).texts == ("192.0.2.1",)


async def test_silent_server_hands_over_to_the_next(server):
    silent = DnsServer(faults={"a.test": Fault.DROP})
    config = attrs.evolve(CONFIG, query_timeout=0.03)
    async with running(silent, server, config=config) as resolver:
        assert (await resolver.query("a.test", RecordKind.A)).status is Status.OK


class Once(dict):
    """Faults that happen the first time only."""

    def get(self, name):
        return self.pop(name, None)


async def test_lost_datagram_is_sent_again(server):
    server.faults = Once({"a.test": Fault.DROP})
    async with running(server, config=attrs.evolve(CONFIG, query_timeout=0.03)) as resolver:
        assert (await resolver.query("a.test", RecordKind.A)).status is Status.OK
        assert resolver.statistics().silences == 1
    assert len(server.queries) == 2


async def test_dead_server_is_noticed_at_once_and_asked_last_from_then_on(server):
    async with running(server, dead_first=True) as resolver:
        before = trio.current_time()
        assert (await resolver.query("a.test", RecordKind.A)).status is Status.OK
        assert trio.current_time() - before < CONFIG.query_timeout / 2
        asked = resolver.statistics().questions
        assert (await resolver.query("a.test", RecordKind.A)).status is Status.OK
        assert resolver.statistics().questions == asked + 1


async def test_all_servers_dead_fails_at_once_and_says_why():
    async with running(dead_first=True) as resolver:
        before = trio.current_time()
        answer = await resolver.query("a.test", RecordKind.A)
        assert trio.current_time() - before < CONFIG.query_timeout / 2
    assert answer.status is Status.FAILED
    assert "Connection refused" in answer.detail


async def test_server_without_edns_is_asked_without(server):
    server.faults["a.test"] = Fault.NO_EDNS
    async with running(server) as resolver:
        assert (await resolver.query("a.test", RecordKind.A)).status is Status.OK
    assert [query.edns_payload for query in server.queries] == [1232, 0]


async def test_answers_are_authentic_if_the_local_server_says_so(server):
    async with running(server) as resolver:
        assert not (await resolver.query("a.test", RecordKind.A)).authentic
        server.authentic = True
        assert (await resolver.query("a.test", RecordKind.A)).authentic


async def test_authentic_bit_of_a_server_that_is_not_trusted_is_not_believed(server):
    server.authentic = True
    for trusted in ((), (ipaddress.ip_network("192.0.2.0/24"),)):
        async with running(server, config=attrs.evolve(CONFIG, trust_ad=trusted)) as resolver:
            assert not (await resolver.query("a.test", RecordKind.A)).authentic


def test_one_name_server_elsewhere_takes_the_trust_from_all():
    local, elsewhere = HostPort("127.0.0.1", 53), HostPort("192.0.2.53", 53)
    default = DnsConfig().trust_ad
    assert ServerList([local, HostPort("::1", 53)]).all_within(default)
    assert not ServerList([local, elsewhere]).all_within(default)
    assert ServerList([local, elsewhere]).all_within((*default, ipaddress.ip_network("192.0.2.53/32")))
    assert ServerList([]).all_within(default)  # resolv.conf(5): then it is the one of this machine


async def test_more_queries_than_sockets_wait_their_turn(server, monkeypatch):
    monkeypatch.setattr(client, "MAX_CONCURRENT", 2)
    server.faults["slow.test"] = Fault.DROP
    async with running(server, config=IMPATIENT) as resolver, trio.open_nursery() as nursery:
        answers = []

        async def ask():
            answers.append(await resolver.query("slow.test", RecordKind.A))

        for _ in range(3):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        assert resolver.statistics().waiting == 1
    assert {answer.status for answer in answers} == {Status.FAILED}
    assert any("no socket was free in time" in answer.detail for answer in answers)


async def test_many_at_once_are_all_answered(server):
    for number in range(100):
        server.add(f"n{number}.test", "A", f"192.0.2.{number}")
    async with running(server) as resolver, trio.open_nursery() as nursery:
        answers = {}

        async def ask(number):
            answers[number] = (await resolver.query(f"n{number}.test", RecordKind.A)).texts

        for number in range(100):
            nursery.start_soon(ask, number)
    assert answers == {number: (f"192.0.2.{number}",) for number in range(100)}


async def test_cancelled_query_leaves_nothing_behind(server):
    server.faults["a.test"] = Fault.DROP
    async with running(server) as resolver:
        with trio.move_on_after(0.02) as scope:
            await resolver.query("a.test", RecordKind.A)
        assert scope.cancelled_caught
        assert (await resolver.query("alias.test", RecordKind.CNAME)).status is Status.OK


async def test_whole_way_through_the_cache(server):
    async with trio.open_nursery() as nursery:
        nameserver = await nursery.start(server.serve)
        config = attrs.evolve(CONFIG, nameservers=(nameserver,))
        async with open_resolver(config) as resolver:
            for _ in range(3):
                assert (await addresses(resolver, "alias.test")).addresses == ("192.0.2.1",)
        nursery.cancel_scope.cancel()
    assert sorted(query.kind for query in server.queries) == ["A", "AAAA"]


# Name servers


def test_name_servers_are_given_by_address():
    with pytest.raises(ValueError, match=r"'dns\.test' is not an IP address"):
        DnsResolver(DnsConfig(nameservers=(HostPort("dns.test", 53),)))


def test_resolv_conf_is_read_and_nonsense_passed_over(tmp_path):
    path = tmp_path / "resolv.conf"
    path.write_bytes(
        b"# nameserver 192.0.2.9\nsearch a.test\nnameserver 192.0.2.1 # x\nnameserver\n"
        b"nameserver host\n\tnameserver fe80::1%eth0\n\xff\xfe\nnameserver 2001:db8::1\n"
    )
    assert [server.host for server in read_resolv_conf(path)] == ["192.0.2.1", "fe80::1%eth0", "2001:db8::1"]


def test_missing_resolv_conf_means_the_local_server(tmp_path):
    servers = ServerList(read_resolv_conf(tmp_path / "missing"))
    assert [server.address for server in servers.in_order(0.0)] == [HostPort("127.0.0.1", 53)]


async def test_resolver_without_configured_servers_reads_resolv_conf(tmp_path, server):
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 127.0.0.99\n")
    config = attrs.evolve(IMPATIENT, nameservers=())
    answer = await DnsResolver(config, resolv_conf=path).query("a.test", RecordKind.A)
    assert "127.0.0.99:53" in answer.detail


def test_servers_that_failed_stand_last_for_a_while():
    servers = ServerList(HostPort(f"192.0.2.{number}", 53) for number in range(1, 4))

    def order(now):
        return [server.address.host[-1] for server in servers.in_order(now)]

    first, second, _ = servers.in_order(0.0)
    first.demote(0.0)
    assert order(1.0) == ["2", "3", "1"]
    second.demote(1.0)
    assert order(2.0) == ["3", "1", "2"]
    assert order(DEMOTED_SECONDS + 0.5) == ["1", "3", "2"]
    second.answered()
    assert order(2.0) == ["2", "3", "1"]


def test_silence_counts_only_when_repeated():
    servers = ServerList([HostPort("192.0.2.1", 53), HostPort("192.0.2.2", 53)])
    first = servers.in_order(0.0)[0]
    for _ in range(SILENCES - 1):
        first.silent(0.0)
    assert servers.in_order(0.0)[0] is first
    first.answered()
    for _ in range(SILENCES):
        first.silent(0.0)
    assert servers.in_order(0.0)[0] is not first


def test_number_of_servers_is_limited():
    servers = ServerList(HostPort(f"192.0.2.{number}", 53) for number in range(50))
    assert len(servers.in_order(0.0)) == MAX_SERVERS
