"""The server machine: events, replies, sequence, pipelining, TLS, AUTH, LMTP."""

import pytest
from smtp_helpers import run, splits

from elemta.mail import Domain, Reply, parse_forward_path, parse_reverse_path, replies
from elemta.smtp import (
    NEED_DATA,
    PAUSED,
    Auth,
    AuthResponse,
    BadCommand,
    BodyChunk,
    BodyEnd,
    BodyProblem,
    Capabilities,
    CommandReceived,
    ConnectionClosed,
    Data,
    Dialect,
    Ehlo,
    Helo,
    Limits,
    LocalProtocolError,
    Mail,
    Noop,
    Quit,
    Rcpt,
    RemoteProtocolError,
    Rset,
    ServerConnection,
    StartTls,
    State,
)
from elemta.smtp.lines import HARD_LIMIT
from elemta.smtp.server import MAX_AUTH_LINE
from elemta.testing.pairs import EVERYTHING, ConnectionPair

MAIL = b"MAIL FROM:<a@example.org>\r\n"
RCPT = b"RCPT TO:<u@example.org>\r\n"
USER = Rcpt(parse_forward_path("<u@example.org>"))


def refuse(*verbs: str, reply: Reply = replies.MAILBOX_UNKNOWN):
    """Answers that refuse these commands."""

    def answers(event):
        refused = isinstance(event, CommandReceived) and event.command.verb in verbs
        return reply if refused and not isinstance(event.command, BadCommand) else None

    return answers


def take(pair: ConnectionPair, data: bytes):
    """The event that the octets make, unanswered."""
    pair.server.receive_data(data)
    return pair.server.next_event()


def command(pair: ConnectionPair, data: bytes):
    event = take(pair, data)
    assert isinstance(event, CommandReceived)
    return event.command


# --- Events do not depend on how octets arrive ------------------------------------------------------

SESSION = (
    b"NOOP\r\nMAIL FROM:<a@example.org> SIZE=10\r\n" + RCPT + b"DATA\r\n..a\r\nb\r\n.\r\nRSET\r\n"
    b"bad\0\r\nFOO\r\nRCPT TO:<>\r\nQUIT\r\nNOOP\r\n"
)


def test_a_whole_session_in_any_pieces():
    events, server = run([SESSION])
    assert [event.command for event in events if isinstance(event, CommandReceived)] == [
        Noop(),
        *(event.command for event in events[1:3]),
        Data(),
        Rset(),
        BadCommand("", replies.SYNTAX_ERROR),
        BadCommand("FOO", replies.UNKNOWN_COMMAND),
        BadCommand("RCPT", replies.MAIL_FIRST),
        Quit(),
    ]
    assert events[4:6] == [BodyChunk(b".a\r\nb\r\n"), BodyEnd(7)]
    assert events[-1] == ConnectionClosed()
    assert server.state is State.CLOSED
    for parts in splits(SESSION):
        assert run(parts)[0] == events


def test_end_of_file_closes_wherever_it_comes():
    for after in ("CONNECT", "EHLO", "MAIL", "RCPT", "DATA"):
        pair = ConnectionPair(after)
        pair.end_of_file()
        assert pair.events[-1] == ConnectionClosed()
        assert pair.state is State.CLOSED
        assert pair.server.next_event() == ConnectionClosed()


def test_commands_that_came_before_the_end_of_file_are_still_handed_out():
    pair = ConnectionPair("EHLO")
    server = pair.server
    server.receive_data(b"NOOP\r\nRSET\r\nRSE")
    server.receive_data(b"")
    assert server.next_event() == CommandReceived(Noop())
    server.reply(replies.NOOP_OK)
    assert server.next_event() == CommandReceived(Rset())
    server.reply(replies.RESET_OK)
    assert server.next_event() == ConnectionClosed()


def test_a_message_cut_off_is_no_message():
    events, _ = run([MAIL + RCPT + b"DATA\r\nabc\r\n."])
    assert events[-2:] == [BodyChunk(b"abc"), ConnectionClosed()]


