"""Command lines into typed commands and back."""

import pytest

from elemta.mail import NULL_PATH, Domain, ForwardPath, parse_forward_path, parse_reverse_path, replies
from elemta.smtp import (
    Auth,
    AuthResponse,
    BadCommand,
    Bdat,
    Capabilities,
    Data,
    Dialect,
    Ehlo,
    Expn,
    Helo,
    Help,
    Lhlo,
    LocalProtocolError,
    Mail,
    MailParams,
    Noop,
    Quit,
    Rcpt,
    Rset,
    StartTls,
    Vrfy,
    Xclient,
    Xforward,
    format_command,
    parse_command,
)
from elemta.smtp.parsing import parse_auth_response
from elemta.testing.pairs import EVERYTHING

SENDER = parse_reverse_path("<a@example.org>")
USER = parse_forward_path("<u@example.org>")


def parse(line: str | bytes, *, lmtp: bool = False, utf8: bool = False, offered: Capabilities = EVERYTHING):
    return parse_command(line if isinstance(line, bytes) else line.encode(), offered, lmtp=lmtp, utf8=utf8)


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("EHLO client.example", Ehlo("client.example")),
        ("ehlo [IPv6:2001:db8::1]", Ehlo("[IPv6:2001:db8::1]")),
        ("HeLo under_score", Helo("under_score")),
        ("HELO client.example.", Helo("client.example.")),  # the dot of DNS
        ("HELO 192.0.2.1", Helo("192.0.2.1")),
        ("HELO 2001:db8::1", Helo("2001:db8::1")),
        ("HELO [192.0.2.1]", Helo("[192.0.2.1]")),
        ("MAIL FROM:<>", Mail(NULL_PATH)),
        ("mail from:<a@example.org>", Mail(SENDER)),
        ("MAIL FROM:<a@example.org> SIZE=5", Mail(SENDER, MailParams(size=5))),
        ("MAIL FROM:<@relay.example:a@example.org>", Mail(SENDER)),
        ("RCPT TO:<u@example.org>", Rcpt(USER)),
        ("Rcpt To:<u@example.org>", Rcpt(USER)),
        ("RCPT TO:<Postmaster>", Rcpt(ForwardPath(None))),
        ("DATA", Data()),
        ("DATA \t ", Data()),
        ("RSET", Rset()),
        ("NOOP", Noop()),
        ("NOOP whatever it is", Noop()),
        ("NOOP \u00fc", Noop()),
        ("QUIT", Quit()),
        ("VRFY somebody or other", Vrfy("somebody or other")),
        ("EXPN list", Expn("list")),
        ("VRFY user smtputf8", Vrfy("user", smtputf8=True)),  # RFC 6531 §3.7.4
        ("VRFY \u00fc  SMTPUTF8", Vrfy("\u00fc", smtputf8=True)),
        ("EXPN \u00fc SMTPUTF8", Expn("\u00fc", smtputf8=True)),
        ("BDAT 5", Bdat(5)),
        ("bdat 5 last", Bdat(5, last=True)),
        (
            "XCLIENT NAME=spike.example ADDR=192.0.2.1",
            Xclient({"NAME": "spike.example", "ADDR": "192.0.2.1"}),
        ),
        ("xclient name=[TempUnavail]  addr=IPV6:::1", Xclient({"NAME": "[TempUnavail]", "ADDR": "IPV6:::1"})),
        ("XCLIENT LOGIN=a+3Db+2Bc+20d", Xclient({"LOGIN": "a=b+c d"})),
        ("XFORWARD SOURCE=LOCAL", Xforward({"SOURCE": "LOCAL"})),
        ("XFORWARD NAME=" + "a" * 255, Xforward({"NAME": "a" * 255})),
        ("HELP", Help()),
        ("HELP MAIL", Help("MAIL")),
        ("STARTTLS", StartTls()),
        ("AUTH plain", Auth("PLAIN")),
        ("AUTH PLAIN =", Auth("PLAIN", b"")),
        ("AUTH PLAIN AGEAYg==", Auth("PLAIN", b"\0a\0b")),
    ],
)
def test_a_good_line(line, command):
    assert parse(line) == command


