"""Names that DNS can hold, and the addresses of a host."""

import random

import pytest
import trio

from elemta.dns import (
    Answer,
    HostAddresses,
    MxRecord,
    RecordKind,
    Status,
    TlsaRecord,
    addresses,
    as_address,
    is_localhost,
    normalize_name,
)
from elemta.dns.addresses import MAX_ADDRESSES
from elemta.testing.dns import FakeResolver

BOTH = {"h.test": {"A": ["192.0.2.1", "192.0.2.2", "192.0.2.3"], "AAAA": ["2001:db8::1"]}}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Example.ORG.", "example.org"),
        ("_dmarc.example.org", "_dmarc.example.org"),
        ("a\\b c.test", "a\\b c.test"),
        ("a" * 63 + ".test", "a" * 63 + ".test"),
        (".".join(["a" * 49] * 5) + ".abc", ".".join(["a" * 49] * 5) + ".abc"),
        ("", None),
        (".", None),
        ("a..b", None),
        (".a", None),
        ("a..", None),
        ("a" * 64 + ".test", None),
        (".".join(["a" * 49] * 5) + ".abcd", None),
        ("ä.test", None),
        ("\u212a.test", None),
        ("a\n.test", None),
        ("a.test\n", None),
        ("a\x7f.test", None),
    ],
)
def test_names_have_one_form_or_none(name, expected):
    assert normalize_name(name) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("[2001:DB8:0::1]", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", None),
        ("192.0.2", None),
        ("01.2.3.4", None),
        ("[h.test]", None),
    ],
)
def test_addresses_have_one_form(text, expected):
    assert as_address(text) == expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("LocalHost.", True),
        ("a.localhost", True),
        ("notlocalhost", False),
        ("a.test", False),
    ],
)
def test_localhost_is_known_by_name(host, expected):
    assert is_localhost(host) is expected


def test_records_are_given_by_type():
    mx, tlsa = MxRecord(1, "a.test"), TlsaRecord(3, 1, 1, b"x")
    answer = Answer(Status.OK, (mx, "text", b"bytes", tlsa))
    assert answer.mail_exchangers == (mx,)
    assert answer.texts == ("text",)
    assert answer.strings == (b"bytes",)
    assert answer.certificate_rules == (tlsa,)


async def test_families_are_interleaved():
    found = await addresses(FakeResolver(BOTH), "h.test")
    assert found == HostAddresses(Status.OK, ("2001:db8::1", "192.0.2.1", "192.0.2.2", "192.0.2.3"))


async def test_without_ipv6_only_a_is_asked():
    resolver = FakeResolver(BOTH)
    assert (await addresses(resolver, "h.test", ipv6=False)).addresses == (
        "192.0.2.1",
        "192.0.2.2",
        "192.0.2.3",
    )
    assert resolver.queries == [("h.test", RecordKind.A)]


async def test_families_are_asked_at_the_same_time(autojump_clock):
    before = trio.current_time()
    await addresses(FakeResolver(BOTH, delays={"h.test": 2.0}), "h.test")
    assert trio.current_time() - before == pytest.approx(2.0)


async def test_random_shuffles_within_a_family():
    orders = {
        (await addresses(FakeResolver(BOTH), "h.test", random=random.Random(seed))).addresses
        for seed in range(30)
    }
    assert len(orders) == 6
    assert {order[0] for order in orders} == {"2001:db8::1"}


@pytest.mark.parametrize(
    ("host", "ipv6", "expected"),
    [
        ("192.0.2.1", False, HostAddresses(Status.OK, ("192.0.2.1",))),
        ("[2001:db8::1]", True, HostAddresses(Status.OK, ("2001:db8::1",))),
        ("2001:db8::1", False, HostAddresses(Status.NODATA)),
        ("localhost", True, HostAddresses(Status.OK, ("::1", "127.0.0.1"))),
        ("localhost", False, HostAddresses(Status.OK, ("127.0.0.1",))),
    ],
)
async def test_addresses_and_localhost_need_no_dns(host, ipv6, expected):
    resolver = FakeResolver(failing={host})
    assert await addresses(resolver, host, ipv6=ipv6) == expected
    assert resolver.queries == []


