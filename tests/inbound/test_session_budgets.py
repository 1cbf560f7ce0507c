"""How much a client may try the server's patience."""

import trio
from inbound_bed import FRIEND, FakeSpool, make_config, open_bed

from elemta.events import CommandRejected, MessageRejected, SessionClosed


async def test_after_too_many_errors_the_session_ends_with_421(autojump_clock):
    config = make_config(limits={"errors": 3, "soft_errors": 100})
    async with open_bed(config, spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        assert (await client.say("RCPT TO:<v@foreign.example>"))[:3] == "550"
        assert (await client.say("WHAT"))[:3] == "500"
        assert (await client.say("MAIL"))[:3] == "503"
        assert (await client.say("RCPT TO:<v@foreign.example>"))[:9] == "421 4.7.0"
        assert await client.line() == ""
        [closed] = bed.seen(SessionClosed)
        assert (closed.cause, closed.errors) == ("errors", 4)
        rejected = bed.seen(CommandRejected)
        assert [event.verb for event in rejected] == ["RCPT", "WHAT", "MAIL", "RCPT"]
        assert rejected[0].sender == "a@else.example"
        assert rejected[0].recipient == "v@foreign.example"


async def test_error_replies_are_held_back_from_the_soft_limit_on(autojump_clock):
    config = make_config(limits={"errors": 100, "soft_errors": 2, "error_delay": 1.0})
    async with open_bed(config, spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        times = []
        for _ in range(4):
            begun = trio.current_time()
            await client.say("WHAT")
            times.append(trio.current_time() - begun)
        assert times == [0, 1, 1, 1]
        begun = trio.current_time()
        await client.say("NOOP")
        assert trio.current_time() == begun


async def test_a_pipelined_batch_of_errors_ends_at_the_hard_limit(autojump_clock):
    config = make_config(limits={"errors": 20, "soft_errors": 10, "error_delay": 1.0})
    async with open_bed(config, spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        await client.send(b"WHAT\r\n" * 1000)
        lines = await client.rest()
        assert len(lines) == 21
        assert lines[-1][:9] == "421 4.7.0"
        assert trio.current_time() == 11


async def test_temporary_refusals_are_not_held_against_the_client(autojump_clock):
    config = make_config(limits={"errors": 1, "recipients": 2})
    async with open_bed(config, spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin(recipients=["1@ours.example", "2@ours.example"])
        for number in range(10):
            assert (await client.say(f"RCPT TO:<{number + 3}@ours.example>"))[:9] == "452 4.5.3"
        assert (await client.say("RCPT TO:<1@ours.example>"))[:3] == "250"
        assert (await client.data())[:3] == "250"
        [(envelope, *_)] = bed.spool.stored.values()
        assert len(envelope.recipients) == 2


async def test_after_too_many_commands_that_do_nothing_the_session_ends(autojump_clock):
    async with open_bed(make_config(limits={"junk_commands": 5}), spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        for command in ("NOOP", "RSET", "VRFY x", "HELP", "EHLO again.example"):
            assert (await client.say(command))[:1] == "2"
        assert (await client.say("VRFY once.more.example"))[:3] == "421"
        assert bed.seen(SessionClosed)[0].cause == "errors"


async def test_a_message_earns_new_patience_for_such_commands(autojump_clock):
    async with open_bed(make_config(limits={"junk_commands": 2}), spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        for _ in range(10):
            assert (await client.say("RSET"))[:3] == "250"
            await client.begin()
            assert (await client.data())[:3] == "250"
        await client.quit()


async def test_messages_per_session(autojump_clock):
    async with open_bed(make_config(limits={"messages_per_session": 2}), spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        for _ in range(2):
            await client.begin()
            assert (await client.data())[:3] == "250"
        assert (await client.say("MAIL FROM:<a@else.example>"))[:9] == "421 4.7.0"
        assert bed.seen(SessionClosed)[0].cause == "limit"


async def test_ten_thousand_pipelined_noops_leave_turns_to_others(autojump_clock):
    async with open_bed(make_config(limits={"junk_commands": 20_000}), spool=FakeSpool()) as bed:
        busy, other = bed.dial(), bed.dial(FRIEND)
        await busy.hello()
        await other.hello()
        await busy.send(b"NOOP\r\n" * 10_000 + b"QUIT\r\n")
        done: list[int] = []

        async def read() -> None:
            done.append(len(await busy.rest()))

        bed.nursery.start_soon(read)
        await other.begin()
        assert (await other.data())[:3] == "250"
        assert not done  # the other one was served in between
        while not done:
            await trio.sleep(0.1)
        assert done == [10_001]


async def test_a_size_that_is_announced_too_large_is_refused_at_mail(autojump_clock):
    async with open_bed(make_config(limits={"message_size": 1000}), spool=FakeSpool()) as bed:
        client = bed.dial()
        assert "SIZE 1000" in await client.hello()
        assert (await client.say("MAIL FROM:<a@else.example> SIZE=1001")) == (
            "552 5.3.4 message is larger than 1000 octets"
        )
        assert (await client.say("MAIL FROM:<a@else.example> SIZE=1000"))[:3] == "250"


async def test_a_size_that_was_not_announced_is_refused_at_the_end(autojump_clock):
    async with open_bed(make_config(limits={"message_size": 1000})) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        assert (await client.data(b"x" * 99 + b"\r\n" + b"x" * 5000 + b"\r\n"))[:9] == "552 5.3.4"
        assert bed.stored() == []
        [rejected] = bed.seen(MessageRejected)
        assert rejected.reason == "too-big"
        assert rejected.reply.startswith("552 5.3.4")
        await client.begin()
        assert (await client.data(b"x" * 998 + b"\r\n"))[:3] == "250"


async def test_how_often_a_client_did_not_wait_is_told(autojump_clock):
    async with open_bed(spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.send(b"EHLO x\r\nNOOP\r\nNOOP\r\nQUIT\r\n")
        assert (await client.rest())[-1][:3] == "221"
        assert bed.seen(SessionClosed)[0].early == 3  # behind EHLO and two of NOOP


async def test_a_client_that_does_not_wait_may_be_ended_before_its_message_is_taken(autojump_clock):
    async with open_bed(make_config(limits={"pipelining_errors": 1}), spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        await client.send(b"MAIL FROM:<a@else.example>\r\nRCPT TO:<b@ours.example>\r\nDATA\r\n")
        assert [(await client.reply())[:3] for _ in range(3)] == ["250", "250", "354"]  # RFC 2920 §3.1
        await client.send(b"x\r\n.\r\n")
        assert (await client.reply())[:3] == "250"
        await client.send(b"MAIL FROM:<a@else.example>\r\nRCPT TO:<b@ours.example>\r\nDATA\r\nx\r\n.\r\n")
        assert [(await client.reply())[:3] for _ in range(4)] == ["250", "250", "354", "250"]
        await client.send(b"MAIL FROM:<a@else.example>\r\nRCPT TO:<b@ours.example>\r\nDATA\r\nx\r\n.\r\n")
        assert [(await client.reply())[:9] for _ in range(3)] == ["250 2.1.0", "250 2.1.5", "421 4.5.1"]
        assert await client.line() == ""
        assert len(bed.spool.stored) == 2
        assert bed.seen(SessionClosed)[0].cause == "pipelining"
        assert bed.seen(CommandRejected)[0].verb == "DATA"
