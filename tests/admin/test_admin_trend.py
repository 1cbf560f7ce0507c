"""The trend and the overview: what is counted when, within fixed memory."""

from __future__ import annotations

import trio
from admin_bed import open_bed

from elemta.admin.trend import STEP, STEPS, Moment, Trend, quantile
from elemta.events import MessageAccepted, RecipientDelivered, SessionOpened, SessionRefused
from elemta.spool import SpoolError, SpoolStatistics


class Wall:
    """A wall clock that may be set."""

    now = 1_750_000_000.0

    def time(self) -> float:
        return self.now


def accepted(octets: int = 100) -> MessageAccepted:
    return MessageAccepted(
        time=0.0,
        session="s",
        message="m",
        sender="a@b",
        recipients=("c@d",),
        size=octets,
        peer="p",
        protocol="SMTP",
    )


def delivered(seconds: float) -> RecipientDelivered:
    return RecipientDelivered(
        time=0.0,
        message="m",
        recipient="c@d",
        route="smtp:d",
        remote="",
        reply="250",
        attempts=1,
        seconds=seconds,
    )


def test_what_happens_counts_for_its_step() -> None:
    clock = Wall()
    trend = Trend(clock)
    trend.observe(accepted(100))
    trend.observe(accepted(50))
    clock.now += STEP
    trend.observe(accepted(7))
    trend.observe(SessionRefused(time=0.0, listener="mx", peer="p", reason="r", more=4))
    first, second = trend.steps()
    assert (first.accepted, first.octets, second.accepted, second.octets) == (2, 150, 1, 7)
    assert second.refused == 5
    assert trend.series()["accepted"] == [2, 1]


def test_steps_without_anything_are_there_and_old_ones_are_not() -> None:
    clock = Wall()
    trend = Trend(clock)
    trend.observe(accepted())
    clock.now += 5 * STEP
    assert [step.accepted for step in trend.steps()] == [1, 0, 0, 0, 0, 0]
    clock.now += 1_000_000 * STEP
    steps = trend.steps()
    assert len(steps) == STEPS + 1
    assert all(step.accepted == 0 for step in steps)


def test_a_clock_that_is_set_back_loses_nothing() -> None:
    clock = Wall()
    trend = Trend(clock)
    clock.now -= 3600
    trend.observe(accepted())
    assert [step.accepted for step in trend.steps()] == [1]
    clock.now += 3600 + STEP
    trend.observe(accepted())
    assert [step.accepted for step in trend.steps()] == [1, 1]


def test_rates_are_those_of_whole_steps() -> None:
    clock = Wall()
    trend = Trend(clock)
    for _ in range(6):
        for _ in range(20):
            trend.observe(accepted(10))
        clock.now += STEP
    trend.observe(accepted())  # of the step that is not over
    assert trend.rates()["accepted"] == 2.0
    assert trend.rates()["octets"] == 20.0


def test_delays_are_told_by_their_quantiles() -> None:
    trend = Trend(Wall())
    for seconds in [0.05] * 60 + [4.0] * 36 + [1e9] * 4:
        trend.observe(delivered(seconds))
    assert trend.delays() == (0.1, 5.0)
    assert quantile([0, 0], 0.5) is None


async def test_how_it_stands_is_noted_at_each_step(autojump_clock: trio.testing.MockClock) -> None:
    class Virtual:
        def time(self) -> float:
            return 1_750_000_000.0 + trio.current_time()

    trend = Trend(Virtual())
    queued = 0

    async def count() -> SpoolStatistics:
        nonlocal queued
        await trio.lowlevel.checkpoint()
        queued += 1
        if queued == 2:
            raise SpoolError("not now")
        return SpoolStatistics(queued, 0, 0, 0, 0, 0, queued, 0, queued, 0, None)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trend.run, lambda: Moment(3, 2, 0.5, 0.25), count)
        await trio.sleep(2.5 * STEP)
        nursery.cancel_scope.cancel()
    series = trend.series()
    assert series["queued"] == [1, None, 3]
    assert series["open_sessions"] == [3, 3, 3]
    assert series["lag"] == [0.5, 0.5, 0.5]


async def test_the_overview_tells_what_waits_where_and_what_needs_a_person(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed() as bed:
        trend = bed.facts.trend = Trend(bed.facts.clock)
        bed.facts.bus.observe("trend", trend.observe)
        bed.facts.bus.publish(SessionOpened(time=0.0, session="s", listener="mx", peer="p", port=1))
        message = await bed.accept("carl@far.example")
        await bed.accept("dora@far.example")
        seen = (await bed.request("GET", "/api/v1/overview")).json()
        assert seen["queue"]["queued"] == 2
        assert seen["domains"] == [{"value": "far.example", "recipients": 2}]
        assert seen["causes"] == [{"value": "connect", "recipients": 2}]
        (site,) = seen["destinations"]
        assert (site["route"], site["deferred"]) == ("smtp:far.example", 2)
        assert sum(seen["series"]["sessions"]) == 1
        assert sum(seen["series"]["deferred"]) == 2
        assert seen["attention"] == []
        await bed.request(
            "POST",
            "/api/v1/queue",
            body=b'{"action": "hold", "selection": {"messages": ["%s"]}}' % message.encode(),
        )
        seen = (await bed.request("GET", "/api/v1/overview?series=no")).json()
        assert seen["attention"] == [
            {"level": "warning", "text": "1 recipients are held and wait for a decision"}
        ]
        assert "series" not in seen
