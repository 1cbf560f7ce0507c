"""One drain, one absolute deadline for all, on virtual time."""

import math

import trio
import trio.testing

from elemta.runtime import Drain


async def test_before_it_begins_there_is_no_deadline(autojump_clock):
    drain = Drain()
    assert not drain.draining
    assert drain.reason == ""
    assert drain.deadline == drain.hard_deadline == math.inf


async def test_begin_sets_absolute_deadlines_and_tells_all_who_wait(autojump_clock):
    drain = Drain()
    told = []

    async def watch(name):
        await drain.wait_draining()
        told.append((name, trio.current_time()))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch, "a")
        nursery.start_soon(watch, "b")
        await trio.sleep(10)
        with trio.testing.assert_no_checkpoints():
            drain.begin("SIGTERM", 25, 5)
    assert drain.draining
    assert drain.reason == "SIGTERM"
    assert (drain.deadline, drain.hard_deadline) == (35, 40)
    assert sorted(told) == [("a", 10), ("b", 10)]
    await drain.wait_draining()


async def test_a_second_begin_may_shorten_and_never_lengthens(autojump_clock):
    drain = Drain()
    drain.begin("SIGTERM", 25, 5)
    await trio.sleep(5)
    drain.begin("again", 60, 60)
    assert (drain.reason, drain.deadline, drain.hard_deadline) == ("SIGTERM", 25, 30)
    drain.begin("SIGINT", 0, 2)
    assert (drain.reason, drain.deadline, drain.hard_deadline) == ("SIGTERM", 5, 7)


async def test_attached_scopes_end_at_the_deadline_also_when_it_comes_nearer(autojump_clock):
    drain = Drain()
    ends = {}

    async def work(name, attach, own=math.inf):
        with trio.CancelScope(deadline=own) as scope:
            attach(scope)
            await trio.sleep_forever()
        ends[name] = trio.current_time()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work, "finish", drain.attach)
        nursery.start_soon(work, "hard", drain.attach_hard)
        nursery.start_soon(work, "own deadline", drain.attach, 3)
        await trio.sleep(1)
        drain.begin("SIGTERM", 25, 5)
        nursery.start_soon(work, "late", drain.attach)
        nursery.start_soon(work, "late hard", drain.attach_hard)
        await trio.sleep(9)
        drain.begin("SIGINT", 2, 1)
    assert ends == {"own deadline": 3, "finish": 12, "late": 12, "hard": 13, "late hard": 13}


async def test_a_nursery_is_cut_at_the_deadline_and_short_work_finishes(autojump_clock):
    drain = Drain()
    done = []

    async def session(seconds):
        await trio.sleep(seconds)
        done.append(seconds)

    async with trio.open_nursery() as nursery:
        drain.attach(nursery.cancel_scope)
        nursery.start_soon(session, 4)
        nursery.start_soon(session, 400)
        drain.begin("SIGTERM", 25, 5)
    assert done == [4]
    assert trio.current_time() == 25


async def test_scopes_are_not_kept_alive():
    drain = Drain()
    for _ in range(10):
        with trio.CancelScope() as scope:
            drain.attach(scope)
    del scope
    assert len(drain._scopes) == 0
