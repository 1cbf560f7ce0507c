"""Reverse DNS: a name that leads back, one that does not, none, and no answer (RFC 8601 §3)."""

import ipaddress

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_bed import PEER, bed, client

from elemta.dns import Answer, Iprev, RecordKind, Resolver, Status, look_up_reverse
from elemta.mail import Identity
from elemta.testing.dns import FakeResolver

ADDRESS = ipaddress.ip_address(PEER)
POINTER = "7.2.0.192.in-addr.arpa"
GOOD = {POINTER: {"PTR": ["host.example."]}, "host.example": {"A": [PEER]}}


async def look_up(zone, address=ADDRESS, **options):
    return await look_up_reverse(FakeResolver(zone, **options), address, seconds=5.0)


async def test_a_name_that_leads_back_is_confirmed():
    found = await look_up(GOOD)
    assert (found.result, found.name) == (Iprev.PASS, "host.example")
    assert found.finding() == "pass: host.example"


async def test_ipv6_goes_by_nibbles_and_aaaa():
    address = ipaddress.ip_address("2001:db8::1")
    zone = {address.reverse_pointer: {"PTR": ["six.example"]}, "six.example": {"AAAA": ["2001:0db8:0::1"]}}
    assert (await look_up(zone, address)).name == "six.example"


async def test_the_first_of_several_names_that_leads_back_counts():
    zone = {
        POINTER: {"PTR": ["wrong.example", "right.example", "host.example"]},
        "wrong.example": {"A": ["192.0.2.8"]},
        "right.example": {"A": ["192.0.2.9", PEER]},
        "host.example": {"A": [PEER]},
    }
    assert (await look_up(zone)).name == "right.example"


@pytest.mark.parametrize(
    ("zone", "result"),
    [
        ({}, Iprev.PERMERROR),
        ({POINTER: {}}, Iprev.PERMERROR),
        ({POINTER: {"PTR": ["host.example"]}}, Iprev.FAIL),
        ({POINTER: {"PTR": ["host.example"]}, "host.example": {"AAAA": ["2001:db8::1"]}}, Iprev.FAIL),
        ({POINTER: {"PTR": ["host.example"]}, "host.example": {"A": ["192.0.2.8"]}}, Iprev.FAIL),
        # names that no host can have
        ({POINTER: {"PTR": ["not a host", "[192.0.2.7]", "192.0.2.7"]}}, Iprev.FAIL),
    ],
)
async def test_what_is_not_confirmed(zone, result):
    found = await look_up(zone)
    assert (found.result, found.name) == (result, "")


@pytest.mark.parametrize("failing", [POINTER, "host.example"])
async def test_no_answer_is_temporary(failing):
    found = await look_up(GOOD, failing=[failing])
    assert found.result is Iprev.TEMPERROR


@pytest.mark.parametrize("late", [POINTER, "host.example"])
async def test_a_late_answer_is_temporary(late, autojump_clock):
    started = trio.current_time()
    found = await look_up(GOOD, delays={late: 60.0})
    assert found.result is Iprev.TEMPERROR
    assert trio.current_time() - started == 5.0


async def test_one_name_that_leads_back_is_enough_though_another_is_late(autojump_clock):
    zone = {**GOOD, POINTER: {"PTR": ["slow.example", "host.example"]}}
    found = await look_up(zone, delays={"slow.example": 60.0})
    assert (found.result, found.name) == (Iprev.PASS, "host.example")


async def test_only_so_many_names_are_tried():
    names = [f"host{number}.example" for number in range(50)]
    resolver = FakeResolver({POINTER: {"PTR": names}})
    found = await look_up_reverse(resolver, ADDRESS, seconds=5.0)
    assert len(resolver.queries) == 11
    assert len(found.unconfirmed) == 10


class HostileResolver(Resolver):
    def __init__(self, records):
        self._records = records

    async def query(self, name, kind):
        await trio.lowlevel.checkpoint()
        return Answer(Status.OK, self._records)


