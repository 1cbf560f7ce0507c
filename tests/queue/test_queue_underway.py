"""Attempts under way: how they are shown, and what becomes of one that an operator ends."""

from __future__ import annotations

import pytest
import trio
from queue_bed import OK, Bed, ScriptedTransport, answer_ok, open_bed

from elemta.delivery import Connection, Parcel
from elemta.mail import MessageId, Outcome
from elemta.queue import AttemptView, Cancelled


class SlowToConnect(ScriptedTransport):
    async def connect(self) -> Connection:
        await trio.sleep(100)
        return await super().connect()


async def answer_late(parcel: Parcel) -> list[Outcome]:
    await trio.sleep(60)
    return [OK] * len(parcel.recipients)


def only(bed: Bed) -> AttemptView:
    (view,) = bed.queue.underway.views()
    return view


async def state_of(bed: Bed, message: MessageId) -> tuple[str, str, int]:
    entry = await bed.entry(message)
    return entry.state.name, entry.reason, entry.attempts


async def test_an_attempt_is_shown_with_its_phase_and_the_time_left(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed(answer_late) as bed:
        message = await bed.accept("a@far.example", "b@far.example")
        await trio.sleep(10)
        view = only(bed)
        assert (view.message, view.recipients) == (message, ("a@far.example", "b@far.example"))
        assert (view.sender, view.route) == ("sender@example.org", "smtp:far.example")
        assert (view.phase, view.dot_sent) == ("final-dot", True)
        assert view.seconds == pytest.approx(10, abs=0.1)
        assert 0 < view.seconds_left < 7200
        await trio.sleep(60)
        assert bed.queue.underway.views() == []


async def test_one_that_has_sent_nothing_ends_and_is_tried_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed() as bed:
        bed.transports["smtp:far.example"] = SlowToConnect(answer_ok)
        message = await bed.accept("a@far.example")
        await trio.sleep(10)
        assert bed.queue.underway.cancel(only(bed).id) is Cancelled.ENDED
        await trio.sleep(0.1)
        assert bed.queue.underway.views() == []
        assert await state_of(bed, message) == ("QUEUED", "operator", 1)
        await trio.sleep(1000)
        assert len(bed.parcels("smtp:far.example")) == 1
        assert len(bed.of("recipient.delivered")) == 1


async def test_one_whose_dot_was_sent_goes_on_unless_told_otherwise(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed(answer_late) as bed:
        await bed.accept("a@far.example")
        await trio.sleep(10)
        assert bed.queue.underway.cancel(only(bed).id) is Cancelled.AFTER_DOT
        await trio.sleep(100)
        assert len(bed.of("recipient.delivered")) == 1
        assert not bed.of("recipient.deferred")


async def test_one_that_is_ended_after_its_dot_says_that_nobody_knows(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed(answer_late) as bed:
        message = await bed.accept("a@far.example")
        await trio.sleep(10)
        assert bed.queue.underway.cancel(only(bed).id, even_after_dot=True) is Cancelled.ENDED
        await trio.sleep(0.1)
        assert await state_of(bed, message) == ("QUEUED", "unknown-after-dot", 1)
        (told,) = bed.of("recipient.deferred")
        assert told.detail == "ended by the operator after the final dot"  # type: ignore[attr-defined]
        totals = await bed.spool.totals()
        assert (totals.difference, totals.queued, totals.leased) == (0, 1, 0)


async def test_ending_one_takes_nothing_from_its_destination(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        bed.transports["smtp:far.example"] = SlowToConnect(answer_ok)
        await bed.accept("a@far.example")
        await bed.accept("b@far.example")
        await trio.sleep(1)
        first, *others = bed.queue.underway.views()
        (site,) = bed.queue.statistics().sites
        bed.queue.underway.cancel(first.id)
        await trio.sleep(0.1)
        assert bed.queue.statistics().sites[0].window == site.window
        assert [view.id for view in others if view in bed.queue.underway.views()] == []
        await trio.sleep(120)
        assert len(bed.of("recipient.delivered")) >= 1


async def test_an_attempt_that_is_over_cannot_be_ended(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        await bed.accept("a@far.example")
        await trio.sleep(5)
        for id in ("1.1", "", "x", "99.1"):
            assert bed.queue.underway.cancel(id) is Cancelled.NOT_THERE
