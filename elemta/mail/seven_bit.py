"""Turn a MIME message into one of 7-bit lines, piece by piece (RFC 6152 §3, RFC 2045 §6).

Theory of operation. The message goes through line by line. The header of each entity is held until it
is whole; then it is known whether the entity is a multipart (only its label is changed: §6.4 allows
no encoding of it), a message (its own header follows), or a leaf, which a message with a header in UTF-8 is
as well. A leaf that says 8bit or binary is
written as quoted-printable, which every reader understands and which leaves most text readable. A leaf
that says it is 7-bit, or nothing, is held until octets show that it is not, or until there are too many
of them to hold; so honest parts stay octet for octet as they are, and with them their signatures.

Not everything can be converted: octets above 127 in a header, or in a part whose type or encoding
forbids it, are `CannotConvert`; the caller returns the message then.
"""

from __future__ import annotations

import binascii
import enum
import re
from typing import Final

from .header import HeaderBlock

MAX_HELD: Final = 256 * 1024
"""Octets of one header, of one line, or of one part that turns out to be 7-bit, that are held at most."""

_ENCODING: Final = b"Content-Transfer-Encoding: "
_BOUNDARY = re.compile(rb';\s*boundary\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s";]+))', re.IGNORECASE)
_COMMENT = re.compile(rb"\([^()]*\)")
_EIGHT_BIT = re.compile(rb"[\x80-\xff]")
_MESSAGES: Final = frozenset((b"message/rfc822", b"message/news"))
_GLOBAL: Final = b"message/global"
"""How types begin that may be encoded though they are messages, as their headers may be UTF-8 (RFC 6532 §3.5,
RFC 6533 §4, §6)."""
_PLAIN_TEXT: Final = b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\n"
"""RFC 1428 §3, for what came without a word about its character set."""


class CannotConvert(Exception):
    """There are octets above 127 where no encoding is allowed."""


class _State(enum.Enum):
    HEADER = enum.auto()
    BESIDE = enum.auto()
    """Before the first part of a multipart, or behind its last: nobody reads that (RFC 2046 §5.1.1)."""
    LOOK = enum.auto()
    """A leaf that should be 7-bit, held until that is known."""
    PLAIN = enum.auto()
    """A leaf that has to be 7-bit."""
    QUOTED = enum.auto()
    """A leaf that is written as quoted-printable."""


