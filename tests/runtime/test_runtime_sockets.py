"""The quick stream over real socket pairs."""

import socket
from collections.abc import Generator

import pytest
import trio
import trio.testing

from elemta.runtime import QuickSocketStream

Pair = tuple[QuickSocketStream, QuickSocketStream]


@pytest.fixture
def pair() -> Generator[Pair, None, None]:
    left, right = socket.socketpair()
    yield QuickSocketStream(left), QuickSocketStream(right)
    left.close()
    right.close()


async def test_what_is_sent_is_received(pair: Pair) -> None:
    await pair[0].send_all(b"hello")
    assert await pair[1].receive_some() == b"hello"


async def test_receives_at_most_what_was_asked_for(pair: Pair) -> None:
    await pair[0].send_all(b"hello")
    assert await pair[1].receive_some(2) == b"he"
    assert await pair[1].receive_some(9) == b"llo"


async def test_waits_until_something_comes(pair: Pair) -> None:
    received: list[bytes] = []

    async def receive() -> None:
        received.append(await pair[1].receive_some())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        assert received == []
        await pair[0].send_all(b"now")
    assert received == [b"now"]


async def test_more_than_the_buffers_hold_is_sent_whole(pair: Pair) -> None:
    data = bytes(range(256)) * 20_000
    received = bytearray()

    async def receive() -> None:
        while len(received) < len(data):
            received.extend(await pair[1].receive_some())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await pair[0].send_all(data)
    assert received == data


async def test_the_end_of_one_side(pair: Pair) -> None:
    await pair[0].send_eof()
    assert await pair[1].receive_some() == b""
    await pair[1].send_all(b"still")
    assert await pair[0].receive_some() == b"still"


async def test_writing_to_someone_who_left_is_broken(pair: Pair) -> None:
    await pair[1].aclose()
    with pytest.raises(trio.BrokenResourceError):
        await pair[0].send_all(b"x")


async def test_a_closed_stream_says_so(pair: Pair) -> None:
    await pair[0].aclose()
    await pair[0].aclose()
    with pytest.raises(trio.ClosedResourceError):
        await pair[0].send_all(b"x")
    with pytest.raises(trio.ClosedResourceError):
        await pair[0].receive_some()


async def test_who_waits_is_told_of_the_close(pair: Pair) -> None:
    async def receive() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await pair[0].receive_some()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        await pair[0].aclose()


async def test_every_call_can_be_cancelled(pair: Pair) -> None:
    await pair[1].send_all(b"kept")
    with trio.CancelScope() as scope:
        scope.cancel()
        await pair[0].receive_some()
    assert scope.cancelled_caught
    with trio.CancelScope() as scope:
        scope.cancel()
        await pair[0].send_all(b"never")
    assert scope.cancelled_caught
    assert await pair[0].receive_some() == b"kept"


async def test_a_busy_reader_lets_others_run(pair: Pair) -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        for _ in range(100):
            await pair[0].send_all(b"x")
            await pair[1].receive_some()
        assert turns >= 10
        nursery.cancel_scope.cancel()
