"""Reads what spamd answers: a status, the score, the rules that were met, a report or fields. Pure."""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Iterable
from typing import Final

import attrs

from elemta.plugin.api import field_value

MOST: Final = 64 * 1024
"""Octets of an answer."""
_STATUS: Final = re.compile(rb"SPAMD/[0-9.]{1,8} +([0-9]{1,3})(?: +([^\r\n]{0,200}))?")
_SPAM: Final = re.compile(rb"(?i)Spam: *(True|Yes|False|No) *; *(-?[0-9.]{1,12}) */ *(-?[0-9.]{1,12}) *")
_LENGTH: Final = re.compile(rb"(?i)Content-length:[ \t]*([0-9]{1,9})[ \t]*")
_RULE: Final = re.compile(r"[A-Za-z0-9_]{1,80}")
_REPORTED: Final = re.compile(r"(?m)^ {0,6}-?[0-9.]{1,8} ([A-Za-z0-9_]{1,80})(?: |$)")
_TESTS: Final = re.compile(r"(?s)\btests=((?:[A-Za-z0-9_]{1,80}(?:,\s{0,9})?){0,200})")
_FIELD: Final = re.compile(r"(?mi)^(X-Spam-[A-Z0-9-]{1,60}):[ \t]*([^\r\n]*(?:\r?\n[ \t][^\r\n]*)*)")
_HEAD_END: Final = re.compile(r"\r?\n\r?\n")
_MOST_FIELDS: Final = 30
_LONGEST_VALUE: Final = 6000
"""Characters of the value of a field, or of a report."""
_LONGEST_LINE: Final = 500


class Ask(enum.StrEnum):
    """What spamd is asked for, beside the score."""

    SYMBOLS = "symbols"
    """The names of the rules that were met."""
    REPORT = "report"
    """Its report for people, with the score of each rule."""
    HEADERS = "headers"
    """The fields that its own configuration adds (`add_header`)."""


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
    report: str = ""
    """As the value of a field. It has a part of the message in it."""
    fields: tuple[tuple[str, str], ...] = ()
    """Names that begin with `X-Spam-`, and their values."""


def is_complete(octets: bytes) -> bool:
    """Whether it is as long as it says; one that does not say ends with the connection."""
    head, end, body = octets.partition(b"\r\n\r\n")
    length = _length(head.split(b"\r\n")) if end else None
    return length is not None and len(body) >= length


def read_answer(octets: bytes, ask: Ask = Ask.SYMBOLS) -> Scan:
    """The answer of a connection that has ended, or one that is complete.

    Raises:
      NoAnswer: it is none, or a part of one.
    """
    head, end, body = octets.partition(b"\r\n\r\n")
    first, *fields = head.split(b"\r\n")
    status = _STATUS.fullmatch(first)
    if status is None:
        raise NoAnswer(f"answers with {first[:100]!r}, which is no answer" if octets else "answers nothing")
    if int(status[1]) != 0:
        raise NoAnswer(f"says {status[1].decode()} {(status[2] or b'').decode('ascii', 'replace').strip()}")
    length = _length(fields)
    if not end or (length is not None and len(body) < length):
        raise NoAnswer("ends in the midst of an answer")
    if length is not None and len(body) > length:
        raise NoAnswer("answers with more than it says")
    is_spam, score, required = _score(fields)
    text = body.decode("utf-8", "replace").encode("ascii", "replace").decode("ascii")
    match ask:
        case Ask.SYMBOLS:
            words = text.replace(",", " ").split()
            return Scan(is_spam, score, required, _rules(words))
        case Ask.REPORT:
            table = text.rpartition("\n---- -")[2]  # a part of the message stands before it
            return Scan(is_spam, score, required, _rules(_REPORTED.findall(table)), report=_value(text))
        case Ask.HEADERS:
            found = _FIELD.findall(_HEAD_END.split(text, 1)[0])[:_MOST_FIELDS]
            listed = next((value for name, value in found if name.lower() == "x-spam-status"), "")
            tests = _TESTS.search(listed)
            rules = _rules(tests[1].replace(",", " ").split() if tests else ())
            kept = tuple((name, _value(value)) for name, value in found)
            return Scan(is_spam, score, required, rules, fields=kept)


def _length(fields: list[bytes]) -> int | None:
    """What it says of its length.

    Raises:
      NoAnswer: that is no number, or several.
    """
    said = [field for field in fields if field.lower().startswith(b"content-length:")]
    matches = [_LENGTH.fullmatch(field) for field in said]
    numbers = {int(match[1]) for match in matches if match is not None}
    if len(numbers) > 1 or None in matches:
        raise NoAnswer("answers with a length that is none")
    return numbers.pop() if numbers else None


def _score(fields: list[bytes]) -> tuple[bool, float, float]:
    found = [match for field in fields if (match := _SPAM.fullmatch(field))]
    try:
        (match,) = found
        score, required = float(match[2]), float(match[3])
        if not (math.isfinite(score) and math.isfinite(required)):
            raise ValueError
    except ValueError:
        raise NoAnswer("answers with several scores" if found[1:] else "answers without a score") from None
    return match[1].lower() in (b"true", b"yes"), score, required


def _rules(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word for word in words if _RULE.fullmatch(word) and word != "none"))[:200]


def _value(text: str) -> str:
    """Bounded, with folds where there are ends of lines."""
    lines, left = list[str](), _LONGEST_VALUE
    for line in text[:_LONGEST_VALUE].splitlines():
        lines.append(line.rstrip()[:_LONGEST_LINE])
        left -= len(lines[-1]) + 3  # with its fold
        if left < 0:
            break
    return field_value("\n".join(lines))
