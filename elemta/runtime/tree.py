"""The live tree of tasks: who runs inside whom, since when, until when, and what each waits for.

Trio knows the tree, its deadlines and where each task stands; since when a task runs is noted by an
instrument that is called once as a task begins and once as it ends, and never in between. A task that
can say more of itself than its code shows (a session, an attempt) leaves a function that is asked when
somebody looks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TypeAlias

import attrs
import trio

MOST_TASKS = 1000
"""Tasks in one view: some 15 µs for each, during which nothing else runs."""
MOST_SIBLINGS = 200
"""Children of one task that are shown, the oldest."""
_DEEPEST = 100
_OURS = "elemta."
_CHILDREN = frozenset({"Nursery._nested_child_finished", "NurseryManager.__aexit__"})
_WORDS = {
    "Event.wait": "an event",
    "sleep_forever": "an event",
    "sleep": "time to pass",
    "sleep_until": "time to pass",
    "to_thread_run_sync": "a thread",
    "CapacityLimiter.acquire_on_behalf_of": "a free place",
    "MemoryReceiveChannel.receive": "another task's word",
    "MemorySendChannel.send": "another task to take something",
    "checkpoint": "its turn",
    "SignalReceiver.__anext__": "a signal",
    "EntryQueue.task": "calls from other threads",
}
"""What tasks wait for, by the function of Trio that they wait in."""


@attrs.frozen
class TaskNote:
    """What a task says of itself. Times are seconds."""

    kind: str
    """For machines: `session`, `attempt`."""
    id: str
    """By which it can be ended; empty: it cannot."""
    text: str
    """What it is about."""
    phase: str
    seconds: float
    """Since it began."""
    seconds_left: float
    """Until its next deadline; infinite: none of its own."""


OnNote: TypeAlias = Callable[[], TaskNote | None]


@attrs.frozen
class TaskView:
    """A task at one moment. Times are seconds."""

    name: str
    seconds: float | None
    """Since it began; None: it was there before anybody noted that."""
    seconds_left: float
    """Until the nearest deadline; infinite: there is none."""
    waits_for: str
    place: str
    """The innermost line of ours that it stands in, as `elemta.queue.scheduler:120`."""
    note: TaskNote | None
    children: tuple[TaskView, ...]
    hidden: int
    """Further children, which are not shown."""


_BIRTHS: trio.lowlevel.RunVar[dict[trio.lowlevel.Task, float]] = trio.lowlevel.RunVar("births")
_NOTES: trio.lowlevel.RunVar[dict[trio.lowlevel.Task, OnNote]] = trio.lowlevel.RunVar("notes")


class _Births(trio.abc.Instrument):
    """Notes when tasks begin. Trio calls nothing else of it, so a step of a task costs nothing more."""

    def __init__(self, births: dict[trio.lowlevel.Task, float]) -> None:
        self._births = births

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self._births[task] = trio.current_time()

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        self._births.pop(task, None)


@contextmanager
def noting_births() -> Generator[None, None, None]:
    """Note in this run of Trio, while the block runs, when tasks begin."""
    births: dict[trio.lowlevel.Task, float] = {}
    instrument = _Births(births)
    _BIRTHS.set(births)
    trio.lowlevel.add_instrument(instrument)
    try:
        yield
    finally:
        trio.lowlevel.remove_instrument(instrument)
        births.clear()


@contextmanager
def noted(describe: OnNote) -> Generator[None, None, None]:
    """Let `describe()` say what the present task is, while the block runs. It is sync and quick; None:
    there is nothing to say."""
    try:
        notes = _NOTES.get()
    except LookupError:
        notes = {}
        _NOTES.set(notes)
    task = trio.lowlevel.current_task()
    notes[task] = describe
    try:
        yield
    finally:
        notes.pop(task, None)


def view_tasks(most: int = MOST_TASKS, siblings: int = MOST_SIBLINGS) -> TaskView:
    """The tree of this run from its root, at most so many tasks of it. Sync."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    return _Looker(most, siblings).look(root, math.inf, 0)


class _Looker:
    """Goes through the tree once."""

    def __init__(self, most: int, siblings: int) -> None:
        self._left = most
        self._siblings = siblings
        self._now = trio.current_time()
        self._births = _BIRTHS.get({})
        self._notes = _NOTES.get({})

    def look(self, task: trio.lowlevel.Task, outer: float, depth: int) -> TaskView:
        self._left -= 1
        deadline = min(outer, _effective_deadline(task))
        waits_for, place = _position(task)
        describe = self._notes.get(task)
        note = None if describe is None else describe()
        children = []
        hidden = 0
        for nursery in task.child_nurseries:
            inner = min(deadline, nursery.cancel_scope.deadline)
            tasks = sorted(nursery.child_tasks, key=self._birth)
            for place_in_row, child in enumerate(tasks):
                if self._left <= 0 or place_in_row >= self._siblings or depth >= _DEEPEST:
                    hidden += len(tasks) - place_in_row
                    break
                children.append(self.look(child, inner, depth + 1))
        born = self._births.get(task)
        return TaskView(
            name=task.name,
            seconds=None if born is None else self._now - born,
            seconds_left=max(0.0, deadline - self._now),
            waits_for=waits_for,
            place=place,
            note=note,
            children=tuple(children),
            hidden=hidden,
        )

    def _birth(self, task: trio.lowlevel.Task) -> float:
        return self._births.get(task, 0.0)


def _effective_deadline(task: trio.lowlevel.Task) -> float:
    # Public is only the deadline of the present task. Where a later Trio has this no more, those of the
    # nurseries above remain.
    status = getattr(task, "_cancel_status", None)
    find = getattr(status, "effective_deadline", None)
    return math.inf if find is None else float(find())


def _position(task: trio.lowlevel.Task) -> tuple[str, str]:
    """What the task waits for and where, in words."""
    if task is trio.lowlevel.current_task():
        return "nothing: it runs", ""
    frames = [(frame, line) for frame, line in task.iter_await_frames()]
    if not frames:
        return "its turn", ""
    ours = [at for at, (frame, _) in enumerate(frames) if _module(frame).startswith(_OURS)]
    innermost = ours[-1] if ours else -1
    place = "" if innermost < 0 else f"{_module(frames[innermost][0])}:{frames[innermost][1]}"
    return _words([frame for frame, _ in frames[innermost + 1 :]], frames[innermost][0]), place


def _words(foreign: Sequence[FrameType], caller: FrameType) -> str:
    names = [frame.f_code.co_qualname for frame in foreign]
    if any(name in _CHILDREN for name in names):
        return "its children"
    for name in names:
        if name in _WORDS:
            return _WORDS[name]
        if name.endswith(".accept"):
            return "connections"
        if name.endswith((".receive_some", ".recv")):
            return "its peer"
        if name.endswith((".send_all", ".send")):
            return "its peer to take something"
    return names[0] if names else caller.f_code.co_qualname


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))
