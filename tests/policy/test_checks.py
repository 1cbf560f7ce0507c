"""All checks of a message together: their order, their deadlines, what they cost each other, and the verdict."""

import ipaddress

import pytest
import trio
from dkim_bed import MESSAGE, NOW, FixedClock, forge_set, pool, sign
from dkim_bed import zone as dkim_zone

from elemta.config import Config, MessageAction, parse_config
from elemta.dns import Iprev, ReverseName
from elemta.mail import NULL_PATH, Envelope, Origin, Result, parse_reverse_path, replies
from elemta.policy import checks
from elemta.policy.checks import MessageChecks, Verdict, identifiers
from elemta.policy.dkim import DkimResult
from elemta.policy.dmarc import Identifier
from elemta.policy.results import iprev_result
from elemta.policy.spf import SpfIdentity, SpfResult, SpfResults
from elemta.runtime import logging_to
from elemta.runtime.render import Record
from elemta.testing.dns import FakeResolver

PEER = "192.0.2.7"
ORIGIN = Origin("session", PEER, hello="mail.example.org")
REVERSE_DNS = '[policy.reverse_dns]\naction = "note"\n'


@pytest.fixture(scope="module")
def signed() -> bytes:
    """Signed beforehand: that takes a thread, in which a mock clock would not wait for it."""
    return trio.run(sign, MESSAGE)


def config(text: str = "") -> Config:
    return parse_config(
        'hostname = "mx.example.net"\n[domains]\nlocal = ["example.net"]\n'
        '[[routes]]\nmatch = "example.net"\ntransport = "discard"\n' + text,
        "test.toml",
    )


def resolver(**changes: str) -> FakeResolver:
    """example.org lets the client send, has keys, and asks to reject what fails."""
    texts = {
        "example.org": "v=spf1 ip4:192.0.2.7 -all",
        "_dmarc.example.org": "v=DMARC1; p=reject",
        **changes,
    }
    found = FakeResolver(dkim_zone())
    for name, text in texts.items():
        found.add(name, "TXT", text)
    found.add("mail.example.org", "TXT", "v=spf1 a -all")
    found.add("mail.example.org", "A", PEER)
    found.add("7.2.0.192.in-addr.arpa", "PTR", "mail.example.org")
    return found


async def judge(
    message: bytes = MESSAGE,
    text: str = "",
    *,
    dns: FakeResolver | None = None,
    path: str = "<alice@example.org>",
    origin: Origin = ORIGIN,
) -> Verdict:
    made = MessageChecks(config(text), dns or resolver(), FixedClock(NOW), pool())
    hasher = made.hasher()
    await hasher.write(message)
    envelope = Envelope(parse_reverse_path(path), ())
    return await made.check_message(hasher.finish(), origin, envelope)


def lines(verdict: Verdict) -> list[str]:
    return [f"{each.method}={each.result}" for each in verdict.results]


async def test_a_message_that_is_what_it_claims_to_be(signed: bytes):
    verdict = await judge(signed, REVERSE_DNS)
    assert lines(verdict) == ["iprev=pass", "spf=pass", "spf=pass", "dkim=pass", "dmarc=pass"]
    assert (verdict.action, verdict.reply) == (MessageAction.NOTE, None)
    field = verdict.fields("mx.example.net", smtputf8=False)
    assert field.replace(b"\r\n\t", b" ").startswith(
        b'Authentication-Results: mx.example.net; iprev=pass reason="mail.example.org" policy.iprev=192.0.2.7; '
        b"spf=pass smtp.helo=mail.example.org; spf=pass smtp.mailfrom=example.org; dkim=pass header.d=example.org"
    )
    assert field.endswith(b"dmarc=pass header.from=example.org\r\n")


async def test_a_message_that_is_not():
    verdict = await judge(dns=resolver(**{"example.org": "v=spf1 -all"}))
    assert lines(verdict) == ["spf=pass", "spf=fail", "dkim=none", "dmarc=fail"]
    assert verdict.action is MessageAction.NOTE
    assert b"policy.dmarc=reject" in verdict.fields("mx", smtputf8=False)


async def test_what_dmarc_may_do():
    dns = resolver(**{"example.org": "v=spf1 -all"})
    refused = await judge(text='[policy.dmarc]\naction = "refuse"\n', dns=dns)
    assert refused.reply == replies.DMARC_FAILED
    assert refused.disposition.reason == "dmarc: example.org asks for reject"
    marked = await judge(text='[policy.dmarc]\naction = "quarantine"\n', dns=dns)
    assert marked.reply is None
    assert marked.fields("mx", smtputf8=False).startswith(
        b"X-Elemta-Quarantine: dmarc\r\nAuthentication-Results: mx;"
    )


