"""One question to all plugins of a hook: in order, up to the first decision. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

import attrs

from elemta.config import OnFailure

from .decisions import (
    CONTINUE,
    NO_CHANGES,
    Changes,
    Continue,
    Decision,
    Defer,
    Hold,
    HookAnswer,
    NoteValue,
    Reject,
)
from .tier import PluginFailed

MOST_NOTED = 512
"""Notes of one session and message, of all plugins together: each question carries them all."""

M = TypeVar("M")


@attrs.frozen(slots=True)
class Verdict:
    """What all plugins together say."""

    decision: Decision = CONTINUE
    plugin: str = ""
    """Whose decision it is; empty where all go on."""
    changes: tuple[tuple[str, Changes], ...] = ()
    """By plugin, in the order in which they are to be made."""

    @property
    def reason(self) -> str:
        """For the operator."""
        reason = "" if isinstance(self.decision, Continue) else self.decision.reason
        return f"plugin {self.plugin}" + (f": {reason}" if reason else "")


NO_OBJECTION = Verdict()


class Chain(Generic[M]):
    """Collects answers. Iterate over it, and hand it the answer of each member, or its failure."""

    def __init__(self, members: Iterable[M], notes: dict[str, NoteValue]) -> None:
        """`notes` is the results store of the session, to which answers add."""
        self._members = members
        self._notes = notes
        self._changes: list[tuple[str, Changes]] = []
        self._decision: Decision = CONTINUE
        self._plugin = ""

    def __iter__(self) -> Iterator[M]:
        for member in self._members:
            yield member
            if not isinstance(self._decision, Continue):
                return

    def has_room(self, plugin: str, answer: HookAnswer) -> bool:
        """Whether there is room for what it notes."""
        more = sum(f"{plugin}.{key}" not in self._notes for key in answer.notes)
        return not more or len(self._notes) + more <= MOST_NOTED

    def take(self, plugin: str, answer: HookAnswer) -> None:
        """An answer counts: all of it."""
        for key, value in answer.notes.items():
            self._notes[f"{plugin}.{key}"] = value
        if answer.changes is not NO_CHANGES and answer.changes:
            self._changes.append((plugin, answer.changes))
        if not isinstance(answer.decision, Continue):
            self._decision, self._plugin = answer.decision, plugin

    def fail(self, plugin: str, decision: Decision) -> None:
        """There is no answer; this is decided instead."""
        if not isinstance(decision, Continue):
            self._decision, self._plugin = decision, plugin

    def verdict(self) -> Verdict:
        """What came of it."""
        if not self._changes and not self._plugin:
            return NO_OBJECTION
        return Verdict(self._decision, self._plugin, tuple(self._changes))


def decision_for(failure: PluginFailed, what: OnFailure) -> Decision:
    """What is decided in the place of an answer. What the client reads names no plugin."""
    reason = f"{failure.kind}: {failure.detail}"
    match what:
        case OnFailure.CONTINUE:
            return CONTINUE
        case OnFailure.REJECT:
            return Reject("A check could not be made", code=554, enhanced="5.3.0", reason=reason)
        case OnFailure.HOLD:
            return Hold(reason)
        case OnFailure.DEFER:
            return Defer("A check could not be made, try again later", enhanced="4.3.0", reason=reason)
