"""The network in memory behaves as a real one, on virtual time."""

import errno
import functools

import pytest
import trio
import trio.testing

from elemta.runtime import peer_address
from elemta.testing.network import memory_connection, open_memory_network


async def greet(stream):
    await stream.send_all(b"220 ready\r\n")


async def test_its_streams_are_whole_streams(autojump_clock):
    async def make():
        return memory_connection()

    async def make_full():
        ends = memory_connection(capacity=1000)
        for end in ends:
            await end.send_all(bytes(1000))
        return ends

    await trio.testing.check_half_closeable_stream(make, make_full)


async def test_a_handler_serves_each_connection_and_knows_the_client():
    seen = []

    async def handler(stream):
        seen.append(peer_address(stream))
        await greet(stream)

    async with open_memory_network() as network:
        network.listen("192.0.2.1", 25, handler)
        network.own_addresses.add("192.0.2.201")
        for source in (None, "192.0.2.201"):
            stream = await network.connect("192.0.2.1", 25, source=source)
            assert peer_address(stream) == ("192.0.2.1", 25)
            assert await stream.receive_some() == b"220 ready\r\n"
            assert await stream.receive_some() == b""
    assert seen == [("192.0.2.200", 40001), ("192.0.2.201", 40002)]
    assert [(each.host, each.port, each.source) for each in network.attempts] == [
        ("192.0.2.1", 25, None),
        ("192.0.2.1", 25, "192.0.2.201"),
    ]


async def test_addresses_are_compared_as_addresses():
    async with open_memory_network() as network:
        network.listen("2001:DB8:0::1", 25, greet)
        stream = await network.connect("2001:db8::1", 25)
        assert await stream.receive_some() == b"220 ready\r\n"
        assert stream.local_address[0] == "2001:db8::200"


async def test_what_fails_fails_as_the_system_would(autojump_clock):
    async with open_memory_network() as network:
        network.refuse("192.0.2.1")
        network.listen("192.0.2.1", 26, greet)
        network.unreachable("192.0.2.2", delay=3)
        network.fail("192.0.2.3", 25, error=errno.ETIMEDOUT)
        with pytest.raises(ConnectionRefusedError):
            await network.connect("192.0.2.1", 25)
        await network.connect("192.0.2.1", 26)
        with pytest.raises(OSError, match="No route") as caught:
            await network.connect("192.0.2.2", 25)
        assert caught.value.errno == errno.EHOSTUNREACH
        assert trio.current_time() == 3
        with pytest.raises(TimeoutError):
            await network.connect("192.0.2.3", 25)
        with pytest.raises(OSError, match="unreachable"):
            await network.connect("192.0.2.4", 25)
        assert len(network.attempts) == 5


async def test_a_hanging_host_hangs_until_cancelled(autojump_clock):
    async with open_memory_network() as network:
        network.hang("192.0.2.1")
        with trio.move_on_after(3600) as scope:
            await network.connect("192.0.2.1", 25)
    assert scope.cancelled_caught
    assert trio.current_time() == 3600


async def test_connecting_takes_its_time(autojump_clock):
    async with open_memory_network() as network:
        network.listen("192.0.2.1", 25, greet, delay=2.5)
        await network.connect("192.0.2.1", 25)
    assert trio.current_time() == 2.5


@pytest.mark.parametrize(
    ("host", "source", "error"),
    [
        ("mx.example.org", None, ValueError),
        ("192.0.2.1", "2001:db8::200", ValueError),
        ("192.0.2.1", "192.0.2.99", OSError),
    ],
)
async def test_wrong_addresses(host, source, error):
    async with open_memory_network() as network:
        network.listen("192.0.2.1", 25, greet)
        with pytest.raises(error):
            await network.connect(host, 25, source=source)


async def test_without_an_address_of_the_family_the_network_is_unreachable():
    async with open_memory_network() as network:
        network.own_addresses = {"192.0.2.200"}
        network.listen("2001:db8::1", 25, greet)
        with pytest.raises(OSError, match="unreachable"):
            await network.connect("2001:db8::1", 25)


async def test_an_error_of_a_handler_reaches_the_test():
    async def broken(stream):
        raise ValueError("in the handler")

    with pytest.RaisesGroup(ValueError):
        async with open_memory_network() as network:
            network.listen("192.0.2.1", 25, broken)
            await network.connect("192.0.2.1", 25)
            await trio.sleep_forever()


async def test_handlers_end_with_the_block():
    async with open_memory_network() as network:
        network.listen("192.0.2.1", 25, lambda stream: trio.sleep_forever())
        stream = await network.connect("192.0.2.1", 25)
        await trio.testing.wait_all_tasks_blocked()
    assert await stream.receive_some() == b""


async def test_a_peer_that_does_not_read_holds_the_sender_back(autojump_clock):
    client, server = memory_connection(capacity=100)
    await client.send_all(b"x" * 100)
    with trio.move_on_after(60) as scope:
        await client.send_all(b"y" * 300)
    assert scope.cancelled_caught
    with trio.move_on_after(60) as scope:
        await client.wait_send_all_might_not_block()
    assert scope.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, b"z" * 250)
        received = b""
        while len(received) < 350:
            received += await server.receive_some(70)
    assert received == b"x" * 100 + b"z" * 250


async def test_a_reset_breaks_both_ends_and_drops_what_was_under_way():
    client, server = memory_connection()
    await client.send_all(b"lost")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect_reset, client.receive_some)
        await trio.testing.wait_all_tasks_blocked()
        server.reset()
    for end in (client, server):
        await expect_reset(end.receive_some)
        await expect_reset(functools.partial(end.send_all, b"x"))


async def expect_reset(operation):
    with pytest.raises(trio.BrokenResourceError, match="reset"):
        await operation()


async def test_a_reset_wakes_a_sender_that_waits_for_room():
    client, server = memory_connection(capacity=10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect_reset, functools.partial(client.send_all, b"x" * 20))
        await trio.testing.wait_all_tasks_blocked()
        server.reset()


async def test_a_closed_end_cannot_be_ended():
    client, _ = memory_connection()
    await client.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await client.send_eof()


async def test_only_one_task_may_receive():
    client, _ = memory_connection()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.receive_some)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await client.receive_some()
        nursery.cancel_scope.cancel()
