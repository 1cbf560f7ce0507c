"""Domains and routes from the configuration as tables: each look-up costs the labels of one name.

Names are compared whole, label by label: `notexample.org` and `example.org.evil.test` never match
`example.org` (RELIABILITY 6.5).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from elemta.config import DomainPattern, RouteConfig
from elemta.mail import AddressLiteral, Domain, Mailbox

_MailboxKey: TypeAlias = tuple[str, str]


def fold_local_part(local_part: str) -> str:
    """The form in which local parts of ours are compared: ASCII letters in lower case, the rest as it is.

    RFC 5321 §2.4 leaves case to the host that delivers, which is us. Beyond ASCII nothing is folded: there
    lower case merges characters that are not the same letter.
    """
    return "".join(character.lower() if character.isascii() else character for character in local_part)


def mailbox_key(mailbox: Mailbox) -> _MailboxKey:
    """What two mailboxes have in common when they are the same to us."""
    return fold_local_part(mailbox.local_part), mailbox.domain.text


def _parents(domain: str) -> Iterator[str]:
    """The domains above this one, the nearest first."""
    while "." in domain:
        _, _, domain = domain.partition(".")
        yield domain


class DomainTable:
    """A set of domains and of `*.` patterns."""

    def __init__(self, patterns: Iterable[DomainPattern]) -> None:
        self._exact: set[str] = set()
        self._above: set[str] = set()
        for pattern in patterns:
            (self._above if pattern.subdomains else self._exact).add(pattern.domain.text)

    def __contains__(self, domain: Domain | AddressLiteral) -> bool:
        if isinstance(domain, AddressLiteral):
            return False
        if domain.text in self._exact:
            return True
        return bool(self._above) and any(parent in self._above for parent in _parents(domain.text))


class RouteTable:
    """The routes of the configuration; of those that match, the first one wins."""

    def __init__(self, routes: Iterable[RouteConfig], local: Iterable[Domain] = ()) -> None:
        ours = tuple(local)
        self._routes = tuple(routes)
        self._mailboxes: dict[_MailboxKey, int] = {}
        self._exact: dict[str, int] = {}
        self._above: dict[str, int] = {}
        self._rest: int | None = None
        self.quarantine: RouteConfig | None = None
        """Where what a check has marked goes, before all others."""
        for index, route in enumerate(self._routes):
            match = route.match
            if match.quarantine:
                self.quarantine = self.quarantine or route
                continue
            if match.mailbox is not None:
                self._mailboxes.setdefault(mailbox_key(match.mailbox), index)
            elif match.domain is not None:
                table = self._above if match.domain.subdomains else self._exact
                table.setdefault(match.domain.domain.text, index)
            elif match.local:
                for domain in ours:
                    self._exact.setdefault(domain.text, index)
            elif self._rest is None:
                self._rest = index

    def names(self, mailbox: Mailbox) -> bool:
        """Whether a route is for this mailbox alone."""
        return mailbox_key(mailbox) in self._mailboxes

    def find(self, mailbox: Mailbox) -> RouteConfig | None:
        """The first route that matches, or `None`."""
        index = min(self._matches(mailbox), default=None)
        return None if index is None else self._routes[index]

    def _matches(self, mailbox: Mailbox) -> Iterator[int]:
        domain = mailbox.domain.text
        candidates = [self._exact.get(domain), self._rest]
        if self._mailboxes:
            candidates.append(self._mailboxes.get(mailbox_key(mailbox)))
        if self._above and isinstance(mailbox.domain, Domain):
            candidates.extend(self._above.get(parent) for parent in _parents(domain))
        return (index for index in candidates if index is not None)
