"""What goes over the wire, octet by octet."""

import pytest
from delivery_helpers import (
    BODY,
    CONTENT,
    PREFIX,
    FakeContent,
    connected,
    deliver_one,
    make_parcel,
    recipient,
    streamed,
)

from elemta.mail import BodyType, Delivered, DsnOptions, Failed, Notify, Relay, Ret
from elemta.smtp import Capabilities, MailParams
from elemta.testing.peers import (
    GREETING,
    LOCKSTEP_HELLO,
    PIPELINING_HELLO,
    TRANSACTION,
    ScriptedPeer,
    SinkPeer,
)


async def test_pipelined_message_is_byte_exact(autojump_clock):
    peer = ScriptedPeer(GREETING, PIPELINING_HELLO, *TRANSACTION)
    async with connected(peer) as connection:
        outcome = await deliver_one(connection)
        assert connection.usable
    assert outcome == Delivered(outcome.reply, "192.0.2.1[192.0.2.1]:25", from_remote=True, relay=Relay())
    assert str(outcome.reply) == "250 2.0.0 taken"
    assert peer.received.startswith(
        b"EHLO mx.example\r\n"
        b"MAIL FROM:<bob@example.net> SIZE=%d\r\nRCPT TO:<ann@example.org>\r\nDATA\r\n"
        b"%b.\r\n" % (len(CONTENT), CONTENT)
    )


async def test_pipelined_commands_leave_in_one_write_and_the_content_in_another(autojump_clock):
    sent = []
    async with connected(SinkPeer()) as connection:
        stream = connection._wire.stream
        send_all = stream.send_all

        async def record(data):
            sent.append(bytes(data))
            await send_all(data)

        stream.send_all = record
        await deliver_one(connection, "a@example.org", "b@example.org")
    assert len(sent) == 3
    assert sent[0].startswith(b"MAIL")
    assert sent[0].endswith(b"DATA\r\n")
    assert sent[1] == CONTENT + b".\r\n"
    assert sent[2] == b"QUIT\r\n"


async def test_without_pipelining_each_command_waits_for_its_reply(autojump_clock):
    peer = ScriptedPeer(GREETING, LOCKSTEP_HELLO, *TRANSACTION)
    async with connected(peer) as connection:
        assert isinstance(await deliver_one(connection), Delivered)
    assert peer.commands[:4] == [
        b"EHLO mx.example",
        b"MAIL FROM:<bob@example.net>",
        b"RCPT TO:<ann@example.org>",
        b"DATA",
    ]
    assert peer.bodies == [CONTENT + b".\r\n"]


async def test_quit_is_sent_when_closing(autojump_clock):
    peer = ScriptedPeer(GREETING, LOCKSTEP_HELLO)
    async with connected(peer):
        pass
    await peer.finished.wait()
    assert peer.commands[-1] == b"QUIT"


async def test_dots_are_stuffed_and_a_missing_last_line_end_is_added(autojump_clock):
    content = FakeContent(prefix=b".P: x\r\n", whole=b"S: y\r\n\r\n.\r\n..\r\na.b\r\n.end")
    for hello in (PIPELINING_HELLO, LOCKSTEP_HELLO):
        peer = ScriptedPeer(GREETING, hello, *TRANSACTION)
        async with connected(peer) as connection:
            await deliver_one(connection, content=content)
        assert peer.bodies == [b"..P: x\r\nS: y\r\n\r\n..\r\n...\r\na.b\r\n..end\r\n.\r\n"]


async def test_streamed_content_is_stuffed_across_pieces(autojump_clock):
    content = streamed(b"S: y\r\n\r", b"\n", b".", b"\r\n.", b".x\r\n")
    sink = SinkPeer()
    async with connected(sink) as connection:
        assert isinstance(await deliver_one(connection, content=content), Delivered)
    assert sink.messages[0].content == PREFIX + b"S: y\r\n\r\n.\r\n..x\r\n"


async def test_large_content_is_sent_in_blocks_whatever_the_reader_gives(autojump_clock):
    block = bytes(range(32, 126)) * 30 + b"\r\n"
    whole = b"S: y\r\n\r\n" + block * 300
    sent = []
    for content in (FakeContent(whole=whole), streamed(whole), streamed(b"S: y\r\n\r\n", *[block] * 300)):
        sink = SinkPeer()
        async with connected(sink) as connection:
            stream = connection._wire.stream
            send_all = stream.send_all

            async def record(data, send_all=send_all):
                sent.append(len(data))
                await send_all(data)

            stream.send_all = record
            await deliver_one(connection, content=content)
        assert sink.messages[0].content == PREFIX + whole
    assert max(sent) < 70_000


