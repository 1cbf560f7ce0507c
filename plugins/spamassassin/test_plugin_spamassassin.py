"""SpamAssassin as it answers, and as nothing should, in a whole server."""

from __future__ import annotations

import pytest
import trio

from elemta.testing import Mta
from elemta.testing.kit import OWN

ADDRESS = "127.0.0.1:783"


class Spamd:
    """Answers each request the same; `asked` has what it was sent."""

    def __init__(self, mta: Mta, answer: bytes, *, hangs: bool = False, address: str = ADDRESS) -> None:
        self.asked: list[bytes] = []
        self.answer = answer
        self.hangs = hangs
        self.piece = 65536
        mta.listen(address, self.serve)

    async def serve(self, stream: trio.abc.Stream) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            received += await stream.receive_some(65536)
        head, _, body = received.partition(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        while len(body) < size:
            body += await stream.receive_some(65536)
        self.asked.append(head + b"\r\n\r\n" + body)
        for start in range(0, len(self.answer), self.piece):
            await stream.send_all(self.answer[start : start + self.piece])
        if self.hangs:
            await trio.sleep_forever()


def answer(score: str, verdict: str = "False", rules: bytes = b"BAYES_50,NO_RELAYS") -> bytes:
    head = f"SPAMD/1.1 0 EX_OK\r\nContent-length: {len(rules)}\r\nSpam: {verdict} ; {score} / 5.0\r\n\r\n"
    return head.encode() + rules


async def test_what_is_said_stands_in_the_header(mta: Mta) -> None:
    spamd = Spamd(mta, answer("-0.2"))
    mta.dns.add("9.100.51.198.in-addr.arpa", "PTR", "mail.client.example")
    mta.dns.add("mail.client.example", "A", "198.51.100.9")
    forged = {"X-Spam-Flag": "YES", "X-Spam-Score": "-99", "X-Spam-Status": "No, forged"}
    (await mta.send(peer="198.51.100.9", headers=forged)).assert_accepted()
    letter = mta.letter()
    assert letter.headers("X-Spam-Flag") == []
    assert letter.headers("X-Spam-Score") == ["-0.2"]
    (status,) = letter.headers("X-Spam-Status")
    assert " ".join(status.split()) == "No, score=-0.2 required=5 tests=BAYES_50, NO_RELAYS"
    (asked,) = spamd.asked
    head, _, message = asked.partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0] == b"SYMBOLS SPAMC/1.5"
    assert message.startswith(
        b"Return-Path: <alice@client.example>\r\nReceived: from client.example (mail.client"
    )
    assert b"[198.51.100.9])\r\n\tby " in message


@pytest.mark.plugin(config={"subject": "[SPAM]", "user": "bob@example.org"})
async def test_spam_is_marked(mta: Mta) -> None:
    spamd = Spamd(mta, answer("7.5", "True", b"GTUBE"))
    (await mta.send(subject="Buy")).assert_accepted()
    letter = mta.letter()
    assert (letter.header("X-Spam-Flag"), letter.header("Subject")) == ("YES", "[SPAM] Buy")
    assert b"\r\nUser: bob@example.org\r\n" in spamd.asked[0]


@pytest.mark.plugin(config={"reject": 12.0, "quarantine": 8.0, "defer": 10, "discard": 20.0})
@pytest.mark.parametrize(
    ("score", "said"),
    [("12.0", "554 5.7.1 The message looks like spam"), ("10", "451 4.7.1 The message looks like spam")],
)
async def test_scores_refuse(mta: Mta, score: str, said: str) -> None:
    Spamd(mta, answer(score, "True"))
    assert str((await mta.send()).reply) == said


@pytest.mark.plugin(config={"reject": 12.0, "quarantine": 8.0, "discard": 20.0})
async def test_scores_hold_and_discard(mta: Mta) -> None:
    spamd = Spamd(mta, answer("9.1", "True"))
    (await mta.send()).assert_accepted()
    (held,) = mta.queue
    assert "score 9.1 of 5: BAYES_50 NO_RELAYS" in held.reason
    spamd.answer = answer("21", "True")
    (await mta.send()).assert_accepted()
    assert len(mta.queue) == 1
    assert mta.delivered == []


async def test_our_own_mail_and_large_mail_is_not_looked_at(mta: Mta) -> None:
    spamd = Spamd(mta, answer("99", "True"))
    (await mta.send(peer=OWN)).assert_accepted()
    (await mta.send(account="alice@example.org")).assert_accepted()
    (
        await mta.send(body="x" * 70 + "\n" + ("y" * 70 + "\n") * 9000, headers={"X-Spam-Flag": "NO"})
    ).assert_accepted()
    assert spamd.asked == []
    assert mta.delivered[-1].headers("X-Spam-Flag") == []


@pytest.mark.plugin(config={"own": True})
async def test_our_own_mail_is_looked_at_where_that_is_wanted(mta: Mta) -> None:
    spamd = Spamd(mta, answer("1"))
    (await mta.send(account="alice@example.org")).assert_accepted()
    assert b" with ESMTPA id " in spamd.asked[0]


