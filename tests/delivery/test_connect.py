"""Which addresses are tried, in which order, and what is said when none will do."""

import errno

import attrs
import pytest
import trio
from delivery_helpers import HOST, TIMEOUTS, fixed_route, make_context, make_parcel, mx_route

from elemta.config import DeliveryConfig
from elemta.delivery import ConnectFailed, make_transport
from elemta.mail import Cause, Deferred, Delivered, Failed, Reply
from elemta.routing import Route
from elemta.testing.dns import FakeResolver
from elemta.testing.network import open_memory_network
from elemta.testing.peers import Expect, Fault, ScriptedPeer, SinkPeer

ZONE = {
    "example.org": {"MX": [(10, "a.example.org"), (20, "b.example.org")]},
    "a.example.org": {"A": ["192.0.2.1"], "AAAA": ["2001:db8::1"]},
    "b.example.org": {"A": ["192.0.2.2"]},
}


async def connect(network, route=None, zone=None, **kwargs):
    context = make_context(network, ZONE if zone is None else zone, **kwargs)
    return await make_transport(route or mx_route(), context).connect()


async def failure(network, route=None, zone=None, **kwargs):
    with pytest.raises(ConnectFailed) as caught:
        await connect(network, route, zone, **kwargs)
    return caught.value.outcome


def hosts(network):
    return [attempt.host for attempt in network.attempts]


async def test_hosts_are_tried_by_preference_and_both_families(autojump_clock):
    sink = SinkPeer()
    async with open_memory_network() as network:
        network.refuse("2001:db8::1")
        network.unreachable("192.0.2.1")
        network.listen("192.0.2.2", 25, sink.serve)
        connection = await connect(network)
        [outcome] = await connection.deliver(make_parcel())
        await connection.aclose()
    assert hosts(network) == ["2001:db8::1", "192.0.2.1", "192.0.2.2"]
    assert isinstance(outcome, Delivered)
    assert outcome.remote == "b.example.org[192.0.2.2]:25"


@pytest.mark.parametrize(
    "answer", [b"421 4.3.2 busy\r\n", b"450 later\r\n", b"554 5.7.1 no\r\n", Fault.DROP, Fault.STALL]
)
async def test_host_that_will_not_talk_gives_way_to_the_next(answer, autojump_clock):
    async with open_memory_network() as network:
        network.refuse("2001:db8::1")
        network.listen("192.0.2.1", 25, ScriptedPeer((Expect.NOTHING, answer)).serve)
        network.listen("192.0.2.2", 25, SinkPeer().serve)
        connection = await connect(network)
        assert connection.remote == "b.example.org[192.0.2.2]:25"
        await connection.aclose()


async def test_addresses_in_prohibited_networks_are_passed_over_where_the_mx_was_asked(autojump_clock):
    zone = {
        "example.org": {"MX": [(10, "a.example.org")]},
        "a.example.org": {"A": ["127.0.0.1", "10.0.0.1", "192.0.2.1"]},
    }
    async with open_memory_network() as network:
        await failure(network, zone=zone)
        assert hosts(network) == ["192.0.2.1"]
        network.listen("127.0.0.1", 25, SinkPeer().serve)
        connection = await connect(network, zone=zone, config=DeliveryConfig(prohibited_networks=()))
        await connection.aclose()


async def test_fixed_hosts_may_be_anywhere(autojump_clock):
    async with open_memory_network() as network:
        network.listen("10.0.0.1", 25, SinkPeer().serve)
        connection = await connect(network, attrs.evolve(fixed_route(), next_hop="10.0.0.1"))
        assert connection.remote == "10.0.0.1[10.0.0.1]:25"
        await connection.aclose()


async def test_source_address_goes_by_family_and_ipv6_can_be_off(autojump_clock):
    config = DeliveryConfig(source_ipv4="192.0.2.200", source_ipv6="2001:db8::200")
    async with open_memory_network() as network:
        await failure(network, config=config)
        assert {attempt.source for attempt in network.attempts if ":" in attempt.host} == {"2001:db8::200"}
        assert {attempt.source for attempt in network.attempts if "." in attempt.host} == {"192.0.2.200"}
    async with open_memory_network() as network:
        await failure(network, config=DeliveryConfig(ipv6=False))
        assert hosts(network) == ["192.0.2.1", "192.0.2.2"]


