"""Is the server alive, has it started, and is it ready? Each answer names its parts and what is wrong."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import trio

from elemta.runtime import Drain
from elemta.spool import Spool, SpoolFull, SpoolUnavailable

RESOLVER_STEP = 10.0
"""Seconds between two looks at the resolver."""
_FEWEST = 5
"""Questions in a step from which on it counts that none of them was answered."""


@attrs.frozen
class Part:
    """One thing that acceptance needs."""

    name: str
    trouble: str = ""
    """Empty: all is well."""


@attrs.frozen
class Readiness:
    """Whether mail can be accepted now; `reasons` is empty exactly then."""

    parts: tuple[Part, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        return tuple(f"{part.name}: {part.trouble}" for part in self.parts if part.trouble)

    @property
    def ready(self) -> bool:
        return not self.reasons


def readiness(
    spool: Spool, drain: Drain, listening: Callable[[], bool], resolver: ResolverWatch | None = None
) -> Readiness:
    """Look at everything that acceptance needs. Sync and cheap."""
    storage = disk = ""
    try:
        spool.check_room()
    except SpoolFull:
        disk = "no room for new mail"
    except SpoolUnavailable:
        storage = "storage failed"
    if spool.deliveries_paused:
        disk = disk or "deliveries are paused"
    parts = [Part("spool", storage), Part("disk", disk)]
    if resolver is not None:
        parts.append(Part("resolver", resolver.trouble))
    if drain.draining:
        return Readiness((*parts, Part("stopping", drain.reason)))
    return Readiness((*parts, Part("listeners", "" if listening() else "not open yet")))


class ResolverWatch:
    """Notices when no question is answered any more. Run `run` under supervision."""

    def __init__(self, statistics: Callable[[], dict[str, int] | None]) -> None:
        self._statistics = statistics
        """Asked questions as `misses`, unanswered ones as `failures`; None: there is nothing to look at."""
        self._before: tuple[int, int] | None = None
        self.trouble = ""

    async def run(self) -> None:
        """Look now and then, until cancelled."""
        while True:
            self.look()
            await trio.sleep(RESOLVER_STEP)

    def look(self) -> None:
        """Compare with the last look. Without questions nothing new is known. Sync."""
        found = self._statistics()
        if found is None:
            return
        now = (found["misses"], found["failures"])
        if self._before is not None:
            asked, failed = now[0] - self._before[0], now[1] - self._before[1]
            if asked > failed:
                self.trouble = ""
            elif asked >= _FEWEST:
                self.trouble = f"none of the last {asked} questions was answered"
            if asked < _FEWEST and asked == failed:
                return  # too few to tell: count them with the next ones
        self._before = now
