"""A message whose lines have no form goes on as it is where the next hop has BDAT for it (RFC 3030 §3)."""

from __future__ import annotations

import attrs
import pytest
import trio

from elemta.events import RecipientDeferred, RecipientDelivered
from elemta.mail import BodyType, Reply
from elemta.testing import ScriptedPeer, SinkPeer, open_test_server
from elemta.testing.peers import GREETING, MAIL_OK, SINK_CAPABILITIES

ZONE = {
    "example.org": {"MX": [(10, "store.example.org")]},
    "store.example.org": {"A": ["192.0.2.25"]},
}
HEAD = b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: binary\r\n\r\n"
BINARY = bytes(range(256)) + b"\n.\r\n\r.."
CHUNKING = attrs.evolve(SINK_CAPABILITIES, chunking=True, binary_mime=True)


async def send(stream: trio.abc.Stream, body: bytes) -> None:
    await stream.receive_some()
    for command in ("EHLO c.example", "MAIL FROM:<a@c.example> BODY=BINARYMIME", "RCPT TO:<b@example.org>"):
        await stream.send_all(f"{command}\r\n".encode())
        assert (await stream.receive_some())[:3] == b"250"
    message = HEAD + body
    await stream.send_all(f"BDAT {len(message)} LAST\r\n".encode() + message)
    assert (await stream.receive_some())[:3] == b"250"
    await stream.aclose()


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize("size", [1, 1000, 3000])
async def test_binary_content_arrives_octet_by_octet(autojump_clock, pipelining: bool, size: int) -> None:
    sink = SinkPeer(capabilities=attrs.evolve(CHUNKING, pipelining=pipelining))
    async with open_test_server(zone=ZONE) as server:
        server.network.listen("192.0.2.25", 25, sink.serve)
        await send(server.connect(), BINARY * size)
        await server.wait_for(RecipientDelivered)
        (received,) = sink.messages
        assert received.mail.params.body_type is BodyType.BINARY_MIME
        assert received.content.endswith(HEAD + BINARY * size)
        assert "DATA" not in sink.commands
        # the session goes on behind it
        await send(server.connect(), BINARY)
        while len(sink.messages) < 2:
            await trio.sleep(1)


async def test_a_next_hop_without_bdat_gets_it_converted(autojump_clock) -> None:
    sink = SinkPeer(capabilities=attrs.evolve(CHUNKING, binary_mime=False))
    async with open_test_server(zone=ZONE) as server:
        server.network.listen("192.0.2.25", 25, sink.serve)
        await send(server.connect(), BINARY)
        await server.wait_for(RecipientDelivered)
        (received,) = sink.messages
        assert received.mail.params.body_type is not BodyType.BINARY_MIME
        assert b"quoted-printable" in received.content


async def test_a_chunk_that_is_refused_ends_the_attempt(autojump_clock) -> None:
    sink = SinkPeer(capabilities=CHUNKING, answers={"CHUNK": Reply.of(452, "4.3.1", "full")})
    async with open_test_server(zone=ZONE) as server:
        server.network.listen("192.0.2.25", 25, sink.serve)
        await send(server.connect(), BINARY * 3000)
        deferred = await server.wait_for(RecipientDeferred)
        assert deferred.reply == "452 4.3.1 full"
        assert sink.messages == []
        del sink.answers["CHUNK"]
        await server.wait_for(RecipientDelivered)
        assert sink.messages[0].content.endswith(BINARY * 3000)


async def test_a_refusal_of_all_recipients_sends_nothing(autojump_clock) -> None:
    sink = SinkPeer(capabilities=CHUNKING, answers={"RCPT": Reply.of(451, "4.3.0", "not now")})
    async with open_test_server(zone=ZONE) as server:
        server.network.listen("192.0.2.25", 25, sink.serve)
        await send(server.connect(), BINARY)
        await server.wait_for(RecipientDeferred)
        assert sink.commands[:3] == ["EHLO", "MAIL", "RCPT"]
        assert "BDAT" not in sink.commands
        assert sink.messages == []


async def test_a_reply_before_the_first_chunk_is_not_taken_for_the_one_to_it(autojump_clock) -> None:
    hello = b"250-x\r\n250-8BITMIME\r\n250-BINARYMIME\r\n250 CHUNKING\r\n"
    early = (b"RCPT", b"250 2.1.5 ok\r\n250 2.0.0 ok\r\n")
    peer = ScriptedPeer(GREETING, (b"EHLO", hello), MAIL_OK, early)
    async with open_test_server(zone=ZONE) as server:
        server.network.listen("192.0.2.25", 25, peer.serve)
        await send(server.connect(), BINARY * 3000)
        await server.wait_for(RecipientDeferred)
        assert not [each for each in peer.commands if each.startswith(b"BDAT")]
