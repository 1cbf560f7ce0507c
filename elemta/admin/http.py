"""HTTP on Trio: h11 reads, the Starlette application answers; one task per connection, all bounded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Protocol, TypeAlias
from urllib.parse import unquote_to_bytes

import attrs
import h11
import trio

from elemta.runtime import ReplayStream, get_logger, peer_address, summarize

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


class Refused(Exception):
    """The request is not passed on."""

    def __init__(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = headers or {}


@attrs.frozen
class Upgrade:
    """A request to go on as a WebSocket."""

    path: str
    query: bytes
    headers: dict[bytes, bytes]
    """Names in lower case; several of one name are joined by commas."""
    trusted: bool


class WebSockets(Protocol):
    """Who serves connections that have become WebSockets."""

    def check(self, upgrade: Upgrade) -> None:
        """Raises:
        Refused: it may not.
        """

    async def serve(self, upgrade: Upgrade, stream: trio.abc.Stream) -> None:
        """Talk to the client, whose stream begins with the head of its request."""


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
    _head: bytearray = attrs.field(factory=bytearray)
    """What the client sent since the last request."""
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
                body = await self._receive_body()
                await self._answer(request, body)
            if scope.cancelled_caught:
                return False
        except Refused as refusal:
            await self._refuse(refusal.status, refusal.text, refusal.headers)
            return False
        except h11.RemoteProtocolError as error:
            await self._refuse(error.error_status_hint, "not a valid HTTP request")
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
        # Kept to be read once more by a WebSocket; bounded by MAX_HEAD and what is read at once.
        self._head = bytearray(self._h11.trailing_data[0])
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            data = bytes(await self.stream.receive_some(65536))
            self._head += data
            self._h11.receive_data(data)
        return event if isinstance(event, h11.Request) else None

    async def _go_on_as_websocket(self, websockets: WebSockets, request: h11.Request) -> None:
        path, query = _target(request)
        headers: dict[bytes, bytes] = {}
        for name, value in request.headers:
            headers[name] = headers[name] + b", " + value if name in headers else bytes(value)
        upgrade = Upgrade(path, query, headers, self.trusted)
        websockets.check(upgrade)
        self.on_upgrade()
        await websockets.serve(upgrade, ReplayStream(self.stream, bytes(self._head)))

    async def _receive_body(self) -> bytes:
        body = bytearray()
        if self._h11.they_are_waiting_for_100_continue:
            await self._send(h11.InformationalResponse(status_code=100, headers=[]))
        while True:
            event = await self._next_event()
            if isinstance(event, h11.Data):
                body += event.data
                if len(body) > MAX_BODY:
                    raise Refused(413, "the body is too large")
            elif isinstance(event, h11.EndOfMessage):
                return bytes(body)
            else:
                raise Refused(400, "the request ended too early")

    async def _answer(self, request: h11.Request, body: bytes) -> None:
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
            "server": None,
            "elemta.trusted": self.trusted,
        }
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Message:
            await trio.lowlevel.checkpoint()
            return messages.pop() if messages else {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), (b"x-content-type-options", b"nosniff")]
                await self._send(h11.Response(status_code=message["status"], headers=headers))
            elif message["type"] == "http.response.body":
                if message.get("body"):
                    await self._send(h11.Data(data=message["body"]))
                if not message.get("more_body"):
                    await self._send(h11.EndOfMessage())

        try:
            await self.application(scope, receive, send)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise
        except Exception as error:
            # The client reads that it failed; the operator reads why.
            _log.error("request failed", path=scope["path"], error=summarize(error))
            if self._h11.our_state is h11.SEND_RESPONSE:
                raise Refused(500, "internal error") from error
            raise Refused(0, "") from error

    async def _refuse(self, status: int, text: str, more: Mapping[str, str] | None = None) -> None:
        if status and self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            data = text.encode() + b"\n"
            headers = [
                ("content-type", "text/plain; charset=utf-8"),
                ("content-length", str(len(data))),
                ("connection", "close"),
                *(more or {}).items(),
            ]
            with trio.move_on_after(5):
                await self._send(h11.Response(status_code=status, headers=headers))
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
