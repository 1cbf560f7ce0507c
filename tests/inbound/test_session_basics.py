"""What a client sees in an ordinary session, command by command."""

import pytest
import trio
from inbound_bed import FRIEND, STRANGER, FakeSpool, make_config, open_bed

from elemta.config import ListenerRole
from elemta.events import CommandRejected, MessageAccepted, SessionClosed, SessionOpened
from elemta.mail import BodyType


async def test_a_message_is_stored_with_its_envelope_and_trace_and_acknowledged_with_its_id(autojump_clock):
    async with open_bed() as bed:
        client = bed.dial()
        assert await client.reply() == "220 mx.ours.example ESMTP elemta"
        assert (await client.say("EHLO client.example")).split("\n") == [
            "250-mx.ours.example",
            "250-PIPELINING",
            "250-8BITMIME",
            "250-ENHANCEDSTATUSCODES",
            "250-SMTPUTF8",
            "250-DSN",
            "250-CHUNKING",
            "250-BINARYMIME",
            "250-MT-PRIORITY",
            "250-HELP",
            "250-SIZE 52428800",
            "250-DELIVERBY",
            "250 LIMITS MAILMAX=1000 RCPTMAX=1000",
        ]
        assert await client.say("MAIL FROM:<a@else.example> BODY=8BITMIME") == "250 2.1.0 sender ok"
        assert await client.say("RCPT TO:<b@ours.example>") == "250 2.1.5 recipient ok"
        assert await client.say("DATA") == "354 end data with <CR><LF>.<CR><LF>"
        await client.send(b"Subject: x\r\nMessage-ID: <1@else>\r\n\r\n..dot\r\n.\r\n")
        reply = await client.reply()
        await client.quit()

        [accepted] = bed.seen(MessageAccepted)
        assert reply == f"250 2.0.0 queued as {accepted.message}"
        assert accepted.sender == "a@else.example"
        assert accepted.recipients == ("b@ours.example",)
        assert accepted.peer == STRANGER
        assert accepted.protocol == "ESMTP"
        assert accepted.message_id_header == "<1@else>"
        [(message, body)] = bed.stored()
        assert message.id == accepted.message
        assert message.size == accepted.size
        assert body == b"Subject: x\r\nMessage-ID: <1@else>\r\n\r\n.dot\r\n"
        assert message.prefix.startswith(b"Received: from client.example ([192.0.2.200])")
        assert b"for <b@ours.example>;" in message.prefix
        assert f"with ESMTP id {message.id}".encode() in message.prefix
        assert message.envelope.body_type is BodyType.EIGHT_BIT_MIME
        assert message.origin.listener == "test"


async def test_the_events_of_a_session_tell_where_it_came_from_and_how_it_ended(autojump_clock):
    async with open_bed() as bed:
        client = bed.dial(port=1234)
        await client.hello()
        await client.begin()
        await client.data()
        assert (await client.say("WHAT"))[:3] == "500"
        await client.quit()
        [opened] = bed.seen(SessionOpened)
        assert (opened.listener, opened.peer, opened.port) == ("test", STRANGER, 1234)
        [closed] = bed.seen(SessionClosed)
        assert closed.session == opened.session
        assert (closed.cause, closed.commands, closed.messages, closed.errors) == ("quit", 6, 1, 1)
        assert closed.octets_in > 100
        [rejected] = bed.seen(CommandRejected)
        assert (rejected.verb, rejected.reply) == ("WHAT", "500 5.5.1 unknown command")
        assert bed.listeners.sessions == ()


async def test_an_ipv4_mapped_peer_is_judged_as_ipv4(autojump_clock):
    # The stream gives the address unmapped; a mapped one that comes through is judged all the same.
    async with open_bed() as bed:
        client = bed.dial("::ffff:10.1.2.3")
        await client.hello()
        await client.begin(recipients=["victim@foreign.example"])


