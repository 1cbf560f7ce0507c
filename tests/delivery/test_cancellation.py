"""A cancel at every await of connecting, delivering and closing: the state is consistent each time."""

from contextlib import asynccontextmanager

import pytest
import trio
from delivery_helpers import HOST, fixed_route, make_context, make_parcel, streamed

from elemta.config import DeliveryConfig, TimeoutsConfig
from elemta.delivery import SmtpConnection, make_transport
from elemta.mail import Cause, Delivered
from elemta.runtime import Network
from elemta.smtp import Capabilities
from elemta.testing.network import open_memory_network
from elemta.testing.peers import SinkPeer

STEPS = 40
"""More than any of the conversations here has."""


class HangingStream(trio.abc.Stream):
    """Hangs at its step `hang_at` (a send or a receive), for ever: before the send, or in its middle."""

    def __init__(self, stream, hang_at, *, half=False):
        self.stream = stream
        self.hang_at = hang_at
        self.half = half
        self.steps = 0
        self.sent = b""
        self.closed = False

    async def _step(self):
        self.steps += 1
        if self.steps == self.hang_at:
            await trio.sleep_forever()

    async def send_all(self, data):
        data = bytes(data)
        if self.half and self.steps + 1 == self.hang_at:
            half = data[: len(data) // 2]
            self.sent += half
            await self.stream.send_all(half)
        await self._step()
        self.sent += data
        await self.stream.send_all(data)

    async def receive_some(self, max_bytes=None):
        await self._step()
        return await self.stream.receive_some(max_bytes)

    async def wait_send_all_might_not_block(self):
        await trio.lowlevel.checkpoint()

    async def aclose(self):
        self.closed = True
        await self.stream.aclose()


class HangingNetwork(Network):
    def __init__(self, network, hang_at, *, half):
        self.network = network
        self.hang_at = hang_at
        self.half = half
        self.stream = None

    async def connect(self, host, port, *, source=None):
        inner = await self.network.connect(host, port, source=source)
        self.stream = HangingStream(inner, self.hang_at, half=self.half)
        return self.stream


@asynccontextmanager
async def hanging(hang_at, sink, *, half=False):
    async with open_memory_network() as network:
        network.listen(HOST, 25, sink.serve)
        hangs = HangingNetwork(network, hang_at, half=half)
        context = make_context(hangs, timeouts=TimeoutsConfig(), config=DeliveryConfig())
        yield hangs, make_transport(fixed_route(), context)


CASES = {
    "pipelining": (Capabilities(pipelining=True, eight_bit_mime=True), None),
    "lockstep": (Capabilities(eight_bit_mime=True), None),
    "streamed": (
        Capabilities(pipelining=True, eight_bit_mime=True),
        (b"S: y\r\n\r\n", b"one\r\n", b"two\r\n"),
    ),
}


async def attempt(hang_at, case, *, half=False):
    """Cancel a whole attempt that hangs at that step; False once there is no such step."""
    capabilities, pieces = CASES[case]
    sink = SinkPeer(capabilities=capabilities)
    connection = None
    async with hanging(hang_at, sink, half=half) as (network, transport):
        with trio.move_on_after(10) as scope:
            connection = await transport.connect()
            content = None if pieces is None else streamed(*pieces)
            outcomes = await connection.deliver(
                make_parcel("a@example.org", "b@example.org", content=content)
            )
        stream = network.stream
        if connection is None:
            # Whoever was cancelled while connecting has nothing to close, so it is closed.
            assert stream.closed
            return True
        assert isinstance(connection, SmtpConnection)
        dot_sent = connection.dot_sent
        if not scope.cancelled_caught:
            assert [type(outcome) for outcome in outcomes] == [Delivered, Delivered]
            assert not dot_sent
            assert connection.usable
        else:
            assert not connection.usable
            # What may have been delivered is said to be so, and nothing that cannot have been.
            assert dot_sent or b"\r\n.\r\n" not in stream.sent
            if sink.messages:
                assert dot_sent
        await connection.aclose()
        assert stream.closed
        assert not connection.usable
        if scope.cancelled_caught:
            assert b"QUIT" not in stream.sent
        return scope.cancelled_caught


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("case", CASES)
async def test_cancel_at_every_step(case, half, autojump_clock):
    hangs = [await attempt(step, case, half=half) for step in range(1, STEPS)]
    count = hangs.index(False)
    assert count > 5
    assert not any(hangs[count:])


@pytest.mark.parametrize("case", CASES)
async def test_hang_at_every_step_times_out_by_itself(case, autojump_clock):
    """The same hangs without anybody who cancels: each has its own deadline, and an outcome."""
    capabilities, pieces = CASES[case]
    for step in range(5, STEPS):  # behind greeting and hello
        sink = SinkPeer(capabilities=capabilities)
        async with hanging(step, sink) as (network, transport):
            connection = await transport.connect()
            stream = network.stream
            content = None if pieces is None else streamed(*pieces)
            start = trio.current_time()
            outcomes = await connection.deliver(make_parcel(content=content))
            took = trio.current_time() - start
            if took == 0:
                assert isinstance(outcomes[0], Delivered)
                break
            assert took in (120, 180, 300, 600)
            assert outcomes[0].cause in (Cause.TIMEOUT, Cause.UNKNOWN_AFTER_DOT)
            if outcomes[0].cause is Cause.TIMEOUT:
                assert b"\r\n.\r\n" not in stream.sent
                assert took < 600
            assert not connection.usable
            await connection.aclose()
    else:
        pytest.fail("never ended")


@pytest.mark.parametrize("content", [None, streamed(b"S: y\r\n\r\n", b"one\r\n")])
async def test_result_that_came_before_the_cancel_is_not_lost(content, autojump_clock):
    """The final reply is there when the cancel comes: no checkpoint may stand between it and the caller."""
    sink = SinkPeer()
    async with hanging(0, sink) as (network, transport):
        connection = await transport.connect()
        stream = network.stream
        scope = trio.CancelScope()
        receive_some = stream.receive_some

        async def cancel_behind_the_final_reply(max_bytes=None):
            data = await receive_some(max_bytes)
            if sink.messages:
                scope.cancel()
            return data

        stream.receive_some = cancel_behind_the_final_reply
        outcomes = None
        with scope:
            outcomes = await connection.deliver(make_parcel(content=content))
        assert scope.cancel_called
        assert outcomes is not None
        assert isinstance(outcomes[0], Delivered)
        await connection.aclose()
