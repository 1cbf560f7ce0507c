"""SpamAssassin as it answers, and as nothing should, in a whole server."""

from __future__ import annotations

import pytest
import trio

from elemta.testing import Mta
from elemta.testing.kit import OWN

ADDRESS = "127.0.0.1:783"


class Spamd:
    """Answers each request the same; `asked` has what it was sent."""

    def __init__(self, mta: Mta, answer: bytes, *, hangs: bool = False) -> None:
        self.asked: list[bytes] = []
        self.answer = answer
        self.hangs = hangs
        mta.listen(ADDRESS, self.serve)

    async def serve(self, stream: trio.abc.Stream) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            received += await stream.receive_some(65536)
        head, _, body = received.partition(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        while len(body) < size:
            body += await stream.receive_some(65536)
        self.asked.append(head + b"\r\n\r\n" + body)
        await stream.send_all(self.answer)
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
    ],
)
async def test_what_is_no_answer_defers(mta: Mta, answered: bytes, said: str) -> None:
    Spamd(mta, answered)
    mta.failures_allowed = True
    assert (await mta.send()).reply.code == 451
    (failure,) = mta.failures
    assert said in str(failure)


@pytest.mark.plugin(timeout="5s")
async def test_a_server_that_hangs_costs_no_more_than_the_timeout(mta: Mta) -> None:
    Spamd(mta, answer("1"), hangs=True)
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
