"""Brakes on guessing: waits, who is not held back, parallel attempts, memory, restarts."""

from __future__ import annotations

import pytest
import trio
from auth_bed import DictMemo, SteadyClock, no_delay

from elemta.auth import Throttle
from elemta.auth.throttle import Attempt, Blocked
from elemta.runtime import TrioWallClock

ATTACKER = "198.51.100.7"
HOME = "203.0.113.5"


@pytest.fixture
def clock() -> SteadyClock:
    return SteadyClock()


def throttle(clock: object, memo: DictMemo | None = None, **settings: object) -> Throttle:
    table = settings.pop("table", 1000)
    return Throttle(no_delay(**{"free_failures": 3, **settings}), clock, memo, table=table)  # type: ignore[arg-type]


async def fail(brakes: Throttle, name: str, peer: str, times: int = 1) -> None:
    for _ in range(times):
        attempt = await brakes.enter(name, peer)
        assert isinstance(attempt, Attempt)
        attempt.failed()


async def succeed(brakes: Throttle, name: str, peer: str) -> None:
    attempt = await brakes.enter(name, peer)
    assert isinstance(attempt, Attempt)
    attempt.succeeded()


async def wait_of(brakes: Throttle, name: str, peer: str) -> float:
    """Seconds that an attempt would have to wait; one that is let in leaves no trace."""
    attempt = await brakes.enter(name, peer)
    if isinstance(attempt, Blocked):
        return attempt.seconds
    attempt.withdrawn()
    return 0.0


async def test_the_wait_doubles_with_each_failure_up_to_its_bound(clock: SteadyClock) -> None:
    brakes = throttle(clock, longest_wait=100.0)
    await fail(brakes, "", ATTACKER, 3)
    waits = []
    for _ in range(9):
        waits.append(await wait_of(brakes, "", ATTACKER))
        clock.now += waits[-1]
        await fail(brakes, "", ATTACKER)
    assert waits == [1, 2, 4, 8, 16, 32, 64, 100, 100]


async def test_an_attempt_that_is_refused_does_not_make_the_wait_longer(clock: SteadyClock) -> None:
    brakes = throttle(clock)
    await fail(brakes, "", ATTACKER, 3)
    clock.now += 0.25
    assert [await wait_of(brakes, "", ATTACKER) for _ in range(5)] == [0.75] * 5
    assert brakes.statistics().blocked == 5


async def test_failures_are_forgiven_one_every_ten_minutes(clock: SteadyClock) -> None:
    brakes = throttle(clock)
    await fail(brakes, "", ATTACKER, 3)
    clock.now += 600 * 3
    await fail(brakes, "", ATTACKER, 3)
    assert await wait_of(brakes, "", ATTACKER) == 1


async def test_the_account_is_protected_from_guesses_from_everywhere_but_for_a_minute_at_most(
    clock: SteadyClock,
) -> None:
    brakes = throttle(clock)
    for number in range(20):
        clock.now += 61
        await fail(brakes, "alice", f"198.51.{number}.7")
    assert await wait_of(brakes, "alice", "192.0.2.1") == 60
    assert await wait_of(brakes, "bob", "192.0.2.1") == 0


async def test_an_address_that_has_logged_in_before_is_not_locked_out_by_others(clock: SteadyClock) -> None:
    brakes = throttle(clock)
    await succeed(brakes, "alice", HOME)
    await fail(brakes, "alice", ATTACKER, 3)  # the account is braked …
    await fail(brakes, "bob", HOME, 3)  # … and a neighbour behind the same address guesses
    assert await wait_of(brakes, "alice", "192.0.2.1") > 0
    assert await wait_of(brakes, "carol", HOME) > 0
    assert await wait_of(brakes, "alice", HOME) == 0


async def test_a_known_address_has_a_brake_of_its_own(clock: SteadyClock) -> None:
    brakes = throttle(clock)
    await succeed(brakes, "alice", HOME)
    await fail(brakes, "alice", HOME, 3)
    blocked = await brakes.enter("alice", HOME)
    assert blocked == Blocked("known", 1)
    assert await wait_of(brakes, "bob", HOME) == 0
    assert await wait_of(brakes, "alice", ATTACKER) == 0
    for _ in range(20):
        clock.now += 60
        await fail(brakes, "alice", HOME)
    assert await wait_of(brakes, "alice", HOME) == 60  # not an hour


