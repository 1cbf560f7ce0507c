"""CHUNKING and BINARYMIME on the server (RFC 3030), octet by octet."""

import pytest
from smtp_helpers import decode_chunks, run, splits

from elemta.mail import Reply, replies
from elemta.smtp import (
    NEED_DATA,
    PAUSED,
    BadCommand,
    Bdat,
    BodyChunk,
    BodyEnd,
    BodyProblem,
    Capabilities,
    ChunkEnd,
    CommandReceived,
    ConnectionClosed,
    Limits,
    LocalProtocolError,
    Rcpt,
    State,
)
from elemta.testing.pairs import EVERYTHING, ConnectionPair

MAIL = b"MAIL FROM:<a@example.org>\r\n"
BINARY = b"MAIL FROM:<a@example.org> BODY=BINARYMIME\r\n"
RCPT = b"RCPT TO:<u@example.org>\r\n"


def codes(sent: list[Reply]) -> list[int]:
    return [reply.code for reply in sent]


def refuse_chunks(reply: Reply = replies.STORAGE_FULL):
    return lambda event: reply if isinstance(event, ChunkEnd) else None


def refuse_bdat(reply: Reply = replies.STORAGE_FULL):
    def answers(event):
        is_bdat = isinstance(event, CommandReceived) and isinstance(event.command, Bdat)
        return reply if is_bdat else None

    return answers


# --- The way of a message (RFC 3030 §2, §4.1) -----------------------------------------------------------


def test_a_message_in_one_chunk():
    pair = ConnectionPair("RCPT")
    assert codes(pair.send(b"BDAT 7 LAST\r\nhello\r\nNOOP\r\n")) == [250, 250]
    assert pair.bodies == [b"hello\r\n"]
    assert pair.state is State.READY


def test_a_message_in_three_chunks_in_any_pieces():
    data = b"BDAT 9\r\n.stuffed\rBDAT 7\r\n\n\r\nDATABDAT 6 LAST\r\nQUIT\r\nQUIT\r\n"
    events, server = run([data], after="RCPT")
    assert events == [
        CommandReceived(Bdat(9)),
        BodyChunk(b".stuffed"),
        ChunkEnd(9),
        BodyChunk(b"\r\n\r\nDATA"),
        ChunkEnd(7),
        BodyChunk(b"QUIT\r\n"),
        BodyEnd(22),
        events[-2],
        ConnectionClosed(),
    ]
    assert server.state is State.CLOSED
    for parts in splits(data):
        assert run(parts, after="RCPT")[0] == events


def test_each_chunk_has_its_reply_and_the_last_that_of_the_message():
    pair = ConnectionPair("RCPT")
    pair.server.receive_data(b"BDAT 3\r\nabcBDAT 2\r\nd\rBDAT 1 LAST\r\n\nNOOP\r\n")
    server = pair.server
    assert server.next_event() == CommandReceived(Bdat(3))
    assert server.in_body
    assert server.next_event() is PAUSED
    assert server.reply(replies.START_DATA) == b""  # a BDAT line has no answer of its own
    assert server.next_event() == BodyChunk(b"abc")
    assert server.next_event() == ChunkEnd(3)
    assert server.next_event() is PAUSED
    assert server.reply(replies.chunk_ok(3)) == b"250 2.0.0 3 octets received\r\n"
    assert server.state is State.CHUNKS
    assert not server.in_body
    assert server.next_event() == BodyChunk(b"d")  # no event for the line itself
    assert server.next_event() == ChunkEnd(2)
    server.reply(replies.chunk_ok(2))
    assert server.next_event() == BodyChunk(b"\r\n")
    assert server.next_event() == BodyEnd(6)
    assert server.reply(replies.NOOP_OK) == b"250 2.0.0 ok\r\n"
    assert server.state is State.READY
    assert server.recipients == 0
    assert server.early_data == 0


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (b"BDAT 3\r\nabc", Bdat(3)),
        (b"bdat 3 last\r\nabc", Bdat(3, True)),
        (b"Bdat  3  Last \r\nabc", Bdat(3, True)),
        (b"BDAT 0000000000000000000000003\r\nabc", Bdat(3)),
        (b"BDAT 0\r\n", Bdat(0)),
        (b"BDAT 0 LAST\r\n", Bdat(0, True)),
        (b"BDAT 999999999999999999\r\n", Bdat(10**18 - 1)),
    ],
)
def test_a_bdat_line(line, command):
    pair = ConnectionPair("RCPT")
    pair.server.receive_data(line)
    assert pair.server.next_event() == CommandReceived(command)


