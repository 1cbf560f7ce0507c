"""Dialogues octet by octet, each with the section it is from: what is sent, and how each reply begins."""

import pytest

from elemta.smtp import Limits, State, format_reply
from elemta.testing.pairs import ConnectionPair

U = "\u00fc"
LOCAL_64, LOCAL_65 = "a" * 64, "a" * 65
DOMAIN_255 = ".".join(["d" * 63] * 4)[:255]

# Section, where the session is, what is sent (with CRLF unless it ends with a mark), the replies to it
DIALOGUES: list[tuple[str, str, str, list[str]]] = [
    # --- Commands and their arguments
    ("RFC 5321 §2.4", "CONNECT", "ehlo x", ["250-mx.example.org"]),
    ("RFC 5321 §2.4", "EHLO", "mail from:<A@Example.ORG> body=7bit", ["250 2.1.0"]),
    ("RFC 5321 §2.4", "EHLO", "MaIl FrOm:<>", ["250 2.1.0"]),
    ("RFC 5321 §2.3.8", "EHLO", "NOOP\nRSET", ["500 5.5.2"]),
    ("RFC 5321 §2.3.8", "EHLO", "NOOP\rRSET", ["500 5.5.2"]),
    ("RFC 5321 §2.3.8", "EHLO", "NOOP x\nRSET", ["500 5.5.2"]),
    ("RFC 5321 §4.1.1", "EHLO", "", ["500 5.5.2"]),
    ("RFC 5321 §4.1.1", "EHLO", " ", ["500 5.5.2"]),
    ("RFC 5321 §4.1.1", "EHLO", " NOOP", ["500 5.5.2"]),
    ("RFC 5321 §4.1.1", "EHLO", "\tNOOP", ["500 5.5.2"]),
    ("RFC 5321 §4.1.1", "EHLO", "NOOP  \t ", ["250 2.0.0"]),
    ("RFC 5321 §4.1.1", "EHLO", "RSET ", ["250 2.0.0"]),
    ("RFC 5321 §4.1.1", "EHLO", "MAIL\tFROM:<a@example.org>", ["500 5.5.2"]),
    ("RFC 5321 §4.1.1.1", "CONNECT", "EHLO", ["501 "]),
    ("RFC 5321 §4.1.1.1", "CONNECT", "HELO ", ["501 "]),
    ("RFC 5321 §4.1.1.1", "CONNECT", "EHLO [192.0.2.1]", ["250-mx.example.org"]),
    ("RFC 5321 §4.1.1.1", "CONNECT", "EHLO [IPv6:2001:db8::1]", ["250-mx.example.org"]),
    ("RFC 5321 §4.1.1.1", "CONNECT", "HELO client.example", ["250 mx.example.org"]),
    ("RFC 5321 §4.1.1.1", "RCPT", "EHLO again\r\nRCPT TO:<a@example.org>", ["250-", "503 5.5.1"]),
    ("RFC 6531 §3.7.1", "CONNECT", f"EHLO {U}.example", ["501 "]),
    ("RFC 5321 §4.1.1.4", "RCPT", "DATA now", ["501 5.5.4"]),
    ("RFC 5321 §4.1.1.5", "EHLO", "RSET now", ["501 5.5.4"]),
    ("RFC 5321 §4.1.1.5", "CONNECT", "RSET", ["250 2.0.0"]),
    ("RFC 5321 §4.1.1.6", "EHLO", "VRFY somebody", ["252 2.0.0"]),
    ("RFC 5321 §4.1.1.6", "EHLO", "VRFY", ["501 5.5.4"]),
    ("RFC 5321 §4.1.1.8", "CONNECT", "HELP\r\nHELP MAIL", ["214 2.0.0", "214 2.0.0"]),
    ("RFC 5321 §4.1.1.9", "CONNECT", "NOOP anything at all", ["250 2.0.0"]),
    ("RFC 5321 §4.1.1.10", "EHLO", "QUIT now", ["501 5.5.4"]),
    ("RFC 5321 §4.1.4", "CONNECT", "MAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA", ["503 5.5.1"] * 3),
    ("RFC 5321 §4.1.4", "EHLO", "RCPT TO:<a@example.org>\r\nDATA", ["503 5.5.1"] * 2),
    ("RFC 5321 §4.1.4", "MAIL", "MAIL FROM:<>\r\nDATA", ["503 5.5.1"] * 2),
    ("RFC 5321 §4.2.4", "EHLO", "XYZZY\r\nSTAT x", ["500 5.5.1"] * 2),
    ("RFC 5321 §4.2.4", "EHLO", "TURN\r\nSEND FROM:<a@b>\r\nSOML\r\nSAML\r\nETRN x", ["502 5.5.1"] * 5),
    ("RFC 5321 §4.5.3.1.4", "EHLO", "NOOP " + "x" * 505, ["250 2.0.0"]),
    ("RFC 5321 §4.5.3.1.10", "EHLO", "NOOP " + "x" * 4090, ["500 5.5.2"]),
    # --- Paths
    ("RFC 5321 §3.3", "EHLO", "MAIL FROM: <a@example.org>", ["501 5.1.7"]),
    ("RFC 5321 §3.3", "EHLO", "MAIL FROM :<a@example.org>", ["501 5.1.7"]),
    ("RFC 5321 §3.3", "EHLO", "MAIL  FROM:<a@example.org>", ["501 5.1.7"]),
    ("RFC 5321 §3.3", "MAIL", "RCPT TO: <a@example.org>", ["501 5.1.3"]),
    ("RFC 5321 §4.1.1.2", "EHLO", "MAIL\r\nMAIL FROM\r\nMAIL FROM:\r\nMAIL TO:<a@b>", ["501 5.1.7"] * 4),
    ("RFC 5321 §4.1.1.2", "EHLO", "MAIL FROM:a@example.org", ["501 5.1.7"]),
    ("RFC 5321 §4.1.1.2", "EHLO", "MAIL FROM:<a@example.org", ["501 5.1.7"]),
    ("RFC 5321 §4.1.1.2", "EHLO", "MAIL FROM:a@example.org>", ["501 5.1.7"]),
    ("RFC 5321 §4.1.1.2", "EHLO", "MAIL FROM:<<a@example.org>>", ["501 5.1.7"]),
    ("RFC 5321 §4.1.1.2", "EHLO", "MAIL FROM:<a@example.org>x", ["501 5.1.7"]),
    ("RFC 5321 §4.1.1.2", "EHLO", "MAIL FROM:<a@example.org> x=y=z", ["501 5.5.4"]),
    ("RFC 5321 §4.1.1.2", "EHLO", "MAIL FROM:<a@example.org>\tSIZE=1", ["501 5.1.7"]),
    ("RFC 5321 §4.1.1.3", "MAIL", "RCPT\r\nRCPT TO:\r\nRCPT TO:<>\r\nRCPT FROM:<a@b>", ["501 5.1.3"] * 4),
    ("RFC 5321 §4.1.1.3", "MAIL", "RCPT TO:<postmaster>\r\nRCPT TO:<PostMaster>", ["250 2.1.5"] * 2),
    ("RFC 5321 §4.1.1.3", "MAIL", "RCPT TO:<@a.example,@[192.0.2.1]:u@example.org>", ["250 2.1.5"]),
    ("RFC 5321 §4.1.1.3", "MAIL", "RCPT TO:<@a.example u@example.org>", ["501 5.1.3"]),
    ("RFC 5321 §4.1.1.3", "EHLO", "MAIL FROM:<@a.example:u@example.org>", ["250 2.1.0"]),
    ("RFC 5321 §4.1.2", "MAIL", "RCPT TO:<a.b-c+d=e!f#g@example.org>", ["250 2.1.5"]),
    ("RFC 5321 §4.1.2", "MAIL", 'RCPT TO:<"a b"@example.org>', ["250 2.1.5"]),
    ("RFC 5321 §4.1.2", "MAIL", 'RCPT TO:<"a\\"b>c"@example.org> NOTIFY=NEVER', ["250 2.1.5"]),
    ("RFC 5321 §4.1.2", "MAIL", 'RCPT TO:<""@example.org>', ["250 2.1.5"]),
    ("RFC 5321 §4.1.2", "MAIL", 'RCPT TO:<"a"b@example.org>', ["501 5.1.3"]),
    ("RFC 5321 §4.1.2", "MAIL", 'RCPT TO:<"a@example.org>', ["501 5.1.3"]),
    ("RFC 5321 §4.1.2", "MAIL", "RCPT TO:<.a@example.org>", ["501 5.1.3"]),
    ("RFC 5321 §4.1.2", "MAIL", "RCPT TO:<a.@example.org>", ["501 5.1.3"]),
    ("RFC 5321 §4.1.2", "MAIL", "RCPT TO:<a..b@example.org>", ["501 5.1.3"]),
    ("RFC 5321 §4.1.2", "MAIL", "RCPT TO:<a b@example.org>", ["501 5.1.3"]),
    ("RFC 5321 §4.1.2", "MAIL", "RCPT TO:<a@b@example.org>", ["501 5.1.3"]),
    ("RFC 5321 §4.1.2", "MAIL", "RCPT TO:<a@>", ["501 5.1.3"]),
    ("RFC 5321 §4.1.2", "MAIL", "RCPT TO:<@example.org>", ["501 5.1.3"]),
    ("RFC 5321 §4.1.2", "MAIL", "RCPT TO:<user>", ["501 5.1.3"]),
    ("RFC 5321 §4.1.2", "MAIL", "RCPT TO:<a@example.org.>", ["501 5.1.3"]),
    ("RFC 5321 §4.1.2", "MAIL", "RCPT TO:<a@-example.org>", ["501 5.1.3"]),
    ("RFC 5321 §4.1.2", "MAIL", "RCPT TO:<a@example-.org>", ["501 5.1.3"]),
    ("RFC 5321 §4.1.2", "MAIL", "RCPT TO:<a@example..org>", ["501 5.1.3"]),
    ("RFC 5321 §4.1.3", "MAIL", "RCPT TO:<a@[192.0.2.1]>", ["250 2.1.5"]),
    ("RFC 5321 §4.1.3", "MAIL", "RCPT TO:<a@[IPv6:2001:db8::1]>", ["250 2.1.5"]),
    ("RFC 5321 §4.1.3", "MAIL", "RCPT TO:<a@[ipv6:::ffff:192.0.2.1]>", ["250 2.1.5"]),
    ("RFC 5321 §4.1.3", "MAIL", "RCPT TO:<a@[x-tag:some.thing]>", ["250 2.1.5"]),
    ("RFC 5321 §4.1.3", "MAIL", "RCPT TO:<a@[192.0.2.256]>", ["501 5.1.3"]),
    ("RFC 5321 §4.1.3", "MAIL", "RCPT TO:<a@[192.0.2]>", ["501 5.1.3"]),
    ("RFC 5321 §4.1.3", "MAIL", "RCPT TO:<a@[IPv6:2001:db8::g]>", ["501 5.1.3"]),
    ("RFC 5321 §4.1.3", "MAIL", "RCPT TO:<a@[2001:db8::1]>", ["501 5.1.3"]),
    ("RFC 5321 §4.1.3", "MAIL", "RCPT TO:<a@[]>", ["501 5.1.3"]),
    ("RFC 5321 §4.1.3", "MAIL", "RCPT TO:<a@[192.0.2.1>", ["501 5.1.3"]),
    ("RFC 5321 §4.5.3.1.1", "MAIL", f"RCPT TO:<{LOCAL_64}@example.org>", ["250 2.1.5"]),
    ("RFC 5321 §4.5.3.1.1", "MAIL", f"RCPT TO:<{LOCAL_65}@example.org>", ["501 5.1.3"]),
    ("RFC 5321 §4.5.3.1.2", "MAIL", f"RCPT TO:<a@{DOMAIN_255}x>", ["501 5.1.3"]),
    ("RFC 5321 §4.5.3.1.3", "MAIL", f"RCPT TO:<a@{DOMAIN_255[:252]}>", ["250 2.1.5"]),
    ("RFC 5321 §4.5.3.1.3", "MAIL", f"RCPT TO:<a@{DOMAIN_255[:254]}>", ["501 5.1.3"]),
    ("RFC 5321 §4.5.3.1.3", "EHLO", f"MAIL FROM:<a@{DOMAIN_255[:254]}>", ["501 5.1.7"]),
    ("RFC 5321 §4.5.5", "EHLO", "MAIL FROM:<>", ["250 2.1.0"]),
    # --- Beyond ASCII
    ("RFC 6531 §3.5", "EHLO", f"MAIL FROM:<{U}@example.org>", ["553 5.6.7"]),
    ("RFC 6531 §3.5", "EHLO", f"MAIL FROM:<a@{U}.example>", ["553 5.6.7"]),
    ("RFC 6531 §3.5", "MAIL", f"RCPT TO:<{U}@example.org>\r\nRCPT TO:<a@{U}.example>", ["553 5.6.7"] * 2),
    ("RFC 6531 §3.3", "EHLO", f"MAIL FROM:<{U}@{U}.example> SMTPUTF8", ["250 2.1.0"]),
    (
        "RFC 6531 §3.4",
        "EHLO",
        f'MAIL FROM:<> SMTPUTF8\r\nRCPT TO:<{U}@example.org>\r\nRCPT TO:<"{U} "@{U}.example>',
        ["250 2.1.0", "250 2.1.5", "250 2.1.5"],
    ),
    ("RFC 6531 §3.3", "EHLO", "MAIL FROM:<> SMTPUTF8=yes", ["501 5.5.4"]),
    ("RFC 6531 §3.7.4", "EHLO", f"VRFY {U}\r\nVRFY {U} SMTPUTF8", ["553 5.6.7", "252 2.0.0"]),
    ("RFC 6532 §3.1", "EHLO", "MAIL FROM:<\udcff@example.org>", ["501 5.1.7"]),
    ("RFC 6532 §3.1", "EHLO", "MAIL FROM:<\udcff@example.org> SMTPUTF8", ["501 5.1.7"]),
    ("RFC 6532 §3.1", "MAIL", "RCPT TO:<a\udcc0\udc80@example.org>", ["501 5.1.3"]),
    # --- Parameters
    ("RFC 5321 §4.1.1.11", "EHLO", "MAIL FROM:<> FOO=BAR\r\nMAIL FROM:<> FOO", ["555 5.5.4"] * 2),
    ("RFC 5321 §4.1.1.11", "MAIL", "RCPT TO:<a@b> FOO=BAR\r\nRCPT TO:<a@b> SIZE=1", ["555 5.5.4"] * 2),
    ("RFC 5321 §4.1.1.11", "EHLO", "MAIL FROM:<> SIZE=1 SIZE=1", ["501 5.5.4"]),
    ("RFC 5321 §4.1.1.11", "HELO", "MAIL FROM:<> SIZE=1", ["555 5.5.4"]),
    ("RFC 1870 §5", "EHLO", "MAIL FROM:<> SIZE=0", ["250 2.1.0"]),
    ("RFC 1870 §5", "EHLO", "MAIL FROM:<> SIZE=" + "9" * 20, ["250 2.1.0"]),
    ("RFC 1870 §5", "EHLO", "MAIL FROM:<> SIZE=" + "9" * 21, ["501 5.5.4"]),
    ("RFC 1870 §5", "EHLO", "MAIL FROM:<> SIZE=-1\r\nMAIL FROM:<> SIZE=x\r\nMAIL FROM:<> SIZE", ["501"] * 3),
    ("RFC 6152 §3", "EHLO", "MAIL FROM:<> BODY=8BITMIME", ["250 2.1.0"]),
    ("RFC 6152 §3", "EHLO", "MAIL FROM:<> BODY=9BIT\r\nMAIL FROM:<> BODY", ["501 5.5.4"] * 2),
    ("RFC 3461 §4.3", "EHLO", "MAIL FROM:<> RET=HDRS ENVID=a+2Bb", ["250 2.1.0"]),
    ("RFC 3461 §4.3", "EHLO", "MAIL FROM:<> RET=HEADERS", ["501 5.5.4"]),
    ("RFC 3461 §4.4", "EHLO", "MAIL FROM:<> ENVID=a+zz", ["501 5.5.4"]),
    ("RFC 3461 §4.1", "MAIL", "RCPT TO:<a@b> NOTIFY=SUCCESS,FAILURE,DELAY", ["250 2.1.5"]),
    ("RFC 3461 §4.1", "MAIL", "RCPT TO:<a@b> NOTIFY=NEVER,SUCCESS", ["501 5.5.4"]),
    ("RFC 3461 §4.2", "MAIL", "RCPT TO:<a@b> ORCPT=rfc822;a+40b", ["250 2.1.5"]),
    ("RFC 3461 §4.2", "MAIL", "RCPT TO:<a@b> ORCPT=a@b", ["501 5.5.4"]),
    ("RFC 6533 §3", "MAIL", "RCPT TO:<a@b> ORCPT=utf-8;\\x{FC}@b", ["250 2.1.5"]),
    ("RFC 6533 §3", "MAIL", f"RCPT TO:<a@b> ORCPT=utf-8;{U}@b", ["501 5.5.4"]),
    ("RFC 4954 §5", "EHLO", "MAIL FROM:<> AUTH=<>", ["250 2.1.0"]),
    ("RFC 4954 §5", "EHLO", "MAIL FROM:<> AUTH=a+3Db@example.org", ["250 2.1.0"]),
    ("RFC 4954 §5", "EHLO", "MAIL FROM:<> AUTH=a+3", ["501 5.5.4"]),
    ("RFC 8689 §4.1", "EHLO", "MAIL FROM:<a@b> REQUIRETLS", ["250 2.1.0"]),
    ("RFC 8689 §4.1", "EHLO", "MAIL FROM:<a@b> REQUIRETLS=1", ["501 5.5.4"]),
    ("RFC 6710 §4", "EHLO", "MAIL FROM:<> MT-PRIORITY=-9", ["250 2.1.0"]),
    ("RFC 6710 §4", "EHLO", "MAIL FROM:<> MT-PRIORITY=10\r\nMAIL FROM:<> MT-PRIORITY=-0", ["501"] * 2),
    ("RFC 2852 §4", "EHLO", "MAIL FROM:<> BY=120;R", ["250 2.1.0"]),
    ("RFC 2852 §4", "EHLO", "MAIL FROM:<> BY=-120;NT", ["250 2.1.0"]),
    ("RFC 2852 §4", "EHLO", "MAIL FROM:<> BY=0;R\r\nMAIL FROM:<> BY=-1;R\r\nMAIL FROM:<> BY=9", ["501"] * 3),
    ("RFC 4865 §4", "EHLO", "MAIL FROM:<> HOLDFOR=60", ["250 2.1.0"]),
    ("RFC 4865 §4", "EHLO", "MAIL FROM:<> HOLDUNTIL=2026-01-01T00:00:00Z", ["250 2.1.0"]),
    ("RFC 4865 §4", "EHLO", "MAIL FROM:<> HOLDFOR=60 HOLDUNTIL=2026-01-01T00:00:00Z", ["501 5.5.4"]),
    ("RFC 4865 §4", "EHLO", "MAIL FROM:<> HOLDFOR=999999999", ["501 5.5.4"]),
    # --- STARTTLS, AUTH
    ("RFC 3207 §4", "EHLO", "STARTTLS now", ["501 5.5.4"]),
    ("RFC 3207 §4", "CONNECT", "STARTTLS", ["503 5.5.1"]),
    ("RFC 3207 §4", "MAIL", "STARTTLS", ["503 5.5.1"]),
    ("RFC 4954 §4", "CONNECT", "AUTH PLAIN =", ["503 5.5.1"]),
    ("RFC 4954 §4", "MAIL", "AUTH PLAIN =", ["503 5.5.1"]),
    ("RFC 4954 §4", "EHLO", "AUTH", ["501 5.5.4"]),
    ("RFC 4954 §4", "EHLO", "AUTH NONSENSE", ["504 5.5.4"]),
    ("RFC 4954 §4", "EHLO", "AUTH PLAIN not*base64", ["501 5.5.2"]),
    ("RFC 4954 §4", "EHLO", "AUTH PLAIN =", ["235 2.7.0"]),
    ("RFC 4954 §4", "EHLO", "auth plain AGEAYg==\r\nAUTH PLAIN =", ["235 2.7.0", "503 5.5.1"]),
    ("RFC 4954 §4", "EHLO", "AUTH PLAIN\r\nAGEAYg==", ["334 ", "235 2.7.0"]),
    ("RFC 4954 §4", "EHLO", "AUTH PLAIN\r\n*\r\nMAIL FROM:<>", ["334 ", "501 5.7.0", "250 2.1.0"]),
    ("RFC 4954 §4", "EHLO", "AUTH PLAIN\r\nAGEAYg=\r\nMAIL FROM:<>", ["334 ", "501 5.5.2", "250 2.1.0"]),
    ("RFC 4954 §4", "EHLO", "AUTH PLAIN\r\n" + "A" * 12300, ["334 ", "500 5.5.6"]),
    # --- DATA
    ("RFC 5321 §4.1.1.4", "RCPT", "DATA\r\nx\r\n.", ["354 ", "250 2.0.0"]),
    ("RFC 5321 §4.5.2", "RCPT", "DATA\r\n..\r\n...\r\n.", ["354 ", "250 2.0.0"]),
    ("RFC 5321 §4.1.1.4", "RCPT", "DATA\r\nx\n.\n\r\n.", ["354 ", "554 5.6.0"]),
    ("RFC 5321 §4.1.1.4", "RCPT", "DATA\r\nx\n.\r\nRSET\r\n.", ["354 ", "554 5.6.0"]),
    ("RFC 5321 §4.1.1.4", "RCPT", "DATA\r\nx\r.\rRSET\r\n.", ["354 ", "554 5.6.0"]),
    ("RFC 5321 §4.1.1.4", "RCPT", "DATA\r\nx\r\n.\nRSET\r\n.", ["354 ", "554 5.6.0"]),
    ("RFC 5321 §4.1.1.4", "RCPT", "DATA\r\nx\r\n\0.\r\n.", ["354 ", "554 5.6.0"]),
    # --- BDAT
    ("RFC 3030 §2", "RCPT", "BDAT 2 LAST\r\n", ["250 2.0.0"]),
    ("RFC 3030 §2", "RCPT", "BDAT 5\r\na\r\n.\nBDAT 0 LAST", ["554 5.6.0", "503 5.5.1"]),
    ("RFC 3030 §2", "RCPT", "BDAT 5\r\nQUIT\rBDAT 3 LAST\r\n\n", ["250 2.0.0", "250 2.0.0"]),
    ("RFC 3030 §2", "MAIL", "BDAT 6 LAST\r\nQUIT", ["503 5.5.1"]),
    ("RFC 3030 §2", "EHLO", "BDAT 6\r\nQUIT", ["503 5.5.1"]),
    ("RFC 3030 §2", "RCPT", "BDAT 0 LAST\r\nBDAT 0 LAST", ["250 2.0.0", "503 5.5.1"]),
    ("RFC 3030 §2", "RCPT", "BDAT 0\r\nDATA", ["250 2.0.0", "503 5.5.1"]),
    ("RFC 3030 §2", "RCPT", "BDAT x", ["501 5.5.4"]),
    (
        "RFC 3030 §3",
        "EHLO",
        "MAIL FROM:<> BODY=BINARYMIME\r\nRCPT TO:<a@b>\r\nDATA",
        ["250", "250", "503 5.5.1"],
    ),
    (
        "RFC 3030 §3",
        "EHLO",
        "MAIL FROM:<> BODY=BINARYMIME\r\nRCPT TO:<a@b>\r\nBDAT 6 LAST\r\n\0\n\r\udcff",
        ["250 2.1.0", "250 2.1.5", "250 2.0.0"],
    ),
    # --- XCLIENT, XFORWARD
    (
        "XCLIENT_README",
        "EHLO",
        "XCLIENT NAME=a.example ADDR=192.0.2.1\r\nMAIL FROM:<>",
        ["220 mx", "503 5.5.1"],
    ),
    ("XCLIENT_README", "MAIL", "XCLIENT NAME=a.example", ["503 5.5.1"]),
    ("XCLIENT_README", "EHLO", "XCLIENT\r\nXCLIENT FOO=x\r\nXCLIENT NAME", ["501 5.5.4"] * 3),
    ("XFORWARD_README", "EHLO", "XFORWARD NAME=a.example SOURCE=REMOTE", ["250 2.0.0"]),
    ("XFORWARD_README", "MAIL", "XFORWARD NAME=a.example", ["503 5.5.1"]),
]


