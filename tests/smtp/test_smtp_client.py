"""The client machine: legality, the queue of outstanding replies, odd servers."""

import pytest

from elemta.mail import BodyType, Notify, Reply, parse_forward_path, parse_reverse_path, replies
from elemta.smtp import (
    NEED_DATA,
    PAUSED,
    Auth,
    AuthResponse,
    Bdat,
    Capabilities,
    ClientConnection,
    ConnectionClosed,
    Data,
    Ehlo,
    EndOfBody,
    Expn,
    Helo,
    Lhlo,
    LocalProtocolError,
    Mail,
    MailParams,
    Noop,
    Quit,
    Rcpt,
    RcptParams,
    RemoteProtocolError,
    ReplyReceived,
    Rset,
    StartTls,
    State,
    Vrfy,
    Xclient,
    Xforward,
)

SENDER = Mail(parse_reverse_path("<a@example.org>"))
USER = Rcpt(parse_forward_path("<u@example.org>"))
OTHER = Rcpt(parse_forward_path("<o@example.org>"))
EVERYTHING = b"250-PIPELINING\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n"


def feed(client: ClientConnection, data: bytes) -> list[ReplyReceived]:
    client.receive_data(data)
    found = []
    while isinstance(event := client.next_event(), ReplyReceived):
        found.append(event)
    return found


def connect(*, lmtp: bool = False, extensions: bytes = EVERYTHING) -> ClientConnection:
    client = ClientConnection(lmtp=lmtp)
    feed(client, b"220 mx\r\n")
    client.send(Lhlo("c") if lmtp else Ehlo("c"))
    feed(client, b"250-mx\r\n" + extensions)
    assert client.state is State.READY
    return client


def in_body(*, lmtp: bool = False, users: tuple[Rcpt, ...] = (USER,)) -> ClientConnection:
    client = connect(lmtp=lmtp)
    client.send(SENDER, *users, Data())
    feed(client, b"250 ok\r\n" * (1 + len(users)) + b"354 go\r\n")
    assert client.state is State.BODY
    assert client.accepted == users
    return client


# --- The way of a message -----------------------------------------------------------------------------


def test_a_message_in_two_writes():
    client = connect()
    assert client.send(SENDER, USER, OTHER, Data()) == (
        b"MAIL FROM:<a@example.org>\r\nRCPT TO:<u@example.org>\r\nRCPT TO:<o@example.org>\r\nDATA\r\n"
    )
    assert client.outstanding == 4
    found = feed(client, b"250 2.1.0 ok\r\n250 2.1.5 ok\r\n550 5.1.1 no\r\n354 go\r\n")
    assert [event.command for event in found] == [SENDER, USER, OTHER, Data()]
    assert found[2].reply == Reply.of(550, "5.1.1", "no")
    assert client.accepted == (USER,)
    assert client.body_open
    assert client.send_body(b".a\r\n") + client.send_body(b".b") == b"..a\r\n..b"
    assert client.end_body() == b"\r\n.\r\n"
    assert not client.body_open
    assert client.state is State.BODY
    assert feed(client, b"250 2.0.0 ok\r\n") == [ReplyReceived(EndOfBody(), Reply.of(250, "2.0.0", "ok"))]
    assert client.state is State.READY


def test_the_next_group_may_stand_right_behind_the_final_dot():
    client = in_body()
    client.end_body()
    client.send(SENDER, OTHER)
    client.send(Data())
    found = feed(client, b"451 later\r\n250 ok\r\n250 ok\r\n354 go\r\n")
    assert [event.command for event in found] == [EndOfBody(), SENDER, OTHER, Data()]
    assert client.accepted == (OTHER,)
    assert client.body_open


def test_replies_in_any_pieces_are_the_same():
    data = b"250 ok\r\n550-5.1.1 no\r\n550 5.1.1 such user\r\n250 ok\r\n354 go\r\n"
    for size in (1, 2, 7, len(data)):
        client = connect()
        client.send(SENDER, OTHER, USER, Data())
        found = [event for at in range(0, len(data), size) for event in feed(client, data[at : at + size])]
        assert [event.reply.code for event in found] == [250, 550, 250, 354]
        assert client.next_event() is NEED_DATA


def test_when_mail_is_refused_the_rest_is_and_nothing_is_open():
    client = connect()
    client.send(SENDER, USER, Data())
    feed(client, b"550 no\r\n503 bad sequence\r\n503 bad sequence\r\n")
    assert client.state is State.READY
    assert not client.body_open
    assert client.send(SENDER)


