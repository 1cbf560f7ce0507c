"""Every deadline of a server session (ARCHITECTURE 2.8), proved on virtual time."""

import pytest
import trio
from inbound_bed import FakeSpool, hang, make_config, open_bed

from elemta.config import ListenerTls
from elemta.events import MessageAccepted, MessageRejected, SessionClosed
from elemta.spool import SpoolFull

NO_RATE = {"body_rate": 0}


async def test_a_silent_client_is_told_421_after_the_command_timeout(autojump_clock):
    async with open_bed(make_config(timeouts={"command": 300})) as bed:
        client = bed.dial()
        await client.reply()
        assert await client.reply() == "421 4.4.2 mx.ours.example timeout, closing connection"
        assert trio.current_time() == 300
        assert await client.line() == ""
        [closed] = bed.seen(SessionClosed)
        assert (closed.cause, closed.seconds) == ("timeout", 300)


async def test_each_command_has_the_whole_command_timeout(autojump_clock):
    async with open_bed(spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        for _ in range(10):
            await trio.sleep(299)
            assert (await client.say("NOOP"))[:3] == "250"
        await trio.sleep(301)
        assert (await client.reply())[:9] == "421 4.4.2"


async def test_a_command_that_comes_octet_by_octet_has_no_more_time_than_others(autojump_clock):
    async with open_bed(make_config(timeouts={"command": 300}), spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        await trio.sleep(100)
        assert (await client.say("NOOP"))[:3] == "250"
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await client.send(b"N")
                await trio.sleep(100)
        assert (await client.reply())[:9] == "421 4.4.2"
        assert bed.seen(SessionClosed)[0].seconds == 400


async def test_a_body_that_stops_is_ended_after_body_idle_and_discarded(autojump_clock):
    spool = FakeSpool()
    async with open_bed(make_config(timeouts=NO_RATE | {"body_idle": 200}), spool=spool) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        await client.say("DATA")
        await trio.sleep(199)
        await client.send(b"Subject: x\r\n")
        sent = trio.current_time()
        assert (await client.reply())[:9] == "421 4.4.2"
        assert trio.current_time() == sent + 200
        await trio.testing.wait_all_tasks_blocked()
        assert [draft.state for draft in spool.drafts] == ["discarded"]
        assert spool.stored == {}
        [rejected] = bed.seen(MessageRejected)
        assert (rejected.reason, rejected.reply) == ("timeout", "")


async def test_a_body_slower_than_the_least_rate_is_ended_though_it_never_stops(autojump_clock):
    async with open_bed(make_config(timeouts={"body_rate": 500}), spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        await client.say("DATA")
        begun = trio.current_time()
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await client.send(b"x" * 400)
                await trio.sleep(1)
        assert (await client.reply())[:9] == "421 4.4.2"
        assert bed.seen(SessionClosed)[0].seconds == begun + 60


async def test_a_body_just_above_the_least_rate_may_take_its_time(autojump_clock):
    async with open_bed(make_config(timeouts={"body_rate": 500}), spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        await client.say("DATA")
        for _ in range(600):
            await client.send(b"x" * 510)
            await trio.sleep(1)
        await client.send(b"\r\n.\r\n")
        assert (await client.reply())[:3] == "250"
        assert trio.current_time() == 600


async def test_a_slow_disk_is_not_held_against_the_client(autojump_clock):
    spool = FakeSpool()
    spool.on_step = lambda name: trio.sleep(100) if name in ("write", "submit") else None
    async with open_bed(make_config(timeouts={"transaction": 5000}), spool=spool) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        await client.say("DATA")
        for _ in range(5):
            await client.send(b"x" * 100)
            await trio.sleep(101)
        await client.send(b"\r\n.\r\n")
        assert (await client.reply())[:3] == "250"


async def test_a_commit_may_take_longer_than_any_phase(autojump_clock):
    spool = FakeSpool()
    spool.on_step = lambda name: trio.sleep(1000) if name == "decide" else None
    async with open_bed(spool=spool) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        assert (await client.data())[:3] == "250"
        assert trio.current_time() == 1000
        await client.quit()


async def test_a_client_that_does_not_read_is_cut_off_after_the_write_timeout(autojump_clock):
    async with open_bed(make_config(timeouts={"write": 60}), spool=FakeSpool()) as bed:
        client = bed.dial(capacity=100)
        await client.hello()
        bed.nursery.start_soon(client.send, b"HELP\r\n" * 20)
        await trio.sleep(59)
        assert bed.seen(SessionClosed) == []
        await trio.sleep(2)
        assert bed.seen(SessionClosed)[0].cause == "timeout"
        # What was under way may have been cut anywhere: not one more word comes behind it.
        text = b""
        while data := await client.stream.receive_some(1000):
            text += data
        assert b"421" not in text


async def test_a_transaction_has_a_bound_of_its_own(autojump_clock):
    async with open_bed(make_config(timeouts={"transaction": 1800}), spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        await trio.sleep(250)
        await client.begin()
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await client.send(b"NOOP\r\n")
                await trio.sleep(250)
        assert bed.seen(SessionClosed)[0].seconds == 2050


async def test_the_bound_of_a_transaction_ends_with_it(autojump_clock):
    async with open_bed(make_config(timeouts={"transaction": 1000}), spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        for end in ("RSET", "EHLO x", "DATA"):
            await client.begin()
            await trio.sleep(200)
            reply = await (client.data() if end == "DATA" else client.say(end))
            assert reply[:3] == "250"
            for _ in range(5):
                await trio.sleep(250)
                assert (await client.say("NOOP"))[:3] == "250"


async def test_a_session_has_a_bound_whatever_it_does(autojump_clock):
    async with open_bed(make_config(timeouts={"session": 7200}), spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await client.send(b"MAIL FROM:<a@b.example>\r\nRSET\r\n")
                await trio.sleep(200)
        assert bed.seen(SessionClosed)[0].seconds == 7200


async def test_a_client_that_never_begins_tls_is_cut_off_without_a_word(autojump_clock, server_tls):
    config = make_config(tls=ListenerTls.IMPLICIT, timeouts={"tls_handshake": 30})
    async with open_bed(config, spool=FakeSpool(), tls=server_tls) as bed:
        client = bed.dial()
        assert await client.line() == ""
        assert trio.current_time() == 30
        assert bed.seen(SessionClosed)[0].cause == "timeout"


async def test_the_final_reply_waits_no_longer_than_its_timeout_and_the_message_stays(autojump_clock, capsys):
    spool = FakeSpool()
    async with open_bed(make_config(timeouts={"final_reply": 30}), spool=spool) as bed:
        client = bed.dial(capacity=30)
        await client.hello()
        await client.begin()
        await client.say("DATA")
        bed.nursery.start_soon(client.send, b"Subject: x\r\n\r\nhello\r\n.\r\n")
        await trio.sleep(29)
        [view] = bed.listeners.sessions
        assert view.phase == "final-reply"
        await trio.sleep(2)
        assert bed.seen(SessionClosed)[0].cause == "timeout"
        assert len(spool.stored) == 1
        assert spool.drafts[0].state == "kept"
        assert len(bed.seen(MessageAccepted)) == 1
        assert "stored, but the reply was lost" in capsys.readouterr().err


async def test_a_hanging_write_to_the_spool_is_bounded_by_the_transaction(autojump_clock):
    spool = FakeSpool()
    spool.on_step = lambda name: hang() if name == "write" else None
    async with open_bed(spool=spool) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        assert (await client.data()) == "421 4.4.2 mx.ours.example session took too long, closing connection"
        assert trio.current_time() == 1800
        assert spool.drafts[0].state == "discarded"


async def test_a_draft_on_a_full_disk_is_told_at_the_real_end(autojump_clock):
    spool = FakeSpool()

    def fill(name: str) -> None:
        if name == "write":
            raise SpoolFull

    spool.on_step = fill
    async with open_bed(spool=spool) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        await client.say("DATA")
        for _ in range(3):
            await client.send(b"x" * 100 + b"\r\n")
            await trio.sleep(1)
        await client.send(b".\r\n")
        assert (await client.reply())[:9] == "452 4.3.1"
        assert trio.current_time() == 3
        await client.quit()
        assert spool.drafts[0].state == "discarded"
