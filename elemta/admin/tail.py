"""The live tail over WebSocket (RFC 6455), both ends of it: the only importer of trio_websocket.

A server's client gets one JSON object per message: what the log says of an event, with its number `seq`.
Messages about the tail itself have a type without a dot: `hello`, `subscribed`, `lagged`, `heartbeat`,
`error`.
Messages to the client are framed here, many into one write, and not by `send_message`, which would write
each by itself; pings, closing and everything that comes in is trio_websocket's. Both go through one lock.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Callable, Iterable

import attrs
import trio
import trio_websocket
from wsproto.utilities import ProtocolError

from .filters import BadFilter, Wish, parse_message, parse_query
from .guard import Guard
from .http import Upgrade
from .problems import Problem, detail_of
from .tokens import Scope
from .watchers import HEARTBEAT, Watcher, Watchers

PATH = "/events"
SUBPROTOCOL = "events.elemta"
TOKEN_SUBPROTOCOL = "bearer.elemta."  # noqa: S105 - a name
"""Before the token in base64url, for browsers: those cannot send an Authorization header with a WebSocket,
and a token in the address would be kept in histories and logs. It is never sent back."""

HANDSHAKE_SECONDS = 10.0
SEND_SECONDS = 60.0
"""For a piece; who takes none for so long is gone."""
PONG_SECONDS = 60.0
"""For the answer to a ping."""
CLOSE_SECONDS = 2.0
"""For closing politely."""
SUBSCRIBE_SECONDS = 0.2
"""Between two messages of one client."""
MAX_MESSAGE = 64 * 1024
"""Octets of a client's message: a filter with all the values it may have."""
SEND_BUFFER = 64 * 1024
"""Octets that the kernel keeps for a client that does not read."""

GOING_AWAY = 1001
"""RFC 6455 7.4.1: the server stops."""
BAD_FILTER = 4400
"""A filter that cannot be (RFC 6455 7.4.2: private use; made like the HTTP status)."""

_WEBSOCKET_VERSION = "13"
_CLOSED = (trio_websocket.ConnectionClosed, ProtocolError, trio.BrokenResourceError, trio.ClosedResourceError)