def test_when_all_recipients_are_refused_a_server_may_still_want_the_dot():
    client = connect()
    client.send(SENDER, USER, Data())
    feed(client, b"250 ok\r\n550 no\r\n354 go\r\n")
    assert client.accepted == ()
    with pytest.raises(LocalProtocolError):
        client.send_body(b"x")
    assert client.send_body(b"") == b""
    assert client.end_body() == b".\r\n"
    feed(client, b"554 no valid recipients\r\n")
    assert client.state is State.READY


def test_after_a_refused_data_command_the_transaction_has_to_be_reset():
    client = connect()
    client.send(SENDER, USER, Data())
    feed(client, b"250 ok\r\n250 ok\r\n451 later\r\n")
    assert client.state is State.RCPT
    with pytest.raises(LocalProtocolError):
        client.send(SENDER)
    client.send(Rset(), SENDER)
    feed(client, b"250 ok\r\n250 ok\r\n")
    assert client.state is State.MAIL
    assert client.accepted == ()


# --- What may be sent -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "commands",
    [
        (USER,),
        (Data(),),
        (SENDER, Data()),
        (SENDER, SENDER),
        (SENDER, USER, SENDER),
        (SENDER, USER, Data(), Rset()),
        (Noop(), SENDER),
        (Ehlo("c"), SENDER),
        (Vrfy("x"), Rset()),
        (Quit(), Rset()),
        (StartTls(), Ehlo("c")),
        (Auth("PLAIN"), SENDER),
        (SENDER, StartTls()),
        (Lhlo("c"),),
        (AuthResponse(b"x"),),
        (Auth("LOGIN"),),
        (Expn("x"),),
        (Mail(SENDER.path, MailParams(smtputf8=True)),),
        (Mail(SENDER.path, MailParams(body_type=BodyType.BINARY_MIME)),),
        (Mail(SENDER.path, MailParams(envelope_id="x")),),
        (Mail(parse_reverse_path("<\u00fc@example.org>", utf8=True)),),
        (SENDER, Rcpt(USER.path, RcptParams(notify=Notify.NEVER))),
    ],
)
def test_what_may_not_be_sent_leaves_no_trace(commands):
    client = connect()
    with pytest.raises(LocalProtocolError):
        client.send(*commands)
    assert client.outstanding == 0
    assert client.send(SENDER) == b"MAIL FROM:<a@example.org>\r\n"


def test_parameters_that_were_announced():
    client = connect()
    params = MailParams(size=5, body_type=BodyType.EIGHT_BIT_MIME)
    assert client.send(Mail(SENDER.path, params)) == b"MAIL FROM:<a@example.org> SIZE=5 BODY=8BITMIME\r\n"


def test_smtputf8_covers_its_recipients():
    client = connect(extensions=b"250-PIPELINING\r\n250 SMTPUTF8\r\n")
    path = parse_forward_path("<\u00fc@example.org>", utf8=True)
    sent = client.send(Mail(SENDER.path, MailParams(smtputf8=True)), Rcpt(path))
    assert sent.endswith("RCPT TO:<\u00fc@example.org>\r\n".encode())
    feed(client, b"250 ok\r\n250 ok\r\n")
    client.send(Rset())
    feed(client, b"250 ok\r\n")
    with pytest.raises(LocalProtocolError):
        client.send(SENDER, Rcpt(path))


def test_without_pipelining_each_command_waits():
    client = connect(extensions=b"250 SIZE\r\n")
    with pytest.raises(LocalProtocolError):
        client.send(SENDER, USER)
    client.send(SENDER)
    with pytest.raises(LocalProtocolError):
        client.send(USER)
    feed(client, b"250 ok\r\n")
    client.send(USER)


def test_nothing_is_sent_before_the_greeting():
    client = ClientConnection()
    assert client.next_event() is NEED_DATA
    with pytest.raises(LocalProtocolError):
        client.send(Ehlo("c"))
    with pytest.raises(LocalProtocolError):
        client.send_body(b"x")
    with pytest.raises(LocalProtocolError):
        client.end_body()


def test_a_transaction_needs_hello():
    client = ClientConnection()
    feed(client, b"220 mx\r\n")
    with pytest.raises(LocalProtocolError):
        client.send(SENDER)
    client.send(Ehlo("c"))
    feed(client, b"502 what\r\n")
    assert client.state is State.HELLO
    client.send(Helo("c"))
    feed(client, b"250 mx\r\n")
    assert client.capabilities == Capabilities()
    client.send(SENDER)