async def test_order_does_not_depend_on_what_comes_back_first(
    signed: bytes, autojump_clock: trio.testing.MockClock
):
    expected = lines(await judge(signed, REVERSE_DNS))
    for slow in ("example.org", "mail.example.org", "rsa._domainkey.example.org", "7.2.0.192.in-addr.arpa"):
        dns = resolver()
        dns.delays = {slow: 2.0}
        assert lines(await judge(signed, REVERSE_DNS, dns=dns)) == expected


async def test_checks_run_at_the_same_time(signed: bytes, autojump_clock: trio.testing.MockClock):
    dns = resolver()
    names = (
        "example.org",
        "mail.example.org",
        "rsa._domainkey.example.org",
        "7.2.0.192.in-addr.arpa",
        "_dmarc.org",
    )
    dns.delays = dict.fromkeys(names, 1.0)
    start = trio.current_time()
    await judge(signed, REVERSE_DNS, dns=dns)
    # the slowest of them has two steps (reverse DNS, or SPF of the host), then DMARC has one
    assert trio.current_time() - start == pytest.approx(3)


async def test_late_lookups_are_temporary_errors_each_in_its_own_time(
    signed: bytes, autojump_clock: trio.testing.MockClock
):
    dns = resolver()
    dns.delays = dict.fromkeys(("example.org", "rsa._domainkey.example.org"), 1000.0)
    text = '[policy.spf]\ntimeout = "4s"\n[policy.dkim]\ntimeout = "2s"\n'
    start = trio.current_time()
    verdict = await judge(signed, text, dns=dns)
    assert trio.current_time() - start == pytest.approx(4)
    assert lines(verdict) == ["spf=pass", "spf=temperror", "dkim=temperror", "dmarc=temperror"]
    assert verdict.action is MessageAction.NOTE


async def test_dns_that_is_dead_costs_nobody_a_message(signed: bytes):
    dns = resolver()
    dns.failing = set(dns.zone) | {"_dmarc.org"}
    verdict = await judge(signed, REVERSE_DNS, dns=dns)
    assert lines(verdict) == [
        "iprev=temperror", "spf=temperror", "spf=temperror", "dkim=temperror", "dmarc=temperror"
    ]  # fmt: skip
    assert verdict.action is MessageAction.NOTE
    strict = await judge(dns=dns, text='[policy.dmarc]\naction = "refuse"\n')
    assert strict.reply == replies.DMARC_FAILED_FOR_NOW


async def test_what_is_off_is_not_checked(signed: bytes):
    off = "".join(f'[policy.{name}]\naction = "off"\n' for name in ("spf", "dkim", "arc", "dmarc"))
    dns = resolver()
    verdict = await judge(signed, off, dns=dns)
    assert verdict == Verdict()
    assert dns.queries == []
    assert verdict.fields("mx", smtputf8=False) == b"Authentication-Results: mx; none\r\n"


async def test_dmarc_has_what_it_stands_on_even_if_that_is_off(signed: bytes):
    off = '[policy.spf]\naction = "off"\nhello_action = "off"\n[policy.dkim]\naction = "off"\n[policy.arc]\naction = "off"\n'
    verdict = await judge(signed, off)
    assert lines(verdict) == ["spf=pass", "dkim=pass", "dmarc=pass"]


@pytest.mark.parametrize("peer", ["local", "192.0.2.99", "::ffff:192.0.2.99"])
async def test_who_is_exempt_is_not_checked(peer: str):
    dns = resolver()
    verdict = await judge(text='[policy]\nexempt = ["192.0.2.96/28"]\n', dns=dns, origin=Origin("s", peer))
    assert verdict == Verdict()
    assert dns.queries == []


async def test_a_bounce_is_judged_by_the_name_of_the_host():
    verdict = await judge(path=str(NULL_PATH))
    assert lines(verdict)[0] == "spf=pass"
    assert verdict.results.of("spf")[0].value("smtp", "helo") == "mail.example.org"
    assert lines(verdict)[-1] == "dmarc=pass"


async def test_a_message_without_an_author():
    verdict = await judge(
        b"From: a@x.example\r\nFrom: b@y.example\r\n\r\n", '[policy.dmarc]\nno_author = "refuse"\n'
    )
    assert lines(verdict)[-1] == "dmarc=permerror"
    assert verdict.reply == replies.NO_AUTHOR