def test_chunks_of_no_octets_are_chunks():
    pair = ConnectionPair("RCPT")
    assert codes(pair.send(b"BDAT 0\r\nBDAT 0\r\nBDAT 2\r\n\r\nBDAT 0 LAST\r\n")) == [250] * 4
    assert pair.bodies == [b"\r\n"]
    assert pair.send(MAIL + RCPT + b"BDAT 0 LAST\r\n")[-1].code == 250
    assert pair.bodies == [b"\r\n", b""]


def test_dots_mean_nothing():
    pair = ConnectionPair("RCPT")
    content = b".\r\n..\r\n\r\n.\r\n"
    pair.send(b"BDAT 12 LAST\r\n" + content)
    assert pair.bodies == [content]


def test_octets_are_handed_out_as_they_come_and_none_is_kept():
    pair = ConnectionPair("RCPT")
    pair.server.receive_data(b"BDAT 1000000000000\r\n")
    pair.server.next_event()
    pair.server.reply(replies.START_DATA)
    for _ in range(20):
        pair.server.receive_data(b"x" * 65536)
        assert pair.server.next_event() == BodyChunk(b"x" * 65536)
        assert pair.server.next_event() is NEED_DATA
        assert not pair.server.has_buffered
        assert pair.server.in_body


def test_the_client_may_hang_up_within_a_chunk():
    events, _ = run([b"BDAT 3\r\nab"], after="RCPT")
    assert events == [CommandReceived(Bdat(3)), BodyChunk(b"ab"), ConnectionClosed()]


def test_421_at_any_moment_of_it():
    for data in (b"BDAT 3\r\n", b"BDAT 3\r\na", b"BDAT 3\r\nabc", b"BDAT 1\r\naBDAT 1 LAST\r\na"):
        pair = ConnectionPair("RCPT")
        server = pair.server
        server.receive_data(data)
        server.next_event()
        server.reply(replies.START_DATA)
        server.next_event()
        assert server.reply(replies.SHUTTING_DOWN).startswith(b"421 4.3.2 ")
        assert server.next_event() == ConnectionClosed()
        assert not server.in_body


# --- Pipelining (RFC 3030 §2, RFC 2920) -----------------------------------------------------------------


def test_a_whole_transaction_in_one_packet_and_the_next_one_behind_it():
    pair = ConnectionPair("EHLO")
    group = MAIL + RCPT + b"BDAT 3\r\na\r\nBDAT 3 LAST\r\nb\r\n"
    assert codes(pair.send(group * 2 + b"QUIT\r\n")) == [250] * 8 + [221]
    assert pair.bodies == [b"a\r\nb\r\n"] * 2
    assert pair.server.early_data == 0


def test_octets_behind_bdat_are_no_talk_out_of_turn_even_without_pipelining():
    pair = ConnectionPair("RCPT", capabilities=Capabilities(chunking=True))
    pair.send(b"BDAT 3\r\nabc")
    assert pair.server.early_data == 0


# --- Out of sequence (RFC 3030 §2) ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "reply"),
    [
        ("CONNECT", replies.HELLO_FIRST),
        ("EHLO", replies.MAIL_FIRST),
        ("MAIL", replies.NO_RECIPIENTS),
    ],
)
def test_bdat_out_of_sequence_is_503_and_its_octets_are_dropped(after, reply):
    data = b"BDAT 12 LAST\r\nRSET\r\nNOOP\r\nNOOP\r\n"
    events, _ = run([data], after=after)
    assert events[0] == CommandReceived(BadCommand("BDAT", reply))
    assert len(events) == 3  # NOOP, and the end
    for parts in splits(data):
        assert run(parts, after=after)[0] == events


def test_the_refusal_is_said_behind_the_octets_and_not_before():
    pair = ConnectionPair("EHLO")
    assert pair.send(b"BDAT 5\r\nabcd") == []
    assert pair.server.in_body
    assert pair.send(b"e") == [replies.MAIL_FIRST]
    assert not pair.server.in_body
    assert pair.state is State.READY


