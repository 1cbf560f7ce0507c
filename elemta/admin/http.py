"""HTTP on Trio: h11 reads, the Starlette application answers; one task per connection, all bounded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol, TypeAlias
from urllib.parse import unquote_to_bytes

import attrs
import h11
import trio

from elemta.runtime import ReplayStream, escape_text, get_logger, local_address, peer_address, summarize

from .problems import MEDIA_TYPE, Problem

# The types of ASGI; its messages are dictionaries by its specification.
Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Application: TypeAlias = Callable[
    [Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

MAX_HEAD = 16 * 1024
MAX_BODY = 1024 * 1024
MAX_REQUESTS = 1000
HEAD_SECONDS = 30.0
"""For a head, idle time between requests included."""
REQUEST_SECONDS = 60.0
"""For a body, its handling and the answer."""

_log = get_logger(__name__)


@attrs.frozen
class Upgrade:
    """A request to go on as a WebSocket."""

    path: str
    query: bytes
    headers: dict[bytes, bytes]
    """Names in lower case; several of one name are joined by commas."""
    trusted: bool
    peer: str
    """Address of the client."""
    reached: str = ""
    """Our address that it came to."""


class WebSockets(Protocol):
    """Who serves connections that have become WebSockets."""

    def check(self, upgrade: Upgrade) -> None:
        """Raises:
        Problem: it may not.
        """

    async def serve(self, upgrade: Upgrade, stream: trio.abc.Stream) -> None:
        """Talk to the client, whose request is still to be answered."""


@attrs.define(eq=False)
class HttpConnection:
    """One client of the admin port."""

    stream: trio.abc.Stream
    application: Application
    trusted: bool
    """Came over the socket in the state folder: whoever can open that may do everything."""
    websockets: WebSockets | None = None
    on_upgrade: Callable[[], None] = lambda: None
    """Called when the connection has become a WebSocket and no longer counts as one of HTTP."""
    _h11: h11.Connection = attrs.field(
        factory=lambda: h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
    )

    async def serve(self) -> None:
        """Answer requests until the client leaves, misbehaves or is too slow. Closes the stream."""
        try:
            for _ in range(MAX_REQUESTS):
                if not await self._serve_one():
                    break
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            await trio.aclose_forcefully(self.stream)

    async def _serve_one(self) -> bool:
        try:
            request = None
            with trio.move_on_after(HEAD_SECONDS):
                request = await self._receive_head()
            if request is None:
                return False
            if self.websockets is not None and _is_upgrade(request):
                await self._go_on_as_websocket(self.websockets, request)
                return False
            with trio.move_on_after(REQUEST_SECONDS) as scope:
                await self._answer(request, scope)
                await self._drain_body()
            if scope.cancelled_caught:
                waited = self._h11.their_state is h11.SEND_BODY
                await self._refuse(
                    Problem(408, "the body did not come in time")
                    if waited
                    else Problem(503, "the answer did not come in time")
                )
                return False
        except Problem as problem:
            await self._refuse(problem)
            return False
        except h11.RemoteProtocolError as error:
            await self._refuse(Problem(error.error_status_hint, "not a valid HTTP request"))
            return False
        if self._h11.our_state is h11.MUST_CLOSE or self._h11.their_state is not h11.DONE:
            return False
        self._h11.start_next_cycle()
        return True

    async def _next_event(self) -> Any:  # an h11 event or sentinel; h11 has no common base for them
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            self._h11.receive_data(bytes(await self.stream.receive_some(65536)))
        return event

    async def _receive_head(self) -> h11.Request | None:
        event = await self._next_event()
        return event if isinstance(event, h11.Request) else None

    async def _go_on_as_websocket(self, websockets: WebSockets, request: h11.Request) -> None:
        path, query = _target(request)
        headers: dict[bytes, bytes] = {}
        for name, value in request.headers:
            headers[name] = headers[name] + b", " + value if name in headers else bytes(value)
        peer, reached = peer_address(self.stream)[0], local_address(self.stream)[0]
        upgrade = Upgrade(path, query, headers, self.trusted, peer, reached)
        websockets.check(upgrade)
        self.on_upgrade()
        await websockets.serve(upgrade, ReplayStream(self.stream, self._h11.trailing_data[0]))

    async def _next_piece(self) -> bytes | None:
        """More of the body; None at its end."""
        if self._h11.they_are_waiting_for_100_continue:
            await self._send(h11.InformationalResponse(status_code=100, headers=[]))
        event = await self._next_event()
        if isinstance(event, h11.Data):
            return bytes(event.data)
        if isinstance(event, h11.EndOfMessage):
            return None
        raise Problem(400, "the request ended too early")

    async def _drain_body(self) -> None:
        """Read what nobody wanted, so that the client gets the answer rather than a reset."""
        left = MAX_BODY
        while self._h11.their_state is h11.SEND_BODY and left > 0:
            if self._h11.they_are_waiting_for_100_continue:
                return
            piece = await self._next_piece()
            left -= len(piece or b"")

    async def _answer(self, request: h11.Request, deadline: trio.CancelScope) -> None:
        path, query = _target(request)
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": bytes(request.http_version).decode(),
            "method": bytes(request.method).decode("ascii"),
            "scheme": "http",
            "path": path,
            "raw_path": bytes(request.target).partition(b"?")[0],
            "query_string": query,
            "root_path": "",
            "headers": [(bytes(name).lower(), bytes(value)) for name, value in request.headers],
            "client": peer_address(self.stream),
            "server": local_address(self.stream),
            "elemta.trusted": self.trusted,
            "elemta.max_body": MAX_BODY,
            "elemta.deadline": deadline,
        }
        received, ended = 0, False
        if not _has_body(request):
            await self._next_piece()

        async def receive() -> Message:
            nonlocal received, ended
            if ended:
                await trio.lowlevel.checkpoint()
                return {"type": "http.disconnect"}
            piece = await self._next_piece() if self._h11.their_state is h11.SEND_BODY else None
            ended = piece is None
            received += len(piece or b"")
            if received > scope["elemta.max_body"]:
                raise Problem(413, f"the body has more than {scope['elemta.max_body']} octets")
            return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), (b"x-content-type-options", b"nosniff")]
                if self._h11.their_state is not h11.DONE:  # nobody knows how much is still to come
                    headers.append((b"connection", b"close"))
                await self._send(h11.Response(status_code=message["status"], headers=headers))
            elif message["type"] == "http.response.body":
                if message.get("body"):
                    await self._send(h11.Data(data=message["body"]))
                if not message.get("more_body"):
                    await self._send(h11.EndOfMessage())

        try:
            await self.application(scope, receive, send)
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError, Problem):
            raise
        except Exception as error:
            # The client reads that it failed; the operator reads why.
            _log.error("request failed", path=escape_text(path), error=summarize(error))
            raise Problem(500, "internal error") from error

    async def _refuse(self, problem: Problem) -> None:
        """Say so, where no answer was begun."""
        if self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            data = problem.document()
            headers = [
                ("content-type", MEDIA_TYPE),
                ("content-length", str(len(data))),
                ("connection", "close"),
                ("x-content-type-options", "nosniff"),
                *problem.headers.items(),
            ]
            with trio.move_on_after(5):
                await self._send(h11.Response(status_code=problem.status, headers=headers))
                await self._send(h11.Data(data=data))
                await self._send(h11.EndOfMessage())

    async def _send(self, event: h11.Event) -> None:
        data = self._h11.send(event)
        if data:
            try:
                await self.stream.send_all(data)
            except BaseException:
                self._h11.send_failed()
                raise


def _target(request: h11.Request) -> tuple[str, bytes]:
    """Path and query string."""
    path, _, query = bytes(request.target).partition(b"?")
    return unquote_to_bytes(path).decode("utf-8", "replace"), query


def _has_body(request: h11.Request) -> bool:
    """Whether anything follows the head (RFC 9112 6)."""
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in request.headers
    )


def _is_upgrade(request: h11.Request) -> bool:
    """Whether the client wants a WebSocket (RFC 6455 4.2.1, RFC 9110 7.8): a GET without a body."""
    tokens: dict[bytes, set[bytes]] = {b"upgrade": set(), b"connection": set()}
    for name, value in request.headers:
        if name in (b"content-length", b"transfer-encoding"):
            return False
        if name in tokens:
            tokens[name].update(each.strip().lower() for each in bytes(value).split(b","))
    return (
        request.method == b"GET"
        and request.http_version == b"1.1"
        and b"websocket" in tokens[b"upgrade"]
        and b"upgrade" in tokens[b"connection"]
    )
