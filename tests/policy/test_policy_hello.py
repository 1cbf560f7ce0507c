"""The name in HELO and EHLO: our own, somebody else's address, half a name, nobody's name."""

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_bed import bed, client

from elemta.config import ListenerRole
from elemta.mail import Identity

ALL = '[policy.hello]\nown_name = "refuse"\naddress_literal = "refuse"\nunqualified = "refuse"\n'
RESOLVE = '[policy.hello]\nunresolvable = "refuse"\n'


async def judged(text, name, peer="192.0.2.7", zone=None, **resolver):
    """What becomes of a first recipient after that name: the refusal, and the note."""
    gates = bed(text, zone, **resolver)
    dossier = client(peer)
    assert await gates.gate.hello(dossier, name) is None
    assert dossier.hello == name
    outcome = await gates.send(dossier)
    return (None if outcome is None else outcome[1]), dossier.notes.get("hello", "")


@pytest.mark.parametrize(
    ("name", "peer", "note"),
    [
        ("mx.example.org", "192.0.2.7", "our own name"),
        ("MX.Example.ORG", "192.0.2.7", "our own name"),
        ("[192.0.2.8]", "192.0.2.7", "the address [192.0.2.8] is not the client's"),
        ("[IPv6:2001:db8::1]", "192.0.2.7", "the address [IPv6:2001:db8::1] is not the client's"),
        ("[tag:content]", "192.0.2.7", "the address [tag:content] is not the client's"),
        ("localhost", "192.0.2.7", "localhost is not a full name"),
        ("b\xfccher", "192.0.2.7", "xn--bcher-kva is not a full name"),
        ("not a name", "192.0.2.7", "not a name"),
    ],
)
async def test_names_that_are_refused(name, peer, note):
    refusal, found = await judged(ALL, name, peer)
    assert found == note
    assert str(refusal.reply) == "550 5.7.1 the name that you gave is not accepted"
    assert refusal.reason == f"hello: {note}"


@pytest.mark.parametrize(
    ("name", "peer"),
    [
        ("client.example", "192.0.2.7"),
        ("b\xfccher.example", "192.0.2.7"),
        ("[192.0.2.7]", "192.0.2.7"),
        ("[192.0.2.7]", "::ffff:192.0.2.7"),
        ("[IPv6:::ffff:192.0.2.7]", "192.0.2.7"),
        ("[IPv6:2001:db8:0::7]", "2001:db8::7"),
        ("mx.example.org.evil.example", "192.0.2.7"),
    ],
)
async def test_names_that_are_not(name, peer):
    refusal, found = await judged(ALL, name, peer)
    assert (refusal, found) == (None, "")


async def test_as_it_is_configured_by_default_they_are_only_noted():
    # RFC 5321 §4.1.4: a name that does not match is no reason to refuse mail
    for name in ("mx.example.org", "[192.0.2.8]", "localhost"):
        refusal, found = await judged("", name)
        assert refusal is None
        assert found


async def test_each_check_may_be_off():
    text = '[policy.hello]\nown_name = "off"\naddress_literal = "off"\nunqualified = "off"\n'
    for name in ("mx.example.org", "[192.0.2.8]", "localhost", "not a name"):
        assert await judged(text, name) == (None, "")


@pytest.mark.parametrize(
    "zone",
    [
        {"client.example": {"A": ["192.0.2.1"]}},
        {"client.example": {"AAAA": ["2001:db8::1"]}},
        {"client.example": {"MX": [(10, "mx.client.example")]}},
    ],
)
async def test_a_name_that_has_an_address_or_an_mx_resolves(zone):
    assert await judged(RESOLVE, "client.example", zone=zone) == (None, "")


async def test_one_record_is_enough_whatever_the_others_do(autojump_clock):
    gates = bed(RESOLVE, {"client.example": {"A": ["192.0.2.1"]}}, failing=[("client.example", "MX")])
    dossier = client()
    await gates.gate.hello(dossier, "client.example")
    assert dossier.notes == {}


async def test_a_name_that_nobody_has_is_refused():
    refusal, found = await judged(RESOLVE, "client.example")
    assert found == "client.example has no address and no MX"
    assert refusal.reply.code == 550


async def test_while_dns_does_not_answer_it_is_only_deferred():
    refusal, found = await judged(RESOLVE, "client.example", failing=[("client.example", "MX")])
    assert found == "no answer about client.example"
    assert str(refusal.reply) == "450 4.7.1 the name that you gave is not accepted for now"


async def test_a_late_answer_is_none(autojump_clock):
    started = trio.current_time()
    refusal, _ = await judged(RESOLVE, "client.example", delays={"client.example": 100.0})
    assert refusal.reply.code == 450
    assert trio.current_time() - started == 5.0


async def test_at_once_it_is_the_answer_to_the_command():
    gates = bed('[policy]\nrefuse_at = "once"\n' + ALL)
    refusal = await gates.gate.hello(client(), "localhost")
    assert refusal.reply.code == 550


async def test_a_better_name_makes_it_good():
    gates = bed(ALL)
    dossier = client()
    await gates.gate.hello(dossier, "localhost")
    await gates.gate.hello(dossier, "client.example")
    assert await gates.send(dossier) is None


@pytest.mark.parametrize(
    "exempt", [{"trusted": True}, {"identity": Identity("alice", "PLAIN")}, {"role": ListenerRole.SUBMISSION}]
)
async def test_who_is_exempt(exempt):
    gates = bed(ALL)
    dossier = client(**exempt)
    assert await gates.gate.hello(dossier, "localhost") is None
    assert dossier.hello == "localhost"
    assert dossier.notes == {}
    assert await gates.send(dossier) is None


@settings(deadline=None)  # each example is a run of Trio
@given(st.text(max_size=300))
def test_any_name_is_judged_without_a_crash_and_noted_safely(name):
    _, found = trio.run(judged, ALL, name)
    assert found.isprintable()
