"""DNS that is dead, slow, broken or lies: each check says temperror or none, in time, and mail goes on as configured."""

from __future__ import annotations

import ipaddress

import pytest
import trio
import trio.testing
from dkim_bed import MESSAGE, NOW, FixedClock, forge_set, pool, rsa_key, sign
from dkim_bed import zone as dkim_zone
from dns_outages import Outage, broken, faulty
from policy_bed import PEER_LABELS, config

from elemta.config import Config, DnsConfig
from elemta.dns import Resolver, look_up_reverse
from elemta.mail import Envelope, Origin, parse_reverse_path
from elemta.policy.checks import MessageChecks, Verdict
from elemta.policy.lists import DnsLists
from elemta.testing.dns import DnsServer, FakeResolver, Fault

PEER = "192.0.2.7"
ORIGIN = Origin("session", PEER, hello="mail.example.org")
EVERYTHING = """
[policy.reverse_dns]
action = "note"
[policy.arc]
action = "note"
"""
LISTS = '[policy.dns_lists]\naction = "refuse"\n[[policy.dns_lists.zones]]\nzone = "bl.example"\n'
# one answer, then what depends on it
SLOWEST = 20.0 + 10.0
IMPATIENT = DnsConfig(query_timeout=0.05, timeout=0.15)


@pytest.fixture(scope="module")
def message() -> bytes:
    """Signed and sealed beforehand: that takes a thread, in which a mock clock would not wait for it."""
    return forge_set(trio.run(sign, MESSAGE))


def zone() -> FakeResolver:
    """Everything is right."""
    found = FakeResolver(dkim_zone())
    found.add("example.org", "TXT", "v=spf1 include:spf.example.org mx -all")
    found.add("spf.example.org", "TXT", f"v=spf1 ip4:{PEER} -all")
    found.add("mail.example.org", "TXT", "v=spf1 a -all")
    found.add("mail.example.org", "A", PEER)
    found.add("_dmarc.example.org", "TXT", "v=DMARC1; p=reject")
    found.add("7.2.0.192.in-addr.arpa", "PTR", "mail.example.org")
    found.add("2.0.0.127.bl.example", "A", "127.0.0.2")
    found.add(f"{PEER_LABELS}.bl.example", "A", "127.0.0.2")
    return found


async def judge(message: bytes, resolver: Resolver, settings: Config) -> Verdict:
    checks = MessageChecks(settings, resolver, FixedClock(NOW), pool())
    hasher = checks.hasher()
    await hasher.write(message)
    return await checks.check_message(
        hasher.finish(), ORIGIN, Envelope(parse_reverse_path("<alice@example.org>"), ())
    )


def lines(verdict: Verdict) -> str:
    return " ".join(f"{each.method}={each.result}" for each in verdict.results)


GOOD = "iprev=pass spf=pass spf=pass dkim=pass arc=pass dmarc=pass"
NO_ANSWER = "iprev=temperror spf=temperror spf=temperror dkim=temperror arc=temperror dmarc=temperror"
NOTHING = "iprev=permerror spf=none dkim=permerror arc=fail dmarc=none"


