"""Overload: when it is seen, that it ends, and that it does not flutter."""

import pytest
import trio

from elemta.runtime import LoadGauge
from elemta.runtime.load import INTERVAL, WINDOW


class Loop:
    """A gauge that runs, on a clock that a test makes late."""

    def __init__(self, clock, nursery, **limits):
        self._clock = clock
        self.changes = []
        self.gauge = LoadGauge(
            lag_limit=limits.pop("lag_limit", 1.0),
            commit_limit=limits.pop("commit_limit", 2.0),
            on_change=self.changes.append,
        )
        self.commits = (0, 0.0)
        nursery.start_soon(self.gauge.run, lambda: self.commits)

    async def stall(self, seconds):
        """Something keeps the loop for that long."""
        await trio.testing.wait_all_tasks_blocked()
        self._clock.jump(seconds)
        await trio.testing.wait_all_tasks_blocked()

    def commit(self, seconds):
        self.commits = (self.commits[0] + 1, seconds)


@pytest.fixture
async def loop(autojump_clock, nursery):
    found = Loop(autojump_clock, nursery)
    await trio.sleep(1)
    return found


async def test_a_loop_that_is_on_time_is_not_overloaded(loop, autojump_clock):
    await trio.sleep(60)
    assert loop.gauge.overload() == ""
    statistics = loop.gauge.statistics()
    assert statistics.lag == pytest.approx(0.0, abs=1e-6)
    assert statistics.overloads == 0


async def test_one_slow_moment_sheds_nothing(loop, autojump_clock):
    await loop.stall(1.5)
    assert loop.gauge.overload() == ""
    assert loop.gauge.statistics().worst_lag == pytest.approx(1.5, abs=INTERVAL)


async def test_a_loop_that_is_late_all_the_time_is_overloaded(loop, autojump_clock):
    for _ in range(4):
        await loop.stall(3.0)
    assert loop.gauge.overload().startswith("processing is 2.")
    assert loop.gauge.overload().endswith(" s behind")
    (told,) = loop.changes
    assert told.startswith("processing is ")


async def test_overload_ends_only_when_the_window_has_no_bad_moment(loop, autojump_clock):
    for _ in range(4):
        await loop.stall(3.0)
    last = trio.current_time()
    while loop.gauge.overload():
        await trio.sleep(INTERVAL)
    assert WINDOW - 1 < trio.current_time() - last < WINDOW + 2
    assert loop.changes[-1] == ""
    assert len(loop.changes) == 2
    assert loop.gauge.statistics().overloads == 1


async def test_it_does_not_flutter_around_its_limit(loop, autojump_clock):
    for _ in range(100):
        await loop.stall(1.4)
        await trio.sleep(0.3)
    assert len(loop.changes) <= 1


async def test_slow_commits_are_overload(loop, autojump_clock):
    for _ in range(5):
        loop.commit(4.0)
        await trio.sleep(INTERVAL * 1.1)
    assert loop.gauge.overload().startswith("storing takes ")
    assert loop.gauge.statistics().worst_commit == 4.0


async def test_overload_by_commits_ends_though_nothing_is_committed_any_more(loop, autojump_clock):
    # who refuses mail commits nothing, and must not refuse for ever
    loop.commit(60.0)
    await trio.sleep(1)
    assert loop.gauge.overload() == "storing takes 60.0 s"
    await trio.sleep(60)
    assert loop.gauge.overload() == ""


async def test_what_was_committed_before_the_gauge_ran_does_not_count(autojump_clock, nursery):
    gauge = LoadGauge(lag_limit=1.0, commit_limit=1.0)
    nursery.start_soon(gauge.run, lambda: (7, 100.0))
    await trio.sleep(2)
    assert gauge.overload() == ""


async def test_commits_may_be_told_one_by_one(autojump_clock, nursery):
    gauge = LoadGauge(lag_limit=1.0, commit_limit=2.0)
    nursery.start_soon(gauge.run)
    for _ in range(3):
        gauge.observe_commit(0.001)
    assert gauge.overload() == ""
    gauge.observe_commit(10.0)
    assert gauge.overload() == "storing takes 10.0 s"
    await trio.sleep(60)
    assert gauge.overload() == ""


async def test_a_thousand_quick_commits_do_not_hide_a_slow_one(autojump_clock):
    gauge = LoadGauge(lag_limit=1.0, commit_limit=2.0)
    gauge.observe_commit(10.0)
    for number in range(1000):
        gauge.observe_commit(1.0 - number / 1000)
    assert gauge.overload() != ""
    assert len(gauge._commit._descending) < 5  # bounded memory


async def test_both_reasons_are_told(loop, autojump_clock):
    for _ in range(4):
        loop.commit(8.0)
        await loop.stall(3.0)
    assert loop.gauge.overload().count(", storing takes ") == 1


async def test_a_limit_of_zero_is_never_reached(autojump_clock, nursery):
    loop = Loop(autojump_clock, nursery, lag_limit=0.0, commit_limit=0.0)
    await trio.sleep(1)
    loop.commit(1000.0)
    await loop.stall(1000.0)
    await trio.sleep(1)
    assert loop.gauge.overload() == ""


async def test_other_limits_hold_at_once(loop, autojump_clock):
    loop.commit(1.9)
    await trio.sleep(10 * INTERVAL)
    assert loop.gauge.overload() == ""
    loop.gauge.set_limits(lag_limit=1.0, commit_limit=0.05)
    assert loop.gauge.overload() != ""
    loop.gauge.set_limits(lag_limit=0.0, commit_limit=0.0)
    assert loop.gauge.overload() == ""


async def test_the_window_takes_bounded_memory_while_it_gets_better_and_better(loop, autojump_clock):
    for number in range(200):
        loop.commit(1.9 - number / 1000)
        await trio.sleep(INTERVAL)
    assert len(loop.gauge._commit._descending) <= WINDOW / INTERVAL + 2


def test_asking_is_an_attribute_look_up():
    gauge = LoadGauge(lag_limit=1.0, commit_limit=1.0)
    assert gauge.overload() == ""
    gauge.set_limits(lag_limit=2.0, commit_limit=2.0)
    assert gauge.overload() == ""