def test_lmtp_has_its_own_hello_and_no_other():
    assert parse("LHLO client.example", lmtp=True) == Lhlo("client.example")
    assert parse("EHLO x", lmtp=True) == BadCommand("EHLO", replies.UNKNOWN_COMMAND)
    assert parse("HELO x", lmtp=True) == BadCommand("HELO", replies.UNKNOWN_COMMAND)
    assert parse("LHLO x") == BadCommand("LHLO", replies.UNKNOWN_COMMAND)


@pytest.mark.parametrize(
    ("line", "verb", "reply"),
    [
        ("", "", replies.SYNTAX_ERROR),
        (" EHLO x", "", replies.SYNTAX_ERROR),
        ("EHLO\tx", "", replies.SYNTAX_ERROR),
        ("MAILFROM:<a@example.org>", "", replies.SYNTAX_ERROR),
        ("\u017ftarttls", "", replies.SYNTAX_ERROR),  # its upper() is STARTTLS
        ("\x1b[2J", "", replies.SYNTAX_ERROR),
        ("NOOP \x1b[2J", "NOOP", replies.ARGUMENT_SYNTAX),
        (b"\xff\xfe", "", replies.SYNTAX_ERROR),
        (b"MAIL FROM:<\xff@example.org>", "MAIL", replies.BAD_SENDER_SYNTAX),
        (b"RCPT TO:<\xc3@example.org> NOTIFY=NEVER", "RCPT", replies.BAD_RECIPIENT_SYNTAX),
        (b"EHLO \xe4", "EHLO", replies.BAD_HELLO),
        (b"NOOP \xe4", "NOOP", replies.ARGUMENT_SYNTAX),
        ("NOOP\rRSET", "", replies.SYNTAX_ERROR),
        ("NOOP x\rRSET", "NOOP", replies.SYNTAX_ERROR),
        ("MAIL FROM:<a@example.org>\nRCPT TO:<b@example.org>", "MAIL", replies.SYNTAX_ERROR),
        ("RCPT TO:<a\0@example.org>", "RCPT", replies.SYNTAX_ERROR),
        ("EHLO x\0", "EHLO", replies.SYNTAX_ERROR),
        ("FOO", "FOO", replies.UNKNOWN_COMMAND),
        ("GET / HTTP/1.1", "GET", replies.UNKNOWN_COMMAND),
        ("TURN", "TURN", replies.NOT_IMPLEMENTED),
        ("ETRN example.org", "ETRN", replies.NOT_IMPLEMENTED),
        ("BODY", "BODY", replies.UNKNOWN_COMMAND),
        ("TLS", "TLS", replies.UNKNOWN_COMMAND),
        ("CONNECT", "CONNECT", replies.UNKNOWN_COMMAND),
        ("EHLO", "EHLO", replies.BAD_HELLO),
        ("HELO  ", "HELO", replies.BAD_HELLO),
        ("EHLO two words", "EHLO", replies.BAD_HELLO),
        ("EHLO \u00fc.example", "EHLO", replies.BAD_HELLO),
        ("EHLO a\x07b", "EHLO", replies.BAD_HELLO),
        ("EHLO a(b", "EHLO", replies.BAD_HELLO),
        ("EHLO [300.1.1.1]", "EHLO", replies.BAD_HELLO),
        ("EHLO [192.0.2.1", "EHLO", replies.BAD_HELLO),
        ("EHLO [IPv6:zz]", "EHLO", replies.BAD_HELLO),
        ("EHLO []", "EHLO", replies.BAD_HELLO),
        ("EHLO a..b", "EHLO", replies.BAD_HELLO),
        ("EHLO .", "EHLO", replies.BAD_HELLO),
        ("EHLO -a.example", "EHLO", replies.BAD_HELLO),
        ("EHLO user@host.example", "EHLO", replies.BAD_HELLO),
        ("HELO odd!name", "HELO", replies.BAD_HELLO),
        ("EHLO a:b", "EHLO", replies.BAD_HELLO),
        ("EHLO fe80::1%eth0", "EHLO", replies.BAD_HELLO),
        ("EHLO " + "a" * 256, "EHLO", replies.BAD_HELLO),
        ("DATA x", "DATA", replies.ARGUMENT_SYNTAX),
        ("RSET x", "RSET", replies.ARGUMENT_SYNTAX),
        ("QUIT x", "QUIT", replies.ARGUMENT_SYNTAX),
        ("STARTTLS x", "STARTTLS", replies.ARGUMENT_SYNTAX),
        ("VRFY SMTPUTF8", "VRFY", replies.ARGUMENT_SYNTAX),
        ("EXPN", "EXPN", replies.ARGUMENT_SYNTAX),
        ("BDAT", "BDAT", replies.BAD_CHUNK_SIZE),
        ("BDAT 1 x", "BDAT", replies.BAD_CHUNK_SIZE),
        ("XCLIENT", "XCLIENT", replies.ARGUMENT_SYNTAX),
        ("XCLIENT NAME", "XCLIENT", replies.ARGUMENT_SYNTAX),
        ("XCLIENT NAME=", "XCLIENT", replies.ARGUMENT_SYNTAX),
        ("XCLIENT =x", "XCLIENT", replies.ARGUMENT_SYNTAX),
        ("XCLIENT SOURCE=LOCAL", "XCLIENT", replies.ARGUMENT_SYNTAX),  # an attribute of XFORWARD
        ("XCLIENT NAME=a NAME=b", "XCLIENT", replies.ARGUMENT_SYNTAX),
        ("XCLIENT NAME=a=b", "XCLIENT", replies.ARGUMENT_SYNTAX),
        ("XCLIENT NAME=a+", "XCLIENT", replies.ARGUMENT_SYNTAX),
        ("XCLIENT NAME=a+0D+0AB", "XCLIENT", replies.ARGUMENT_SYNTAX),
        ("XCLIENT NAME=a+80", "XCLIENT", replies.ARGUMENT_SYNTAX),
        ("XCLIENT NAME=\u00fc", "XCLIENT", replies.ARGUMENT_SYNTAX),
        ("XCLIENT NAME=" + "a" * 256, "XCLIENT", replies.ARGUMENT_SYNTAX),
        ("XFORWARD LOGIN=x", "XFORWARD", replies.ARGUMENT_SYNTAX),
        ("VRFY", "VRFY", replies.ARGUMENT_SYNTAX),
        ("VRFY \u00fc", "VRFY", replies.SMTPUTF8_NEEDED),
        ("HELP \u00fc", "HELP", replies.ARGUMENT_SYNTAX),
        ("MAIL", "MAIL", replies.BAD_SENDER_SYNTAX),
        ("MAIL TO:<a@example.org>", "MAIL", replies.BAD_SENDER_SYNTAX),
        ("MAIL FROM <a@example.org>", "MAIL", replies.BAD_SENDER_SYNTAX),
        ("MAIL FROM :<a@example.org>", "MAIL", replies.BAD_SENDER_SYNTAX),
        ("MAIL FROM: <a@example.org>", "MAIL", replies.BAD_SENDER_SYNTAX),
        ("MAIL FROM:\t<a@example.org>", "MAIL", replies.BAD_SENDER_SYNTAX),
        ("RCPT TO: <a@example.org>", "RCPT", replies.BAD_RECIPIENT_SYNTAX),
        ("MAIL FROM:a@example.org", "MAIL", replies.BAD_SENDER_SYNTAX),
        ("MAIL FROM:<a@example.org", "MAIL", replies.BAD_SENDER_SYNTAX),
        ("MAIL FROM:<a@example.org>SIZE=1", "MAIL", replies.BAD_SENDER_SYNTAX),
        ("MAIL FROM:<a>", "MAIL", replies.BAD_SENDER_SYNTAX),
        ("MAIL FROM:<postmaster>", "MAIL", replies.BAD_SENDER_SYNTAX),
        ("MAIL FROM:<a\tb@example.org>", "MAIL", replies.BAD_SENDER_SYNTAX),
        ("MAIL FROM:<a@example.org>\tSIZE=1", "MAIL", replies.BAD_SENDER_SYNTAX),
        # RFC 5321 §4.5.3.1.1 to .3, .10
        (f"MAIL FROM:<{'a' * 65}@example.org>", "MAIL", replies.SENDER_TOO_LONG),
        (f"RCPT TO:<{'a' * 65}@example.org>", "RCPT", replies.RECIPIENT_TOO_LONG),
        (f"MAIL FROM:<a@{'b.' * 127}bc>", "MAIL", replies.SENDER_TOO_LONG),
        (f"RCPT TO:<a@{'b.' * 127}bc>", "RCPT", replies.RECIPIENT_TOO_LONG),
        (f"MAIL FROM:<@{'b.' * 100}b:{'a' * 40}@example.org>", "MAIL", replies.SENDER_TOO_LONG),
        (f"RCPT TO:<@{'b.' * 100}b:{'a' * 40}@example.org>", "RCPT", replies.RECIPIENT_TOO_LONG),
        ('MAIL FROM:<"a@example.org>', "MAIL", replies.BAD_SENDER_SYNTAX),
        ('MAIL FROM:"a"<a@example.org>', "MAIL", replies.BAD_SENDER_SYNTAX),
        ("RCPT TO:<>", "RCPT", replies.BAD_RECIPIENT_SYNTAX),
        ("RCPT TO:<a b@example.org>", "RCPT", replies.BAD_RECIPIENT_SYNTAX),
        ("RCPT FROM:<a@example.org>", "RCPT", replies.BAD_RECIPIENT_SYNTAX),
        ("AUTH", "AUTH", replies.ARGUMENT_SYNTAX),
        ("AUTH !", "AUTH", replies.ARGUMENT_SYNTAX),
        ("AUTH XOAUTH2", "AUTH", replies.AUTH_UNKNOWN_MECHANISM),
        ("AUTH PLAIN !", "AUTH", replies.AUTH_MALFORMED),
        ("AUTH PLAIN AGEAYg", "AUTH", replies.AUTH_MALFORMED),
        ("AUTH PLAIN AGEAYg== x", "AUTH", replies.AUTH_MALFORMED),
    ],
)
def test_a_bad_line(line, verb, reply):
    assert parse(line) == BadCommand(verb, reply)


