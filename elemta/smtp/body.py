r"""The octets of a message: read behind DATA and BDAT, with their checks, and stuffed (RFC 5321 §4.5.2).

Theory of operation. Only CRLF "." CRLF ends the message; no mixture of bare CR, bare LF or NUL does
(that is how messages are smuggled), and what is wrong with the content is remembered and told at the
real end, because a reader that stops earlier is out of step. The decoder works on pieces as large as
they come, with a handful of searches each, and never line by line:

- What ends a piece and may be the begin of `\r\n.\r\n` is held back for the next one: at most four
  octets. So no CRLF and no "dot at the begin of a line" is ever split between two pieces.
- Before the first octet there is a CRLF that is only thought: the one that ended the DATA line. With
  it a dot at the very begin needs no case of its own. It is cut off the first piece.

A chunk of BDAT has its size before it, so nothing is searched for its end; but a CRLF may be split
between two chunks, so a CR at the end of a piece is held back, too.
"""

from __future__ import annotations

import re
from typing import Final

import attrs

from .events import BodyProblem

END: Final = b"\r\n.\r\n"

NUL_REPLACEMENT: Final = b"?"
"""Not nothing: what stands around a NUL must not become a CRLF, or an end, that nobody else saw. Not a
blank: it would make a line a part of the one before it."""

# The longest end of a piece that may be the begin of END
_HELD: Final = ((b"\r\n.\r", 4), (b"\r\n.", 3), (b"\r\n", 2), (b"\r", 1))
_LAST_OCTETS: Final = frozenset(b"\r\n.")

_LINE_END = re.compile(rb"\r\n?|\n")

# One search for the bare CR, the dot at the begin of a line and the END: all begin with a CR that is
# not simply the end of a line. It takes a third of the time of a search for each.
_SUSPECT = re.compile(rb"\r(?!\n(?:[^.]|\Z))")
_LINE_DOT = re.compile(rb"\n\.")
_NOT_LINE_END: Final = bytes(set(range(256)) - {0x0D, 0x0A})


@attrs.frozen(slots=True)
class Limits:
    """What one client may make the machine take. Zero for a size of the message: no limit."""

    command_line: int = 4096
    """Octets with CRLF; RFC 5321 §4.5.3.1.4 wants 512 at least, extensions add to it."""
    message_size: int = 0
    """Octets of the un-stuffed message."""
    text_line: int = 0
    """Octets of a line of the message with CRLF (RFC 5321 §4.5.3.1.6: 1000)."""
    header_size: int = 0
    """Octets before the first empty line of the message."""
    repair_line_ends: bool = False
    """Whether bare CR and bare LF become CRLF within the message instead of being a `BodyProblem`."""
    repair_nul: bool = False
    """Whether a NUL becomes `NUL_REPLACEMENT` within the message instead of being a `BodyProblem`."""


