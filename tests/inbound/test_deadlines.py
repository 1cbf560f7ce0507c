"""The bookkeeping of deadlines, by itself."""

import math

import pytest
import trio

from elemta.inbound.deadlines import BodyPace, Deadlines, Expiry, Phase
from elemta.runtime import Drain


@pytest.mark.parametrize(
    ("phase", "transaction", "session", "drain", "who", "when"),
    [
        (5, 10, 20, 30, Expiry.PHASE, 5),
        (25, 10, 20, 30, Expiry.TRANSACTION, 10),
        (25, math.inf, 20, 30, Expiry.SESSION, 20),
        (math.inf, math.inf, 40, 30, Expiry.DRAIN, 30),
    ],
)
async def test_the_earliest_deadline_ends_the_scope(
    autojump_clock, phase: float, transaction: float, session: float, drain: float, who: Expiry, when: float
):
    stop = Drain()
    stop.begin("test", drain, 5)
    deadlines = Deadlines(session, stop)
    with deadlines.scope:
        deadlines.begin_transaction(transaction)
        deadlines.enter(Phase.COMMAND, phase)
        await trio.sleep_forever()
    assert deadlines.scope.cancelled_caught
    assert trio.current_time() == when
    assert deadlines.expired() is who


async def test_entering_a_phase_leaves_the_deadline_of_the_last_one_behind(autojump_clock):
    deadlines = Deadlines(1000, Drain())
    with deadlines.scope:
        deadlines.enter(Phase.COMMAND, 10)
        await trio.sleep(9)
        deadlines.enter(Phase.WRITE, 10)
        await trio.sleep(9)
        deadlines.begin_transaction(5)
        deadlines.end_transaction()
        deadlines.enter(Phase.WORK)
        await trio.sleep(900)
    assert not deadlines.scope.cancelled_caught


def test_a_body_may_take_the_idle_time_where_no_rate_is_asked():
    pace = BodyPace(300, 0)
    assert pace.allowance() == 300
    pace.received(1, 299)
    assert pace.allowance() == 300


def test_a_slow_body_has_until_the_minute_is_over():
    pace = BodyPace(300, 500)
    assert pace.allowance() == 60
    pace.received(29_999, 20)
    assert pace.allowance() == 40
    pace.received(1, 10)  # enough for this minute: the next one decides
    assert pace.allowance() == 90


def test_each_minute_is_counted_anew():
    pace = BodyPace(300, 500)
    pace.received(1_000_000, 59)
    assert pace.allowance() == 61
    pace.received(10, 41)  # 100 s have passed: 40 s into the second minute, with 10 octets
    assert pace.allowance() == 20


def test_a_short_idle_time_goes_before_the_rate():
    assert BodyPace(30, 500).allowance() == 30


def test_only_waiting_for_the_client_counts():
    pace = BodyPace(300, 500)
    for _ in range(1000):
        pace.received(1, 0.0)
    assert pace.allowance() == 60
