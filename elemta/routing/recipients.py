"""Who exists in our domains, and who stands behind an address: the recipients file, read strictly.

    # comment
    alice@example.org                                   exists
    info@example.org:   alice@example.org, bob          goes to these; without a domain: the same one
    @example.org:       alice@example.org               goes there what is not listed otherwise
    @other.example                                      everybody exists there

A domain with at least one line is listed: whoever has no line in it does not exist. Of a domain without
any, everybody exists. An alias may name further aliases; one
that names itself keeps its own mailbox beside the others.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, TypeAlias

import attrs

from elemta.mail import Domain, Mailbox, MailSyntaxError, parse_domain, parse_mailbox

from .tables import fold_local_part

Key: TypeAlias = tuple[str, str]
"""Local part, folded, and domain; an empty local part is everybody's."""

MAX_TARGETS: Final = 1000
"""Mailboxes behind one address, all aliases followed: more is a mailing list, or a mistake."""
_MAX_PROBLEMS = 20


class RecipientsFileError(ValueError):
    """The recipients file cannot be used; `str()` has a line for each problem."""

    def __init__(self, path: Path, problems: Iterable[tuple[int, str]]) -> None:
        found = list(problems)
        lines = [
            f"{path}:{line}: {reason}" if line else f"{path}: {reason}"
            for line, reason in found[:_MAX_PROBLEMS]
        ]
        if len(found) > _MAX_PROBLEMS:
            lines.append(f"{path}: and {len(found) - _MAX_PROBLEMS} more")
        super().__init__("\n".join(lines))
        self.problems = tuple(found)


class _BadLine(ValueError):
    """Why a line cannot be taken."""


@attrs.frozen
class Entry:
    line: int
    targets: tuple[Mailbox, ...] = ()
    """Empty: it is a mailbox of its own."""


class RecipientTable:
    """What the file says. Each look-up costs two or three dictionary look-ups, whatever its length."""

    __slots__ = ("_delimiter", "entries", "listed")

    def __init__(
        self, entries: Mapping[Key, Entry], delimiter: str, *, listed: Container[str] | None = None
    ) -> None:
        """`listed`: the domains that have an entry, where that is known without looking at all of them."""
        self.entries = entries
        self._delimiter = delimiter
        self.listed = frozenset(domain for _, domain in entries) if listed is None else listed

    def exists(self, mailbox: Mailbox) -> bool:
        """Whether mail for it is taken, as far as the file says anything of its domain."""
        return mailbox.domain.text not in self.listed or self._find(mailbox) is not None

    def is_named(self, mailbox: Mailbox) -> bool:
        """Whether the file names the mailbox itself, not only everybody of its domain."""
        return any(key in self.entries for key in self._own_keys(mailbox))

    def is_listed(self, mailbox: Mailbox) -> bool:
        """Whether it has a line of its own, tag and all."""
        return (fold_local_part(mailbox.local_part), mailbox.domain.text) in self.entries

    def expand(self, mailbox: Mailbox) -> tuple[Mailbox, ...]:
        """The mailboxes behind it, each once, in the order of the file; often only itself."""
        found = self._find(mailbox)
        if found is None or not found.targets:
            return (mailbox,)
        return tuple(self._follow(mailbox))

    def _follow(self, mailbox: Mailbox) -> Iterator[Mailbox]:
        """Every address is followed once, so no loop is endless."""
        followed = {self._identity(mailbox)}
        kept: set[Key] = set()
        entry = self._find(mailbox)
        waiting = [(self._identity(mailbox), each) for each in reversed(entry.targets if entry else ())]
        while waiting:
            above, target = waiting.pop()
            identity = self._identity(target)
            if identity in followed:
                if identity == above and identity not in kept:
                    kept.add(identity)
                    yield target
                continue
            followed.add(identity)
            entry = self._find(target)
            if entry is None or not entry.targets:
                kept.add(identity)
                yield target
            else:
                waiting.extend((identity, each) for each in reversed(entry.targets))

    def _identity(self, mailbox: Mailbox) -> Key:
        """Equal for what is the same mailbox: case is ours to judge in our domains only (RFC 5321 §2.4)."""
        domain = mailbox.domain.text
        local_part = mailbox.local_part
        return (fold_local_part(local_part) if domain in self.listed else local_part), domain

    def _find(self, mailbox: Mailbox) -> Entry | None:
        for key in self._own_keys(mailbox):
            entry = self.entries.get(key)
            if entry is not None:
                return entry
        return self.entries.get(("", mailbox.domain.text))

    def _own_keys(self, mailbox: Mailbox) -> Iterator[Key]:
        domain = mailbox.domain.text
        if domain not in self.listed or not mailbox.local_part:
            return
        local_part = fold_local_part(mailbox.local_part)
        yield local_part, domain
        base = strip_tag(local_part, self._delimiter)
        if base != local_part:
            yield base, domain

    def check(self) -> Iterator[tuple[int, str]]:
        """Line and reason of each alias that leads nowhere, or to too many."""
        for (local_part, domain), entry in self.entries.items():
            if not entry.targets:
                continue
            start = Mailbox(local_part or "anybody", parse_domain(domain))
            count = sum(1 for _ in self._follow(start))
            if count == 0:
                yield entry.line, "this alias leads only back to itself: name a mailbox that exists"
            elif count > MAX_TARGETS:
                yield entry.line, f"there are more than {MAX_TARGETS} mailboxes behind this alias"