class _Checks:
    """What is counted and looked for in the content of a message, however it is split."""

    __slots__ = (
        "_any_octets",
        "_at_line_start",
        "_found",
        "_header_done",
        "_limits",
        "_line",
        "_text_line",
        "header",
        "size",
    )

    def __init__(self, limits: Limits, *, any_octets: bool) -> None:
        self._limits = limits
        self._any_octets = any_octets
        self._text_line = 0 if any_octets else limits.text_line
        self._found: set[BodyProblem] = set()
        self._header_done = limits.header_size <= 0
        self._at_line_start = True
        self._line = 0
        """Octets of the unfinished line."""
        self.size = 0
        """Octets of the content so far (RFC 1870 §5)."""
        self.header = 0
        """Octets of the header so far, where it is limited."""

    @property
    def problem(self) -> BodyProblem | None:
        """What is wrong with the content so far."""
        if not self._found:
            return None
        return next(problem for problem in BodyProblem if problem in self._found)

    def _check(self, content: bytes, no_bare_cr: bool) -> bytes:
        """The content as it is to be kept. No CRLF may be split between two calls."""
        if not self._any_octets:
            content = self._check_octets(content, no_bare_cr=no_bare_cr)
        if not self._header_done:
            self._check_header(content)
        if self._text_line > 0 and BodyProblem.LINE_TOO_LONG not in self._found:
            self._check_lines(content)
        self._at_line_start = content.endswith(b"\r\n")
        return self._check_size(content)

    def _check_octets(self, content: bytes, *, no_bare_cr: bool) -> bytes:
        # Where each CR has its LF, there is a bare LF only if there is an LF more
        ends = content.translate(None, _NOT_LINE_END)
        if not no_bare_cr or ends != b"\r\n" * (len(ends) // 2):
            pairs = content.count(b"\r\n")
            bare_lf = content.count(b"\n") != pairs
            bare_cr = content.count(b"\r") != pairs
        else:
            bare_lf = bare_cr = False
        if bare_lf or bare_cr:
            if self._limits.repair_line_ends:
                # What was no line before becomes one; its dots were never stuffed and stay
                content = _LINE_END.sub(b"\r\n", content)
            else:
                if bare_lf:
                    self._found.add(BodyProblem.BARE_LF)
                if bare_cr:
                    self._found.add(BodyProblem.BARE_CR)
        if b"\0" in content:
            if self._limits.repair_nul:
                content = content.replace(b"\0", NUL_REPLACEMENT)
            else:  # RFC 5322 §2.3, §4: text has none
                self._found.add(BodyProblem.NUL)
        return content

    def _check_header(self, content: bytes) -> None:
        if self._at_line_start and content.startswith(b"\r\n"):
            self._header_done = True
            return
        empty_line = content.find(b"\r\n\r\n")
        self._header_done = empty_line >= 0
        self.header += empty_line + 2 if empty_line >= 0 else len(content)
        if self.header > self._limits.header_size:
            self._found.add(BodyProblem.HEADER_TOO_BIG)
            self._header_done = True

    def _check_lines(self, content: bytes) -> None:
        # RFC 5321 §4.5.3.1.6 counts the CRLF, so the text of a line may have two octets less. The
        # search goes backwards from the last octet where the line may end: a step passes many lines.
        longest = self._text_line - 2
        position = -self._line
        while position + longest < len(content):
            end = content.rfind(b"\r\n", max(position, 0), position + longest + 2)
            if end < 0:
                self._found.add(BodyProblem.LINE_TOO_LONG)
                return
            position = end + 2
        last = content.rfind(b"\r\n", max(position, 0))
        self._line = len(content) - (last + 2 if last >= 0 else position)

    def _check_size(self, content: bytes) -> bytes:
        before = self.size
        self.size = before + len(content)
        limit = self._limits.message_size
        if 0 < limit < self.size:
            self._found.add(BodyProblem.TOO_BIG)
            # Up to the limit exactly, so that what is handed out does not depend on the pieces
            return content[: limit - before] if before < limit else b""
        return content


class DotDecoder(_Checks):
    """Takes the octets of one message behind DATA and gives its content."""

    __slots__ = ("_held", "_started")

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits, any_octets=False)
        self._held = b"\r\n"  # the CRLF that is only thought
        self._started = False

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Give the next content (maybe none), and once the message has ended what came behind it.

        The second value is None before the end. Nothing may be fed after the end.
        """
        piece = self._held + data if self._held else data
        suspect = _SUSPECT.search(piece)
        place = len(piece) if suspect is None else suspect.start()
        end = place if piece.startswith(END, place) else piece.find(END, place)
        if end >= 0:
            return self._content(piece[: end + 2], plain=place == end), piece[end + 5 :]
        held = 0
        if piece and piece[-1] in _LAST_OCTETS:
            for text, size in _HELD:
                if piece.endswith(text):
                    held = size
                    break
        size = len(piece) - held
        self._held = piece[size:]
        return self._content(piece[:size] if held else piece, plain=place >= size), None

    def _content(self, content: bytes, *, plain: bool) -> bytes:
        """`plain`: it has neither a bare CR nor a dot at the begin of a line."""
        if not content:
            return b""
        if not plain:
            # RFC 5321 §4.5.2: a dot at the begin of a line is deleted, whatever follows it in the line.
            # The line with nothing else is the end, and was found before.
            content = content.replace(b"\r\n.", b"\r\n")
        if not self._started:
            self._started = True
            content = content[2:]
            if not content:
                return b""
        return self._check(content, plain)


class ChunkDecoder(_Checks):
    """Takes the octets of one message, of all its chunks behind BDAT, and gives its content (RFC 3030 §2)."""

    __slots__ = ("_held",)

    def __init__(self, limits: Limits, *, binary: bool = False) -> None:
        # RFC 3030 §2: text has CRLF at the end of its lines, as with DATA; BINARYMIME has no lines (§3)
        super().__init__(limits, any_octets=binary)
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """The next content, maybe none."""
        content = self._held + data if self._held else data
        self._held = b"\r" if content.endswith(b"\r") else b""
        if self._held:
            content = content[:-1]
        return self._check(content, False) if content else b""

    def end(self) -> bytes:
        """What was held back, now that no more comes."""
        content, self._held = self._held, b""
        return self._check(content, False) if content else b""


class DotEncoder:
    """Stuffs one message for the wire, in pieces of any size."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b"\r\n"
        """The last two octets; at first the CRLF of the DATA line."""

    def feed(self, data: bytes) -> bytes:
        """The piece with dots doubled where a line begins with one; the same object where none does."""
        if not data:
            return data
        # RFC 5321 §4.5.2
        encoded = data.replace(b"\r\n.", b"\r\n..") if _LINE_DOT.search(data) else data
        if data.startswith(b"."):
            if self._tail == b"\r\n":
                encoded = b"." + encoded
        elif data.startswith(b"\n.") and self._tail.endswith(b"\r"):
            encoded = b"\n." + encoded[1:]
        self._tail = data[-2:] if len(data) > 1 else self._tail[-1:] + data
        return encoded

    def end(self) -> bytes:
        """The end of the message, with the CRLF before it that the content may lack (RFC 5321 §4.1.1.4)."""
        return b".\r\n" if self._tail == b"\r\n" else END


def dot_encode(data: bytes) -> bytes:
    """A whole message as it goes over the wire: stuffed, with the final CRLF it may lack and the end dot."""
    encoder = DotEncoder()
    return encoder.feed(data) + encoder.end()
