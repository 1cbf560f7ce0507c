"""What follows from what was found out, by what is configured."""

import attrs
import pytest

from elemta.config import (
    ArcConfig,
    DkimConfig,
    DmarcConfig,
    DomainPattern,
    MessageAction,
    PolicyConfig,
    SpfConfig,
)
from elemta.mail import Domain, Result, replies
from elemta.policy.arc import ArcResult
from elemta.policy.disposition import NOTHING, Disposition, Findings, dispose, trusted_sealer
from elemta.policy.dkim import DkimResult
from elemta.policy.dmarc import DmarcResult
from elemta.policy.dmarc_record import DmarcPolicy
from elemta.policy.spf import SpfIdentity, SpfResult, SpfResults

OFF, NOTE, QUARANTINE, DEFER, REFUSE = MessageAction
ALL = list(MessageAction)
AUTHOR = Domain("bank.example")


def policy(
    *,
    spf: MessageAction = NOTE,
    hello: MessageAction = NOTE,
    dkim: MessageAction = NOTE,
    arc: MessageAction = NOTE,
    dmarc: MessageAction = NOTE,
    no_author: MessageAction = NOTE,
    trusted: tuple[DomainPattern, ...] = (),
) -> PolicyConfig:
    return PolicyConfig(
        spf=SpfConfig(action=spf, hello_action=hello),
        dkim=DkimConfig(action=dkim),
        arc=ArcConfig(action=arc, trusted=trusted),
        dmarc=DmarcConfig(action=dmarc, no_author=no_author),
    )


def spf(result: Result, hello: Result | None = None) -> Findings:
    sender = SpfResult(SpfIdentity.MAIL, result, "a@s.example", "s.example", mechanism="-all")
    host = None if hello is None else SpfResult(SpfIdentity.HELLO, hello, "h.example", "h.example")
    return Findings(spf=SpfResults(sender, host))


def dkim(*results: Result) -> Findings:
    return Findings(dkim=tuple(DkimResult(result) for result in results))


def dmarc(result: Result, asks: DmarcPolicy = DmarcPolicy.NONE) -> Findings:
    return Findings(dmarc=(DmarcResult(result, AUTHOR, asks),))


ARC = ArcResult(
    Result.PASS,
    sealers=("lists.example", "first.example"),
    results=b"i=2; mx.lists.example; spf=pass; dmarc=pass",
)


def what(findings: Findings, **actions: MessageAction) -> tuple[MessageAction, object]:
    found = dispose(findings, policy(**actions))  # type: ignore[arg-type]
    assert (found.reply is None) == (found.action in (NOTE, QUARANTINE))
    assert bool(found.reason) == bool(found.check) == (found.action is not NOTE)
    return found.action, found.reply


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (OFF, (NOTE, None)),
        (NOTE, (NOTE, None)),
        (QUARANTINE, (QUARANTINE, None)),
        (DEFER, (DEFER, replies.SPF_FAILED_FOR_NOW)),
        (REFUSE, (REFUSE, replies.SPF_FAILED)),
    ],
)
def test_a_sender_that_forbids_the_client(action: MessageAction, expected: object):
    assert what(spf(Result.FAIL), spf=action) == expected
    assert what(spf(Result.PASS, Result.FAIL), hello=action) == expected
    assert what(spf(Result.PASS, Result.FAIL), spf=action) == (NOTE, None)


@pytest.mark.parametrize(
    "result", [Result.NONE, Result.PASS, Result.NEUTRAL, Result.SOFTFAIL, Result.PERMERROR, Result.POLICY]
)
def test_other_results_of_spf_have_no_consequence(result: Result):
    assert what(spf(result, result), spf=REFUSE, hello=REFUSE) == (NOTE, None)


LATE = [
    (spf(Result.TEMPERROR), "spf", replies.SPF_UNKNOWN),
    (dkim(Result.FAIL, Result.TEMPERROR), "dkim", replies.DKIM_FAILED_FOR_NOW),
    (Findings(arc=ArcResult(Result.TEMPERROR)), "arc", replies.ARC_FAILED_FOR_NOW),
    (dmarc(Result.TEMPERROR), "dmarc", replies.DMARC_FAILED_FOR_NOW),
]


@pytest.mark.parametrize(("findings", "check", "reply"), LATE)
def test_what_was_not_finished_is_never_refused_for_good_nor_marked(
    findings: Findings, check: str, reply: object
):
    for action in (DEFER, REFUSE):
        assert what(findings, **{check: action}) == (DEFER, reply)
    for action in (OFF, NOTE, QUARANTINE):
        assert what(findings, **{check: action}) == (NOTE, None)


@pytest.mark.parametrize(
    ("results", "acts"),
    [
        ((), False),
        ((Result.NONE,), False),
        ((Result.PASS,), False),
        ((Result.FAIL, Result.PASS), False),
        ((Result.FAIL,), True),
        ((Result.NEUTRAL, Result.POLICY, Result.PERMERROR), True),
    ],
)
def test_signatures_of_which_none_is_good(results: tuple[Result, ...], acts: bool):
    expected = (REFUSE, replies.DKIM_FAILED) if acts else (NOTE, None)
    assert what(dkim(*results), dkim=REFUSE) == expected


def test_a_broken_chain():
    for result in (Result.NONE, Result.PASS):
        assert what(Findings(arc=ArcResult(result)), arc=REFUSE) == (NOTE, None)
    assert what(Findings(arc=ArcResult(Result.FAIL, "broken")), arc=REFUSE) == (REFUSE, replies.ARC_FAILED)