async def test_a_login_does_not_wipe_out_what_the_address_has_done(clock: SteadyClock) -> None:
    brakes = throttle(clock)
    await fail(brakes, "alice", ATTACKER, 2)
    await succeed(brakes, "mallory", ATTACKER)
    await fail(brakes, "alice", ATTACKER)
    assert await wait_of(brakes, "bob", ATTACKER) == 1


async def test_an_address_is_no_longer_known_after_three_months(clock: SteadyClock) -> None:
    brakes = throttle(clock)
    await succeed(brakes, "alice", HOME)
    clock.now += 91 * 86400
    await fail(brakes, "alice", ATTACKER, 3)
    assert await wait_of(brakes, "alice", HOME) == 1


async def test_a_network_is_braked_with_four_times_the_allowance(clock: SteadyClock) -> None:
    brakes = throttle(clock)
    for number in range(12):
        await fail(brakes, f"user{number}", f"198.51.100.{number}")
    assert await brakes.enter("bob", "198.51.100.200") == Blocked("network", 1)
    assert await wait_of(brakes, "bob", "198.51.101.1") == 0


async def test_an_ipv6_client_is_its_64_bit_network(clock: SteadyClock) -> None:
    brakes = throttle(clock)
    for number in range(3):
        await fail(brakes, "", f"2001:db8:1:2::{number:x}")
    assert await brakes.enter("bob", "2001:db8:1:2:ffff::1") == Blocked("address", 1)
    assert await wait_of(brakes, "bob", "2001:db8:1:3::1") == 0
    await succeed(brakes, "alice", "2001:db8:9:9::1")
    await fail(brakes, "alice", ATTACKER, 3)
    assert await wait_of(brakes, "alice", "2001:db8:9:9::abcd") == 0


async def test_ipv4_in_ipv6_is_the_same_client(clock: SteadyClock) -> None:
    brakes = throttle(clock)
    await fail(brakes, "", ATTACKER, 3)
    assert await wait_of(brakes, "", f"::ffff:{ATTACKER}") == 1


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "unix"])
async def test_programs_on_this_machine_have_the_allowance_of_many_and_wait_a_minute_at_most(
    clock: SteadyClock, peer: str
) -> None:
    brakes = throttle(clock)
    for number in range(8):
        await fail(brakes, f"user{number}", peer)
    await fail(brakes, "alice", peer, 3)
    assert await brakes.enter("alice", peer) == Blocked("account", 1)
    assert await wait_of(brakes, "bob", peer) == 0
    await fail(brakes, "", peer)
    assert await brakes.enter("bob", peer) == Blocked("address", 1)
    for _ in range(20):
        clock.now += 60
        await fail(brakes, "", peer)
    assert await wait_of(brakes, "bob", peer) == 60


async def test_the_same_wrong_password_again_is_no_new_guess(clock: SteadyClock) -> None:
    brakes = throttle(clock)
    for _ in range(10):
        attempt = await brakes.enter("alice", HOME)
        assert isinstance(attempt, Attempt)
        attempt.failed(b"old password")
    assert await wait_of(brakes, "alice", HOME) == 0
    for guess in (b"1", b"2"):
        attempt = await brakes.enter("alice", HOME)
        assert isinstance(attempt, Attempt)
        attempt.failed(guess)
    assert await wait_of(brakes, "alice", HOME) == 1


async def test_an_attempt_without_a_verdict_counts_and_a_second_verdict_is_a_bug(clock: SteadyClock) -> None:
    brakes = throttle(clock, free_failures=1)
    attempt = await brakes.enter("alice", HOME)
    assert isinstance(attempt, Attempt)
    with pytest.raises(KeyError), attempt:
        raise KeyError
    assert await wait_of(brakes, "alice", HOME) == 1
    with pytest.raises(AssertionError):
        attempt.succeeded()
    clock.now += 2
    attempt = await brakes.enter("alice", HOME)
    assert isinstance(attempt, Attempt)
    with attempt:
        attempt.withdrawn()


