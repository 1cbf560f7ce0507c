"""LMTP: LHLO, and an outcome of its own for each recipient."""

import pytest
import trio
from delivery_helpers import CONTENT, TIMEOUTS, connected, deliver_one, open_transport

from elemta.delivery import ConnectFailed
from elemta.mail import Cause, Deferred, Delivered, Failed, Reply
from elemta.smtp import Capabilities
from elemta.testing.peers import DATA_OK, GREETING, MAIL_OK, RCPT_OK, Expect, Fault, ScriptedPeer, SinkPeer

LHLO = (b"LHLO mx.example", b"250-store\r\n250 PIPELINING\r\n")
NAMES = ("a@example.org", "b@example.org", "c@example.org")


@pytest.mark.parametrize("pipelining", [True, False])
async def test_each_recipient_has_its_own_final_reply(pipelining, autojump_clock):
    sink = SinkPeer(
        lmtp=True,
        capabilities=Capabilities(pipelining=pipelining),
        body_answers=[
            Reply.of(250, "2.0.0", "stored"),
            Reply.of(452, "4.2.2", "full"),
            Reply.of(550, "5.7.1", "spam"),
        ],
    )
    async with connected(sink, lmtp=True) as connection:
        outcomes = await deliver_one(connection, *NAMES)
        assert connection.usable
        again = await deliver_one(connection, *NAMES)
    assert [type(outcome) for outcome in outcomes] == [Delivered, Deferred, Failed]
    assert [outcome.reply.text for outcome in outcomes] == ["stored", "full", "spam"]
    assert again == outcomes
    assert sink.messages[0].content == CONTENT
    assert sink.commands[0] == "LHLO"


async def test_replies_go_to_accepted_recipients_in_order(autojump_clock):
    peer = ScriptedPeer(
        GREETING,
        LHLO,
        MAIL_OK,
        (b"RCPT TO:<a", b"250 ok\r\n"),
        (b"RCPT TO:<b", b"550 5.1.1 nobody\r\n"),
        (b"RCPT TO:<c", b"250 ok\r\n"),
        DATA_OK,
        (Expect.BODY, b"250 2.0.0 first\r\n451 4.3.0 second\r\n"),
    )
    async with connected(peer, lmtp=True) as connection:
        outcomes = await deliver_one(connection, *NAMES)
    assert [outcome.reply.text for outcome in outcomes] == ["first", "nobody", "second"]


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (Fault.DROP, Cause.UNKNOWN_AFTER_DOT),
        (Fault.STALL, Cause.UNKNOWN_AFTER_DOT),
        (Fault.GARBAGE, Cause.UNKNOWN_AFTER_DOT),
        (b"421 4.3.2 bye\r\n", Cause.REMOTE_REPLY),
    ],
)
async def test_only_recipients_without_a_reply_are_unknown(answer, cause, autojump_clock):
    peer = ScriptedPeer(
        GREETING,
        LHLO,
        MAIL_OK,
        RCPT_OK,
        RCPT_OK,
        RCPT_OK,
        DATA_OK,
        (Expect.BODY, b"250 2.0.0 stored\r\n"),
        (100, b"550 5.2.1 disabled\r\n"),
        (100, answer),
    )
    async with connected(peer, lmtp=True) as connection:
        start = trio.current_time()
        outcomes = await deliver_one(connection, *NAMES)
        took = trio.current_time() - start
        assert not connection.usable
    assert [type(outcome) for outcome in outcomes] == [Delivered, Failed, Deferred]
    assert outcomes[2].cause is cause
    # Each reply has its own time
    assert took == (100 + TIMEOUTS.final_dot if answer is Fault.STALL else 200)


async def test_data_that_is_accepted_for_nobody_ends_the_connection(autojump_clock):
    peer = ScriptedPeer(GREETING, LHLO, MAIL_OK, (b"RCPT", b"550 5.1.1 nobody\r\n"), DATA_OK)
    async with connected(peer, lmtp=True) as connection:
        assert isinstance(await deliver_one(connection), Failed)
        assert not connection.usable


async def test_there_is_no_older_hello_to_fall_back_to(autojump_clock):
    peer = ScriptedPeer(GREETING, (b"LHLO", b"500 what?\r\n"))
    async with open_transport(peer, lmtp=True) as transport:
        with pytest.raises(ConnectFailed):
            await transport.connect()
        await peer.finished.wait()
    assert peer.commands == [b"LHLO mx.example", b"QUIT"]
