"""One destination: what is ready to go there, how many connections it bears, whether it is suspended.

All changes are made by synchronous functions between two checkpoints, so there is no lock: the site
decides, the dispatchers act (TRIO rules: a sync core, an async shell).
"""

from __future__ import annotations

from collections import deque

import attrs
import trio

from elemta.mail import Outcome
from elemta.routing import Route
from elemta.spool import ClaimedRecipient, StoredMessage

from .window import ConcurrencyWindow


@attrs.define(eq=False)
class Active:
    """A claim that is in memory: how much it holds and how many of its jobs are still out."""

    message: StoredMessage
    recipients: tuple[ClaimedRecipient, ...]
    octets: int
    fresh: bool
    """Whether it came straight from its acceptance (its place was reserved as such)."""
    since: float
    """Trio time of the claim or its last extension."""
    jobs: int = 0


@attrs.define(eq=False)
class Job:
    """Recipients of one message that one transaction at one site may serve."""

    active: Active
    recipients: tuple[ClaimedRecipient, ...]

    @property
    def message(self) -> StoredMessage:
        return self.active.message


@attrs.frozen
class SiteStatistics:
    """A site at one moment."""

    route: str
    ready: int
    dispatchers: int
    window: int
    suspended_for: float
    """Seconds; 0: not suspended."""
    delivered: int
    deferred: int
    failed: int
    last_error: str


@attrs.define(eq=False)
class Site:
    """The ready queue and the state of one destination (one `Route`)."""

    route: Route
    window: ConcurrencyWindow
    ready: deque[Job] = attrs.field(factory=deque)
    dispatchers: int = 0
    """Running now, idle ones included."""
    starting: int = 0
    """Dispatchers that are new or woken and have not taken a job yet: some of what is ready is theirs."""
    waiting: deque[trio.Event] = attrs.field(factory=deque)
    """Idle dispatchers with a kept connection, the one used last at the right end."""
    suspended_until: float = 0.0
    """Trio time."""
    last_failure: Outcome | None = None
    delivered: int = 0
    deferred: int = 0
    failed: int = 0

    def add(self, job: Job) -> None:
        """Put a job at the end and wake an idle dispatcher if there is one."""
        self.ready.append(job)
        if self.waiting:
            self.wake_one()

    def wake_one(self) -> None:
        """Wake the idle dispatcher that was used last; it counts as starting until it has looked."""
        self.starting += 1
        self.waiting.pop().set()

    def take(self) -> Job | None:
        """The next job, if any."""
        return self.ready.popleft() if self.ready else None

    def wants_dispatcher(self, now: float) -> bool:
        """Whether one more connection should be opened for what is ready."""
        return (
            len(self.ready) > self.starting
            and not self.waiting
            and self.dispatchers < self.window.size
            and not self.is_suspended(now)
        )

    def is_suspended(self, now: float) -> bool:
        return now < self.suspended_until

    @property
    def is_idle(self) -> bool:
        """Nothing to do and nobody doing it."""
        return not self.ready and not self.dispatchers

    def statistics(self, now: float) -> SiteStatistics:
        return SiteStatistics(
            route=str(self.route),
            ready=len(self.ready),
            dispatchers=self.dispatchers,
            window=self.window.size,
            suspended_for=max(0.0, self.suspended_until - now),
            delivered=self.delivered,
            deferred=self.deferred,
            failed=self.failed,
            last_error=str(self.last_failure.reply) if self.last_failure else "",
        )
