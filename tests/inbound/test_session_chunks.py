"""A message in chunks (RFC 3030), beside one by DATA."""

import pytest
import trio
from inbound_bed import Client, FakeSpool, make_config, open_bed
from test_transaction import raising

from elemta.config import ListenerRole
from elemta.events import CommandRejected, MessageAccepted, MessageRejected, SessionClosed
from elemta.mail import BodyType
from elemta.spool import SpoolFull, SpoolUnavailable


async def chunk(client: Client, data: bytes, last: bool = False) -> str:
    await client.send(b"BDAT %d%b\r\n%b" % (len(data), b" LAST" if last else b"", data))
    return await client.reply()


async def test_chunks_make_one_message_and_each_is_answered(autojump_clock):
    async with open_bed() as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        assert (await chunk(client, b"Subject: x\r"))[:9] == "250 2.0.0"
        assert (await chunk(client, b"\n\r\n.\r\nQUIT\r\n"))[:9] == "250 2.0.0"
        reply = await chunk(client, b"end without a line end", last=True)
        [accepted] = bed.seen(MessageAccepted)
        assert reply == f"250 2.0.0 queued as {accepted.message}"
        [(_, body)] = bed.stored()
        assert body == b"Subject: x\r\n\r\n.\r\nQUIT\r\nend without a line end"
        await client.begin()
        assert (await client.data())[:3] == "250"  # RFC 3030 §2: DATA in another transaction
        await client.quit()


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
async def test_octets_of_chunks_are_never_commands_however_they_are_split(autojump_clock, size: int):
    dialogue = (
        b"EHLO x\r\nMAIL FROM:<a@else.example> BODY=BINARYMIME\r\nRCPT TO:<b@ours.example>\r\n"
        b"BDAT 8\r\nQUIT\r\n\r\nBDAT 0\r\nBDAT 3 LAST\r\n\0\n\rQUIT\r\n"
    )
    async with open_bed() as bed:
        client = bed.dial()
        for start in range(0, len(dialogue), size):
            await client.send(dialogue[start : start + size])
        codes = [line[:3] for line in await client.rest() if line[3] != "-"]
        assert codes == ["220", "250", "250", "250", "250", "250", "250", "221"]
        [(message, body)] = bed.stored()
        assert body == b"QUIT\r\n\r\n\0\n\r"
        assert message.envelope.body_type is BodyType.BINARY_MIME


async def test_everything_may_be_pipelined(autojump_clock):
    async with open_bed() as bed:
        client = bed.dial()
        await client.hello()
        await client.send(
            b"MAIL FROM:<a@else.example>\r\nRCPT TO:<b@ours.example>\r\n"
            b"BDAT 14 LAST\r\nSubject: x\r\n\r\nMAIL FROM:<a@else.example>\r\nRSET\r\n"
        )
        assert [(await client.reply())[:9] for _ in range(5)] == [
            "250 2.1.0",
            "250 2.1.5",
            "250 2.0.0",
            "250 2.1.0",
            "250 2.0.0",
        ]
        assert len(bed.stored()) == 1


async def test_an_empty_last_chunk_ends_the_message(autojump_clock):
    async with open_bed() as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        await chunk(client, b"Subject: x\r\n\r\n")
        assert (await chunk(client, b"", last=True))[:3] == "250"
        await client.begin()
        assert (await chunk(client, b"", last=True))[:3] == "250"
        assert sorted(body for _, body in bed.stored()) == [b"", b"Subject: x\r\n\r\n"]


async def test_lmtp_answers_only_the_last_chunk_once_per_recipient(autojump_clock):
    async with open_bed(make_config(role=ListenerRole.LMTP)) as bed:
        client = bed.dial()
        await client.hello("LHLO")
        await client.begin(recipients=["b@ours.example", "c@ours.example"])
        assert (await chunk(client, b"Subject: x\r\n"))[:3] == "250"
        assert (await chunk(client, b"\r\n", last=True))[:9] == "250 2.1.5"  # RFC 2033 §4.3
        assert (await client.reply())[:9] == "250 2.1.5"
        assert (await client.say("NOOP")) == "250 2.0.0 ok"


async def test_rset_between_chunks_forgets_them(autojump_clock):
    spool = FakeSpool()
    async with open_bed(spool=spool) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        await chunk(client, b"Subject: x\r\n")
        assert (await client.say("DATA"))[:3] == "503"  # RFC 3030 §2: not both
        assert (await client.say("RCPT TO:<c@ours.example>"))[:3] == "503"
        assert (await client.say("RSET"))[:3] == "250"
        assert spool.drafts[0].state == "discarded"
        assert bed.seen(MessageRejected)[0].reason == "rset"
        await client.begin()
        assert (await chunk(client, b"x\r\n", last=True))[:3] == "250"


