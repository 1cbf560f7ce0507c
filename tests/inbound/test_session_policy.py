"""What the policy is asked at which step, and what becomes of its verdicts."""

import pytest
import trio
from inbound_bed import FRIEND, STRANGER, FakeSpool, make_config, open_bed
from inbound_fakes import PLAIN_ALICE, FakeAuthenticator, FakeGate

from elemta.config import ListenerAuth, ListenerTls
from elemta.events import CommandRejected, SessionClosed, SessionNoted
from elemta.mail import Reply

NO = Reply.of(550, "5.7.1", "no")
LATER = Reply.of(450, "4.7.1", "later")


async def test_each_step_is_asked_about_in_its_order(autojump_clock):
    gate = FakeGate()
    async with open_bed(spool=FakeSpool(), gate=gate) as bed:
        client = bed.dial(port=1234)
        await client.hello()
        await client.begin(recipients=["b@ours.example", "c@ours.example", "b@ours.example"])
        assert (await client.say("RCPT TO:<v@foreign.example>"))[:3] == "550"
        assert (await client.say("RCPT TO:<postmaster>"))[:3] == "250"
        await client.data()
        assert gate.asked == [
            ("connected", STRANGER),
            ("hello", "client.example"),
            ("sender", "<a@else.example>"),
            ("recipient", "<a@else.example>", "b@ours.example"),
            ("recipient", "<a@else.example>", "c@ours.example"),
            ("recipient", "<a@else.example>", None),  # neither what is a repetition nor what is no relay
            ("accepted", 3),
        ]
        [dossier] = gate.clients
        assert (dossier.peer, dossier.port, dossier.listener) == (STRANGER, 1234, "test")
        assert dossier.hello == "client.example"


async def test_relay_networks_are_not_asked_about(autojump_clock):
    gate = FakeGate(delay=10)
    gate.refuse("connected", NO)
    async with open_bed(spool=FakeSpool(), gate=gate) as bed:
        client = bed.dial(FRIEND)
        await client.hello()
        assert gate.asked == []
        assert trio.current_time() == 0


@pytest.mark.parametrize(
    ("reply", "line"),
    [
        (Reply.of(554, "5.7.1", "not you"), "554 mx.ours.example not you"),
        (Reply.of(421, "4.7.0", "not now"), "421 mx.ours.example not now"),
    ],
)
async def test_a_client_that_is_not_welcome_is_told_in_place_of_the_greeting(
    autojump_clock, reply: Reply, line: str
):
    gate = FakeGate()
    gate.refuse("connected", reply)
    async with open_bed(spool=FakeSpool(), gate=gate) as bed:
        client = bed.dial()
        assert await client.line() == line  # RFC 5321 §3.1; RFC 2034 §4: without an enhanced code
        if reply.code == 554:  # RFC 5321 §3.1: it waits for QUIT, and for nothing else
            assert (await client.say("NOOP"))[:3] == "503"
            assert (await client.say("QUIT"))[:3] == "221"
        assert await client.line() == ""
        rejected = bed.seen(CommandRejected)[0]
        assert (rejected.verb, rejected.reason) == ("CONNECT", "test: connected")
        assert bed.seen(SessionClosed)[0].cause == "policy"


async def test_a_client_that_is_not_welcome_and_does_not_leave_is_shown_out(autojump_clock):
    gate = FakeGate()
    gate.refuse("connected", Reply.of(554, "5.7.1", "not you"))
    async with open_bed(spool=FakeSpool(), gate=gate) as bed:
        client = bed.dial()
        assert await client.line() == "554 mx.ours.example not you"
        assert (await client.line())[:9] == "421 4.4.2"
        assert trio.current_time() == 60


async def test_a_refused_hello_leaves_everything_as_it_was(autojump_clock):
    gate = FakeGate()
    async with open_bed(spool=FakeSpool(), gate=gate) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        gate.refuse("hello", NO)
        assert await client.say("EHLO bad.example") == "550 no"  # RFC 2034 §4
        assert (await client.data())[:3] == "250"  # RFC 5321 §4.1.4: the transaction goes on
        assert bed.seen(CommandRejected)[0].reason == "test: hello"
        client = bed.dial()
        await client.reply()
        assert await client.say("HELO bad.example") == "550 no"
        assert (await client.say("MAIL FROM:<a@else.example>"))[:3] == "503"


