"""Whether a client is still there, told by its socket without waiting."""

import socket
import ssl
import struct

import pytest
import trio

from elemta.inbound.presence import is_gone, send_and_close
from elemta.testing.network import memory_connection


@pytest.fixture
async def pair():
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
    listener.close()
    server.setblocking(False)
    yield trio.SocketStream(trio.socket.from_stdlib_socket(server)), client
    server.close()
    client.close()


async def settle() -> None:
    await trio.sleep(0.001)


async def test_a_silent_client_is_there(pair):
    assert not is_gone(pair[0])


async def test_a_client_with_more_to_say_is_there(pair):
    stream, client = pair
    client.send(b"QUIT\r\n")
    await settle()
    assert not is_gone(stream)
    client.close()
    await settle()
    assert not is_gone(stream)  # what it said comes first
    assert await stream.receive_some(100) == b"QUIT\r\n"
    assert is_gone(stream)


async def test_a_client_that_closed_is_gone(pair):
    stream, client = pair
    client.close()
    await settle()
    assert is_gone(stream)


async def test_a_client_that_reset_is_gone(pair):
    stream, client = pair
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    await settle()
    assert is_gone(stream)


async def test_it_is_seen_through_tls(pair):
    stream, client = pair
    tls = trio.SSLStream(stream, ssl.create_default_context(), server_hostname="x")
    assert not is_gone(tls)
    client.close()
    await settle()
    assert is_gone(tls)


async def test_a_stream_that_is_no_socket_cannot_tell():
    client, server = memory_connection()
    client.close()
    assert not is_gone(server)


async def test_the_last_word_is_written_and_the_connection_closed(pair):
    stream, client = pair
    send_and_close(stream, b"421 busy\r\n")
    assert client.recv(100) == b"421 busy\r\n"
    assert client.recv(100) == b""


async def test_the_last_word_to_one_who_has_gone_is_no_error(pair):
    stream, client = pair
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    await settle()
    send_and_close(stream, b"421 busy\r\n")
    assert stream.socket.fileno() == -1
