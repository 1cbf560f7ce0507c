"""A wall clock that is set by days (RELIABILITY F18): waits and ages last as long as they were meant to."""

from __future__ import annotations

import itertools

import pytest
import trio
from queue_bed import LATER, OK, SettableClock, answers, config_with, open_bed

from elemta.config import Config, DeliveryConfig
from elemta.delivery import Parcel
from elemta.mail import Cause, DeliverBy, DeliverByMode, Outcome
from elemta.queue.clockwatch import ClockWatch
from elemta.spool import MemoryStore

DAY = 86_400.0
JUMPS = pytest.mark.parametrize("jump", [10 * DAY, -10 * DAY, 3600.0, -3600.0], ids="{:+.0f} s".format)


@JUMPS
async def test_waits_go_on_as_if_nothing_had_happened(
    jump: float, autojump_clock: trio.testing.MockClock
) -> None:
    times: list[float] = []

    async def answer(parcel: Parcel) -> list[Outcome]:
        times.append(trio.current_time())
        await trio.sleep(0)
        return [LATER]

    clock = SettableClock()
    async with open_bed(answer, config=config_with(retry=(3600.0,), delay_notice=0.0), clock=clock) as bed:
        await bed.accept("r@a.example")
        await trio.sleep(5000)
        clock.offset += jump
        await trio.sleep(3 * 3600)
        (changed,) = bed.of("clock.changed")
    waits = [b - a for a, b in itertools.pairwise(times)]
    assert len(waits) == 4
    assert waits == pytest.approx([3600.0] * 4, abs=1.0)
    assert changed.seconds == pytest.approx(jump, abs=1.0)  # type: ignore[attr-defined]


@JUMPS
async def test_no_mail_expires_and_no_lateness_is_told_because_of_it(
    jump: float, autojump_clock: trio.testing.MockClock
) -> None:
    clock = SettableClock()
    async with open_bed(answers(LATER), config=config_with(retry=(3600.0,)), clock=clock) as bed:
        message = await bed.accept("r@a.example")
        deadline = DeliverBy(clock.time() + 2 * DAY, DeliverByMode.RETURN)
        other = await bed.accept("r@a.example", deliver_by=deadline)
        await trio.sleep(1000)
        clock.offset += jump
        await trio.sleep(3 * 3600)
        assert (await bed.entry(message)).reason == Cause.REMOTE_REPLY
        assert (await bed.entry(other)).reason == Cause.REMOTE_REPLY
        assert "notice.queued" not in bed.kinds()


async def test_after_a_clock_set_forward_mail_expires_at_its_own_age(
    autojump_clock: trio.testing.MockClock,
) -> None:
    clock = SettableClock()
    config = config_with(retry=(3600.0,), delay_notice=0.0)
    async with open_bed(answers(LATER), config=config, clock=clock) as bed:
        message = await bed.accept("r@a.example", sender="s@b.example")
        await trio.sleep(1000)
        clock.offset += 10 * DAY
        await trio.sleep(4.9 * DAY)
        assert await bed.spool.show(message) is not None
        await trio.sleep(0.2 * DAY)
        assert await bed.spool.show(message) is None


async def test_what_is_under_way_is_not_tried_twice(autojump_clock: trio.testing.MockClock) -> None:
    """A clock set forward ends all leases at once; they are extended before anything is claimed."""

    async def slow(parcel: Parcel) -> list[Outcome]:
        await trio.sleep(300)
        return [OK]

    clock = SettableClock()
    config = Config(hostname="mx.example.net", delivery=DeliveryConfig(initial_concurrency=1, concurrency=1))
    async with open_bed(slow, config=config, clock=clock) as bed:
        for _ in range(3):
            await bed.accept("r@a.example")
        await trio.sleep(10)
        clock.offset += 10 * DAY
        await bed.accept("r@b.example")
        bed.queue.wake()
        await trio.sleep(1500)
        assert len(bed.parcels("smtp:a.example")) == 3
        totals = await bed.spool.totals()
    assert (totals.delivered, totals.queued) == (4, 0)


async def test_a_clock_that_went_back_while_the_server_was_down_lets_nothing_wait_for_days(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store, clock = MemoryStore(), SettableClock()
    async with open_bed(answers(LATER), clock=clock, store=store) as bed:
        message = await bed.accept("r@a.example")
        held_back = await bed.accept("r@a.example", release_at=clock.time() + DAY)
        await trio.sleep(10)
        await bed.entry(message)
    clock.offset -= 10 * DAY
    async with open_bed(clock=clock, store=store) as bed:
        await trio.sleep(10)
        assert await bed.spool.show(message) is None
        assert (await bed.entry(held_back)).reason == Cause.FUTURE_RELEASE


async def test_mail_that_arrived_behind_a_jump_has_its_usual_times(
    autojump_clock: trio.testing.MockClock,
) -> None:
    clock = SettableClock()
    async with open_bed(answers(LATER), config=config_with(retry=(3600.0,)), clock=clock) as bed:
        await trio.sleep(100)
        clock.offset += 10 * DAY
        message = await bed.accept("r@a.example", sender=None)
        await trio.sleep(100)
        entry = await bed.entry(message)
        assert entry.due == pytest.approx(clock.time() + 3500, abs=20)
        await trio.sleep(1.2 * DAY)
        assert await bed.spool.show(message) is None


async def test_a_queue_of_many_is_moved_in_steps(autojump_clock: trio.testing.MockClock) -> None:
    clock = SettableClock()
    async with open_bed(answers(LATER), config=config_with(retry=(7200.0,)), clock=clock) as bed:
        for number in range(450):
            await bed.accept(f"r@a{number}.example", sender=None)
        await trio.sleep(100)
        clock.offset -= 3 * DAY
        await trio.sleep(100)
        (changed,) = bed.of("clock.changed")
        due = await bed.spool.next_due()
    assert changed.moved == 450  # type: ignore[attr-defined]
    assert due is not None
    assert due == pytest.approx(clock.time() + 7000, abs=20)


def test_small_steps_and_drift_are_no_jumps(mock_clock: trio.testing.MockClock) -> None:
    async def run() -> None:
        clock = SettableClock()
        watch = ClockWatch(clock)
        assert watch.look()[1] is None
        for _ in range(100):
            mock_clock.jump(60)
            clock.offset += 5.0
            assert watch.look() == (clock.time(), None)
        assert watch.present(clock.time()) == clock.time()

    trio.run(run, clock=mock_clock)


def test_stamps_are_carried_over_all_jumps_that_followed_them(mock_clock: trio.testing.MockClock) -> None:
    async def run() -> None:
        clock = SettableClock()
        watch = ClockWatch(clock)
        watch.look()
        before = clock.time()
        mock_clock.jump(1000)
        clock.offset += 10 * DAY
        watch.look()
        between = clock.time()
        assert watch.present(before) == pytest.approx(before + 10 * DAY)
        mock_clock.jump(1000)
        clock.offset -= 10 * DAY
        watch.look()
        assert watch.present(before) == pytest.approx(before)
        assert watch.present(clock.time()) == clock.time()
        # Both clocks may have shown it: it is left as it is, and so is younger rather than older.
        assert watch.present(between) == between

    trio.run(run, clock=mock_clock)
