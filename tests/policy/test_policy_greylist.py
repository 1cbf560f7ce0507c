"""Greylisting: who was never here must come again; who did is known (RFC 6647)."""

import math
import struct

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_bed import bed, client, mailbox, path

from elemta.mail import Identity

ON = '[policy.greylist]\naction = "defer"\n'
DAY = 86400.0


async def attempt(gates, dossier=None, sender="<s@sender.example>", to="r@example.org"):
    """One message; the seconds in the refusal, or None where it was taken."""
    outcome = await gates.send(dossier or client(), sender, to)
    if outcome is None:
        return None
    step, refusal = outcome
    assert step == "recipient"
    assert (refusal.reply.code, refusal.reply.enhanced_text) == (451, "4.7.1")
    assert refusal.reason.startswith("greylist: may come again in ")
    return int(refusal.reply.text.split()[-2])


async def test_a_stranger_must_come_again_after_the_delay():
    gates = bed(ON)
    assert await attempt(gates) == 300
    gates.clock.now += 100.5
    assert await attempt(gates) == 200  # rounded up: 199.5 s are left
    gates.clock.now += 199.5
    dossier = client()
    assert await attempt(gates, dossier) is None
    assert dossier.notes["greylist"] == "came again after 300 s"


async def test_who_came_again_is_known_for_long():
    gates = bed(ON)
    await attempt(gates)
    gates.clock.now += 301
    assert await attempt(gates) is None
    for _ in range(3):
        gates.clock.now += 35 * DAY
        dossier = client()
        assert await attempt(gates, dossier) is None
        assert dossier.notes == {}
    gates.clock.now += 37 * DAY
    assert await attempt(gates) == 300


async def test_who_comes_again_too_late_begins_anew():
    gates = bed(ON)
    await attempt(gates)
    gates.clock.now += 2 * DAY
    assert await attempt(gates) == 300


async def test_another_sender_recipient_or_network_waits_for_itself():
    gates = bed(ON)
    await attempt(gates)
    gates.clock.now += 301
    assert await attempt(gates, sender="<other@sender.example>") == 300
    assert await attempt(gates, sender="<s@elsewhere.example>") == 300
    assert await attempt(gates, sender="<>") == 300
    assert await attempt(gates, to="other@example.org") == 300
    assert await attempt(gates, client("192.0.3.7")) == 300
    assert await attempt(gates) is None


@pytest.mark.parametrize(
    ("first", "then"),
    [("192.0.2.7", "192.0.2.200"), ("192.0.2.7", "::ffff:192.0.2.9"), ("2001:db8::1", "2001:db8::ffff:1")],
)
async def test_a_sender_may_come_again_from_another_host_of_its_network(first, then):
    gates = bed(ON)
    await attempt(gates, client(first))
    gates.clock.now += 301
    assert await attempt(gates, client(then)) is None


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("<bounce-1234-r=example.org@list.example>", "<bounce-1235-r=example.org@list.example>"),
        ("<SRS0=HHH=TT=a.example=u@fwd.example>", "<srs0=III=UU=a.example=u@fwd.example>"),
        ("<user+tag1@sender.example>", "<user+tag2@sender.example>"),
        ("<S@Sender.Example>", "<s@sender.example>"),
    ],
)
async def test_what_changes_with_each_message_is_not_looked_at(first, then):
    gates = bed(ON)
    await attempt(gates, sender=first)
    gates.clock.now += 301
    assert await attempt(gates, sender=then) is None


async def test_a_client_that_came_again_often_is_no_longer_asked_to():
    gates = bed(ON + "clients_after = 3\n")
    for number in range(3):
        assert await attempt(gates, to=f"r{number}@example.org") == 300
        gates.clock.now += 301
        assert await attempt(gates, to=f"r{number}@example.org") is None
    assert await attempt(gates, to="new@example.org") is None
    assert await attempt(gates, client("192.0.2.99"), to="newer@example.org") is None
    assert await attempt(gates, client("192.0.3.7"), to="newer@example.org") == 300
    gates.clock.now += 35 * DAY
    assert await attempt(gates, to="newest@example.org") is None  # and that is remembered anew
    gates.clock.now += 35 * DAY
    assert await attempt(gates, to="still@example.org") is None


async def test_only_messages_that_were_stored_count_for_a_client():
    gates = bed(ON + "clients_after = 1\n")
    await attempt(gates)
    gates.clock.now += 301
    dossier = client()
    assert await gates.gate.sender(dossier, path()) is None
    assert await gates.gate.recipient(dossier, path(), mailbox()) is None
    # no body came; the next transaction is another matter
    assert await gates.gate.sender(dossier, path()) is None
    gates.gate.accepted(dossier, 1)
    assert await attempt(gates, to="new@example.org") == 300


