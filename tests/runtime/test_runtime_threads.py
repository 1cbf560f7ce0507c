"""Threads by purpose. Real threads, so no virtual time here, but for work in place."""

import threading
import time

import pytest
import trio
import trio.testing

from elemta.runtime import ThreadPool, ThreadPools, run_in_thread
from elemta.runtime.threads import check_cancelled, in_place


async def test_the_result_and_the_error_come_back():
    pool = ThreadPool("sums", 1)
    assert await run_in_thread(pool, divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await run_in_thread(pool, divmod, 7, 0)


async def test_threads_carry_the_name_of_their_pool():
    assert (
        await run_in_thread(ThreadPool("hashing", 1), lambda: threading.current_thread().name)
        == "elemta-hashing"
    )


async def test_a_pool_bounds_its_threads_and_no_other():
    pools = ThreadPools()
    slow, quick = pools.open("slow", 1), pools.open("quick", 1)
    gate = threading.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_in_thread, slow, gate.wait)
        nursery.start_soon(run_in_thread, slow, gate.wait)
        await trio.testing.wait_all_tasks_blocked()
        assert slow.statistics().running == 1
        assert slow.statistics().waiting == 1
        assert await run_in_thread(quick, int, "5") == 5
        assert [(each.name, each.size, each.running) for each in pools.statistics()] == [
            ("slow", 1, 1),
            ("quick", 1, 0),
        ]
        gate.set()


async def test_cancelled_before_it_starts_it_never_ran():
    ran = []
    with trio.CancelScope() as scope:
        scope.cancel()
        await run_in_thread(ThreadPool("effects", 1), ran.append, 1)
    assert scope.cancelled_caught
    assert ran == []


async def test_cancelled_while_it_runs_it_is_waited_for_and_its_result_is_kept():
    gate = threading.Event()
    results = []

    async def caller(scope):
        with scope:
            results.append(await run_in_thread(ThreadPool("effects", 1), gate.wait, 4))
            await trio.lowlevel.checkpoint()
            results.append("not reached")

    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()
        nursery.start_soon(caller, scope)
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert results == []
        gate.set()
    assert results == [True]
    assert scope.cancelled_caught


def test_pool_names_are_taken_once():
    pools = ThreadPools()
    pool = pools.open("spool", 1)
    assert pools["spool"] is pool
    with pytest.raises(ValueError, match="spool"):
        pools.open("spool", 2)


async def test_in_place_the_clock_of_a_test_does_not_jump_while_a_function_runs(
    autojump_clock: trio.testing.MockClock,
) -> None:
    def work() -> str:
        time.sleep(0.005)
        check_cancelled()
        return threading.current_thread().name

    pool, names = ThreadPool("places", 1), []

    async def starter() -> None:
        in_place.set(True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)

    async def child() -> None:
        before = trio.current_time()
        names.append(await run_in_thread(pool, work))
        assert trio.current_time() == before

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 3600)
        nursery.start_soon(starter)
    assert names == [threading.current_thread().name]


async def test_an_abandoned_thread_keeps_its_place_to_its_end():
    pool, gate = ThreadPool("effects", 1), threading.Event()
    with trio.move_on_after(0.01) as scope:
        await run_in_thread(pool, gate.wait, 4, abandon_on_cancel=True)
    assert scope.cancelled_caught
    assert pool.statistics().running == 1
    gate.set()
    with trio.fail_after(4):
        while pool.statistics().running:
            await trio.sleep(0.001)
