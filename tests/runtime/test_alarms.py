"""Alarms ring exactly at their time, however often it was moved."""

from __future__ import annotations

import math

import trio

from elemta.runtime import Alarm
from elemta.runtime.alarms import _timer


def ringing(times: list[float]) -> Alarm:
    return Alarm(lambda: times.append(trio.current_time()))


async def test_it_rings_at_its_time(autojump_clock) -> None:
    times: list[float] = []
    ringing(times).set(trio.current_time() + 7)
    await trio.sleep(100)
    assert times == [7]


async def test_a_time_that_was_moved_later_counts(autojump_clock) -> None:
    times: list[float] = []
    alarm = ringing(times)
    for second in range(50):
        alarm.set(second + 10)
        await trio.sleep(1)
    await trio.sleep(100)
    assert times == [59]


async def test_a_time_that_was_moved_nearer_counts(autojump_clock) -> None:
    times: list[float] = []
    alarm = ringing(times)
    alarm.set(300)
    await trio.sleep(1)
    alarm.set(5)
    await trio.sleep(1000)
    assert times == [5]


async def test_the_nearest_of_many_rings_first(autojump_clock) -> None:
    times: list[float] = []
    for second in (30, 10, 20):
        ringing(times).set(second)
    await trio.sleep(100)
    assert times == [10, 20, 30]


async def test_a_time_that_has_passed_rings_at_once(autojump_clock) -> None:
    times: list[float] = []
    await trio.sleep(3)
    ringing(times).set(2)
    assert times == [3]


async def test_a_closed_one_is_silent_and_may_be_set_again(autojump_clock) -> None:
    times: list[float] = []
    alarm = ringing(times)
    alarm.set(5)
    alarm.close()
    await trio.sleep(10)
    assert times == []
    alarm.set(12)
    await trio.sleep(10)
    assert times == [12]
    alarm.set(math.inf)
    await trio.sleep(10)
    assert times == [12]


async def test_bookings_of_no_use_do_not_pile_up(autojump_clock) -> None:
    times: list[float] = []
    kept = ringing(times)
    kept.set(5000)
    for _ in range(3000):
        alarm = ringing(times)
        alarm.set(300)
        alarm.close()
        kept.set(kept.time - 1)
    assert len(_timer()._bookings) < 600
    await trio.sleep(10_000)
    assert times == [2000]


async def test_it_ends_a_wait_by_cancelling_its_scope(autojump_clock) -> None:
    with trio.CancelScope() as scope:
        alarm = Alarm(lambda: scope.cancel(reason="late"))
        alarm.set(4)
        await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() == 4
