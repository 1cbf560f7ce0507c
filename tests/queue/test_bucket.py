"""Token buckets on given times."""

import pytest

from elemta.delivery import Allowance
from elemta.queue.bucket import Bucket


def bucket(amount: float, seconds: float, burst: float) -> Bucket:
    return Bucket(Allowance(amount, seconds, burst))


def test_the_burst_goes_at_once_and_the_rest_evenly() -> None:
    tokens = bucket(10, 5, 3)
    for _ in range(3):
        assert tokens.wait(1, 100.0) == 0
        tokens.take(1, 100.0)
    assert tokens.wait(1, 100.0) == pytest.approx(0.5)
    assert tokens.wait(1, 100.5) == 0
    tokens.take(1, 100.5)
    assert tokens.wait(1, 100.5) == pytest.approx(0.5)


def test_time_without_use_saves_up_no_more_than_the_burst() -> None:
    tokens = bucket(1, 1, 2)
    tokens.take(2, 0.0)
    assert tokens.credit(1000.0) == 2


def test_what_is_larger_than_the_bucket_goes_when_it_is_full_and_leaves_a_debt() -> None:
    tokens = bucket(10, 1, 20)
    assert tokens.wait(100, 0.0) == 0
    tokens.take(100, 0.0)
    assert tokens.wait(1, 0.0) == pytest.approx(8.1)
    assert tokens.wait(100, 0.0) == pytest.approx(10)


def test_what_did_not_go_is_given_back() -> None:
    tokens = bucket(1, 10, 1)
    tokens.take(1, 0.0)
    tokens.give_back(1, 1.0)
    assert tokens.wait(1, 1.0) == 0


def test_a_change_keeps_what_was_used() -> None:
    tokens = bucket(10, 1, 10)
    tokens.take(10, 0.0)
    tokens.change(Allowance(1, 1, 20), 0.0)
    assert tokens.wait(10, 0.0) == 0
    assert tokens.wait(20, 0.0) == pytest.approx(10)
