"""DNS lists: weights, what never counts, what is late; RFC 5782."""

import ipaddress

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_bed import PEER, PEER_LABELS, bed, client, config, path

from elemta.config import ListenerRole
from elemta.dns import Answer, RecordKind, Resolver, Status
from elemta.mail import Identity, parse_domain
from elemta.policy.lists import DnsLists
from elemta.testing.dns import FakeResolver

ADDRESS = ipaddress.ip_address(PEER)
# RFC 5782 §5: each list has 127.0.0.2 and none has 127.0.0.1
SOUND = {"2.0.0.127.bl.example": {"A": ["127.0.0.2"]}}


def lists_of(zones, resolver, *, domains=False, more="", section="dns_lists"):
    text = f'[policy.{section}]\naction = "refuse"\n{more}\n'
    for zone in zones:
        text += f"[[policy.{section}.zones]]\n{zone}\n"
    return DnsLists(getattr(config(text).policy, section), resolver, domains=domains)


def resolver_of(answers, *more, **options):
    """A resolver with a sound list bl.example that answers so for the peer."""
    zone = {**SOUND, f"{PEER_LABELS}.bl.example": {"A": list(answers)}}
    for other in more:
        zone.update(other)
    return FakeResolver(zone, **options)


async def test_an_address_that_is_listed_has_the_weight_of_the_list():
    lists = lists_of(['zone = "bl.example"\nweight = 3'], resolver_of(["127.0.0.2"]))
    listing = await lists.look_up_address(ADDRESS)
    assert listing.score == 3
    assert listing.finding() == "score 3: bl.example (127.0.0.2)"
    assert listing.blamed() == "bl.example"


async def test_an_address_that_is_not_listed_has_none():
    lists = lists_of(['zone = "bl.example"'], FakeResolver(SOUND))
    listing = await lists.look_up_address(ADDRESS)
    assert (listing.score, listing.hits, listing.unanswered) == (0, (), ())
    assert listing.finding() == "not listed"


async def test_weights_add_up_and_allow_lists_take_away():
    resolver = resolver_of(
        ["127.0.0.4"],
        {
            f"{PEER_LABELS}.two.example": {"A": ["127.0.0.2"]},
            f"{PEER_LABELS}.good.example": {"A": ["127.0.10.1"]},
        },
    )
    zones = ['zone = "bl.example"\nweight = 2', 'zone = "two.example"', 'zone = "good.example"\nweight = -5']
    listing = await lists_of(zones, resolver).look_up_address(ADDRESS)
    assert listing.score == -2
    assert listing.blamed() == "bl.example, two.example"  # the good one does not blame


async def test_one_list_may_have_several_rules_and_is_asked_once():
    resolver = resolver_of(["127.0.0.4", "127.0.0.10", "127.0.0.10"])
    zones = [
        'zone = "bl.example"\nweight = 4\nanswers = ["127.0.0.2-127.0.0.7"]',
        'zone = "bl.example"\nweight = 1\nanswers = ["127.0.0.10", "127.0.0.11"]',
        'zone = "bl.example"\nweight = 9\nanswers = ["127.0.1.0/24"]',
    ]
    listing = await lists_of(zones, resolver).look_up_address(ADDRESS)
    assert listing.score == 5
    (hit,) = listing.hits
    assert hit.answers == ("127.0.0.4", "127.0.0.10")
    assert resolver.queries.count((f"{PEER_LABELS}.bl.example", RecordKind.A)) == 1


@pytest.mark.parametrize(
    ("answers", "counts"),
    [
        (["127.0.0.2"], True),
        (["127.0.0.254"], True),
        (["127.0.0.3", "127.255.255.254"], True),  # listed, whatever else it says
        # codes for errors: a list says that it does not answer us
        (["127.255.255.252"], False),
        (["127.255.255.254"], False),
        (["127.255.255.255"], False),
        (["127.255.255.0"], False),
        (["127.0.0.1"], False),
        (["127.0.0.255"], False),
        (["127.0.1.255"], False),
        # not from a list at all (RFC 5782 §2.1): a parked domain answers with its web server
        (["203.0.113.80"], False),
        (["128.0.0.2"], False),
        (["0.0.0.0"], False),
        (["not an address"], False),
        (["::1"], False),
        ([], False),
    ],
)
async def test_which_answers_mean_listed(answers, counts):
    listing = await lists_of(['zone = "bl.example"'], resolver_of(answers)).look_up_address(ADDRESS)
    assert bool(listing.hits) is counts


async def test_error_codes_never_count_even_within_a_range_that_was_asked_for():
    lists = lists_of(['zone = "bl.example"\nanswers = ["127.0.0.0/8"]'], resolver_of(["127.255.255.254"]))
    listing = await lists.look_up_address(ADDRESS)
    assert listing.hits == ()
    assert listing.unanswered == ("bl.example",)
    assert lists.statistics()[0].refused == 1


