"""One destination: what is ready to go there, and who carries it. What it bears is its `Provider`'s.

All changes are made by synchronous functions between two checkpoints, so there is no lock: the site
decides, the dispatchers act (TRIO rules: a sync core, an async shell).

What is ready is ordered by when it was claimed and by its priority (RFC 6710): each level is worth
PRIORITY_SECONDS of waiting. So an urgent message overtakes what waits, and nothing is overtaken for
ever: what comes later than that difference stays behind, however urgent it is. In the same way each
message of one sender that is ready already is worth SENDER_SECONDS: one who sends thousands at once
is overtaken by the others, and each of his messages has its turn all the same.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable

import attrs
import trio

from elemta.delivery import Shape
from elemta.mail import Deferred, Delivered, Outcome, ReversePath
from elemta.plugin import NoteValue
from elemta.routing import Route
from elemta.spool import PRIORITY_SECONDS, ClaimedRecipient, StoredMessage

from .provider import Provider
from .window import ConcurrencyWindow

SENDER_SECONDS = 0.05
"""What a message that waits behind another one of its sender is set back by, for each of them."""
FEW_OF_SENDER = 20
"""Jobs at a destination up to which a sender is let in where it is crowded."""


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
    suspect: bool = False
    """Whether attempts for it were under way at so many crashes that one more is too many."""
    jobs: int = 0
    priority: int | None = None
    """What a plugin wants in the place of the envelope's."""
    notes: dict[Route, str] = attrs.field(factory=dict)
    """What plugins changed about where it goes."""
    findings: dict[str, NoteValue] = attrs.field(factory=dict)
    """The results store: what plugins noted of this message while it is in memory."""


@attrs.define(eq=False)
class Job:
    """Recipients of one message that one transaction at one site may serve."""

    active: Active
    recipients: tuple[ClaimedRecipient, ...]
    deadline: float = math.inf
    """Trio time from which on it is returned instead of tried (RFC 2852, mode R)."""
    earlier: tuple[Outcome, ...] = ()
    """What another host of the route has made of each recipient in this attempt; empty: it is the first."""
    tried: frozenset[str] = frozenset()
    """Where it is not to go again in this attempt, as `host[address]:port`."""
    sessions: int = 0
    """In which it was offered in this attempt."""

    @property
    def message(self) -> StoredMessage:
        return self.active.message

    @property
    def sender(self) -> ReversePath:
        return self.message.envelope.reverse_path

    @property
    def rank(self) -> float:
        """Smaller comes first."""
        priority = self.active.priority
        if priority is None:
            priority = self.message.envelope.priority
        return self.active.since - PRIORITY_SECONDS * priority

    @property
    def is_overdue(self) -> bool:
        return self.deadline < math.inf and trio.current_time() >= self.deadline


@attrs.frozen
class SiteStatistics:
    """A site at one moment."""

    route: str
    ready: int
    dispatchers: int
    window: int
    suspended_for: float
    """Seconds; 0: not suspended."""
    suspended_because: str
    """`unreachable`, or what the next hop holds against us; empty: not suspended."""
    waits_for: float
    """Seconds until a rate lets the next message through; 0: none keeps it back."""
    waits_because: str
    """`connection-rate`, `message-rate` or `byte-rate`; empty: no rate keeps it back."""
    delivered: int
    deferred: int
    failed: int
    last_error: str


