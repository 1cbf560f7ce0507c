"""From a domain to hosts in order, with every answer DNS can give."""

import random

import pytest
import trio

from elemta.config import DnsConfig
from elemta.dns import MxRecord, open_resolver
from elemta.mail import AddressLiteral, Cause, Deferred, Domain, Failed, parse_domain
from elemta.routing import MxPlan, plan_mx
from elemta.routing.mx import MAX_HOSTS
from elemta.testing.dns import FakeResolver

HOSTNAME = "us.test"


def zone(**hosts):
    return {f"{name}.test": {"A": [address]} for name, address in hosts.items()}


async def plan(resolver, domain="ext.test", *, seed=1, **more):
    return await plan_mx(
        parse_domain(domain), resolver, hostname=HOSTNAME, random=random.Random(seed), **more
    )


def failure(outcome):
    return outcome.cause, f"{outcome.reply.code} {outcome.reply.enhanced_text}"


async def test_hosts_come_in_order_of_preference():
    records = [(30, "c.test"), (10, "a.test"), (20, "b.test")]
    resolver = FakeResolver(
        {"ext.test": {"MX": records}} | zone(a="192.0.2.1", b="192.0.2.2", c="192.0.2.3"),
        authentic={"ext.test"},
    )
    assert await plan(resolver) == MxPlan(("a.test", "b.test", "c.test"), authentic=True)


async def test_equal_preferences_are_shuffled_and_only_those():
    records = [(10, "a.test"), (10, "b.test"), (10, "c.test"), (20, "d.test")]
    resolver = FakeResolver(
        {"ext.test": {"MX": records}} | zone(a="192.0.2.1", b="192.0.2.2", c="192.0.2.3", d="192.0.2.4")
    )
    plans = {(await plan(resolver, seed=seed)).hosts for seed in range(50)}
    assert {hosts[3] for hosts in plans} == {"d.test"}
    assert len(plans) == 6


async def test_order_depends_on_the_random_numbers_only():
    hosts = zone(a="192.0.2.1", b="192.0.2.2")
    one = FakeResolver({"ext.test": {"MX": [(1, "a.test"), (1, "b.test")]}} | hosts)
    other = FakeResolver({"ext.test": {"MX": [(1, "b.test"), (1, "a.test")]}} | hosts)
    assert await plan(one, seed=7) == await plan(other, seed=7)


async def test_domain_that_does_not_exist_fails():
    outcome = await plan(FakeResolver())
    assert isinstance(outcome, Failed)
    assert failure(outcome) == (Cause.NO_SUCH_DOMAIN, "550 5.1.2")


async def test_dns_failure_defers_with_its_detail():
    outcome = await plan(FakeResolver(failing={"ext.test"}))
    assert isinstance(outcome, Deferred)
    assert failure(outcome) == (Cause.DNS, "451 4.4.3")
    assert outcome.detail == "ext.test MX: SERVFAIL"


@pytest.mark.parametrize("records", [[(0, ".")], [(0, "")], [(10, ".")]])
async def test_null_mx_fails(records):
    outcome = await plan(FakeResolver({"ext.test": {"MX": records, "A": ["192.0.2.1"]}}))
    assert isinstance(outcome, Failed)
    assert failure(outcome) == (Cause.NULL_MX, "556 5.1.10")


async def test_null_mx_beside_others_is_only_an_unusable_host():
    resolver = FakeResolver({"ext.test": {"MX": [(0, "."), (10, "a.test")]}} | zone(a="192.0.2.1"))
    assert (await plan(resolver)).hosts == ("a.test",)


async def test_no_mx_is_an_implicit_mx():
    outcome = await plan(FakeResolver({"ext.test": {"AAAA": ["2001:db8::1"]}}))
    assert outcome == MxPlan(("ext.test",), implicit=True)


async def test_no_mx_and_no_address_fails():
    assert failure(await plan(FakeResolver({"ext.test": {"TXT": ["x"]}}))) == (Cause.DNS, "550 5.4.4")


