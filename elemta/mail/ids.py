"""Sortable ids for messages and sessions; time and randomness are arguments."""

from __future__ import annotations

import re
from typing import NewType

MessageId = NewType("MessageId", str)
SessionId = NewType("SessionId", str)

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_ID = re.compile(r"[0-9a-hjkmnp-tv-z]{16}")
RANDOM_BITS = 35


def _encode(value: int, length: int) -> str:
    digits = []
    for _ in range(length):
        digits.append(_ALPHABET[value & 31])
        value >>= 5
    return "".join(reversed(digits))


def make_id(milliseconds: int, random: int) -> str:
    """Sixteen characters: 45 bits of time since 1970, 35 of randomness. Later ids sort after earlier ones."""
    return _encode(milliseconds, 9) + _encode(random, 7)


def is_id(text: str) -> bool:
    """Whether the text may be an id: safe as a file name, in SQL and in a header."""
    return _ID.fullmatch(text) is not None