async def test_one_family_is_enough():
    resolver = FakeResolver(BOTH, failing={("h.test", "AAAA")})
    found = await addresses(resolver, "h.test")
    assert found.status is Status.OK
    assert found.addresses == ("192.0.2.1", "192.0.2.2", "192.0.2.3")
    assert found.detail == "h.test AAAA: SERVFAIL"


async def test_no_address_and_a_failure_is_a_failure():
    resolver = FakeResolver({"h.test": {"A": []}}, failing={("h.test", "AAAA")})
    assert await addresses(resolver, "h.test") == HostAddresses(Status.FAILED, detail="h.test AAAA: SERVFAIL")


async def test_no_such_host_and_host_without_address_are_told_apart():
    resolver = FakeResolver({"h.test": {"TXT": ["x"]}})
    assert (await addresses(resolver, "h.test")).status is Status.NODATA
    assert (await addresses(resolver, "gone.test")).status is Status.NXDOMAIN
    assert (await addresses(resolver, "a..b")).status is Status.NXDOMAIN


async def test_mapped_addresses_are_unmapped_and_doubles_dropped():
    resolver = FakeResolver({"h.test": {"A": ["192.0.2.1", "nonsense"], "AAAA": ["::ffff:192.0.2.1", "::1"]}})
    assert (await addresses(resolver, "h.test")).addresses == ("192.0.2.1", "::1")


@pytest.mark.parametrize(
    "text", ["0.0.0.0", "::", "::ffff:0.0.0.0", "255.255.255.255", "224.0.0.1", "ff02::1"]
)
async def test_addresses_that_are_no_hosts_are_left_out(text):
    kind = "AAAA" if ":" in text else "A"
    resolver = FakeResolver({"h.test": {kind: [text]}})
    assert (await addresses(resolver, "h.test")).status is Status.NODATA


async def test_addresses_are_limited_in_number():
    resolver = FakeResolver({"h.test": {"A": [f"192.0.2.{number}" for number in range(200)]}})
    assert len((await addresses(resolver, "h.test")).addresses) == MAX_ADDRESSES


async def test_addresses_are_authentic_only_if_all_used_are():
    found = await addresses(FakeResolver(BOTH, authentic={"h.test"}), "h.test")
    assert found.authentic
    assert not (await addresses(FakeResolver(BOTH), "h.test")).authentic


# The fake itself


async def test_fake_follows_cnames_and_normalizes():
    resolver = FakeResolver(
        {"A.test.": {"CNAME": ["B.test."]}, "b.test": {"TXT": ["x"], "MX": [(1, "M.test.")]}}
    )
    assert await resolver.query("a.test", RecordKind.TXT) == Answer(
        Status.OK, (b"x",), 300.0, canonical="b.test"
    )
    assert (await resolver.query("a.test", RecordKind.MX)).records == (MxRecord(1, "m.test"),)
    assert (await resolver.query("a.test", RecordKind.CNAME)).texts == ("b.test",)


async def test_fake_gives_up_on_a_cname_loop():
    resolver = FakeResolver({"a.test": {"CNAME": ["b.test"]}, "b.test": {"CNAME": ["a.test"]}})
    assert (await resolver.query("a.test", RecordKind.A)).status is Status.FAILED


async def test_fake_can_be_changed_while_it_runs():
    resolver = FakeResolver()
    assert (await resolver.query("a.test", RecordKind.A)).status is Status.NXDOMAIN
    resolver.add("a.test", RecordKind.A, "192.0.2.1")
    assert (await resolver.query("a.test", RecordKind.A)).texts == ("192.0.2.1",)
    with pytest.raises(ValueError, match="DNS can hold"):
        resolver.add("a..b", "A")