# --- The greeting -----------------------------------------------------------------------------------


def test_nothing_is_read_before_the_greeting_and_early_talk_is_counted():
    server = ServerConnection()
    server.receive_data(b"EHLO x\r\n")
    assert server.next_event() is PAUSED
    assert server.has_buffered
    assert server.greet(replies.banner("mx.example.org")) == b"220 mx.example.org ESMTP elemta\r\n"
    assert server.early_data == 1
    assert server.next_event() == CommandReceived(Ehlo("x"))
    with pytest.raises(LocalProtocolError):
        server.greet(replies.banner("mx.example.org"))


def test_after_a_rejecting_greeting_only_quit_is_answered():
    pair = ConnectionPair("")
    pair.greet(Reply.of(554, None, "no service here"))
    assert pair.state is State.REJECTED
    assert pair.send(b"EHLO x\r\n" + MAIL + b"QUIT\r\n") == [
        Reply(503, None, replies.BAD_SEQUENCE.lines) if number == 0 else reply
        for number, reply in enumerate([replies.BAD_SEQUENCE, replies.BAD_SEQUENCE, replies.CLOSING])
    ]
    assert pair.state is State.CLOSED


def test_a_greeting_with_421_closes():
    pair = ConnectionPair("")
    pair.greet(replies.TOO_MANY_CONNECTIONS)
    assert pair.state is State.CLOSED


def test_a_greeting_that_is_none():
    with pytest.raises(LocalProtocolError):
        ServerConnection().greet(replies.START_DATA)


def test_our_name_stands_first_where_the_session_ends_or_does_not_begin():
    # RFC 5321 §4.2.3, §4.3.1
    def make() -> ServerConnection:
        return ServerConnection(hostname="mx.example.org")

    assert make().greet(replies.TOO_MANY_CONNECTIONS).startswith(b"421 mx.example.org too many")
    assert make().greet(Reply.of(554, None, "not", "you")) == b"554-mx.example.org not\r\n554 you\r\n"
    server = make()
    assert server.greet(replies.banner("mx.example.org")) == b"220 mx.example.org ESMTP elemta\r\n"
    server.receive_data(b"NOOP\r\nQUIT\r\n")
    server.next_event()
    assert server.reply(replies.NOOP_OK) == b"250 2.0.0 ok\r\n"
    server.next_event()
    assert server.reply(replies.CLOSING) == b"221 2.0.0 mx.example.org closing connection\r\n"
    server = make()
    server.greet(replies.banner("mx.example.org"))
    assert server.reply(replies.SHUTTING_DOWN).startswith(b"421 4.3.2 mx.example.org shutting down")


@pytest.mark.parametrize(
    ("line", "sent"), [(b"VRFY a", b"250 2.1.5 <?>\r\n"), (b"VRFY a SMTPUTF8", b"250 2.1.5 <\xc3\xbc>\r\n")]
)
def test_vrfy_says_whether_its_reply_may_go_beyond_ascii(line, sent):
    # RFC 6531 §3.7.4.2
    server = ServerConnection(capabilities=EVERYTHING)
    server.greet(replies.banner("mx.example.org"))
    server.receive_data(line + b"\r\n")
    server.next_event()
    assert server.reply(Reply.of(250, "2.1.5", "<\u00fc>")) == sent


# --- Sequence (RFC 5321 §4.1.4) -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "line", "reply"),
    [
        ("CONNECT", MAIL, replies.HELLO_FIRST),
        ("CONNECT", RCPT, replies.HELLO_FIRST),
        ("CONNECT", b"DATA\r\n", replies.HELLO_FIRST),
        ("CONNECT", b"STARTTLS\r\n", replies.HELLO_FIRST),
        ("CONNECT", b"AUTH PLAIN\r\n", replies.HELLO_FIRST),
        ("EHLO", RCPT, replies.MAIL_FIRST),
        ("EHLO", b"DATA\r\n", replies.MAIL_FIRST),
        ("EHLO", b"DATA x\r\n", replies.MAIL_FIRST),
        ("MAIL", MAIL, replies.NESTED_MAIL),
        ("MAIL", b"DATA\r\n", replies.NO_RECIPIENTS),
        ("RCPT", MAIL, replies.NESTED_MAIL),
        ("RCPT", b"STARTTLS\r\n", replies.BAD_SEQUENCE),
        ("RCPT", b"AUTH PLAIN\r\n", replies.BAD_SEQUENCE),
        ("RCPT", b"XCLIENT NAME=x\r\n", replies.BAD_SEQUENCE),
    ],
)
def test_out_of_sequence(after, line, reply):
    pair = ConnectionPair(after)
    before = pair.state
    assert pair.send(line) == [reply]
    assert pair.state is before


