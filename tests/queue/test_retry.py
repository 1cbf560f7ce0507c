from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elemta.config import QueueConfig
from elemta.mail import DeliverBy, DeliverByMode
from elemta.queue import GiveUp, RetrySchedule, TryAgain

STEADY = QueueConfig(retry=(300.0, 600.0, 1200.0), retry_jitter=0.0)


def after(
    attempts: int, *, age: float = 0.0, config: QueueConfig = STEADY, **more: object
) -> TryAgain | GiveUp:
    arguments: dict[str, object] = {
        "received": 1_000_000.0,
        "now": 1_000_000.0 + age,
        "null_sender": False,
        "delay_noticed": False,
        "random": Random(1),
    }
    return RetrySchedule(config).after(attempts, **(arguments | more))  # type: ignore[arg-type]


@pytest.mark.parametrize(("attempts", "wait"), [(1, 300), (2, 600), (3, 1200), (4, 1200), (1000, 1200)])
def test_waits_follow_the_schedule_and_the_last_one_repeats(attempts: int, wait: float) -> None:
    assert after(attempts) == TryAgain(1_000_000.0 + wait)


def test_jitter_stays_within_its_part_and_varies() -> None:
    config = QueueConfig(retry=(1000.0,), retry_jitter=0.1)
    random = Random(2)
    dues = {after(1, config=config, random=random).due - 1_000_000.0 for _ in range(50)}  # type: ignore[union-attr]
    assert len(dues) == 50
    assert all(900 <= due <= 1100 for due in dues)


def test_given_up_when_the_lifetime_is_over() -> None:
    assert after(9, age=STEADY.lifetime) == GiveUp()
    assert isinstance(after(9, age=STEADY.lifetime - 1), TryAgain)


def test_the_last_attempt_falls_on_the_end_of_the_lifetime() -> None:
    assert after(9, age=STEADY.lifetime - 10).due == 1_000_000.0 + STEADY.lifetime  # type: ignore[union-attr]


def test_notices_have_a_lifetime_of_their_own() -> None:
    assert after(9, age=STEADY.bounce_lifetime, null_sender=True) == GiveUp()
    assert isinstance(after(9, age=STEADY.bounce_lifetime), TryAgain)


def test_lateness_is_told_once_and_never_to_the_null_sender() -> None:
    late = STEADY.delay_notice
    assert not after(3, age=late - 1).delay_notice  # type: ignore[union-attr]
    assert after(3, age=late).delay_notice  # type: ignore[union-attr]
    assert not after(3, age=late, delay_noticed=True).delay_notice  # type: ignore[union-attr]
    assert not after(3, age=late, null_sender=True).delay_notice  # type: ignore[union-attr]
    never = QueueConfig(retry=(300.0,), delay_notice=0.0)
    assert not after(3, age=late * 9, config=never).delay_notice  # type: ignore[union-attr]


def test_a_deadline_to_return_at_does_not_bring_the_word_about_delay_forward() -> None:
    late = STEADY.delay_notice
    by = DeliverBy(1_000_000.0 + 10 * late, DeliverByMode.RETURN)
    assert after(3, age=late - 10, deliver_by=by) == TryAgain(1_000_000.0 + late + 1190)
    assert after(3, age=late, deliver_by=by).delay_notice  # type: ignore[union-attr]


def test_an_attempt_falls_on_the_time_that_the_sender_named() -> None:
    by = DeliverBy(1_000_700.0, DeliverByMode.NOTIFY)
    assert after(2, age=600, deliver_by=by) == TryAgain(1_000_700.0)
    assert after(2, age=700, deliver_by=by) == TryAgain(1_001_300.0, delay_notice=True)
    assert after(2, age=700, deliver_by=by, delay_noticed=True) == TryAgain(1_001_300.0)


def test_a_suspension_puts_the_next_attempt_off() -> None:
    assert after(1, not_before=1_000_900.0) == TryAgain(1_000_900.0)


@given(
    attempts=st.integers(1, 10_000),
    age=st.floats(-900_000.0, 1e7),
    seed=st.integers(0, 1000),
)
def test_the_next_attempt_is_never_further_than_the_longest_wait(
    attempts: int, age: float, seed: int
) -> None:
    """Also with a wall clock that was set back behind the message's arrival."""
    now = 1_000_000.0 + age
    config = QueueConfig(retry=(300.0, 7200.0), retry_jitter=0.1)
    step = after(attempts, age=age, config=config, random=Random(seed))
    if isinstance(step, TryAgain):
        assert now < step.due <= now + 7200 * 1.1 + 1
