"""What runs now, over HTTP: the tree of tasks, sessions and attempts, and the end of one of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from elemta.inbound import SessionView
from elemta.queue import AttemptView, Cancelled
from elemta.runtime import TaskView, view_tasks

from .operations import Operation, read_json, tell_audit
from .problems import BadRequest, Conflict, NotFound
from .shapes import Shape
from .steering import as_builtins, json_response
from .tokens import Scope

if TYPE_CHECKING:
    from .api import Facts

MOST_SHOWN = 1000
"""Sessions or attempts in one answer, the oldest."""

_NO_SESSION = "no such session, or it is over"
_AFTER_DOT = "the final dot was sent: the next hop may have the message, and ending this now could double it"


class Ending(Shape):
    """What ends a session or an attempt."""

    action: str
    """`close` for a session, `cancel` for an attempt."""
    even_after_dot: bool = False
    """End an attempt also where the next hop may have the message already."""


class TaskShown(Shape):
    """A task with those below it."""

    name: str
    kind: str
    """`task`, or what it is about: `session`, `attempt` …"""
    id: str
    text: str
    phase: str
    seconds: float | None
    seconds_left: float | None
    """Until its next deadline; null: none."""
    waits_for: str
    place: str
    """In the code."""
    hidden: int
    children: list[TaskShown]


class Tree(Shape):
    """Everything that runs."""

    time: float
    tree: TaskShown


class SessionShown(Shape):
    """A session."""

    id: str
    listener: str
    peer: str
    port: int
    phase: str
    seconds: float
    """Since it began."""
    seconds_left: float | None
    """Until its next deadline."""
    tls: bool
    commands: int
    messages: int
    account: str
    """Who has authenticated."""
    hello: str
    sender: str
    """Of the transaction that is open."""
    recipients: int
    message: str
    """The id that its message will have, once its body has begun."""
    octets_in: int


class SessionList(Shape):
    """Sessions that are open, the oldest first."""

    total: int
    sessions: list[SessionShown]


class SessionEnded(Shape):
    """A session is told that it is over."""

    session: str
    closed: bool


class AttemptShown(Shape):
    """An attempt that is under way."""

    id: str
    message: str
    recipients: list[str]
    sender: str
    route: str
    remote: str
    """Empty while there is no connection."""
    phase: str
    seconds: float
    """Since it began."""
    seconds_left: float | None
    """Until its next deadline."""
    dot_sent: bool
    """Whether the message may have been taken by now."""


class AttemptList(Shape):
    """Attempts that are under way, the oldest first."""

    total: int
    attempts: list[AttemptShown]


class AttemptEnded(Shape):
    """An attempt ends now; its recipients are deferred."""

    attempt: str
    cancelled: bool


def task_as_json(view: TaskView) -> dict[str, Any]:
    """A task with those below it. Times in seconds; null: none, or not known."""
    note = view.note
    left = view.seconds_left if note is None else min(view.seconds_left, note.seconds_left)
    return {
        "name": view.name,
        "kind": "task" if note is None else note.kind,
        "id": "" if note is None else note.id,
        "text": "" if note is None else note.text,
        "phase": "" if note is None else note.phase,
        "seconds": view.seconds if note is None or not note.seconds else note.seconds,
        "seconds_left": _finite(left),
        "waits_for": view.waits_for,
        "place": view.place,
        "hidden": view.hidden,
        "children": [task_as_json(child) for child in view.children],
    }


def session_as_json(view: SessionView) -> Any:
    """A session as listings show it."""
    return as_builtins(view) | {"seconds_left": _finite(view.seconds_left)}


def attempt_as_json(view: AttemptView) -> Any:
    """An attempt as listings show it."""
    return as_builtins(view) | {"seconds_left": _finite(view.seconds_left)}


def _finite(seconds: float) -> float | None:
    return seconds if seconds < math.inf else None


class _Tree:
    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    async def tree(self, _: Request) -> Response:
        return json_response({"time": self._facts.clock.time(), "tree": task_as_json(view_tasks())})

    async def sessions(self, _: Request) -> Response:
        views = self._facts.sessions()
        shown = [session_as_json(view) for view in views[:MOST_SHOWN]]
        return json_response({"total": len(views), "sessions": shown})

    async def session(self, request: Request) -> Response:
        id = request.path_params["session"]
        for view in self._facts.sessions():
            if view.id == id:
                return json_response(session_as_json(view))
        raise NotFound(_NO_SESSION)

    async def close_session(self, request: Request) -> Response:
        wish = await _ending(request, "close")
        if wish.even_after_dot:
            raise BadRequest("even_after_dot is about attempts")
        inbound = self._facts.inbound
        id = request.path_params["session"]
        if inbound is None or not inbound.close_session(id):
            raise NotFound(_NO_SESSION)
        tell_audit(request, f"session {id}")
        return json_response({"session": id, "closed": True})

    async def attempts(self, _: Request) -> Response:
        views = self._facts.queue.underway.views()
        shown = [attempt_as_json(view) for view in views[:MOST_SHOWN]]
        return json_response({"total": len(views), "attempts": shown})

    async def cancel_attempt(self, request: Request) -> Response:
        wish = await _ending(request, "cancel")
        id = request.path_params["attempt"]
        match self._facts.queue.underway.cancel(id, even_after_dot=wish.even_after_dot):
            case Cancelled.NOT_THERE:
                raise NotFound("no such attempt, or it is over")
            case Cancelled.AFTER_DOT:
                raise Conflict(_AFTER_DOT)
        tell_audit(request, f"attempt {id}")
        return json_response({"attempt": id, "cancelled": True})


async def _ending(request: Request, action: str) -> Ending:
    wish = await read_json(request, Ending)
    if wish.action != action:
        raise BadRequest(f"action is {action}")
    return wish


def tree_operations(facts: Facts) -> list[Operation]:
    """The paths of this module."""
    tree = _Tree(facts)
    return [
        Operation(
            id="showTree",
            method="GET",
            path="/api/v1/tree",
            handler=tree.tree,
            scope=Scope.READ,
            summary="The tree of tasks: what runs, for how long, and what it waits for",
            answer=Tree,
            tag="live",
        ),
        Operation(
            id="listSessions",
            method="GET",
            path="/api/v1/sessions",
            handler=tree.sessions,
            scope=Scope.READ,
            summary="Sessions that are open",
            answer=SessionList,
            tag="live",
        ),
        Operation(
            id="showSession",
            method="GET",
            path="/api/v1/sessions/{session}",
            handler=tree.session,
            scope=Scope.READ,
            summary="One session that is open",
            answer=SessionShown,
            problems=(404,),
            tag="live",
        ),
        Operation(
            id="closeSession",
            method="POST",
            path="/api/v1/sessions/{session}",
            handler=tree.close_session,
            scope=Scope.OPERATE,
            summary="End a session, with a word to the client",
            body=Ending,
            answer=SessionEnded,
            problems=(404,),
            tag="live",
        ),
        Operation(
            id="listAttempts",
            method="GET",
            path="/api/v1/attempts",
            handler=tree.attempts,
            scope=Scope.READ,
            summary="Attempts that are under way",
            answer=AttemptList,
            tag="live",
        ),
        Operation(
            id="cancelAttempt",
            method="POST",
            path="/api/v1/attempts/{attempt}",
            handler=tree.cancel_attempt,
            scope=Scope.OPERATE,
            summary="End an attempt; its recipients are deferred",
            body=Ending,
            answer=AttemptEnded,
            problems=(404, 409),
            tag="live",
        ),
    ]