async def test_no_more_addresses_are_tried_than_configured(autojump_clock):
    zone = {
        "example.org": {"MX": [(10, "a.example.org"), (20, "b.example.org")]},
        "a.example.org": {"A": [f"192.0.2.{number}" for number in range(1, 10)]},
        "b.example.org": {"A": ["198.51.100.1"]},
    }
    async with open_memory_network() as network:
        outcome = await failure(network, zone=zone)
    assert len(network.attempts) == 5
    assert outcome.detail.count("unreachable") == 5


async def test_all_refused_is_deferred_with_each_reason(autojump_clock):
    async with open_memory_network() as network:
        network.refuse("2001:db8::1")
        network.fail("192.0.2.1", error=errno.EHOSTUNREACH)
        network.hang("192.0.2.2")
        start = trio.current_time()
        outcome = await failure(network)
        assert trio.current_time() - start == TIMEOUTS.connect
    assert isinstance(outcome, Deferred)
    assert outcome.cause is Cause.TIMEOUT
    assert outcome.reply.enhanced_text == "4.4.1"
    assert outcome.detail == (
        "a.example.org[2001:db8::1]:25: Connection refused; a.example.org[192.0.2.1]:25: No route to host; "
        "b.example.org[192.0.2.2]:25: no answer"
    )


async def test_what_got_furthest_is_what_is_reported(autojump_clock):
    async with open_memory_network() as network:
        network.hang("2001:db8::1")
        network.listen("192.0.2.1", 25, ScriptedPeer((Expect.NOTHING, b"450 4.7.1 greylisted\r\n")).serve)
        network.listen("192.0.2.2", 25, ScriptedPeer((Expect.NOTHING, Fault.DROP)).serve)
        outcome = await failure(network)
    assert (outcome.cause, str(outcome.reply)) == (Cause.REMOTE_REPLY, "450 4.7.1 greylisted")
    assert outcome.remote == "a.example.org[192.0.2.1]:25"
    assert outcome.from_remote


async def test_554_from_all_is_deferred_and_521_from_all_is_final(autojump_clock):
    def greet(code):
        return SinkPeer(answers={"greeting": Reply.of(code, None, "no mail")}).serve

    for codes, kind in (((554, 521, 521), Deferred), ((521, 521, 521), Failed)):
        async with open_memory_network() as network:
            for address, code in zip(("2001:db8::1", "192.0.2.1", "192.0.2.2"), codes, strict=True):
                network.listen(address, 25, greet(code))
            outcome = await failure(network)
        assert type(outcome) is kind
        assert outcome.cause is Cause.REMOTE_REPLY
        assert outcome.detail.count("no mail") == 3
    assert outcome.reply.code == 521
    assert outcome.from_remote


async def test_a_host_whose_addresses_dns_cannot_tell_is_passed_over(autojump_clock):
    resolver = FakeResolver(ZONE, failing={"a.example.org"})
    async with open_memory_network() as network:
        network.listen("192.0.2.2", 25, SinkPeer().serve)
        connection = await connect(network, zone=resolver)
        await connection.aclose()
    assert hosts(network) == ["192.0.2.2"]


async def test_final_answers_of_dns_pass_through(autojump_clock):
    zone = {"null.example": {"MX": [(0, "")]}, "fail.example": {}}
    resolver = FakeResolver(zone, failing={"fail.example"})
    async with open_memory_network() as network:
        for domain, kind, cause in (
            ("gone.example", Failed, Cause.NO_SUCH_DOMAIN),
            ("null.example", Failed, Cause.NULL_MX),
            ("fail.example", Deferred, Cause.DNS),
        ):
            outcome = await failure(network, mx_route(domain), resolver)
            assert (type(outcome), outcome.cause) == (kind, cause)
    assert network.attempts == []


async def test_our_own_listeners_are_never_connected_to(autojump_clock):
    def ours(address, port):
        return (address, port) == ("192.0.2.2", 25)

    async with open_memory_network() as network:
        outcome = await failure(network, mx_route("b.example.org"), is_local_address=ours)
        assert (type(outcome), outcome.cause) == (Failed, Cause.LOOP)
        route = Route(fixed_route().transport, "b.example.org", 25)
        outcome = await failure(network, route, is_local_address=ours)
        assert (type(outcome), outcome.cause) == (Failed, Cause.LOOP)
        assert network.attempts == []
        # The same machine, another port: a mail store beside us.
        network.listen("192.0.2.2", 2424, SinkPeer().serve)
        route = Route(fixed_route().transport, "b.example.org", 2424)
        await (await connect(network, route, is_local_address=ours)).aclose()