async def test_memory_stays_small_while_large_content_is_streamed(autojump_clock):
    import tracemalloc

    piece = b"x" * 998 + b"\r\n"
    piece *= 256
    count = 40
    taken = 0

    class Gulp:
        """Takes all without keeping it."""

        async def serve(self, stream):
            nonlocal taken
            await stream.send_all(b"220 gulp\r\n")
            tail = b""
            body = False
            while data := await stream.receive_some(65536):
                tail = (tail + data)[-16:]
                if body:
                    taken += len(data)
                    if tail.endswith(b"\r\n.\r\n"):
                        await stream.send_all(b"250 ok\r\n")
                        body = False
                elif tail.endswith(b"DATA\r\n"):
                    body = True
                    await stream.send_all(b"354 go\r\n")
                elif not tail.endswith(b"QUIT\r\n"):
                    await stream.send_all(b"250 ok\r\n")

    content = FakeContent(pieces=(piece for _ in range(count)), size_of_pieces=count * len(piece))
    content.prefix = b"S: y\r\n\r\n"
    # Without any extension it would be read through first, to look for 8-bit octets.
    async with connected(Gulp()) as connection:
        connection._wire.machine._capabilities = Capabilities(eight_bit_mime=True)
        tracemalloc.start()
        try:
            assert isinstance(await deliver_one(connection, content=content), Delivered)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert taken > count * len(piece)
    assert peak < 3_000_000


async def test_extensions_are_used_only_when_needed(autojump_clock):
    sink = SinkPeer()
    async with connected(sink) as connection:
        await deliver_one(connection, body_type=BodyType.EIGHT_BIT_MIME, smtputf8=False)
        await deliver_one(connection, content=FakeContent(whole=b"S: y\r\n\r\n\xe4\r\n"))
        await deliver_one(connection, "\u00e4@example.org", smtputf8=True)
        await deliver_one(connection, content=streamed(b"S: y\r\n\r\nplain\r\n"))
    params = [message.mail.params for message in sink.messages]
    plain = len(CONTENT)
    assert params[0] == MailParams(size=plain)
    assert params[1].body_type is BodyType.EIGHT_BIT_MIME
    assert params[2] == MailParams(size=plain, smtputf8=True)
    # What is not in memory is not read through for it; 8BITMIME allows 7-bit text.
    assert params[3].body_type is BodyType.EIGHT_BIT_MIME


async def test_dsn_options_are_passed_on_where_dsn_is_announced(autojump_clock):
    options = DsnOptions(Notify.SUCCESS | Notify.FAILURE, "rfc822;ann+x@example.org")
    parcel = make_parcel(recipient(dsn=options), ret=Ret.HEADERS, envelope_id="id 1")
    sink = SinkPeer()
    async with connected(sink) as connection:
        await connection.deliver(parcel)
    [message] = sink.messages
    assert (message.mail.params.ret, message.mail.params.envelope_id) == (Ret.HEADERS, "id 1")
    assert message.recipients[0].params.notify == options.notify
    assert message.recipients[0].params.original_recipient == options.original_recipient

    bare = SinkPeer(capabilities=Capabilities(pipelining=True))
    async with connected(bare) as connection:
        await connection.deliver(parcel)
    assert bare.messages[0].mail.params == MailParams()


async def test_null_sender_and_many_messages_over_one_connection(autojump_clock):
    sink = SinkPeer()
    async with connected(sink) as connection:
        for _ in range(3):
            assert isinstance(await deliver_one(connection, sender="<>"), Delivered)
            assert connection.usable
            assert connection.phase == "idle"
    assert sink.sessions == 1
    assert sink.commands == ["EHLO", *["MAIL", "RCPT", "DATA"] * 3, "QUIT"]
    assert sink.messages[0].mail.path.is_null
    assert sink.messages[0].content == PREFIX + BODY


# --- What the message needs and the next hop lacks ---------------------------------------------


async def needing(capabilities, **kwargs):
    sink = SinkPeer(capabilities=capabilities)
    async with connected(sink) as connection:
        outcome = await deliver_one(connection, **kwargs)
        assert connection.usable
    if isinstance(outcome, Failed):
        assert "MAIL" not in sink.commands
        assert outcome.remote == "192.0.2.1[192.0.2.1]:25"
    return outcome