def test_bdat_behind_a_rejecting_greeting():
    pair = ConnectionPair("")
    pair.greet(Reply.of(554, None, "no"))
    assert codes(pair.send(b"BDAT 6 LAST\r\nQUIT\r\nQUIT\r\n")) == [503, 221]


def test_bdat_behind_bdat_last_is_503():
    pair = ConnectionPair("RCPT")
    assert pair.send(b"BDAT 1 LAST\r\naBDAT 1 LAST\r\nb")[-1] == replies.MAIL_FIRST
    assert pair.bodies == [b"a"]
    assert codes(pair.send(b"RSET\r\n" + MAIL)) == [250, 250]


def test_bdat_without_an_accepted_recipient():
    pair = ConnectionPair(
        "MAIL",
        answers=lambda event: (
            replies.MAILBOX_UNKNOWN
            if isinstance(event, CommandReceived) and isinstance(event.command, Rcpt)
            else None
        ),
    )
    sent = pair.send(RCPT + b"BDAT 5 LAST\r\nhello" + MAIL)
    # RFC 2920 §3.1: a client that had sent all in one group goes on with its next message
    assert sent == [replies.MAILBOX_UNKNOWN, replies.NO_VALID_RECIPIENTS, replies.SENDER_OK]
    assert pair.send(b"BDAT 5\r\nhello" + RCPT) == [replies.NO_RECIPIENTS, replies.BAD_SEQUENCE]
    assert pair.state is State.FAILED


def test_data_and_bdat_do_not_mix():
    pair = ConnectionPair("RCPT")
    assert pair.send(b"BDAT 1\r\na")[-1].code == 250
    assert pair.send(b"DATA\r\n") == [replies.DATA_AFTER_BDAT]
    assert pair.send(RCPT) == [replies.BAD_SEQUENCE]
    assert pair.send(MAIL) == [replies.NESTED_MAIL]
    assert codes(pair.send(b"STARTTLS\r\nAUTH PLAIN =\r\nXCLIENT NAME=x\r\n")) == [503] * 3
    assert codes(pair.send(b"NOOP\r\nVRFY x\r\nHELP\r\n")) == [250, 252, 214]
    assert pair.send(b"BDAT 1 LAST\r\nb")[-1].code == 250
    assert pair.bodies == [b"ab"]
    # In the same session both are right (RFC 3030 §2)
    assert codes(pair.send(MAIL + RCPT + b"DATA\r\nx\r\n.\r\n" + MAIL + RCPT + b"BDAT 0 LAST\r\n")) == [
        *(250, 250, 354, 250),
        *(250, 250, 250),
    ]


@pytest.mark.parametrize("line", [b"RSET\r\n", b"EHLO x\r\n"])
def test_a_reset_between_chunks_forgets_them(line):
    pair = ConnectionPair("RCPT")
    pair.send(b"BDAT 3\r\na\r\n" + line)
    assert pair.state is State.READY
    assert pair.send(b"BDAT 1\r\nb") == [replies.MAIL_FIRST]
    pair.send(MAIL + RCPT + b"BDAT 1 LAST\r\nc")
    assert pair.bodies == [b"c"]


def test_quit_between_chunks():
    pair = ConnectionPair("RCPT")
    assert codes(pair.send(b"BDAT 1\r\naQUIT\r\n")) == [250, 221]
    assert pair.bodies == []


# --- What is no BDAT --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        b"BDAT\r\n",
        b"BDAT LAST\r\n",
        b"BDAT x\r\n",
        b"BDAT -1\r\n",
        b"BDAT +1\r\n",
        b"BDAT 1.5\r\n",
        b"BDAT 0x10\r\n",
        b"BDAT 1 FIRST\r\n",
        b"BDAT 1 LAST x\r\n",
        b"BDAT 1LAST\r\n",
        b"BDAT 1 LA\xc5\xbfT\r\n",  # U+017F, whose upper() is S
        b"BDAT \xd9\xa1\r\n",
        b"BDAT 1000000000000000000\r\n",
        b"BDAT 18446744073709551617 LAST\r\n",
        b"BDAT " + b"9" * 400 + b"\r\n",
    ],
)
def test_a_size_that_is_none_is_501_and_loses_the_message(line):
    pair = ConnectionPair("RCPT")
    assert pair.send(line) == [replies.BAD_CHUNK_SIZE]
    # What was to be in that chunk is missing, so no later one may complete the message
    assert pair.state is State.FAILED
    assert pair.send(b"BDAT 1 LAST\r\nx") == [replies.CHUNK_LOST]
    assert pair.state is State.READY
    pair = ConnectionPair("EHLO")
    assert pair.send(line) == [replies.BAD_CHUNK_SIZE]
    assert pair.state is State.READY


