"""What a submission server may mend in a message: addresses without a domain, a missing Date or Message-ID.

RFC 6409 §8, and only for the role submission: what comes from other servers is never altered (RFC 5321
§6.4). Nothing else is touched: each octet of a field that needs no repair stays as it was, and no Sender
field is made of the account's name (RFC 6409 §8.1 allows it, but then every recipient would see it).
"""

from __future__ import annotations

import re

from elemta.mail import HeaderBlock, HeaderField, MessageId, date, split_header

from .header_first import HeaderFirst

_ADDRESS_FIELDS = frozenset(
    # RFC 5322 §3.6.2, §3.6.3, §3.6.6
    prefix + name
    for name in (b"from", b"sender", b"reply-to", b"to", b"cc", b"bcc")
    for prefix in (b"", b"resent-")
)

# RFC 5322 §3.2: what an address list is made of. A comment is found by its begin, for it may nest.
_TOKEN = re.compile(
    rb'(?P<blank>[ \t\r\n]+)|(?P<word>"(?:[^"\\]|\\.)*"|[^ \t\r\n"()<>,:;@\[\]\\]+)'
    rb"|(?P<literal>\[[^\[\]\\]*\])|(?P<mark>[()<>,:;@])",
    re.DOTALL,
)
_COMMENT_MARK = re.compile(rb"\\.|[()]", re.DOTALL)


def missing_fields(header: bytes, message: MessageId, hostname: str, time: float) -> bytes:
    """The fields to put before a message that lacks them, for it must have a Date and should have a
    Message-ID (RFC 5322 §3.6; RFC 6409 §8.2, §8.3). With an empty line behind, where no header begins."""
    block = HeaderBlock(header)
    fields = b""
    if not block.count(b"date"):
        fields += f"Date: {date(time)}\r\n".encode()
    if not block.count(b"message-id"):
        fields += f"Message-ID: <{message}@{hostname}>\r\n".encode()
    if header and not header.startswith(b"\r\n") and next(block.fields(), None) is None:
        fields += b"\r\n"  # else the text would become fields that make no sense
    return fields


class HeaderFixer:
    """Takes a message in pieces and gives it with its addresses completed.

    The header is kept back until it is whole, `limit` octets at most: what is larger passes as it is.
    """

    __slots__ = ("_domain", "_header", "_limit")

    def __init__(self, domain: str, limit: int) -> None:
        self._domain = domain.encode("ascii")
        self._limit = limit
        self._header = HeaderFirst(limit)

    def feed(self, data: bytes) -> bytes:
        """The next piece of the message, empty while its header is not whole."""
        if not self._header.waits:
            return data
        return self._complete(self._header.feed(data))

    def end(self) -> bytes:
        """What was kept back; the message is complete."""
        return self._complete(self._header.end())

    def _complete(self, text: bytes) -> bytes:
        if not text or (len(text) > self._limit and b"\r\n\r\n" not in text):
            return text
        size = split_header(text)
        return complete_addresses(text[:size], self._domain) + text[size:]


def complete_addresses(header: bytes, domain: bytes) -> bytes:
    """The header with `@domain` behind each address that has none (RFC 6409 §4.2); the rest as it is."""
    pieces = []
    position = 0
    for field in HeaderBlock(header).fields():
        if field.name.lower() in _ADDRESS_FIELDS:
            start = position
            while not header.startswith(field.raw, start):  # at the begin of a line, not within another field
                start = header.index(b"\r\n", start) + 2
            pieces += [header[position:start], _complete_field(field, domain)]
            position = start + len(field.raw)
    pieces.append(header[position:])
    return b"".join(pieces)


def _complete_field(field: HeaderField, domain: bytes) -> bytes:
    raw = field.raw
    places = _places(raw, raw.index(b":") + 1)
    if not places:
        return raw
    pieces = []
    position = 0
    for place in places:
        pieces += [raw[position:place], b"@", domain]
        position = place
    pieces.append(raw[position:])
    return b"".join(pieces)


def _places(raw: bytes, position: int) -> list[int]:
    """Where a domain is missing. Nowhere, if the list is not understood as a whole."""
    places: list[int] = []
    address = _Address()
    in_brackets = False
    while position < len(raw):
        token = _TOKEN.match(raw, position)
        if token is None:
            return []
        position = token.end()
        mark = token["mark"]
        if token["blank"]:
            address.gap = True
        elif mark == b"(":
            position = _end_of_comment(raw, position)
            if not position:
                return []
            address.gap = True
        elif token["word"]:
            address.add_word(position)
        elif token["literal"] or mark == b"@":
            address.has_domain = True
        elif mark == b"<":
            if in_brackets:
                return []
            in_brackets, address = True, _Address()
        elif mark == b">":
            if not in_brackets:
                return []
            places += address.place()
            in_brackets, address = False, _Address(has_domain=True)
        elif mark == b":":
            address = _Address()  # a group's name (RFC 5322 §3.4), or a route within brackets (§4.4)
        elif not in_brackets:  # "," or ";"
            places += address.place()
            address = _Address()
        if mark == b")":
            return []
    if in_brackets:
        return []
    return places + address.place()


class _Address:
    """One address of a list, as far as it was read."""

    __slots__ = ("end", "gap", "has_domain", "words")

    def __init__(self, *, has_domain: bool = False) -> None:
        self.has_domain = has_domain
        self.words = 0
        self.end = 0
        self.gap = True
        """Whether the next word is another one, rather than more of the last."""

    def add_word(self, end: int) -> None:
        self.words += self.gap
        self.gap = False
        self.end = end

    def place(self) -> list[int]:
        """Behind a lone local part. Several words are a name, whose address cannot be guessed."""
        return [self.end] if self.words == 1 and not self.has_domain else []


def _end_of_comment(raw: bytes, position: int) -> int:
    """Behind the comment whose first bracket ends at `position`; 0: it has no end (RFC 5322 §3.2.2)."""
    depth = 1
    for mark in _COMMENT_MARK.finditer(raw, position):
        depth += {b"(": 1, b")": -1}.get(mark[0], 0)
        if not depth:
            return mark.end()
    return 0