@pytest.mark.parametrize(
    "line", [b"NOOP\r\n", b"HELP\r\n", b"VRFY x\r\n", b"EXPN x\r\n", b"FOO\r\n", b"EHLO\r\n"]
)
@pytest.mark.parametrize("after", ["CONNECT", "EHLO", "MAIL", "RCPT"])
def test_what_changes_nothing(after, line):
    pair = ConnectionPair(after)
    before = pair.state
    assert len(pair.send(line)) == 1
    assert pair.state is before


@pytest.mark.parametrize("line", [b"RSET\r\n", b"EHLO x\r\n", b"HELO x\r\n"])
@pytest.mark.parametrize("after", ["EHLO", "MAIL", "RCPT"])
def test_rset_and_hello_end_the_transaction(after, line):
    pair = ConnectionPair(after)
    pair.send(line)
    assert pair.state is State.READY
    assert pair.server.recipients == 0
    assert pair.send(RCPT) == [replies.MAIL_FIRST]


def test_data_after_recipients_that_were_all_refused():
    pair = ConnectionPair("MAIL", answers=refuse("RCPT"))
    assert pair.send(RCPT + RCPT + b"DATA\r\n") == [
        replies.MAILBOX_UNKNOWN,
        replies.MAILBOX_UNKNOWN,
        replies.NO_VALID_RECIPIENTS,
    ]
    assert pair.state is State.REFUSED


def test_one_accepted_recipient_is_enough():
    pair = ConnectionPair("RCPT", answers=refuse("RCPT"))
    pair.send(RCPT + b"DATA\r\n")
    assert pair.state is State.BODY
    assert pair.server.recipients == 1


def test_a_refused_data_command_keeps_the_transaction():
    pair = ConnectionPair("RCPT", answers=refuse("DATA", reply=replies.STORAGE_FULL))
    assert pair.send(b"DATA\r\n" + MAIL) == [replies.STORAGE_FULL, replies.NESTED_MAIL]
    assert pair.state is State.RCPT


@pytest.mark.parametrize("reply", [replies.LOCAL_ERROR, replies.MESSAGE_REJECTED])
def test_after_any_reply_to_a_message_the_next_may_begin(reply):
    pair = ConnectionPair("DATA", answers=lambda event: reply if isinstance(event, BodyEnd) else None)
    assert pair.send(b".\r\n" + MAIL + RCPT) == [reply, replies.SENDER_OK, replies.RECIPIENT_OK]
    assert pair.server.recipients == 1


def test_a_refused_mail_command_opens_nothing():
    pair = ConnectionPair("EHLO", answers=refuse("MAIL", reply=replies.SENDER_REJECTED))
    assert pair.send(MAIL + RCPT) == [replies.SENDER_REJECTED, replies.MAIL_FIRST]


def test_a_refused_hello_leaves_everything_as_it_was():
    pair = ConnectionPair("RCPT", answers=refuse("EHLO", reply=replies.SENDER_REJECTED))
    assert pair.send(b"EHLO x\r\n") == [Reply(550, None, replies.SENDER_REJECTED.lines)]
    assert pair.state is State.RCPT


# --- Extensions ---------------------------------------------------------------------------------------