@settings(deadline=None)  # each example is a run of Trio
@given(st.lists(st.text(max_size=300), max_size=30))
def test_whatever_a_name_is_it_is_no_crash(names):
    found = trio.run(lambda: look_up_reverse(HostileResolver(tuple(names)), ADDRESS, seconds=5.0))
    assert found.name.isascii()
    assert all(name.isprintable() for name in found.unconfirmed)


# --- At the gate -------------------------------------------------------------------------------------------


def section(action, more=""):
    return f'[policy.reverse_dns]\naction = "{action}"\n{more}\n'


async def test_a_client_without_a_name_is_refused_at_its_first_recipient():
    # RFC 7372 §3.3
    step, refusal = await bed(section("refuse")).meet(client())
    assert step == "recipient"
    assert str(refusal.reply).startswith("550 5.7.25 ")
    assert refusal.reason == "reverse-dns: permerror"


async def test_or_at_once():
    _, refusal = await bed('[policy]\nrefuse_at = "once"\n' + section("refuse")).meet(client())
    assert str(refusal.reply).startswith("554 5.7.25 ")


async def test_while_dns_does_not_answer_it_is_only_deferred():
    _, refusal = await bed(section("refuse"), failing=[POINTER]).meet(client())
    assert str(refusal.reply).startswith("450 4.7.25 ")
    _, refusal = await bed(section("defer")).meet(client())
    assert refusal.reply.code == 450


async def test_a_name_that_leads_back_is_kept_and_is_no_event():
    dossier = client()
    assert await bed(section("refuse"), GOOD).meet(dossier) is None
    assert dossier.reverse_name == "host.example"
    assert dossier.notes["reverse-dns"] == "pass: host.example"
    assert dossier.take_fresh_notes() == {}


async def test_where_any_name_will_do():
    zone = {POINTER: {"PTR": ["host.example"]}}
    dossier = client()
    assert await bed(section("refuse", 'require = "name"'), zone).meet(dossier) is None
    assert dossier.reverse_name == ""
    assert dossier.take_fresh_notes() == {"reverse-dns": "fail: host.example"}
    _, refusal = await bed(section("refuse", 'require = "name"')).meet(client())
    assert refusal.reply.code == 550


async def test_note_and_off():
    dossier = client()
    assert await bed(section("note")).meet(dossier) is None
    assert dossier.take_fresh_notes() == {"reverse-dns": "permerror"}
    gates = bed(section("off"))
    assert await gates.meet(client()) is None
    assert gates.resolver.queries == []


async def test_reverse_dns_and_lists_are_asked_at_the_same_time(autojump_clock):
    text = (
        section("note")
        + '[policy.dns_lists]\naction = "note"\n[[policy.dns_lists.zones]]\nzone = "bl.example"\n'
    )
    gates = bed(text, GOOD, delays={POINTER: 2.0, "7.2.0.192.bl.example": 2.0})
    started = trio.current_time()
    await gates.gate.connected(client())
    assert trio.current_time() - started == 2.0


async def test_of_two_refusals_at_once_one_is_given():
    text = '[policy]\nrefuse_at = "once"\n' + section("refuse")
    text += '[policy.dns_lists]\naction = "refuse"\n[[policy.dns_lists.zones]]\nzone = "bl.example"\n'
    zone = {"7.2.0.192.bl.example": {"A": ["127.0.0.2"]}}
    _, refusal = await bed(text, zone).meet(client())
    assert refusal.reason.startswith("dns-lists")
    _, refusal = await bed(text).meet(client())
    assert refusal.reason.startswith("reverse-dns")


async def test_the_authenticated_are_exempt():
    dossier = client()
    gates = bed(section("refuse"))
    await gates.gate.connected(dossier)
    dossier.identity = Identity("alice", "PLAIN")
    assert await gates.send(dossier) is None


async def test_a_client_without_an_address_is_not_judged():
    gates = bed(section("refuse"))
    assert await gates.meet(client("local")) is None
    assert gates.resolver.queries == []


async def test_kinds_of_questions():
    gates = bed(section("note"), GOOD)
    await gates.gate.connected(client())
    assert gates.resolver.queries == [(POINTER, RecordKind.PTR), ("host.example", RecordKind.A)]
