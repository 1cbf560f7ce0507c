"""Where plugins in shadow mode would have decided otherwise than was decided: counted, the last ones kept."""

from __future__ import annotations

from collections import deque

import attrs

from .chain import Verdict
from .decisions import Continue, HookAnswer
from .views import HookArguments
from .words import changes_in_words, decision_in_words

MOST_KEPT = 1_000
"""Differences of all plugins together, the last ones."""
_NOTHING = "continue"


@attrs.frozen
class Difference:
    """One question at which a plugin would have made a difference."""

    time: float
    plugin: str
    hook: str
    would: str
    """What it wanted decided and changed."""
    did: str
    """What was decided without it."""
    session: str = ""
    message: str = ""
    sender: str = ""
    recipients: tuple[str, ...] = ()


@attrs.define
class Tally:
    """How often a plugin was asked in vain."""

    asked: int = 0
    differed: int = 0


@attrs.define(eq=False)
class Shadows:
    """All differences of one server since its start. Sync."""

    kept: deque[Difference] = attrs.field(factory=lambda: deque(maxlen=MOST_KEPT))
    tallies: dict[str, Tally] = attrs.field(factory=dict)

    def compare(
        self,
        time: float,
        plugin: str,
        hook: str,
        answer: HookAnswer,
        verdict: Verdict,
        arguments: HookArguments,
    ) -> None:
        """A plugin answered in vain; this was decided by the others."""
        tally = self.tallies.setdefault(plugin, Tally())
        tally.asked += 1
        would = _words(decision_in_words(answer.decision), [changes_in_words(answer.changes)])
        did = _words(
            decision_in_words(verdict.decision), [changes_in_words(each) for _, each in verdict.changes]
        )
        same_kind = type(answer.decision) is type(verdict.decision)
        if same_kind and (not answer.changes or any(each == answer.changes for _, each in verdict.changes)):
            return
        tally.differed += 1
        attempt, envelope, message = arguments.attempt, arguments.envelope, arguments.message
        recipients: tuple[str, ...] = (arguments.recipient,) if arguments.recipient else ()
        if not recipients and (attempt is not None or envelope is not None):
            recipients = (
                attempt.recipients if attempt is not None else envelope.recipients if envelope else ()
            )
        self.kept.append(
            Difference(
                time,
                plugin,
                hook,
                would,
                did if isinstance(verdict.decision, Continue) else f"{did} (plugin {verdict.plugin})",
                arguments.session.id if arguments.session else "",
                message.id if message else attempt.message if attempt else "",
                envelope.sender if envelope else "",
                recipients,
            )
        )


def _words(decision: str, changes: list[str]) -> str:
    return "; ".join(each for each in (decision, *changes) if each) or _NOTHING