async def test_missing_smtputf8_fails_what_needs_it_only(autojump_clock):
    old = Capabilities(pipelining=True, eight_bit_mime=True)
    header = FakeContent(whole=b"Subject: \xc3\xa4\r\n\r\nx\r\n")
    below = FakeContent(whole=b"Subject: a\r\n\r\n\xc3\xa4\r\n")
    sender = "<\u00e4@example.net>"
    refused = [
        await needing(old, sender=sender, smtputf8=True),
        await needing(old, content=header, smtputf8=True),
        await needing(old, content=streamed(b"Subject: \xc3", b"\xa4\r\n\r\nx\r\n"), smtputf8=True),
    ]
    assert [outcome.reply.enhanced_text for outcome in refused] == ["5.6.7"] * 3
    assert isinstance(await needing(old, smtputf8=True), Delivered)
    assert isinstance(await needing(old, content=below, smtputf8=True), Delivered)
    body = streamed(b"Subject: a\r\n\r", b"\n\xc3\xa4\r\n")
    assert isinstance(await needing(old, content=body, smtputf8=True), Delivered)


async def test_only_the_recipient_that_needs_smtputf8_fails(autojump_clock):
    sink = SinkPeer(capabilities=Capabilities(pipelining=True))
    async with connected(sink) as connection:
        outcomes = await deliver_one(connection, "\u00e4@example.org", "b@example.org", smtputf8=True)
        [alone] = await connection.deliver(make_parcel("\u00e4@example.org", smtputf8=True))
    assert outcomes[0].reply.enhanced_text == "5.6.7"
    assert isinstance(outcomes[1], Delivered)
    assert alone == outcomes[0]
    assert len(sink.messages) == 1


LABELLED = b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=latin1\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"


@pytest.mark.parametrize("large", [False, True])
async def test_missing_8bitmime_converts_content_that_has_8_bit_octets(large, autojump_clock):
    sink = SinkPeer(capabilities=Capabilities(pipelining=True, size=10**6))
    body = LABELLED + b".K\xf6ln\r\n"
    content = streamed(body[:50], body[50:]) if large else FakeContent(whole=body)
    async with connected(sink) as connection:
        outcome = await deliver_one(connection, content=content, body_type=BodyType.EIGHT_BIT_MIME)
    assert isinstance(outcome, Delivered)
    [message] = sink.messages
    assert message.content == PREFIX + LABELLED.replace(b"8bit", b"quoted-printable") + b".K=F6ln\r\n"
    assert message.mail.params.body_type is None


@pytest.mark.parametrize("large", [False, True])
async def test_content_that_cannot_be_converted_is_returned(large, autojump_clock):
    old = Capabilities(pipelining=True)
    body = LABELLED.replace(b"8bit", b"base64") + b"\xe4\r\n"
    content = streamed(body[:40], body[40:]) if large else FakeContent(whole=body)
    outcome = await needing(old, content=content, body_type=BodyType.EIGHT_BIT_MIME)
    assert isinstance(outcome, Failed)
    assert outcome.reply.enhanced_text == "5.6.3"


async def test_content_that_is_7_bit_needs_no_8bitmime(autojump_clock):
    old, eight = Capabilities(pipelining=True), BodyType.EIGHT_BIT_MIME
    assert isinstance(await needing(old, body_type=eight), Delivered)
    content = streamed(b"S: y\r\n\r\nplain\r\n")
    assert isinstance(await needing(old, content=content, body_type=eight), Delivered)
    assert content.opened == 2


async def test_binary_content_goes_on_as_lines(autojump_clock):
    sink = SinkPeer(capabilities=Capabilities(pipelining=True, eight_bit_mime=True))
    binary = LABELLED.replace(b"8bit", b"binary") + b"a\nb\0"
    async with connected(sink) as connection:
        outcome = await deliver_one(
            connection, content=FakeContent(whole=binary), body_type=BodyType.BINARY_MIME
        )
    assert isinstance(outcome, Delivered)
    [message] = sink.messages
    assert message.content.endswith(b"quoted-printable\r\n\r\na=0Ab=00\r\n")


async def test_requiretls_fails_where_it_cannot_be_kept(autojump_clock):
    outcome = await needing(Capabilities(require_tls=True), require_tls=True)
    assert outcome.reply.enhanced_text == "5.7.30"


async def test_announced_size_is_respected_without_trying(autojump_clock):
    outcome = await needing(Capabilities(size=len(CONTENT) - 1))
    assert outcome.reply.code == 552
    assert outcome.reply.enhanced_text == "5.3.4"
    for size in (0, len(CONTENT)):
        assert isinstance(await needing(Capabilities(size=size)), Delivered)


async def test_priority_goes_where_it_is_understood(autojump_clock):
    sink = SinkPeer(capabilities=Capabilities(mt_priority=True))
    async with connected(sink) as connection:
        await deliver_one(connection, priority=3)
        await deliver_one(connection)
    # RFC 6710 §4.2: as it was determined, also where that is nothing special
    assert [message.mail.params.priority for message in sink.messages] == [3, 0]
