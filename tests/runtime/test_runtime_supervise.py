"""Crashes stay where they are: restarted with backoff, or reported and over. Virtual time."""

import functools
import sys

import pytest
import trio

from elemta.runtime import Backoff, Drain, Restart, contain, logging_to, supervise


class Crashes:
    """Collects reports."""

    def __init__(self):
        self.seen = []

    def __call__(self, name, error):
        self.seen.append((name, error, trio.current_time()))

    @property
    def times(self):
        return [time for _, _, time in self.seen]


class Child:
    """Runs a list of steps, one per start: seconds to live, then an error to raise or None to return."""

    def __init__(self, *steps):
        self.steps = list(steps)
        self.starts = []

    async def __call__(self):
        self.starts.append(trio.current_time())
        seconds, error = self.steps.pop(0)
        await trio.sleep(seconds)
        if error is not None:
            raise error


async def test_a_child_that_returns_is_done(autojump_clock):
    child, crashes = Child((5, None)), Crashes()
    await supervise("scheduler", child, on_crash=crashes)
    assert child.starts == [0]
    assert crashes.seen == []


async def test_a_crash_is_reported_bare_and_the_child_restarted(autojump_clock):
    error = ValueError("bug")
    child, crashes = Child((2, error), (0, None)), Crashes()
    await supervise("scheduler", child, on_crash=crashes)
    assert crashes.seen == [("scheduler", error, 2)]
    assert child.starts == [0, 3]


async def test_pauses_double_up_to_five_minutes(autojump_clock):
    child, crashes = Child(*[(0, ValueError())] * 12, (0, None)), Crashes()
    await supervise("scheduler", child, on_crash=crashes)
    pauses = [round(after - before) for before, after in zip(child.starts, child.starts[1:], strict=False)]
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]


async def test_a_quiet_time_starts_the_pauses_again(autojump_clock):
    child = Child((0, ValueError()), (0, ValueError()), (600, ValueError()), (599, ValueError()), (0, None))
    crashes = Crashes()
    await supervise("scheduler", child, on_crash=crashes)
    assert child.starts == [0, 1, 3, 604, 604 + 599 + 2]


def test_the_pause_never_overflows():
    assert Backoff().delay(10**6) == 300.0
    assert Backoff(first=0.5, longest=2.0).delay(1) == 0.5


async def test_an_error_from_a_nursery_of_the_child_is_reported_as_it_was_raised(autojump_clock):
    error = KeyError("inner")
    crashes = Crashes()

    async def child():
        async with trio.open_nursery() as outer, trio.open_nursery():
            outer.start_soon(fail)

    async def fail():
        raise error

    assert await contain("session", child, on_crash=crashes) is False
    assert [(name, seen) for name, seen, _ in crashes.seen] == [("session", error)]


async def test_several_errors_are_reported_as_a_group(autojump_clock):
    crashes = Crashes()

    async def child():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_fail_when_cancelled, KeyError("b"))
            nursery.start_soon(Child((1, ValueError("a"))))

    await contain("session", child, on_crash=crashes)
    [(_, group, _)] = crashes.seen
    assert isinstance(group, ExceptionGroup)
    assert {type(error) for error in group.exceptions} == {ValueError, KeyError}