@pytest.mark.parametrize("line", ["STARTTLS", "AUTH PLAIN", "EXPN x", "BDAT 1 LAST"])
def test_a_command_that_is_not_offered_is_502(line):
    command = parse(line, offered=Capabilities())
    assert command == BadCommand(line.partition(" ")[0], replies.NOT_IMPLEMENTED)


@pytest.mark.parametrize("line", ["XCLIENT NAME=x", "XFORWARD NAME=x"])
def test_who_may_not_speak_for_another_is_told_so(line):
    # Postfix, XCLIENT_README: 550 insufficient authorization
    command = parse(line, offered=Capabilities())
    assert command == BadCommand(line.partition(" ")[0], replies.NOT_A_PROXY)


def test_one_blank_before_a_path_may_be_let_pass():
    lenient = Dialect(blank_before_path=True)
    assert parse_command(b"MAIL FROM: <a@example.org>", EVERYTHING, dialect=lenient) == Mail(SENDER)
    assert parse_command(b"RCPT TO: <u@example.org>", EVERYTHING, dialect=lenient) == Rcpt(USER)
    for line in (
        b"MAIL FROM:  <a@example.org>",
        b"MAIL FROM :<a@example.org>",
        b"MAIL FROM:\t<a@example.org>",
    ):
        assert isinstance(parse_command(line, EVERYTHING, dialect=lenient), BadCommand)


