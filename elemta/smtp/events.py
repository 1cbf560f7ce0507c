"""What each side can see: frozen values, and two signals that no data or no progress is possible."""

from __future__ import annotations

import enum
from typing import Final, TypeAlias

import attrs

from elemta.mail import Reply

from .commands import BadCommand, Command, EndOfBody


class Signal(enum.Enum):
    """What `next_event()` gives when there is nothing to see."""

    NEED_DATA = enum.auto()
    """Everything so far was handed out: flush what is to be sent, then read and `receive_data`."""
    PAUSED = enum.auto()
    """The machine waits for us: for `greet`, for the reply to what it handed out, or for TLS."""


NEED_DATA: Final = Signal.NEED_DATA
PAUSED: Final = Signal.PAUSED


class BodyProblem(enum.StrEnum):
    """Why a body must be refused, known at its real end. With several, the first in this order is named."""

    BARE_LF = "bare-lf"
    """An LF without CR before it (RFC 5321 §2.3.8)."""
    BARE_CR = "bare-cr"
    """A CR without LF behind it (RFC 5321 §2.3.8)."""
    NUL = "nul"
    """A NUL octet (RFC 5322 §4 has it in its obsolete syntax only; RFC 6152 §3 keeps it out of 8BITMIME)."""
    TOO_BIG = "too-big"
    """More octets than `Limits.message_size`."""
    HEADER_TOO_BIG = "header-too-big"
    """More octets before the first empty line than `Limits.header_size`."""
    LINE_TOO_LONG = "line-too-long"
    """A line longer than `Limits.text_line` (RFC 5321 §4.5.3.1.6)."""


@attrs.frozen(slots=True)
class CommandReceived:
    """Server: a command, good or bad. It must be answered with `reply()`."""

    command: Command | BadCommand


@attrs.frozen(slots=True)
class BodyChunk:
    """Server: some of the message, un-stuffed. Never empty; not a line."""

    data: bytes


@attrs.frozen(slots=True)
class ChunkEnd:
    """Server: a chunk is complete that is not the last, or that is refused (RFC 3030 §2). It must be answered
    with `reply()`.
    """

    size: int
    """Octets of the chunk, as its BDAT line said."""
    problem: BodyProblem | None = None
    """What is wrong with the message so far, as in `BodyEnd`; a reason to refuse now."""
    refusal: Reply | None = None
    """What the BDAT line was answered, to be said now: the octets were dropped."""


@attrs.frozen(slots=True)
class BodyEnd:
    """Server: the message is complete. It must be answered with `reply()` or `body_replies()`."""

    size: int
    """Octets of the message without stuffing and the final dot (RFC 1870 §5), after any repair, all of it
    even where `problem` is TOO_BIG and only a part was handed out."""
    problem: BodyProblem | None = None


@attrs.frozen(slots=True)
class ReplyReceived:
    """Client: a reply and what it answers."""

    command: Command | EndOfBody | None
    """The very object that was sent; `EndOfBody` for the reply to a message or to its last chunk; None for
    the greeting, and for what the server says unasked before it goes (the state is CLOSED then)."""
    reply: Reply


@attrs.frozen(slots=True)
class ConnectionClosed:
    """Nothing more will come: end of file, or the session ended by QUIT or 421."""


ServerEvent: TypeAlias = CommandReceived | BodyChunk | ChunkEnd | BodyEnd | ConnectionClosed | Signal
ClientEvent: TypeAlias = ReplyReceived | ConnectionClosed | Signal