@pytest.mark.parametrize(
    ("answered", "said"),
    [
        (b"", "answers nothing"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "which is no answer"),
        (b"SPAMD/1.1 0 EX_OK\r\nContent-le", "ends in the midst"),
        (answer("1")[:-1], "ends in the midst"),
        (b"SPAMD/1.0 76 Bad header line: x\r\n", "says 76 Bad header line: x"),
        (b"SPAMD/1.1 0 EX_OK\r\nSpam: True ; 1e5 / 5\r\n\r\n", "without a score"),
        (b"SPAMD/1.1 0 EX_OK\r\nSpam: True ; 1.2.3 / 5\r\n\r\n", "without a score"),
        (b"SPAMD/1.1 0 EX_OK\r\n\r\nGTUBE", "without a score"),
        (b"SPAMD/1.1 0 EX_OK\r\n" + b"x" * 70_000, "answers without end"),
        (answer("1") + b"x", "more than it says"),
        (answer("1").replace(b"length: 1", b"length: -1"), "a length that is none"),
        (answer("1").replace(b"length: ", b"length: x"), "a length that is none"),
        (answer("1").replace(b"length: 1", b"length: 7\r\nContent-length: 1"), "a length that is none"),
        (answer("1").replace(b"Spam: ", b"Spam: True ; 9 / 5\r\nSpam: "), "several scores"),
        (answer("."), "without a score"),
        (answer("nan"), "without a score"),
        (answer("1", "Perhaps"), "without a score"),
        (b"SPAMD/1.1\r\n\r\n", "which is no answer"),
        (b"SPAMD/1.1 0000 EX_OK\r\n\r\n", "which is no answer"),
        (b"\xff" * 300, "answers with b"),
        (b"SPAMD/1.1 0x5\r\n\r\n", "which is no answer"),
        (b"SPAMD/1.1 75 EX_TEMPFAIL\xff\r\n\r\n", "says 75 EX_TEMPFAIL"),
    ],
)
async def test_what_is_no_answer_defers(mta: Mta, answered: bytes, said: str) -> None:
    Spamd(mta, answered)
    mta.failures_allowed = True
    assert (await mta.send()).reply.code == 451
    (failure,) = mta.failures
    assert said in str(failure)


async def test_a_server_need_not_close_the_connection(mta: Mta) -> None:
    Spamd(mta, answer("1"), hangs=True)
    begun = trio.current_time()
    (await mta.send()).assert_accepted()
    assert trio.current_time() - begun < 2


@pytest.mark.plugin(timeout="5s")
@pytest.mark.parametrize("said", [b"", answer("1")[:-1], b"SPAMD/1.1 0 EX_OK\r\nSpam: True ; 1 / 5\r\n\r\n"])
async def test_a_server_that_hangs_costs_no_more_than_the_timeout(mta: Mta, said: bytes) -> None:
    Spamd(mta, said, hangs=True)
    mta.failures_allowed = True
    begun = trio.current_time()
    assert (await mta.send()).reply.code == 451
    assert trio.current_time() - begun < 7


@pytest.mark.plugin(config={"reverse_names": "0s"})
async def test_nothing_that_a_client_says_becomes_a_field(mta: Mta) -> None:
    spamd = Spamd(mta, answer("1"))
    (await mta.send(sender='"a\\"> (b"@client.example', hello="[198.51.100.1]")).assert_accepted()
    trace = spamd.asked[0].partition(b"\r\n\r\n")[2].partition(b"\r\n\tby ")[0]
    assert trace.split(b"\r\n") == [
        b"Return-Path: <ab@client.example>",
        b"Received: from [198.51.100.1] (unknown [198.51.100.7])",
    ]


async def test_all_fields_of_that_kind_are_taken_from_strangers(mta: Mta) -> None:
    Spamd(mta, answer("1"))
    forged = {"x-spam-level": "-", "X-Spam-Anything!": "x", "X-Spam-" + "y" * 90: "long", "X-Spammer": "no"}
    many = {f"X-Spam-A{number}": "x" for number in range(600)}
    (await mta.send(headers=many | forged)).assert_accepted()
    letter = mta.letter()
    assert [letter.headers(name) for name in ("X-Spam-Level", "X-Spam-A1", "X-Spammer")] == [[], [], ["no"]]
    assert letter.headers("X-Spam-Score") == ["1"]


REPORT = b"""Spam detection software has a preview:

 pts rule name              description
---- ---------------------- -----------
 9.9 FORGED                 by the message itself

Content analysis details:   (7.5 points, 5.0 required)

 pts rule name              description
---- ---------------------- --------------------------------------------------
 1.0 LONG_NAME_OF_A_RULE_WITHOUT_END This is told in
                            two lines, 3 of them
1000 GTUBE                  BODY: Caf\xc3\xa9
-0.1 SHORT                  \x07
"""