async def test_binary_content_needs_chunks(autojump_clock):
    async with open_bed(spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        await client.say("MAIL FROM:<a@else.example> BODY=BINARYMIME")
        await client.say("RCPT TO:<b@ours.example>")
        assert (await client.say("DATA"))[:1] == "5"  # RFC 3030 §3
        assert (await chunk(client, b"\0\r\n", last=True))[:3] == "250"


@pytest.mark.parametrize("last", [False, True])
async def test_a_problem_of_the_content_is_told_with_its_chunk(autojump_clock, last: bool):
    spool = FakeSpool()
    async with open_bed(spool=spool) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        assert (await chunk(client, b"bare\nline feed\r\n", last))[:9] == "554 5.6.0"
        assert spool.drafts[0].state == "discarded"
        [rejected] = bed.seen(MessageRejected)
        assert (rejected.reason, rejected.reply[:3]) == ("bare-lf", "554")
        if not last:
            assert (await chunk(client, b"more\r\n"))[:3] == "503"  # a hole must not go unnoticed
            assert (await client.say("RSET"))[:3] == "250"
        await client.begin()
        assert (await chunk(client, b"x\r\n", last=True))[:3] == "250"
        assert len(bed.seen(MessageRejected)) == 1


async def test_a_last_chunk_after_a_refusal_ends_the_transaction(autojump_clock):
    async with open_bed(spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        await client.send(b"BDAT 3\r\na\nbBDAT 2\r\nxxBDAT 2 LAST\r\nyyMAIL FROM:<a@else.example>\r\n")
        assert [(await client.reply())[:3] for _ in range(4)] == ["554", "503", "503", "250"]
        assert (await client.say("RCPT TO:<b@ours.example>"))[:3] == "250"
        assert (await chunk(client, b"x\r\n", last=True))[:3] == "250"
        assert len(bed.spool.stored) == 1


@pytest.mark.parametrize("last", [False, True])
async def test_chunks_out_of_sequence_are_read_and_dropped(autojump_clock, last: bool):
    async with open_bed(spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        assert (await chunk(client, b"QUIT\r\n", last))[:3] == "503"
        await client.say("MAIL FROM:<a@else.example>")
        assert (await chunk(client, b"QUIT\r\n", last))[:3] == "503"
        if last:  # it ended the transaction
            await client.begin()
        else:
            assert (await client.say("RSET"))[:3] == "250"
            await client.begin()
        assert (await client.data())[:3] == "250"
        assert {event.verb for event in bed.seen(CommandRejected)} == {"BDAT"}


async def test_a_chunk_that_is_too_large_by_its_size_is_refused_when_it_was_read(autojump_clock):
    async with open_bed(make_config(limits={"message_size": 1000}), spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        assert (await chunk(client, b"x" * 1001, last=True)) == "552 5.3.4 message is larger than 1000 octets"
        assert bed.spool.drafts == []
        await client.begin()
        assert (await chunk(client, b"x" * 1000))[:3] == "250"
        assert (await chunk(client, b"x"))[:9] == "552 5.3.4"
        assert bed.spool.drafts[0].state == "discarded"
        await client.say("RSET")
        assert (await client.say("NOOP")) == "250 2.0.0 ok"


@pytest.mark.parametrize("last", [False, True])
async def test_no_room_for_the_first_chunk(autojump_clock, last: bool):
    spool = FakeSpool()
    async with open_bed(spool=spool) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        spool.on_step = raising("draft", SpoolFull())
        assert (await chunk(client, b"QUIT\r\n", last))[:9] == "452 4.3.1"
        spool.on_step = lambda name: None
        if not last:
            assert (await client.say("RSET"))[:3] == "250"
        await client.begin()
        assert (await chunk(client, b"x\r\n", last=True))[:3] == "250"


async def test_no_room_for_a_later_chunk(autojump_clock):
    spool = FakeSpool()
    async with open_bed(spool=spool) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        assert (await chunk(client, b"x\r\n"))[:3] == "250"
        spool.on_step = raising("write", SpoolFull())
        assert (await chunk(client, b"x\r\n"))[:9] == "452 4.3.1"
        assert bed.seen(MessageRejected)[0].reason == "storage full"


async def test_broken_storage_at_the_first_chunk_ends_the_session(autojump_clock):
    spool = FakeSpool()
    spool.on_step = raising("draft", SpoolUnavailable())
    async with open_bed(spool=spool) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        assert (await chunk(client, b"x\r\n"))[:9] == "421 4.3.0"
        assert bed.seen(SessionClosed)[0].cause == "storage"


@pytest.mark.parametrize("accepted", [True, False])
async def test_a_chunk_has_the_time_of_a_body_whether_it_is_kept_or_dropped(autojump_clock, accepted: bool):
    config = make_config(timeouts={"body_rate": 0, "body_idle": 60.0, "command": 20.0})
    async with open_bed(config, spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        if accepted:
            await client.begin()
        await client.send(b"BDAT 100 LAST\r\n")
        for _ in range(9):
            await trio.sleep(10)
            await client.send(b"x" * 10)
        await client.send(b"x" * 10)
        assert (await client.reply())[:3] == ("250" if accepted else "503")
        await trio.sleep(19)
        assert (await client.say("NOOP"))[:3] == "250"
        await client.send(b"BDAT 100 LAST\r\n")
        begun = trio.current_time()
        assert (await client.reply())[:9] == "421 4.4.2"
        assert trio.current_time() - begun == pytest.approx(60)


async def test_the_wait_between_chunks_is_that_for_a_command(autojump_clock):
    async with open_bed(spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        await chunk(client, b"x\r\n")
        assert bed.listeners.sessions[0].phase == "command"
        assert (await client.reply())[:9] == "421 4.4.2"
        assert bed.spool.drafts[0].state == "discarded"


async def test_a_stop_between_chunks_is_told_at_once(autojump_clock):
    async with open_bed(spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        await chunk(client, b"x\r\n")
        await trio.testing.wait_all_tasks_blocked()
        bed.drain.begin("test", 25, 5)
        assert (await client.reply())[:9] == "421 4.3.2"


@pytest.mark.parametrize("line", ["BDAT", "BDAT x", "BDAT -1", "BDAT 1 FIRST", "BDAT 1 LAST x"])
async def test_a_chunk_whose_size_is_not_understood_ends_the_message(autojump_clock, line: str):
    async with open_bed(spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        await chunk(client, b"x\r\n")
        assert (await client.say(line))[:3] == "501"
        assert bed.spool.drafts[0].state == "discarded"
        assert (await chunk(client, b"x\r\n", last=True))[:3] == "503"
        await client.begin()
