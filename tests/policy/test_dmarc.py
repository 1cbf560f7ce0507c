"""DMARC: the examples of RFC 9989 (§4.10 and appendix B), and what the text says between them."""

from collections.abc import Sequence

import pytest
import trio

from elemta.config import DmarcConfig
from elemta.dns import RecordKind
from elemta.mail import Domain, Result
from elemta.policy.author import Authors
from elemta.policy.dmarc import (
    DmarcResult,
    Identifier,
    Mechanism,
    check_dmarc,
    organizational_domain,
    walk_names,
)
from elemta.policy.dmarc_record import DmarcPolicy
from elemta.policy.lookups import evaluate
from elemta.testing.dns import FakeResolver

NONE, QUARANTINE, REJECT = DmarcPolicy.NONE, DmarcPolicy.QUARANTINE, DmarcPolicy.REJECT
CONFIG = DmarcConfig()


def zone(**records: str) -> FakeResolver:
    """Records by domain, with `_` for the dot; `p=reject` for `v=DMARC1; p=reject`."""
    return FakeResolver(
        {f"_dmarc.{name.replace('_', '.')}": {"TXT": [f"v=DMARC1; {text}"]} for name, text in records.items()}
    )


def spf(domain: str, *, late: bool = False) -> Identifier:
    return Identifier(Domain(domain), Mechanism.SPF, late)


def dkim(domain: str, *, late: bool = False) -> Identifier:
    return Identifier(Domain(domain), Mechanism.DKIM, late)


async def check(
    resolver: FakeResolver, author: str, *identifiers: Identifier, config: DmarcConfig = CONFIG
) -> DmarcResult:
    (found,) = await check_dmarc(Authors((Domain(author),)), identifiers, config, resolver=resolver)
    return found


async def organization(resolver: FakeResolver, domain: str) -> str:
    return (await evaluate(lambda table: organizational_domain(table, Domain(domain)), resolver)).text


def asked(resolver: FakeResolver) -> list[str]:
    return sorted({name.removeprefix("_dmarc.") for name, _ in resolver.queries})


# --- The tree walk (§4.10) --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("domain", "names"),
    [
        ("com", ["com"]),
        ("example.com", ["example.com", "com"]),
        ("a.mail.example.com", ["a.mail.example.com", "mail.example.com", "example.com", "com"]),
        (
            "a.b.c.d.e.f.example.com",
            [
                "a.b.c.d.e.f.example.com",
                "b.c.d.e.f.example.com",
                "c.d.e.f.example.com",
                "d.e.f.example.com",
                "e.f.example.com",
                "f.example.com",
                "example.com",
                "com",
            ],
        ),
        (
            "a.b.c.d.e.f.g.h.i.j.mail.example.com",
            [
                "a.b.c.d.e.f.g.h.i.j.mail.example.com",
                "g.h.i.j.mail.example.com",
                "h.i.j.mail.example.com",
                "i.j.mail.example.com",
                "j.mail.example.com",
                "mail.example.com",
                "example.com",
                "com",
            ],
        ),
        (
            "mail.a.b.c.d.e.f.g.example.com",
            [
                "mail.a.b.c.d.e.f.g.example.com",
                "c.d.e.f.g.example.com",
                "d.e.f.g.example.com",
                "e.f.g.example.com",
                "f.g.example.com",
                "g.example.com",
                "example.com",
                "com",
            ],
        ),
    ],
)
def test_the_names_of_a_walk(domain: str, names: Sequence[str]):
    assert [name.text for name in walk_names(Domain(domain))] == names


async def test_organizational_domain_is_the_highest_with_a_record():
    resolver = zone(mail_example_com="p=none", example_com="p=none")
    assert await organization(resolver, "a.mail.example.com") == "example.com"


async def test_psd_n_says_that_this_is_the_organization():
    resolver = zone(mail_example_com="p=none; psd=n", example_com="p=none")
    assert await organization(resolver, "a.mail.example.com") == "mail.example.com"


