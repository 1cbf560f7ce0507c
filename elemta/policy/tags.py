"""Tag lists, `a=b; c=d`: the syntax that signatures and the records of keys share (RFC 6376 §3.2)."""

from __future__ import annotations

import base64
import re

# RFC 6376 §3.2: tag-name = ALPHA *ALNUMPUNC
_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9_]*")
# §3.2: tval is any printable character but the semicolon, with blanks between; UTF-8 by RFC 8616 §5. What is
# left of a line end after unfolding is none.
_VALUE = re.compile(rb"[\x20-\x3a\x3c-\x7e\x80-\xff\t]*")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]+={0,2}")
_WHITE = b" \t\r\n"


class TagError(Exception):
    """No tag list, or a value that is none. The text is for operators and holds nothing of a stranger's."""


def parse_tags(text: bytes) -> dict[bytes, bytes]:
    """The tags in order; names and values are case-sensitive, values are unfolded and bare of outer blanks.

    One pass with a bounded number of searches for each tag: linear, whatever the text.

    Raises:
      TagError: the text is no tag list. One that has a tag twice is invalid as a whole (§3.2).
    """
    tags: dict[bytes, bytes] = {}
    specs = text.replace(b"\r\n", b"").split(b";")
    if len(specs) > 1 and not specs[-1].strip(b" \t"):
        specs.pop()  # §3.2: a semicolon may stand at the end
    for spec in specs:
        name, equals, value = spec.partition(b"=")
        name = name.strip(b" \t")
        if not equals or not _NAME.fullmatch(name):
            raise TagError("not a list of tags")
        if not _VALUE.fullmatch(value):
            raise TagError("a tag has characters that are not allowed")
        if name in tags:
            raise TagError("a tag stands twice")
        tags[name] = value.strip(b" \t")
    return tags


def without_value(text: bytes, wanted: bytes) -> tuple[bytes, ...]:
    """A tag list with one tag's value taken out, in each form that signers have made of it.

    RFC 6376 §3.7 takes the blanks around the value too. Where some stand before the semicolon behind it,
    there is a second form with those left in: dkimpy signs so, and what was made with it.
    """
    specs = text.split(b";")
    for index, spec in enumerate(specs):
        name, equals, value = spec.partition(b"=")
        if equals and name.strip(_WHITE) == wanted:
            blanks = value[len(value.rstrip(_WHITE)) :]
            specs[index] = name + equals
            bare = b";".join(specs)
            if not blanks or index + 1 == len(specs):
                return (bare,)
            specs[index] += blanks
            return bare, b";".join(specs)
    return (text,)


def decode_base64(value: bytes) -> bytes:
    """The octets of a base64string, which may have blanks anywhere (RFC 6376 §3.2).

    Raises:
      TagError: it is none: other characters, a wrong length, wrong padding.
    """
    text = value.translate(None, _WHITE)
    if len(text) % 4 or not _BASE64.fullmatch(text):
        raise TagError("not base64")
    return base64.b64decode(text)


def split_list(value: bytes) -> list[bytes]:
    """The items of a list with colons, without the blanks around them (RFC 6376 §3.5, h=)."""
    return [item.strip(b" \t") for item in value.split(b":")]


def parse_number(value: bytes, digits: int) -> int:
    """A number of up to so many digits (RFC 6376 §3.5, l=, t=, x=).

    Raises:
      TagError: it is none.
    """
    if not 0 < len(value) <= digits or not value.isdigit():
        raise TagError("not a number")
    return int(value)