async def test_odd_answers_count_where_they_were_asked_for_by_name():
    lists = lists_of(['zone = "bl.example"\nanswers = ["127.0.0.255"]'], resolver_of(["127.0.0.255"]))
    listing = await lists.look_up_address(ADDRESS)
    assert listing.score == 1
    assert listing.unanswered == ()


async def test_a_list_that_lists_everything_is_not_believed():
    wild = {"1.0.0.127.bl.example": {"A": ["127.0.0.2"]}}
    lists = lists_of(['zone = "bl.example"'], resolver_of(["127.0.0.2"], wild))
    listing = await lists.look_up_address(ADDRESS)
    assert listing.score == 0
    (statistics,) = lists.statistics()
    assert not statistics.sound
    assert not statistics.mute


async def test_a_list_whose_test_point_cannot_be_seen_does_not_count_until_it_can():
    resolver = resolver_of(["127.0.0.2"], failing=["1.0.0.127.bl.example"])
    lists = lists_of(['zone = "bl.example"'], resolver)
    assert (await lists.look_up_address(ADDRESS)).score == 0
    resolver.failing.clear()
    assert (await lists.look_up_address(ADDRESS)).score == 0  # asked again only after a while


async def test_test_points_are_looked_at_now_and_then(autojump_clock):
    resolver = resolver_of(["127.0.0.2"])
    lists = lists_of(['zone = "bl.example"'], resolver)
    for _ in range(3):
        assert (await lists.look_up_address(ADDRESS)).score == 1
    assert resolver.queries.count(("1.0.0.127.bl.example", RecordKind.A)) == 1
    resolver.add("1.0.0.127.bl.example", "A", "127.0.0.2")  # the list goes mad
    await trio.sleep(601)
    assert (await lists.look_up_address(ADDRESS)).score == 0
    resolver.zone.pop("1.0.0.127.bl.example")
    await trio.sleep(601)
    assert (await lists.look_up_address(ADDRESS)).score == 1


async def test_what_was_known_of_a_list_stands_while_dns_gives_no_answer(autojump_clock):
    resolver = resolver_of(["127.0.0.2"])
    lists = lists_of(['zone = "bl.example"'], resolver)
    assert (await lists.look_up_address(ADDRESS)).score == 1
    resolver.failing.update({"1.0.0.127.bl.example", "2.0.0.127.bl.example"})
    await trio.sleep(601)
    assert (await lists.look_up_address(ADDRESS)).score == 1


async def test_a_list_without_its_own_test_point_is_told_of_and_counts():
    lists = lists_of(
        ['zone = "bl.example"'], FakeResolver({f"{PEER_LABELS}.bl.example": {"A": ["127.0.0.2"]}})
    )
    assert (await lists.look_up_address(ADDRESS)).score == 1
    assert lists.statistics()[0].mute


async def test_all_lists_are_asked_at_once_and_the_late_do_not_count(autojump_clock):
    zone = {}
    for number in range(10):
        zone[f"{PEER_LABELS}.bl{number}.example"] = {"A": ["127.0.0.2"]}
    delays = {f"{PEER_LABELS}.bl{number}.example": 0.5 * number for number in range(10)}
    resolver = FakeResolver(zone, delays=delays)
    lists = lists_of([f'zone = "bl{number}.example"' for number in range(10)], resolver)
    started = trio.current_time()
    listing = await lists.look_up_address(ADDRESS)
    # one list has 3 s: those with 0 to 2.5 s made it, and that with 3 s by a hair
    assert trio.current_time() - started == pytest.approx(3.0)
    assert listing.score in (6, 7)
    assert listing.unanswered[-3:] == ("bl7.example", "bl8.example", "bl9.example")


async def test_the_time_for_all_lists_is_bounded_too(autojump_clock):
    resolver = resolver_of(["127.0.0.2"], delays={f"{PEER_LABELS}.slow.example": 50.0})
    zones = config(list_section("refuse") + '[[policy.dns_lists.zones]]\nzone = "slow.example"\n')
    limited = attrs.evolve(zones.policy.dns_lists, timeout=1.0, lookup_timeout=30.0)
    lists = DnsLists(limited, resolver)
    started = trio.current_time()
    listing = await lists.look_up_address(ADDRESS)
    assert trio.current_time() - started == pytest.approx(1.0)
    assert listing.score == 1
    assert listing.unanswered == ("slow.example",)


