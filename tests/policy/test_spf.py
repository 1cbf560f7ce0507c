"""SPF as a session asks for it: both identities, what becomes of odd names, deadlines and late answers."""

import ipaddress

import attrs
import pytest
import trio

from elemta.config import MessageAction, SpfConfig
from elemta.mail import NULL_PATH, Domain, Mailbox, Result, ReversePath, parse_reverse_path
from elemta.policy import spf, spf_query
from elemta.policy.lookups import TooManyLookups
from elemta.policy.spf import SpfIdentity, SpfResults, check_spf
from elemta.testing.dns import FakeResolver, Zone

PEER = "192.0.2.7"
ZONE: Zone = {
    "sender.example": {"TXT": ["v=spf1 ip4:192.0.2.0/24 -all"]},
    "other.example": {"TXT": ["v=spf1 -all exp=why.example"]},
    "why.example": {"TXT": ["%{i} is not ours\x1b[2J"]},
    "host.example": {"TXT": ["v=spf1 a -all"], "A": [PEER]},
    "user.example": {"TXT": ["v=spf1 exists:%{l}.ok.user.example -all"]},
    "ann.ok.user.example": {"A": ["127.0.0.2"]},
    "xn--bcher-kva.example": {"TXT": ["v=spf1 +all"]},
}
CONFIG = SpfConfig()


async def check(
    path: str | ReversePath = "<a@sender.example>",
    hello: str = "host.example",
    *,
    peer: str = PEER,
    resolver: FakeResolver | None = None,
    config: SpfConfig = CONFIG,
) -> SpfResults:
    reverse_path = parse_reverse_path(path, utf8=True) if isinstance(path, str) else path
    address = ipaddress.ip_address(peer)
    resolver = resolver or FakeResolver(ZONE)
    return await check_spf(address, reverse_path, hello, config, resolver=resolver, receiver="mx.example.org")


async def test_both_identities_are_checked():
    found = await check()
    assert found.sender.identity is SpfIdentity.MAIL
    assert (found.sender.result, found.sender.domain, found.sender.mechanism) == (
        Result.PASS,
        "sender.example",
        "ip4:192.0.2.0/24",
    )
    assert found.hello is not None
    assert (found.hello.identity, found.hello.result, found.hello.domain) == (
        SpfIdentity.HELLO,
        Result.PASS,
        "host.example",
    )


async def test_the_name_of_the_host_is_left_alone_where_nobody_wants_it():
    resolver = FakeResolver(ZONE)
    found = await check(config=SpfConfig(hello_action=MessageAction.OFF), resolver=resolver)
    assert found.hello is None
    assert {name for name, _ in resolver.queries} == {"sender.example"}


@pytest.mark.parametrize("action", [MessageAction.OFF, MessageAction.NOTE])
async def test_mail_without_a_sender_is_judged_by_the_name_of_the_host(action: MessageAction):
    found = await check(NULL_PATH, config=SpfConfig(hello_action=action))
    assert found.hello is None
    assert (found.sender.identity, found.sender.result, found.sender.subject) == (
        SpfIdentity.HELLO,
        Result.PASS,
        "host.example",
    )


async def test_a_client_that_may_not_send():
    found = (await check("<a@other.example>")).sender
    assert (found.result, found.mechanism) == (Result.FAIL, "-all")
    assert found.explanation == f"{PEER} is not ours\\x1b[2J"


@pytest.mark.parametrize(
    "hello", ["localhost", "[192.0.2.7]", "", "-", "a b.example", "xn--.", "host.example.."]
)
async def test_a_host_without_a_domain_has_no_result(hello: str):
    resolver = FakeResolver(ZONE)
    found = await check(NULL_PATH, hello, resolver=resolver)
    assert found.sender.result is Result.NONE
    assert resolver.queries == []


async def test_a_host_with_u_labels_or_a_final_dot():
    assert (await check(NULL_PATH, "bücher.example")).sender.result is Result.PASS
    assert (await check(NULL_PATH, "HOST.example.")).sender.result is Result.PASS


@pytest.mark.parametrize("path", ["<a@[192.0.2.7]>", "<a@localhost>"])
async def test_a_sender_without_a_domain_has_no_result(path: str):
    resolver = FakeResolver(ZONE)
    found = (await check(path, "localhost", resolver=resolver)).sender
    assert (found.result, found.domain) == (Result.NONE, "")
    assert found.subject == path.strip("<>")
    assert resolver.queries == []


