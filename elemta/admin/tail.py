"""The live tail over WebSocket (RFC 6455), both ends of it: the only importer of trio_websocket.

A server's client gets one JSON object per message: what the log says of an event, with its number `seq`.
Messages about the tail itself have a type without a dot: `hello`, `subscribed`, `lagged`, `heartbeat`,
`error`.
Everything that a client is sent goes through his `Watcher`, which has one order for it; the task that waits
in `_send` writes only what the socket did not take at once. trio_websocket is for our own client: a server
of its kind takes four tasks for each connection, and a write for each message.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections import deque
from collections.abc import Callable

import attrs
import trio
import trio_websocket
from wsproto.utilities import ProtocolError

from .filters import BadFilter, parse_message, parse_query
from .guard import Guard
from .http import Upgrade
from .problems import Problem, detail_of
from .tokens import Scope
from .watchers import HEARTBEAT, SendNow, Watcher, Watchers
from .websocket import ServerWire, accept_handshake

PATH = "/events"
SUBPROTOCOL = "events.elemta"
TOKEN_SUBPROTOCOL = "bearer.elemta."  # noqa: S105 - a name
"""Before the token in base64url, for browsers: those cannot send an Authorization header with a WebSocket,
and a token in the address would be kept in histories and logs. It is never sent back."""

HANDSHAKE_SECONDS = 10.0
SEND_SECONDS = 60.0
"""For a piece; who takes none for so long is gone."""
PING_SECONDS = 60.0
"""Without a word from a client until it is asked for one: heartbeats need no answer."""
PONG_SECONDS = 60.0
"""For the answer to that."""
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
_RECEIVE_OCTETS = 4096
_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)
_CLOSED = (trio_websocket.ConnectionClosed, ProtocolError, *_GONE)


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
        watcher = self.watchers.add(_send_now(stream))
        try:
            with trio.move_on_after(HANDSHAKE_SECONDS) as handshake:
                await stream.send_all(accept_handshake(upgrade.headers, _subprotocol(upgrade.headers)))
            if not handshake.cancelled_caught:
                await _Conversation(self, watcher, stream).hold(upgrade.query)
        except _GONE:
            pass  # it ended as connections do
        finally:
            self.watchers.remove(watcher)


@attrs.define(eq=False)
class _Conversation:
    """One client after the handshake."""

    tail: Tail
    watcher: Watcher
    stream: trio.abc.Stream
    _wire: ServerWire = attrs.field(factory=lambda: ServerWire(MAX_MESSAGE))
    _messages: deque[str | bytes] = attrs.field(factory=deque)
    """Came and were not looked at yet."""
    _code: int = GOING_AWAY
    _reason: str = "the server stops"
    _closed: trio.Event = attrs.field(factory=trio.Event)
    """The client sent nothing more."""

    async def hold(self, query: bytes) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._receive, query, nursery.cancel_scope)
            if await self._send():
                with trio.move_on_after(CLOSE_SECONDS):
                    await self._close()
            nursery.cancel_scope.cancel(reason="there is nothing more to send")

    async def _send(self) -> bool:
        """Send what could not be sent at once; returns whether there can be a last word."""
        try:
            while piece := await self.watcher.next_piece():
                # A part of it may have left, so nothing can be said any more: the connection is given up.
                with trio.move_on_after(SEND_SECONDS) as sending:
                    await self.stream.send_all(piece[0] if len(piece) == 1 else b"".join(piece))
                if sending.cancelled_caught:
                    return False
        except _GONE:
            return False
        return True

    async def _close(self) -> None:
        """Say that this is the end, and wait for the client to say so, too."""
        frame = self._wire.close(self._code, self._reason)
        try:
            if frame:
                await self.stream.send_all(frame)
                await self._closed.wait()
        except _GONE:
            pass

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
            while (message := await self._next_message(scope)) is not None:
                wish = parse_message(message)
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
            self._messages.clear()
            while await self._next_message(scope) is not None:
                pass

    async def _next_message(self, scope: trio.CancelScope) -> str | bytes | None:
        """The client's next message; None: it has left, and all this ends soon."""
        while not self._messages:
            data = await self._next_data()
            if data:
                messages, pong, closing = self._wire.receive(data)
                self._messages.extend(messages)
                if pong and not self.watcher.is_full:
                    self.watcher.put_frame(pong)
                if closing is None:
                    continue
                if closing.frame:
                    self.watcher.put_frame(closing.frame)
            self._closed.set()
            self.watcher.end()
            scope.deadline = trio.current_time() + CLOSE_SECONDS if data else trio.current_time()
            return None
        return self._messages.popleft()

    async def _next_data(self) -> bytes:
        """What the client sends; empty: it has left. Finds out whether it is there, and lets it find out
        whether we are."""
        for asked in (False, True):
            with trio.move_on_after(PONG_SECONDS if asked else PING_SECONDS):
                try:
                    return bytes(await self.stream.receive_some(_RECEIVE_OCTETS))
                except _GONE:
                    return b""
            if not asked and not self.watcher.is_full and not self.watcher.ended:
                self.watcher.put_frame(self._wire.ping())
        return b""


def _subprotocol(headers: dict[bytes, bytes]) -> str | None:
    offered = headers.get(b"sec-websocket-protocol", b"").decode("latin-1").split(",")
    return SUBPROTOCOL if SUBPROTOCOL in (name.strip() for name in offered) else None


def _send_now(stream: trio.abc.Stream) -> SendNow | None:
    """For a plain socket: what writes at once, as much as it takes, while nobody else does."""
    inner = getattr(stream, "stream", stream)
    if not isinstance(inner, trio.SocketStream):
        return None
    number = inner.socket.fileno

    def send(data: bytes | memoryview) -> int:
        try:
            return os.write(number(), data)
        except OSError:  # full, which is for who can wait; or broken, which he will see
            return 0

    return send


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
    """RFC 6455 4.2.1."""
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
