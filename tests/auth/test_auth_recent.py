"""Recently checked passwords: for how long, how many, and for whom they count."""

from __future__ import annotations

from auth_bed import SteadyClock

from elemta.auth.recent import RecentChecks, Verdict

STATE = b"s" * 16


def test_a_verdict_is_known_for_a_while_for_the_same_account_state_and_password_only() -> None:
    clock = SteadyClock()
    recent = RecentChecks(b"k" * 32, 300.0, clock)
    recent.remember("tim", STATE, "secret", Verdict("password"))
    recent.remember("tim", STATE, "wrong", Verdict(None))
    assert recent.find("tim", STATE, "secret") == Verdict("password")
    assert recent.find("tim", STATE, "wrong") == Verdict(None)
    assert recent.find("tim", STATE, "other") is None
    assert recent.find("ann", STATE, "secret") is None
    assert recent.find("tim", b"t" * 16, "secret") is None
    assert recent.find("ti", STATE, "msecret") is None
    clock.now += 299
    assert recent.find("tim", STATE, "secret") == Verdict("password")
    clock.now += 1
    assert recent.find("tim", STATE, "secret") is None
    assert len(recent) == 1


def test_a_clock_that_is_set_back_ends_it() -> None:
    clock = SteadyClock()
    recent = RecentChecks(b"k" * 32, 300.0, clock)
    recent.remember("tim", STATE, "secret", Verdict("password"))
    clock.now -= 1
    assert recent.find("tim", STATE, "secret") is None


def test_it_can_be_turned_off() -> None:
    recent = RecentChecks(b"k" * 32, 0.0, SteadyClock())
    recent.remember("tim", STATE, "secret", Verdict("password"))
    assert len(recent) == 0


def test_it_is_bounded_and_the_oldest_go_first() -> None:
    recent = RecentChecks(b"k" * 32, 300.0, SteadyClock(), size=2)
    for password in ("a", "b", "c"):
        recent.remember("tim", STATE, password, Verdict("password"))
    assert len(recent) == 2
    assert recent.find("tim", STATE, "a") is None
    assert recent.find("tim", STATE, "c") is not None
