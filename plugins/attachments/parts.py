"""Takes a message apart as it streams by: its parts with their names, sizes and first octets. Bounded, pure.

The parser of the standard library reads everything, however deep it goes. Here depth, parts and lines have
bounds, and what can be read in several ways is `TooMuch`: programs at the other end may read it in another.
"""

from __future__ import annotations

import binascii
import email
import re
from collections.abc import Callable, Iterable, Iterator
from email.header import decode_header, make_header
from email.message import Message
from email.utils import collapse_rfc2231_value
from typing import Final

import attrs

from .kinds import HEAD, kind_of

LONGEST_HEADER: Final = 64 * 1024
MESSAGES: Final = ("message/rfc822", "message/global")
_LONGEST_LINE: Final = 64 * 1024
_NOT_BASE64: Final = bytes(
    set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")
)
_UUENCODED: Final = re.compile(rb"begin [0-7]{3,4} (\S.{0,255}?)\s*")
_ONCE: Final = ("content-type", "content-disposition", "content-transfer-encoding")


class TooMuch(Exception):
    """It cannot be looked through; the text says why."""


@attrs.frozen
class Limits:
    """How far is looked."""

    depth: int
    """Parts in parts, messages in messages, archives in archives."""
    parts: int
    lines: int
    keep: int
    """Octets of a part that are kept to be looked into."""


@attrs.define
class Part:
    """What is no container: text, or something attached."""

    type: str
    """As it is declared, in small letters."""
    names: tuple[str, ...] = ()
    """All that it is called, which need not be the same."""
    size: int = 0
    """Of its content, decoded."""
    head: bytes = b""
    content: bytearray | None = attrs.field(factory=bytearray)
    """None: more than is kept, or nothing to look into."""
    depth: int = 0

    def add(self, data: bytes, keep: int) -> None:
        """Decoded octets of it."""
        self.size += len(data)
        if len(self.head) < HEAD:
            self.head += data[: HEAD - len(self.head)]
        if self.content is not None:
            self.content += data
            if len(self.content) > keep or not (len(self.head) < HEAD or self.is_looked_into):
                self.content = None

    @property
    def is_looked_into(self) -> bool:
        """Whether there may be more in it."""
        return self.type in MESSAGES or bool(kind_of(self.head))


def parts_of(chunks: Iterable[bytes], limits: Limits, depth: int = 0) -> Iterator[Part]:
    """The parts of a message, those of messages in it included.

    Raises:
      TooMuch: a limit is reached.
    """
    scanner = _Scanner(limits, depth)
    for number, line in enumerate(_lines(chunks)):
        if number >= limits.lines:
            raise TooMuch(f"more than {limits.lines} lines")
        yield from scanner.feed(line)
    yield from scanner.end()


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines with their ends; a longer one in pieces."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line + b"\n"
        if len(rest) > _LONGEST_LINE:
            yield rest
            rest = b""
    if rest:
        yield rest


