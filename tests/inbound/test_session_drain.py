"""What becomes of sessions when the server stops."""

import pytest
import trio
from inbound_bed import STRANGER, FakeSpool, make_config, open_bed

from elemta.events import MessageAccepted, SessionClosed

GRACE, HARD = 25.0, 5.0


async def test_an_idle_session_is_told_421_at_once_and_closed(autojump_clock):
    async with open_bed(spool=FakeSpool()) as bed:
        idle, within = bed.dial(), bed.dial()
        await idle.hello()
        await within.hello()
        await within.begin()
        bed.drain.begin("test", GRACE, HARD)
        for client in (idle, within):
            assert await client.reply() == "421 4.3.2 mx.ours.example shutting down, try again later"
            assert await client.line() == ""
        assert trio.current_time() == 0
        assert {event.cause for event in bed.seen(SessionClosed)} == {"drain"}


async def test_a_body_under_way_may_finish_and_is_acknowledged(autojump_clock):
    async with open_bed() as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        await client.say("DATA")
        bed.drain.begin("test", GRACE, HARD)
        await trio.sleep(20)
        await client.send(b"Subject: x\r\n\r\n.\r\n")
        assert (await client.reply())[:3] == "250"
        assert (await client.reply())[:9] == "421 4.3.2"
        assert await client.line() == ""
        assert len(bed.stored()) == 1


async def test_a_commit_under_way_is_acknowledged(autojump_clock):
    spool = FakeSpool()
    spool.on_step = lambda name: trio.sleep(20) if name == "decide" else None
    async with open_bed(spool=spool) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        await client.say("DATA")
        await client.send(b"Subject: x\r\n\r\n.\r\n")
        await trio.sleep(1)
        bed.drain.begin("test", GRACE, HARD)
        assert (await client.reply())[:3] == "250"
        assert (await client.reply())[:9] == "421 4.3.2"


async def test_a_commit_that_ends_after_the_deadline_is_still_acknowledged_first(autojump_clock):
    spool = FakeSpool()
    spool.on_step = lambda name: trio.sleep(27) if name == "decide" else None
    async with open_bed(spool=spool) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        await client.say("DATA")
        await client.send(b"Subject: x\r\n\r\n.\r\n")
        await trio.sleep(0.5)
        bed.drain.begin("test", GRACE, HARD)
        assert (await client.reply())[:3] == "250"
        assert trio.current_time() == 27
        assert (await client.reply())[:9] == "421 4.3.2"
        assert len(spool.stored) == 1


async def test_a_commit_that_ends_after_the_hard_deadline_is_still_acknowledged(autojump_clock):
    spool = FakeSpool()
    spool.on_step = lambda name: trio.sleep(40) if name == "decide" else None
    async with open_bed(spool=spool) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        await client.say("DATA")
        await client.send(b"Subject: x\r\n\r\n.\r\n")
        await trio.sleep(0.5)
        bed.drain.begin("test", GRACE, HARD)
        assert (await client.reply())[:3] == "250"
        assert await client.line() == ""
        assert len(bed.seen(MessageAccepted)) == 1


async def test_a_body_that_does_not_finish_is_ended_at_the_deadline_and_discarded(autojump_clock):
    spool = FakeSpool()
    async with open_bed(spool=spool) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        await client.say("DATA")
        await client.send(b"Subject: x\r\n")
        bed.drain.begin("test", GRACE, HARD)
        assert (await client.reply())[:9] == "421 4.3.2"
        assert trio.current_time() == GRACE
        await trio.testing.wait_all_tasks_blocked()
        assert spool.drafts[0].state == "discarded"
        assert spool.stored == {}


async def test_an_earlier_deadline_that_comes_later_holds_too(autojump_clock):
    async with open_bed(spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        await client.say("DATA")
        await trio.testing.wait_all_tasks_blocked()
        bed.drain.begin("first signal", GRACE, HARD)
        await trio.sleep(1)
        bed.drain.begin("second signal", 1, 1)
        assert (await client.reply())[:9] == "421 4.3.2"
        assert trio.current_time() == 2


async def test_a_client_that_does_not_read_is_gone_at_the_hard_deadline(autojump_clock):
    async with open_bed(spool=FakeSpool()) as bed:
        client = bed.dial(capacity=50)
        await client.hello()
        bed.nursery.start_soon(client.send, b"HELP\r\n" * 8)
        await trio.sleep(1)
        bed.drain.begin("test", GRACE, HARD)
        await trio.sleep(GRACE + HARD + 0.1)
        assert len(bed.seen(SessionClosed)) == 1
        assert bed.listeners.sessions == ()


async def test_no_connection_is_accepted_once_the_drain_has_begun(autojump_clock):
    async with open_bed(spool=FakeSpool()) as bed:
        await trio.testing.wait_all_tasks_blocked()
        bed.drain.begin("test", GRACE, HARD)
        await trio.testing.wait_all_tasks_blocked()
        assert bed.listener.closed
        accepts = bed.listener.accepts
        with pytest.raises(trio.ClosedResourceError):
            bed.dial()
        await trio.sleep(1)
        assert bed.listener.accepts == accepts
        assert bed.listeners.statistics().accepted == 0


async def test_a_connection_of_the_last_moment_is_greeted_with_421(autojump_clock):
    async with open_bed(spool=FakeSpool()) as bed:
        await trio.testing.wait_all_tasks_blocked()
        client = bed.dial(STRANGER)
        while not bed.listeners.statistics().accepted:
            await trio.lowlevel.checkpoint()
        bed.drain.begin("test", GRACE, HARD)
        lines = await client.rest()
        assert [line[:3] for line in lines] in (["421"], ["220", "421"])


async def test_quit_gets_its_221_and_other_pipelined_commands_get_421(autojump_clock):
    spool = FakeSpool()
    spool.on_step = lambda name: trio.sleep(5) if name == "decide" else None
    async with open_bed(spool=spool) as bed:
        leaving, staying = bed.dial(), bed.dial()
        for client, more in ((leaving, b"QUIT\r\n"), (staying, b"MAIL FROM:<a@b.example>\r\nNOOP\r\n")):
            await client.hello()
            await client.begin()
            await client.say("DATA")
            await client.send(b"Subject: x\r\n\r\n.\r\n" + more)
        await trio.sleep(1)
        bed.drain.begin("test", GRACE, HARD)
        assert [line[:3] for line in await leaving.rest()] == ["250", "221"]
        assert [line[:3] for line in await staying.rest()] == ["250", "421"]


async def test_leaving_the_block_drains_by_itself(autojump_clock):
    config = make_config(timeouts={"drain": 30.0, "hard_cancel": 5.0})
    async with trio.open_nursery() as nursery:
        async with open_bed(config, spool=FakeSpool(), cancel=False) as bed:
            client = bed.dial()
            await client.hello()
            await client.begin()
            await client.say("DATA")

            async def finish() -> None:
                await trio.sleep(10)
                await client.send(b"Subject: x\r\n\r\n.\r\n")

            nursery.start_soon(finish)
        assert trio.current_time() == 10
        assert bed.drain.draining
        assert (await client.reply())[:3] == "250"
