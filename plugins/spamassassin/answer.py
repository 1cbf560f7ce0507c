"""Reads what spamd answers to SYMBOLS: a status, the score, the rules that were met. Pure."""

from __future__ import annotations

import math
import re
from typing import Final

import attrs

MOST: Final = 64 * 1024
"""Octets of an answer."""
_STATUS: Final = re.compile(rb"SPAMD/[0-9.]{1,8} +([0-9]{1,3}) ?([^\r\n]{0,200})")
_SPAM: Final = re.compile(rb"(?i)Spam: *(True|Yes|False|No) *; *(-?[0-9.]{1,12}) */ *(-?[0-9.]{1,12}) *")
_RULE: Final = re.compile(r"[A-Za-z0-9_]{1,80}")


class NoAnswer(Exception):
    """spamd said that it cannot, or something else than an answer; the text says what."""


@attrs.frozen
class Scan:
    """What SpamAssassin thinks of a message."""

    is_spam: bool
    """The score reaches what it wants for that user."""
    score: float
    required: float
    rules: tuple[str, ...]


def read_answer(octets: bytes) -> Scan:
    """The answer of a connection that has ended.

    Raises:
      NoAnswer: it is none, or a part of one.
    """
    head, end, body = octets.partition(b"\r\n\r\n")
    first, *fields = head.split(b"\r\n")
    status = _STATUS.fullmatch(first)
    if status is None:
        raise NoAnswer(f"answers with {first[:100]!r}, which is no answer" if octets else "answers nothing")
    if int(status[1]) != 0:
        raise NoAnswer(f"says {status[1].decode()} {status[2].decode('ascii', 'replace').strip()}")
    if not end:
        raise NoAnswer("ends in the midst of an answer")
    length = next((field for field in fields if field.lower().startswith(b"content-length:")), None)
    if length is not None and length.partition(b":")[2].strip() != str(len(body)).encode():
        raise NoAnswer("ends in the midst of an answer")
    found = next((match for field in fields if (match := _SPAM.fullmatch(field))), None)
    try:
        if found is None:
            raise ValueError
        score, required = float(found[2]), float(found[3])
        if not (math.isfinite(score) and math.isfinite(required)):
            raise ValueError
    except ValueError:
        raise NoAnswer("answers without a score") from None
    words = body.decode("ascii", "replace").replace(",", " ").split()
    rules = tuple(word for word in words if _RULE.fullmatch(word))[:200]
    return Scan(found[1].lower() in (b"true", b"yes"), score, required, rules)
