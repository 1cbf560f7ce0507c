"""The Starlette application behind the admin port: all operations, and the guard in front of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import h11
import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from elemta.spool import SpoolError

from .api import Facts
from .dashboard import page_operations
from .guard import Guard
from .http import Application
from .openapi import PATH, make_document
from .operations import Operation, Router
from .overview import overview_operations
from .plugins import plugin_operations
from .problems import Problem
from .resources import (
    account_operations,
    control_operations,
    destination_operations,
    dns_operations,
    flight_operations,
    message_operations,
    queue_operations,
    server_operations,
    suppression_operations,
)
from .steering import steering_operations
from .timeline import timeline_operations
from .tokens import Scope
from .tree import tree_operations

_Handlers: TypeAlias = dict[
    Any, Callable[[Request, Exception], Awaitable[Response]]
]  # Any: statuses and classes


def all_operations(facts: Facts) -> list[Operation]:
    """Everything the admin port does, the WebSocket aside."""
    return [
        *server_operations(facts),
        *message_operations(facts),
        *control_operations(facts),
        *queue_operations(facts),
        *steering_operations(facts.queue, facts.spool),
        *tree_operations(facts),
        *overview_operations(facts),
        *timeline_operations(facts),
        *flight_operations(facts),
        *destination_operations(facts),
        *dns_operations(facts),
        *account_operations(facts),
        *suppression_operations(facts),
        *plugin_operations(facts),
        *page_operations(),
    ]


def build_application(facts: Facts, guard: Guard) -> Application:
    """The ASGI application, with the guard in front of it."""
    operations = all_operations(facts)
    document = b""

    # Starlette awaits a handler, and runs one that is not async in a thread.
    async def openapi(_: Request) -> Response:  # noqa: ASYNC124
        nonlocal document
        document = document or msgspec.json.encode(make_document(operations, facts.version))
        return Response(document, media_type="application/json")

    operations.append(
        Operation(
            id="openapi",
            method="GET",
            path=PATH,
            handler=openapi,
            scope=Scope.READ,
            summary="This document",
            answer=dict[str, Any],
        )
    )
    routes = Router(guard, facts.bus, facts.clock).routes(operations)
    # Paths that are open to all; on others a stranger does not even learn whether they are there.
    open_to_all = {operation.path for operation in operations if operation.scope is None}
    open_paths = tuple(route.path_regex for route in routes if route.path in open_to_all)
    starlette = Starlette(routes=routes, exception_handlers=_HANDLERS)

    async def application(scope: Any, receive: Any, send: Any) -> None:  # Any: ASGI
        peer, reached = scope["client"][0], scope["server"][0]
        try:
            headers = dict(scope["headers"])
            access = guard.admit(headers, peer=peer, trusted=scope["elemta.trusted"], reached=reached)
            if access is None and not any(path.match(scope["path"]) for path in open_paths):
                raise guard.stranger(peer)
        except Problem as problem:
            await problem.response()(scope, receive, send)
            return
        scope["elemta.access"] = access
        await starlette(scope, receive, send)

    return application


async def _problem(_: Request, error: Exception) -> Response:  # noqa: ASYNC124 - as above
    assert isinstance(error, Problem)
    return error.response()


async def _of_starlette(_: Request, error: Exception) -> Response:  # noqa: ASYNC124
    """No such path, or not with this method."""
    assert isinstance(error, HTTPException)
    return Problem(error.status_code, _TEXTS.get(error.status_code, error.detail), error.headers).response()


async def _storage_trouble(_: Request, error: Exception) -> Response:  # noqa: ASYNC124
    return Problem(503, str(error)).response()


async def _no_http(_: Request, error: Exception) -> Response:  # noqa: ASYNC124
    assert isinstance(error, h11.RemoteProtocolError)
    return Problem(error.error_status_hint, "not a valid HTTP request").response()


async def _crash(_: Request, error: Exception) -> Response:  # noqa: ASYNC124
    """The client reads that it failed; the connection tells the operator why."""
    return Problem(500, "internal error").response()


_TEXTS = {404: "there is no such path", 405: "not with this method"}
_HANDLERS: _Handlers = {
    Problem: _problem,
    HTTPException: _of_starlette,
    SpoolError: _storage_trouble,
    h11.RemoteProtocolError: _no_http,
    Exception: _crash,
}
