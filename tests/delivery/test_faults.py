"""Every stage of a session and everything that can go wrong there: outcome, and what the connection is worth."""

import pytest
import trio
from delivery_helpers import CONTENT, TIMEOUTS, connected, deliver_one, make_parcel, open_transport, streamed

from elemta.delivery import ConnectFailed, ConnectionStale
from elemta.mail import Cause, Deferred, Delivered, Failed
from elemta.testing.peers import (
    BODY_OK,
    DATA_OK,
    GREETING,
    LOCKSTEP_HELLO,
    MAIL_OK,
    PIPELINING_HELLO,
    RCPT_OK,
    TRANSACTION,
    Expect,
    Fault,
    ScriptedPeer,
)

FAULTS = {
    "4xx": b"450 4.2.0 later\r\n",
    "5xx": b"550 5.7.1 no\r\n",
    "421": b"421 4.3.2 going down\r\n",
    "drop": Fault.DROP,
    "stall": Fault.STALL,
    "garbage": Fault.GARBAGE,
    "endless": Fault.ENDLESS,
}
STAGES = {"mail": MAIL_OK, "rcpt": RCPT_OK, "data": DATA_OK, "final-dot": BODY_OK}
HELLOS = {"pipelining": PIPELINING_HELLO, "lockstep": LOCKSTEP_HELLO}
SECONDS = {"mail": 300, "rcpt": 300, "data": 120, "final-dot": 600}


def script(stage, hello, answer):
    """A session that goes well up to the stage, and answers the rest as a server would that refused there."""
    steps = [GREETING, HELLOS[hello]]
    for name, (expected, usual) in STAGES.items():
        if name != stage:
            steps.append((expected, usual))
            continue
        steps.append((expected, answer))
        if hello == "pipelining" and isinstance(answer, bytes):
            rest = {"mail": (RCPT_OK[0], DATA_OK[0]), "rcpt": (DATA_OK[0],)}.get(name, ())
            steps += [(command, b"503 5.5.1 bad sequence\r\n") for command in rest]
        break
    return ScriptedPeer(*steps)


@pytest.mark.parametrize("hello", HELLOS)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("stage", STAGES)
async def test_fault_at_each_stage_of_a_transaction(stage, fault, hello, autojump_clock):
    start = trio.current_time()
    async with connected(script(stage, hello, FAULTS[fault])) as connection:
        outcome = await deliver_one(connection)
        took = trio.current_time() - start
        usable = connection.usable
        assert not connection.dot_sent
        assert connection.phase == "idle"
    assert outcome.remote == "192.0.2.1[192.0.2.1]:25"
    assert usable == (fault in ("4xx", "5xx"))
    assert took == (SECONDS[stage] if fault == "stall" else 0)
    if fault == "5xx":
        assert isinstance(outcome, Failed)
        assert outcome.cause is Cause.REMOTE_REPLY
        assert str(outcome.reply) == "550 5.7.1 no"
        assert outcome.from_remote
        return
    assert isinstance(outcome, Deferred)
    assert outcome.reply.code // 100 == 4
    assert outcome.from_remote == (fault in ("4xx", "421"))
    if fault in ("4xx", "421"):
        assert outcome.cause is Cause.REMOTE_REPLY
        assert outcome.reply.text in ("later", "going down")
    elif stage == "final-dot":
        assert outcome.cause is Cause.UNKNOWN_AFTER_DOT
    else:
        causes = {"drop": Cause.CONNECTION_LOST, "stall": Cause.TIMEOUT}
        assert outcome.cause is causes.get(fault, Cause.PROTOCOL)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("stage", ["greeting", "hello"])
