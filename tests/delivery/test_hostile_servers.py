"""Servers that break the rules at each stage: the outcome, the time it took, the connection's fate."""

import pytest
import trio
from delivery_helpers import connected, deliver_one, open_transport, recipient, streamed

from elemta.delivery import ConnectFailed, SessionLimits
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
    ScriptedPeer,
)

NO_REPLY = {
    "other codes in one reply": b"250-one\r\n451 two\r\n",
    "code 1xx": b"150 wait\r\n",
    "code 600": b"600 what\r\n",
    "code of four digits": b"2500 what\r\n",
    "code 000": b"000 what\r\n",
    "NUL octets": b"\0\0\0\0\r\n",
    "no code": b"ok\r\n",
    "empty line": b"\r\n",
    "HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "a line without end": b"250 " + b"x" * 70_000,
}
STAGES = {"mail": MAIL_OK, "rcpt": RCPT_OK, "data": DATA_OK, "final-dot": BODY_OK}


def peer_that_answers(stage, answer, hello=LOCKSTEP_HELLO):
    """A session that goes well up to the stage."""
    steps = [GREETING, hello]
    for name, (expected, usual) in STAGES.items():
        steps.append((expected, answer if name == stage else usual))
        if name == stage:
            break
    return ScriptedPeer(*steps)


# --- What is no reply ------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", NO_REPLY.values(), ids=NO_REPLY)
@pytest.mark.parametrize("stage", ["greeting", "hello"])
async def test_session_that_begins_with_no_reply_defers(stage, answer, autojump_clock):
    steps = [(Expect.NOTHING, answer)] if stage == "greeting" else [GREETING, (b"EHLO", answer)]
    start = trio.current_time()
    async with open_transport(ScriptedPeer(*steps)) as transport:
        with pytest.raises(ConnectFailed) as caught:
            await transport.connect()
    outcome = caught.value.outcome
    assert isinstance(outcome, Deferred)
    assert outcome.cause is Cause.PROTOCOL
    assert not outcome.from_remote
    assert trio.current_time() == start


@pytest.mark.parametrize("hello", [PIPELINING_HELLO, LOCKSTEP_HELLO], ids=["pipelining", "lockstep"])
@pytest.mark.parametrize("answer", NO_REPLY.values(), ids=NO_REPLY)
@pytest.mark.parametrize("stage", STAGES)
async def test_no_reply_defers_and_ends_the_connection(stage, answer, hello, autojump_clock):
    start = trio.current_time()
    peer = peer_that_answers(stage, answer, hello)
    async with connected(peer) as connection:
        outcome = await deliver_one(connection)
        assert not connection.usable
    assert isinstance(outcome, Deferred)
    # Behind the dot nobody knows, and that is what it is called (RFC 1047).
    assert outcome.cause is (Cause.UNKNOWN_AFTER_DOT if stage == "final-dot" else Cause.PROTOCOL)
    assert not outcome.from_remote
    assert trio.current_time() == start
    assert b"QUIT" not in peer.commands


# --- Replies that are odd, but plain ---------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
async def test_odd_forms_of_a_good_reply_are_taken(stage, autojump_clock):
    code = STAGES[stage][1][:3]
    for answer in (
        code + b" ok\n",
        code + b"\r\n",
        code + b"-one\n" + code + b" two\n",
        code + b" nul \0 within\r\n",
        code + b"ok\r\n",
        code + b" 5.1.1 another class\r\n",
        (code + b"-line\r\n") * 500 + code + b" last\r\n",
        code + b" \xff\xfe latin\r\n",
    ):
        steps = [GREETING, LOCKSTEP_HELLO]
        steps += [(e, answer if name == stage else usual) for name, (e, usual) in STAGES.items()]
        async with connected(ScriptedPeer(*steps)) as connection:
            outcome = await deliver_one(connection)
            assert isinstance(outcome, Delivered)
            assert outcome.reply.text.isprintable()
            assert connection.usable


# --- Codes that do not belong there ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "answer"),
    [
        ("mail", b"354 go ahead\r\n"),
        ("rcpt", b"354 go ahead\r\n"),
        ("data", b"250 ok\r\n"),
        ("final-dot", b"354 more\r\n"),
    ],
)
async def test_positive_code_of_another_stage_is_no_consent(stage, answer, autojump_clock):
    peer = peer_that_answers(stage, answer)
    async with connected(peer) as connection:
        outcome = await deliver_one(connection)
        assert not connection.usable
    assert isinstance(outcome, Deferred)
    assert outcome.cause is (Cause.UNKNOWN_AFTER_DOT if stage == "final-dot" else Cause.PROTOCOL)
    assert len(peer.bodies) == (stage == "final-dot")


