"""What plugins decided and changed, in words for events and for the story of a message. Pure."""

from __future__ import annotations

import re

from elemta.mail import Deed

from .chain import Verdict
from .decisions import CONTINUE, Accept, Changes, Continue, Decision

_NOT_PRINTABLE = re.compile(r"[^\x20-\x7e]")
_MOST_TEXT = 400
"""Characters of a plugin's text in a reply (RFC 5321 §4.5.3.1.5: 512 octets of a line in all)."""
_LONGEST = 500
"""Characters of one deed: a plugin may change a thousand things, and each message carries its story."""


def line_of(text: str) -> str:
    """A plugin's text as a reply can have it."""
    return _NOT_PRINTABLE.sub("?", text)[:_MOST_TEXT]


def changes_in_words(changes: Changes) -> str:
    """All of them in one line; empty where there are none."""
    words = [f"{each.action} {each.name}" for each in changes.headers]
    words += [f"{each.action} {each.address}" for each in changes.recipients]
    for name in ("sender", "route", "priority"):
        if getattr(changes, name) is not None:
            words.append(f"{name} {getattr(changes, name)}")
    words += [f"tag {tag}" for tag in changes.tags]
    return ", ".join(words)


def decision_in_words(decision: Decision) -> str:
    """Its name, and why."""
    if isinstance(decision, Continue):
        return ""
    name = type(decision).__name__.lower()
    return f"{name}: {decision.reason}" if decision.reason else name


def deeds_of(hook: str, verdict: Verdict) -> tuple[Deed, ...]:
    """What the plugins of one question did, each once."""
    said = {plugin: [changes_in_words(changes)] for plugin, changes in verdict.changes}
    if verdict.decision is not CONTINUE and not isinstance(verdict.decision, Accept):
        said.setdefault(verdict.plugin, []).append(decision_in_words(verdict.decision))
    return tuple(Deed(plugin, hook, "; ".join(words)[:_LONGEST]) for plugin, words in said.items())