class _Outlet(trio.abc.Stream):
    """The stream below a WebSocket: whole frames only, whoever sends them."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._lock = trio.Lock()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        async with self._lock:
            await self._stream.send_all(data)

    async def send_texts(self, texts: Iterable[bytes], is_closed: Callable[[], bool]) -> None:
        """Send each as one message, unless the closing frame has been sent. Cancelled: give the stream up."""
        data = b"".join([part for text in texts for part in (_frame_head(len(text)), text)])
        async with self._lock:
            if not is_closed():
                await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return bytes(await self._stream.receive_some(max_bytes))

    async def aclose(self) -> None:
        await self._stream.aclose()


def _frame_head(size: int) -> bytes:
    """RFC 6455 5.2: the last frame of a text message, unmasked as all that a server sends (5.1)."""
    if size < 126:
        return struct.pack("!BB", 0x81, size)
    if size < 1 << 16:
        return struct.pack("!BBH", 0x81, 126, size)
    return struct.pack("!BBQ", 0x81, 127, size)


# --- The server's end ---------------------------------------------------------------------------------------


@attrs.frozen(eq=False)
class Tail:
    """What `/events` leads to."""

    watchers: Watchers
    guard: Guard
    version: str
    hostname: str

    def check(self, upgrade: Upgrade) -> None:
        """Whether the client may watch.

        Raises:
          Problem: with the status and text for the client.
        """
        headers, peer = _with_token(upgrade.headers), upgrade.peer
        access = self.guard.admit(headers, peer=peer, trusted=upgrade.trusted, reached=upgrade.reached)
        if access is None:
            raise self.guard.stranger(peer)
        self.guard.check_scope(access, Scope.READ, peer=peer)
        if upgrade.path != PATH:
            raise Problem(404, f"only {PATH} is a WebSocket")
        _check_handshake(upgrade.headers)
        if self.watchers.closed:
            raise Problem(503, "the server stops")
        if self.watchers.is_full:
            raise Problem(503, f"there are {self.watchers.limit} watchers already: see [admin] tail_clients")

    async def serve(self, upgrade: Upgrade, stream: trio.abc.Stream) -> None:
        """Talk to a client that passed `check`, until one of us ends it. The caller closes the stream."""
        _limit_buffer(stream)
        watcher = self.watchers.add()
        outlet = _Outlet(stream)
        try:
            async with trio.open_nursery() as nursery:
                with trio.move_on_after(HANDSHAKE_SECONDS) as handshake:
                    request = await trio_websocket.wrap_server_stream(
                        nursery, outlet, max_message_size=MAX_MESSAGE
                    )
                    ours = SUBPROTOCOL if SUBPROTOCOL in request.proposed_subprotocols else None
                    connection = await request.accept(subprotocol=ours)
                if not handshake.cancelled_caught:
                    await _Conversation(self, watcher, connection, outlet).hold(upgrade.query)
                nursery.cancel_scope.cancel(reason="the conversation is over")
        except* _CLOSED:
            pass  # it ended as connections do
        finally:
            self.watchers.remove(watcher)


@attrs.define(eq=False)
class _Conversation:
    """One client after the handshake."""

    tail: Tail
    watcher: Watcher
    connection: trio_websocket.WebSocketConnection
    outlet: _Outlet
    _code: int = GOING_AWAY
    _reason: str = "the server stops"

    async def hold(self, query: bytes) -> None:
        finished = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._receive, query, nursery.cancel_scope)
            nursery.start_soon(self._ping, nursery.cancel_scope)
            await self._send()
            finished = True
            nursery.cancel_scope.cancel(reason="there is nothing more to send")
        if finished:
            with trio.move_on_after(CLOSE_SECONDS):
                await self.connection.aclose(self._code, self._reason)

    async def _send(self) -> None:
        while piece := await self.watcher.next_piece():
            # A part of it may have left, so nothing can be said any more: the connection is given up.
            with trio.move_on_after(SEND_SECONDS) as sending:
                await self.outlet.send_texts(piece, lambda: self.connection.closed is not None)
            if sending.cancelled_caught:
                raise trio.BrokenResourceError("the client does not read")

    async def _ping(self, scope: trio.CancelScope) -> None:
        """Find out whether the client is there, and let it find out whether we are."""
        while True:
            await trio.sleep(HEARTBEAT)
            with trio.move_on_after(PONG_SECONDS) as ping:
                await self.connection.ping()
            if ping.cancelled_caught:
                scope.cancel(reason="no pong came")

    async def _receive(self, query: bytes, scope: trio.CancelScope) -> None:
        """Follow the client's wishes: that of its address, then those that it sends."""
        watcher, ring = self.watcher, self.tail.watchers.ring
        try:
            wish = parse_query(query)
            watcher.tell(
                "hello",
                seq=ring.newest,
                oldest=ring.oldest,
                version=self.tail.version,
                hostname=self.tail.hostname,
                heartbeat=HEARTBEAT,
                filter=wish.wanted,
            )
            await watcher.subscribe(wish)
            while True:
                wish = await self._next_wish()
                watcher.tell("subscribed", seq=ring.newest, filter=wish.wanted)
                await watcher.subscribe(wish)
                # While this waits there is no backlog of wishes: the client cannot send faster.
                await trio.sleep(SUBSCRIBE_SECONDS)
                while watcher.is_full:  # noqa: ASYNC110 - a client that asks and does not listen
                    await trio.sleep(SUBSCRIBE_SECONDS)
        except BadFilter as error:
            watcher.tell("error", reason=str(error))
            self._code, self._reason = BAD_FILTER, "the filter cannot be used: see the message before this"
            watcher.end()
        except trio_websocket.ConnectionClosed:
            scope.cancel(reason="the client has left")

    async def _next_wish(self) -> Wish:
        return parse_message(await self.connection.get_message())