async def _fail_together_with_cancel(error):
    """Fail in the nursery's child in the very moment in which a cancel from outside hits its body."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_fail_when_cancelled, error)
        await trio.sleep_forever()


async def _fail_when_cancelled(error):
    try:
        await trio.sleep_forever()
    finally:
        raise error


async def test_such_a_coincidence_is_a_base_exception_group(autojump_clock):
    with trio.move_on_after(5), pytest.raises(BaseExceptionGroup) as caught:
        await _fail_together_with_cancel(ValueError("late"))
    assert not isinstance(caught.value, ExceptionGroup)


@pytest.mark.parametrize("guard", [supervise, contain])
async def test_an_error_that_coincides_with_an_outer_cancel_is_reported_and_the_cancel_goes_on(
    autojump_clock, guard
):
    error, crashes = ValueError("late"), Crashes()
    with trio.move_on_after(5) as scope:
        await guard("session", functools.partial(_fail_together_with_cancel, error), on_crash=crashes)
        pytest.fail("the cancel was lost")
    assert scope.cancelled_caught
    assert [(name, seen) for name, seen, _ in crashes.seen] == [("session", error)]


@pytest.mark.parametrize("guard", [supervise, contain])
async def test_a_cancel_alone_is_no_crash(autojump_clock, guard):
    crashes = Crashes()
    with trio.move_on_after(5) as scope:
        await guard("session", trio.sleep_forever, on_crash=crashes)
    assert scope.cancelled_caught
    assert crashes.seen == []


@pytest.mark.parametrize("guard", [supervise, contain])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
async def test_what_is_no_error_goes_on(autojump_clock, guard, kind):
    crashes = Crashes()
    with pytest.raises((kind, BaseExceptionGroup)):
        await guard("session", Child((0, kind())), on_crash=crashes)
    assert crashes.seen == []


async def test_an_error_beside_an_interrupt_is_reported_and_the_interrupt_goes_on(autojump_clock):
    crashes = Crashes()
    both = BaseExceptionGroup("", [ValueError("x"), KeyboardInterrupt()])
    with pytest.raises(BaseExceptionGroup) as caught:
        await contain("session", Child((0, both)), on_crash=crashes)
    assert [type(error) for error in caught.value.exceptions] == [KeyboardInterrupt]
    assert [str(error) for _, error, _ in crashes.seen] == ["x"]


async def test_recursion_and_memory_errors_are_contained(autojump_clock):
    crashes = Crashes()

    async def recurse():
        def deeper():
            return deeper()

        deeper()

    assert await contain("session", recurse, on_crash=crashes) is False
    assert await contain("session", Child((0, MemoryError())), on_crash=crashes) is False
    assert [type(error) for _, error, _ in crashes.seen] == [RecursionError, MemoryError]


async def test_contain_runs_once_and_says_whether_it_was_sound(autojump_clock):
    crashes = Crashes()
    child = Child((1, None), (1, ValueError()))
    assert await contain("attempt", child, on_crash=crashes) is True
    assert await contain("attempt", child, on_crash=crashes) is False
    assert child.starts == [0, 1]


async def test_an_essential_child_raises_after_its_report(autojump_clock):
    error, crashes = ValueError("essential"), Crashes()
    with pytest.raises(ExceptionGroup) as caught:
        await supervise("spool", Child((1, error)), on_crash=crashes, restart=Restart.ESCALATE)
    assert caught.value.exceptions == (error,)
    assert crashes.times == [1]


async def test_an_essential_child_may_return(autojump_clock):
    crashes = Crashes()
    await supervise("spool", Child((1, None)), on_crash=crashes, restart=Restart.ESCALATE)
    assert crashes.times == []
    assert trio.current_time() == 1


async def test_cancelled_in_the_pause(autojump_clock):
    child = Child((0, ValueError()))
    with trio.move_on_after(0.5) as scope:
        await supervise("x", child, on_crash=Crashes())
    assert scope.cancelled_caught


async def test_a_report_that_fails_does_not_stop_the_restart_and_is_logged(autojump_clock):
    records = []

    class Sink:
        put = records.append

    def broken(name, error):
        raise RuntimeError("report broke")

    child = Child((0, ValueError("bug")), (0, None))
    with logging_to(Sink()):
        await supervise("scheduler", child, on_crash=broken)
    assert child.starts == [0, 1]
    [record] = records
    assert record["level"] == "error"
    assert record["task"] == "scheduler"
    assert record["error"] == "ValueError: bug"
    assert record["failure"] == "RuntimeError: report broke"


async def test_once_draining_a_crashed_child_is_not_restarted(autojump_clock):
    drain = Drain()
    drain.begin("SIGTERM", 25, 5)
    child = Child((1, ValueError()))
    await supervise("scheduler", child, on_crash=Crashes(), drain=drain)
    assert child.starts == [0]


async def test_a_drain_ends_the_pause(autojump_clock):
    drain = Drain()
    child = Child(*[(0, ValueError())] * 20)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(functools.partial(supervise, "x", child, on_crash=Crashes(), drain=drain))
        await trio.sleep(20)
        drain.begin("SIGTERM", 25, 5)
        start = trio.current_time()
    assert trio.current_time() == start
    assert child.starts == [0, 1, 3, 7, 15]


async def test_with_a_drain_that_never_begins_restarts_go_on(autojump_clock):
    child = Child((0, ValueError()), (0, None))
    await supervise("x", child, on_crash=Crashes(), drain=Drain())
    assert child.starts == [0, 1]


async def test_errors_leave_no_reference_behind(autojump_clock):
    error = ValueError("x")
    before = sys.getrefcount(error)
    child = Child((0, error))
    await contain("x", child, on_crash=lambda name, failure: None)
    error.__traceback__ = None
    assert sys.getrefcount(error) <= before + 1
