"""Any octets, in any pieces, from each state: the same events, and no error but the peer's."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from smtp_helpers import decode, decode_chunks, pieces, run

from elemta.mail import parse_forward_path, parse_reverse_path
from elemta.smtp import (
    ClientConnection,
    Data,
    Ehlo,
    Limits,
    Mail,
    Rcpt,
    RemoteProtocolError,
    ReplyReceived,
    StartTls,
    State,
    dot_encode,
)

VERBS = [
    *b"EHLO |LHLO |HELO |MAIL FROM:|RCPT TO:|DATA|RSET|NOOP|QUIT|AUTH LOGIN|STARTTLS|VRFY |HELP".split(b"|"),
    *b"BDAT 3|BDAT 3 LAST|BDAT 0|BDAT 99|BDAT |XCLIENT |XFORWARD |MAIL FROM:<> BODY=BINARYMIME".split(b"|"),
    b"RSET\r\nMAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\nBDAT 5\r\n12345",
]
ARGUMENTS = [
    *b'x|<a@b>|<>|<"a>"@b>| SIZE=1| SMTPUTF8| NOTIFY=NEVER|\xc3\xbc|*|YQ==|NAME=x|ADDR=+0A'.split(b"|"),
    *b" BY=60;R| HOLDFOR=9| HOLDUNTIL=2027-01-01T00:00:00Z| MT-PRIORITY=3| REQUIRETLS".split(b"|"),
]
ENDS = [b"\r\n", b"\r\n", b"\r\n", b"\r\n.\r\n", b".", b"\n", b"\r", b"\0", b"\xff", b"a" * 70]
words = st.sampled_from(VERBS + ARGUMENTS + ENDS)
octets = st.one_of(st.binary(max_size=80), st.lists(words, max_size=25).map(b"".join))
limits = st.builds(
    Limits,
    command_line=st.sampled_from([64, 512]),
    message_size=st.integers(0, 20),
    text_line=st.integers(0, 20),
    header_size=st.integers(0, 20),
    repair_line_ends=st.booleans(),
    repair_nul=st.booleans(),
)
cuts = st.lists(st.integers(1, 200), max_size=8)


@pytest.mark.parametrize("lmtp", [False, True])
@pytest.mark.parametrize("after", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA"])
def test_server_events_do_not_depend_on_the_pieces(after, lmtp):
    @given(octets, cuts, limits)
    @settings(deadline=None, max_examples=60)
    def check(data, where, bounds):
        # STARTTLS is the exception: what came behind it is an error, and what has not yet come is not
        data = data.replace(b"STARTTLS", b"NOOP")
        whole, server = run([data], after=after, lmtp=lmtp, limits=bounds)
        for parts in (pieces(data, where), pieces(data, range(len(data)))):
            events, other = run(parts, after=after, lmtp=lmtp, limits=bounds)
            assert events == whole
            assert other.state is server.state

    check()


@given(octets, cuts)
@settings(deadline=None, max_examples=100)
def test_within_chunks_events_do_not_depend_on_the_pieces(data, where):
    data = (b"BDAT 4\r\nab\r\nBDAT 7\r\n" + data).replace(b"STARTTLS", b"NOOP")
    whole, server = run([data], after="RCPT")
    for parts in (pieces(data, where), pieces(data, range(len(data)))):
        events, other = run(parts, after="RCPT")
        assert events == whole
        assert other.state is server.state


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\0", b"a", b"\r\n", b".\r\n"])), limits, st.booleans())
@settings(deadline=None, max_examples=100)
def test_a_message_is_the_same_by_data_and_by_bdat(parts, bounds, binary):
    content = b"".join(parts) + b"\r\n"
    chunks = decode_chunks([*parts, b"\r\n"], bounds, binary=binary)
    assert decode_chunks([content], bounds, binary=binary) == chunks
    if not binary:
        *dotted, rest = decode([dot_encode(content)], bounds)
        assert rest == b""
        assert tuple(dotted) == chunks


@given(octets, cuts)
@settings(deadline=None, max_examples=100)
def test_with_starttls_there_is_still_no_error_but_the_peers(data, where):
    run(pieces(b"STARTTLS\r\n" + data, where))
    run(pieces(data + b"STARTTLS\r\n", where))


replies = st.sampled_from(
    [
        b"250 ok",
        b"250-",
        b"220 ",
        b"354 ",
        b"421 bye",
        b"550 5.1.1 no",
        b"451-",
        b"\r\n",
        b"\r\n",
        b"\n",
        b"\xff",
        b"x",
    ]
)
answers = st.one_of(st.binary(max_size=60), st.lists(replies, max_size=20).map(b"".join))


def client_events(step: int, parts) -> list[object]:
    client = ClientConnection()
    sender, user = Mail(parse_reverse_path("<a@b.example>")), Rcpt(parse_forward_path("<u@b.example>"))
    script = [
        (lambda: client.send(Ehlo("c")), b"250-mx\r\n250-STARTTLS\r\n250 PIPELINING\r\n"),
        (lambda: client.send(sender, user, user, Data()), b"250 ok\r\n250 ok\r\n550 no\r\n354 go\r\n"),
        (lambda: client.end_body() + client.send(sender, user), b"250 ok\r\n250 ok\r\n250 ok\r\n"),
    ]
    if step:
        client.receive_data(b"220 mx\r\n")
        client.next_event()
    for number, (send, answer) in enumerate(script[:step]):
        send()
        if number < step - 1:
            client.receive_data(answer)
            while isinstance(client.next_event(), ReplyReceived):
                pass
    found: list[object] = []
    try:
        for part in parts:
            client.receive_data(part)
            while isinstance(event := client.next_event(), ReplyReceived):
                found.append(event)
        client.receive_data(b"")
        found.append(client.next_event())
    except RemoteProtocolError as error:
        found.append(str(error))
    return [*found, client.state]


@pytest.mark.parametrize("step", [0, 1, 2, 3])
def test_client_events_do_not_depend_on_the_pieces(step):
    @given(answers, cuts)
    @settings(deadline=None, max_examples=80)
    def check(data, where):
        whole = client_events(step, [data] if data else [])
        assert client_events(step, pieces(data, where)) == whole
        assert client_events(step, pieces(data, range(len(data)))) == whole

    check()


@given(answers)
@settings(deadline=None, max_examples=60)
def test_a_client_before_tls_meets_no_error_but_the_peers(data):
    client = ClientConnection()
    client.receive_data(b"220 mx\r\n")
    client.next_event()
    client.send(Ehlo("c"))
    client.receive_data(b"250-mx\r\n250 STARTTLS\r\n")
    client.next_event()
    client.send(StartTls())
    client.receive_data(data or b"220 go\r\n")
    try:
        while isinstance(client.next_event(), ReplyReceived):
            pass
    except RemoteProtocolError:
        pass
    # What came in clear text is not taken for a state that only TLS leads to.
    assert client.state in (State.TLS, State.READY, State.CLOSED, State.ERROR)
