"""Counts and rates per key, with bounded memory."""

import pytest
import trio

from elemta.runtime import KeyedLimiter, RateLimiter, TrioWallClock, take_from_all


def test_each_key_has_its_own_places():
    limiter = KeyedLimiter(2)
    assert [limiter.acquire_nowait("a") for _ in range(3)] == [True, True, False]
    assert limiter.acquire_nowait("b")
    limiter.release("a")
    assert limiter.held("a") == 1
    assert limiter.acquire_nowait("a")


def test_keys_that_hold_nothing_take_no_memory():
    limiter = KeyedLimiter(2)
    for number in range(1000):
        assert limiter.acquire_nowait(number)
        limiter.release(number)
    assert limiter.statistics().keys == 0
    assert limiter.held(5) == 0


def test_the_number_of_keys_is_bounded():
    limiter = KeyedLimiter(5, keys=2)
    assert limiter.acquire_nowait("a")
    assert limiter.acquire_nowait("b")
    assert not limiter.acquire_nowait("c")
    assert limiter.acquire_nowait("a")
    limiter.release("b")
    assert limiter.acquire_nowait("c")


def test_releasing_what_is_not_held_is_an_error():
    limiter = KeyedLimiter(1)
    limiter.acquire_nowait("a")
    limiter.release("a")
    with pytest.raises(ValueError, match="'a' holds nothing"):
        limiter.release("a")


def test_the_limit_may_change_while_places_are_held():
    limiter = KeyedLimiter(3)
    for _ in range(3):
        limiter.acquire_nowait("a")
    limiter.limit = 1
    limiter.release("a")
    assert not limiter.acquire_nowait("a")
    limiter.release("a")
    limiter.release("a")
    assert limiter.acquire_nowait("a")


def test_statistics_of_places_name_the_busiest():
    limiter = KeyedLimiter(20)
    for number in range(15):
        for _ in range(number + 1):
            limiter.acquire_nowait(number)
    limiter.limit = 0
    limiter.acquire_nowait(0)
    statistics = limiter.statistics()
    assert (statistics.limit, statistics.keys, statistics.held, statistics.refused) == (0, 15, 120, 1)
    assert statistics.busiest[:2] == ((14, 15), (13, 14))
    assert len(statistics.busiest) == 10


class SetClock:
    def __init__(self):
        self.now = 1000.0

    def time(self):
        return self.now


async def test_a_burst_at_once_then_the_rate(autojump_clock):
    limiter = RateLimiter(rate=2.0, burst=3, clock=TrioWallClock())
    assert [limiter.allow("a") for _ in range(4)] == [True, True, True, False]
    assert limiter.wait_time("a") == pytest.approx(0.5)
    await trio.sleep(0.5)
    assert [limiter.allow("a") for _ in range(2)] == [True, False]
    await trio.sleep(3600)
    assert [limiter.allow("a") for _ in range(4)] == [True, True, True, False]


def test_amounts_and_refusals_that_take_nothing():
    limiter = RateLimiter(rate=1.0, burst=10, clock=SetClock())
    assert limiter.allow("a", 8)
    assert not limiter.allow("a", 3)
    assert limiter.allow("a", 2)
    assert limiter.wait_time("a", 4) == 4
    assert limiter.wait_time("a", 11) == float("inf")
    assert limiter.wait_time("never seen") == 0


def test_keys_do_not_share_a_bucket():
    limiter = RateLimiter(rate=1.0, burst=1, clock=SetClock())
    assert limiter.allow("a")
    assert limiter.allow("b")
    assert not limiter.allow("a")


def test_the_key_used_longest_ago_is_forgotten_first():
    limiter = RateLimiter(rate=1.0, burst=1, clock=SetClock(), keys=2)
    limiter.allow("a")
    limiter.allow("b")
    limiter.allow("a")  # refused, but used
    limiter.allow("c")  # forgets b
    assert not limiter.allow("a")
    assert limiter.allow("b")  # full again, forgets c
    statistics = limiter.statistics()
    assert (statistics.rate, statistics.burst, statistics.keys) == (1.0, 1, 2)
    assert (statistics.allowed, statistics.refused, statistics.forgotten) == (4, 2, 2)


def test_a_clock_that_is_set_back_takes_nothing_away():
    clock = SetClock()
    limiter = RateLimiter(rate=1.0, burst=5, clock=clock)
    limiter.allow("a", 3)
    clock.now -= 3600
    assert limiter.wait_time("a", 2) == 0
    assert limiter.allow("a", 2)
    assert not limiter.allow("a")
    clock.now += 1
    assert limiter.allow("a")


@pytest.mark.parametrize(
    "wrong", [{"rate": 0, "burst": 1}, {"rate": 1, "burst": 0}, {"rate": 1, "burst": 1, "keys": 0}]
)
def test_senseless_rates_are_refused(wrong):
    with pytest.raises(ValueError, match="at least"):
        RateLimiter(clock=SetClock(), **wrong)


def test_asking_whether_a_bucket_has_enough_takes_and_remembers_nothing():
    clock = SetClock()
    limiter = RateLimiter(rate=1.0, burst=2, clock=clock)
    assert limiter.has("a", 2)
    assert not limiter.has("a", 3)
    assert limiter.statistics().keys == 0
    limiter.allow("a", 2)
    assert not limiter.has("a")
    clock.now += 1
    assert limiter.has("a")
    assert not limiter.has("a", 2)


def test_a_refusal_that_is_told_keeps_its_key_from_being_forgotten():
    limiter = RateLimiter(rate=1.0, burst=1, clock=SetClock(), keys=2)
    limiter.allow("a")
    limiter.allow("b")
    limiter.refuse("a")
    limiter.refuse("never seen")
    limiter.allow("c")  # forgets b
    assert not limiter.has("a")
    assert limiter.has("b")
    assert limiter.statistics().refused == 2


def test_from_several_buckets_an_amount_is_taken_from_all_or_from_none():
    clock = SetClock()
    wide = RateLimiter(rate=1.0, burst=5, clock=clock)
    narrow = RateLimiter(rate=1.0, burst=2, clock=clock)
    buckets = [(wide, "net"), (narrow, "host")]
    assert [take_from_all(buckets) for _ in range(3)] == [None, None, 1]
    assert wide.wait_time("net", 3) == 0
    assert wide.wait_time("net", 4) == 1
    assert (wide.statistics().refused, narrow.statistics().refused) == (0, 1)
    assert take_from_all([(wide, "net"), (narrow, "other")], 2) is None
    assert take_from_all([(wide, "net"), (narrow, "third")], 2) == 0
    assert take_from_all([]) is None
