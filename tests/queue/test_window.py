from elemta.queue import ConcurrencyWindow


def test_starts_at_the_initial_size_but_never_above_the_limit() -> None:
    assert ConcurrencyWindow(5, 20).size == 5
    assert ConcurrencyWindow(5, 2).size == 2


def test_a_cohort_of_successes_adds_one_connection() -> None:
    window = ConcurrencyWindow(5, 20)
    for _ in range(6):
        window.success()
    assert window.size == 6


def test_grows_to_the_limit_and_no_further() -> None:
    window = ConcurrencyWindow(1, 3)
    for _ in range(100):
        window.success()
    assert window.size == 3


def test_failures_shrink_it_to_one() -> None:
    window = ConcurrencyWindow(5, 20)
    for _ in range(100):
        window.failure()
    assert window.size == 1


def test_dead_after_three_failed_cohorts_without_a_success() -> None:
    window = ConcurrencyWindow(1, 20)
    window.failure()
    window.failure()
    assert not window.is_dead
    window.failure()
    assert window.is_dead


def test_a_success_between_them_keeps_it_alive() -> None:
    window = ConcurrencyWindow(1, 20)
    for _ in range(10):
        window.failure()
        window.failure()
        window.success()
    assert not window.is_dead


def test_revives_carefully() -> None:
    window = ConcurrencyWindow(5, 20)
    while not window.is_dead:
        window.failure()
    window.revive()
    assert not window.is_dead
    assert window.size == 1
