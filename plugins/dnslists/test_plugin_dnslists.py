"""Scores of DNS lists, in a whole server."""

from __future__ import annotations

import base64
import quopri
from typing import Any

import pytest
import trio

from elemta.testing import Mta
from elemta.testing.kit import OWN

PEER = "198.51.100.9"
REVERSED = "9.100.51.198"


def zones(*each: dict[str, Any], **config: Any) -> pytest.MarkDecorator:
    return pytest.mark.plugin(config={"zones": list(each), **config})


def serve(mta: Mta, zone: str, *listed: str, answer: str = "127.0.0.2", domains: bool = False) -> None:
    """A list that works: it has its test point, and not what none may have (RFC 5782 §5)."""
    mta.dns.add(f"{'test' if domains else '2.0.0.127'}.{zone}", "A", "127.0.0.2")
    for each in listed:
        mta.dns.add(f"{each}.{zone}", "A", answer)


async def examined(mta: Mta) -> None:
    """A list counts once it was seen that it does not list everything."""
    await mta.send(peer="192.0.2.77")


BAD = {"zone": "bad.example", "weight": 5}
WORSE = {"zone": "key.worse.example", "name": "worse", "weight": 3}
GOOD = {"zone": "good.example", "weight": -4}


@zones(BAD, WORSE, GOOD, reject=8, tag=2)
async def test_weights_are_added_and_decide_at_mail(mta: Mta) -> None:
    serve(mta, "bad.example", REVERSED, "10.100.51.198", "11.100.51.198")
    serve(mta, "key.worse.example", REVERSED, "11.100.51.198")
    serve(mta, "good.example", "11.100.51.198")
    await examined(mta)
    (await mta.send(peer=PEER)).assert_rejected("Listed by bad.example (client), worse (client)")
    (await mta.send(peer="198.51.100.10")).assert_accepted()
    assert mta.delivered[-1].header("X-DNS-Lists") == "score 5: bad.example (client)"
    (await mta.send(peer="198.51.100.11")).assert_accepted()
    assert (
        mta.delivered[-1].header("X-DNS-Lists") == "score 4: bad.example (client), worse (client)"
    )  # the good one speaks for it


@zones(BAD, reject=5)
async def test_those_who_may_send_anywhere_are_not_asked_about(mta: Mta) -> None:
    serve(mta, "bad.example", REVERSED, "1.0.0.127")
    (await mta.send(peer=OWN)).assert_accepted()
    (await mta.send(peer=PEER, account="alice@example.org")).assert_accepted()
    assert mta.delivered[-1].header("X-DNS-Lists") is None


@zones(BAD, reject=5)
async def test_a_list_that_lists_everything_does_not_count(mta: Mta) -> None:
    serve(mta, "bad.example", REVERSED, "1.0.0.127")
    await examined(mta)
    (await mta.send(peer=PEER)).assert_accepted()


@zones(BAD, reject=5)
@pytest.mark.parametrize("answer", ["127.255.255.254", "192.0.2.1"])
async def test_what_is_no_listing_does_not_count(mta: Mta, answer: str) -> None:
    serve(mta, "bad.example", REVERSED, answer=answer)
    await examined(mta)
    (await mta.send(peer=PEER)).assert_accepted()
    assert mta.delivered[-1].header("X-DNS-Lists") is None


@zones(BAD | {"answers": ["127.0.0.4"]}, reject=5)
async def test_only_answers_that_are_named_count(mta: Mta) -> None:
    serve(mta, "bad.example", REVERSED, answer="127.0.0.2")
    serve(mta, "bad.example", "10.100.51.198", answer="127.0.0.4")
    await examined(mta)
    (await mta.send(peer=PEER)).assert_accepted()
    (await mta.send(peer="198.51.100.10")).assert_rejected("bad.example")


@zones({"zone": "dbl.example", "of": ["hello", "sender", "author", "reverse", "links"]}, tag=1)
@pytest.mark.parametrize(
    ("of", "sent"),
    [
        ("hello", {"hello": "mail.evil.example"}),
        ("sender", {"sender": "x@mail.evil.example", "headers": {"From": "x@client.example"}}),
        ("author", {"headers": {"From": '"a@b, c" <x@mail.evil.example>'}}),
        ("reverse", {"peer": PEER}),
        ("links", {"body": "See https://user@www.mail.evil.example:8080/x?y\n"}),
    ],
)
async def test_each_name_is_asked_for(mta: Mta, of: str, sent: dict[str, Any]) -> None:
    serve(mta, "dbl.example", "mail.evil.example", domains=True)
    mta.dns.add(f"{REVERSED}.in-addr.arpa", "PTR", "mail.evil.example")
    mta.dns.add("mail.evil.example", "A", PEER)
    await examined(mta)
    (await mta.send(**{"peer": "192.0.2.78", **sent})).assert_accepted()
    assert mta.delivered[-1].header("X-DNS-Lists") == f"score 1: dbl.example ({of})"


LINK = b"Go to\r\nhttp://x.evil.example/ " + b"and read on and on and on, for this goes on and on. " * 4


