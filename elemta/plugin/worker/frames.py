"""Frames on the wire between the server and a worker: length, kind, call, content; bounded, no I/O.

The server must believe nothing that a worker sends. A frame that is longer than agreed, or of a kind that
the other side does not send, raises FrameError, and the worker is ended: behind such a frame nothing
can be told apart any more.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator

import attrs

_HEAD = struct.Struct(">IBQ")
HEAD_SIZE = _HEAD.size


class FrameError(Exception):
    """What came is no frame."""


class Kind(enum.IntEnum):
    """What a frame says. The number is on the wire; both ends are always the same version."""

    SETUP = 1
    """To the worker, first and once: what to load, and its limits."""
    CALL = 2
    CANCEL = 3
    """Nobody waits for that call any more."""
    STOP = 4
    """Finish what is being done, then end."""
    REPLY = 5
    """To a worker's QUESTION."""

    READY = 16
    BROKEN = 17
    """The plugin cannot be loaded; the content says why."""
    ANSWER = 18
    ERROR = 19
    """The hook raised; the content says what."""
    CANCELLED = 20
    LOG = 21
    QUESTION = 22
    """Something that only the server can answer: the stored state, a lookup."""
    RETIRE = 23
    """The worker's processor time is nearly used up: no more calls, please."""


FROM_SERVER = frozenset({Kind.SETUP, Kind.CALL, Kind.CANCEL, Kind.STOP, Kind.REPLY})
FROM_WORKER = frozenset(Kind) - FROM_SERVER


@attrs.frozen(slots=True)
class Frame:
    """One frame. `call` is 0 where it is about none."""

    kind: Kind
    call: int
    content: bytes


def encode_frame(kind: Kind, call: int, content: bytes = b"") -> bytes:
    """The octets of a frame."""
    return _HEAD.pack(len(content), kind, call) + content


def named(name: str, content: bytes) -> bytes:
    """Content that begins with a name: a hook, a question."""
    return name.encode("ascii") + b"\0" + content


def split_named(content: bytes) -> tuple[str, bytes]:
    """The name and the rest.

    Raises:
      FrameError: there is no name.
    """
    name, separator, rest = content.partition(b"\0")
    if not separator or not name.isascii():
        raise FrameError("a frame without a name")
    return name.decode("ascii"), rest


class FrameDecoder:
    """Octets in, frames out. Keeps no more than one incomplete frame of at most `limit` octets."""

    def __init__(self, allowed: frozenset[Kind], limit: int) -> None:
        self._allowed = allowed
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete with these octets.

        Raises:
          FrameError: from the first frame that is none; nothing behind it is looked at.
        """
        buffer = self._buffer
        buffer += data
        start = 0
        try:
            while len(buffer) - start >= HEAD_SIZE:
                length, number, call = _HEAD.unpack_from(buffer, start)
                if length > self._limit:
                    raise FrameError(f"a frame of {length} octets, where {self._limit} are allowed")
                if number not in self._allowed:
                    raise FrameError(f"a frame of the unknown kind {number}")
                end = start + HEAD_SIZE + length
                if len(buffer) < end:
                    return
                content = bytes(buffer[start + HEAD_SIZE : end])
                start = end
                yield Frame(Kind(number), call, content)
        finally:
            del buffer[:start]