async def test_commands_that_change_nothing(autojump_clock):
    async with open_bed(spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        assert await client.say("NOOP with an argument") == "250 2.0.0 ok"
        assert (await client.say("VRFY postmaster"))[:9] == "252 2.0.0"
        assert (await client.say("EXPN list"))[:9] == "502 5.5.1"
        assert (await client.say("HELP"))[:9] == "214 2.0.0"
        assert (await client.say("AUTH PLAIN"))[:9] == "502 5.5.1"
        assert (await client.say("ETRN ours.example"))[:9] == "502 5.5.1"
        assert (await client.say("STARTTLS"))[:9] == "502 5.5.1"
        assert await client.say("RSET") == "250 2.0.0 transaction reset"
        await client.quit()


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (["MAIL FROM:<a@b.example>"], "503"),
        (["EHLO x", "RCPT TO:<b@ours.example>"], "503"),
        (["EHLO x", "DATA"], "503"),
        (["EHLO x", "MAIL FROM:<a@b.example>", "DATA"], "503"),
        (["EHLO x", "MAIL FROM:<a@b.example>", "RCPT TO:<v@foreign.example>", "DATA"], "554"),
        (["EHLO x", "MAIL FROM:<a@b.example>", "MAIL FROM:<a@b.example>"], "503"),
        (["EHLO x", "MAIL FROM:a@b.example"], "501"),
        (["EHLO x", "MAIL FROM:<a@b.example> NOTIFY=NEVER"], "555"),
        (["EHLO x", "MAIL FROM:<a@b.example> AUTH=<>"], "555"),
        (["EHLO x", "MAIL FROM:<a@b.example> REQUIRETLS"], "555"),  # RFC 8689 §2: not without TLS
        (["EHLO x", "MAIL FROM:<a@b.example> HOLDFOR=60"], "555"),  # RFC 4865: for our users only
        (["EHLO x", "MAIL FROM:<a@b.example>", "RCPT TO:<b@ours.example> RET=FULL"], "555"),
        (["HELO x", "MAIL FROM:<a@b.example> SIZE=1"], "555"),
        (["LHLO x"], "500"),
    ],
)
async def test_wrong_order_and_wrong_syntax(autojump_clock, lines: list[str], code: str):
    async with open_bed(spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.reply()
        for line in lines:
            reply = await client.say(line)
        assert reply[:3] == code
        await client.quit()


@pytest.mark.parametrize("reset", ["RSET", "EHLO again.example", "HELO again.example"])
async def test_rset_and_hello_end_the_transaction(autojump_clock, reset: str):
    async with open_bed(spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        assert (await client.say(reset))[:3] == "250"
        assert (await client.say("RCPT TO:<b@ours.example>"))[:3] == "503"
        await client.begin()
        assert (await client.data())[:3] == "250"
        assert len(bed.spool.stored) == 1


async def test_several_messages_in_a_session_each_have_their_own_envelope(autojump_clock):
    async with open_bed() as bed:
        client = bed.dial()
        await client.hello("HELO")
        for name in ("one", "two"):
            await trio.sleep(1)  # ids sort by time
            await client.begin(f"{name}@else.example", [f"{name}@ours.example"])
            assert (await client.data())[:3] == "250"
        await client.quit()
        envelopes = [message.envelope for message, _ in bed.stored()]
        assert [str(envelope.reverse_path) for envelope in envelopes] == [
            "<one@else.example>",
            "<two@else.example>",
        ]
        assert [str(envelope.recipients[0].mailbox) for envelope in envelopes] == [
            "one@ours.example",
            "two@ours.example",
        ]
        assert [message.origin.protocol for message, _ in bed.stored()] == ["SMTP", "SMTP"]


async def test_a_recipient_named_twice_is_kept_once_and_answered_twice(autojump_clock):
    async with open_bed() as bed:
        client = bed.dial()
        await client.hello()
        await client.begin(
            recipients=["b@ours.example", "c@ours.example", "b@OURS.example", "B@ours.example"]
        )
        await client.data()
        [(message, _)] = bed.stored()
        assert [str(each.mailbox) for each in message.envelope.recipients] == [
            "b@ours.example",
            "c@ours.example",
            "B@ours.example",  # RFC 5321 §2.4: local parts keep their case
        ]
        assert b"for <" not in message.prefix  # RFC 5321 §7.6


async def test_the_null_sender_and_the_bare_postmaster(autojump_clock):
    async with open_bed() as bed:
        client = bed.dial()
        await client.hello()
        assert (await client.say("MAIL FROM:<>"))[:3] == "250"
        assert (await client.say("RCPT TO:<PostMaster>"))[:3] == "250"
        await client.data()
        [(message, _)] = bed.stored()
        assert message.envelope.reverse_path.is_null
        assert str(message.envelope.recipients[0].mailbox) == "postmaster@mx.ours.example"
        [accepted] = bed.seen(MessageAccepted)
        assert accepted.sender == "<>"


async def test_smtputf8_is_kept_in_envelope_and_trace(autojump_clock):
    async with open_bed() as bed:
        client = bed.dial()
        await client.hello()
        assert (await client.say("MAIL FROM:<ü@else.example> SMTPUTF8 BODY=8BITMIME"))[:3] == "250"
        assert (await client.say("RCPT TO:<ö@ours.example>"))[:3] == "250"
        await client.data()
        [(message, _)] = bed.stored()
        assert message.envelope.smtputf8
        assert message.origin.protocol == "UTF8SMTP"  # RFC 6531 §4.3
        assert "for <ö@ours.example>".encode() in message.prefix
        assert (await client.say("MAIL FROM:<ü@else.example>"))[:9] == "553 5.6.7"


async def test_lmtp_answers_the_body_once_per_accepted_recipient(autojump_clock):
    async with open_bed(make_config(role=ListenerRole.LMTP)) as bed:
        client = bed.dial()
        assert await client.reply() == "220 mx.ours.example LMTP elemta"
        assert (await client.say("EHLO x"))[:3] == "500"
        assert (await client.say("LHLO x"))[:3] == "250"
        assert (await client.say("MAIL FROM:<a@else.example>"))[:3] == "250"
        assert (await client.say("DATA"))[:3] == "503"  # RFC 2033 §4.2
        for recipient in ("b@ours.example", "nobody@foreign.example", "c@ours.example", "b@ours.example"):
            await client.say(f"RCPT TO:<{recipient}>")
        replies = [await client.data(), await client.reply(), await client.reply()]
        [accepted] = bed.seen(MessageAccepted)
        assert replies == [f"250 2.1.5 queued as {accepted.message}"] * 3
        assert accepted.protocol == "LMTP"
        assert accepted.recipients == ("b@ours.example", "c@ours.example")
        await client.quit()


async def test_lmtp_rejects_a_body_for_each_recipient(autojump_clock):
    async with open_bed(make_config(role=ListenerRole.LMTP)) as bed:
        client = bed.dial()
        await client.hello("LHLO")
        await client.begin(recipients=["b@ours.example", "c@ours.example"])
        assert [(await client.data(b"bare\nLF\r\n"))[:9], (await client.reply())[:9]] == ["554 5.6.0"] * 2
        assert bed.stored() == []
        await client.quit()


async def test_submission_needs_a_trusted_network_and_may_then_send_anywhere(autojump_clock):
    async with open_bed(make_config(role=ListenerRole.SUBMISSION)) as bed:
        stranger, friend = bed.dial(STRANGER), bed.dial(FRIEND)
        await stranger.hello()
        assert await stranger.say("MAIL FROM:<a@ours.example>") == "530 5.7.0 authentication required"
        assert (await stranger.say("RCPT TO:<b@ours.example>"))[:3] == "503"
        await friend.hello()
        await friend.begin(recipients=["anybody@foreign.example"])
        assert (await friend.data())[:3] == "250"


async def test_pipelined_commands_are_answered_in_order_in_one_write(autojump_clock):
    async with open_bed() as bed:
        client = bed.dial()
        await client.hello()
        await client.send(
            b"MAIL FROM:<a@else.example>\r\nRCPT TO:<b@ours.example>\r\nRCPT TO:<v@foreign.example>\r\nDATA\r\n"
        )
        data = bytes(await client.stream.receive_some(65536))
        assert [line[:3] for line in data.split(b"\r\n")] == [b"250", b"250", b"550", b"354", b""]
        await client.send(b"Subject: x\r\n\r\n.\r\nMAIL FROM:<c@else.example>\r\nQUIT\r\n")
        assert [line[:3] for line in await client.rest()] == ["250", "250", "221"]
        assert len(bed.stored()) == 1


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
async def test_a_session_is_the_same_however_its_octets_are_split(autojump_clock, size: int):
    dialogue = (
        b"EHLO x\r\nMAIL FROM:<a@else.example>\r\nRCPT TO:<b@ours.example>\r\nDATA\r\n"
        b"Subject: x\r\n\r\n..\r\n.x\r\n.\r\nNOOP\r\nQUIT\r\n"
    )
    async with open_bed() as bed:
        client = bed.dial()
        for start in range(0, len(dialogue), size):
            await client.send(dialogue[start : start + size])
        codes = [line[:4] for line in await client.rest() if line[3] != "-"]
        assert codes == ["220 "] + ["250 "] * 3 + ["354 ", "250 ", "250 ", "221 "]
        [(_, body)] = bed.stored()
        assert body == b"Subject: x\r\n\r\n.\r\nx\r\n"


async def test_a_line_without_an_end_is_answered_and_ends_the_session(autojump_clock):
    async with open_bed(spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        await client.send(b"NOOP\r\n" + b"X" * 70000)
        assert [line[:9] for line in await client.rest()] == ["250 2.0.0", "500 5.5.2"]
        [closed] = bed.seen(SessionClosed)
        assert closed.cause == "protocol"


async def test_a_line_that_is_too_long_is_answered_and_the_session_goes_on(autojump_clock):
    async with open_bed(spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        assert (await client.say("NOOP " + "x" * 5000))[:9] == "500 5.5.2"
        await client.quit()


async def test_text_of_strangers_never_comes_back(autojump_clock):
    async with open_bed(spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        await client.send(
            b"EV\x1b[2JIL\r\nMAIL FROM:<\x1b@x.example>\r\nVRFY needle\r\nRCPT TO:<needle@foreign.example>\r\n"
        )
        answers = [await client.reply() for _ in range(4)]
        assert not any("needle" in answer or "\x1b" in answer for answer in answers)
