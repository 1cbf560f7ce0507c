"""What every final delivery does: trace fields before the message, loops through a mailbox, line ends.

RFC 5321 §4.4 has Return-Path put there by who delivers; by Delivered-To a message is known that was in the
same mailbox before. Lines end with LF on this system, with CR LF on the wire and in the spool.
"""

from __future__ import annotations

import re

from elemta.mail import HeaderBlock, Mailbox, Reply, ReversePath, return_path

from .transport import ContentReader

MAILBOX_LOOP = Reply.of(554, "5.4.6", "the message was delivered to this mailbox before")
"""RFC 3463 §3.5; RFC 5321 §6.3."""
LARGEST_HEADER = 1024 * 1024
"""Octets of a streamed message that are searched for trace fields; as `limits.header_size`."""

_RETURN_PATH = re.compile(rb"^return-path[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*", re.IGNORECASE | re.MULTILINE)


def trace_fields(reverse_path: ReversePath, recipient: Mailbox) -> bytes:
    """What final delivery puts before the message."""
    return return_path(reverse_path) + f"Delivered-To: {recipient}\r\n".encode()


def was_delivered_to(header: bytes, recipient: Mailbox) -> bool:
    """Whether the header says that this mailbox had the message before."""
    mailbox = str(recipient).lower().encode()
    return any(
        field.name.lower() == b"delivered-to" and field.value.lower() == mailbox
        for field in HeaderBlock(header).fields()
    )


def without_return_path(header: bytes) -> bytes:
    """The header without Return-Path, which RFC 5321 §4.4 lets us remove before ours is added."""
    return _RETURN_PATH.sub(b"", header)


class LineEnds:
    """CR LF to LF, in pieces that may part a CR from its LF."""

    def __init__(self) -> None:
        self._held = b""

    def convert(self, data: bytes) -> bytes:
        data = self._held + data
        self._held = b"\r" if data.endswith(b"\r") else b""
        return (data[:-1] if self._held else data).replace(b"\r\n", b"\n")

    def finish(self) -> bytes:
        """What was held back: a CR at the very end."""
        held, self._held = self._held, b""
        return held


async def read_header(prefix: bytes, reader: ContentReader) -> tuple[bytes, bytes]:
    """The header, and what was read behind it. Of a header that is too long, its beginning."""
    data = bytearray(prefix)
    while len(data) < LARGEST_HEADER:
        piece = await reader.read()
        searched = max(0, len(data) - 3)
        data += piece
        end = -2 if data.startswith(b"\r\n") else data.find(b"\r\n\r\n", searched)
        if not piece or end != -1:
            split = len(data) if end == -1 else end + 4
            return bytes(data[:split]), bytes(data[split:])
    return bytes(data), b""
