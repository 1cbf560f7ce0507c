"""What a client's frames become, and what it is answered."""

from __future__ import annotations

import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

from elemta.admin.websocket import TOO_BIG, ServerWire, accept_handshake, text_frame


def _heard(data: bytes) -> list[Event]:
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(data)
    return list(client.events())


def test_the_handshake_is_that_of_the_standard() -> None:
    # RFC 6455 1.3
    answer = accept_handshake({b"sec-websocket-key": b"dGhlIHNhbXBsZSBub25jZQ=="}, "chat")
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer
    assert answer.endswith(b"Sec-WebSocket-Protocol: chat\r\n\r\n")


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_a_text_of_any_length_is_one_message(size: int) -> None:
    (event,) = _heard(text_frame(b"x" * size))
    assert isinstance(event, TextMessage)
    assert (len(event.data), event.message_finished) == (size, True)


def test_a_message_may_come_in_parts_with_a_ping_between() -> None:
    client = Connection(ConnectionType.CLIENT)
    sent = (
        client.send(TextMessage(data="so ", message_finished=False))
        + client.send(Ping(payload=b"there?"))
        + client.send(TextMessage(data="far"))
        + client.send(BytesMessage(data=b"\x00"))
    )
    for step in (1, 3, len(sent)):
        wire = ServerWire(100)
        messages: list[str | bytes] = []
        pongs = b""
        for begin in range(0, len(sent), step):
            found, pong, closing = wire.receive(sent[begin : begin + step])
            messages += found
            pongs += pong
            assert closing is None
        assert messages == ["so far", b"\x00"]
        assert _heard(pongs) == [Pong(payload=b"there?")]


def test_too_much_in_one_message_ends_it() -> None:
    client = Connection(ConnectionType.CLIENT)
    wire = ServerWire(10)
    assert wire.receive(client.send(TextMessage(data="x" * 10, message_finished=False)))[2] is None
    closing = wire.receive(client.send(TextMessage(data="x")))[2]
    assert closing is not None
    (event,) = _heard(closing.frame)
    assert isinstance(event, CloseConnection)
    assert event.code == TOO_BIG


def test_a_closing_is_answered_in_kind() -> None:
    client = Connection(ConnectionType.CLIENT)
    closing = ServerWire(10).receive(client.send(CloseConnection(code=4000, reason="enough")))[2]
    assert closing is not None
    assert _heard(closing.frame) == [CloseConnection(code=4000, reason="enough")]


def test_the_answer_to_our_closing_needs_none_and_a_ping_behind_it_gets_none() -> None:
    client, wire = Connection(ConnectionType.CLIENT), ServerWire(10)
    assert _heard(wire.close(1001, "the server stops"))
    assert wire.receive(client.send(Ping())) == ([], b"", None)
    closing = wire.receive(client.send(CloseConnection(code=1001)))[2]
    assert closing is not None
    assert closing.frame == b""


def test_what_is_no_frame_is_an_error_of_the_protocol() -> None:
    closing = ServerWire(10).receive(b"\x81\x01x")[2]  # RFC 6455 5.1: a client's frame must be masked
    assert closing is not None
    (event,) = _heard(closing.frame)
    assert isinstance(event, CloseConnection)
    assert event.code == 1002