async def test_the_local_part_is_the_users_and_not_what_stands_before_the_first_sign():
    assert (await check("<ann@user.example>")).sender.result is Result.PASS
    quoted = ReversePath(Mailbox("x@sender.example", Domain("user.example")))
    found = (await check(quoted)).sender
    assert (found.result, found.domain) == (Result.FAIL, "user.example")


async def test_a_local_part_with_utf8_matches_no_macro():
    assert (await check("<änn@user.example>")).sender.result is Result.FAIL


async def test_an_empty_local_part_is_postmaster():
    resolver = FakeResolver({**ZONE, "postmaster.ok.user.example": {"A": ["127.0.0.2"]}})
    path = ReversePath(Mailbox("", Domain("user.example")))
    assert (await check(path, resolver=resolver)).sender.result is Result.PASS


@pytest.mark.parametrize("peer", ["::ffff:192.0.2.7", PEER])
async def test_an_ipv4_address_in_ipv6_is_ipv4(peer: str):
    assert (await check(peer=peer)).sender.result is Result.PASS


async def test_ipv6_clients():
    resolver = FakeResolver(
        {"six.example": {"TXT": ["v=spf1 a//32 ip6:2001:db9::/32 -all"], "AAAA": ["2001:db8::1"]}}
    )
    for peer, result in [
        ("2001:db8::99", Result.PASS),
        ("2001:db9::1", Result.PASS),
        ("2001:dba::1", Result.FAIL),
    ]:
        assert (await check("<a@six.example>", peer=peer, resolver=resolver)).sender.result is result


@pytest.mark.parametrize(
    ("record", "result"),
    [
        ("v=spf1 ip4:192.0.2.7 -all", Result.PASS),
        ("v=spf1 -ip4:192.0.2.7 +all", Result.FAIL),
        ("v=spf1 ~all", Result.SOFTFAIL),
        ("v=spf1 ?all", Result.NEUTRAL),
        ("v=spf1", Result.NEUTRAL),
        ("v=spf2.0/mfrom -all", Result.NONE),
        ("v=spf10 -all", Result.NONE),
        ("v=spf1 moo -all", Result.PERMERROR),
        ("v=spf1 a:late.example -all", Result.TEMPERROR),
        ("v=spf1 include:nowhere.example -all", Result.PERMERROR),
        ("v=spf1 exists:%{d0}.example -all", Result.PERMERROR),
        ("v=spf1 exists:%{c}.example -all", Result.PERMERROR),
        ("v=spf1 exists:%(d).example -all", Result.PERMERROR),
        ("v=spf1 exists:%{x}.example -all", Result.PERMERROR),
        ("v=spf1 ip4:192.0.2.7 include:a.example moo", Result.PERMERROR),
        ("v=spf1 mx:many.example -all", Result.PERMERROR),
        ("v=spf1 a:no1.example a:no2.example a:no3.example -all", Result.PERMERROR),
        ("v=spf1 a:no1.example a:no2.example -all", Result.FAIL),
        ("v=spf1 ptr:late.example -all", Result.FAIL),
        ("v=spf1 é -all", Result.PERMERROR),
    ],
)
async def test_records(record: str, result: Result):
    zone = {
        **ZONE,
        "r.example": {"TXT": [record]},
        "many.example": {"MX": [(1, f"m{n}.example") for n in range(11)]},
    }
    resolver = FakeResolver(zone, failing={"late.example", "7.2.0.192.in-addr.arpa"})
    assert (await check("<a@r.example>", resolver=resolver)).sender.result is result


async def test_two_records_are_a_mistake():
    resolver = FakeResolver({"r.example": {"TXT": ["v=spf1 +all", "v=spf1 -all"]}})
    assert (await check("<a@r.example>", resolver=resolver)).sender.result is Result.PERMERROR