async def test_fixed_host_by_name_and_by_address(autojump_clock):
    async with open_memory_network() as network:
        network.listen(HOST, 2525, SinkPeer().serve)
        connection = await connect(network, fixed_route(2525))
        assert connection.remote == "192.0.2.1[192.0.2.1]:2525"
        await connection.aclose()
        outcome = await failure(network, Route(fixed_route().transport, "nowhere.example", 25))
    assert (type(outcome), outcome.cause) == (Deferred, Cause.DNS)
    assert outcome.detail == "nowhere.example: the host has no address"


async def test_bad_source_address_is_told(autojump_clock):
    async with open_memory_network() as network:
        network.listen(HOST, 25, SinkPeer().serve)
        outcome = await failure(network, fixed_route(), config=DeliveryConfig(source_ipv4="192.0.2.99"))
    assert "Cannot assign requested address" in outcome.detail


async def test_error_without_a_number_is_told_as_it_is(autojump_clock):
    class Odd:
        async def connect(self, host, port, *, source=None):
            raise OSError("no such network")

    outcome = await failure(Odd(), fixed_route())
    assert outcome.detail.endswith("no such network")


async def test_nothing_to_try_is_deferred(autojump_clock):
    async with open_memory_network() as network:
        outcome = await failure(network, config=DeliveryConfig(mx_hosts=0))
    assert (type(outcome), outcome.cause) == (Deferred, Cause.CONNECT)


TWO_FAMILIES = {
    "example.org": {"MX": [(10, "a.example.org")]},
    "a.example.org": {"A": ["192.0.2.1"], "AAAA": ["2001:db8::1"]},
}


async def test_address_family_that_leads_nowhere_costs_a_moment(autojump_clock):
    async with open_memory_network() as network:
        network.hang("2001:db8::1")
        network.listen("192.0.2.1", 25, SinkPeer().serve)
        connection = await connect(network, zone=TWO_FAMILIES)
        assert trio.current_time() == pytest.approx(0.25)
        assert connection.remote == "a.example.org[192.0.2.1]:25"
        await connection.aclose()
    assert hosts(network) == ["2001:db8::1", "192.0.2.1"]


async def test_address_that_refuses_gives_way_at_once(autojump_clock):
    async with open_memory_network() as network:
        network.refuse("2001:db8::1")
        network.listen("192.0.2.1", 25, SinkPeer().serve)
        connection = await connect(network, zone=TWO_FAMILIES)
        assert trio.current_time() == 0
        await connection.aclose()


async def test_host_whose_first_answer_is_a_refusal_is_tried_at_its_other_address(autojump_clock):
    async with open_memory_network() as network:
        network.listen("2001:db8::1", 25, ScriptedPeer((Expect.NOTHING, b"421 4.3.2 busy\r\n")).serve)
        network.listen("192.0.2.1", 25, SinkPeer().serve)
        connection = await connect(network, zone=TWO_FAMILIES)
        assert connection.remote == "a.example.org[192.0.2.1]:25"
        await connection.aclose()
    assert hosts(network) == ["2001:db8::1", "192.0.2.1"]


async def test_addresses_without_any_answer_are_all_named(autojump_clock):
    async with open_memory_network() as network:
        network.hang("2001:db8::1")
        network.hang("192.0.2.1")
        outcome = await failure(network, zone=TWO_FAMILIES)
        assert trio.current_time() == pytest.approx(TIMEOUTS.connect + 0.25), "side by side"
    assert isinstance(outcome, Deferred)
    assert "2001:db8::1" in outcome.detail
    assert "192.0.2.1" in outcome.detail


async def test_no_more_addresses_are_dialled_than_one_attempt_may(autojump_clock):
    zone = {
        "example.org": {"MX": [(10, "a.example.org"), (20, "b.example.org")]},
        "a.example.org": {"A": ["192.0.2.1", "192.0.2.2", "192.0.2.3"]},
        "b.example.org": {"A": ["192.0.2.4", "192.0.2.5"]},
    }
    async with open_memory_network() as network:
        outcome = await failure(network, zone=zone, config=DeliveryConfig(mx_hosts=4))
    assert len(hosts(network)) == 4
    assert isinstance(outcome, Deferred)


async def test_dialling_can_be_cancelled(autojump_clock):
    async with open_memory_network() as network:
        network.hang("2001:db8::1")
        network.hang("192.0.2.1")
        with trio.move_on_after(5) as scope:
            await connect(network, zone=TWO_FAMILIES)
        assert scope.cancelled_caught
    assert hosts(network) == ["2001:db8::1", "192.0.2.1"]