@pytest.mark.parametrize("hello", [PIPELINING_HELLO, LOCKSTEP_HELLO], ids=["pipelining", "lockstep"])
@pytest.mark.parametrize("whole", [True, False], ids=["in memory", "streamed"])
async def test_250_that_comes_with_the_354_is_not_taken_for_the_message(hello, whole, autojump_clock):
    peer = ScriptedPeer(
        GREETING, hello, MAIL_OK, RCPT_OK, (b"DATA", b"354 go ahead\r\n250 taken\r\n"), (Expect.BODY, b"")
    )
    content = None if whole else streamed(b"S: y\r\n\r\n", b"Body\r\n")
    async with connected(peer) as connection:
        outcome = await deliver_one(connection, content=content)
        assert not connection.usable
    assert isinstance(outcome, Deferred)
    assert outcome.cause is Cause.PROTOCOL
    assert peer.bodies == []  # no dot: nothing that it could have taken, so the next attempt is no duplicate


@pytest.mark.parametrize(
    ("word", "kind"), [(b"552 5.3.4 too big\r\n", Failed), (b"451 4.3.0 disk\r\n", Deferred)]
)
async def test_refusal_that_comes_with_the_354_counts(word, kind, autojump_clock):
    peer = ScriptedPeer(GREETING, LOCKSTEP_HELLO, MAIL_OK, RCPT_OK, (b"DATA", b"354 go ahead\r\n" + word))
    async with connected(peer) as connection:
        outcome = await deliver_one(connection)
        assert not connection.usable
    assert isinstance(outcome, kind)
    assert outcome.from_remote
    assert outcome.reply.code == int(word[:3])


# --- Greetings and hellos ------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [b"500", b"502", b"504", b"550"])
async def test_hello_of_old_is_tried_where_ehlo_is_refused(code, autojump_clock):
    steps = [GREETING, (b"EHLO", code + b" what?\r\n"), (b"HELO", b"250 peer\r\n"), *TRANSACTION]
    async with connected(ScriptedPeer(*steps)) as connection:
        assert isinstance(await deliver_one(connection), Delivered)


@pytest.mark.parametrize("code", [b"450", b"504", b"554"])
async def test_helo_that_is_refused_as_well_defers(code, autojump_clock):
    peer = ScriptedPeer(GREETING, (b"EHLO", b"502 what?\r\n"), (b"HELO", code + b" no\r\n"))
    async with open_transport(peer) as transport:
        with pytest.raises(ConnectFailed) as caught:
            await transport.connect()
    assert isinstance(caught.value.outcome, Deferred)
    assert caught.value.outcome.cause is Cause.REMOTE_REPLY


@pytest.mark.parametrize("code", [b"354", b"334"])
async def test_greeting_that_asks_for_more_is_a_broken_protocol(code, autojump_clock):
    async with open_transport(ScriptedPeer((Expect.NOTHING, code + b" go\r\n"))) as transport:
        with pytest.raises(ConnectFailed) as caught:
            await transport.connect()
    assert isinstance(caught.value.outcome, Deferred)
    assert caught.value.outcome.cause is Cause.PROTOCOL


# --- Limits that are announced (RFC 9422) ----------------------------------------------------------------


async def test_announced_limits_are_known_to_the_caller(autojump_clock):
    for announced, expected in (
        (b"RCPTMAX=20 MAILMAX=5 RCPTDOMAINMAX=1", SessionLimits(5, 20, 1)),
        (b"RCPTMAX=0 MAILMAX=x OTHER=7", SessionLimits()),
    ):
        peer = ScriptedPeer(GREETING, (b"EHLO", b"250-peer.example\r\n250 LIMITS " + announced + b"\r\n"))
        async with connected(peer) as connection:
            assert connection.limits == expected


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (SessionLimits(), [0, 1, 2, 3]),
        (SessionLimits(recipients=2), [0, 1]),
        (SessionLimits(domains=1), [0, 2]),
        (SessionLimits(recipients=1, domains=1), [0]),
        (SessionLimits(domains=2), [0, 1, 2]),
        (SessionLimits(messages=1), [0, 1, 2, 3]),
    ],
)
def test_first_part_of_the_recipients_keeps_to_the_limits(limits, expected):
    people = [recipient(text) for text in ("a@one.example", "b@two.example", "c@one.example", "d@3.example")]
    assert limits.first_part(people) == expected