async def test_a_list_that_fails_is_told_of():
    resolver = resolver_of(["127.0.0.2"], failing=[f"{PEER_LABELS}.bl.example"])
    lists = lists_of(['zone = "bl.example"'], resolver)
    listing = await lists.look_up_address(ADDRESS)
    assert listing.finding() == "no answer from bl.example"
    statistics = lists.statistics()[0]
    assert (statistics.asked, statistics.listed, statistics.unanswered) == (1, 0, 1)


async def test_ipv6_is_asked_by_nibbles():
    address = ipaddress.ip_address("2001:db8::2")
    labels = "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2"
    lists = lists_of(
        ['zone = "bl.example"'], FakeResolver({**SOUND, f"{labels}.bl.example": {"A": ["127.0.0.2"]}})
    )
    assert (await lists.look_up_address(address)).score == 1


async def test_lists_of_domains_have_test_points_of_their_own():
    resolver = FakeResolver(
        {"test.dbl.example": {"A": ["127.0.1.2"]}, "bad.example.dbl.example": {"A": ["127.0.1.4"]}}
    )
    lists = lists_of(['zone = "dbl.example"'], resolver, domains=True, section="domain_lists")
    listing = await lists.look_up_domain(parse_domain("bad.example"))
    assert listing.score == 1
    assert {name for name, _ in resolver.queries} == {
        "bad.example.dbl.example",
        "test.dbl.example",
        "invalid.dbl.example",
    }
    assert not lists.statistics()[0].mute


async def test_a_domain_too_long_to_be_asked_for_is_not_listed():
    lists = lists_of(['zone = "dbl.example"'], FakeResolver(), domains=True, section="domain_lists")
    domain = parse_domain(".".join(["a" * 60] * 4))
    assert (await lists.look_up_domain(domain)).hits == ()


class HostileResolver(Resolver):
    """Answers every question with whatever it was given."""

    def __init__(self, records):
        self._records = records

    async def query(self, name, kind):
        await trio.lowlevel.checkpoint()
        if name.startswith("1.0.0.127."):
            return Answer(Status.NXDOMAIN)
        return Answer(Status.OK, self._records)


@settings(deadline=None)  # each example is a run of Trio
@given(st.lists(st.one_of(st.text(), st.binary(), st.ip_addresses().map(str)), max_size=20))
def test_no_answer_is_a_crash_and_only_addresses_of_lists_count(records):
    async def main():
        listing = await lists_of(['zone = "bl.example"'], HostileResolver(tuple(records))).look_up_address(
            ADDRESS
        )
        for hit in listing.hits:
            assert all(
                text.startswith("127.") and not text.startswith("127.255.255.") for text in hit.answers
            )
            assert len(hit.answers) <= 4
        return listing

    trio.run(main)


# --- At the gate -------------------------------------------------------------------------------------------

LISTED = {**SOUND, f"{PEER_LABELS}.bl.example": {"A": ["127.0.0.2"]}}


def list_section(action, *, more="", zone='zone = "bl.example"', section="dns_lists"):
    return f'[policy.{section}]\naction = "{action}"\n{more}\n[[policy.{section}.zones]]\n{zone}\n'


async def test_a_listed_client_is_refused_at_its_first_recipient():
    # so it may still authenticate, and the log knows whom the mail was for
    gates = bed(list_section("refuse"), LISTED)
    step, refusal = await gates.meet(client())
    assert step == "recipient"
    assert str(refusal.reply) == "550 5.7.1 your address is listed by bl.example"
    assert refusal.reason == "dns-lists: score 1: bl.example (127.0.0.2)"
    assert gates.gate.statistics().refused == {"dns-lists": 1}


async def test_or_at_once_in_place_of_the_banner():
    # RFC 5321 §3.1: 554 is the only refusal there
    gates = bed('[policy]\nrefuse_at = "once"\n' + list_section("refuse"), LISTED)
    step, refusal = await gates.meet(client())
    assert step == "connect"
    assert str(refusal.reply) == "554 5.7.1 your address is listed by bl.example"


async def test_or_deferred():
    gates = bed(list_section("defer"), LISTED)
    _, refusal = await gates.meet(client())
    assert str(refusal.reply) == "450 4.7.1 your address is listed by bl.example"
    gates = bed('[policy]\nrefuse_at = "once"\n' + list_section("defer"), LISTED)
    _, refusal = await gates.meet(client())
    assert refusal.reply.code == 421


async def test_or_only_noted():
    gates = bed(list_section("note"), LISTED)
    dossier = client()
    assert await gates.meet(dossier) is None
    assert dossier.take_fresh_notes() == {"dns-lists": "score 1: bl.example (127.0.0.2)"}
    assert dossier.listed_score == 1


async def test_or_not_asked_at_all():
    gates = bed(list_section("off"), LISTED)
    dossier = client()
    assert await gates.meet(dossier) is None
    assert gates.resolver.queries == []
    assert dossier.notes == {}