def test_submission_may_complete_a_path():
    # RFC 6409 §4.2
    dialect = Dialect(default_domain=Domain("example.org"))
    assert parse_command(b"MAIL FROM:<a>", EVERYTHING, dialect=dialect) == Mail(SENDER)
    assert parse_command(b"RCPT TO:<u>", EVERYTHING, dialect=dialect) == Rcpt(USER)
    assert parse_command(b"RCPT TO:<postmaster>", EVERYTHING, dialect=dialect) == Rcpt(ForwardPath(None))
    assert parse_command(b"MAIL FROM:<>", EVERYTHING, dialect=dialect) == Mail(NULL_PATH)


def test_vrfy_beyond_ascii_is_plain_bad_syntax_where_smtputf8_is_not_offered():
    assert parse("VRFY \u00fc SMTPUTF8", offered=Capabilities()) == BadCommand(
        "VRFY", replies.ARGUMENT_SYNTAX
    )
    assert parse("VRFY a SMTPUTF8", offered=Capabilities()) == Vrfy("a SMTPUTF8")


@pytest.mark.parametrize(
    ("path", "local_part"),
    [
        ('<"a>b"@example.org>', "a>b"),
        ('<"a b"@example.org>', "a b"),
        ('<"a\\"> SIZE=1"@example.org>', 'a"> SIZE=1'),
        ('<"\\\\"@example.org>', "\\"),
    ],
)
def test_the_end_of_a_path_is_found_behind_its_quotes(path, local_part):
    command = parse(f"MAIL FROM:{path} SIZE=7")
    assert isinstance(command, Mail)
    assert command.path.mailbox is not None
    assert command.path.mailbox.local_part == local_part
    assert command.params == MailParams(size=7)
    assert parse(format_command(command)[:-2]) == command


