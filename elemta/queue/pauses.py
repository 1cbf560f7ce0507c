"""What is paused now: a sender, a domain of recipients, a route."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from elemta.spool import Pause, PauseKind


@attrs.define(eq=False)
class Pauses:
    """In memory what the spool has written down. All is synchronous; without a pause a claim pays for one
    look at `any`."""

    any: bool = attrs.field(default=False, init=False)
    """Whether there is a pause at all."""
    _pauses: dict[tuple[PauseKind, str], Pause] = attrs.field(factory=dict, init=False)

    def add(self, pause: Pause) -> None:
        """From now on; one of the same kind and value is replaced."""
        self._pauses[pause.kind, pause.value] = pause
        self.any = True

    def discard(self, kind: PauseKind, value: str) -> Pause | None:
        """No longer; returns what there was."""
        pause = self._pauses.pop((kind, value), None)
        self.any = bool(self._pauses)
        return pause

    def find(self, *, sender: str, domain: str, route: str) -> Pause | None:
        """The pause that keeps such a recipient back, if one does."""
        for key in ((PauseKind.DOMAIN, domain), (PauseKind.SENDER, sender), (PauseKind.ROUTE, route)):
            if (pause := self._pauses.get(key)) is not None:
                return pause
        return None

    @property
    def all(self) -> Iterable[Pause]:
        return tuple(self._pauses.values())

    def next_end(self) -> float | None:
        """When the first of those that end by themselves does."""
        return min((pause.until for pause in self._pauses.values() if pause.until is not None), default=None)
