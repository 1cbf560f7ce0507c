"""The tree of tasks: what it shows of each, within which bounds."""

from __future__ import annotations

from collections.abc import Iterator

import trio

from elemta.runtime import TaskNote, TaskView, noted, noting_births, view_tasks


def each(view: TaskView) -> Iterator[TaskView]:
    yield view
    for child in view.children:
        yield from each(child)


def find(name: str) -> TaskView:
    (found,) = (view for view in each(view_tasks()) if view.name == name)
    return found


async def test_a_task_is_shown_with_its_age_its_deadline_and_what_it_waits_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def bounded() -> None:
        with trio.move_on_after(30):
            await trio.Event().wait()

    with noting_births():
        async with trio.open_nursery() as nursery:
            nursery.cancel_scope.deadline = trio.current_time() + 100
            nursery.start_soon(trio.sleep, 80, name="sleeper")
            nursery.start_soon(bounded, name="bounded")
            await trio.sleep(10)
            sleeper, limited = find("sleeper"), find("bounded")
            assert (sleeper.seconds, sleeper.seconds_left, sleeper.waits_for) == (10, 70, "time to pass")
            assert (limited.seconds, limited.seconds_left, limited.waits_for) == (10, 20, "an event")
            nursery.cancel_scope.cancel()


async def test_the_tree_shows_who_runs_inside_whom(autojump_clock: trio.testing.MockClock) -> None:
    async def parent() -> None:
        async with trio.open_nursery() as inner:
            inner.start_soon(trio.sleep_forever, name="inner 1")
            inner.start_soon(trio.sleep_forever, name="inner 2")

    with noting_births():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(parent, name="parent")
            await trio.sleep(1)
            shown = find("parent")
            assert shown.waits_for == "its children"
            assert sorted(child.name for child in shown.children) == ["inner 1", "inner 2"]
            nursery.cancel_scope.cancel()


async def test_a_task_can_say_more_of_itself(autojump_clock: trio.testing.MockClock) -> None:
    note = TaskNote("session", "abc", "192.0.2.1", "command", 3.0, 7.0)

    async def telling() -> None:
        with noted(lambda: note):
            await trio.sleep(5)
        await trio.sleep(5)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(telling, name="telling")
        await trio.sleep(1)
        assert find("telling").note == note
        await trio.sleep(5)
        assert find("telling").note is None


async def test_a_large_tree_is_cut(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(300):
            nursery.start_soon(trio.sleep_forever, name="one of many")
        await trio.sleep(1)
        views = list(each(view_tasks(most=1000, siblings=50)))
        assert sum(view.name == "one of many" for view in views) == 50
        assert sum(view.hidden for view in views) >= 250
        assert len(list(each(view_tasks(most=20, siblings=200)))) <= 20
        nursery.cancel_scope.cancel()


async def test_births_are_forgotten_with_their_tasks(autojump_clock: trio.testing.MockClock) -> None:
    from elemta.runtime.tree import _BIRTHS

    with noting_births():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 1)
            await trio.sleep(0.5)
            assert len(_BIRTHS.get()) == 1
        await trio.sleep(1)
        assert not _BIRTHS.get()