def test_a_path_beyond_ascii_needs_smtputf8_of_its_transaction():
    assert parse("MAIL FROM:<\u00fc@example.org>") == BadCommand("MAIL", replies.SMTPUTF8_NEEDED)
    assert parse("RCPT TO:<\u00fc@example.org>") == BadCommand("RCPT", replies.SMTPUTF8_NEEDED)
    sender = parse("MAIL FROM:<\u00fc@example.org> SMTPUTF8")
    assert isinstance(sender, Mail)
    assert format_command(sender, utf8=True) == "MAIL FROM:<\u00fc@example.org> SMTPUTF8\r\n".encode()
    user = parse("RCPT TO:<\u00fc@example.org>", utf8=True)
    assert isinstance(user, Rcpt)
    with pytest.raises(LocalProtocolError):
        format_command(user)


def test_a_path_beyond_ascii_is_plain_bad_syntax_where_smtputf8_is_not_offered():
    assert parse("MAIL FROM:<\u00fc@example.org>", offered=Capabilities()) == BadCommand(
        "MAIL", replies.BAD_SENDER_SYNTAX
    )


def test_a_hostile_path_costs_no_more_than_its_length():
    command = parse('RCPT TO:<"' + '\\"' * 2000)
    assert command == BadCommand("RCPT", replies.BAD_RECIPIENT_SYNTAX)
    assert isinstance(parse("RCPT TO:<" + '"a"' * 1300), BadCommand)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"*", AuthResponse(None)),
        (b"", AuthResponse(b"")),
        (b"YQ==", AuthResponse(b"a")),
        (b"YQ", BadCommand("AUTH", replies.AUTH_MALFORMED)),
        (b"Y Q=", BadCommand("AUTH", replies.AUTH_MALFORMED)),
        (b"\xff", BadCommand("AUTH", replies.AUTH_MALFORMED)),
    ],
)
def test_a_line_of_a_sasl_exchange(line, expected):
    assert parse_auth_response(line) == expected


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (Ehlo("client.example"), b"EHLO client.example\r\n"),
        (Lhlo("client.example"), b"LHLO client.example\r\n"),
        (Mail(NULL_PATH), b"MAIL FROM:<>\r\n"),
        (Rcpt(ForwardPath(None)), b"RCPT TO:<postmaster>\r\n"),
        (Data(), b"DATA\r\n"),
        (Vrfy("a"), b"VRFY a\r\n"),
        (Help(), b"HELP\r\n"),
        (Help("MAIL"), b"HELP MAIL\r\n"),
        (Auth("PLAIN"), b"AUTH PLAIN\r\n"),
        (Auth("PLAIN", b""), b"AUTH PLAIN =\r\n"),
        (Auth("PLAIN", b"\0a\0b"), b"AUTH PLAIN AGEAYg==\r\n"),
        (AuthResponse(b"a"), b"YQ==\r\n"),
        (AuthResponse(None), b"*\r\n"),
        (Bdat(5), b"BDAT 5\r\n"),
        (Bdat(0, last=True), b"BDAT 0 LAST\r\n"),
        (Vrfy("\u00fc", smtputf8=True), b"VRFY \xc3\xbc SMTPUTF8\r\n"),
        (Xclient({"NAME": "a b", "ADDR": "[UNAVAILABLE]"}), b"XCLIENT NAME=a+20b ADDR=[UNAVAILABLE]\r\n"),
        (Xforward({"HELO": "a=b"}), b"XFORWARD HELO=a+3Db\r\n"),
    ],
)
def test_a_command_as_it_is_sent(command, line):
    assert format_command(command) == line


@pytest.mark.parametrize("command", [Ehlo("a\r\nRSET"), Vrfy("a\nb"), Vrfy("\u00fc"), Expn("\x1b")])
def test_no_value_can_break_out_of_its_line(command):
    with pytest.raises(LocalProtocolError):
        format_command(command)


def test_secrets_are_not_shown():
    assert "secret" not in repr(Auth("PLAIN", b"secret"))
    assert "secret" not in repr(AuthResponse(b"secret"))