@pytest.mark.plugin(config={"ask": "report"})
async def test_the_report_stands_in_the_header_of_spam(mta: Mta) -> None:
    spamd = Spamd(mta, answer("7.5", "True", REPORT))
    (await mta.send(headers={"X-Spam-Report": "clean"})).assert_accepted()
    assert spamd.asked[0].startswith(b"REPORT SPAMC/1.5\r\n")
    (report,) = mta.letter().headers("X-Spam-Report")
    assert report.startswith("Spam detection software has a preview:")
    assert "BODY: Caf?" in report
    status = mta.letter().header("X-Spam-Status") or ""
    assert status.split("tests=")[1].split() == ["LONG_NAME_OF_A_RULE_WITHOUT_END,", "GTUBE,", "SHORT"]
    spamd.answer = answer("1", rules=REPORT)
    (await mta.send()).assert_accepted()
    assert mta.delivered[-1].headers("X-Spam-Report") == []


FIELDS = (
    b"Received: from localhost by filter\r\n\twith SpamAssassin\r\nSubject: X-Spam-Status: No, tests=FORGED\r\n"
    b"X-Spam-Level: *******\r\nX-Spam-Status: Yes, score=7.5 required=5.0 tests=GTUBE,\r\n\tMISSING_DATE autolearn=no\r\n"
    b"X-Spam-Empty:\r\nX-Spam-Odd: a\x07b\r\nContent-Type: text/plain\r\n\r\nX-Spam-Body: of the message\r\n"
)


@pytest.mark.plugin(config={"ask": "headers", "quarantine": 7})
async def test_the_fields_that_spamassassin_adds_are_taken_over(mta: Mta) -> None:
    Spamd(mta, answer("7.5", "True", FIELDS))
    (await mta.send(headers={"X-Spam-Level": "none", "X-Spam-Flag": "NO"})).assert_accepted()
    (held,) = mta.queue
    assert "score 7.5 of 5: GTUBE MISSING_DATE" in held.reason
    Spamd(mta, answer("6", "True", FIELDS))
    (await mta.send(headers={"X-Spam-Level": "none", "X-Spam-Flag": "NO"})).assert_accepted()
    letter = mta.letter()
    assert letter.headers("X-Spam-Level") == ["*******"]
    assert "GTUBE" in (letter.header("X-Spam-Status") or "")
    assert letter.headers("X-Spam-Odd") == ["a?b"]
    assert letter.headers("Received")[-1:] != ["from localhost by filter with SpamAssassin"]
    for name in ("X-Spam-Flag", "X-Spam-Body", "X-Spam-Score"):
        assert letter.headers(name) == [], name


@pytest.mark.plugin(config={"subject": "[SPAM]"})
async def test_a_subject_of_any_length_is_no_failure(mta: Mta) -> None:
    Spamd(mta, answer("7.5", "True"))
    head = b"Subject: " + b"\r\n ".join([b"x" * 900] * 12) + b"\r\nFrom: s@client.example\r\n\r\nbody\r\n"
    (await mta.send(content=head)).assert_accepted()
    assert mta.letter().header("X-Spam-Flag") == "YES"


@pytest.mark.plugin(config={"address": "unix:/run/spamd.sock"})
async def test_the_address_may_be_a_socket(mta: Mta) -> None:
    spamd = Spamd(mta, answer("1"), address="unix:/run/spamd.sock")
    (await mta.send()).assert_accepted()
    assert len(spamd.asked) == 1


@pytest.mark.plugin(on_error="continue")
async def test_mail_passes_where_it_may_while_nobody_answers(mta: Mta) -> None:
    mta.failures_allowed = True
    (await mta.send()).assert_accepted()
    assert mta.letter().headers("X-Spam-Score") == []
    assert len(mta.failures) == 1


async def test_an_answer_may_come_in_pieces(mta: Mta) -> None:
    spamd = Spamd(mta, answer("1"), hangs=True)
    spamd.piece = 1
    (await mta.send()).assert_accepted()
    assert mta.letter().header("X-Spam-Score") == "1"


@pytest.mark.plugin(config={"ask": "report"})
async def test_a_report_of_many_lines_is_no_failure(mta: Mta) -> None:
    Spamd(mta, answer("7.5", "True", b"a\n" * 20_000))
    (await mta.send()).assert_accepted()
    assert len(mta.letter().header("X-Spam-Report") or "") > 1000


@pytest.mark.plugin(config={"subject": "[SPAM]" * 50})
async def test_a_subject_that_grows_too_long_is_no_failure(mta: Mta) -> None:
    Spamd(mta, answer("7.5", "True"))
    head = b"Subject: " + b"\r\n ".join([b"x" * 880] * 9) + b"\r\nFrom: s@client.example\r\n\r\nbody\r\n"
    (await mta.send(content=head)).assert_accepted()
    assert mta.letter().header("X-Spam-Flag") == "YES"
