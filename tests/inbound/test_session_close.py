"""What becomes of a session that an operator ends, at each of its steps."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from inbound_bed import Bed, FakeSpool, open_bed

from elemta.events import MessageAccepted, MessageRejected, SessionClosed

CLOSED = "421 4.3.2 mx.ours.example connection closed by the operator, try again later"


def close_all(bed: Bed) -> None:
    for view in bed.listeners.sessions:
        assert bed.listeners.close_session(view.id)


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
async def test_one_that_waits_for_the_client_is_told_421_at_once(
    autojump_clock: trio.testing.MockClock, steps: int
) -> None:
    async with open_bed(spool=FakeSpool()) as bed:
        client = bed.dial()
        if steps == 0:
            await client.reply()
        if steps >= 1:
            await client.hello()
        if steps >= 2:
            await client.begin()
        if steps >= 3:
            await client.say("DATA")
            await client.send(b"Subject: half")
        await trio.sleep(0.01)
        begun = trio.current_time()
        close_all(bed)
        assert await client.reply() == CLOSED
        assert await client.line() == ""
        assert trio.current_time() == begun
        assert [event.cause for event in bed.seen(SessionClosed)] == ["operator"]
        assert bed.listeners.sessions == ()
        assert len(bed.seen(MessageRejected)) == (steps == 3)
        assert not bed.seen(MessageAccepted)


async def test_a_commit_that_storage_has_begun_is_acknowledged_first(
    autojump_clock: trio.testing.MockClock,
) -> None:
    spool = FakeSpool()
    spool.on_step = lambda name: trio.sleep(20) if name == "decide" else None
    async with open_bed(spool=spool) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        await client.say("DATA")
        await client.send(b"Subject: x\r\n\r\n.\r\n")
        await trio.sleep(1)
        close_all(bed)
        assert (await client.reply())[:3] == "250"
        assert await client.reply() == CLOSED
        assert len(spool.stored) == len(bed.seen(MessageAccepted)) == 1


async def test_a_commit_that_storage_has_not_begun_never_happened(
    autojump_clock: trio.testing.MockClock,
) -> None:
    spool = FakeSpool()
    spool.on_step = lambda name: trio.sleep(20) if name == "submit" else None
    async with open_bed(spool=spool) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        await client.say("DATA")
        await client.send(b"Subject: x\r\n\r\n.\r\n")
        await trio.sleep(1)
        close_all(bed)
        assert await client.reply() == CLOSED
        assert not spool.stored
        assert not bed.seen(MessageAccepted)


async def test_others_are_left_alone(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed(spool=FakeSpool()) as bed:
        one, other = bed.dial(port=1001), bed.dial(port=1002)
        await one.hello()
        await other.hello()
        (view,) = (view for view in bed.listeners.sessions if view.port == 1001)
        assert bed.listeners.close_session(view.id)
        assert await one.reply() == CLOSED
        assert (await other.say("NOOP"))[:3] == "250"
        await one.line()
        assert not bed.listeners.close_session(view.id)
        assert not bed.listeners.close_session("")


async def test_a_view_tells_what_is_under_way(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed(spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin("a@else.example", ("b@ours.example", "c@ours.example"))
        await client.say("DATA")
        await trio.sleep(3)
        (view,) = bed.listeners.sessions
        told: dict[str, Any] = {
            name: getattr(view, name) for name in ("hello", "sender", "recipients", "phase", "messages")
        }
        assert told == {
            "hello": "client.example",
            "sender": "a@else.example",
            "recipients": 2,
            "phase": "body",
            "messages": 0,
        }
        assert view.message
        assert 0 < view.seconds_left < 3600