def test_helo_has_no_extensions_and_a_later_ehlo_has():
    pair = ConnectionPair("HELO")
    assert pair.send(b"MAIL FROM:<a@example.org> SIZE=1\r\n") == [replies.UNKNOWN_PARAMETER]
    assert pair.send(b"STARTTLS\r\n") == [replies.NOT_IMPLEMENTED]
    assert pair.server.offered == Capabilities()
    pair.send(b"EHLO x\r\n")
    assert pair.send(b"MAIL FROM:<a@example.org> SIZE=1\r\n") == [replies.SENDER_OK]


def test_smtputf8_holds_for_its_transaction_only():
    user = "RCPT TO:<\u00fc@example.org>\r\n".encode()
    pair = ConnectionPair("EHLO")
    sent = pair.send("MAIL FROM:<\u00fc@example.org> SMTPUTF8\r\n".encode() + user)
    assert sent == [replies.SENDER_OK, replies.RECIPIENT_OK]
    assert pair.send(b"RSET\r\n" + MAIL + user)[-1] == replies.SMTPUTF8_NEEDED
    pair.send("RSET\r\nMAIL FROM:<\u00fc@example.org> SMTPUTF8\r\n".encode() + user + b"DATA\r\n.\r\n")
    assert pair.send(MAIL + user)[-1] == replies.SMTPUTF8_NEEDED


def test_capabilities_may_change_within_a_session():
    pair = ConnectionPair("EHLO")
    pair.server.capabilities = Capabilities()
    assert pair.send(b"AUTH PLAIN\r\nEXPN x\r\n") == [replies.NOT_IMPLEMENTED] * 2


def test_answers_to_hello_have_no_enhanced_code():
    pair = ConnectionPair("CONNECT")
    assert command(pair, b"EHLO x\r\n") == Ehlo("x")
    assert pair.server.reply(Reply.of(250, "2.0.0", "mx")) == b"250 mx\r\n"
    assert command(pair, b"HELO x\r\n") == Helo("x")
    assert pair.server.reply(Reply.of(550, "5.7.1", "no")) == b"550 no\r\n"
    assert command(pair, b"HELO x\r\n") == Helo("x")
    assert pair.server.reply(replies.SHUTTING_DOWN) == b"421 shutting down, try again later\r\n"


# --- Lines ----------------------------------------------------------------------------------------------


def test_a_long_line_is_answered_once_and_the_session_goes_on():
    data = b"MAIL FROM:<" + b"a" * 5000 + b"\r\nNOOP\r\n"
    for parts in ([data], [data[i : i + 700] for i in range(0, len(data), 700)]):
        events, _ = run(parts, limits=Limits(command_line=512))
        assert events[:2] == [CommandReceived(BadCommand("", replies.LINE_TOO_LONG)), CommandReceived(Noop())]


def test_the_limit_counts_the_line_end():
    limits = Limits(command_line=512)
    line = b"NOOP " + b"x" * 505
    assert run([line + b"\r\n"], limits=limits)[0][0] == CommandReceived(Noop())
    assert run([line + b"x\r\n"], limits=limits)[0][0] == CommandReceived(
        BadCommand("", replies.LINE_TOO_LONG)
    )


def test_an_endless_line_is_an_error_for_good():
    pair = ConnectionPair("EHLO")
    with pytest.raises(RemoteProtocolError) as caught:
        take(pair, b"x" * (HARD_LIMIT + 1))
    assert caught.value.reply_hint == replies.LINE_TOO_LONG
    assert pair.server.state is State.ERROR
    for call in (
        pair.server.next_event,
        pair.server.tls_started,
        lambda: pair.server.receive_data(b"x"),
        lambda: pair.server.reply(replies.NOOP_OK),
        lambda: pair.server.reply(replies.SHUTTING_DOWN),
    ):
        with pytest.raises(LocalProtocolError):
            call()


# --- Pipelining (RFC 2920) --------------------------------------------------------------------------------


def test_the_machine_waits_for_the_reply_before_it_shows_the_next_command():
    pair = ConnectionPair("EHLO")
    assert command(pair, MAIL + RCPT).verb == "MAIL"
    assert pair.server.next_event() is PAUSED
    assert pair.server.next_event() is PAUSED
    assert pair.server.has_buffered
    assert pair.server.reply(replies.SENDER_OK) == b"250 2.1.0 sender ok\r\n"
    assert pair.server.next_event() == CommandReceived(USER)
    assert pair.server.early_data == 0