def test_where_chunking_is_not_offered_bdat_is_502_at_once():
    pair = ConnectionPair("RCPT", capabilities=Capabilities())
    assert pair.send(b"BDAT 100\r\n") == [replies.NOT_IMPLEMENTED]
    assert pair.state is State.RCPT


def test_after_helo_bdat_is_502_but_its_octets_are_no_commands():
    pair = ConnectionPair("HELO")
    assert pair.send(MAIL + RCPT + b"BDAT 6\r\nRSET\r\nDATA\r\n")[2:] == [
        replies.NOT_IMPLEMENTED,
        replies.START_DATA,
    ]


def test_chunking_may_end_with_tls_in_between():
    pair = ConnectionPair("EHLO")
    pair.send(b"STARTTLS\r\n")
    pair.server.tls_started()
    assert pair.send(b"BDAT 1\r\nx") == [replies.HELLO_FIRST]


# --- Refused (RFC 3030 §2) ----------------------------------------------------------------------------------


def test_when_the_first_bdat_is_refused_its_octets_are_dropped_before_the_answer():
    data = b"BDAT 12\r\nRSET\r\nQUIT\r\nBDAT 3\r\nabcBDAT 2 LAST\r\nabNOOP\r\n"
    for parts in splits(data):
        pair = ConnectionPair("RCPT", answers=refuse_bdat())
        sent = [reply for part in parts for reply in pair.send(part)]
        assert sent == [replies.STORAGE_FULL, replies.CHUNK_LOST, replies.CHUNK_LOST, replies.NOOP_OK]
        assert pair.events[-4:] == [
            ChunkEnd(12, None, replies.STORAGE_FULL),
            CommandReceived(BadCommand("BDAT", replies.CHUNK_LOST)),
            CommandReceived(BadCommand("BDAT", replies.CHUNK_LOST)),
            pair.events[-1],
        ]
        assert not any(isinstance(event, BodyChunk) for event in pair.events)
        assert pair.state is State.READY  # the chunk marked LAST has ended the transaction


def test_when_the_only_chunk_is_refused_the_transaction_is_over():
    pair = ConnectionPair("RCPT", answers=refuse_bdat())
    assert pair.send(b"BDAT 3 LAST\r\nabc") == [replies.STORAGE_FULL]
    assert pair.events[-1] == ChunkEnd(3, None, replies.STORAGE_FULL)
    assert pair.state is State.READY
    assert pair.send(MAIL) == [replies.SENDER_OK]


def test_when_a_later_chunk_is_refused_those_behind_it_are_503():
    pair = ConnectionPair("RCPT", answers=refuse_chunks())
    sent = pair.send(b"BDAT 1\r\naBDAT 1\r\nbDATA\r\nBDAT 1 LAST\r\nc" + MAIL)
    assert sent == [
        replies.STORAGE_FULL,
        replies.CHUNK_LOST,
        replies.CHUNK_LOST,
        replies.CHUNK_LOST,
        replies.SENDER_OK,
    ]
    assert pair.bodies == []


def test_after_a_refused_chunk_only_a_reset_helps():
    pair = ConnectionPair("RCPT", answers=refuse_chunks())
    pair.send(b"BDAT 1\r\na")
    assert pair.state is State.FAILED
    assert pair.send(MAIL + RCPT + b"DATA\r\n") == [
        replies.NESTED_MAIL,
        replies.BAD_SEQUENCE,
        replies.CHUNK_LOST,
    ]
    assert codes(pair.send(b"NOOP\r\nRSET\r\n" + MAIL + RCPT + b"BDAT 1 LAST\r\nz")) == [250] * 5
    assert pair.bodies == [b"z"]


@pytest.mark.parametrize("reply", [replies.LOCAL_ERROR, replies.MESSAGE_REJECTED])
def test_a_refused_message_ends_the_transaction(reply):
    pair = ConnectionPair("RCPT", answers=lambda event: reply if isinstance(event, BodyEnd) else None)
    assert pair.send(b"BDAT 1 LAST\r\nx" + MAIL) == [reply, replies.SENDER_OK]


