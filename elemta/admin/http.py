"""HTTP on Trio: h11 reads, the Starlette application answers; one task per connection, all bounded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias
from urllib.parse import unquote_to_bytes

import attrs
import h11
import trio

from elemta.runtime import get_logger, peer_address, summarize

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


class _Refused(Exception):
    """The request is not passed on."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


@attrs.define(eq=False)
class HttpConnection:
    """One client of the admin port."""

    stream: trio.abc.Stream
    application: Application
    trusted: bool
    """Came over the socket in the state folder: whoever can open that may do everything."""
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
            with trio.move_on_after(REQUEST_SECONDS) as scope:
                body = await self._receive_body()
                await self._answer(request, body)
            if scope.cancelled_caught:
                return False
        except _Refused as refusal:
            await self._refuse(refusal.status, refusal.text)
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
        event = await self._next_event()
        return event if isinstance(event, h11.Request) else None

    async def _receive_body(self) -> bytes:
        body = bytearray()
        if self._h11.they_are_waiting_for_100_continue:
            await self._send(h11.InformationalResponse(status_code=100, headers=[]))
        while True:
            event = await self._next_event()
            if isinstance(event, h11.Data):
                body += event.data
                if len(body) > MAX_BODY:
                    raise _Refused(413, "the body is too large")
            elif isinstance(event, h11.EndOfMessage):
                return bytes(body)
            else:
                raise _Refused(400, "the request ended too early")

    async def _answer(self, request: h11.Request, body: bytes) -> None:
        path, _, query = bytes(request.target).partition(b"?")
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": bytes(request.http_version).decode(),
            "method": bytes(request.method).decode("ascii"),
            "scheme": "http",
            "path": unquote_to_bytes(path).decode("utf-8", "replace"),
            "raw_path": path,
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
                raise _Refused(500, "internal error") from error
            raise _Refused(0, "") from error

    async def _refuse(self, status: int, text: str) -> None:
        if status and self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            data = text.encode() + b"\n"
            headers = [
                ("content-type", "text/plain; charset=utf-8"),
                ("content-length", str(len(data))),
                ("connection", "close"),
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
