"""Greylisting by conditions, in a whole server."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from elemta.testing import Mta, open_mta
from elemta.testing.kit import OWN

HERE = __file__.removesuffix("test_plugin_greylisting.py") + "plugin.py"
NAMED, NAMELESS = "198.51.100.9", "203.0.113.9"
SCORER = """
from elemta.plugin.api import Answer, Plugin, hook

class Scorer(Plugin):
    @hook("mail")
    async def score(self, session):
        return Answer(notes={"score": 2.5 if session.hello == "bad.example" else 1})
"""


def name(mta: Mta, address: str = NAMED) -> None:
    mta.dns.add(".".join(reversed(address.split("."))) + ".in-addr.arpa", "PTR", "mail.client.example")
    mta.dns.add("mail.client.example", "A", address)


@pytest.mark.plugin(config={"lifetime": "2h"})
async def test_a_client_without_a_name_comes_again_and_is_known_then(mta: Mta) -> None:
    name(mta)
    (await mta.send(peer=NAMED)).assert_accepted()
    sent = await mta.send(peer=NAMELESS)
    assert str(sent.refused["bob@example.org"]) == "450 4.7.1 Greylisted, come again in 300 seconds"
    await mta.advance("4m")
    (await mta.send(peer=NAMELESS)).assert_deferred("in 60 seconds")
    await mta.advance("61s")
    (await mta.send(peer=NAMELESS)).assert_accepted()
    (await mta.send(peer="203.0.113.77")).assert_accepted()  # of the same network
    (await mta.send("carol@example.org", peer=NAMELESS)).assert_deferred("Greylisted")
    await mta.advance("110m")
    (await mta.send(peer=NAMELESS)).assert_accepted()
    await mta.advance("121m")
    (await mta.send(peer=NAMELESS)).assert_deferred("Greylisted")


@pytest.mark.plugin(config={"window": "1h"})
async def test_who_comes_too_late_begins_again(mta: Mta) -> None:
    (await mta.send(peer=NAMELESS)).assert_deferred("300 seconds")
    await mta.advance("61m")
    (await mta.send(peer=NAMELESS)).assert_deferred("300 seconds")


@pytest.mark.plugin(config={"clients_after": 2})
async def test_a_client_that_came_again_often_enough_is_known(mta: Mta) -> None:
    for number in range(2):
        sender = f"{'ab'[number]}@client.example"
        (await mta.send(peer=NAMELESS, sender=sender)).assert_deferred("Greylisted")
        await mta.advance("6m")
        (await mta.send(peer=NAMELESS, sender=sender)).assert_accepted()
    (await mta.send(peer=NAMELESS, sender="c@client.example")).assert_accepted()


async def test_postmaster_and_those_who_may_send_anywhere_pass(mta: Mta) -> None:
    (await mta.send("postmaster@example.org", peer=NAMELESS)).assert_accepted()
    (await mta.send(peer=OWN)).assert_accepted()
    (await mta.send(peer=NAMELESS, account="alice@example.org")).assert_accepted()


@pytest.mark.plugin(config={"clients": ["203.0.113.0/24", "2001:db8::/32"], "senders": ["*.partner.example"]})
async def test_exceptions_pass(mta: Mta) -> None:
    (await mta.send(peer=NAMELESS)).assert_accepted()
    (await mta.send(peer="192.0.2.1", sender="x@mail.partner.example")).assert_accepted()
    (await mta.send(peer="192.0.2.1", sender="x@partner.example")).assert_deferred("Greylisted")


@pytest.mark.plugin(config={"no_name": False})
async def test_without_a_reason_nobody_waits(mta: Mta) -> None:
    (await mta.send(peer=NAMELESS)).assert_accepted()


@pytest.mark.parametrize(
    ("record", "waits"), [("-all", True), ("~all", True), ("?all", False), ("+all", False)]
)
async def test_a_domain_that_did_not_send_it_is_a_reason(mta: Mta, record: str, waits: bool) -> None:
    name(mta)
    mta.dns.add("bank.example", "TXT", f"v=spf1 {record}")
    sent = await mta.send(peer=NAMED, sender="x@bank.example")
    assert bool(sent.refused) is waits
    if waits:
        (decided,) = mta.decisions("greylisting")
        assert decided.reason == f"greylisted: SPF says {'fail' if record == '-all' else 'softfail'}"
    (await mta.send(peer=NAMED, sender="x@elsewhere.example")).assert_accepted()


async def test_without_a_sender_the_name_of_the_client_is_what_spf_is_asked_about(mta: Mta) -> None:
    name(mta)
    mta.dns.add("bank.example", "TXT", "v=spf1 -all")
    (await mta.send(peer=NAMED, sender="", hello="bank.example")).assert_deferred("Greylisted")


@pytest.mark.plugin(config={"spf": [], "no_name": False})
async def test_dns_is_not_asked_where_that_is_no_reason(mta: Mta) -> None:
    mta.dns.add("bank.example", "TXT", "v=spf1 -all")
    (await mta.send(peer=NAMELESS, sender="x@bank.example")).assert_accepted()


@pytest.mark.plugin(config={"timeout": "2s"})
async def test_what_dns_does_not_tell_in_time_is_no_reason(mta: Mta) -> None:
    mta.dns.add("bank.example", "TXT", "v=spf1 -all")
    mta.dns.delays = {"bank.example": 9, "9.113.0.203.in-addr.arpa": 9}
    async with mta.session(peer=NAMELESS) as client:
        begun = trio.current_time()
        assert (await client.mail("x@bank.example")).code == 250
        assert 1.9 < trio.current_time() - begun < 2.5
        assert (await client.rcpt("bob@example.org")).code == 250


@pytest.mark.plugin(config={"everybody": True})
async def test_the_null_sender_waits_like_any_other(mta: Mta) -> None:
    name(mta)
    (await mta.send(peer=NAMED, sender="")).assert_deferred("Greylisted")
    await mta.advance("6m")
    (await mta.send(peer=NAMED, sender="")).assert_accepted()


async def test_a_note_of_another_plugin_is_a_reason(tmp_path: Any) -> None:
    file = tmp_path / "scorer.py"
    file.write_text(SCORER)
    file.chmod(0o600)
    plugins: list[dict[str, Any]] = [
        {"name": "scorer", "path": str(file)},
        {
            "name": "greylisting",
            "path": HERE,
            "after": ["scorer"],
            "config": {"no_name": False, "reasons": [{"note": "scorer.score", "at_least": 2}]},
        },
    ]
    async with open_mta(*plugins) as mta:
        (await mta.send(peer=NAMED)).assert_accepted()
        (await mta.send(peer=NAMED, hello="bad.example")).assert_deferred("Greylisted")
        (decided,) = mta.decisions("greylisting")
        assert decided.reason == "greylisted: scorer.score is 2.5"