def converse(after: str, parts: list[bytes]) -> tuple[list[bytes], State]:
    """The replies as they are on the wire, each in one piece, and the state they lead to."""
    pair = ConnectionPair(after, limits=Limits(command_line=4096))
    sent = []
    for part in parts:
        before = len(pair.events)
        for reply in pair.send(part):
            hello = reply.enhanced is None
            sent.append(format_reply(reply, enhanced=not hello))
        assert len(pair.events) >= before
    return sent, pair.state


@pytest.mark.parametrize(
    ("section", "after", "text", "expected"),
    DIALOGUES,
    ids=[f"{section} {after} {ascii(text)[:30]}" for section, after, text, _ in DIALOGUES],
)
def test_a_dialogue_has_its_replies_however_it_arrives(section, after, text, expected):
    data = text.encode("utf-8", "surrogateescape") + b"\r\n"
    sent, state = converse(after, [data])
    assert [reply[: len(begin)].decode() for reply, begin in zip(sent, expected, strict=True)] == expected
    octets = [bytes([octet]) for octet in data]
    assert converse(after, octets) == (sent, state)
    # What comes behind is read as the next command, and not before
    tail, _ = converse(after, [data + b"NOOP\r\n"])
    assert tail == [*sent, b"250 2.0.0 ok\r\n"]
    for reply in sent:
        assert all(len(line) + 2 <= 512 for line in reply.split(b"\r\n"))  # RFC 5321 §4.5.3.1.5
