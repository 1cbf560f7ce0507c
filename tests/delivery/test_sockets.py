"""Over real sockets of the loopback: what only they can tell."""

import socket
import struct

import pytest
import trio
from delivery_helpers import TIMEOUTS, make_context, make_parcel

from elemta.config import TransportKind
from elemta.delivery import ConnectFailed, ConnectionStale, make_transport
from elemta.delivery.wire import Wire
from elemta.mail import Cause, Delivered
from elemta.routing import Route
from elemta.runtime import SystemNetwork
from elemta.testing.network import memory_connection
from elemta.testing.peers import (
    GREETING,
    PIPELINING_HELLO,
    TRANSACTION,
    Expect,
    Fault,
    ScriptedPeer,
    SinkPeer,
)


async def listen(nursery, peer):
    listeners = await nursery.start(trio.serve_tcp, peer.serve, 0)
    return next(
        listener.socket.getsockname()[1] for listener in listeners if listener.socket.family == socket.AF_INET
    )


def transport(port):
    return make_transport(Route(TransportKind.SMTP, "127.0.0.1", port), make_context(SystemNetwork()))


async def test_messages_go_over_a_kept_connection(nursery):
    sink = SinkPeer()
    connection = await transport(await listen(nursery, sink)).connect()
    for _ in range(3):
        [outcome] = await connection.deliver(make_parcel())
        assert isinstance(outcome, Delivered)
        assert connection.usable
    await connection.aclose()
    assert not connection.usable
    assert len(sink.messages) == 3
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("answer", [Fault.DROP, b"421 4.4.2 idle\r\n"])
async def test_idle_connection_is_seen_to_be_gone_without_waiting(answer, nursery):
    peer = ScriptedPeer(GREETING, PIPELINING_HELLO, *TRANSACTION, (0.01, answer))
    connection = await transport(await listen(nursery, peer)).connect()
    await connection.deliver(make_parcel())
    assert connection.usable
    await trio.lowlevel.wait_readable(connection._wire.stream.socket)
    assert not connection.usable
    with pytest.raises(ConnectionStale):
        await connection.deliver(make_parcel())
    await connection.aclose()
    nursery.cancel_scope.cancel()


async def test_refused_port_is_told(nursery):
    port = await listen(nursery, SinkPeer())
    nursery.cancel_scope.cancel()
    with trio.CancelScope(shield=True), pytest.raises(ConnectFailed) as caught:
        while True:  # until the listener is gone
            await (await transport(port).connect()).aclose()
    assert caught.value.outcome.cause in (Cause.CONNECT, Cause.CONNECTION_LOST)


async def test_peer_that_only_opens_the_connection_is_lost(nursery):
    peer = ScriptedPeer((Expect.NOTHING, Fault.DROP))
    with pytest.raises(ConnectFailed) as caught:
        await transport(await listen(nursery, peer)).connect()
    assert caught.value.outcome.cause is Cause.CONNECTION_LOST
    nursery.cancel_scope.cancel()


async def test_socket_that_was_closed_under_us_is_not_usable(nursery):
    connection = await transport(await listen(nursery, SinkPeer())).connect()
    assert connection.usable
    connection._wire.stream.socket.close()
    assert not connection.usable
    await connection.aclose()
    nursery.cancel_scope.cancel()


async def test_peer_that_reset_meanwhile_does_not_disturb_the_farewell(autojump_clock):
    client, server = memory_connection()
    wire = Wire(client, TIMEOUTS, lmtp=False)
    await server.send_all(b"220 x\r\n")
    await wire.reply()
    server.reset()
    await wire.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await client.receive_some()


async def test_progress_grows_with_what_is_sent_and_received(nursery):
    connection = await transport(await listen(nursery, SinkPeer())).connect()
    before = connection.progress
    await connection.deliver(make_parcel())
    assert connection.progress == before + 6  # two writes, four replies
    await connection.aclose()
    nursery.cancel_scope.cancel()


async def test_reset_by_the_peer_is_told_in_the_words_of_the_system(nursery):
    async def reset(stream):
        await stream.send_all(b"220 x\r\n")
        await stream.receive_some()
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await stream.aclose()

    listeners = await nursery.start(trio.serve_tcp, reset, 0)
    port = next(item.socket.getsockname()[1] for item in listeners if item.socket.family == socket.AF_INET)
    with pytest.raises(ConnectFailed) as caught:
        await transport(port).connect()
    assert caught.value.outcome.cause is Cause.CONNECTION_LOST
    assert "Connection reset by peer in hello" in caught.value.outcome.detail
    nursery.cancel_scope.cancel()