# --- The greeting, the end -------------------------------------------------------------------------------


def test_after_a_rejecting_greeting_only_quit_may_be_sent():
    client = ClientConnection()
    assert feed(client, b"554 5.0.0 no\r\n") == [ReplyReceived(None, Reply.of(554, "5.0.0", "no"))]
    assert client.state is State.REJECTED
    with pytest.raises(LocalProtocolError):
        client.send(Ehlo("c"))
    client.send(Quit())
    feed(client, b"221 bye\r\n")
    assert client.state is State.CLOSED


@pytest.mark.parametrize("data", [b"421 busy\r\n", b"450 busy\r\n"])
def test_a_greeting_that_puts_off(data):
    client = ClientConnection()
    assert len(feed(client, data)) == 1
    assert client.state is State.CLOSED
    assert client.next_event() == ConnectionClosed()
    with pytest.raises(LocalProtocolError):
        client.send(Quit())


def test_421_in_the_middle_of_a_group_ends_it():
    client = connect()
    client.send(SENDER, USER, Data())
    found = feed(client, b"250 ok\r\n421 4.3.2 bye\r\n503 whatever\r\n")
    assert [event.command for event in found] == [SENDER, USER]
    assert client.state is State.CLOSED
    assert client.outstanding == 0


@pytest.mark.parametrize("data", [b"421 4.4.2 timeout\r\n", b"552 too big\r\n", b"451 no\r\n"])
def test_a_server_that_goes_unasked_is_heard(data):
    for client in (connect(), in_body()):
        (event,) = feed(client, data)
        assert event.command is None
        assert event.reply.code == int(data[:3])
        assert client.state is State.CLOSED
        assert not client.body_open


def test_end_of_file():
    client = connect()
    client.send(SENDER)
    assert feed(client, b"250 ok\r\n25") != []
    client.receive_data(b"")
    assert client.next_event() == ConnectionClosed()
    assert client.state is State.CLOSED


def test_any_reply_to_quit_is_the_last():
    client = connect()
    client.send(Quit())
    assert len(feed(client, b"500 what\r\n250 hm\r\n")) == 1
    assert client.next_event() == ConnectionClosed()


# --- Servers out of step -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("commands", "data"),
    [
        ((), b"250 to nothing\r\n"),
        ((SENDER,), b"354 go\r\n"),
        ((SENDER,), b"250 ok\r\n250 again\r\n"),
        ((SENDER, USER, Data()), b"250 ok\r\n250 ok\r\n250 ok\r\n"),
        ((SENDER, USER, Data()), b"550 no\r\n250 ok\r\n"),
        ((SENDER,), b"hello\r\n"),
        ((SENDER,), b"250-a\r\n251 b\r\n"),
        ((Quit(),), b"354 go\r\n"),
    ],
)
def test_a_server_out_of_step_is_an_error_for_good(commands, data):
    client = connect()
    client.send(*commands)
    with pytest.raises(RemoteProtocolError):
        feed(client, data)
    assert client.state is State.ERROR
    for call in (client.next_event, lambda: client.send(Quit()), lambda: client.receive_data(b"x")):
        with pytest.raises(LocalProtocolError):
            call()


@pytest.mark.parametrize("data", [b"354 go\r\n", b"hello\r\n"])
def test_a_greeting_that_is_none(data):
    with pytest.raises(RemoteProtocolError):
        feed(ClientConnection(), data)


def test_a_failed_write_ends_it():
    client = in_body()
    client.send_failed()
    assert client.state is State.ERROR
    assert client.outstanding == 0
    with pytest.raises(LocalProtocolError):
        client.send_body(b"x")


# --- STARTTLS, AUTH -----------------------------------------------------------------------------------------


def test_after_tls_nothing_that_was_announced_counts():
    client = connect()
    assert client.send(StartTls()) == b"STARTTLS\r\n"
    feed(client, b"220 go\r\n")
    assert client.state is State.TLS
    assert client.next_event() is PAUSED
    with pytest.raises(LocalProtocolError):
        client.receive_data(b"x")
    client.tls_started()
    assert client.state is State.HELLO
    assert client.capabilities == Capabilities()
    with pytest.raises(LocalProtocolError):
        client.tls_started()
    client.send(Ehlo("c"))
    feed(client, b"250 mx\r\n")
    with pytest.raises(LocalProtocolError):
        client.send(StartTls())


def test_plaintext_behind_the_reply_to_starttls_is_refused():
    client = connect()
    client.send(StartTls())
    with pytest.raises(RemoteProtocolError):
        feed(client, b"220 go\r\n250 injected\r\n")
    assert client.state is State.ERROR