@attrs.define(eq=False)
class Site:
    """The ready queue and the state of one destination (one `Route`)."""

    route: Route
    provider: Provider
    on_overdue: Callable[[Site, Job], None]
    """Gets what waited here until its sender's deadline."""
    ready: list[tuple[float, int, Job]] = attrs.field(factory=list)
    """A heap by rank, then in the order of coming."""
    dispatchers: int = 0
    """Running now, idle ones included."""
    starting: int = 0
    """Dispatchers that are new or woken and have not taken a job yet: some of what is ready is theirs."""
    retiring: int = 0
    """Of those that were woken, how many are to end where there is nothing for them."""
    surveyed: float = 0.0
    """Trio time when its hosts were asked for; infinite: they still are, and nobody starts before."""
    waiting: deque[trio.Event] = attrs.field(factory=deque)
    """Idle dispatchers with a kept connection, the one used last at the right end."""
    delivered: int = 0
    deferred: int = 0
    failed: int = 0
    low_water: int | None = None
    """Set where more of this waits in the spool: when no more than so much is ready, it is to be claimed."""
    on_low: Callable[[], None] = lambda: None
    _added: int = 0
    _returned: int = 0
    _of_sender: dict[ReversePath, int] = attrs.field(factory=dict)
    """How many of a sender's jobs are ready."""

    @property
    def shape(self) -> Shape:
        return self.provider.shape

    @property
    def window(self) -> ConcurrencyWindow:
        return self.provider.window

    @property
    def suspended_until(self) -> float:
        """Trio time."""
        return self.provider.suspended_until

    @property
    def last_failure(self) -> Outcome | None:
        return self.provider.last_failure

    def add(self, job: Job) -> None:
        """Put a job into its place and wake an idle dispatcher if there is one."""
        self._added += 1
        rank = job.rank
        if self.ready:  # most find nobody waiting
            rank += SENDER_SECONDS * self._of_sender.get(job.sender, 0)
        self._push(rank, self._added, job)
        if self.waiting:
            self.wake_one()

    def wake_one(self) -> None:
        """Wake the idle dispatcher that was used last; it counts as starting until it has looked."""
        self.starting += 1
        self.waiting.pop().set()

    def rest(self, woken: trio.Event) -> None:
        """An idle dispatcher with a kept connection waits for a job."""
        self.waiting.append(woken)
        self.provider.resting[self] = None

    def retire_one(self) -> None:
        """End the idle dispatcher that was used last: its place is wanted for another site."""
        self.retiring += 1
        self.wake_one()

    def take(self) -> Job | None:
        """The next job that may still be tried, if any."""
        self._drop_overdue()
        return self._pop() if self.ready else None

    def peek(self) -> Job | None:
        """What `take` would give."""
        self._drop_overdue()
        return self.ready[0][2] if self.ready else None

    def take_turn(self) -> Job | None:
        """The next job that may go now, if any: `take`, where the rates allow it. Where they do not yet, the
        provider calls when they do."""
        if not self.provider.is_paced:
            return self.take()
        if self.peek_turn() is None:
            return None
        job = self._pop()
        self.provider.take_turn(job, trio.current_time())
        return job

    def peek_turn(self) -> Job | None:
        """What `take_turn` would give."""
        job = self.peek()
        if job is None or not self.provider.is_paced:
            return job
        now = trio.current_time()
        if not (wait := self.provider.turn_wait(job, now)):
            return job
        self.provider.call_at(now + wait)
        return None

    def return_turn(self, job: Job) -> None:
        """Undo a `take_turn`."""
        self.provider.return_turn(job, trio.current_time())
        self.put_back(job)

    def withdraw_ready(self) -> list[Job]:
        """Take out all that is ready; what is to stay is given to `restore`, in the same order."""
        jobs = [job for _, _, job in sorted(self.ready, key=lambda entry: entry[:2])]
        if self.provider.is_paced:
            self.provider.backlog -= sum(map(self.provider.cost, jobs))
        self.ready.clear()
        self._of_sender.clear()
        self._look_at_water()
        return jobs

    def restore(self, job: Job) -> None:
        """Put back what `withdraw_ready` took out."""
        self._added += 1
        self._push(job.rank + SENDER_SECONDS * self._of_sender.get(job.sender, 0), self._added, job)

    def put_back(self, job: Job) -> None:
        """Undo a `take`: the job comes before all that have its rank."""
        self._returned -= 1
        self._push(job.rank, self._returned, job)

    def _push(self, rank: float, number: int, job: Job) -> None:
        heapq.heappush(self.ready, (rank, number, job))
        self._of_sender[job.sender] = self._of_sender.get(job.sender, 0) + 1
        if self.provider.is_paced:
            self.provider.backlog += self.provider.cost(job)

    def _pop(self) -> Job:
        job = heapq.heappop(self.ready)[2]
        self._gone(job)
        return job

    def _gone(self, job: Job) -> None:
        if self.provider.is_paced:
            self.provider.backlog -= self.provider.cost(job)
        self._look_at_water()
        left = self._of_sender[job.sender] - 1
        if left:
            self._of_sender[job.sender] = left
        else:
            del self._of_sender[job.sender]

    def _look_at_water(self) -> None:
        if self.low_water is not None and len(self.ready) <= self.low_water:
            self.low_water = None
            self.on_low()

    def is_crowded(self, limit: int, sender: ReversePath) -> bool:
        """Whether so much is ready that more must wait in the spool. One who has little here is let in
        beside the others, up to twice as much."""
        ready = len(self.ready)
        if ready < limit:
            return False
        return ready >= 2 * limit or self._of_sender.get(sender, 0) >= FEW_OF_SENDER

    def _drop_overdue(self) -> None:
        while self.ready and self.ready[0][2].is_overdue:
            self.on_overdue(self, self._pop())

    def drop_all_overdue(self) -> None:
        """The same for those that are not next: the connections may be busy for long."""
        late = [entry for entry in self.ready if entry[2].is_overdue]
        if late:
            self.ready = [entry for entry in self.ready if not entry[2].is_overdue]
            heapq.heapify(self.ready)
            for _, _, job in late:
                self._gone(job)
                self.on_overdue(self, job)

    def count(self, outcome: Outcome) -> None:
        """Add an outcome to the statistics."""
        if isinstance(outcome, Delivered):
            self.delivered += 1
        elif isinstance(outcome, Deferred):
            self.deferred += 1
        else:
            self.failed += 1

    @property
    def lacks_dispatcher(self) -> bool:
        """Whether one more connection could carry something."""
        return len(self.ready) > self.starting and not self.waiting and self.surveyed < math.inf

    def is_suspended(self, now: float) -> bool:
        return self.provider.is_suspended(now)

    @property
    def is_idle(self) -> bool:
        """Nothing to do and nobody doing it."""
        return not self.ready and not self.dispatchers

    def statistics(self, now: float) -> SiteStatistics:
        provider = self.provider
        wait = provider.waits(now) if self.ready else None
        return SiteStatistics(
            route=str(self.route),
            ready=len(self.ready),
            dispatchers=self.dispatchers,
            window=self.window.size,
            suspended_for=max(0.0, self.suspended_until - now),
            suspended_because=provider.suspended_because if self.is_suspended(now) else "",
            waits_for=0.0 if wait is None else wait.seconds,
            waits_because="" if wait is None else wait.because,
            delivered=self.delivered,
            deferred=self.deferred,
            failed=self.failed,
            last_error=str(self.last_failure.reply) if self.last_failure else "",
        )