def test_replies_that_a_chunk_does_not_have():
    pair = ConnectionPair("RCPT")
    server = pair.server
    server.receive_data(b"BDAT 1\r\na")
    server.next_event()
    with pytest.raises(LocalProtocolError):
        server.reply(replies.NOOP_OK)  # to the line: the octets have not been read
    server.reply(replies.STORAGE_FULL)
    assert server.next_event() == ChunkEnd(1, None, replies.STORAGE_FULL)
    with pytest.raises(LocalProtocolError):
        server.reply(replies.chunk_ok(1))  # it was refused
    assert server.reply(replies.LOCAL_ERROR) == b"451 4.3.0 local error, try again later\r\n"
    pair = ConnectionPair("RCPT")
    pair.server.receive_data(b"BDAT 1\r\na")
    pair.server.next_event()
    pair.server.reply(replies.START_DATA)
    pair.server.next_event()
    pair.server.next_event()
    with pytest.raises(LocalProtocolError):
        pair.server.reply(replies.START_DATA)


# --- Size (RFC 1870, RFC 3030 §2) ----------------------------------------------------------------------------


def test_too_many_octets_are_told_at_the_end_of_their_chunk():
    pair = ConnectionPair("RCPT", limits=Limits(message_size=10))
    assert codes(pair.send(b"BDAT 8\r\n12345678")) == [250]
    sent = pair.send(b"BDAT 8\r\n12345678BDAT 2 LAST\r\n12")
    assert codes(sent) == [552, 503]
    assert pair.events[-2] == ChunkEnd(8, BodyProblem.TOO_BIG)
    assert sum(len(event.data) for event in pair.events if isinstance(event, BodyChunk)) == 10


def test_the_limit_itself_may_be_reached():
    pair = ConnectionPair("RCPT", limits=Limits(message_size=10))
    assert codes(pair.send(b"BDAT 8\r\n12345678BDAT 2 LAST\r\n12")) == [250, 250]
    pair = ConnectionPair("RCPT", limits=Limits(message_size=10))
    assert codes(pair.send(b"BDAT 11 LAST\r\n12345678901")) == [552]
    assert pair.events[-1] == BodyEnd(11, BodyProblem.TOO_BIG)


# --- Line ends and BODY (RFC 3030 §2, §3) --------------------------------------------------------------------

CHUNKS = [
    (b"a\nb", BodyProblem.BARE_LF, b"a\r\nb"),
    (b"a\rb", BodyProblem.BARE_CR, b"a\r\nb"),
    (b"a\r", BodyProblem.BARE_CR, b"a\r\n"),
    (b"\n\r", BodyProblem.BARE_LF, b"\r\n\r\n"),
    (b"a\0b", BodyProblem.NUL, b"a\0b"),
    (b"a\r\nb", None, b"a\r\nb"),
    (b"\r\n\r\n", None, b"\r\n\r\n"),
]


@pytest.mark.parametrize(("content", "problem", "repaired"), CHUNKS)
def test_text_needs_its_line_ends_however_it_is_split(content, problem, repaired):
    for parts in splits(content):
        assert decode_chunks(parts, Limits()) == (content, len(content), problem)
        left = BodyProblem.NUL if problem is BodyProblem.NUL else None
        assert decode_chunks(parts, Limits(repair_line_ends=True)) == (repaired, len(repaired), left)
        mended = repaired.replace(b"\0", b"?")
        both = Limits(repair_line_ends=True, repair_nul=True)
        assert decode_chunks(parts, both) == (mended, len(mended), None)
        assert decode_chunks(parts, Limits(text_line=4, repair_nul=True), binary=True) == (
            content,
            len(content),
            None,
        )


def test_a_line_end_may_be_split_between_chunks():
    pair = ConnectionPair("RCPT")
    assert codes(pair.send(b"BDAT 2\r\na\rBDAT 1\r\n\nBDAT 0 LAST\r\n")) == [250, 250, 250]
    assert pair.bodies == [b"a\r\n"]


def test_a_problem_is_known_at_the_end_of_its_chunk():
    pair = ConnectionPair("RCPT")
    assert pair.send(b"BDAT 3\r\na\nbBDAT 1 LAST\r\nc") == [replies.BAD_LINE_ENDS, replies.CHUNK_LOST]
    assert pair.events[-2] == ChunkEnd(3, BodyProblem.BARE_LF)


