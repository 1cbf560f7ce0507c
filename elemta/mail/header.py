"""The header of a message as bytes: where it ends, and which fields it has; never re-serialised.

Everything here is linear in the input and by hand: the `email` package costs forty times as much
(`PERFORMANCE`) and is lenient in ways that a server must not be. Lines end with CR LF; a bare CR or LF
is an octet like any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import attrs

# RFC 5322 §3.6.8: ftext is any printable character except the colon. §4.5 has blanks before the colon.
_NAME = re.compile(rb"([\x21-\x39\x3b-\x7e]+)[ \t]*:")
_BLANKS = re.compile(rb"[ \t]*")


def split_header(content: bytes) -> int:
    """The offset of the body: behind the empty line, or the length where there is none (RFC 5322 §2.1)."""
    if content.startswith(b"\r\n"):
        return 2
    end = content.find(b"\r\n\r\n")
    return len(content) if end < 0 else end + 4


@attrs.frozen(slots=True)
class HeaderField:
    """One field: its name as written, and all its octets up to the last CR LF."""

    name: bytes
    raw: bytes

    @property
    def value(self) -> bytes:
        """The value unfolded (RFC 5322 §2.2.3), without blanks at the ends."""
        return self.raw.partition(b":")[2].replace(b"\r\n", b"").strip(b" \t")


@attrs.frozen(slots=True)
class HeaderBlock:
    """The header section; octets behind its empty line are not looked at by `fields` and `find`."""

    raw: bytes

    def fields(self) -> Iterator[HeaderField]:
        """The fields in order. What is no field (no colon, a name with blanks) is passed over."""
        raw = self.raw
        start = 0
        while start < len(raw):
            end = raw.find(b"\r\n", start)
            if end == start:  # the empty line
                return
            while end >= 0 and raw[end + 2 : end + 3] in (b" ", b"\t"):  # RFC 5322 §2.2.3: folding
                end = raw.find(b"\r\n", end + 2)
            end = len(raw) if end < 0 else end + 2
            name = _NAME.match(raw, start, end)
            if name:
                yield HeaderField(name[1], raw[start:end])
            start = end

    def find(self, name: bytes) -> HeaderField | None:
        """The first field of that name, in any case."""
        wanted = name.lower()
        for field in self.fields():
            if field.name.lower() == wanted:
                return field
        return None

    def count(self, name: bytes) -> int:
        """How many fields of that name there are, in any case.

        On the hot path (hops are counted for each message), so it searches rather than iterates.
        """
        raw = self.raw[: split_header(self.raw)].lower()
        wanted = name.lower()
        count = int(_is_field(raw, wanted, 0))
        wanted = b"\r\n" + wanted
        position = raw.find(wanted)
        while position >= 0:
            count += _is_field(raw, wanted, position)
            position = raw.find(wanted, position + len(wanted))
        return count


def _is_field(raw: bytes, wanted: bytes, position: int) -> bool:
    if not raw.startswith(wanted, position):
        return False
    blanks = _BLANKS.match(raw, position + len(wanted))
    return blanks is not None and raw.startswith(b":", blanks.end())
