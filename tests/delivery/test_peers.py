"""The peers that users test with keep to what they say."""

import pytest
import trio

from elemta.mail import Reply
from elemta.smtp import Capabilities
from elemta.testing.network import memory_connection
from elemta.testing.peers import (
    GREETING,
    LOCKSTEP_HELLO,
    TRANSACTION,
    Expect,
    Fault,
    ScriptedPeer,
    SinkPeer,
)


async def talk(nursery, peer, *lines):
    """Send each line when something has come, and give all that came."""
    client, server = memory_connection()
    nursery.start_soon(peer.serve, server)
    came = b""
    for line in lines:
        came += await client.receive_some()
        await client.send_all(line)
    while data := await client.receive_some():
        came += data
    return came


async def test_scripted_peer_records_and_says_goodbye(nursery, autojump_clock):
    peer = ScriptedPeer(GREETING, LOCKSTEP_HELLO, *TRANSACTION)
    client, server = memory_connection()
    nursery.start_soon(peer.serve, server)
    for line in (
        b"ehlo me\r\n",
        b"mail from:<>\r\n",
        b"rcpt to:<a@b>\r\n",
        b"data\r\n",
        b"x\r\n.\r\n",
        b"QUIT\r\n",
    ):
        await client.receive_some()
        await client.send_all(line)
    assert await client.receive_some() == b"221 2.0.0 bye\r\n"
    await client.aclose()
    await peer.finished.wait()
    assert peer.commands == [b"ehlo me", b"mail from:<>", b"rcpt to:<a@b>", b"data", b"QUIT"]
    assert peer.bodies == [b"x\r\n.\r\n"]
    assert peer.received.startswith(b"ehlo me\r\nmail")


async def test_scripted_peer_fails_the_test_for_an_unexpected_command(autojump_clock):
    expected = pytest.RaisesExc(AssertionError, match="b'EHLO ' was expected")
    with pytest.RaisesGroup(expected):
        async with trio.open_nursery() as nursery:
            await talk(nursery, ScriptedPeer(GREETING, LOCKSTEP_HELLO), b"MAIL FROM:<>\r\n")


@pytest.mark.parametrize("expected", [b"EHLO", Expect.BODY])
async def test_scripted_peer_bears_a_client_that_leaves(expected, autojump_clock):
    peer = ScriptedPeer((expected, b"250 ok\r\n"))
    client, server = memory_connection()
    await client.aclose()
    await peer.serve(server)
    assert peer.finished.is_set()
    assert peer.commands == []


async def test_scripted_peer_can_say_nothing_and_wait(nursery, autojump_clock):
    peer = ScriptedPeer((Expect.NOTHING, b""), (7.5, b"220 late\r\n"), (Expect.NOTHING, Fault.DROP))
    assert await talk(nursery, peer) == b"220 late\r\n"
    assert trio.current_time() == 7.5


async def test_sink_answers_as_told_at_each_stage(nursery, autojump_clock):
    sink = SinkPeer(answers={"greeting": Reply.of(554, None, "go away")})
    assert await talk(nursery, sink, b"QUIT\r\n") == b"554 go away\r\n221 2.0.0 closing connection\r\n"

    def refuse_ann(command):
        ann = command.path.mailbox.local_part == "ann"
        return Reply.of(550, "5.1.1", "no ann") if ann else Reply.of(250, "2.1.5", "fine")

    sink.answers = {"RCPT": refuse_ann}
    lines = (
        b"HELO me\r\n",
        b"MAIL FROM:<>\r\n",
        b"RCPT TO:<ann@b>\r\n",
        b"RCPT TO:<bob@b>\r\n",
        b"DATA\r\n",
        b"..x\r\n.\r\n",
        b"RSET\r\n",
        b"NOOP\r\n",
        b"WHAT\r\n",
        b"QUIT\r\n",
    )
    came = await talk(nursery, sink, *lines)
    assert b"550 5.1.1 no ann" in came
    assert b"500 5.5.1" in came
    [message] = sink.messages
    assert message.content == b".x\r\n"
    assert [str(rcpt.path) for rcpt in message.recipients] == ["<bob@b>"]
    assert sink.hellos == ["me"]
    assert sink.sessions == 2


async def test_sink_does_not_keep_what_it_refused(nursery, autojump_clock):
    sink = SinkPeer(answers={"BODY": Reply.of(554, "5.6.0", "no")}, capabilities=Capabilities())
    lines = (b"EHLO me\r\n", b"MAIL FROM:<>\r\n", b"RCPT TO:<a@b>\r\n", b"DATA\r\n", b".\r\n", b"QUIT\r\n")
    assert b"554 5.6.0 no" in await talk(nursery, sink, *lines)
    assert sink.messages == []


async def test_sink_bears_nonsense_and_clients_that_vanish(nursery, autojump_clock):
    sink = SinkPeer()
    assert (await talk(nursery, sink, b"x" * 100_000)).startswith(b"220 ")
    client, server = memory_connection()
    await client.aclose()
    await sink.serve(server)
    assert sink.messages == []