def _with_token(headers: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """The headers with the token of a browser where a token belongs."""
    if b"authorization" in headers:
        return headers
    for offered in headers.get(b"sec-websocket-protocol", b"").decode("latin-1").split(","):
        name = offered.strip()
        if name.startswith(TOKEN_SUBPROTOCOL):
            encoded = name.removeprefix(TOKEN_SUBPROTOCOL)
            try:
                token = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
            except ValueError:
                token = b""
            return {**headers, b"authorization": b"Bearer " + token}
    return headers


def _check_handshake(headers: dict[bytes, bytes]) -> None:
    """RFC 6455 4.2.1; what trio_websocket meets is right, as on anything else it waits for ever."""
    if headers.get(b"sec-websocket-version", b"").decode("latin-1").strip() != _WEBSOCKET_VERSION:
        # RFC 6455 4.4
        raise Problem(426, "WebSocket version 13 is needed", {"Sec-WebSocket-Version": _WEBSOCKET_VERSION})
    try:
        key = base64.b64decode(headers.get(b"sec-websocket-key", b"").strip(), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != 16:
        raise Problem(400, "Sec-WebSocket-Key is no key")


def _limit_buffer(stream: trio.abc.Stream) -> None:
    """Else the kernel keeps megabytes for each client that does not read."""
    inner = getattr(stream, "stream", stream)
    if isinstance(inner, trio.SocketStream):
        inner.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_SNDBUF, SEND_BUFFER)


# --- The client's end ---------------------------------------------------------------------------------------


class TailRefused(Exception):
    """The server did not let us watch."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        """Of HTTP; 0: it did not answer."""


@attrs.frozen
class TailEnded:
    """How a tail that had begun came to its end."""

    code: int
    """Of WebSocket; 1006: the connection broke."""
    reason: str


async def follow(
    stream: trio.abc.Stream,
    host: str,
    query: str,
    on_message: Callable[[str], None],
    *,
    token: str | None = None,
) -> TailEnded:
    """Give each message of a server to `on_message` until the tail ends. Closes the stream.

    Raises:
      TailRefused: it never began.
    """
    headers = [] if token is None else [(b"Authorization", b"Bearer " + token.encode())]
    ended = TailEnded(1006, "the connection broke")
    refused = TailRefused(0, "the server does not answer")
    begun = False
    try:
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(HANDSHAKE_SECONDS):
                connection = await trio_websocket.wrap_client_stream(
                    nursery,
                    stream,  # type: ignore[arg-type]  # any stream will do: it only sends and receives
                    host,
                    f"{PATH}?{query}" if query else PATH,
                    subprotocols=[SUBPROTOCOL],
                    extra_headers=headers,
                    receive_buffer_size=64 * 1024,
                )
                begun = True
            if begun:
                try:
                    while True:
                        message = await connection.get_message()
                        on_message(
                            message if isinstance(message, str) else message.decode("utf-8", "replace")
                        )
                except trio_websocket.ConnectionClosed as closed:
                    if closed.reason is not None:
                        ended = TailEnded(closed.reason.code, closed.reason.reason or closed.reason.name)
            nursery.cancel_scope.cancel(reason="the tail has ended")
    except* trio_websocket.ConnectionRejected as group:
        rejection = group.exceptions[0]
        while isinstance(rejection, BaseExceptionGroup):
            rejection = rejection.exceptions[0]
        assert isinstance(rejection, trio_websocket.ConnectionRejected)
        refused = TailRefused(rejection.status_code, detail_of(rejection.body or b""))
    except* _CLOSED:
        pass
    finally:
        await trio.aclose_forcefully(stream)
    if not begun:
        raise refused
    return ended