async def test_what_is_included_is_fetched_at_the_same_time(autojump_clock: trio.testing.MockClock):
    zone: dict[str, dict[str, list[str]]] = {
        "r.example": {"TXT": ["v=spf1 " + " ".join(f"include:i{n}.example" for n in range(9)) + " -all"]}
    }
    for number in range(9):
        zone[f"i{number}.example"] = {"TXT": ["v=spf1 ip4:10.0.0.1 -all"]}
    resolver = FakeResolver(zone, delays=dict.fromkeys(zone, 1.0))
    start = trio.current_time()
    assert (await check("<a@r.example>", "localhost", resolver=resolver)).sender.result is Result.FAIL
    assert trio.current_time() - start == pytest.approx(2)
    assert len(resolver.queries) == 10


async def test_hosts_of_an_mx_are_fetched_at_the_same_time(autojump_clock: trio.testing.MockClock):
    names = [f"m{number}.example" for number in range(10)]
    zone: Zone = {
        "r.example": {"TXT": ["v=spf1 mx -all"], "MX": [(number, name) for number, name in enumerate(names)]},
        **{name: {"A": [f"10.0.0.{number}"]} for number, name in enumerate(names)},
        "m9.example": {"A": [PEER]},
    }
    resolver = FakeResolver(zone, delays=dict.fromkeys(names, 1.0))
    start = trio.current_time()
    found = (await check("<a@r.example>", "localhost", resolver=resolver)).sender
    assert (found.result, found.mechanism) == (Result.PASS, "mx")
    assert trio.current_time() - start == pytest.approx(1)


async def test_late_answers_are_a_temporary_error(autojump_clock: trio.testing.MockClock):
    resolver = FakeResolver(ZONE, delays={"sender.example": 1000})
    start = trio.current_time()
    found = await check(resolver=resolver, config=SpfConfig(timeout=7.0))
    assert trio.current_time() - start == pytest.approx(7)
    assert (found.sender.result, found.sender.reason) == (Result.TEMPERROR, "not finished in time")
    assert found.hello is not None
    assert found.hello.passed


async def test_it_can_be_cancelled(autojump_clock: trio.testing.MockClock):
    with trio.move_on_after(1) as scope:
        await check(resolver=FakeResolver(ZONE, delays={"sender.example": 1000}))
    assert scope.cancelled_caught


async def test_checks_at_the_same_time_do_not_mix_their_answers():
    found = {}

    async def one(path: str) -> None:
        found[path] = (await check(path)).sender.result

    paths = {
        "<a@sender.example>": Result.PASS,
        "<a@other.example>": Result.FAIL,
        "<ann@user.example>": Result.PASS,
    }
    async with trio.open_nursery() as nursery:
        for path in paths:
            nursery.start_soon(one, path)
    assert found == paths


async def test_how_it_stands_in_authentication_results():
    found = await check("<a@other.example>")
    result = found.sender.auth_result()
    assert (result.method, result.result, result.value("smtp", "mailfrom")) == (
        "spf",
        Result.FAIL,
        "other.example",
    )
    assert found.hello is not None
    assert found.hello.auth_result().value("smtp", "helo") == "host.example"


async def test_what_a_client_calls_itself_is_made_safe():
    found = await check(hello="a\x1b[2J" + "x" * 1000)
    assert found.hello is not None
    assert found.hello.subject.startswith("a\\x1b[2Jx")
    assert len(found.hello.subject) < 310
    assert attrs.evolve(found.hello, subject="").result is Result.NONE


async def test_more_lookups_than_are_allowed_are_a_mistake(monkeypatch: pytest.MonkeyPatch):
    async def too_many(*args: object) -> None:
        raise TooManyLookups

    monkeypatch.setattr(spf, "evaluate", too_many)
    found = (await check()).sender
    assert (found.result, found.reason) == (Result.PERMERROR, "too many DNS lookups")


async def test_a_record_that_the_library_stumbles_over_is_a_mistake(monkeypatch: pytest.MonkeyPatch):
    def stumble(*args: object) -> None:
        raise RecursionError

    monkeypatch.setattr(spf_query.spf.query, "check1", stumble)
    found = (await check()).sender
    assert (found.result, found.reason) == (Result.PERMERROR, "unreadable (RecursionError)")


async def test_addresses_that_are_none_are_a_mistake():
    resolver = FakeResolver({"r.example": {"TXT": ["v=spf1 a -all"], "A": ["not an address"]}})
    assert (await check("<a@r.example>", resolver=resolver)).sender.result is Result.PERMERROR
