"""Connecting, replaying and knowing who is at the other end."""

import socket
import ssl

import pytest
import trio
import trio.testing

from elemta.runtime import (
    ReplayStream,
    SystemNetwork,
    is_own_address,
    local_address,
    peer_address,
    plain_address,
)
from elemta.testing.network import memory_connection


async def listening(host="127.0.0.1"):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = trio.socket.socket(family, socket.SOCK_STREAM)
    await sock.bind((host, 0))
    sock.listen(5)
    return trio.SocketListener(sock), sock.getsockname()[1]


async def test_connect_to_one_address_with_source_and_without_delay():
    listener, port = await listening()
    async with listener:
        stream = await SystemNetwork().connect("127.0.0.1", port, source="127.0.0.2")
        accepted = await listener.accept()
        async with stream, accepted:
            assert stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert peer_address(stream) == ("127.0.0.1", port)
            assert local_address(stream)[0] == "127.0.0.2"
            assert peer_address(accepted) == local_address(stream)
            await stream.send_all(b"hello")
            assert await accepted.receive_some() == b"hello"


async def test_connect_over_ipv6():
    try:
        listener, port = await listening("::1")
    except OSError:
        pytest.skip("this machine has no IPv6")
    async with listener, await SystemNetwork().connect("::1", port, source="::1") as stream:
        assert peer_address(stream) == ("::1", port)


async def test_a_refused_connection_is_the_systems_own_error():
    listener, port = await listening()
    await listener.aclose()
    with pytest.raises(ConnectionRefusedError):
        await SystemNetwork().connect("127.0.0.1", port)


async def test_a_source_that_is_not_ours_is_the_systems_own_error():
    with pytest.raises(OSError, match="assign"):
        await SystemNetwork().connect("127.0.0.1", 9, source="192.0.2.77")


@pytest.mark.parametrize(
    ("host", "source"), [("localhost", None), ("127.0.0.1", "::1"), ("127.0.0.1", "eth0")]
)
async def test_names_and_mixed_families_are_refused(host, source):
    with pytest.raises(ValueError, match="does not"):
        await SystemNetwork().connect(host, 25, source=source)


async def test_cancelled_connect_leaves_nothing_open():
    listener, port = await listening()
    async with listener:
        with trio.CancelScope() as scope:
            scope.cancel()
            await SystemNetwork().connect("127.0.0.1", port)
        assert scope.cancelled_caught  # an open socket would be a ResourceWarning, which is an error


@pytest.mark.parametrize(
    ("host", "plain"),
    [
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::FFFF:192.0.2.1", "192.0.2.1"),
        ("::ffff:0:192.0.2.1", "::ffff:0:192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("192.0.2.1", "192.0.2.1"),
    ],
)
def test_addresses_are_plain(host, plain):
    assert plain_address(host) == plain


async def test_an_ipv4_client_of_an_ipv6_listener_is_shown_as_ipv4():
    sock = trio.socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        await sock.bind(("::", 0))
    except OSError:
        sock.close()
        pytest.skip("this machine has no IPv6")
    sock.listen(1)
    async with trio.SocketListener(sock) as listener:
        port = sock.getsockname()[1]
        async with await SystemNetwork().connect("127.0.0.1", port), await listener.accept() as accepted:
            assert peer_address(accepted)[0] == "127.0.0.1"
            assert local_address(accepted) == ("127.0.0.1", port)


async def test_the_address_is_found_through_wrappers():
    client, server = memory_connection(("192.0.2.9", 1234), ("192.0.2.1", 25))
    tls = trio.SSLStream(ReplayStream(server), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), server_side=True)
    assert peer_address(tls) == ("192.0.2.9", 1234)
    assert local_address(tls) == ("192.0.2.1", 25)
    assert peer_address(client) == ("192.0.2.1", 25)


def test_an_address_given_by_a_proxy_goes_first():
    _, server = memory_connection()
    stream = ReplayStream(server, b"", peer=("::ffff:198.51.100.7", 99))
    assert peer_address(stream) == ("198.51.100.7", 99)
    assert local_address(stream) == ("192.0.2.1", 25)


async def test_a_unix_socket_has_a_name_of_its_own():
    ours, theirs = trio.socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    async with trio.SocketStream(ours) as one, trio.SocketStream(theirs) as two:
        assert peer_address(one) == ("unix", 0)
        assert local_address(two) == ("unix", 0)


async def test_the_address_of_a_connection_that_is_gone_is_an_error():
    sock = trio.socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with pytest.raises(OSError, match="not connected"), sock:

        class Stream:
            socket = sock

        peer_address(Stream())


def test_a_stream_that_leads_nowhere_has_no_address():
    stream, _ = trio.testing.memory_stream_pair()
    with pytest.raises(TypeError, match="StapledStream has no address"):
        peer_address(stream)


async def test_replay_comes_first_and_in_pieces_as_asked():
    client, server = memory_connection()
    stream = ReplayStream(server, b"EHLO a\r\n")
    await client.send_all(b"NOOP\r\n")
    assert await stream.receive_some(4) == b"EHLO"
    with pytest.raises(ValueError, match="max_bytes"):
        await stream.receive_some(0)
    assert await stream.receive_some() == b" a\r\n"
    assert await stream.receive_some() == b"NOOP\r\n"


async def test_cancelled_replay_loses_nothing():
    _, server = memory_connection()
    stream = ReplayStream(server, b"EHLO")
    with trio.CancelScope() as scope:
        scope.cancel()
        await stream.receive_some()
    assert await stream.receive_some() == b"EHLO"


async def test_a_replaying_stream_is_a_whole_stream():
    async def make():
        one, two = memory_connection()
        return ReplayStream(one, b""), ReplayStream(two, b"")

    async def make_full():
        one, two = memory_connection(capacity=1000)
        for end in (one, two):
            await end.send_all(bytes(1000))
        return ReplayStream(one), ReplayStream(two)

    await trio.testing.check_half_closeable_stream(make, make_full)


async def test_end_of_file_needs_a_stream_that_can():
    tls = trio.SSLStream(memory_connection()[1], ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), server_side=True)
    with pytest.raises(TypeError, match="one direction"):
        await ReplayStream(tls).send_eof()


async def test_closing_drops_what_was_to_be_replayed():
    _, server = memory_connection()
    stream = ReplayStream(server, b"x")
    await stream.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await stream.receive_some()


def test_own_addresses():
    assert is_own_address("127.0.0.1")
    assert is_own_address("127.9.9.9")
    assert is_own_address("::1")
    assert not is_own_address("192.0.2.77")
    assert not is_own_address("2001:db8::77")
    with pytest.raises(ValueError, match="localhost"):
        is_own_address("localhost")