def test_after_a_refused_starttls_the_session_goes_on():
    client = connect()
    client.send(StartTls())
    feed(client, b"454 not now\r\n")
    assert client.state is State.READY


def test_an_authentication_with_a_challenge():
    client = connect()
    client.send(Auth("PLAIN"))
    (event,) = feed(client, b"334 \r\n")
    assert event.reply == Reply.of(334, None, "")
    assert client.state is State.AUTH
    for command in (SENDER, Auth("PLAIN"), Quit()):
        with pytest.raises(LocalProtocolError):
            client.send(command)
    assert client.send(AuthResponse(b"\0a\0b")) == b"AGEAYg==\r\n"
    feed(client, b"235 2.7.0 ok\r\n")
    assert client.state is State.READY


def test_xclient_begins_the_session_anew():
    client = connect(extensions=b"250-XCLIENT NAME ADDR\r\n250 XFORWARD NAME\r\n")
    assert client.send(Xforward({"NAME": "x"})) == b"XFORWARD NAME=x\r\n"
    feed(client, b"250 ok\r\n")
    assert client.send(Xclient({"NAME": "x", "ADDR": "192.0.2.1"})) == b"XCLIENT NAME=x ADDR=192.0.2.1\r\n"
    (event,) = feed(client, b"220 mx ESMTP\r\n")
    assert event.reply == Reply.of(220, None, "mx ESMTP")
    assert client.state is State.HELLO
    for command in (Xclient({"LOGIN": "x"}), Xforward({"SOURCE": "LOCAL"})):
        with pytest.raises(LocalProtocolError):
            client.send(command)


# --- BDAT (RFC 3030) ----------------------------------------------------------------------------------------

CHUNKING = b"250-PIPELINING\r\n250-8BITMIME\r\n250-BINARYMIME\r\n250 CHUNKING\r\n"


def with_recipients(*users: Rcpt, extensions: bytes = CHUNKING, lmtp: bool = False) -> ClientConnection:
    client = connect(extensions=extensions, lmtp=lmtp)
    for command in (Mail(SENDER.path), *users):
        client.send(command)
        feed(client, b"250 ok\r\n")
    return client


def test_chunks_may_follow_each_other():
    client = with_recipients(USER)
    assert client.send_chunk(b".a\n\0") == b"BDAT 4\r\n.a\n\0"
    assert client.send_chunk(b"b") == b"BDAT 1\r\nb"
    assert client.send_chunk(b"", last=True) == b"BDAT 0 LAST\r\n"
    assert client.outstanding == 3
    assert client.send(SENDER)  # and the next message right behind (RFC 2920 §3.1)
    found = feed(client, b"250 4 octets\r\n250 1 octet\r\n250 2.0.0 queued\r\n250 ok\r\n")
    assert [event.command for event in found] == [Bdat(4), Bdat(1), EndOfBody(), SENDER]
    assert client.state is State.MAIL


def test_a_refused_chunk_ends_the_message():
    client = with_recipients(USER)
    client.send_chunk(b"a")
    client.send_chunk(b"b")
    feed(client, b"452 full\r\n")
    assert client.state is State.FAILED
    with pytest.raises(LocalProtocolError):
        client.send_chunk(b"c", last=True)
    feed(client, b"503 bad sequence\r\n")
    for command in (Data(), SENDER, USER):
        with pytest.raises(LocalProtocolError):
            client.send(command)
    client.send(Rset(), SENDER)
    feed(client, b"250 ok\r\n250 ok\r\n")
    assert client.state is State.MAIL


def test_when_a_chunk_is_refused_with_the_last_one_sent_the_transaction_is_over():
    client = with_recipients(USER)
    client.send_chunk(b"a")
    client.send_chunk(b"b", last=True)
    feed(client, b"552 too big\r\n503 bad sequence\r\n")
    assert client.state is State.READY


def test_a_chunk_that_is_accepted_behind_a_refused_one_is_out_of_step():
    client = with_recipients(USER)
    client.send_chunk(b"a")
    client.send_chunk(b"b")
    with pytest.raises(RemoteProtocolError):
        feed(client, b"552 too big\r\n250 ok\r\n")


def test_without_pipelining_each_chunk_waits():
    client = with_recipients(USER, extensions=b"250 CHUNKING\r\n")
    client.send_chunk(b"a")
    with pytest.raises(LocalProtocolError):
        client.send_chunk(b"b")
    feed(client, b"250 ok\r\n")
    client.send_chunk(b"b", last=True)