async def test_fault_before_the_first_message(stage, fault, autojump_clock):
    answer = FAULTS[fault]
    greeting = (Expect.NOTHING, answer)
    helo = [(b"HELO", answer)] if fault == "5xx" else []
    steps = [greeting] if stage == "greeting" else [GREETING, (b"EHLO", answer), *helo]
    peer = ScriptedPeer(*steps)
    start = trio.current_time()
    async with open_transport(peer) as transport:
        with pytest.raises(ConnectFailed) as caught:
            await transport.connect()
        took = trio.current_time() - start
        if fault != "stall":
            await peer.finished.wait()
    outcome = caught.value.outcome
    assert isinstance(outcome, Deferred)
    assert took == (300 if fault == "stall" else 0)
    assert outcome.remote == "192.0.2.1[192.0.2.1]:25"
    assert outcome.detail.startswith("192.0.2.1[192.0.2.1]:25: ")
    causes = {
        "drop": Cause.CONNECTION_LOST,
        "stall": Cause.TIMEOUT,
        "garbage": Cause.PROTOCOL,
        "endless": Cause.PROTOCOL,
    }
    assert outcome.cause is causes.get(fault, Cause.REMOTE_REPLY)
    assert outcome.from_remote == (fault in ("4xx", "421"))
    # RFC 5321 3.1: a server that greets with 554 waits for QUIT
    quits = peer.commands[-1:] == [b"QUIT"]
    assert quits == (fault == "5xx" or (fault == "4xx" and stage == "hello"))
    if fault == "5xx":
        assert "550 5.7.1 no" in outcome.detail


async def test_ehlo_that_is_not_known_falls_back_to_helo(autojump_clock):
    peer = ScriptedPeer(GREETING, (b"EHLO", b"502 what?\r\n"), (b"HELO", b"250 old\r\n"), *TRANSACTION)
    async with connected(peer) as connection:
        assert isinstance(await deliver_one(connection), Delivered)
    assert peer.commands[:3] == [b"EHLO mx.example", b"HELO mx.example", b"MAIL FROM:<bob@example.net>"]


# --- Some recipients -----------------------------------------------------------------------------


@pytest.mark.parametrize("hello", HELLOS)
async def test_refused_recipients_do_not_hinder_the_others(hello, autojump_clock):
    peer = ScriptedPeer(
        GREETING,
        HELLOS[hello],
        MAIL_OK,
        (b"RCPT TO:<a@", b"550 5.1.1 nobody\r\n"),
        (b"RCPT TO:<b@", b"250 ok\r\n"),
        (b"RCPT TO:<c@", b"450 4.2.1 later\r\n"),
        (b"RCPT TO:<d@", b"251 will forward\r\n"),
        DATA_OK,
        BODY_OK,
    )
    async with connected(peer) as connection:
        outcomes = await deliver_one(
            connection, "a@example.org", "b@example.org", "c@example.org", "d@example.org"
        )
        assert connection.usable
    assert [type(outcome) for outcome in outcomes] == [Failed, Delivered, Deferred, Delivered]
    assert [outcome.reply.text for outcome in outcomes] == ["nobody", "taken", "later", "taken"]


@pytest.mark.parametrize("hello", HELLOS)
async def test_what_follows_reaches_accepted_recipients_only(hello, autojump_clock):
    for steps, text in (
        ([(b"DATA", b"451 4.3.0 not now\r\n")], "not now"),
        ([DATA_OK, (Expect.BODY, b"554 5.6.0 spam\r\n")], "spam"),
    ):
        peer = ScriptedPeer(
            GREETING,
            HELLOS[hello],
            MAIL_OK,
            (b"RCPT TO:<a@", b"550 5.1.1 nobody\r\n"),
            RCPT_OK,
            *steps,
        )
        async with connected(peer) as connection:
            outcomes = await deliver_one(connection, "a@example.org", "b@example.org")
            assert connection.usable
        assert [outcome.reply.text for outcome in outcomes] == ["nobody", text]


async def test_354_without_an_accepted_recipient_is_answered_with_a_dot_alone(autojump_clock):
    peer = ScriptedPeer(
        GREETING,
        PIPELINING_HELLO,
        MAIL_OK,
        (b"RCPT", b"550 5.1.1 nobody\r\n"),
        DATA_OK,
        (Expect.BODY, b"554 5.5.1 no recipients\r\n"),
        *TRANSACTION,
    )
    async with connected(peer) as connection:
        outcome = await deliver_one(connection)
        assert outcome.reply.text == "nobody"
        assert connection.usable
        assert isinstance(await deliver_one(connection), Delivered)
    assert peer.bodies == [b".\r\n", CONTENT + b".\r\n"]
    assert b"RSET" not in peer.commands


async def test_what_is_said_to_a_dot_alone_holds_nothing_up(autojump_clock):
    nobody = (b"RCPT", b"550 5.1.1 nobody\r\n")
    peer = ScriptedPeer(GREETING, PIPELINING_HELLO, MAIL_OK, nobody, DATA_OK, (Expect.BODY, Fault.STALL))
    async with connected(peer) as connection:
        start = trio.current_time()
        outcome = await deliver_one(connection)
        assert trio.current_time() - start == TIMEOUTS.rset
        assert not connection.usable
    assert isinstance(outcome, Failed)
    assert outcome.reply.text == "nobody"