async def test_psd_y_says_that_it_is_one_label_below():
    assert await organization(zone(com="p=none; psd=y"), "a.mail.example.com") == "example.com"
    resolver = zone(example_com="p=none; psd=y")
    assert await organization(resolver, "mail.example.com") == "mail.example.com"
    assert await organization(resolver, "a.b.mail.example.com") == "mail.example.com"


async def test_psd_y_below_a_record_that_says_nothing():
    resolver = zone(a_mail_example_com="p=none", example_com="p=none; psd=y")
    assert await organization(resolver, "b.a.mail.example.com") == "mail.example.com"


async def test_a_public_suffix_that_sends_mail_is_its_own_organization():
    assert await organization(zone(gov="p=reject; psd=y"), "gov") == "gov"


async def test_without_any_record_a_domain_is_its_own_organization():
    assert await organization(zone(), "a.b.example.com") == "a.b.example.com"


async def test_several_records_at_a_name_are_none():
    resolver = zone(mail_example_com="p=none")
    resolver.add("_dmarc.example.com", "TXT", "v=DMARC1; p=reject", "v=DMARC1; p=none")
    assert await organization(resolver, "a.mail.example.com") == "mail.example.com"


async def test_all_names_are_asked_for_at_the_same_time(autojump_clock: trio.testing.MockClock):
    resolver = zone(example_com="p=none")
    resolver.delays = {
        f"_dmarc.{name}": 1.0 for name in ("a.b.example.com", "b.example.com", "example.com", "com")
    }
    start = trio.current_time()
    assert await organization(resolver, "a.b.example.com") == "example.com"
    assert trio.current_time() - start == pytest.approx(1)


# --- Appendix B.1: alignment -------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [spf, dkim])
@pytest.mark.parametrize(
    ("author", "identifier", "strict", "relaxed"),
    [
        ("example.com", "example.com", Result.PASS, Result.PASS),
        ("example.com", "child.example.com", Result.FAIL, Result.PASS),
        ("child.example.com", "example.com", Result.FAIL, Result.PASS),
        ("child.example.com", "example.net", Result.FAIL, Result.FAIL),
        ("news.example.com", "foo.example.com", Result.FAIL, Result.PASS),
        ("example.com", "badexample.com", Result.FAIL, Result.FAIL),
        ("example.com", "com", Result.FAIL, Result.FAIL),
        ("example.com", "example.com.example.net", Result.FAIL, Result.FAIL),
    ],
)
async def test_alignment(make: object, author: str, identifier: str, strict: Result, relaxed: Result):
    assert callable(make)
    resolver = zone(example_com="p=reject", example_net="p=none")
    assert (await check(resolver, author, make(identifier))).result is relaxed
    resolver = zone(example_com="p=reject; adkim=s; aspf=s", example_net="p=none")
    assert (await check(resolver, author, make(identifier))).result is strict


async def test_each_mechanism_has_its_own_mode():
    resolver = zone(example_com="p=reject; adkim=s")
    assert (await check(resolver, "example.com", spf("m.example.com"))).passed
    assert not (await check(resolver, "example.com", dkim("m.example.com"))).passed


async def test_one_aligned_identifier_is_enough():
    resolver = zone(example_com="p=reject")
    found = await check(resolver, "example.com", spf("x.example"), dkim("y.example"), dkim("m.example.com"))
    assert found.passed
    assert found.aligned == (dkim("m.example.com"),)
    assert found.policy is NONE


async def test_names_outside_of_the_organization_are_not_asked_for():
    resolver = zone(example_com="p=reject")
    await check(resolver, "example.com", spf("a.b.c.example"), dkim("x.example.net"))
    assert asked(resolver) == ["com", "example.com"]


# --- Appendix B.4: tree walks --------------------------------------------------------------------------------


async def test_b_4_1_simple_organizational_and_policy_example():
    resolver = zone(example_com="p=reject", signing_example_com="p=none")
    for identifier in (spf("example.com"), dkim("signing.example.com")):
        found = await check(resolver, "example.com", identifier)
        assert found.passed
        assert found.organization == found.policy_domain == Domain("example.com")


