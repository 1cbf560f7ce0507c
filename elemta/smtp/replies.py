"""Replies to bytes and bytes to replies, also multi-line and malformed (RFC 5321 §4.2)."""

from __future__ import annotations

import re
from typing import Final

import attrs

from elemta.mail import EnhancedCode, Reply, replies

from .errors import RemoteProtocolError

MAX_LINE: Final = 512
"""Octets of a reply line with code and CRLF, RFC 5321 §4.5.3.1.5."""
MAX_LINES: Final = 128
"""Lines of a received reply that are kept. The longest honest ones are answers to EHLO and HELP."""
MAX_REPLY: Final = 65536
"""Octets of a received reply; more is a peer that never ends it."""

# --- To bytes -----------------------------------------------------------------------------------

_NOT_ASCII = re.compile("[^ -~]")
_NOT_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def format_reply(reply: Reply, *, enhanced: bool = True, utf8: bool = False) -> bytes:
    """The lines of a reply as they are sent.

    Whatever is not printable ASCII becomes "?", so no text can end the line; with `utf8` (RFC 6531
    §3.7.4) other letters stay. Text that does not fit in 512 octets goes on in a further line.
    """
    known = _CONSTANTS.get(id(reply)) if enhanced else None
    if known is not None:
        return known
    # RFC 2034 §4: the code stands in each line; not in 3yz replies, since there is no such class
    enhanced_code = reply.enhanced
    prefix = ""
    if enhanced and enhanced_code is not None:
        digit = reply.code // 100
        if digit != 3:
            prefix = f"{digit}.{enhanced_code.subject}.{enhanced_code.detail} "
    lines = reply.lines
    if len(lines) == 1 and len(lines[0]) < MAX_LINE - 24 and lines[0].isascii() and lines[0].isprintable():
        return f"{reply.code} {prefix}{lines[0]}\r\n".encode("ascii")
    room = MAX_LINE - len("250 ") - len(prefix) - len("\r\n")
    texts = [piece for line in lines or ("",) for piece in _pieces(line, room, utf8=utf8)]
    head = prefix.encode("ascii")
    output = [b"%d-%b%b\r\n" % (reply.code, head, text) for text in texts[:-1]]
    output.append(b"%d %b%b\r\n" % (reply.code, head, texts[-1]))
    return b"".join(output)


def name_host(reply: Reply, hostname: str) -> Reply:
    """The reply with our name as its first word: RFC 5321 §4.2.3 has it in 221 and 421, which a client may
    read like 220 (§4.2), and §4.3.1 in whatever stands in the place of the greeting."""
    if not hostname:
        return reply
    return attrs.evolve(reply, lines=(f"{hostname} {reply.lines[0]}", *reply.lines[1:]))


def _pieces(text: str, room: int, *, utf8: bool) -> list[bytes]:
    if not utf8:
        data = _NOT_ASCII.sub("?", text).encode("ascii")
        return [data[start : start + room] for start in range(0, len(data), room)] or [b""]
    data = _NOT_TEXT.sub("?", text).encode("utf-8")
    pieces = []
    while len(data) > room:
        cut = room
        while data[cut] & 0xC0 == 0x80:  # not within a character
            cut -= 1
        pieces.append(data[:cut])
        data = data[cut:]
    return [*pieces, data]


_CONSTANTS: dict[int, bytes] = {}
"""By identity: most replies that are sent are these very objects, which live as long as the process."""
_CONSTANTS.update(
    {id(reply): format_reply(reply) for reply in vars(replies).values() if isinstance(reply, Reply)}
)

# --- From bytes ---------------------------------------------------------------------------------

# RFC 5321 §4.2: code, then "-" or SP and text, or nothing. Some servers leave the blank out.
_LINE = re.compile(rb"([2-5][0-9][0-9])(?![0-9])(-| )?(.*)", re.DOTALL)
_ENHANCED = re.compile(r"([245])\.([0-9]{1,3})\.([0-9]{1,3})(?: (.*))?", re.DOTALL)


class ReplyParser:
    """Bytes in, replies out. Takes what real servers send wrong, as long as the end of a reply is plain."""

    __slots__ = ("_buffer", "_code", "_lines", "_scan", "_size", "_start")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._start = 0
        self._scan = 0
        self._code = b""
        """Of the reply whose last line has not come."""
        self._lines: list[bytes] = []
        self._size = 0

    def __len__(self) -> int:
        return len(self._buffer) - self._start

    @property
    def within_reply(self) -> bool:
        """Whether some lines of a reply came, and not the last one."""
        return bool(self._code)

    def feed(self, data: bytes) -> None:
        """Append what was received."""
        if self._start == len(self._buffer):
            self._buffer.clear()
            self._start = self._scan = 0
        elif self._start > MAX_REPLY:
            del self._buffer[: self._start]
            self._scan -= self._start
            self._start = 0
        self._buffer += data

    def next_reply(self, *, enhanced: bool = True) -> Reply | None:
        """The next reply, None while it is incomplete.

        `enhanced`: whether a code as in RFC 3463 at the begin of the text is read as one; in refusals it is.

        Raises:
          RemoteProtocolError: what came is no reply.
        """
        while True:
            # RFC 5321 §2.3.8 has CRLF only. A bare LF is taken: a reply's text is not kept as mail.
            end = self._buffer.find(b"\n", self._scan)
            if end < 0:
                self._scan = len(self._buffer)
                _check(self._size + len(self))
                return None
            line = bytes(self._buffer[self._start : end])
            self._size += end + 1 - self._start
            self._start = self._scan = end + 1
            _check(self._size)
            match = _LINE.fullmatch(line.rstrip(b"\r"))
            if not match:
                raise RemoteProtocolError("not a reply")
            code, mark, text = match.groups()
            if self._code and code != self._code:  # RFC 5321 §4.2.1
                raise RemoteProtocolError("a reply whose lines have different codes")
            if len(self._lines) < MAX_LINES:
                self._lines.append(text)
            if mark == b"-":
                self._code = code
                continue
            lines = self._lines
            self._code, self._lines, self._size = b"", [], 0
            return _make_reply(int(code), lines, enhanced=enhanced)


def _check(size: int) -> None:
    if size > MAX_REPLY:
        raise RemoteProtocolError("a reply without an end")


def _make_reply(code: int, lines: list[bytes], *, enhanced: bool) -> Reply:
    texts = [_clean(line) for line in lines]
    match = _ENHANCED.fullmatch(texts[0]) if code >= 400 or (enhanced and code < 300) else None
    # RFC 3463 §2: a class that is not that of the reply is no code of this reply
    if match is None or int(match[1]) != code // 100:
        return Reply(code, None, tuple(texts))
    mark = texts[0].partition(" ")[0]
    # RFC 2034 §4: on each line; some servers write it on the first one only
    texts = [text[len(mark) :].removeprefix(" ") if _begins(text, mark) else text for text in texts]
    return Reply(code, EnhancedCode(int(match[2]), int(match[3])), tuple(texts))


def _begins(text: str, mark: str) -> bool:
    return text == mark or text.startswith(mark + " ")


def _clean(line: bytes) -> str:
    """The text of a stranger without anything that could move a terminal, end a line or hide another text."""
    text = line.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(
        " " if character == "\t" else character if character.isprintable() else _escape(character)
        for character in text
    )


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