async def test_one_message_counts_once_however_many_recipients_it_has():
    gates = bed(ON + "clients_after = 2\n")
    for round_ in range(2):
        dossier = client()
        await gates.gate.sender(dossier, path())
        for number in range(5):
            refusal = await gates.gate.recipient(dossier, path(), mailbox(f"r{number}@example.org"))
            assert (refusal is None) == (round_ == 1)
        gates.clock.now += 301
    gates.gate.accepted(dossier, 5)
    gates.gate.accepted(dossier, 5)
    assert await attempt(gates, to="new@example.org") == 300


async def test_clients_may_always_be_asked():
    gates = bed(ON + "clients_after = 0\n")
    for number in range(8):
        assert await attempt(gates, to=f"r{number}@example.org") == 300
        gates.clock.now += 301
        assert await attempt(gates, to=f"r{number}@example.org") is None
    assert await attempt(gates, to="new@example.org") == 300


@pytest.mark.parametrize("exempt", [{"trusted": True}, {"identity": Identity("alice", "PLAIN")}])
async def test_who_is_exempt(exempt):
    gates = bed(ON)
    assert await attempt(gates, client(**exempt)) is None
    assert gates.memo.entries == {}


async def test_the_postmaster_can_always_be_reached():
    gates = bed(ON)
    assert await attempt(gates, to="postmaster@example.org") is None


async def test_who_is_vouched_for_need_not_come_again():
    text = (
        ON
        + '[policy.dns_lists]\naction = "note"\n[[policy.dns_lists.zones]]\nzone = "good.example"\nweight = -1\n'
    )
    zone = {"7.2.0.192.good.example": {"A": ["127.0.5.1"]}}
    assert await bed(text, zone).meet(client()) is None
    assert (await bed(text).meet(client()))[1].reply.code == 451


async def test_note_and_off():
    gates = bed('[policy.greylist]\naction = "note"\n')
    dossier = client()
    assert await attempt(gates, dossier) is None
    assert dossier.take_fresh_notes() == {"greylist": "may come again in 300 s"}
    gates = bed()
    assert await attempt(gates) is None
    assert gates.memo.entries == {}


async def test_when_nothing_can_be_looked_up_in_time_all_pass(autojump_clock):
    gates = bed(ON)
    gates.memo.delay = 60.0
    started = trio.current_time()
    dossier = client()
    assert await attempt(gates, dossier) is None
    assert trio.current_time() - started == 2.0
    assert dossier.notes["greylist"] == "what is known could not be looked up in time"
    assert gates.memo.puts == 0


async def test_a_cancelled_look_up_remembers_nothing(autojump_clock):
    gates = bed(ON)
    gates.memo.delay = 1.0
    with trio.move_on_after(0.5):
        await attempt(gates)
    assert gates.memo.entries == {}


async def test_a_clock_that_is_set_back_makes_nobody_wait_longer_than_the_delay():
    gates = bed(ON)
    await attempt(gates)
    gates.clock.now -= 100 * DAY
    assert await attempt(gates) == 300
    gates.clock.now += 301
    assert await attempt(gates) is None
    gates.clock.now -= 100 * DAY
    assert await attempt(gates) is None


async def test_what_is_known_is_not_written_again_for_each_message():
    gates = bed(ON + "clients_after = 0\n")
    await attempt(gates)
    gates.clock.now += 301
    await attempt(gates)
    written = gates.memo.puts
    for _ in range(10):
        gates.clock.now += 3600
        assert await attempt(gates) is None
    assert gates.memo.puts == written


async def test_keys_are_digests_of_what_strangers_sent():
    gates = bed(ON)
    await attempt(gates, sender='<"' + "x" * 60 + '"@sender.example>')
    (key,) = gates.memo.entries
    assert key.startswith("greylist/")
    assert len(key) == len("greylist/") + 32


@settings(deadline=None)  # each example is a run of Trio
@given(
    st.binary(max_size=40)
    | st.builds(lambda c, t: struct.pack(">cd", c, t), st.sampled_from([b"w", b"p", b"x"]), st.floats())
)
def test_whatever_is_in_the_memo_is_no_crash(value):
    async def main():
        gates = bed(ON)
        await attempt(gates)
        for key in [*gates.memo.entries, *(f"greylist/client/{key[9:]}" for key in gates.memo.entries)]:
            gates.memo.entries[key] = (value, math.inf)
        left = await attempt(gates)
        assert left is None or 0 < left <= 300

    trio.run(main)