NO, LATER = (b"RCPT", b"550 5.1.1 no\r\n"), (b"RCPT", b"450 4.2.0 later\r\n")
GONE = (Expect.NOTHING, Fault.DROP)
UNKNOWN = "unknown-after-dot"
MIXED = {
    "lost at the dot": ([RCPT_OK, NO, LATER, DATA_OK, (Expect.BODY, Fault.DROP)], [UNKNOWN, "550", "450"]),
    "421 to DATA": ([RCPT_OK, NO, LATER, (b"DATA", b"421 bye\r\n")], ["421", "550", "450"]),
    "lost at the last recipient": ([RCPT_OK, NO, (b"RCPT", Fault.DROP)], ["connection-lost", "550"] * 2),
    "421 to a recipient": ([NO, (b"RCPT", b"421 bye\r\n")], ["550", "421", "421"]),
    "all refused, then lost": ([NO, LATER, NO, (b"DATA", Fault.DROP)], ["550", "450", "550"]),
    "552 to recipients": (
        [RCPT_OK, (b"RCPT", b"552 5.2.2 full\r\n"), (b"RCPT", b"552 many\r\n"), DATA_OK, BODY_OK],
        ["250", "452", "452"],
    ),
    "uncommon codes": (
        [
            (b"RCPT", b"251 on\r\n"),
            (b"RCPT", b"252 perhaps\r\n"),
            NO,
            (b"DATA", b"399 go\r\n"),
            (Expect.BODY, b"299 ok\r\n"),
        ],
        ["299", "299", "550"],
    ),
    "half a good reply": (
        [RCPT_OK, NO, NO, DATA_OK, (Expect.BODY, b"250-2.0.0 a\r\n"), GONE],
        [UNKNOWN, "550", "550"],
    ),
    "half a refusal": (
        [RCPT_OK, NO, NO, DATA_OK, (Expect.BODY, b"554-5.7.1 a\r\n"), GONE],
        [UNKNOWN, "550", "550"],
    ),
    "a reply without an end": (
        [RCPT_OK, NO, NO, DATA_OK, (Expect.BODY, b"250 ok"), GONE],
        [UNKNOWN, "550", "550"],
    ),
    "closed without QUIT": ([RCPT_OK, NO, NO, DATA_OK, BODY_OK, GONE], ["250", "550", "550"]),
    "taken, and 421": (
        [RCPT_OK, NO, NO, DATA_OK, (Expect.BODY, b"250 ok\r\n421 bye\r\n")],
        ["250", "550", "550"],
    ),
}


@pytest.mark.parametrize("hello", HELLOS)
@pytest.mark.parametrize("case", MIXED)
async def test_each_recipient_has_what_was_said_to_him(case, hello, autojump_clock):
    steps, expected = MIXED[case]
    if hello == "lockstep" and case == "all refused, then lost":
        steps = steps[:-1]  # nobody is asked for DATA
    start = trio.current_time()
    async with connected(ScriptedPeer(GREETING, HELLOS[hello], MAIL_OK, *steps)) as connection:
        outcomes = await deliver_one(connection, "a@example.org", "b@example.org", "c@example.org")
    assert trio.current_time() == start
    found = [str(outcome.reply.code) if outcome.from_remote else str(outcome.cause) for outcome in outcomes]
    assert found == expected[:3]
    for outcome in outcomes:
        code = outcome.reply.code
        assert isinstance(outcome, Delivered if code < 400 else Deferred if code < 500 else Failed)


LMTP_ENDS = {
    "lost between two": ([b"250 a\r\n", Fault.DROP], ["250", UNKNOWN]),
    "one of each": ([b"250 a\r\n550 5.2.2 full\r\n"], ["250", "550"]),
    "full and gone": ([b"552 5.2.2 full\r\n421 bye\r\n"], ["552", "421"]),
    "one too many": ([b"250 a\r\n250 b\r\n250 c\r\n"], ["250", "250"]),
    "in pieces": ([b"250-2.0", b".0 a\r", b"\n250 2.0.0 b\r\n45", b"1 4.2.0 no\r\n"], ["250", "451"]),
}