async def test_what_is_refused_anyway_is_not_asked_about(autojump_clock):
    gate = FakeGate()
    async with open_bed(spool=FakeSpool(), gate=gate) as bed:
        client = bed.dial()
        await client.hello()
        gate.asked.clear()
        assert (await client.say("MAIL FROM:<a@else.example> SIZE=999999999"))[:3] == "552"
        assert (await client.say("RCPT TO:<b@ours.example>"))[:3] == "503"
        assert gate.asked == []


async def test_a_refused_sender_has_no_transaction(autojump_clock):
    gate = FakeGate()
    gate.refuse("sender", NO)
    async with open_bed(spool=FakeSpool(), gate=gate) as bed:
        client = bed.dial()
        await client.hello()
        assert await client.say("MAIL FROM:<a@else.example>") == "550 5.7.1 no"
        assert (await client.say("RCPT TO:<b@ours.example>"))[:3] == "503"
        [rejected, _] = bed.seen(CommandRejected)
        assert (rejected.verb, rejected.reason) == ("MAIL", "test: sender")
        gate.refusals.clear()
        await client.begin()
        assert (await client.data())[:3] == "250"


async def test_a_refused_recipient_is_not_in_the_envelope(autojump_clock):
    gate = FakeGate()
    async with open_bed(spool=FakeSpool(), gate=gate) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin(recipients=["b@ours.example"])
        gate.refuse("recipient", LATER)
        assert await client.say("RCPT TO:<c@ours.example>") == "450 4.7.1 later"
        assert (await client.say("RCPT TO:<b@ours.example>"))[:3] == "250"  # it was accepted before
        [rejected] = bed.seen(CommandRejected)
        assert (rejected.sender, rejected.recipient, rejected.reason) == (
            "a@else.example",
            "c@ours.example",
            "test: recipient",
        )
        assert (await client.data())[:3] == "250"
        [(envelope, *_)] = bed.spool.stored.values()
        assert [str(each.mailbox) for each in envelope.recipients] == ["b@ours.example"]


async def test_refused_recipients_count_as_errors_and_deferred_ones_do_not(autojump_clock):
    gate = FakeGate()
    config = make_config(limits={"errors": 1})
    async with open_bed(config, spool=FakeSpool(), gate=gate) as bed:
        client = bed.dial()
        await client.hello()
        await client.say("MAIL FROM:<a@else.example>")
        gate.refuse("recipient", LATER)
        for _ in range(5):
            assert (await client.say("RCPT TO:<b@ours.example>"))[:3] == "450"
        gate.refuse("recipient", NO)
        assert (await client.say("RCPT TO:<b@ours.example>"))[:3] == "550"
        assert (await client.say("RCPT TO:<b@ours.example>"))[:3] == "421"


async def test_what_the_checks_find_is_told_once(autojump_clock):
    gate = FakeGate(notes={"connected": "list.example: 127.0.0.2", "hello": "no dot"})
    async with open_bed(spool=FakeSpool(), gate=gate) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        assert [(event.check, event.finding) for event in bed.seen(SessionNoted)] == [
            ("connected", "list.example: 127.0.0.2"),
            ("hello", "no dot"),
        ]


async def test_who_has_authenticated_is_in_the_dossier(autojump_clock):
    gate = FakeGate()
    config = make_config(listener={"auth": ListenerAuth.OPTIONAL})
    async with open_bed(config, spool=FakeSpool(), gate=gate, authenticator=FakeAuthenticator()) as bed:
        client = bed.dial()
        await client.hello()
        [dossier] = gate.clients
        assert not dossier.authenticated
        await client.say(f"AUTH PLAIN {PLAIN_ALICE}")
        assert dossier.identity is not None
        assert dossier.identity.name == "alice@ours.example"


async def test_a_check_is_a_phase_of_its_own_and_the_drain_ends_it(autojump_clock):
    gate = FakeGate(seconds=100)
    async with open_bed(spool=FakeSpool(), gate=gate) as bed:
        client = bed.dial()
        await trio.testing.wait_all_tasks_blocked()
        assert bed.listeners.sessions[0].phase == "policy"
        bed.drain.begin("test", 25, 5)
        assert (await client.reply())[:3] == "421"
        assert trio.current_time() == 25


