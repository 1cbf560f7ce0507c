"""The live tail: events over a WebSocket, filtered, replayed and resumed."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import trio
from admin_bed import HOSTS, TOKEN, Bed, open_bed

from elemta.admin.filters import BadFilter, parse_message, parse_query
from elemta.admin.guard import Guard
from elemta.admin.http import HttpConnection
from elemta.admin.tail import BAD_FILTER, PING_SECONDS, PONG_SECONDS, Tail, TailEnded, TailRefused, follow
from elemta.admin.watchers import Watcher, Watchers
from elemta.runtime import TrioWallClock
from elemta.testing.network import memory_connection

_REQUEST = (
    b"GET /events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + TOKEN.encode() + b"\r\n"
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@attrs.define
class _Heard:
    messages: list[dict[str, Any]] = attrs.field(factory=list)
    ended: list[TailEnded | TailRefused] = attrs.field(factory=list)

    def types(self) -> list[str]:
        return [message["type"] for message in self.messages]


def _watchers(bed: Bed, events: int = 100, limit: int = 5) -> Watchers:
    watchers = Watchers(bed.facts.bus, bed.facts.clock, events=events, limit=limit)
    bed.nursery.start_soon(watchers.run)
    return watchers


def _watch(
    bed: Bed, watchers: Watchers, query: str = "", *, token: str | None = TOKEN, host: str = "localhost"
) -> _Heard:
    client, server = memory_connection(("127.0.0.1", 40000), ("127.0.0.1", 8025))
    tail = Tail(watchers, Guard(TOKEN, HOSTS, TrioWallClock()), "0.0", "mx.example.org")
    heard = _Heard()
    bed.nursery.start_soon(HttpConnection(server, bed.application, False, tail).serve)

    async def run() -> None:
        keep: Callable[[str], None] = lambda text: heard.messages.append(json.loads(text))  # noqa: E731
        try:
            heard.ended.append(await follow(client, host, query, keep, token=token))
        except TailRefused as refused:
            heard.ended.append(refused)

    bed.nursery.start_soon(run)
    return heard


async def test_a_watcher_hears_what_happens_from_now_on(autojump_clock: trio.abc.Clock) -> None:
    async with open_bed() as bed:
        heard = _watch(bed, _watchers(bed))
        await trio.sleep(1)
        await bed.accept("bob@far.example")
        assert heard.types()[0] == "hello"
        assert "recipient.deferred" in heard.types()


async def test_a_filter_leaves_out_the_rest(autojump_clock: trio.abc.Clock) -> None:
    async with open_bed() as bed:
        heard = _watch(bed, _watchers(bed), "type=recipient.*&domain=far.example")
        await trio.sleep(1)
        await bed.accept("bob@far.example")
        assert set(heard.types()) == {"hello", "recipient.deferred"}


async def test_a_watcher_resumes_behind_the_event_he_had(autojump_clock: trio.abc.Clock) -> None:
    async with open_bed() as bed:
        watchers = _watchers(bed)
        await bed.accept("bob@far.example")
        first = watchers.ring.first
        everything, rest = _watch(bed, watchers, "last=100"), _watch(bed, watchers, f"since={first}")
        await trio.sleep(1)
        assert everything.messages[1]["seq"] == first
        assert rest.messages[1:] == everything.messages[2:]


async def test_without_the_token_nobody_watches(autojump_clock: trio.abc.Clock) -> None:
    async with open_bed() as bed:
        heard = _watch(bed, _watchers(bed), token=None)
        await trio.sleep(1)
        (refused,) = heard.ended
        assert isinstance(refused, TailRefused)
        assert refused.status == 401


async def test_one_watcher_too_many_is_refused(autojump_clock: trio.abc.Clock) -> None:
    async with open_bed() as bed:
        heard = _watch(bed, _watchers(bed, limit=0))
        await trio.sleep(1)
        (refused,) = heard.ended
        assert isinstance(refused, TailRefused)
        assert refused.status == 503


async def test_a_filter_that_cannot_be_is_explained(autojump_clock: trio.abc.Clock) -> None:
    async with open_bed() as bed:
        heard = _watch(bed, _watchers(bed), "colour=red")
        await trio.sleep(1)
        assert "colour" in heard.messages[0]["reason"]
        assert isinstance(heard.ended[0], TailEnded)
        assert heard.ended[0].code == BAD_FILTER


async def test_a_quiet_tail_beats(autojump_clock: trio.abc.Clock) -> None:
    async with open_bed() as bed:
        heard = _watch(bed, _watchers(bed))
        await trio.sleep(50)
        assert heard.types().count("heartbeat") >= 1


async def test_who_comes_back_too_late_is_told_what_he_missed(autojump_clock: trio.abc.Clock) -> None:
    async with open_bed() as bed:
        watchers = _watchers(bed, events=3)
        first = watchers.ring.first
        for _ in range(6):
            await bed.accept("bob@far.example")
        heard = _watch(bed, watchers, f"since={first}")
        await trio.sleep(1)
        (lagged,) = [message for message in heard.messages if message["type"] == "lagged"]
        assert lagged["lost"] == watchers.ring.oldest - 1 - first


@pytest.mark.parametrize("query", [b"last=x", b"last=1&since=2", b"level=loud", b"type=", b"type=%ff"])
def test_a_bad_query_is_refused(query: bytes) -> None:
    with pytest.raises(BadFilter):
        parse_query(query)


def test_a_message_asks_for_the_same_as_a_query() -> None:
    assert parse_message('{"subscribe": {"type": ["queue.*"], "since": 7}}') == parse_query(
        b"type=queue.*&since=7"
    )


async def test_nothing_is_given_before_it_is_known_what_is_wanted(autojump_clock: trio.abc.Clock) -> None:
    async with open_bed() as bed, trio.open_nursery() as nursery:
        watchers = _watchers(bed)
        watcher = watchers.add()
        pieces: list[bytes] = []

        async def take() -> None:
            while True:
                pieces.extend(bytes(each) for each in await watcher.next_piece())

        nursery.start_soon(take)
        await trio.sleep(1)
        await bed.accept("early@far.example")
        await trio.sleep(1)
        assert pieces == []
        await watcher.subscribe(parse_query(b"recipient=bob@far.example"))
        await bed.accept("bob@far.example")
        await trio.sleep(1)
        assert pieces
        assert all(b"bob@far.example" in piece for piece in pieces)
        await watcher.subscribe(parse_query(b"recipient=early@far.example&last=5"))
        await trio.sleep(1)
        assert b"early@far.example" in pieces[-1]
        nursery.cancel_scope.cancel()


async def test_what_a_socket_does_not_take_at_once_follows_in_order(autojump_clock: trio.abc.Clock) -> None:
    async with open_bed() as bed, trio.open_nursery() as nursery:
        watchers = _watchers(bed)
        got: dict[int, bytearray] = {taken: bytearray() for taken in (0, 7, 10_000_000)}

        def open_watcher(most: int) -> Watcher:
            def send_now(data: bytes | memoryview) -> int:
                got[most] += data[:most]
                return min(most, len(data))

            return watchers.add(send_now)

        async def take(watcher: Watcher, most: int) -> None:
            while True:
                got[most] += b"".join(await watcher.next_piece())

        for most in got:
            watcher = open_watcher(most)
            nursery.start_soon(take, watcher, most)
            await watcher.subscribe(parse_query(b"type=recipient.*"))
        await trio.sleep(1)
        for number in range(3):
            await bed.accept(f"bob{number}@far.example")
        await trio.sleep(30)
        assert got[0] == got[7] == got[10_000_000]
        assert got[0].count(b"recipient.deferred") == 3
        nursery.cancel_scope.cancel()


async def test_a_watcher_without_a_sign_of_life_is_asked_for_one_and_then_given_up(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with open_bed() as bed:
        watchers = _watchers(bed)
        client, server = memory_connection(("127.0.0.1", 40000), ("127.0.0.1", 8025))
        tail = Tail(watchers, Guard(TOKEN, HOSTS, TrioWallClock()), "0.0", "mx.example.org")
        bed.nursery.start_soon(HttpConnection(server, bed.application, False, tail).serve)
        await client.send_all(_REQUEST)
        heard = bytearray()
        begun = trio.current_time()
        while data := await client.receive_some(4096):
            heard += data
        assert heard.count(b"\x89\x00") == 1  # a ping
        assert heard.count(b'"heartbeat","') >= 4
        assert trio.current_time() - begun == pytest.approx(PING_SECONDS + PONG_SECONDS, abs=1)
        assert watchers.statistics().watchers == 0


async def test_watchers_that_left_need_no_collection_of_garbage(autojump_clock: trio.abc.Clock) -> None:
    async with open_bed() as bed:
        watchers = _watchers(bed)
        gc.collect()
        gc.disable()
        try:
            async with trio.open_nursery() as nursery:
                connections = []
                for number in range(3):
                    client, server = memory_connection(("127.0.0.1", 40000 + number), ("127.0.0.1", 8025))
                    tail = Tail(watchers, Guard(TOKEN, HOSTS, TrioWallClock()), "0.0", "mx.example.org")
                    connection = HttpConnection(server, bed.application, False, tail)
                    connections.append(weakref.ref(connection))
                    nursery.start_soon(connection.serve)
                    del connection
                    nursery.start_soon(_watch_one_event, client)
                await trio.sleep(1)
                gone = [weakref.ref(watcher) for watcher in watchers._all]
                await bed.accept("bob@far.example")
                await trio.sleep(30)
                assert watchers.statistics().watchers == 0
            assert [each() for each in gone] == [None] * 3
            assert [each() for each in connections] == [None] * 3
        finally:
            gc.enable()


async def _watch_one_event(client: trio.abc.Stream) -> None:
    """A client that leaves without a word."""
    await client.send_all(_REQUEST)
    heard = b""
    while b"recipient.deferred" not in heard:
        heard += await client.receive_some(4096)
    await trio.aclose_forcefully(client)