@pytest.mark.parametrize("case", LMTP_ENDS)
async def test_each_recipient_of_lmtp_has_the_reply_that_is_his(case, autojump_clock):
    (first, *rest), expected = LMTP_ENDS[case]
    more = [(Expect.NOTHING, answer) for answer in rest]
    hello = (b"LHLO", b"250 x\r\n")
    peer = ScriptedPeer(GREETING, hello, MAIL_OK, RCPT_OK, RCPT_OK, DATA_OK, (Expect.BODY, first), *more)
    async with connected(peer, lmtp=True) as connection:
        outcomes = await deliver_one(connection, "a@example.org", "b@example.org")
    found = [str(outcome.reply.code) if outcome.from_remote else str(outcome.cause) for outcome in outcomes]
    assert found == expected


@pytest.mark.parametrize("hello", HELLOS)
async def test_replies_may_come_octet_by_octet(hello, autojump_clock):
    class Dripping:
        """Passes on what a peer says, one octet at a time."""

        def __init__(self, stream):
            self._stream = stream

        async def send_all(self, data):
            for octet in bytes(data):
                await self._stream.send_all(bytes((octet,)))
                await trio.sleep(0.1)

        async def receive_some(self, max_bytes=None):
            return await self._stream.receive_some(max_bytes)

        async def aclose(self):
            await self._stream.aclose()

    class Slow:
        async def serve(self, stream):
            await ScriptedPeer(GREETING, HELLOS[hello], *TRANSACTION, *TRANSACTION).serve(Dripping(stream))

    async with connected(Slow()) as connection:
        for _ in range(2):
            assert isinstance(await deliver_one(connection), Delivered)
            assert connection.usable


async def test_354_after_a_refused_mail_ends_the_connection(autojump_clock):
    peer = ScriptedPeer(
        GREETING, PIPELINING_HELLO, (b"MAIL", b"550 5.7.1 no\r\n"), (b"RCPT", b"503 no\r\n"), DATA_OK
    )
    async with connected(peer) as connection:
        assert (await deliver_one(connection)).reply.text == "no"
        assert not connection.usable
    assert peer.bodies == []


@pytest.mark.parametrize("code", [b"452 4.5.3", b"552 5.5.3", b"552"])
async def test_too_many_recipients_defers_the_rest_at_once(code, autojump_clock):
    peer = ScriptedPeer(
        GREETING, LOCKSTEP_HELLO, MAIL_OK, RCPT_OK, (b"RCPT", code + b" too many\r\n"), DATA_OK, BODY_OK
    )
    async with connected(peer) as connection:
        outcomes = await deliver_one(connection, *(f"{name}@example.org" for name in "abcd"))
    assert [type(outcome) for outcome in outcomes] == [Delivered, Deferred, Deferred, Deferred]
    assert {outcome.reply.code for outcome in outcomes[1:]} == {452}
    assert sum(command.startswith(b"RCPT") for command in peer.commands) == 2


async def test_a_full_mailbox_says_nothing_about_the_next_one(autojump_clock):
    peer = ScriptedPeer(
        GREETING,
        LOCKSTEP_HELLO,
        MAIL_OK,
        RCPT_OK,
        (b"RCPT", b"452 4.2.2 full\r\n"),
        RCPT_OK,
        DATA_OK,
        BODY_OK,
    )
    async with connected(peer) as connection:
        outcomes = await deliver_one(connection, *(f"{name}@example.org" for name in "abc"))
    assert [type(outcome) for outcome in outcomes] == [Delivered, Deferred, Delivered]


async def test_421_at_a_recipient_leaves_what_was_decided(autojump_clock):
    peer = ScriptedPeer(
        GREETING, PIPELINING_HELLO, MAIL_OK, (b"RCPT", b"550 5.1.1 nobody\r\n"), (b"RCPT", b"421 bye\r\n")
    )
    async with connected(peer) as connection:
        outcomes = await deliver_one(connection, *(f"{name}@example.org" for name in "abc"))
        assert not connection.usable
    assert [outcome.reply.code for outcome in outcomes] == [550, 421, 421]


