"""Is the server alive, and is it ready? Each answer names what is wrong."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from elemta.runtime import Drain
from elemta.spool import Spool, SpoolFull, SpoolUnavailable


@attrs.frozen
class Readiness:
    """Whether mail can be accepted now; `reasons` is empty exactly then."""

    reasons: tuple[str, ...]

    @property
    def ready(self) -> bool:
        return not self.reasons


def readiness(spool: Spool, drain: Drain, listening: Callable[[], bool]) -> Readiness:
    """Look at everything that acceptance needs. Sync and cheap."""
    reasons = []
    try:
        spool.check_room()
    except SpoolFull:
        reasons.append("disk: no room for new mail")
    except SpoolUnavailable:
        reasons.append("spool: storage failed")
    if spool.deliveries_paused:
        reasons.append("disk: deliveries are paused")
    if drain.draining:
        reasons.append(f"stopping: {drain.reason}")
    elif not listening():
        reasons.append("listeners: not open yet")
    return Readiness(tuple(reasons))
