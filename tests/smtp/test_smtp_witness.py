"""What a witness of a session is told, and that nothing secret is among it."""

import pytest

from elemta.mail import Domain, EnhancedCode, ForwardPath, Mailbox, Reply, ReversePath, replies
from elemta.smtp import (
    NEED_DATA,
    Auth,
    AuthResponse,
    BodyEnd,
    BodyProblem,
    Capabilities,
    ClientConnection,
    Data,
    Ehlo,
    EndOfBody,
    Mail,
    Rcpt,
    ServerConnection,
    Side,
    StartTls,
    show_said,
)
from elemta.smtp.witness import _MOST_LINES


def told(seen: list[tuple[Side, object]]) -> list[str]:
    return [f"{side} {line}" for side, what in seen for line in show_said(what)]


def server(*lines: bytes, replies_: list[Reply], capabilities: Capabilities) -> list[str]:
    seen: list[tuple[Side, object]] = []
    connection = ServerConnection(capabilities=capabilities)
    connection.witness = lambda side, what: seen.append((side, what))
    connection.greet(replies.banner("mx.example.org", lmtp=False))
    answers = iter(replies_)
    for line in lines:
        connection.receive_data(line)
        while connection.next_event() is not NEED_DATA:
            if connection._pending is not None:
                connection.reply(next(answers))
    return told(seen)


OK = Reply.of(250, "2.0.0", "ok")


def test_a_server_tells_commands_as_they_came_and_replies():
    said = server(
        b"ehlo client.example\r\n",
        b"MAIL from:<a@b.example>\r\n",
        b"RCPT TO:<c@d.example>\r\n",
        b"DATA\r\n",
        b"Subject: secret\r\n\r\nof the content nothing\r\n.\r\n",
        replies_=[Reply(250, None, ("mx", "SIZE")), OK, OK, Reply(354, None, ("go",)), OK],
        capabilities=Capabilities(),
    )
    assert said == [
        "S 220 mx.example.org ESMTP elemta",
        "C ehlo client.example",
        "S 250-mx",
        "S 250 SIZE",
        "C MAIL from:<a@b.example>",
        "S 250 2.0.0 ok",
        "C RCPT TO:<c@d.example>",
        "S 250 2.0.0 ok",
        "C DATA",
        "S 354 go",
        "C (a message of 43 octets)",
        "S 250 2.0.0 ok",
    ]


def test_no_password_is_told_whatever_the_client_does_with_it():
    challenge = Reply(334, None, ("UGFzc3dvcmQ6",))
    said = server(
        b"EHLO x.example\r\n",
        b"AUTH LOGIN\r\n",
        b"c2VjcmV0\r\n",
        b"c2VjcmV0\r\n",
        b"AUTH PLAIN c2VjcmV0\r\n",
        b"  auth  plain   c2VjcmV0 \r\n",
        b"c2VjcmV0\r\n",
        b"secret\r\n",
        b"LOGIN me secret\r\n",
        b"secretsecretsecret secret\r\n",
        b"\xff\x00\r\n",
        replies_=[
            Reply(250, None, ("mx",)),
            challenge,
            challenge,
            Reply.of(535, "5.7.8", "no"),
            Reply.of(535, "5.7.8", "no"),
            *[replies.UNKNOWN_COMMAND] * 6,
        ],
        capabilities=Capabilities(auth=("LOGIN", "PLAIN")),
    )
    clients = [line for line in said if line.startswith("C")]
    assert clients == [
        "C EHLO x.example",
        "C AUTH LOGIN (a secret)",
        "C (a secret)",
        "C (a secret)",
        "C AUTH PLAIN (a secret)",
        "C AUTH plain (a secret)",
        "C (8 octets that are no command)",
        "C (6 octets that are no command)",
        "C LOGIN (15 octets that are no command)",
        "C (25 octets that are no command)",
        "C (2 octets that are no command)",
    ]
    assert "c2VjcmV0" not in str(said)
    assert "UGFzc3dvcmQ6" not in str(said)


def test_a_client_tells_the_same_from_the_other_end():
    seen: list[tuple[Side, object]] = []
    client = ClientConnection()
    client.witness = lambda side, what: seen.append((side, what))

    def hear(data: bytes) -> None:
        client.receive_data(data)
        client.next_event()

    hear(b"220 mx\r\n")
    client.send(Ehlo("me.example"))
    hear(b"250-mx\r\n250-AUTH PLAIN\r\n250 PIPELINING\r\n")
    client.send(Auth("PLAIN", b"\0me\0secret"))
    hear(b"334 c2VjcmV0\r\n")
    client.send(AuthResponse(b"secret"))
    hear(b"235 2.7.0 in\r\n")
    path = Mailbox("c", Domain("d.example"))
    client.send(Mail(ReversePath(path)), Rcpt(ForwardPath(path)), Data())
    hear(b"250 2.1.0 ok\r\n")
    hear(b"250 2.1.5 ok\r\n")
    hear(b"354 go\r\n")
    client.send_body(b"secret\r\n")
    client.end_body()
    hear(b"550 5.7.1 no\r\n")
    assert told(seen) == [
        "S 220 mx",
        "C EHLO me.example",
        "S 250-mx",
        "S 250-AUTH PLAIN",
        "S 250 PIPELINING",
        "C AUTH PLAIN (a secret)",
        "S 334 (a challenge)",
        "C (a secret)",
        "S 235 2.7.0 in",
        "C MAIL FROM:<c@d.example>",
        "C RCPT TO:<c@d.example>",
        "C DATA",
        "S 250 2.1.0 ok",
        "S 250 2.1.5 ok",
        "S 354 go",
        "C (the message)",
        "S 550 5.7.1 no",
    ]


def test_an_endless_reply_is_cut():
    shown = show_said(Reply(550, EnhancedCode(7, 1), tuple(f"line {n}" for n in range(99))))
    assert len(shown) == _MOST_LINES
    assert shown[0] == "550-5.7.1 line 0"
    assert shown[-1] == "…"


@pytest.mark.parametrize(
    ("what", "line"),
    [
        (Auth("PLAIN", b"\0user\0secret"), "AUTH PLAIN (a secret)"),
        (AuthResponse(b"secret"), "(a secret)"),
        (EndOfBody(), "(the message)"),
        (BodyEnd(12), "(a message of 12 octets)"),
        (BodyEnd(12, BodyProblem.NUL), "(a message: nul)"),
        ("TLS", "TLS"),
        (Ehlo("client\r\nRSET"), "EHLO"),  # what could not be sent is not shown either
    ],
)
def test_each_kind_of_thing_that_is_said(what, line):
    assert show_said(what) == [line]


def test_a_client_tells_that_tls_began():
    seen: list[tuple[Side, object]] = []
    client = ClientConnection()
    client.witness = lambda side, what: seen.append((side, what))
    client.receive_data(b"220 mx.example.org\r\n")
    client.next_event()
    for command, answer in (
        (Ehlo("client.example"), b"250-mx\r\n250 STARTTLS\r\n"),
        (StartTls(), b"220 go\r\n"),
    ):
        client.send(command)
        client.receive_data(answer)
        client.next_event()
    client.tls_started()
    assert told(seen)[-3:] == ["C STARTTLS", "S 220 go", "* TLS"]