class SevenBitEncoder:
    """Takes one message in pieces of any size and gives it converted."""

    def __init__(self) -> None:
        self._rest = b""
        self._state = _State.HEADER
        self._held: list[bytes] = []
        """Lines of the header, or of a leaf in LOOK, each with its line end."""
        self._held_size = 0
        self._header = self._empty_line = b""
        """Of the leaf in LOOK."""
        self._unlabelled = False
        """The leaf in LOOK is a message without a word of MIME."""
        self._boundaries: list[bytes] = []
        """Of the multiparts we are in, the outermost first, with their two hyphens."""
        self._top = True
        self._output: list[bytes] = []

    def feed(self, data: bytes) -> bytes:
        """The next piece of the converted message, maybe empty.

        Raises:
          CannotConvert: nothing more may be fed.
        """
        lines = (self._rest + data).split(b"\r\n")
        self._rest = lines.pop()
        if len(self._rest) > MAX_HELD:
            raise CannotConvert("a line is too long to be converted")
        for line in lines:
            self._line(line, b"\r\n")
        return self._take()

    def end(self) -> bytes:
        """What is left when the message has ended. Raises as `feed` does."""
        if self._rest:
            self._line(self._rest, b"")
            self._rest = b""
        if self._state is _State.HEADER:
            self._end_header(b"")
        self._decide(eight_bit=False)
        return self._take()

    def _take(self) -> bytes:
        output = b"".join(self._output)
        self._output.clear()
        return output

    # --- Lines ------------------------------------------------------------------------------------------

    def _line(self, line: bytes, end: bytes) -> None:
        if line.startswith(b"--") and self._boundaries and self._is_boundary(line):
            self._output.append(line + end)
            return
        match self._state:
            case _State.HEADER:
                if line:
                    self._hold(line + end)
                else:
                    self._end_header(end)
            case _State.QUOTED:
                self._output.append(_quoted(line) + end)
            case _State.LOOK:
                self._hold(line + end)
                if not line.isascii():
                    self._decide(eight_bit=True)
                elif self._held_size > MAX_HELD:
                    self._decide(eight_bit=False)
            case _State.PLAIN:
                if not line.isascii():
                    raise CannotConvert("a part that may not be encoded has octets above 127")
                self._output.append(line + end)
            case _State.BESIDE:
                self._output.append(_EIGHT_BIT.sub(b"?", line) + end)

    def _hold(self, line: bytes) -> None:
        self._held.append(line)
        self._held_size += len(line)
        if self._state is _State.HEADER and self._held_size > MAX_HELD:
            raise CannotConvert("a header is too long to be converted")

    def _is_boundary(self, line: bytes) -> bool:
        """Whether the line ends a part, and with it those inside; what follows is begun then."""
        text = line.rstrip(b" \t")
        for depth in range(len(self._boundaries) - 1, -1, -1):
            boundary = self._boundaries[depth]
            if text == boundary or text == boundary + b"--":
                break
        else:
            return False
        if self._state is _State.HEADER:  # a part without a body, or without anything
            self._end_header(b"")
        self._decide(eight_bit=False)
        closed = text != boundary
        del self._boundaries[depth if closed else depth + 1 :]
        self._state = _State.BESIDE if closed else _State.HEADER
        return True

    # --- Entities ---------------------------------------------------------------------------------------

    def _end_header(self, empty_line: bytes) -> None:
        header = b"".join(self._held)
        self._held.clear()
        self._held_size = 0
        if not header.isascii():
            raise CannotConvert("a header has octets above 127")
        top, self._top = self._top, False
        block = HeaderBlock(header)
        kind, boundary = _content_type(block)
        encoding = _word(block, b"content-transfer-encoding")
        labelled = encoding in (b"8bit", b"binary")
        if boundary is not None or kind in _MESSAGES:
            if labelled:
                header = _with_encoding(header, b"7bit")
            self._output.append(header + empty_line)
            if boundary is not None:
                self._boundaries.append(b"--" + boundary)
                self._state = _State.BESIDE
            else:
                self._state = _State.HEADER
            return
        if kind.startswith((b"multipart/", b"message/")) and not kind.startswith(_GLOBAL):
            # RFC 2045 §6.4: may not be encoded
            self._output.append((_with_encoding(header, b"7bit") if labelled else header) + empty_line)
            self._state = _State.PLAIN
        elif labelled:
            self._output.append(_with_encoding(header, b"quoted-printable") + empty_line)
            self._state = _State.QUOTED
        elif encoding in (b"", b"7bit"):
            self._header, self._empty_line = header, empty_line
            self._unlabelled = top and not block.find(b"mime-version") and not block.find(b"content-type")
            self._state = _State.LOOK
        else:
            self._output.append(header + empty_line)
            self._state = _State.PLAIN

    def _decide(self, *, eight_bit: bool) -> None:
        """Write what was held of a leaf in LOOK, now that it is known what it is."""
        if self._state is not _State.LOOK:
            return
        held = b"".join(self._held)
        self._held.clear()
        self._held_size = 0
        header = self._header
        if eight_bit:
            header = _with_encoding(header + _PLAIN_TEXT if self._unlabelled else header, b"quoted-printable")
            held = b"\r\n".join(_quoted(line) for line in held.split(b"\r\n"))
            self._state = _State.QUOTED
        else:
            self._state = _State.PLAIN
        self._output.append(header + self._empty_line + held)


def _content_type(block: HeaderBlock) -> tuple[bytes, bytes | None]:
    """The type in lower case, and the boundary where it is a multipart that has one."""
    field = block.find(b"content-type")
    if field is None:
        return b"text/plain", None
    value = field.value
    kind = _COMMENT.sub(b"", value.partition(b";")[0]).strip().lower()
    found = _BOUNDARY.search(value) if kind.startswith(b"multipart/") else None
    if found is None:
        return kind, None
    boundary = found[2] if found[1] is None else re.sub(rb"\\(.)", rb"\1", found[1])
    return kind, boundary.rstrip(b" \t") or None


def _word(block: HeaderBlock, name: bytes) -> bytes:
    field = block.find(name)
    return b"" if field is None else _COMMENT.sub(b"", field.value).strip().lower()


def _with_encoding(header: bytes, encoding: bytes) -> bytes:
    label = _ENCODING + encoding + b"\r\n"
    field = HeaderBlock(header).find(b"content-transfer-encoding")
    if field is None:
        return header + label
    return header.replace(field.raw, label, 1)


def _quoted(line: bytes) -> bytes:
    """One line as quoted-printable with soft line breaks (RFC 2045 §6.7)."""
    # Not as text: a bare CR or LF is an octet to be kept. A lone dot comes out as =2E.
    encoded = binascii.b2a_qp(line, istext=False)
    return encoded.replace(b"=\n", b"=\r\n")