async def test_no_mx_and_failing_addresses_defers():
    resolver = FakeResolver({"ext.test": {"TXT": ["x"]}}, failing={("ext.test", "A"), ("ext.test", "AAAA")})
    outcome = await plan(resolver)
    assert isinstance(outcome, Deferred)
    assert outcome.detail == "ext.test AAAA: SERVFAIL; ext.test A: SERVFAIL"


@pytest.mark.parametrize(
    "target", ["192.0.2.9", "[192.0.2.9]", "bad host", "a..b", "-", "localhost", "x.localhost"]
)
async def test_unusable_targets_are_skipped(target):
    records = [MxRecord(0, target), MxRecord(10, "a.test")]
    resolver = FakeResolver({"ext.test": {"MX": records}} | zone(a="192.0.2.1"))
    assert (await plan(resolver)).hosts == ("a.test",)
    alone = FakeResolver({"ext.test": {"MX": [MxRecord(0, target)], "A": ["192.0.2.1"]}})
    assert failure(await plan(alone)) == (Cause.DNS, "550 5.4.4")  # an MX that is there is never passed over


async def test_same_host_twice_counts_once_with_its_best_preference():
    records = [(20, "a.test"), (15, "b.test"), (10, "A.test")]
    resolver = FakeResolver({"ext.test": {"MX": records}} | zone(a="192.0.2.1", b="192.0.2.2"))
    assert (await plan(resolver)).hosts == ("a.test", "b.test")


async def test_hosts_without_address_are_left_out_and_failing_ones_kept():
    records = [(1, "gone.test"), (2, "shaky.test"), (3, "a.test")]
    resolver = FakeResolver({"ext.test": {"MX": records}} | zone(a="192.0.2.1"), failing={"shaky.test"})
    assert (await plan(resolver)).hosts == ("shaky.test", "a.test")


async def test_all_hosts_without_address_fail_and_one_that_fails_defers():
    records = [(1, "gone.test"), (2, "shaky.test")]
    assert failure(await plan(FakeResolver({"ext.test": {"MX": records}}))) == (Cause.DNS, "550 5.4.4")
    resolver = FakeResolver({"ext.test": {"MX": records}}, failing={"shaky.test"})
    assert isinstance(await plan(resolver), Deferred)


async def test_we_and_all_that_is_not_preferred_to_us_are_dropped():
    records = [(10, "a.test"), (20, "US.test"), (20, "b.test"), (30, "c.test")]
    resolver = FakeResolver(
        {"ext.test": {"MX": records}} | zone(a="192.0.2.1", us="192.0.2.9", b="192.0.2.2", c="192.0.2.3")
    )
    assert (await plan(resolver)).hosts == ("a.test",)


async def test_we_are_known_by_address_too():
    records = [(10, "a.test"), (20, "alias.test"), (30, "c.test")]
    resolver = FakeResolver(
        {"ext.test": {"MX": records}} | zone(a="192.0.2.1", alias="192.0.2.9", c="192.0.2.3")
    )
    outcome = await plan(resolver, is_ourselves=lambda address: address == "192.0.2.9")
    assert outcome.hosts == ("a.test",)


@pytest.mark.parametrize("target", ["us.test", "alias.test"])
async def test_best_host_is_this_server_is_a_loop(target):
    records = [(10, target), (20, "b.test")]
    resolver = FakeResolver(
        {"ext.test": {"MX": records}} | zone(us="192.0.2.9", alias="192.0.2.9", b="192.0.2.2")
    )
    outcome = await plan(resolver, is_ourselves=lambda address: address == "192.0.2.9")
    assert failure(outcome) == (Cause.LOOP, "550 5.4.6")


async def test_implicit_mx_that_is_this_server_is_a_loop():
    outcome = await plan(FakeResolver({"us.test": {"A": ["192.0.2.9"]}}), "us.test")
    assert failure(outcome) == (Cause.LOOP, "550 5.4.6")


