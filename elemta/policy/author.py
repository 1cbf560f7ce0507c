"""Whose domains stand in From, for those who must not be led astray by how it is written (RFC 9989 §5.3.1).

Stricter than what readers do: a field of which two readers could see different authors has none here. What
honest programs write against RFC 5322 §3.6.2 and everybody reads alike is taken: dots, commas and brackets
in display names, empty items, a group without its end. Encoded words are left as they are: by RFC 2047 §5
they are never part of an address.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import attrs

from elemta.mail import Domain, Mailbox, MailSyntaxError, parse_domain

from .head import MessageHead

MAX_FIELD = 4096
"""Octets of a From field that are read."""

# RFC 5322 §3.2.3, with UTF-8 (RFC 6532 §3.2); the specials stand for themselves
_ATOM = re.compile("[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-]+")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*+"')
_LITERAL = re.compile(r"\[[^\[\]\\]*+\]")
_COMMENT_MARK = re.compile(r"\\.|[()]")
_BLANKS = " \t"
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f\u0080-\u009f]")
_SPECIALS = frozenset("<>:;@,.")
_ATOM_KIND = "atom"
_QUOTED_KIND = "quoted"
_LITERAL_KIND = "literal"
_WORDS = frozenset((_ATOM_KIND, _QUOTED_KIND))


@attrs.frozen
class Authors:
    """The domains of all authors, each once, in the order of the field."""

    domains: tuple[Domain, ...] = ()
    mailboxes: tuple[Mailbox, ...] = ()
    """All addresses, in the order of the field."""
    problem: str = ""
    """Why there are none, for people; has nothing of a stranger's in it."""


class _NotAnAddress(Exception):
    """The field is written so that readers may differ."""


@attrs.frozen
class _Token:
    kind: str
    """A special, or what it is."""
    text: str


def find_authors(head: MessageHead) -> Authors:
    """The domains in the one From field of the message. Linear in its length."""
    fields = head.named(b"from")
    if head.excess:
        return Authors(problem="the header has too many fields")
    if not fields:
        return Authors(problem="no From field")
    if len(fields) > 1:  # RFC 5322 §3.6: exactly one; a signature may be of another one than the reader sees
        return Authors(problem="several From fields")
    if len(fields[0].raw) > MAX_FIELD:
        return Authors(problem="the From field is too long")
    try:
        text = fields[0].unfolded.decode("utf-8")
        found = [(local, _as_domain(domain)) for local, domain in _Addresses(text).mailboxes()]
    except (UnicodeDecodeError, _NotAnAddress, MailSyntaxError):
        return Authors(problem="the From field cannot be read")
    if not found:
        return Authors(problem="the From field has no address")
    domains = dict.fromkeys(domain for _, domain in found)
    return Authors(tuple(domains), tuple(Mailbox(local, domain) for local, domain in found))


def _as_domain(text: str) -> Domain:
    domain = parse_domain(text, utf8=True)
    if not isinstance(domain, Domain):
        raise _NotAnAddress("an address literal")
    return domain


def _tokens(text: str) -> Iterator[_Token]:
    if _CONTROL.search(text):
        raise _NotAnAddress("a control character")
    position = 0
    while position < len(text):
        sign = text[position]
        if sign in _BLANKS:
            position += 1
            continue
        if sign == "(":
            position = _skip_comment(text, position)
            continue
        if sign in _SPECIALS:
            position += 1
            yield _Token(sign, sign)
            continue
        for kind, pattern in ((_ATOM_KIND, _ATOM), (_QUOTED_KIND, _QUOTED), (_LITERAL_KIND, _LITERAL)):
            found = pattern.match(text, position)
            if found:
                position = found.end()
                yield _Token(kind, found[0])
                break
        else:
            raise _NotAnAddress("a quoted string or a literal without its end, or a sign that is none")


def _skip_comment(text: str, start: int) -> int:
    depth = 0
    for mark in _COMMENT_MARK.finditer(text, start):
        if mark[0] == "(":
            depth += 1
        elif mark[0] == ")":
            depth -= 1
            if not depth:
                return mark.end()
    raise _NotAnAddress("a comment without its end")


class _Addresses:
    """Reads an address list (RFC 5322 §3.4, with the obsolete forms of §4.4)."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._position = 0

    @property
    def _next(self) -> str:
        """Kind of the token that comes; empty at the end."""
        return self._tokens[self._position].kind if self._position < len(self._tokens) else ""

    def _take(self, kind: str) -> str:
        if self._next != kind:
            raise _NotAnAddress(f"no {kind}")
        self._position += 1
        return self._tokens[self._position - 1].text

    def mailboxes(self) -> list[tuple[str, str]]:
        """Local part and domain of each."""
        found: list[tuple[str, str]] = []
        in_group = False
        while self._next:
            if self._next == ",":  # §4.4: items may be empty
                self._position += 1
                continue
            if in_group and self._next == ";":
                self._position += 1
                in_group = False
                if self._next not in ("", ","):
                    raise _NotAnAddress("something behind a group")
                continue
            words = self._read_words()
            if self._next == ":" and words and not in_group:
                self._position += 1
                in_group = True
                continue
            found += self._read_mailbox(words)
            if self._next not in ("", ",", ";"):
                raise _NotAnAddress("something behind an address")
            if self._next == ";" and not in_group:
                raise _NotAnAddress("the end of no group")
        return found

    def _read_words(self) -> list[_Token]:
        """A display name, or the local part of an address: words and dots, and what some put in brackets."""
        start = self._position
        while self._next in _WORDS or self._next in (".", _LITERAL_KIND):
            self._position += 1
        return self._tokens[start : self._position]

    def _read_mailbox(self, words: list[_Token]) -> list[tuple[str, str]]:
        found = []
        if self._next == "@":
            local = _local_part(words)
            found.append((local, self._read_domain()))
        elif self._next != "<":
            if not words:
                raise _NotAnAddress("no word")
            return []  # `Doe, John <john@example.org>`: a name in two items, only the second has an address
        if self._next == "<":  # behind an address, too, `a@x.example <b@y.example>`: readers show either
            self._position += 1
            if self._next == "@":  # §4.4: a source route
                self._skip_route()
            local = _local_part(self._read_words())
            found.append((local, self._read_domain()))
            self._take(">")
        return found

    def _skip_route(self) -> None:
        while self._next in ("@", ","):
            if self._next == "@":
                self._read_domain()
            else:
                self._position += 1
        self._take(":")

    def _read_domain(self) -> str:
        self._take("@")
        if self._next == _LITERAL_KIND:
            return self._take(_LITERAL_KIND)
        labels = [self._take(_ATOM_KIND)]
        while self._next == ".":
            self._position += 1
            if self._next != _ATOM_KIND:  # the root: `user@example.org.`
                break
            labels.append(self._take(_ATOM_KIND))
        return ".".join(labels)


def _local_part(words: list[_Token]) -> str:
    """Words with one dot between each (§3.4.1, §4.4), without the quotes."""
    kinds = [word.kind for word in words]
    right = len(kinds) % 2 == 1 and all(
        (kind == ".") if index % 2 else (kind in _WORDS) for index, kind in enumerate(kinds)
    )
    if not right:
        raise _NotAnAddress("not a local part")
    return "".join(
        re.sub(r"\\(.)", r"\1", word.text[1:-1]) if word.kind == _QUOTED_KIND else word.text for word in words
    )