def test_binary_content_may_be_anything():
    content = bytes(range(256)) + b"\r\n.\r\nQUIT\r\n" + b"x" * 2000 + b"\r"
    pair = ConnectionPair("EHLO", limits=Limits(text_line=1000, header_size=5000))
    sent = pair.send(BINARY + RCPT + b"BDAT %d\r\n%bBDAT 0 LAST\r\n" % (len(content), content))
    assert codes(sent) == [250] * 4
    assert pair.bodies == [content]
    pair.send(MAIL + RCPT + b"BDAT 1 LAST\r\n\n")  # and it holds for its transaction only
    assert pair.events[-1] == BodyEnd(1, BodyProblem.BARE_LF)


def test_binary_content_has_a_header_with_a_limit():
    limits = Limits(header_size=10)
    for data, problem in (
        (b"a: b\r\n\r\n" + b"\0" * 50, None),
        (b"a: b\r\n" * 3, BodyProblem.HEADER_TOO_BIG),
    ):
        for parts in splits(data):
            assert decode_chunks(parts, limits, binary=True)[2] is problem


def test_binary_content_needs_bdat():
    pair = ConnectionPair("EHLO")
    assert pair.send(BINARY + RCPT + b"DATA\r\n")[2:] == [replies.BINARY_NEEDS_BDAT]
    assert codes(pair.send(b"RSET\r\n" + MAIL + RCPT + b"DATA\r\n")) == [250, 250, 250, 354]


def test_long_lines_and_headers_are_told():
    for limits, problem in (
        (Limits(text_line=10), BodyProblem.LINE_TOO_LONG),
        (Limits(header_size=10), BodyProblem.HEADER_TOO_BIG),
    ):
        for parts in splits(b"a: 12345678901\r\n\r\nx"):
            assert decode_chunks(parts, limits)[2] is problem


# --- LMTP (RFC 2033 §4.3) --------------------------------------------------------------------------------------


def test_lmtp_answers_each_recipient_after_the_last_chunk_only():
    pair = ConnectionPair("RCPT", lmtp=True)
    pair.send(RCPT)
    assert codes(pair.send(b"BDAT 1\r\na")) == [250]
    assert codes(pair.send(b"BDAT 1 LAST\r\nb")) == [250, 250]
    pair.send(MAIL + RCPT + RCPT)
    pair.server.receive_data(b"BDAT 0 LAST\r\n")
    pair.server.next_event()
    pair.server.reply(replies.START_DATA)
    assert pair.server.next_event() == BodyEnd(0)
    sent = pair.server.body_replies([replies.NOOP_OK, replies.MAILBOX_UNKNOWN])
    assert sent == b"250 2.0.0 ok\r\n550 5.1.1 no such mailbox\r\n"


def test_lmtp_refuses_a_last_chunk_for_each_recipient():
    pair = ConnectionPair("RCPT", lmtp=True, answers=refuse_bdat())
    pair.send(RCPT)
    assert pair.send(b"BDAT 1 LAST\r\na") == [replies.STORAGE_FULL] * 2
    pair = ConnectionPair("RCPT", lmtp=True, answers=refuse_chunks())
    pair.send(RCPT)
    assert pair.send(b"BDAT 1\r\naBDAT 1\r\naBDAT 1 LAST\r\na") == [
        replies.STORAGE_FULL,
        replies.CHUNK_LOST,
        *[replies.CHUNK_LOST] * 2,
    ]
    assert pair.state is State.READY


@pytest.mark.parametrize("line", [b"BDAT 1\r\na", b"BDAT 1 LAST\r\na"])
def test_lmtp_without_a_recipient_is_one_503(line):
    pair = ConnectionPair(
        "MAIL",
        lmtp=True,
        answers=lambda event: (
            replies.MAILBOX_UNKNOWN
            if isinstance(event, CommandReceived) and isinstance(event.command, Rcpt)
            else None
        ),
    )
    assert pair.send(RCPT + line)[1:] == [replies.NO_RECIPIENTS]
    assert ConnectionPair("LHLO", lmtp=True).send(line) == [replies.MAIL_FIRST]


def test_everything_has_chunking():
    assert EVERYTHING.chunking
    assert EVERYTHING.binary_mime