# --- RSET ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hello", HELLOS)
async def test_rset_comes_before_the_next_message_only_after_a_failed_one(hello, autojump_clock):
    refused = [(b"RCPT", b"550 5.1.1 nobody\r\n")]
    if hello == "pipelining":
        refused.append((b"DATA", b"554 5.5.1 no recipients\r\n"))
    peer = ScriptedPeer(
        GREETING, HELLOS[hello], MAIL_OK, *refused, (b"RSET", b"250 ok\r\n"), *TRANSACTION, *TRANSACTION
    )
    async with connected(peer) as connection:
        assert isinstance(await deliver_one(connection), Failed)
        assert isinstance(await deliver_one(connection), Delivered)
        assert isinstance(await deliver_one(connection), Delivered)
    assert peer.commands.count(b"RSET") == 1


@pytest.mark.parametrize("answer", [b"500 what?\r\n", b"421 bye\r\n", Fault.DROP])
async def test_rset_that_fails_asks_for_a_fresh_connection(answer, autojump_clock):
    peer = ScriptedPeer(
        GREETING, LOCKSTEP_HELLO, MAIL_OK, (b"RCPT", b"550 5.1.1 nobody\r\n"), (b"RSET", answer)
    )
    async with connected(peer) as connection:
        await deliver_one(connection)
        with pytest.raises(ConnectionStale):
            await deliver_one(connection)
        assert not connection.usable


async def test_rset_has_a_deadline_of_its_own(autojump_clock):
    peer = ScriptedPeer(
        GREETING, LOCKSTEP_HELLO, MAIL_OK, (b"RCPT", b"550 5.1.1 nobody\r\n"), (b"RSET", Fault.STALL)
    )
    async with connected(peer) as connection:
        await deliver_one(connection)
        start = trio.current_time()
        with pytest.raises(ConnectionStale):  # nothing of the second message was offered
            await deliver_one(connection)
        assert trio.current_time() - start == TIMEOUTS.rset
        assert not connection.usable


# --- Kept connections ---------------------------------------------------------------------------------


@pytest.mark.parametrize("hello", HELLOS)
@pytest.mark.parametrize("answer", [Fault.DROP, b"421 4.4.2 idle too long\r\n"])
async def test_kept_connection_that_was_closed_is_stale_not_deferred(answer, hello, autojump_clock):
    peer = ScriptedPeer(GREETING, HELLOS[hello], *TRANSACTION, (5, answer))
    async with connected(peer) as connection:
        assert isinstance(await deliver_one(connection), Delivered)
        await trio.sleep(10)
        with pytest.raises(ConnectionStale):
            await deliver_one(connection)
        assert not connection.usable
        assert not connection.dot_sent


@pytest.mark.parametrize("answer", [Fault.DROP, b"421 4.3.2 bye\r\n"])
async def test_kept_connection_is_not_stale_once_something_was_answered(answer, autojump_clock):
    peer = ScriptedPeer(GREETING, PIPELINING_HELLO, *TRANSACTION, MAIL_OK, (b"RCPT", answer))
    async with connected(peer) as connection:
        await deliver_one(connection)
        assert isinstance(await deliver_one(connection), Deferred)
        assert not connection.usable


async def test_words_behind_the_final_reply_make_the_connection_unusable(autojump_clock):
    for extra in (b"250 again\r\n", b"421 bye\r\n", b"nonsense\r\n"):
        peer = ScriptedPeer(
            GREETING, PIPELINING_HELLO, *TRANSACTION[:-1], (Expect.BODY, b"250 taken\r\n" + extra)
        )
        async with connected(peer) as connection:
            assert isinstance(await deliver_one(connection), Delivered)
            assert not connection.usable


async def test_connection_lost_while_the_body_is_sent_is_not_unknown(autojump_clock):
    class Deaf:
        async def serve(self, stream):
            for answer in (
                b"220 x\r\n",
                b"250-x\r\n250-8BITMIME\r\n250 PIPELINING\r\n",
                b"250 ok\r\n" * 2 + b"354 go\r\n",
            ):
                await stream.send_all(answer)
                await stream.receive_some()
            stream.reset()

    pieces = [b"S: y\r\n\r\n", *[b"x" * 70 + b"\r\n"] * 2000]
    async with connected(Deaf(), capacity=1000) as connection:
        [outcome] = await connection.deliver(make_parcel(content=streamed(*pieces)))
        assert not connection.usable
    assert outcome.cause is Cause.CONNECTION_LOST
    assert "in body" in outcome.detail