async def test_b_4_2_deep_tree_walk_example():
    author = "a.b.c.d.e.f.g.h.i.j.k.example.com"
    resolver = zone(example_com="p=quarantine", signing_example_com="p=none")
    for identifier in (spf("example.com"), dkim("signing.example.com")):
        assert (await check(resolver, author, identifier)).passed
    found = await check(resolver, author)
    assert found.policy_domain == Domain("example.com")
    assert found.policy is QUARANTINE
    assert "f.g.h.i.j.k.example.com" not in asked(resolver)


async def test_b_4_3_a_public_suffix_with_a_record():
    resolver = zone(bank_example="p=reject; psd=y", giant_bank_example="p=quarantine")
    author = "giant.bank.example"
    assert (await check(resolver, author, spf("mail.giant.bank.example"))).passed
    found = await check(resolver, author, dkim("mail.mega.bank.example"))
    assert (found.result, found.policy) == (Result.FAIL, QUARANTINE)
    assert found.organization == found.policy_domain == Domain(author)


# --- Policy discovery (§4.10.1) ------------------------------------------------------------------------------


async def test_the_record_of_the_author_comes_first():
    resolver = zone(mail_example_com="p=none", example_com="p=reject; sp=reject")
    found = await check(resolver, "mail.example.com")
    assert (found.policy, found.policy_domain, found.organization) == (
        NONE,
        Domain("mail.example.com"),
        Domain("example.com"),
    )


async def test_a_record_between_author_and_organization_does_not_count():
    resolver = zone(b_example_com="p=none", example_com="p=reject")
    found = await check(resolver, "a.b.example.com")
    assert (found.policy, found.policy_domain) == (REJECT, Domain("example.com"))


async def test_the_record_of_the_suffix_is_the_last_resort():
    resolver = zone(example="p=none; sp=quarantine; psd=y")
    resolver.add("firm.example", "A", "192.0.2.1")
    found = await check(resolver, "firm.example")
    assert (found.policy, found.policy_domain) == (QUARANTINE, Domain("example"))
    assert found.organization == Domain("firm.example")
    own = zone(example="p=reject; psd=y", firm_example="p=none")
    assert (await check(own, "firm.example")).policy is NONE


async def test_np_holds_for_names_that_do_not_exist():
    resolver = zone(example_com="p=none; sp=quarantine; np=reject")
    assert (await check(resolver, "missing.example.com")).policy is REJECT
    resolver.add("there.example.com", "MX", (10, "mx.example.com"))
    assert (await check(resolver, "there.example.com")).policy is QUARANTINE
    assert ("there.example.com", RecordKind.A) in resolver.queries


async def test_it_is_not_asked_whether_a_name_exists_if_that_makes_no_difference():
    resolver = zone(example_com="p=none; sp=quarantine")
    await check(resolver, "missing.example.com")
    passing = zone(example_com="p=none; np=reject")
    await check(passing, "missing.example.com", spf("missing.example.com"))
    for each in (resolver, passing):
        assert all(kind is RecordKind.TXT for _, kind in each.queries)


async def test_without_a_record_there_is_nothing_to_check():
    found = await check(zone(), "example.com", spf("example.com"))
    assert (found.result, found.policy, found.record) == (Result.NONE, NONE, None)
    found = await check(zone(example_com="p=junk"), "example.com", spf("example.com"))
    assert (found.result, found.reason) == (Result.NONE, "the policy cannot be read")


async def test_a_test_lowers_the_policy():
    assert (await check(zone(example_com="p=reject; t=y"), "example.com")).policy is QUARANTINE


# --- What cannot be known (§5.3.6) -----------------------------------------------------------------------------


async def test_dns_that_fails_is_a_temporary_error():
    resolver = zone(example_com="p=reject")
    resolver.failing = {"_dmarc.mail.example.com"}
    found = await check(resolver, "mail.example.com", spf("mail.example.com"))
    assert (found.result, found.policy, found.reason) == (Result.TEMPERROR, NONE, "DNS failed")


