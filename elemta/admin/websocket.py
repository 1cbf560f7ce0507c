"""A server's end of WebSockets (RFC 6455) without I/O: the answer to the handshake, frames in and out.

What is sent as text is framed by `text_frame` for all who get it, since frames of a server are not masked.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Mapping

import attrs
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

TOO_BIG = 1009
"""RFC 6455 7.4.1."""

_ACCEPT_SALT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3


def accept_handshake(headers: Mapping[bytes, bytes], subprotocol: str | None) -> bytes:
    """The answer to a request that was checked (RFC 6455 4.2.2); names of headers are in lower case."""
    key = headers[b"sec-websocket-key"].strip()
    accept = base64.b64encode(hashlib.sha1(key + _ACCEPT_SALT, usedforsecurity=False).digest())
    lines = [
        b"HTTP/1.1 101 Switching Protocols",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: " + accept,
    ]
    if subprotocol is not None:
        lines.append(b"Sec-WebSocket-Protocol: " + subprotocol.encode("ascii"))
    return b"\r\n".join([*lines, b"", b""])


def text_frame(text: bytes) -> bytes:
    """A text message in one frame (RFC 6455 5.2), unmasked as all that a server sends (5.1)."""
    size = len(text)
    if size < 126:
        return struct.pack("!BB", 0x81, size) + text
    if size < 1 << 16:
        return struct.pack("!BBH", 0x81, 126, size) + text
    return struct.pack("!BBQ", 0x81, 127, size) + text


@attrs.frozen
class Closing:
    """The client's last word, or ours about what it sent."""

    frame: bytes
    """To be sent behind everything else."""


class ServerWire:
    """What one client says, after the handshake."""

    def __init__(self, max_message: int) -> None:
        """`max_message`: octets of a message, or characters of a text."""
        self._connection = Connection(ConnectionType.SERVER)
        self._max_message = max_message
        self._parts: list[str | bytes] = []
        self._size = 0

    def receive(self, data: bytes) -> tuple[list[str | bytes], bytes, Closing | None]:
        """Messages that are whole now, the answer to the last ping, and how it ended, if it did.

        After a `Closing` nothing more is to be received.
        """
        self._connection.receive_data(data)
        messages: list[str | bytes] = []
        pong = b""
        for event in self._connection.events():
            match event:
                case Ping() if self._connection.state is ConnectionState.OPEN:
                    # RFC 6455 5.5.3: the most recent one is enough
                    pong = self._connection.send(event.response())
                case TextMessage() | BytesMessage():
                    self._parts.append(bytes(event.data) if isinstance(event, BytesMessage) else event.data)
                    self._size += len(event.data)
                    if self._size > self._max_message:
                        return messages, pong, Closing(self.close(TOO_BIG, "the message is too long"))
                    if event.message_finished:
                        messages.append(self._whole())
                case CloseConnection():
                    return messages, pong, Closing(self.close(event.code, event.reason or ""))
        return messages, pong, None

    def ping(self) -> bytes:
        """A question whether the client is there."""
        return self._connection.send(Ping())

    def close(self, code: int, reason: str) -> bytes:
        """Our closing frame, or the answer to the client's; empty: it was sent already."""
        if self._connection.state not in (ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING):
            return b""
        return self._connection.send(CloseConnection(code=code, reason=reason))

    def _whole(self) -> str | bytes:
        parts, self._parts, self._size = self._parts, [], 0
        if len(parts) == 1:
            return parts[0]
        if isinstance(parts[0], str):
            return "".join(part for part in parts if isinstance(part, str))
        return b"".join(part for part in parts if isinstance(part, bytes))