async def test_preferred_host_that_fails_is_no_loop_yet():
    resolver = FakeResolver({"ext.test": {"MX": [(10, "a.test"), (20, "us.test")]}}, failing={"a.test"})
    assert isinstance(await plan(resolver), Deferred)


async def test_preferred_host_that_is_gone_leaves_a_loop():
    resolver = FakeResolver({"ext.test": {"MX": [(10, "gone.test"), (20, "us.test")]}})
    assert failure(await plan(resolver)) == (Cause.LOOP, "550 5.4.6")


async def test_hostile_list_is_cut():
    names = [f"h{number:03}.test" for number in range(200)]
    resolver = FakeResolver(
        {"ext.test": {"MX": [(number, name) for number, name in enumerate(names)]}}
        | {name: {"A": ["192.0.2.1"]} for name in names}
    )
    assert (await plan(resolver)).hosts == tuple(names[:MAX_HOSTS])
    assert len(resolver.queries) == 1 + 2 * MAX_HOSTS


@pytest.mark.parametrize(
    ("literal", "host"),
    [
        ("[192.0.2.1]", "192.0.2.1"),
        ("[IPv6:2001:db8::1]", "2001:db8::1"),
        ("[IPv6:::ffff:192.0.2.1]", "192.0.2.1"),
    ],
)
async def test_address_literal_is_its_own_host(literal, host):
    resolver = FakeResolver()
    assert await plan(resolver, literal) == MxPlan((host,))
    assert resolver.queries == []


async def test_literal_of_our_own_address_is_a_loop():
    outcome = await plan(FakeResolver(), "[127.0.0.1]", is_ourselves=lambda address: address == "127.0.0.1")
    assert failure(outcome) == (Cause.LOOP, "550 5.4.6")


async def test_literal_that_cannot_be_reached_fails():
    outcome = await plan(FakeResolver(), "[IPv6:2001:db8::1]", ipv6=False)
    assert failure(outcome) == (Cause.UNSUPPORTED, "550 5.1.2")
    assert failure(await plan(FakeResolver(), "[0.0.0.0]")) == (Cause.UNSUPPORTED, "550 5.1.2")
    literal = AddressLiteral(None, "x400", "abc")
    outcome = await plan_mx(literal, FakeResolver(), hostname=HOSTNAME, random=random.Random(1))
    assert failure(outcome) == (Cause.UNSUPPORTED, "550 5.1.2")


async def test_host_with_ipv6_only_is_unusable_without_ipv6():
    resolver = FakeResolver({"ext.test": {"MX": [(1, "a.test")]}, "a.test": {"AAAA": ["2001:db8::1"]}})
    assert failure(await plan(resolver, ipv6=False)) == (Cause.DNS, "550 5.4.4")


async def test_addresses_are_asked_for_at_once(autojump_clock):
    hosts = {f"h{number}.test": {"A": ["192.0.2.1"]} for number in range(5)}
    resolver = FakeResolver(
        {"ext.test": {"MX": [(number, name) for number, name in enumerate(hosts)]}} | hosts,
        delays=dict.fromkeys(hosts, 3.0),
    )
    before = trio.current_time()
    await plan(resolver)
    assert trio.current_time() - before == pytest.approx(3.0)


async def test_cname_of_a_mail_domain_is_followed():
    resolver = FakeResolver(
        {"ext.test": {"CNAME": ["real.test"]}, "real.test": {"MX": [(1, "a.test")]}} | zone(a="192.0.2.1")
    )
    assert (await plan(resolver)).hosts == ("a.test",)


async def test_plan_leaves_the_addresses_in_the_cache(autojump_clock):
    inner = FakeResolver({"ext.test": {"MX": [(1, "a.test")]}} | zone(a="192.0.2.1"))
    async with open_resolver(DnsConfig(), inner=inner) as resolver:
        first = await plan_mx(Domain("ext.test"), resolver, hostname=HOSTNAME, random=random.Random(1))
        again = await plan_mx(Domain("ext.test"), resolver, hostname=HOSTNAME, random=random.Random(1))
    assert first == again
    assert len(inner.queries) == 3