async def test_a_seal_that_is_trusted():
    passed_on = forge_set(MESSAGE, aar="i=1; mx.example.org; dmarc=pass header.from=example.org")
    dns = resolver(**{"example.org": "v=spf1 -all"})
    text = '[policy.dmarc]\naction = "refuse"\n'
    assert (await judge(passed_on, text, dns=dns)).action is MessageAction.REFUSE
    verdict = await judge(passed_on, text + '[policy.arc]\ntrusted = ["example.org"]\n', dns=dns)
    assert verdict.action is MessageAction.NOTE
    assert lines(verdict)[-2:] == ["arc=pass", "dmarc=fail"]
    assert verdict.results.of("dmarc")[0].reason == "passed before example.org sealed it"
    assert verdict.findings.arc is not None


async def test_a_cancelled_check_leaves_nothing_behind(autojump_clock: trio.testing.MockClock):
    dns = resolver()
    dns.delays = {"example.org": 1000.0}
    with trio.move_on_after(1) as scope:
        await judge(dns=dns)
    assert scope.cancelled_caught


class Records:
    def __init__(self) -> None:
        self.records: list[Record] = []

    def put(self, record: Record) -> None:
        self.records.append(record)


BROKEN = {
    "look_up_reverse": "iprev=temperror",
    "check_spf": "spf=temperror",
    "check_dkim": "dkim=temperror",
    "check_arc": "arc=temperror",
    "check_dmarc": "dmarc=temperror",
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_check_that_stumbles_is_a_temporary_error_and_told(
    signed: bytes, name: str, monkeypatch: pytest.MonkeyPatch
):
    async def stumble(*args: object, **kwargs: object) -> None:
        raise IndexError("a bug")

    monkeypatch.setattr(checks, name, stumble)
    sink = Records()
    with logging_to(sink, clock=FixedClock(NOW)):
        verdict = await judge(signed, REVERSE_DNS)
    assert BROKEN[name] in lines(verdict)
    assert [record["text"] for record in sink.records] == ["a check of a message failed"]
    assert "IndexError" in str(sink.records[0])


def test_forged_results_are_found_by_both_of_our_names():
    made = MessageChecks(
        config('[policy]\nauthserv_id = "Results.Example.NET"\n'), FakeResolver(), FixedClock(NOW), pool()
    )
    assert made.authserv_id == "results.example.net"
    field = b"Authentication-Results: %s; spf=pass\r\n"
    for name, forged in [
        (b"results.example.net", True),
        (b"MX.example.net", True),
        (b"other.example", False),
    ]:
        header = field % name + b"\r\n"
        assert made.forged(header) == ([(0, len(header) - 2)] if forged else [])


async def test_what_others_want_hashed_is_hashed_too():
    made = MessageChecks(config(), resolver(), FixedClock(NOW), pool())
    from elemta.policy.sealing import NEED

    hasher = made.hasher(lambda head: [NEED])
    await hasher.write(MESSAGE)
    assert len(hasher.finish().hashes.digest(NEED)) == 32


@pytest.mark.parametrize(
    ("name", "result", "reason"),
    [
        (ReverseName(Iprev.PASS, "a.example"), Result.PASS, "a.example"),
        (
            ReverseName(Iprev.FAIL, unconfirmed=("a.example", "b.example")),
            Result.FAIL,
            "a.example, b.example",
        ),
        (ReverseName(Iprev.PERMERROR), Result.PERMERROR, ""),
        (ReverseName(Iprev.TEMPERROR), Result.TEMPERROR, ""),
    ],
)
def test_reverse_dns_as_a_result(name: ReverseName, result: Result, reason: str):
    found = iprev_result(name, ipaddress.ip_address("2001:db8::1"))
    assert (found.method, found.result, found.reason) == ("iprev", result, reason)
    assert found.value("policy", "iprev") == "2001:db8::1"


def test_what_stands_behind_a_message():
    def spf(result: Result, domain: str = "a.example") -> SpfResults:
        return SpfResults(SpfResult(SpfIdentity.MAIL, result, "x", domain))

    def texts(found: list[Identifier]) -> list[str]:
        return [f"{each.mechanism.value}:{each.domain}{' late' if each.late else ''}" for each in found]

    good = DkimResult(Result.PASS, domain="b.example")
    late = DkimResult(Result.TEMPERROR, domain="c.example")
    bad = DkimResult(Result.FAIL, domain="d.example")
    assert texts(identifiers(spf(Result.PASS), (good, good, late, bad))) == [
        "spf:a.example",
        "dkim:b.example",
        "dkim:c.example late",
    ]
    assert texts(identifiers(spf(Result.TEMPERROR), ())) == ["spf:a.example late"]
    for result in (Result.SOFTFAIL, Result.FAIL, Result.NONE, Result.PERMERROR):
        assert identifiers(spf(result), ()) == []
    assert identifiers(spf(Result.TEMPERROR, ""), (DkimResult(Result.PASS, domain="[192.0.2.1]"),)) == []
    assert identifiers(None, (DkimResult(Result.PASS, domain="x" * 300),)) == []
