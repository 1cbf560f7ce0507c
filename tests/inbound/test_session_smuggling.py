"""Each published way to end a message where others do not see its end; none ends it here.

Only CRLF "." CRLF does (RFC 5321 §4.1.1.4). What looks like commands behind the others is text of a
message that is refused at its real end, or repaired where the configuration says so.
"""

import pytest
from inbound_bed import FakeSpool, make_config, open_bed

from elemta.config import LineEndPolicy
from elemta.events import MessageAccepted, MessageRejected

ENDS = [
    # SEC Consult, "SMTP smuggling" (2023); CVE-2023-51764 to -51766; RELIABILITY 6
    b"\n.\n",
    b"\n.\r\n",
    b"\r.\r",
    b"\r.\r\n",
    b"\r\n.\n",
    b"\r\n.\r",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\r\0\n.\r\n",
    b"\r\n.\r\0\n",
    b"\n\r.\r\n",
    b"\r\r\n.\r\r\n",
    b"\r\r.\r\r",
    b"\n.\r",
    b"\r.\n",
    b"\n\n.\n\n",
    b"\r\n.\r\r\n",
    b"\r\n.\n\r\n",
    b"\r\n..\n",
    b"\n..\n",
]
# These are nothing but text, with nothing wrong in it.
HARMLESS = [b"\r\n. \r\n", b"\r\n..\r\n", b"\r\n.\t\r\n", b"\r\n.x\r\n", b"\r\n \r\n.x"]
SMUGGLED = b"MAIL FROM:<ceo@ours.example>\r\nRCPT TO:<victim@ours.example>\r\nDATA\r\nSubject: no\r\n\r\nx"


@pytest.mark.parametrize("size", [1, 4096])
@pytest.mark.parametrize("end", ENDS)
async def test_nothing_but_the_real_end_ends_a_message(autojump_clock, end: bytes, size: int):
    message = b"Subject: x\r\n\r\ntext" + end + SMUGGLED + b"\r\n.\r\nNOOP\r\nQUIT\r\n"
    async with open_bed(spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        await client.say("DATA")
        for start in range(0, len(message), size):
            await client.send(message[start : start + size])
        assert [line[:9] for line in await client.rest()] == ["554 5.6.0", "250 2.0.0", "221 2.0.0"]
        assert bed.spool.stored == {}
        assert bed.seen(MessageAccepted) == []
        [rejected] = bed.seen(MessageRejected)
        assert rejected.reason in ("bare-lf", "bare-cr", "nul")


@pytest.mark.parametrize("end", [end for end in ENDS if b"\0" not in end])
async def test_repaired_they_are_lines_of_one_message(autojump_clock, end: bytes):
    config = make_config(limits={"line_ends": LineEndPolicy.REPAIR})
    message = b"Subject: x\r\n\r\ntext" + end + SMUGGLED + b"\r\n.\r\nQUIT\r\n"
    async with open_bed(config) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        await client.say("DATA")
        await client.send(message)
        assert [line[:3] for line in await client.rest()] == ["250", "221"]
        [(stored, body)] = bed.stored()
        assert [str(each.mailbox) for each in stored.envelope.recipients] == ["b@ours.example"]
        assert body.endswith(SMUGGLED + b"\r\n")
        text = body.replace(b"\r\n", b"")
        assert b"\r" not in text
        assert b"\n" not in text


@pytest.mark.parametrize("end", HARMLESS)
async def test_dots_that_are_text(autojump_clock, end: bytes):
    async with open_bed() as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        await client.say("DATA")
        await client.send(b"text" + end + SMUGGLED + b"\r\n.\r\nQUIT\r\n")
        assert [line[:3] for line in await client.rest()] == ["250", "221"]
        [(_, body)] = bed.stored()
        assert SMUGGLED in body


@pytest.mark.parametrize("line", [b"NOOP\nQUIT\r\n", b"NOOP\rQUIT\r\n", b"NOOP \0QUIT\r\n"])
async def test_no_mixture_in_a_command_makes_two_of_it(autojump_clock, line: bytes):
    # RFC 5321 §2.3.8
    async with open_bed(spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        await client.send(line)
        assert (await client.reply())[:3] == "500"
        assert (await client.say("NOOP")) == "250 2.0.0 ok"


async def test_a_chunk_cannot_smuggle_either(autojump_clock):
    data = b"text\n.\n" + SMUGGLED
    async with open_bed(spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        await client.send(b"BDAT %d LAST\r\n%b" % (len(data), data))
        assert (await client.reply())[:9] == "554 5.6.0"
        assert await client.say("NOOP") == "250 2.0.0 ok"
        assert bed.spool.stored == {}


async def test_an_endless_header_is_read_to_its_end_and_not_kept(autojump_clock):
    spool = FakeSpool()
    async with open_bed(
        make_config(limits={"header_size": 4096, "message_size": 100_000}), spool=spool
    ) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        await client.say("DATA")
        for number in range(2000):
            await client.send(b"X-%d: %b\r\n" % (number, b"x" * 100))
        await client.send(b"\r\n.\r\n")
        assert (await client.reply())[:3] == "552"
        assert len(spool.drafts[0].data) <= 100_000
        assert await client.say("NOOP") == "250 2.0.0 ok"
