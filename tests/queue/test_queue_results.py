"""What becomes of outcomes: next attempts, notices, expiry."""

from __future__ import annotations

import email
import email.policy
import itertools

import trio
from queue_bed import LATER, NEVER, OK, ScriptedTransport, answers, config_with, open_bed

from elemta.delivery import Parcel
from elemta.mail import Outcome


async def test_deferred_is_tried_again_by_the_schedule(autojump_clock: trio.testing.MockClock) -> None:
    times: list[float] = []

    async def answer(parcel: Parcel) -> list[Outcome]:
        times.append(trio.current_time())
        await trio.sleep(0)
        return [LATER if len(times) < 4 else OK]

    async with open_bed(answer, config=config_with(retry=(300.0, 600.0, 1200.0))) as bed:
        await bed.accept("r@a.example")
        await trio.sleep(3600)
    waits = [round(b - a) for a, b in itertools.pairwise(times)]
    assert waits == [300, 600, 1200]
    assert bed.kinds().count("recipient.deferred") == 3
    assert bed.kinds()[-1] == "recipient.delivered"


async def test_failed_makes_one_bounce_that_reaches_the_sender(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed() as bed:
        bed.transports["smtp:a.example"] = ScriptedTransport(answers(NEVER))
        await bed.accept("r@a.example", "s@a.example")
        await trio.sleep(5)
        (parcel,) = bed.transports["smtp:example.org"].parcels
        totals = await bed.spool.totals()
    assert parcel.envelope.reverse_path.is_null
    assert str(parcel.recipients[0].mailbox) == "sender@example.org"
    notice = email.message_from_bytes(parcel.content.body or b"", policy=email.policy.default)
    assert notice.get_content_type() == "multipart/report"
    status = list(notice.iter_parts())[1]
    fields = [block["Action"] for block in status.get_payload()[1:]]  # type: ignore[union-attr, index]
    assert fields == ["failed", "failed"]
    assert "Subject: x" in list(notice.iter_parts())[2].as_string()
    assert (totals.accepted, totals.failed, totals.delivered, totals.queued) == (3, 2, 1, 0)


async def test_a_bounce_is_never_bounced(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed(answers(NEVER)) as bed:
        await bed.accept("r@a.example", sender=None)
        await trio.sleep(5)
        totals = await bed.spool.totals()
    assert (totals.accepted, totals.failed, totals.queued) == (1, 1, 0)
    assert "notice.queued" not in bed.kinds()


async def test_one_recipient_fails_the_other_arrives(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed(answers(OK, NEVER)) as bed:
        await bed.accept("r@a.example", "s@a.example", sender=None)
        await trio.sleep(5)
        totals = await bed.spool.totals()
    assert (totals.delivered, totals.failed) == (1, 1)


async def test_late_mail_is_told_once_and_expiry_ends_it(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed(config=config_with(delay_notice=3600.0, lifetime=86400.0)) as bed:
        bed.transports["smtp:a.example"] = ScriptedTransport(answers(LATER))
        await bed.accept("r@a.example")
        await trio.sleep(2 * 86400)
        notices = [parcel.content.body or b"" for parcel in bed.transports["smtp:example.org"].parcels]
        totals = await bed.spool.totals()
    assert [b"Action: delayed" in notice for notice in notices] == [True, False]
    assert b"Action: failed" in notices[1]
    assert (totals.expired, totals.queued) == (1, 0)
    (failure,) = bed.of("recipient.failed")
    assert failure.expired  # type: ignore[attr-defined]


async def test_a_notice_expires_without_a_word(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed(answers(LATER)) as bed:
        await bed.accept("r@a.example", sender=None)
        await trio.sleep(3 * 86400)
        totals = await bed.spool.totals()
    assert (totals.expired, totals.queued, totals.accepted) == (1, 0, 1)