@pytest.mark.parametrize(
    ("action", "rejected", "quarantined"),
    [
        (OFF, NOTE, NOTE),
        (NOTE, NOTE, NOTE),
        (QUARANTINE, QUARANTINE, QUARANTINE),
        (DEFER, DEFER, QUARANTINE),
        (REFUSE, REFUSE, QUARANTINE),
    ],
)
def test_dmarc_does_what_the_domain_asks_for_and_not_more_than_is_configured(
    action: MessageAction, rejected: MessageAction, quarantined: MessageAction
):
    assert what(dmarc(Result.FAIL, DmarcPolicy.REJECT), dmarc=action)[0] is rejected
    assert what(dmarc(Result.FAIL, DmarcPolicy.QUARANTINE), dmarc=action)[0] is quarantined
    assert what(dmarc(Result.FAIL, DmarcPolicy.NONE), dmarc=action)[0] is NOTE
    assert what(dmarc(Result.PASS), dmarc=action)[0] is NOTE
    assert what(dmarc(Result.NONE), dmarc=action)[0] is NOTE


def test_the_replies_of_dmarc():
    failed = dmarc(Result.FAIL, DmarcPolicy.REJECT)
    assert what(failed, dmarc=REFUSE) == (REFUSE, replies.DMARC_FAILED)
    assert what(failed, dmarc=DEFER) == (DEFER, replies.DMARC_FAILED_FOR_NOW)


def test_a_message_without_an_author_has_a_setting_of_its_own():
    nobody = Findings(dmarc=(DmarcResult(Result.PERMERROR, reason="no From field"),))
    assert what(nobody, dmarc=REFUSE) == (NOTE, None)
    assert what(nobody, no_author=REFUSE) == (REFUSE, replies.NO_AUTHOR)
    assert what(nobody, no_author=DEFER) == (DEFER, replies.NO_AUTHOR_FOR_NOW)


def test_of_several_authors_the_worst_counts():
    findings = Findings(
        dmarc=(
            DmarcResult(Result.PASS, AUTHOR),
            DmarcResult(Result.FAIL, AUTHOR, DmarcPolicy.QUARANTINE),
            DmarcResult(Result.FAIL, AUTHOR, DmarcPolicy.REJECT),
        )
    )
    assert what(findings, dmarc=REFUSE)[0] is REFUSE


def test_of_several_checks_the_most_severe_counts_and_the_first_of_equals():
    findings = attrs.evolve(spf(Result.FAIL), dkim=dkim(Result.FAIL).dkim)
    assert what(findings, spf=DEFER, dkim=REFUSE) == (REFUSE, replies.DKIM_FAILED)
    assert what(findings, spf=REFUSE, dkim=DEFER) == (REFUSE, replies.SPF_FAILED)
    assert what(findings, spf=QUARANTINE, dkim=DEFER) == (DEFER, replies.DKIM_FAILED_FOR_NOW)
    assert what(findings, spf=REFUSE, dkim=REFUSE) == (REFUSE, replies.SPF_FAILED)


def test_without_findings_nothing_follows():
    assert dispose(Findings(), policy(spf=REFUSE, dmarc=REFUSE)) == NOTHING == Disposition()


# --- Trusted sealers ------------------------------------------------------------------------------------------

LISTS = DomainPattern(Domain("lists.example"))


def test_a_trusted_seal_saves_a_message_that_a_list_has_changed():
    findings = attrs.evolve(dmarc(Result.FAIL, DmarcPolicy.REJECT), arc=ARC)
    assert what(findings, dmarc=REFUSE)[0] is REFUSE
    assert dispose(findings, policy(dmarc=REFUSE, trusted=(LISTS,))) == NOTHING


@pytest.mark.parametrize(
    ("results", "trusted"),
    [
        (b"i=2; mx; dmarc=pass", True),
        (b"i=2; mx; spf=fail; dmarc=pass header.from=bank.example; x=y", True),
        (b"i=2; mx; DMARC / 1 = Pass (p=reject)", True),
        (b"i=2; mx; dmarc=passed", False),
        (b"i=2; mx; dmarc=fail", False),
        (b"i=2; mx; xdmarc=pass", False),
        (b'i=2; mx; spf=pass smtp.mailfrom="x; dmarc=pass"', False),
        (b"i=2; mx; spf=pass (x; dmarc=pass; y)", False),
        (b"", False),
    ],
)
def test_what_the_newest_seal_says(results: bytes, trusted: bool):
    found = trusted_sealer(attrs.evolve(ARC, results=results), (LISTS,))
    assert found == ("lists.example" if trusted else "")


@pytest.mark.parametrize(
    ("arc", "pattern"),
    [
        (None, LISTS),
        (attrs.evolve(ARC, result=Result.FAIL), LISTS),
        (attrs.evolve(ARC, sealers=()), LISTS),
        (attrs.evolve(ARC, sealers=("first.example", "lists.example")), LISTS),
        (attrs.evolve(ARC, sealers=("a.lists.example",)), LISTS),
        (
            attrs.evolve(ARC, sealers=("lists.example",)),
            DomainPattern(Domain("lists.example"), subdomains=True),
        ),
        (attrs.evolve(ARC, sealers=("not a domain",)), LISTS),
        (attrs.evolve(ARC, sealers=("[192.0.2.1]",)), LISTS),
    ],
)
def test_others_are_not_believed(arc: ArcResult | None, pattern: DomainPattern):
    assert trusted_sealer(arc, (pattern,)) == ""


def test_subdomains_may_be_trusted_together():
    pattern = DomainPattern(Domain("example"), subdomains=True)
    assert trusted_sealer(ARC, (pattern,)) == "lists.example"
