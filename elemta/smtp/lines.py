"""Bytes in, command lines out: only CRLF ends a line, and incomplete input is bounded."""

from __future__ import annotations

import enum
from typing import Final

from elemta.mail import replies

from .errors import RemoteProtocolError

HARD_LIMIT: Final = 65536
"""Octets after which a line without an end is no longer read on. Below it, a line that is too long is
dropped as it comes and answered once, so that the session stays in step (RFC 5321 §4.5.3.1.10)."""

_COMPACT: Final = 65536


class LineSignal(enum.Enum):
    """What `LineBuffer.take_line` gives instead of a line."""

    INCOMPLETE = enum.auto()
    TOO_LONG = enum.auto()


INCOMPLETE: Final = LineSignal.INCOMPLETE
TOO_LONG: Final = LineSignal.TOO_LONG


class LineBuffer:
    """A receive buffer with an offset, and where the search for the line's end goes on.

    Each octet is searched once however the input is split, and taking a line moves an offset only.
    """

    __slots__ = ("_buffer", "_dropped", "_scan", "_start")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._start = 0
        """Everything before it was handed out."""
        self._scan = 0
        """Before it there is no CRLF of the current line."""
        self._dropped = 0
        """Octets of the current line that were thrown away: it is too long already."""

    def __len__(self) -> int:
        return len(self._buffer) - self._start

    def feed(self, data: bytes) -> None:
        """Append what was received."""
        if self._start == len(self._buffer):
            self._buffer.clear()
            self._start = self._scan = 0
        elif self._start > _COMPACT:
            del self._buffer[: self._start]
            self._scan -= self._start
            self._start = 0
        self._buffer += data

    def take_line(self, limit: int) -> bytes | LineSignal:
        """The next line without its CRLF; `limit` counts octets with it (RFC 5321 §4.5.3.1.4).

        Raises:
          RemoteProtocolError: the line is longer than `HARD_LIMIT`.
        """
        end = self._buffer.find(b"\r\n", self._scan)
        if end < 0:
            return self._wait(limit)
        start, self._start = self._start, end + 2
        self._scan = self._start
        size = self._dropped + self._start - start
        self._dropped = 0
        if size > limit:
            _check(size)
            return TOO_LONG
        return bytes(self._buffer[start:end])

    def _wait(self, limit: int) -> LineSignal:
        if self._start == len(self._buffer):
            # A client that waits costs no memory for what it sent before: 64 KiB, perhaps
            self._buffer.clear()
            self._start = 0
        size = len(self._buffer)
        # A CR at the very end may be half of the CRLF
        self._scan = max(self._start, size - 1) if self._buffer.endswith(b"\r") else size
        incomplete = self._dropped + size - self._start
        if incomplete > limit:
            _check(incomplete)
            self._dropped += self._scan - self._start
            del self._buffer[: self._scan]
            self._start = self._scan = 0
        return INCOMPLETE

    def take_all(self) -> bytes:
        """Everything that is there, as it is; the buffer is empty then."""
        data = bytes(memoryview(self._buffer)[self._start :]) if self._start else bytes(self._buffer)
        self._buffer.clear()
        self._start = self._scan = 0
        return data

    def take(self, count: int) -> bytes:
        """So many octets as they are, or all where there are not so many."""
        if count >= len(self._buffer) - self._start:
            return self.take_all()
        end = self._start + count
        data = bytes(memoryview(self._buffer)[self._start : end])
        self._start = self._scan = end
        return data


def _check(size: int) -> None:
    if size > HARD_LIMIT:
        raise RemoteProtocolError("a line without an end", replies.LINE_TOO_LONG)