async def test_dns_that_fails_above_a_boundary_does_no_harm():
    resolver = zone(example_com="p=reject; psd=n")
    resolver.failing = {"_dmarc.com"}
    assert (await check(resolver, "example.com")).policy is REJECT


async def test_dns_that_fails_for_the_existence():
    resolver = zone(example_com="p=reject; np=none")
    resolver.failing = {"a.example.com"}
    assert (await check(resolver, "a.example.com")).result is Result.TEMPERROR


async def test_a_late_identifier_counts_only_where_it_would_have_been_aligned():
    resolver = zone(example_com="p=reject")
    late = await check(resolver, "example.com", dkim("m.example.com", late=True))
    assert (late.result, late.reason) == (Result.TEMPERROR, "dkim was not finished")
    assert (await check(resolver, "example.com", dkim("x.example", late=True))).result is Result.FAIL
    assert (await check(resolver, "example.com", spf("example.com", late=True), dkim("example.com"))).passed


async def test_late_answers(autojump_clock: trio.testing.MockClock):
    resolver = zone(example_com="p=reject")
    resolver.delays = {"_dmarc.com": 1000.0}
    start = trio.current_time()
    found = await check(resolver, "example.com", config=DmarcConfig(timeout=3.0))
    assert (found.result, found.reason) == (Result.TEMPERROR, "not finished in time")
    assert trio.current_time() - start == pytest.approx(3)


async def test_many_identifiers_are_looked_up_at_the_same_time(autojump_clock: trio.testing.MockClock):
    resolver = zone(example_com="p=reject")
    names = [f"d{number}.a.b.example.com" for number in range(50)]
    resolver.delays = {f"_dmarc.{name}": 1.0 for name in [*names, "example.com"]}
    start = trio.current_time()
    assert (await check(resolver, "example.com", *(dkim(name) for name in names))).passed
    assert trio.current_time() - start == pytest.approx(2)


async def test_more_identifiers_than_can_be_looked_up():
    resolver = zone(example_com="p=reject")
    found = await check(resolver, "example.com", *(dkim(f"a.{number}.example.com") for number in range(300)))
    assert (found.result, found.reason) == (Result.TEMPERROR, "too many DNS lookups")
    assert len(resolver.queries) <= 200


# --- Authors ---------------------------------------------------------------------------------------------------


async def test_without_an_author_nothing_can_be_said():
    found = await check_dmarc(Authors(problem="no From field"), (), CONFIG, resolver=zone())
    assert found == (DmarcResult(Result.PERMERROR, reason="no From field"),)


async def test_each_author_has_a_result():
    resolver = zone(a_example="p=reject", b_example="p=quarantine")
    authors = Authors((Domain("a.example"), Domain("b.example"), Domain("c.example")))
    found = await check_dmarc(authors, (spf("a.example"),), CONFIG, resolver=resolver)
    assert [(each.domain, each.result, each.policy) for each in found] == [
        (Domain("a.example"), Result.PASS, NONE),
        (Domain("b.example"), Result.FAIL, QUARANTINE),
        (Domain("c.example"), Result.NONE, NONE),
    ]


async def test_too_many_authors_are_none():
    authors = Authors(tuple(Domain(f"d{number}.example") for number in range(5)))
    resolver = zone()
    (found,) = await check_dmarc(authors, (), CONFIG, resolver=resolver)
    assert found.result is Result.PERMERROR
    assert resolver.queries == []


async def test_how_it_stands_in_authentication_results():
    resolver = zone(example_com="p=reject")
    failed = (await check(resolver, "example.com")).auth_result()
    assert (failed.method, failed.result) == ("dmarc", Result.FAIL)
    assert (failed.value("header", "from"), failed.value("policy", "dmarc")) == ("example.com", "reject")
    passed = (await check(resolver, "example.com", spf("example.com"))).auth_result()
    assert (passed.result, passed.value("policy", "dmarc")) == (Result.PASS, "")
    assert DmarcResult(Result.PERMERROR, reason="x").auth_result().properties == ()
