"""What was found out about a message, as values and as Authentication-Results (RFC 8601).

Values come from strangers: nothing of them can end the field, begin another result, or move the cursor of
a terminal. Fields that claim to be ours and are not are found here, too, since readers believe them.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Collection, Iterator

import attrs

from .domain import parse_domain
from .errors import MailSyntaxError
from .trace import fold

MAX_VALUE = 320
"""Characters of a value that are shown: a mailbox and its quotes (RFC 5321 §4.5.3.1)."""
MAX_REASON = 200

# RFC 2045 §5.1: token is anything printable but tspecials
_TOKEN = r"[!#$%&'*+.0-9A-Z^_`a-z{|}~-]+"  # noqa: S105 - no password
_IS_TOKEN = re.compile(_TOKEN)
# RFC 8601 §2.2: pvalue may also be [[local-part] "@"] domain-name
_IS_MAILBOX = re.compile(
    r"(?:[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*)?"
    r"@[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*"
)
_NON_ASCII = re.compile(r"[^\x00-\x7f]")
_QUOTED_PAIR = re.compile(r'(["\\])')

_FIELD = re.compile(rb"(?:\A|(?<=\r\n))authentication-results[ \t]*:", re.IGNORECASE)
_FIELD_END = re.compile(rb"\r\n(?![ \t])")
_AUTHSERV_ID = re.compile(rb'(?:([!#$%&\'*+.0-9A-Z^_`a-z{|}~\x80-\xff-]+)|"((?:[^"\\\r\n]|\\[^\r\n])*)")')
# RFC 8601 §2.2: behind it stand blanks, a comment, a version or the semicolon
_AFTER_ID = re.compile(rb"[ \t\r\n;(]|\Z")
_VERSION = re.compile(rb"[0-9]{1,9}")
_MAX_SEARCHED = 4096
"""Octets in which the authserv-id of a field has to be found."""


class Result(enum.StrEnum):
    """The results of all methods (RFC 8601 §2.7)."""

    NONE = "none"
    """There was nothing to check."""
    PASS = "pass"  # noqa: S105 - a result, no password
    FAIL = "fail"
    SOFTFAIL = "softfail"
    """SPF: probably not allowed."""
    NEUTRAL = "neutral"
    """Nothing is said, or what is said cannot be read."""
    POLICY = "policy"
    """Valid, but not good enough for us."""
    TEMPERROR = "temperror"
    """It could not be checked for now."""
    PERMERROR = "permerror"
    """It cannot be checked."""


@attrs.frozen(slots=True)
class Property:
    """What a result is about: `smtp.mailfrom=…` (RFC 8601 §2.3). The value may be a stranger's."""

    ptype: str
    name: str
    value: str


@attrs.frozen(slots=True)
class AuthResult:
    """The result of one method for one thing."""

    method: str
    """`spf`, `dkim`, `dmarc`, `arc`, `iprev` (registry of RFC 8601 §6.2)."""
    result: Result
    reason: str = ""
    """Why, for people. May have a stranger's words in it."""
    properties: tuple[Property, ...] = ()

    def value(self, ptype: str, name: str) -> str:
        """Of that property; empty where there is none."""
        for each in self.properties:
            if each.ptype == ptype and each.name == name:
                return each.value
        return ""


@attrs.frozen(slots=True)
class AuthResults:
    """All that was found out about a message, in the order in which it is shown."""

    results: tuple[AuthResult, ...] = ()

    def __iter__(self) -> Iterator[AuthResult]:
        return iter(self.results)

    def of(self, method: str) -> tuple[AuthResult, ...]:
        """Those of one method."""
        return tuple(each for each in self.results if each.method == method)

    def passed(self, method: str) -> bool:
        """Whether any of that method is `pass`."""
        return any(each.result is Result.PASS for each in self.of(method))


def authentication_results(results: AuthResults, authserv_id: str, *, smtputf8: bool) -> bytes:
    """The field that says so (RFC 8601 §2.2), folded, with CR LF.

    Args:
      authserv_id: our name (§2.5), one that no stranger's field may have: see `claimed_results`.
      smtputf8: the message may have UTF-8 in its header (RFC 6531 §3.7.3).
    """
    words = ["Authentication-Results:", f"{authserv_id};"]
    for index, each in enumerate(results.results):
        if index:
            words[-1] += ";"
        words.append(f"{each.method}={each.result}")
        if each.reason:
            words.append(f"reason={_quote(_clean(each.reason, MAX_REASON, smtputf8))}")
        words += (
            f"{part.ptype}.{part.name}={_value(part.value, smtputf8)}"
            for part in each.properties
            if part.value
        )
    if not results.results:
        words.append("none")  # §2.2: no-result
    return fold(words).encode("utf-8")


def claimed_results(header: bytes, authserv_ids: Collection[str]) -> list[tuple[int, int]]:
    """Where in the header stand Authentication-Results that claim to be of one of these names.

    As ranges of octets in order, each with its last line end; RFC 8601 §5 wants them deleted from all that
    comes from outside before our own is added. Fields whose name cannot be read count, too: others may
    read more into them than we do. So do those of a version that nobody knows, whoever they are of.

    Args:
      header: the header section, without what is behind its empty line.
      authserv_ids: our names, in small letters.
    """
    ranges = []
    for start in _FIELD.finditer(header):
        end = _FIELD_END.search(header, start.end())
        stop = end.start() + 2 if end else len(header)
        claimed, known = _read_head(header[start.end() : min(stop, start.end() + _MAX_SEARCHED)])
        if claimed is None or claimed in authserv_ids or not known:
            ranges.append((start.start(), stop))
    return ranges


def _read_head(value: bytes) -> tuple[str | None, bool]:
    """The authserv-id in small letters and without a final dot, U-labels as A-labels, None where there is
    none; and whether the version behind it is one that is known."""
    start = _skip_comments(value)
    found = _AUTHSERV_ID.match(value, start)
    if found is None or not _AFTER_ID.match(value, found.end()):
        return None, True
    version = _VERSION.match(value, found.end() + _skip_comments(value[found.end() :]))
    known = version is None or int(version[0]) == 1  # RFC 8601 §2.2: without one, it is 1
    octets = found[1] if found[2] is None else re.sub(rb"\\(.)", rb"\1", found[2])
    try:
        text = octets.strip().decode("utf-8").lower().removesuffix(".")
        return text if text.isascii() else parse_domain(text, utf8=True).text, known
    except (UnicodeDecodeError, MailSyntaxError):
        return None, known


def _skip_comments(value: bytes) -> int:
    """Behind blanks and comments, which may be nested (RFC 5322 §3.2.2); the length where one has no end."""
    depth = 0
    position = 0
    while position < len(value):
        octet = value[position : position + 1]
        if octet == b"(":
            depth += 1
        elif octet == b")" and depth:
            depth -= 1
        elif octet == b"\\" and depth:
            position += 1
        elif not depth and octet not in b" \t\r\n":
            return position
        position += 1
    return len(value)


def _value(text: str, smtputf8: bool) -> str:
    text = _clean(text, MAX_VALUE, smtputf8)
    if _IS_TOKEN.fullmatch(text) or _IS_MAILBOX.fullmatch(text):
        return text
    return _quote(text)


def _clean(text: str, limit: int, smtputf8: bool) -> str:
    text = text[:limit]
    if not smtputf8:
        text = _NON_ASCII.sub("?", text)
    # Not printable are controls, surrogates, unassigned ones, and those that change the direction.
    return "".join(character if character.isprintable() else "?" for character in text)


def _quote(text: str) -> str:
    return '"' + _QUOTED_PAIR.sub(r"\\\1", text) + '"'