async def test_body_that_is_not_taken_times_out_block_by_block(autojump_clock):
    class Slow:
        """Takes a block a minute, then nothing any more."""

        async def serve(self, stream):
            await stream.send_all(b"220 x\r\n")
            await stream.receive_some()
            await stream.send_all(b"250-x\r\n250-8BITMIME\r\n250 PIPELINING\r\n")
            await stream.receive_some()
            await stream.send_all(b"250 ok\r\n250 ok\r\n354 go\r\n")
            for _ in range(5):
                await trio.sleep(60)
                await stream.receive_some(60_000)
            await trio.sleep_forever()

    async with connected(Slow(), capacity=60_000) as connection:
        start = trio.current_time()
        pieces = [b"x" * 65_534 + b"\r\n"] * 20
        [outcome] = await connection.deliver(make_parcel(content=streamed(*pieces)))
        took = trio.current_time() - start
    assert outcome.cause is Cause.TIMEOUT
    assert 300 < took <= 300 + TIMEOUTS.block
    assert "in body" in outcome.detail


async def test_a_reply_that_drips_does_not_move_the_deadline(autojump_clock):
    class Drip:
        async def serve(self, stream):
            await stream.send_all(b"220 x\r\n")
            await stream.receive_some()
            await stream.send_all(b"250 x\r\n")
            await stream.receive_some()
            for _ in range(20):
                await trio.sleep(29)
                try:
                    await stream.send_all(b"2")
                except trio.BrokenResourceError:
                    return

    async with connected(Drip()) as connection:
        start = trio.current_time()
        outcome = await deliver_one(connection)
        assert trio.current_time() - start == TIMEOUTS.mail
    assert outcome.cause is Cause.TIMEOUT


async def test_each_pipelined_reply_has_its_own_time(autojump_clock):
    class Thinking:
        async def serve(self, stream):
            peer = ScriptedPeer(GREETING, PIPELINING_HELLO, *TRANSACTION)
            send_all = stream.send_all

            async def slowly(data):
                await trio.sleep(100)
                await send_all(data)

            stream.send_all = slowly
            await peer.serve(stream)

    async with connected(Thinking()) as connection:
        start = trio.current_time()
        assert isinstance(await deliver_one(connection), Delivered)
        assert trio.current_time() - start == 400


async def test_dead_peer_holds_the_farewell_up_for_the_quit_time_at_most(autojump_clock):
    class Dead:
        async def serve(self, stream):
            await stream.send_all(b"220 x\r\n")
            await stream.receive_some()
            await stream.send_all(b"250 x\r\n")
            await trio.sleep_forever()

    async with open_transport(Dead(), capacity=20) as transport:
        connection = await transport.connect()
        connection._wire.stream._outgoing.data += b"x" * 20  # nothing more goes in
        start = trio.current_time()
        await connection.aclose()
        assert trio.current_time() - start == TIMEOUTS.quit
        await connection.aclose()
        assert trio.current_time() - start == TIMEOUTS.quit


async def test_quit_is_said_also_when_cancelled(autojump_clock):
    peer = ScriptedPeer(GREETING, LOCKSTEP_HELLO)
    async with open_transport(peer) as transport:
        connection = await transport.connect()
        with trio.CancelScope() as scope:
            scope.cancel()
            await connection.aclose()
        await peer.finished.wait()
    assert peer.commands[-1] == b"QUIT"


async def test_spool_that_cannot_give_the_body_leaves_the_session_as_it_was(autojump_clock):
    peer = ScriptedPeer(GREETING, PIPELINING_HELLO, *TRANSACTION)
    broken = streamed(b"x")
    broken.error = ValueError("digest")
    async with connected(peer) as connection:
        with pytest.raises(ValueError, match="digest"):
            await deliver_one(connection, content=broken)
        assert connection.usable
        assert isinstance(await deliver_one(connection), Delivered)


async def test_body_that_breaks_off_in_the_middle_is_never_ended(autojump_clock):
    def pieces():
        yield b"S: y\r\n\r\n"
        yield b"x\r\n"
        raise OSError("bad sector")

    content = streamed()
    content.pieces = pieces()
    peer = ScriptedPeer(GREETING, PIPELINING_HELLO, *TRANSACTION)
    async with connected(peer) as connection:
        with pytest.raises(OSError, match="bad sector"):
            await deliver_one(connection, content=content)
        assert not connection.usable
        assert not connection.dot_sent
    await peer.finished.wait()
    assert peer.bodies == []
    assert b"QUIT" not in peer.commands
