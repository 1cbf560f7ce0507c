"""Sortable ids for messages and sessions; time and randomness are arguments."""

from __future__ import annotations

import re
from typing import NewType

MessageId = NewType("MessageId", str)
SessionId = NewType("SessionId", str)

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_ID = re.compile(r"[0-9a-hjkmnp-tv-z]{16}")
RANDOM_BITS = 35


_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
"""Two characters for ten bits."""
_SHIFTS = range(70, -10, -10)
_TIME = (1 << 45) - 1
_RANDOM = (1 << RANDOM_BITS) - 1


def make_id(milliseconds: int, random: int) -> str:
    """Sixteen characters: 45 bits of time since 1970, 35 of randomness. Later ids sort after earlier ones."""
    value = (milliseconds & _TIME) << RANDOM_BITS | random & _RANDOM
    return "".join([_PAIRS[value >> shift & 1023] for shift in _SHIFTS])


def is_id(text: str) -> bool:
    """Whether the text may be an id: safe as a file name, in SQL and in a header."""
    return _ID.fullmatch(text) is not None