def test_octets_behind_data_are_the_message_if_it_is_asked_for_and_commands_if_not():
    pair = ConnectionPair("RCPT")
    pair.send(b"DATA\r\nRSET\r\n.\r\nNOOP\r\n")
    assert pair.bodies == [b"RSET\r\n"]
    assert pair.server.early_data == 1
    pair = ConnectionPair("RCPT", answers=refuse("DATA", reply=replies.LOCAL_ERROR))
    assert pair.send(b"DATA\r\nRSET\r\n.\r\nNOOP\r\n") == [
        replies.LOCAL_ERROR,
        replies.RESET_OK,
        replies.SYNTAX_ERROR,
        replies.NOOP_OK,
    ]


def test_going_on_without_the_right_to_is_counted():
    pair = ConnectionPair("HELO")
    pair.send(MAIL + RCPT)
    assert pair.server.early_data == 1
    pair = ConnectionPair("CONNECT", capabilities=EVERYTHING)
    pair.send(b"EHLO x\r\n" + MAIL + RCPT + b"RSET\r\n")
    assert pair.server.early_data == 1  # behind EHLO; the others may
    pair.send(b"NOOP\r\n")
    assert pair.server.early_data == 1


# --- Replies that do not fit -----------------------------------------------------------------------------


def test_a_reply_to_nothing():
    with pytest.raises(LocalProtocolError):
        ConnectionPair("EHLO").server.reply(replies.NOOP_OK)


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (MAIL, replies.START_DATA),
        (b"FOO\r\n", replies.NOOP_OK),
        (b"QUIT\r\n", replies.START_DATA),
        (b"STARTTLS\r\n", Reply.of(334, None, "")),
    ],
)
def test_a_reply_that_the_command_does_not_have(line, reply):
    pair = ConnectionPair("EHLO")
    command(pair, line)
    with pytest.raises(LocalProtocolError):
        pair.server.reply(reply)
    assert pair.server.next_event() is PAUSED  # and it may still be answered


def test_data_cannot_be_answered_with_250():
    pair = ConnectionPair("RCPT")
    command(pair, b"DATA\r\n")
    with pytest.raises(LocalProtocolError):
        pair.server.reply(replies.NOOP_OK)