async def test_below_the_threshold_nobody_is_refused():
    more = '[[policy.dns_lists.zones]]\nzone = "two.example"\n'
    gates = bed(list_section("refuse", more="threshold = 2") + more, LISTED)
    dossier = client()
    assert await gates.meet(dossier) is None
    assert "dns-lists" in dossier.notes


async def test_the_reply_has_the_name_of_the_list_where_its_zone_is_a_secret():
    zone = {
        "2.0.0.127.k3y.dq.example": {"A": ["127.0.0.2"]},
        f"{PEER_LABELS}.k3y.dq.example": {"A": ["127.0.0.2"]},
    }
    gates = bed(list_section("refuse", zone='zone = "k3y.dq.example"\nname = "DQ"'), zone)
    _, refusal = await gates.meet(client())
    assert refusal.reply.text == "your address is listed by DQ"
    assert "k3y" not in refusal.reason


async def test_lists_that_do_not_answer_let_everybody_pass(autojump_clock):
    gates = bed(list_section("refuse"), LISTED, delays={f"{PEER_LABELS}.bl.example": 100.0})
    dossier = client()
    assert await gates.meet(dossier) is None
    assert dossier.notes["dns-lists"] == "no answer from bl.example"
    assert dossier.take_fresh_notes() == {}
    assert gates.gate.statistics().lists[0].unanswered == 1


@pytest.mark.parametrize(
    "exempt",
    [
        {"trusted": True},
        {"identity": Identity("alice", "PLAIN")},
        {"role": ListenerRole.SUBMISSION},
        {"role": ListenerRole.LMTP},
    ],
)
async def test_who_is_exempt_from_lists(exempt):
    gates = bed(list_section("refuse"), LISTED)
    assert await gates.meet(client(**exempt)) is None
    assert gates.resolver.queries == []


async def test_networks_may_be_exempt_and_mapped_ipv6_is_the_ipv4_that_it_stands_for():
    gates = bed('[policy]\nexempt = ["192.0.2.0/24"]\n' + list_section("refuse"), LISTED)
    assert await gates.meet(client("::ffff:192.0.2.7")) is None
    gates = bed('[policy]\nexempt = ["::/1", "198.51.100.0/24"]\n' + list_section("refuse"), LISTED)
    assert await gates.meet(client("::ffff:192.0.2.7")) is not None


async def test_a_client_that_authenticates_after_all_is_not_refused():
    gates = bed(list_section("refuse"), LISTED)
    dossier = client()
    assert await gates.gate.connected(dossier) is None
    dossier.identity = Identity("alice", "PLAIN")
    assert await gates.send(dossier) is None


@pytest.mark.parametrize("to", ["postmaster@example.org", "Postmaster@example.org"])
async def test_the_postmaster_can_be_reached_by_who_is_listed(to):
    # RFC 5321 §4.5.1
    gates = bed(list_section("refuse"), LISTED)
    assert await gates.meet(client(), to=to) is None
    dossier = client()
    await gates.gate.connected(dossier)
    assert await gates.gate.recipient(dossier, path(), None) is None


async def test_a_configured_postmaster_can_be_reached_too():
    gates = bed(list_section("refuse"), LISTED)
    other = config(list_section("refuse"))
    gates.gate.replace(attrs.evolve(other, postmaster="Boss@Example.org"))
    assert await gates.meet(client(), to="boss@example.org") is None


async def test_a_sender_whose_domain_is_listed_is_refused_and_the_next_is_not():
    zone = {"test.dbl.example": {"A": ["127.0.1.2"]}, "bad.example.dbl.example": {"A": ["127.0.1.2"]}}
    text = list_section("refuse", section="domain_lists", zone='zone = "dbl.example"')
    gates = bed(text, zone)
    dossier = client()
    step, refusal = await gates.meet(dossier, "<a@bad.example>")
    assert step == "recipient"
    assert str(refusal.reply) == "550 5.7.1 the domain of the sender is listed by dbl.example"
    assert await gates.send(dossier, "<a@good.example>") is None
    asked = len(gates.resolver.queries)
    assert await gates.send(dossier, "<>") is None
    assert await gates.send(dossier, "<a@[192.0.2.1]>") is None
    assert len(gates.resolver.queries) == asked


async def test_a_reload_keeps_what_is_known_of_lists_that_stay():
    text = list_section("note")
    gates = bed(text, LISTED)
    await gates.meet(client())
    gates.gate.replace(config(text))
    assert gates.gate.statistics().lists[0].asked == 1
    gates.gate.replace(config(list_section("refuse")))
    assert gates.gate.statistics().lists[0].asked == 0
    assert await gates.meet(client()) is not None