def test_chunks_wait_for_the_recipients_and_need_one():
    client = connect(extensions=CHUNKING)
    with pytest.raises(LocalProtocolError):
        client.send_chunk(b"a")
    client.send(SENDER, USER)
    with pytest.raises(LocalProtocolError):
        client.send_chunk(b"a")
    feed(client, b"250 ok\r\n")
    with pytest.raises(LocalProtocolError):
        client.send_chunk(b"a")
    feed(client, b"550 no\r\n")
    with pytest.raises(LocalProtocolError):
        client.send_chunk(b"a")
    client.send(USER, OTHER)
    feed(client, b"250 ok\r\n")
    with pytest.raises(LocalProtocolError):
        client.send_chunk(b"a")
    feed(client, b"250 ok\r\n")
    client.send_chunk(b"a")


def test_chunking_has_to_be_announced():
    with pytest.raises(LocalProtocolError):
        with_recipients(USER, extensions=EVERYTHING).send_chunk(b"a")
    with pytest.raises(LocalProtocolError):
        with_recipients(USER).send(Bdat(1))


def test_data_and_bdat_do_not_mix():
    client = with_recipients(USER)
    client.send_chunk(b"a")
    feed(client, b"250 ok\r\n")
    with pytest.raises(LocalProtocolError):
        client.send(Data())
    client = with_recipients(USER)
    client.send(Data())
    with pytest.raises(LocalProtocolError):
        client.send_chunk(b"a")


def test_binary_content_needs_bdat():
    client = connect(extensions=CHUNKING)
    sender = Mail(SENDER.path, MailParams(body_type=BodyType.BINARY_MIME))
    with pytest.raises(LocalProtocolError):
        client.send(sender, USER, Data())
    client.send(sender, USER)
    feed(client, b"250 ok\r\n250 ok\r\n")
    with pytest.raises(LocalProtocolError):
        client.send(Data())
    client.send(Rset(), SENDER, USER, Data())


def test_lmtp_has_a_reply_for_each_recipient_behind_the_last_chunk():
    client = with_recipients(USER, OTHER, lmtp=True)
    client.send_chunk(b"a")
    client.send_chunk(b"b", last=True)
    assert client.outstanding == 3
    found = feed(client, b"250 ok\r\n250 ok\r\n550 no\r\n")
    assert [event.command for event in found] == [Bdat(1), EndOfBody(USER), EndOfBody(OTHER)]
    assert client.state is State.READY


# --- LMTP ---------------------------------------------------------------------------------------------------


def test_lmtp_has_a_reply_for_each_accepted_recipient():
    client = in_body(lmtp=True, users=(USER, OTHER))
    client.send_body(b"x\r\n")
    client.end_body()
    assert client.outstanding == 2
    client.send(SENDER)  # and the next message is on its way
    found = feed(client, b"250 2.1.5 ok\r\n")
    assert found == [ReplyReceived(EndOfBody(USER), Reply.of(250, "2.1.5", "ok"))]
    assert client.state is State.BODY
    found = feed(client, b"550 5.1.1 no\r\n250 ok\r\n")
    assert [event.command for event in found] == [EndOfBody(OTHER), SENDER]
    assert client.state is State.MAIL


def test_lmtp_replies_of_one_message_are_not_counted_with_the_next_one():
    client = in_body(lmtp=True)
    client.end_body()
    client.send(SENDER, OTHER, Data())
    feed(client, b"250 ok\r\n")
    assert client.state is State.READY
    feed(client, b"250 ok\r\n250 ok\r\n354 go\r\n")
    assert client.accepted == (OTHER,)


def test_an_lmtp_server_that_wants_data_for_nobody_is_out_of_step():
    client = connect(lmtp=True)
    client.send(SENDER, USER, Data())
    with pytest.raises(RemoteProtocolError):
        feed(client, b"250 ok\r\n550 no\r\n354 go\r\n")


@pytest.mark.parametrize("command", [Ehlo("c"), Helo("c")])
def test_lmtp_knows_no_smtp_hello(command):
    with pytest.raises(LocalProtocolError):
        connect(lmtp=True).send(command)


def test_replies_refer_to_the_objects_that_were_sent():
    client = connect()
    first, second = Rcpt(USER.path), Rcpt(USER.path)
    client.send(SENDER, first, second)
    found = feed(client, replies.SENDER_OK.text.join(["250 ", "\r\n"]).encode() + b"250 ok\r\n" * 2)
    assert found[1].command is first
    assert found[2].command is second