@pytest.mark.parametrize("after", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA"])
def test_421_may_come_at_any_time_and_closes(after):
    pair = ConnectionPair(after)
    assert pair.server.reply(replies.SHUTTING_DOWN).startswith(b"421 4.3.2 ")
    assert pair.server.state is State.CLOSED
    pair.server.receive_data(b"x" * 100)
    assert not pair.server.has_buffered
    assert pair.server.next_event() == ConnectionClosed()
    with pytest.raises(LocalProtocolError):
        pair.server.reply(replies.SHUTTING_DOWN)


def test_421_may_answer_a_command_and_a_message():
    pair = ConnectionPair("EHLO")
    command(pair, MAIL)
    pair.server.reply(replies.SHUTTING_DOWN)
    assert pair.server.next_event() == ConnectionClosed()
    pair = ConnectionPair("DATA")
    assert take(pair, b".\r\n") == BodyEnd(0)
    pair.server.reply(replies.SHUTTING_DOWN)
    assert pair.server.state is State.CLOSED


def test_quit_ends_the_session_and_what_follows_is_not_read():
    pair = ConnectionPair("EHLO")
    assert pair.send(b"QUIT\r\nNOOP\r\n") == [replies.CLOSING]
    assert pair.events[-1] == ConnectionClosed()


def test_after_a_failed_write_the_machine_refuses_further_use():
    pair = ConnectionPair("EHLO")
    command(pair, MAIL)
    pair.server.send_failed()
    assert pair.server.state is State.ERROR
    for call in (pair.server.next_event, lambda: pair.server.reply(replies.SENDER_OK)):
        with pytest.raises(LocalProtocolError):
            call()


# --- The message ------------------------------------------------------------------------------------------


def test_bare_lf_before_dot_is_told_at_the_real_end():
    pair = ConnectionPair("DATA")
    assert pair.send(b"a\n.\nMAIL FROM:<x@example.org>\r\n") == []
    assert pair.send(b".\r\n") == [replies.BAD_LINE_ENDS]
    assert pair.state is State.READY


def test_a_message_that_is_too_big_is_read_to_its_end():
    events, _ = run([b"a" * 60 + b"\r\nb\r\n.\r\nNOOP\r\n"], limits=Limits(message_size=50), after="DATA")
    assert events[:3] == [BodyChunk(b"a" * 50), BodyEnd(65, BodyProblem.TOO_BIG), CommandReceived(Noop())]


def test_each_message_is_counted_anew():
    message = b"abc\n\r\n.\r\n" + MAIL + RCPT + b"DATA\r\n"
    events, _ = run([message + b"abc\r\n.\r\n"], after="DATA")
    ends = [event for event in events if isinstance(event, BodyEnd)]
    assert ends == [BodyEnd(6, BodyProblem.BARE_LF), BodyEnd(5)]


def test_chunks_are_handed_out_as_they_come():
    pair = ConnectionPair("DATA")
    assert take(pair, b"abc") == BodyChunk(b"abc")
    assert pair.server.next_event() is NEED_DATA
    assert take(pair, b"\r\n.") is NEED_DATA
    assert take(pair, b"\r\nNOOP\r\n") == BodyChunk(b"\r\n")
    assert pair.server.next_event() == BodyEnd(5)
    assert pair.server.next_event() is PAUSED
    assert pair.server.has_buffered


# --- STARTTLS (RFC 3207) ------------------------------------------------------------------------------------


def test_tls_begins_the_session_anew():
    pair = ConnectionPair("EHLO")
    pair.command(StartTls())
    assert pair.state is State.TLS
    assert pair.server.next_event() is PAUSED
    with pytest.raises(LocalProtocolError):
        pair.server.receive_data(b"\x16\x03\x01")
    with pytest.raises(LocalProtocolError):
        pair.server.reply(replies.SHUTTING_DOWN)
    pair.start_tls()
    assert pair.send(MAIL) == [replies.HELLO_FIRST]
    assert pair.send(b"EHLO x\r\nSTARTTLS\r\n")[-1] == replies.TLS_ACTIVE
    pair.server.capabilities = Capabilities()
    assert pair.send(b"STARTTLS\r\n") == [replies.TLS_ACTIVE]


def test_plaintext_behind_starttls_is_refused():
    pair = ConnectionPair("EHLO")
    assert command(pair, b"STARTTLS\r\nRSET\r\n") == StartTls()
    with pytest.raises(RemoteProtocolError) as caught:
        pair.server.reply(replies.TLS_READY)
    assert caught.value.reply_hint == replies.PROTOCOL_ERROR
    assert pair.server.state is State.ERROR


def test_behind_a_refused_starttls_the_session_goes_on():
    pair = ConnectionPair("EHLO", answers=refuse("STARTTLS", reply=replies.TLS_NOT_AVAILABLE))
    assert pair.send(b"STARTTLS\r\nRSET\r\n") == [replies.TLS_NOT_AVAILABLE, replies.RESET_OK]


def test_tls_cannot_start_unasked():
    with pytest.raises(LocalProtocolError):
        ConnectionPair("EHLO").server.tls_started()


# --- AUTH (RFC 4954) ----------------------------------------------------------------------------------------


def test_an_exchange_with_challenges():
    pair = ConnectionPair("EHLO")
    assert command(pair, b"AUTH LOGIN\r\n") == Auth("LOGIN")
    assert pair.server.reply(Reply.of(334, None, "VXNlcm5hbWU6")) == b"334 VXNlcm5hbWU6\r\n"
    assert pair.server.state is State.AUTH
    assert command(pair, b"YQ==\r\n") == AuthResponse(b"a")
    pair.server.reply(Reply.of(334, None, "UGFzc3dvcmQ6"))
    assert command(pair, b"YQ==\r\n") == AuthResponse(b"a")
    assert pair.server.reply(Reply.of(235, "2.7.0", "ok")) == b"235 2.7.0 ok\r\n"
    assert pair.server.state is State.READY
    assert pair.send(b"AUTH PLAIN =\r\n") == [replies.BAD_SEQUENCE]
    pair.server.capabilities = Capabilities()
    assert pair.send(b"AUTH PLAIN =\r\n") == [replies.BAD_SEQUENCE]


@pytest.mark.parametrize("line", [b"*\r\n", b"!\r\n", b"Y" * MAX_AUTH_LINE + b"\r\n", b"EHLO x\r\n"])
def test_an_exchange_that_ends_without_success(line):
    pair = ConnectionPair("EHLO")
    pair.send(b"AUTH LOGIN\r\n")
    assert pair.state is State.AUTH
    (reply,) = pair.send(line)
    assert reply.code in (500, 501)
    assert (reply == replies.AUTH_TOO_LONG) is (len(line) > MAX_AUTH_LINE)
    assert pair.state is State.READY
    assert pair.send(b"AUTH PLAIN =\r\n")[0].code == 235


def test_a_long_response_is_no_long_command():
    pair = ConnectionPair("EHLO", limits=Limits(command_line=512))
    pair.send(b"AUTH LOGIN\r\n")
    assert command(pair, b"YWFh" * 2000 + b"\r\n") == AuthResponse(b"aaa" * 2000)


def test_an_auth_line_may_end_without_a_response():
    pair = ConnectionPair("EHLO")
    assert command(pair, b"AUTH PLAIN =\r\n") == Auth("PLAIN", b"")  # RFC 4954 §4: empty, which is not none
    pair.server.reply(replies.AUTH_FAILED)
    assert command(pair, b"AUTH PLAIN\r\n") == Auth("PLAIN", None)
    pair.server.reply(Reply.of(334, None, ""))
    assert command(pair, b"\r\n") == AuthResponse(b"")


@pytest.mark.parametrize(
    "line", [b"AUTH PLAIN *\r\n", b"AUTH PLAIN a\r\n", b"AUTH PLAIN YQ==YQ==\r\n", b"AUTH PLAIN  YQ==\r\n"]
)
def test_an_initial_response_that_is_no_base64(line):
    # RFC 4954 §4: 501, and no exchange has begun
    pair = ConnectionPair("EHLO")
    assert pair.send(line) == [replies.AUTH_MALFORMED]
    assert pair.state is State.READY


def test_auth_of_mail_is_right_where_auth_is_announced():
    # RFC 4954 §5, also when the client has authenticated
    pair = ConnectionPair("EHLO")
    pair.send(b"AUTH PLAIN =\r\n")
    assert pair.send(b"MAIL FROM:<a@example.org> AUTH=<>\r\n") == [replies.SENDER_OK]
    assert pair.send(b"AUTH PLAIN =\r\n") == [replies.BAD_SEQUENCE]


# --- XCLIENT, XFORWARD (Postfix) ------------------------------------------------------------------------------


def test_xclient_begins_the_session_anew():
    pair = ConnectionPair("EHLO")
    pair.send(b"AUTH PLAIN =\r\n")
    (reply,) = pair.send(b"XCLIENT NAME=spike.example ADDR=192.0.2.1\r\n")
    assert reply == Reply.of(220, None, "mx.example.org ESMTP elemta")
    assert pair.state is State.HELLO
    assert pair.send(MAIL) == [replies.HELLO_FIRST]
    assert [sent.code for sent in pair.send(b"EHLO x\r\nAUTH PLAIN =\r\nXCLIENT NAME=y\r\n")] == [
        250,
        235,
        220,
    ]


def test_xclient_keeps_tls():
    pair = ConnectionPair("EHLO")
    pair.send(b"STARTTLS\r\n")
    pair.server.tls_started()
    sent = pair.send(b"EHLO x\r\nXCLIENT NAME=y\r\nEHLO x\r\nSTARTTLS\r\n")
    assert sent[-1] == replies.TLS_ACTIVE


def test_xclient_may_come_before_hello_and_may_be_refused():
    pair = ConnectionPair("CONNECT")
    assert pair.send(b"XCLIENT NAME=y\r\n")[0].code == 220
    pair = ConnectionPair("EHLO", answers=refuse("XCLIENT", reply=replies.NOT_A_PROXY))
    assert pair.send(b"XCLIENT NAME=y\r\n" + MAIL) == [replies.NOT_A_PROXY, replies.SENDER_OK]


def test_xforward_changes_no_state():
    pair = ConnectionPair("EHLO")
    line = b"XFORWARD NAME=x\r\n"
    assert pair.send(line + line + MAIL + line) == [
        replies.FORWARDED_OK,
        replies.FORWARDED_OK,
        replies.SENDER_OK,
        replies.BAD_SEQUENCE,
    ]


# --- The dialect ----------------------------------------------------------------------------------------------


def test_a_server_may_complete_paths_for_submission():
    server = ServerConnection(
        None, EVERYTHING, dialect=Dialect(blank_before_path=True, default_domain=Domain("example.org"))
    )
    server.greet(replies.banner("mx.example.org"))
    server.receive_data(b"EHLO x\r\nMAIL FROM: <a>\r\n")
    server.next_event()
    server.reply(replies.hello("mx.example.org"))
    assert server.next_event() == CommandReceived(Mail(parse_reverse_path("<a@example.org>")))


# --- LMTP (RFC 2033) ----------------------------------------------------------------------------------------


def test_lmtp_answers_each_recipient_after_the_message():
    pair = ConnectionPair("RCPT", lmtp=True)
    pair.send(RCPT + b"DATA\r\n")
    assert pair.server.recipients == 2
    assert take(pair, b".\r\n") == BodyEnd(0)
    with pytest.raises(LocalProtocolError):
        pair.server.body_replies([replies.NOOP_OK])
    with pytest.raises(LocalProtocolError):
        pair.server.body_replies([replies.NOOP_OK, replies.SHUTTING_DOWN])
    with pytest.raises(LocalProtocolError):
        pair.server.body_replies([replies.NOOP_OK, replies.START_DATA])
    sent = pair.server.body_replies([replies.NOOP_OK, replies.MAILBOX_UNKNOWN])
    assert sent == b"250 2.0.0 ok\r\n550 5.1.1 no such mailbox\r\n"
    assert pair.server.state is State.READY
    assert pair.server.recipients == 0


def test_one_reply_to_an_lmtp_message_is_given_for_each_recipient():
    pair = ConnectionPair("RCPT", lmtp=True)
    pair.send(RCPT + b"DATA\r\n")
    assert take(pair, b".\r\n") == BodyEnd(0)
    assert pair.server.reply(replies.LOCAL_ERROR) == b"451 4.3.0 local error, try again later\r\n" * 2


def test_lmtp_without_a_recipient_is_503():
    pair = ConnectionPair("MAIL", lmtp=True, answers=refuse("RCPT"))
    assert pair.send(b"DATA\r\n" + RCPT + b"DATA\r\n") == [
        replies.NO_RECIPIENTS,
        replies.MAILBOX_UNKNOWN,
        replies.NO_RECIPIENTS,
    ]


def test_lmtp_knows_no_smtp_hello():
    pair = ConnectionPair("CONNECT", lmtp=True)
    sent = pair.send(b"EHLO x\r\nHELO x\r\nLHLO x\r\n")
    assert [reply.code for reply in sent] == [500, 500, 250]
    assert pair.server.lmtp


def test_per_recipient_replies_are_for_lmtp():
    pair = ConnectionPair("DATA")
    take(pair, b".\r\n")
    with pytest.raises(LocalProtocolError):
        pair.server.body_replies([replies.NOOP_OK])


def test_mail_is_a_typed_command():
    pair = ConnectionPair("EHLO")
    assert isinstance(command(pair, MAIL), Mail)
