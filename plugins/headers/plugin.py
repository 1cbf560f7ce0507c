"""Adds, removes and rewrites fields of the header by rules of the configuration."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterator
from typing import Final

import attrs

from elemta.plugin.api import (
    Changes,
    EnvelopeView,
    HeaderAction,
    HeaderChange,
    MessageView,
    Plugin,
    SessionView,
    hook,
)

LONGEST: Final = 1_000
"""Characters of a value that a pattern looks at: strangers write it, and some patterns take their time."""
_PLACEHOLDER: Final = re.compile(r"\{(\w+)\}")
_FACTS: Final = ("sender", "peer", "hello", "account", "listener", "value")


class Of(enum.StrEnum):
    """Whose mail a rule is about."""

    ANY = "any"
    OWN = "own"
    """Of clients that may send anywhere: our users and machines."""
    STRANGERS = "strangers"


def _compiles(rule: Rule, attribute: attrs.Attribute[str], value: str) -> None:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"{attribute.name} is no regular expression: {error}") from error


@attrs.frozen
class Rule:
    """One thing to do about one field."""

    action: HeaderAction
    """`add` at the end, `insert` at the top, `remove`, or `replace`."""
    name: str
    value: str = ""
    """Text with `{sender}`, `{peer}`, `{hello}`, `{account}`, `{listener}`; in `replace` also `{value}`, what
    stood there, and `{1}`, `{2}` … or `{name}`, the groups of `pattern`."""
    pattern: str = attrs.field(default="", validator=_compiles)
    """A regular expression. `remove` and `replace`: only fields whose value it finds itself in."""
    missing: bool = False
    """`add`, `insert`: only where there is no such field."""
    of: Of = Of.ANY
    if_header: str = ""
    """Only messages in which the field of this name …"""
    if_pattern: str = attrs.field(default="", validator=_compiles)
    """… has this in its value."""

    def __attrs_post_init__(self) -> None:
        HeaderChange(self.action, self.name, self.value)  # says what is wrong with them
        adds = self.action in (HeaderAction.ADD, HeaderAction.INSERT)
        if adds and self.pattern:
            raise ValueError(f"a rule with {self.action.value} has no field that the pattern could be about")
        if not adds and self.missing:
            raise ValueError(f"missing does not go with {self.action.value}")
        known = {*_FACTS, *re.compile(self.pattern).groupindex}
        groups = re.compile(self.pattern).groups
        for word in _PLACEHOLDER.findall(self.value):
            if word not in known and not (word.isdecimal() and int(word) <= groups):
                raise ValueError(f"there is no {{{word}}}; there are {', '.join(sorted(known))}")


@attrs.frozen
class Settings:
    rules: tuple[Rule, ...]
    """Followed in order; each sees what those before have done."""


class Headers(Plugin[Settings]):
    Config = Settings

    @hook("message")
    async def rewrite(self, session: SessionView, envelope: EnvelopeView, message: MessageView) -> Changes:
        ours = session.trusted or session.identity is not None
        facts = {
            "sender": envelope.sender,
            "peer": session.peer,
            "hello": session.hello,
            "account": session.identity.name if session.identity else "",
            "listener": session.listener,
        }
        header = Header([(each.name, each.value) for each in message.headers])
        for rule in self.config.rules:
            if rule.of is Of.ANY or (rule.of is Of.OWN) is ours:
                header.follow(rule, facts)
        self.context.metrics.count("changes", len(header.changes))
        return Changes(headers=tuple(header.changes))


class Header:
    """The header as it is after the changes so far."""

    def __init__(self, fields: list[tuple[str, str]]) -> None:
        self.changes: list[HeaderChange] = []
        self._fields = fields

    def follow(self, rule: Rule, facts: dict[str, str]) -> None:
        """Do what a rule says."""
        if rule.if_header and not any(
            re.search(rule.if_pattern, value[:LONGEST]) for _, value in self._named(rule.if_header)
        ):
            return
        if rule.action in (HeaderAction.ADD, HeaderAction.INSERT):
            if not (rule.missing and any(self._named(rule.name))):
                self._add(rule, _filled(rule.value, facts.get))
            return
        # From the last to the first: a removal changes the numbers of those behind it
        for number, value in [*self._named(rule.name)][::-1]:
            found = re.search(rule.pattern, value[:LONGEST])
            if found is not None:
                self._change(rule, number, value, found, facts)

    def _named(self, name: str) -> Iterator[tuple[int, str]]:
        """The values of that name, each with its number from 1."""
        values = (value for each, value in self._fields if each.lower() == name.lower())
        return enumerate(values, 1)

    def _add(self, rule: Rule, value: str) -> None:
        self.changes.append(HeaderChange(rule.action, rule.name, value))
        place = len(self._fields) if rule.action is HeaderAction.ADD else 0
        self._fields.insert(place, (rule.name, value))

    def _change(self, rule: Rule, number: int, old: str, found: re.Match[str], facts: dict[str, str]) -> None:
        groups = {str(index): each or "" for index, each in enumerate(found.groups(), 1)}
        groups |= {name: each or "" for name, each in found.groupdict().items()}
        value = ""
        if rule.action is HeaderAction.REPLACE:
            value = _filled(rule.value, {**facts, "value": old, **groups}.get)
            if value == old:
                return
        self.changes.append(HeaderChange(rule.action, rule.name, value, number))
        places = [place for place, (name, _) in enumerate(self._fields) if name.lower() == rule.name.lower()]
        replaced = [(rule.name, value)] if rule.action is HeaderAction.REPLACE else []
        self._fields[places[number - 1] : places[number - 1] + 1] = replaced


def _filled(template: str, find: Callable[[str], str | None]) -> str:
    """The text with its placeholders filled in. What strangers wrote is kept to one line."""
    text = _PLACEHOLDER.sub(lambda match: find(match[1]) or "", template)
    return re.sub(r"[\r\n\0]+", " ", text)
