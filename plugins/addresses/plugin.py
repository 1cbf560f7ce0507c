"""Rewrites addresses by a map: of the sender, of recipients, and in the header."""

from __future__ import annotations

import enum
import re
from collections import Counter
from typing import Final

import attrs

from elemta.mail import MailSyntaxError, parse_domain, parse_mailbox
from elemta.plugin.api import (
    Changes,
    EnvelopeView,
    HeaderAction,
    HeaderChange,
    MessageView,
    Plugin,
    RecipientAction,
    RecipientChange,
    SessionView,
    hook,
)

LONGEST: Final = 8_000
"""Characters of a field that is looked through; a longer one stays as it is."""
# What is no address though it may look like one (RFC 5322 3.2.2, 3.2.4; RFC 2047 2), and what is one.
# Strangers write it: each quantifier keeps what it has, so that the time is linear.
_ATOM: Final = r"[\w.!#$%&'*+/=?^`{|}~-]"
_TOKEN: Final = re.compile(
    r'"(?:[^"\\]|\\.)*+"?(?:@[\w.-]++)?'
    r"|\((?:[^()\\]|\\.)*+\)?"
    r"|=\?[^?\s]++\?[^?\s]++\?[^?\s]*+\?="
    rf"|(?<!{_ATOM})(?P<address>{_ATOM}++@[\w-]++(?:\.[\w-]++)*+)"
)


class Of(enum.StrEnum):
    """Whose mail a rule is about."""

    ANY = "any"
    OWN = "own"
    """Of clients that may send anywhere: our users and machines."""
    STRANGERS = "strangers"


class Place(enum.StrEnum):
    """Where addresses stand."""

    SENDER = "sender"
    """The reverse path."""
    RECIPIENTS = "recipients"
    HEADER = "header"
    """In the `fields` of the header."""


def _known(rule: Rule, attribute: attrs.Attribute[str], value: str) -> None:
    if value == "*" and attribute.name == "match":
        return
    try:
        if value.startswith("@"):
            parse_domain(value[1:])
        else:
            parse_mailbox(value, utf8=True)
    except MailSyntaxError as error:
        raise ValueError(f"{attribute.name} is {value!r}: {error}; write local@domain or @domain") from error


@attrs.frozen
class Rule:
    """One line of the map."""

    match: str = attrs.field(validator=_known)
    """`local@domain`, `@domain` for all of a domain, or `*`; large and small letters are the same."""
    to: str = attrs.field(validator=_known)
    """`local@domain`, or `@domain`, which leaves the local part as it is."""
    places: tuple[Place, ...] = (Place.SENDER, Place.RECIPIENTS, Place.HEADER)
    of: Of = Of.ANY
    account: str = ""
    """Only mail of the client that logged in by this name."""

    def answer(self, address: str) -> str | None:
        """What becomes of an address; None: nothing."""
        local, _, domain = address.rpartition("@")
        if self.match not in ("*", "@" + domain.lower()) and self.match.lower() != address.lower():
            return None
        return local + self.to if self.to.startswith("@") else self.to


@attrs.frozen
class Settings:
    rules: tuple[Rule, ...]
    """For each address the first that fits counts; what came of it is not looked up again."""
    fields: tuple[str, ...] = ("From", "Sender", "Reply-To", "To", "Cc")


class Addresses(Plugin[Settings]):
    Config = Settings

    @hook("message")
    async def rewrite(self, session: SessionView, envelope: EnvelopeView, message: MessageView) -> Changes:
        ours = session.trusted or session.identity is not None
        account = session.identity.name if session.identity else ""
        rules = [
            rule
            for rule in self.config.rules
            if (rule.of is Of.ANY or (rule.of is Of.OWN) is ours) and rule.account in ("", account)
        ]
        changes = Changes(
            headers=tuple(self._header(rules, message)),
            recipients=tuple(
                RecipientChange(RecipientAction.REPLACE, each, new)
                for each in envelope.recipients
                if (new := mapped(rules, Place.RECIPIENTS, each)) != each
            ),
            # The null path is nobody's address: a notice has to stay one (RFC 5321 4.5.5)
            sender=changed(rules, envelope.sender) if envelope.sender else None,
        )
        if changes:
            self.context.metrics.count("rewritten")
        return changes

    def _header(self, rules: list[Rule], message: MessageView) -> list[HeaderChange]:
        wanted = {each.lower() for each in self.config.fields}
        numbers: Counter[str] = Counter()
        found = []
        for each in message.headers:
            name, value = each.name.lower(), each.value
            numbers[name] += 1
            if name not in wanted or len(value) > LONGEST:
                continue
            new = _TOKEN.sub(
                lambda match: mapped(rules, Place.HEADER, match["address"]) if match["address"] else match[0],
                value,
            )
            if new != value:
                found.append(HeaderChange(HeaderAction.REPLACE, each.name, new, numbers[name]))
        return found


def mapped(rules: list[Rule], place: Place, address: str) -> str:
    """What the first rule makes of an address at that place."""
    for rule in rules:
        if place in rule.places and (new := rule.answer(address)) is not None:
            return new
    return address


def changed(rules: list[Rule], sender: str) -> str | None:
    """Another sender; None: the same."""
    new = mapped(rules, Place.SENDER, sender)
    return None if new == sender else new