@zones({"zone": "dbl.example", "of": ["links"]}, reject=1)
@pytest.mark.parametrize(
    ("encoding", "content"),
    [
        ("7bit", LINK),
        ("quoted-printable", quopri.encodestring(LINK.replace(b"evil", b"evi\x00l")).replace(b"=00", b"=\n")),
        ("base64", base64.encodebytes(LINK)),
    ],
)
async def test_links_are_found_however_they_are_written(mta: Mta, encoding: str, content: bytes) -> None:
    serve(mta, "dbl.example", "evil.example", domains=True)
    await examined(mta)
    head = f"Subject: x\nContent-Transfer-Encoding: {encoding}\n\n".encode()
    sent = await mta.send(content=(head + content.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n"))
    assert str(sent.reply) == "554 5.7.1 Listed by dbl.example (links)"


@zones(BAD, quarantine=5)
async def test_a_message_can_be_held_as_suspect(mta: Mta) -> None:
    serve(mta, "bad.example", REVERSED)
    await examined(mta)
    (await mta.send(peer=PEER)).assert_accepted()
    (held,) = mta.queue
    assert "score 5: bad.example (client)" in held.reason


@zones(BAD, defer=5)
async def test_mail_can_be_deferred(mta: Mta) -> None:
    serve(mta, "bad.example", REVERSED)
    await examined(mta)
    (await mta.send(peer=PEER)).assert_deferred("bad.example")


@zones(BAD, tag=9)
async def test_fields_of_strangers_are_taken_out(mta: Mta) -> None:
    (await mta.send(headers={"X-DNS-Lists": "score -99"})).assert_accepted()
    assert mta.delivered[-1].headers("X-DNS-Lists") == []


MAPPED = [
    {"zone": "good.example", "of": ["client"], "answers": [f"127.0.0.{last}"], "weight": weight}
    for last, weight in ((1, -1), (2, -5))
]


@zones(BAD, *MAPPED, tag=-9)
async def test_answers_of_one_list_weigh_differently(mta: Mta) -> None:
    for zone in ("bad.example", "good.example"):
        serve(mta, zone)
    for last, answer in ((10, "127.0.0.1"), (11, "127.0.0.2"), (12, "127.0.0.3")):
        for zone, each in (("bad.example", "127.0.0.2"), ("good.example", answer)):
            mta.dns.add(f"{last}.100.51.198.{zone}", "A", each)
    await examined(mta)
    for last in (10, 11, 12):
        (await mta.send(peer=f"198.51.100.{last}")).assert_accepted()
    scores = [(each.header("X-DNS-Lists") or "").partition(":")[0] for each in mta.delivered[1:]]
    assert scores == ["score 4", "score 0", "score 5"]


@zones(BAD, reject=5)
async def test_an_ipv6_client_is_asked_for_by_its_nibbles(mta: Mta) -> None:
    serve(mta, "bad.example", "1.0.0.0." + "0.0.0.0." * 5 + "8.b.d.0.1.0.0.2")
    await examined(mta)
    (await mta.send(peer="2001:db8::1")).assert_rejected("bad.example")
    (await mta.send(peer="2001:db8::2")).assert_accepted()


@zones(BAD, WORSE, {"zone": "gone.example"})
async def test_lists_of_no_use_are_told_once(mta: Mta) -> None:
    serve(mta, "bad.example", REVERSED, answer="127.255.255.254")
    serve(mta, "key.worse.example", "1.0.0.127")
    await mta.send(peer=PEER)
    await mta.advance("11m")
    await mta.send(peer=PEER)
    await mta.advance("11m")
    warned = [each for each in mta.log if each["text"] == "a DNS list is of no use"]
    assert [(each["list"], each["why"].partition(":")[0]) for each in warned] == [
        ("bad.example", "says that it does not serve us"),
        ("worse", "does not count"),
        ("gone.example", "does not list its own test point (RFC 5782)"),
    ]
    assert mta.counts()["lists of no use"] == 3


@zones(BAD | {"of": ["client", "reverse", "hello"]}, timeout="4s", lookup_timeout="3s", reject=3)
async def test_all_is_asked_at_the_same_time_and_within_one_deadline(mta: Mta) -> None:
    serve(mta, "bad.example", REVERSED)
    serve(mta, "bad.example", domains=True)
    mta.dns.add(f"{REVERSED}.in-addr.arpa", "PTR", "mail.evil.example")
    mta.dns.add("mail.evil.example", "A", PEER)
    await examined(mta)
    mta.dns.delays = {
        f"{REVERSED}.in-addr.arpa": 1.4,
        "mail.evil.example": 1.4,
        "mail.evil.example.bad.example": 2.0,
        f"{REVERSED}.bad.example": 2.9,
        "client.example.bad.example": 2.9,
    }
    begun = trio.current_time()
    (await mta.send(peer=PEER, wait=False)).assert_rejected("bad.example (client)")
    assert 3.9 < trio.current_time() - begun < 4.5
    assert mta.counts()["no answer"] == 1


@zones({"zone": "dbl.example", "of": ["author"]}, tag=1)
@pytest.mark.parametrize(
    "author",
    [
        '"a@b.example c@d.example e@f.example g@h.example" <x@evil.example>',
        '"<a@b.example> <c@d.example> <e@f.example> <g@h.example>" <x@evil.example>',
        "(a@b.example c@d.example e@f.example g@h.example) x@evil.example (i@j.example k@l.example)",
        "<a@b.example> <c@d.example> <e@f.example> <g@h.example> <i@j.example> <x@evil.example>",
    ],
)
async def test_names_in_front_of_the_author_do_not_hide_him(mta: Mta, author: str) -> None:
    serve(mta, "dbl.example", "evil.example", domains=True)
    await examined(mta)
    await mta.send(peer=PEER, headers={"From": author})
    assert mta.delivered[-1].header("X-DNS-Lists") == "score 1: dbl.example (author)"


@zones({"zone": "dbl.example", "of": ["author"]}, tag=1)
async def test_an_author_of_many_words_is_asked_about_with_a_bound(mta: Mta) -> None:
    serve(mta, "dbl.example", "evil.example", domains=True)
    await examined(mta)
    names = ",\r\n ".join(f"<a@n{number}.example> <" for number in range(500))
    before = len(mta.dns.queries)
    await mta.send(peer=PEER, headers={"From": names})
    assert len(mta.dns.queries) - before <= 40