async def test_nothing_is_asked_while_the_server_stops(autojump_clock):
    gate = FakeGate()
    async with open_bed(spool=FakeSpool(), gate=gate) as bed:
        client = bed.dial()
        await client.hello()
        gate.asked.clear()
        spool_busy = trio.Event()
        bed.spool.on_step = lambda name: spool_busy.wait() if name == "decide" else None
        await client.begin()
        await client.say("DATA")
        await client.send(b"x\r\n.\r\nEHLO again.example\r\n")
        await trio.testing.wait_all_tasks_blocked()
        gate.asked.clear()
        bed.drain.begin("test", 25, 5)
        spool_busy.set()
        assert (await client.reply())[:3] == "250"
        assert (await client.reply())[:3] == "421"
        assert gate.asked == [("accepted", 1)]


# --- The greeting -----------------------------------------------------------------------------------


async def test_the_greeting_is_held_back(autojump_clock):
    gate = FakeGate(delay=6)
    async with open_bed(spool=FakeSpool(), gate=gate) as bed:
        client = bed.dial()
        await trio.sleep(1)
        assert bed.listeners.sessions[0].phase == "greeting"
        await client.hello()
        assert trio.current_time() == 6
        assert ("early_talker",) not in gate.asked


async def test_a_client_that_does_not_wait_is_seen(autojump_clock):
    gate = FakeGate(delay=6)
    gate.refuse("early_talker", Reply.of(554, "5.5.1", "wait for the greeting"))
    async with open_bed(spool=FakeSpool(), gate=gate) as bed:
        client = bed.dial()
        await client.send(b"EHLO client.example\r\n")
        assert await client.reply() == "554 mx.ours.example wait for the greeting"
        assert (await client.reply())[:3] == "503"
        assert trio.current_time() == 0
        assert bed.seen(CommandRejected)[0].reason == "test: early_talker"


async def test_one_that_is_only_noted_is_served(autojump_clock):
    gate = FakeGate(delay=6)
    async with open_bed(spool=FakeSpool(), gate=gate) as bed:
        client = bed.dial()
        await client.send(b"EHLO client.example\r\nMAIL FROM:<a@else.example>\r\n")
        assert (await client.reply())[:3] == "220"
        assert (await client.reply())[:3] == "250"
        assert (await client.reply())[:3] == "250"
        assert ("early_talker",) in gate.asked


async def test_a_client_that_leaves_while_it_waits(autojump_clock):
    gate = FakeGate(delay=6)
    async with open_bed(spool=FakeSpool(), gate=gate) as bed:
        client = bed.dial()
        await client.stream.aclose()
        await trio.sleep(1)
        assert bed.seen(SessionClosed)[0].cause in ("eof", "reset")
        assert ("early_talker",) not in gate.asked


async def test_within_implicit_tls_the_client_waits_too(server_tls, client_tls):
    from test_session_tls import wrap

    gate = FakeGate()
    config = make_config(tls=ListenerTls.IMPLICIT)
    async with open_bed(config, spool=FakeSpool(), tls=server_tls, gate=gate) as bed:
        client = wrap(bed.dial(), client_tls)
        await client.hello()
        assert gate.asked[0] == ("connected", STRANGER)
        assert ("early_talker",) not in gate.asked


# --- Overload ---------------------------------------------------------------------------------------


class Load:
    reason = ""

    def overload(self) -> str:
        return self.reason


async def test_mail_is_deferred_while_the_server_cannot_keep_up(autojump_clock):
    load = Load()
    async with open_bed(spool=FakeSpool(), load=load) as bed:
        client = bed.dial()
        await client.hello()
        load.reason = "storage takes 12 s"
        assert await client.say("MAIL FROM:<a@else.example>") == (
            "452 4.3.2 overloaded, try again later: storage takes 12 s"
        )
        assert bed.seen(CommandRejected)[0].reply.endswith("storage takes 12 s")
        load.reason = ""
        await client.begin()
        load.reason = "again"
        assert (await client.data())[:3] == "250"  # what was begun is finished


async def test_new_clients_are_turned_away_meanwhile(autojump_clock):
    load = Load()
    load.reason = "the loop is 3 s late"
    async with open_bed(spool=FakeSpool(), load=load) as bed:
        [line] = await bed.dial().rest()
        assert line == "421 4.3.2 mx.ours.example overloaded, try again later: the loop is 3 s late"


@pytest.mark.parametrize("reason", [None, "account alice@ours.example: 500 recipients"])
async def test_what_is_held_is_accepted_like_any_other(autojump_clock, reason: str | None):
    spool = FakeSpool()
    async with open_bed(spool=spool, gate=FakeGate(holds=reason)) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        assert (await client.data())[:3] == "250"
        assert list(spool.holds.values()) == [reason]
