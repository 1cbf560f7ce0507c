"""Both machines together: the same state after each step, whatever the server says."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elemta.mail import BodyType, Reply, parse_forward_path, parse_reverse_path, replies
from elemta.smtp import (
    Auth,
    AuthResponse,
    Bdat,
    BodyEnd,
    ChunkEnd,
    CommandReceived,
    Data,
    Ehlo,
    EndOfBody,
    Expn,
    Helo,
    Help,
    Lhlo,
    Limits,
    LocalProtocolError,
    Mail,
    MailParams,
    Noop,
    Quit,
    Rcpt,
    Rset,
    StartTls,
    State,
    Vrfy,
    Xclient,
    Xforward,
    is_legal,
)
from elemta.testing.pairs import ConnectionPair

SENDER = Mail(parse_reverse_path("<a@example.org>"), MailParams(size=5))
USER = Rcpt(parse_forward_path("<u@example.org>"))
STATES = {
    "": State.GREETING,
    "CONNECT": State.HELLO,
    "EHLO": State.READY,
    "HELO": State.READY,
    "MAIL": State.MAIL,
    "RCPT": State.RCPT,
    "DATA": State.BODY,
}


@pytest.mark.parametrize(("after", "state"), STATES.items())
def test_a_pair_is_led_to_its_state(after, state):
    assert ConnectionPair(after).state is state


def test_rcpt_before_mail_is_a_bad_sequence():
    pair = ConnectionPair(after="EHLO")
    pair.send(b"RCPT TO:<a@example.org>\r\n")
    assert pair.reply == replies.MAIL_FIRST
    assert pair.state is State.READY


def test_a_group_and_a_message_and_a_second_one():
    pair = ConnectionPair("EHLO")
    for number in range(2):
        assert pair.command(SENDER, USER, Data()).code == 354
        assert pair.body(b".x\r\n.", b"\r\n..y").code == 250
        assert pair.bodies[number] == b".x\r\n.\r\n..y\r\n"
    pair.command(Quit())
    assert pair.state is State.CLOSED


def test_lmtp_in_step():
    pair = ConnectionPair("LHLO", lmtp=True)
    pair.command(SENDER, USER, USER, Data())
    pair.body(b"x\r\n")
    assert [event.command for event in pair.received[-2:]] == [EndOfBody(USER), EndOfBody(USER)]
    assert pair.state is State.READY


def test_tls_and_authentication_in_step():
    pair = ConnectionPair("EHLO")
    pair.command(StartTls())
    pair.start_tls()
    pair.command(Ehlo("c"))
    assert pair.command(Auth("PLAIN")).code == 334
    assert pair.command(AuthResponse(b"\0a\0b")).code == 235
    assert pair.state is State.READY


def test_every_command_has_a_usual_reply():
    pair = ConnectionPair("EHLO")
    codes = [pair.command(one).code for one in (Noop(), Vrfy("x"), Expn("x"), Help(), Rset())]
    assert codes == [250, 252, 252, 214, 250]
    pair.command(Auth("LOGIN"))
    assert pair.command(AuthResponse(None)).code == 501
    assert pair.command(Helo("c")).lines == ("mx.example.org",)
    assert pair.state is State.READY


def test_a_client_that_hangs_up():
    pair = ConnectionPair("RCPT")
    pair.end_of_file()
    assert pair.state is State.CLOSED


def test_what_the_client_machine_announces_and_the_server_machine_offers_is_the_same():
    pair = ConnectionPair("EHLO")
    assert pair.client.capabilities == pair.server.offered


def test_chunks_in_step():
    pair = ConnectionPair("EHLO")
    for number in range(2):
        pair.command(Mail(SENDER.path, MailParams(body_type=BodyType.BINARY_MIME)), USER)
        assert pair.chunk(b"\r\n.\r\n\0").code == 250
        assert pair.state is State.CHUNKS
        assert pair.chunk(b"\n", last=True).code == 250
        assert pair.bodies[number] == b"\r\n.\r\n\0\n"
        assert pair.state is State.READY


def test_chunks_of_lmtp_in_step():
    pair = ConnectionPair("LHLO", lmtp=True)
    pair.command(SENDER, USER, USER)
    pair.chunk(b"x\r\n")
    pair.chunk(b"", last=True)
    assert [event.command for event in pair.received[-3:]] == [Bdat(3), EndOfBody(USER), EndOfBody(USER)]
    assert pair.state is State.READY


def test_a_proxy_in_step():
    pair = ConnectionPair("EHLO")
    assert pair.command(Xforward({"NAME": "x"})).code == 250
    assert pair.command(Xclient({"ADDR": "192.0.2.1"})).code == 220
    assert pair.state is State.HELLO


COMMANDS = [
    Ehlo("c"),
    Helo("c"),
    Lhlo("c"),
    SENDER,
    Mail(SENDER.path),
    USER,
    Data(),
    Rset(),
    Noop(),
    Quit(),
    Vrfy("x"),
    Expn("x"),
    Help(),
    Help("MAIL"),
    Bdat(2),
    Bdat(2),
    Bdat(2, last=True),
    Bdat(0, last=True),
    Mail(SENDER.path, MailParams(body_type=BodyType.BINARY_MIME)),
    Xclient({"NAME": "x"}),
    Xforward({"NAME": "x"}),
    StartTls(),
    Auth("PLAIN", b"\0a\0b"),
    Auth("LOGIN"),
    AuthResponse(b"x"),
    AuthResponse(None),
]
CODES = [None, None, None, None, 450, 550, 421]
step = st.tuples(st.sampled_from(COMMANDS), st.sampled_from(CODES))


@given(st.lists(step, max_size=25), st.booleans())
@settings(deadline=None, max_examples=300)
def test_both_sides_agree_after_any_commands_and_any_replies(steps, lmtp):
    codes = [None]

    def answers(event):
        assert isinstance(event, (CommandReceived, ChunkEnd, BodyEnd))
        return Reply(codes[-1], None, ("as the test says",)) if codes[-1] else None

    pair = ConnectionPair("CONNECT", lmtp=lmtp, answers=answers)
    for command, code in steps:
        codes.append(code)
        if pair.state is State.CLOSED:
            break
        if pair.state is State.BODY:
            pair.body(b"x\r\n")
        elif pair.state is State.TLS:
            pair.start_tls()
        else:
            try:
                if isinstance(command, Bdat):
                    pair.chunk(b"x" * command.size, last=command.last)
                else:
                    pair.command(command)
            except LocalProtocolError:
                # The client refused to send it: by the table, or for lack of the extension
                assert pair.client.outstanding == 0
                continue
            assert is_legal(pair.state, command.verb) or pair.replies
        assert pair.state is not State.ERROR


@given(st.lists(st.binary(max_size=20), max_size=5))
@settings(deadline=None)
def test_any_message_arrives_or_is_refused_for_its_line_ends(parts):
    pair = ConnectionPair("DATA", limits=Limits())
    reply = pair.body(*parts)
    content = b"".join(parts)
    bare = len(content.replace(b"\r\n", b"")) != len(content.replace(b"\r\n", b"").translate(None, b"\r\n\0"))
    assert reply.is_positive is not bare
    # Only a bare CR at the very end, which the final CRLF meets, makes other octets of it
    expected = content if content.endswith(b"\r\n") or not content else content + b"\r\n"
    assert pair.bodies == [expected]
