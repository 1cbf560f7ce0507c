"""What follows from an outcome, rule by rule."""

from __future__ import annotations

from random import Random

import attrs
import pytest
from queue_bed import LATER, NEVER, OK

from elemta.config import QueueConfig
from elemta.mail import (
    NULL_PATH,
    Action,
    Cause,
    Deferred,
    DeliverBy,
    DeliverByMode,
    DsnOptions,
    Envelope,
    Failed,
    Notify,
    Outcome,
    Recipient,
    ReversePath,
    parse_mailbox,
    replies,
)
from elemta.queue.retry import RetrySchedule
from elemta.queue.verdict import Judge, Terms, Verdict
from elemta.spool import ClaimedRecipient, RecipientState

NOW = 1_000_000.0
CONFIG = QueueConfig(retry=(300.0, 7200.0), retry_jitter=0.0)
JUDGE = Judge(CONFIG, RetrySchedule(CONFIG), Random(1))
SENDER = ReversePath(parse_mailbox("s@example.org"))


def claimed(attempts: int = 1, notify: Notify | None = None, **more: object) -> ClaimedRecipient:
    recipient = Recipient(parse_mailbox("r@example.com"), DsnOptions(notify))
    return ClaimedRecipient(0, recipient, attempts, 7, **more)  # type: ignore[arg-type]


def judge(
    outcome: Outcome,
    *,
    age: float = 0.0,
    by: DeliverBy | None = None,
    path: ReversePath = SENDER,
    may_tell: bool = True,
    claim: ClaimedRecipient | None = None,
) -> Verdict:
    one = claim or claimed()
    envelope = Envelope(path, (one.recipient,), deliver_by=by)
    return JUDGE.judge(envelope, Terms(NOW - age, by), one, outcome, now=NOW, may_tell=may_tell)


def test_delivered_and_failed_are_final() -> None:
    assert judge(OK).state is RecipientState.DELIVERED
    assert judge(OK).notice is None
    assert judge(NEVER).state is RecipientState.FAILED
    assert judge(NEVER).notice is Action.FAILED


def test_deferred_waits_for_its_next_time() -> None:
    verdict = judge(LATER)
    assert (verdict.state, verdict.due, verdict.notice) == (RecipientState.QUEUED, NOW + 300, None)


@pytest.mark.parametrize(("attempts", "wait"), [(1, 1200), (2, 2400), (4, 7200), (9, 7200)])
def test_what_may_have_been_taken_waits_longer(attempts: int, wait: float) -> None:
    config = QueueConfig(retry_jitter=0.0)
    outcome = Deferred(Cause.UNKNOWN_AFTER_DOT, replies.UNKNOWN_AFTER_DOT)
    one = claimed(attempts)
    verdict = Judge(config, RetrySchedule(config), Random(1)).judge(
        Envelope(SENDER, (one.recipient,)), Terms(NOW), one, outcome, now=NOW
    )
    assert verdict.due == NOW + wait


def test_the_lifetime_ends_with_the_last_reply() -> None:
    verdict = judge(LATER, age=CONFIG.lifetime)
    assert (verdict.state, verdict.notice, verdict.outcome) == (RecipientState.EXPIRED, Action.FAILED, LATER)


def test_the_senders_deadline_ends_with_the_word_for_it() -> None:
    verdict = judge(LATER, age=1000, by=DeliverBy(NOW, DeliverByMode.RETURN))
    assert verdict.outcome == Failed(Cause.EXPIRED, replies.EXPIRED, LATER.remote, detail=str(LATER.reply))
    assert (verdict.state, verdict.notice) == (RecipientState.EXPIRED, Action.FAILED)


def test_a_deadline_behind_the_lifetime_means_nothing() -> None:
    verdict = judge(LATER, age=CONFIG.lifetime, by=DeliverBy(NOW + 1, DeliverByMode.RETURN))
    assert verdict.outcome == LATER


@pytest.mark.parametrize("mode", DeliverByMode)
def test_the_next_attempt_falls_on_the_deadline(mode: DeliverByMode) -> None:
    verdict = judge(LATER, age=10, by=DeliverBy(NOW + 50, mode))
    assert (verdict.due, verdict.notice) == (NOW + 50, None)


def test_a_named_time_replaces_our_own_for_the_word_about_delay() -> None:
    late = CONFIG.delay_notice
    assert judge(LATER, age=late).notice is Action.DELAYED
    assert judge(LATER, age=late, by=DeliverBy(NOW + 99_999, DeliverByMode.NOTIFY)).notice is None
    assert judge(LATER, age=10, by=DeliverBy(NOW, DeliverByMode.NOTIFY)).notice is Action.DELAYED
    told = claimed(delay_noticed=True)
    assert judge(LATER, age=10, by=DeliverBy(NOW, DeliverByMode.NOTIFY), claim=told).notice is None


@pytest.mark.parametrize("by", [None, DeliverBy(NOW, DeliverByMode.RETURN)])
def test_nothing_is_given_up_that_cannot_be_told(by: DeliverBy | None) -> None:
    age = CONFIG.lifetime
    verdict = judge(LATER, age=age, by=by, may_tell=False)
    assert (verdict.state, verdict.due, verdict.notice) == (RecipientState.QUEUED, NOW + 300, None)
    assert judge(LATER, age=CONFIG.delay_notice, may_tell=False).notice is None


def test_the_null_sender_has_nobody_to_tell() -> None:
    for outcome in (OK, NEVER, LATER):
        assert judge(outcome, path=NULL_PATH, age=CONFIG.bounce_lifetime).notice is None
    ended = judge(LATER, path=NULL_PATH, age=CONFIG.bounce_lifetime, may_tell=False)
    assert ended.state is RecipientState.EXPIRED


def test_the_third_crash_is_one_too_many() -> None:
    for before, state in ((0, RecipientState.QUEUED), (1, RecipientState.QUEUED), (2, RecipientState.HELD)):
        one = claimed(interrupted=before)
        verdict = JUDGE.crashed(judge(LATER, claim=one), ValueError("x"))
        assert (verdict.state, verdict.crashed) == (state, True)
    assert verdict.hold == "crashes"
    assert "the last with ValueError" in verdict.outcome.reply.text


@pytest.mark.parametrize(
    ("limit", "poison", "suspect"), [(0, [], []), (1, [1, 2, 3], [1, 2, 3]), (3, [3], [2, 3])]
)
def test_who_is_poison_and_who_may_be(limit: int, poison: list[int], suspect: list[int]) -> None:
    config = attrs.evolve(CONFIG, hold_after_crashes=limit)
    judge = Judge(config, RetrySchedule(config), Random(1))
    assert [crashes for crashes in range(4) if judge.is_poison(crashes)] == poison
    assert [crashes for crashes in range(4) if judge.is_suspect(crashes)] == suspect
