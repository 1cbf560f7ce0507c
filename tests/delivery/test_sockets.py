"""Over real sockets of the loopback: what only they can tell."""

import pytest
import trio
from delivery_helpers import make_context, make_parcel

from elemta.config import TransportKind
from elemta.delivery import ConnectFailed, ConnectionStale, make_transport
from elemta.mail import Cause, Delivered
from elemta.routing import Route
from elemta.runtime import SystemNetwork
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
    return next(listener.socket.getsockname()[1] for listener in listeners if listener.socket.family == 2)


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
    while connection.usable:
        await trio.sleep(0.001)
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
