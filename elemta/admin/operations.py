"""What the admin port does, as values: each operation knows its path, its scope and its description.

From one list of them come the routes, the checks of what a client may, the audit, and the OpenAPI document;
so none of these can say what the others do not do.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias, TypeVar

import attrs
import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from elemta.events import AuditEvent, EventBus
from elemta.runtime import WallClock, escape_text

from .guard import Access, Guard
from .http import MAX_BODY
from .problems import BadRequest, Problem
from .tokens import Scope

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]
T = TypeVar("T")

LONGEST_DETAIL = 500
"""Characters of what the audit tells of a change."""
_JSON_TYPE = re.compile(r"application/(?:[a-z0-9.+-]+\+)?json\s*(?:;.*)?", re.IGNORECASE)


@attrs.frozen
class Parameter:
    """One parameter of a query or path."""

    name: str
    description: str
    schema: dict[str, Any] = attrs.field(factory=lambda: {"type": "string"})  # JSON Schema
    required: bool = False


@attrs.frozen
class Raw:
    """An answer or body that is not JSON."""

    media_type: str
    description: str = ""


@attrs.frozen(kw_only=True, eq=False)
class Operation:
    """One method of one path."""

    id: str
    """Its name in the document, and in the audit."""
    method: str
    path: str
    handler: Handler
    scope: Scope | None
    """What a token must be for; None: open to everybody who reaches the port."""
    summary: str
    answer: type | Raw
    """A type that msgspec can describe: the shape of the JSON."""
    status: int = 200
    body: type | Raw | None = None
    query: tuple[Parameter, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    """Of the path."""
    headers: tuple[Parameter, ...] = ()
    description: str = ""
    other_answers: Mapping[int, Raw] = attrs.field(factory=dict)
    """Answers by status that are no problem documents."""
    problems: tuple[int, ...] = ()
    """Statuses beside those of every operation (401, 403, 421, 429, and 503 where storage is asked)."""
    tag: str = "server"
    max_body: int = MAX_BODY
    """Octets."""

    @property
    def changes(self) -> bool:
        """Whether it can change anything, and so is told to the audit."""
        return self.method not in ("GET", "HEAD")


def decode_body(body: bytes, kind: type[T]) -> T:
    """The body of a request as a value.

    Raises:
      BadRequest: it is no JSON, or not of this shape.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRequest(str(error)) from error


async def read_json(request: Request, kind: type[T]) -> T:
    """The body of a request in JSON as a value.

    Raises:
      Problem: 400 it is no JSON or not of this shape, 413 too long, 415 said to be something else.
    """
    media_type = request.headers.get("content-type")
    if media_type is not None and not _JSON_TYPE.fullmatch(media_type.strip()):
        raise Problem(415, "the body must be application/json", {"Accept": "application/json"})
    return decode_body(await request.body(), kind)


def tell_audit(request: Request, detail: str) -> None:
    """Say what exactly this request changes; text from strangers is made harmless here."""
    request.state.audit = escape_text(detail)[:LONGEST_DETAIL]


def spare_audit(request: Request) -> None:
    """This request changes nothing: a dry run, say."""
    request.state.audit = None


def access_of(request: Request) -> Access:
    """Who makes this request."""
    access = request.scope["elemta.access"]
    assert isinstance(access, Access)
    return access


@attrs.frozen(eq=False)
class Router:
    """Makes routes of operations, each with its checks around it."""

    guard: Guard
    bus: EventBus
    clock: WallClock

    def routes(self, operations: list[Operation]) -> list[Route]:
        """For Starlette: one for each path, which knows all its methods (RFC 9110 10.2.1)."""
        paths: dict[str, dict[str, Handler]] = {}
        for operation in operations:
            paths.setdefault(operation.path, {})[operation.method] = self._endpoint(operation)
        return [Route(path, _by_method(handlers), methods=list(handlers)) for path, handlers in paths.items()]

    def _endpoint(self, operation: Operation) -> Handler:
        async def endpoint(request: Request) -> Response:
            peer = _peer(request)
            access: Access | None = request.scope["elemta.access"]
            if operation.scope is not None:
                if access is None:
                    raise self.guard.stranger(peer)
                self.guard.check_scope(access, operation.scope, peer=peer)
            request.scope["elemta.max_body"] = operation.max_body
            check_query(request, operation.query)
            if not operation.changes or access is None:
                return await operation.handler(request)
            return await self._audited(operation, request, access)

        return endpoint

    async def _audited(self, operation: Operation, request: Request, access: Access) -> Response:
        request.state.audit = ""
        status = 500
        try:
            answer = await operation.handler(request)
            status = answer.status_code
        except Problem as problem:
            status = problem.status
            if not request.state.audit:
                request.state.audit = None  # refused before anything was done
            raise
        finally:
            # What failed in the middle may have changed something.
            if request.state.audit is not None and not 400 <= status < 500:
                self.bus.publish(
                    AuditEvent(
                        time=self.clock.time(),
                        operation=operation.id,
                        actor=access.name,
                        peer=_peer(request),
                        path=escape_text(request.url.path)[:LONGEST_DETAIL],
                        detail=request.state.audit,
                        status=status,
                    )
                )
        return answer


def _by_method(handlers: Mapping[str, Handler]) -> Handler:
    async def endpoint(request: Request) -> Response:
        return await handlers["GET" if request.method == "HEAD" else request.method](request)

    return endpoint


def check_query(request: Request, parameters: tuple[Parameter, ...]) -> None:
    """Refuse parameters that nobody looks at: a mistyped filter must not mean everything.

    Raises:
      BadRequest: unknown, twice, missing, or none of the values that there are.
    """
    known = {parameter.name: parameter for parameter in parameters}
    seen: set[str] = set()
    for name, value in request.query_params.multi_items():
        if name not in known:
            raise BadRequest(
                f"there is no parameter {escape_text(name[:40])!r}"
                + (f"; those there are: {', '.join(sorted(known))}" if known else "; none is known here")
            )
        if name in seen:
            raise BadRequest(f"{name} is given twice")
        seen.add(name)
        values = known[name].schema.get("enum")
        if values is not None and value not in values:
            raise BadRequest(f"{name} is none of {', '.join(values)}")
    for parameter in parameters:
        if parameter.required and parameter.name not in seen:
            raise BadRequest(f"{parameter.name} is missing")


def _peer(request: Request) -> str:
    return request.client.host if request.client is not None else "unix"