def strip_tag(local_part: str, delimiter: str) -> str:
    """`user+tag` without its tag, for a delimiter such as `+`; empty: there are no tags."""
    if not delimiter:
        return local_part
    base, found, _ = local_part.partition(delimiter)
    return base if found and base else local_part


def read_recipients(path: Path, delimiter: str, is_ours: Callable[[str], bool]) -> RecipientTable:
    """Read the file. Blocking. Lines may be about the domains that `is_ours` is true for.

    Raises:
      RecipientsFileError: it cannot be read, or some lines cannot be used.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RecipientsFileError(path, [(0, error.strerror or str(error))]) from error
    except UnicodeDecodeError as error:
        raise RecipientsFileError(path, [(0, "this is no UTF-8 text")]) from error
    entries: dict[Key, Entry] = {}
    problems: list[tuple[int, str]] = []
    # Not `splitlines`: it also splits at characters that a quoted local part may hold.
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        try:
            key, entry = _parse_line(line, number)
            if not is_ours(key[1]):
                raise _BadLine(f"{key[1]} is neither in domains.local nor in domains.relay")
            earlier = entries.setdefault(key, entry)
            if earlier is not entry:
                raise _BadLine(f"this address stands in line {earlier.line} already")
        except _BadLine as error:
            problems.append((number, str(error)))
    table = RecipientTable(entries, delimiter)
    problems.extend(table.check())
    if problems:
        raise RecipientsFileError(path, sorted(problems))
    return table


def _parse_line(line: str, number: int) -> tuple[Key, Entry]:
    address, colon, rest = _split(line)
    if address.startswith("@"):
        try:
            domain = parse_domain(address[1:], utf8=True)
        except MailSyntaxError as error:
            raise _BadLine(f"{address[1:]!r} is no domain: {error}") from error
        if not isinstance(domain, Domain):
            raise _BadLine("an address literal is no domain of ours")
        key: Key = ("", domain.text)
    else:
        mailbox = _mailbox(address, None)
        if not isinstance(mailbox.domain, Domain):
            raise _BadLine("an address literal is no domain of ours")
        domain = mailbox.domain
        key = (fold_local_part(mailbox.local_part), domain.text)
    if not colon:
        return key, Entry(number)
    targets = parse_targets(rest, domain)
    if not targets:
        raise _BadLine("nothing stands behind the colon: name a target, or leave the colon out")
    return key, Entry(number, targets)


def parse_targets(text: str, domain: Domain) -> tuple[Mailbox, ...]:
    """What stands behind the colon of a line about that domain, each mailbox once.

    Raises:
      ValueError: one of them is none.
    """
    return tuple(dict.fromkeys(_mailbox(target, domain) for target in _list(text)))


def parse_key(address: str) -> Key:
    """`local@domain`, or `@domain` for everybody.

    Raises:
      ValueError: it is neither.
    """
    key, _ = _parse_line(address, 0)
    if _split(address)[1]:
        raise _BadLine("an address has no colon")
    return key


def _split(line: str) -> tuple[str, str, str]:
    """At the first colon that is not within quotes."""
    for position in _outside_quotes(line, ":"):
        return line[:position].strip(), ":", line[position + 1 :]
    return line, "", ""


def _list(text: str) -> list[str]:
    start, parts = 0, []
    for position in _outside_quotes(text, ","):
        parts.append(text[start:position].strip())
        start = position + 1
    parts.append(text[start:].strip())
    return [part for part in parts if part]


def _outside_quotes(text: str, wanted: str) -> Iterator[int]:
    quoted = escaped = False
    for position, character in enumerate(text):
        if escaped:
            escaped = False
        elif quoted and character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif character == wanted and not quoted:
            yield position


def _mailbox(text: str, default: Domain | None) -> Mailbox:
    try:
        mailbox = parse_mailbox(text, utf8=True, default_domain=default)
    except MailSyntaxError as error:
        raise _BadLine(f"{text!r} is no address: {error}") from error
    if not mailbox.local_part:
        raise _BadLine("an empty local part cannot be listed; @domain stands for everybody of a domain")
    return mailbox