async def test_many_attempts_at_once_are_no_way_round(autojump_clock: object) -> None:
    brakes = throttle(TrioWallClock())
    looked_at = 0
    blocked = 0

    async def guess() -> None:
        nonlocal looked_at, blocked
        attempt = await brakes.enter("alice", ATTACKER)
        if isinstance(attempt, Blocked):
            blocked += 1
            return
        with attempt:
            looked_at += 1
            await trio.sleep(0.01)
            attempt.failed()

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(guess)
    assert looked_at == 3
    assert blocked == 47


async def test_many_right_logins_at_once_only_stand_in_line(autojump_clock: object) -> None:
    brakes = throttle(TrioWallClock())
    done = 0

    async def log_in() -> None:
        nonlocal done
        attempt = await brakes.enter("alice", HOME)
        assert isinstance(attempt, Attempt)
        with attempt:
            await trio.sleep(0.01)
            attempt.succeeded()
            done += 1

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(log_in)
    assert done == 50
    assert not brakes._inside
    assert not brakes._lines


async def test_who_gives_up_in_the_line_leaves_nothing_behind(autojump_clock: object) -> None:
    brakes = throttle(TrioWallClock(), free_failures=1)
    attempt = await brakes.enter("alice", HOME)
    assert isinstance(attempt, Attempt)
    with trio.move_on_after(1) as scope:
        await brakes.enter("alice", HOME)
    assert scope.cancelled_caught
    attempt.withdrawn()
    assert await wait_of(brakes, "alice", HOME) == 0


async def test_tables_are_bounded(clock: SteadyClock) -> None:
    brakes = throttle(clock, table=10)
    for number in range(50):
        await fail(brakes, f"user{number}", f"198.51.{number}.7")
        await succeed(brakes, f"user{number}", f"203.0.{number}.7")
    statistics = brakes.statistics()
    assert statistics.buckets == 10
    assert statistics.known == 10
    assert statistics.forgotten > 0


async def test_a_restart_forgets_nothing_that_matters(clock: SteadyClock) -> None:
    memo = DictMemo()
    before = throttle(clock, memo)
    await succeed(before, "alice", HOME)
    await fail(before, "alice", ATTACKER, 3)
    after = throttle(clock, memo)
    assert await wait_of(after, "alice", "192.0.2.1") == 1
    assert await wait_of(after, "bob", ATTACKER) == 1
    assert await wait_of(after, "alice", HOME) == 0


async def test_a_single_mistake_and_a_second_login_are_not_written_down(clock: SteadyClock) -> None:
    memo = DictMemo()
    brakes = throttle(clock, memo)
    await fail(brakes, "alice", ATTACKER)
    assert memo.values == {}
    await succeed(brakes, "alice", HOME)
    written = dict(memo.values)
    clock.now += 3600
    await succeed(brakes, "alice", HOME)
    assert memo.values == written
    clock.now += 86400
    await succeed(brakes, "alice", HOME)
    assert memo.values != written


async def test_the_memo_gets_no_names_and_no_addresses(clock: SteadyClock) -> None:
    memo = DictMemo()
    brakes = throttle(clock, memo)
    await succeed(brakes, "alice", HOME)
    await fail(brakes, "alice", ATTACKER, 3)
    keys = " ".join(memo.values)
    assert all(key.startswith("auth/") for key in memo.values)
    for secret in ("alice", "203.0", "198.51"):
        assert secret not in keys
    for key, (_, expires) in memo.values.items():
        assert clock.now < expires <= clock.now + 90 * 86400, key


async def test_damage_in_the_memo_is_as_nothing(clock: SteadyClock) -> None:
    memo = DictMemo()
    brakes = throttle(clock, memo)
    await succeed(brakes, "alice", HOME)
    await fail(brakes, "alice", ATTACKER, 3)
    memo.values = {key: (b"?", expires) for key, (_, expires) in memo.values.items()}
    assert await wait_of(throttle(clock, memo), "alice", ATTACKER) == 0


async def test_a_memo_that_does_not_answer_holds_nobody_up(autojump_clock: object) -> None:
    memo = DictMemo()
    memo.slow = True
    brakes = throttle(TrioWallClock(), memo)
    with trio.fail_after(3):
        await succeed(brakes, "alice", HOME)


async def test_a_clock_that_is_set_back_makes_no_wait_longer_than_it_is(clock: SteadyClock) -> None:
    brakes = throttle(clock)
    await fail(brakes, "", ATTACKER, 3)
    clock.now -= 86400
    assert await wait_of(brakes, "", ATTACKER) == 1