class _Scanner:
    def __init__(self, limits: Limits, depth: int) -> None:
        self._limits = limits
        self._depth = depth
        """Of the message that is read."""
        self._outer: list[tuple[bytes, int]] = []
        """Boundaries that are open, each with the depth in its parts."""
        self._header: bytearray | None = bytearray()
        """Of the part that begins; None: behind it."""
        self._part: Part | None = None
        """None between parts."""
        self._decode: Callable[[bytes], bytes] = _as_it_is
        self._count = 0

    def feed(self, line: bytes) -> Iterator[Part]:
        if self._outer and line.startswith(b"--"):
            found = self._boundary(line.rstrip(b" \t\r\n"))
            if found is not None:
                yield from self._finish()
                place, last = found
                self._depth = self._outer[place][1]
                del self._outer[place if last else place + 1 :]
                self._header = None if last else bytearray()
                return
        if self._header is None:
            yield from self._body(line)
        elif line in (b"\r\n", b"\n"):
            header, self._header = bytes(self._header), None
            self._begin(header)
        else:
            self._header += line
            if len(self._header) > LONGEST_HEADER:
                raise TooMuch(f"a header of more than {LONGEST_HEADER} octets")

    def end(self) -> Iterator[Part]:
        if self._header:
            header, self._header = bytes(self._header), None
            self._begin(header)
        yield from self._finish()

    def _boundary(self, line: bytes) -> tuple[int, bool] | None:
        """Which of the open ones it is, and whether it is the last of that."""
        for place in range(len(self._outer) - 1, -1, -1):
            boundary = self._outer[place][0]
            if line == b"--" + boundary:
                return place, False
            if line == b"--" + boundary + b"--":
                return place, True
        return None

    def _begin(self, header: bytes) -> None:
        message = email.message_from_bytes(header)
        for name in _ONCE:
            if len(message.get_all(name, [])) > 1:
                raise TooMuch(f"two fields {name}")
        kind = message.get_content_type()
        encoding = str(message.get("content-transfer-encoding", "")).strip().lower()
        if kind.startswith("multipart/"):
            boundary = message.get_boundary()
            if boundary is None:
                raise TooMuch("a multipart without a boundary")
            self._deeper()
            self._outer.append((boundary.encode("utf-8", "surrogateescape"), self._depth))
            return
        if kind in MESSAGES and encoding not in ("base64", "quoted-printable"):
            self._deeper()
            self._header = bytearray()
            return
        self._count += 1
        if self._count > self._limits.parts:
            raise TooMuch(f"more than {self._limits.parts} parts")
        self._part = Part(kind, names_of(message), depth=self._depth)
        decoders: dict[str, Callable[[bytes], bytes]] = {
            "base64": _Base64().feed,
            "quoted-printable": binascii.a2b_qp,
        }
        self._decode = decoders.get(encoding, _as_it_is)

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > self._limits.depth:
            raise TooMuch(f"deeper than {self._limits.depth} parts in parts")

    def _body(self, line: bytes) -> Iterator[Part]:
        part = self._part
        if part is None:
            return  # before the first part, or behind the last one
        if line.startswith(b"begin ") and (match := _UUENCODED.fullmatch(line)):
            # A file in the middle of a text, as before MIME; some programs still offer it
            yield Part("application/octet-stream", (match[1].decode("utf-8", "replace"),), depth=self._depth)
        part.add(self._decode(line), self._limits.keep)

    def _finish(self) -> Iterator[Part]:
        part, self._part = self._part, None
        if part is None:
            return
        if part.type in MESSAGES:  # an encoded one, which RFC 2046 5.2.1 forbids
            if part.content is None:
                raise TooMuch("an encoded message that is too large to look into")
            if part.depth >= self._limits.depth:
                raise TooMuch(f"deeper than {self._limits.depth} parts in parts")
            yield from parts_of([bytes(part.content)], self._limits, part.depth + 1)
            return
        yield part


def _as_it_is(data: bytes) -> bytes:
    return data


class _Base64:
    """Line by line, whatever stands between."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, line: bytes) -> bytes:
        data = self._rest + line.translate(None, _NOT_BASE64)
        whole = len(data) - len(data) % 4
        self._rest = data[whole:]
        try:
            return binascii.a2b_base64(data[:whole])
        except binascii.Error:
            return b""


def names_of(message: Message) -> tuple[str, ...]:
    """All names that the header of a part gives it, decoded."""
    found = []
    for value in (
        message.get_param("filename", None, "content-disposition"),
        message.get_param("name", None, "content-type"),
    ):
        if value is None:
            continue
        text = collapse_rfc2231_value(value) if isinstance(value, tuple) else str(value)
        try:
            text = str(make_header(decode_header(text)))
        except (
            ValueError,
            LookupError,
        ):  # of a character set that nobody knows; email's errors are ValueError
            pass
        found.append(text[:1000])
    return tuple(dict.fromkeys(found))