@pytest.mark.parametrize(
    ("outage", "found"),
    [
        (None, GOOD),
        (Outage.SILENCE, NO_ANSWER),
        (Outage.LATE, NO_ANSWER),
        (Outage.SERVFAIL, NO_ANSWER),
        (Outage.NXDOMAIN, NOTHING),
        (Outage.NODATA, NOTHING),
        (Outage.LIES, NOTHING.replace("iprev=permerror", "iprev=fail")),
    ],
)
async def test_every_check_of_a_message_has_its_result_in_time(
    message: bytes, outage: Outage | None, found: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with broken(zone(), outage) as (resolver, _):
        begin = trio.current_time()
        verdict = await judge(message, resolver, config(EVERYTHING))
        assert trio.current_time() - begin <= SLOWEST
    assert lines(verdict) == found
    assert verdict.reply is None  # by default nothing is refused for it


@pytest.mark.parametrize("outage", [Outage.SILENCE, Outage.LATE, Outage.SERVFAIL])
@pytest.mark.parametrize("check", ["spf", "dkim", "dmarc", "arc"])
@pytest.mark.parametrize("action", ["refuse", "defer", "quarantine", "note"])
async def test_who_refuses_what_fails_puts_it_off_while_nothing_is_known(
    message: bytes, action: str, check: str, outage: Outage, autojump_clock: trio.testing.MockClock
) -> None:
    async with broken(zone(), outage) as (resolver, _):
        verdict = await judge(message, resolver, config(f'[policy.{check}]\naction = "{action}"\n'))
    if action in ("refuse", "defer"):
        assert verdict.reply is not None
        assert verdict.reply.code == 451
    else:
        assert verdict.reply is None


@pytest.mark.parametrize(
    ("outage", "finding"),
    [
        (None, "score 1: bl.example (127.0.0.2)"),
        (Outage.SILENCE, "no answer from bl.example"),
        (Outage.LATE, "no answer from bl.example"),
        (Outage.SERVFAIL, "no answer from bl.example"),
        (Outage.NXDOMAIN, "not listed"),
        (Outage.NODATA, "not listed"),
        (Outage.LIES, "not listed"),
    ],
)
async def test_a_list_that_cannot_be_asked_lists_nobody(
    outage: Outage | None, finding: str, autojump_clock: trio.testing.MockClock
) -> None:
    settings = config(LISTS).policy.dns_lists
    async with broken(zone(), outage) as (resolver, _):
        begin = trio.current_time()
        listing = await DnsLists(settings, resolver).look_up_address(ipaddress.ip_address(PEER))
        assert trio.current_time() - begin <= settings.timeout
    assert listing.finding() == finding
    assert (listing.score > 0) == (outage is None)


@pytest.mark.parametrize("outage", list(Outage))
async def test_what_was_asked_before_an_outage_is_still_known(
    message: bytes, outage: Outage, autojump_clock: trio.testing.MockClock
) -> None:
    async with broken(zone(), None) as (resolver, source):
        assert lines(await judge(message, resolver, config(EVERYTHING))) == GOOD
        source.outage = outage
        assert lines(await judge(message, resolver, config(EVERYTHING))) == GOOD
        source.outage = None
        await trio.sleep(3600)
        assert lines(await judge(message, resolver, config(EVERYTHING))) == GOOD


async def test_answers_behind_the_end_of_a_session_disturb_nobody(
    message: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    settings = DnsConfig(query_timeout=100.0, timeout=100.0)
    async with broken(zone(), Outage.LATE, settings) as (resolver, source):
        with trio.move_on_after(1.0) as session:  # the client hangs up
            await judge(message, resolver, config(EVERYTHING))
        assert session.cancelled_caught
        assert source.answered == 0
        await trio.sleep(120.0)
        assert source.answered > 0  # they came, for the next who asks
        source.outage = Outage.SILENCE
        with trio.fail_after(0.5):
            found = await look_up_reverse(resolver, ipaddress.ip_address(PEER), seconds=0.1)
        assert found.unconfirmed == ("mail.example.org",)  # the one answer of those that was waited for


def server() -> DnsServer:
    """The same zone on loopback."""
    found = DnsServer()
    for selector in ("rsa", "ed"):
        text = dkim_zone()[f"{selector}._domainkey.example.org"]["TXT"][0]
        quoted = " ".join(f'"{text[start : start + 200]}"' for start in range(0, len(text), 200))
        found.add(f"{selector}._domainkey.example.org", "TXT", quoted)
    found.add("example.org", "TXT", '"v=spf1 include:spf.example.org mx -all"')
    found.add("spf.example.org", "TXT", f'"v=spf1 ip4:{PEER} -all"')
    found.add("mail.example.org", "TXT", '"v=spf1 a -all"')
    found.add("mail.example.org", "A", PEER)
    found.add("_dmarc.example.org", "TXT", '"v=DMARC1; p=reject"')
    found.add("7.2.0.192.in-addr.arpa", "PTR", "mail.example.org.")
    found.add("2.0.0.127.bl.example", "A", "127.0.0.2")
    return found


HARMLESS = {Fault.TRUNCATE, Fault.CUT, Fault.FORGED_FIRST, Fault.NO_EDNS}


@pytest.mark.parametrize("fault", list(Fault), ids=str)
async def test_whatever_a_name_server_does_the_checks_end_in_time(message: bytes, fault: Fault) -> None:
    rsa_key()
    with trio.fail_after(4.0):
        dns = DnsConfig(query_timeout=0.5, timeout=1.0) if fault in HARMLESS else IMPATIENT
        async with faulty(server(), fault, dns) as resolver:
            verdict = await judge(message, resolver, config(EVERYTHING))
            lists = DnsLists(config(LISTS).policy.dns_lists, resolver)
            listing = await lists.look_up_address(ipaddress.ip_address(PEER))
    assert lines(verdict) == (GOOD if fault in HARMLESS else NO_ANSWER)
    assert listing.score == 0
    assert bool(listing.unanswered) == (fault not in HARMLESS)


async def test_names_that_lead_round_in_a_circle(message: bytes) -> None:
    loop = DnsServer()
    names = [
        "example.org",
        "mail.example.org",
        "_dmarc.example.org",
        "rsa._domainkey.example.org",
        "7.2.0.192.in-addr.arpa",
    ]
    for name in names:
        loop.add(name, "CNAME", f"next.{name}.")
        loop.add(f"next.{name}", "CNAME", f"{name}.")
    with trio.fail_after(4.0):
        async with faulty(loop, None, IMPATIENT) as resolver:
            verdict = await judge(message, resolver, config(EVERYTHING))
    assert lines(verdict) == NO_ANSWER
