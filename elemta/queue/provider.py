"""The hosts behind one site or several, and what they bear together: connections, rates, complaints, rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs
import trio

from elemta.delivery import Allowance, Shape
from elemta.mail import Outcome
from elemta.runtime import Alarm

from .bucket import Bucket
from .window import ConcurrencyWindow

if TYPE_CHECKING:
    from .site import Job, Site

PATIENCE = 30.0
"""Seconds that a job may wait in memory for its turn by the rates; longer it waits in the spool."""
FAIR_SHARE = 10
"""Messages that a connection may carry for its site while another site waits for a place."""
LONGEST_TURN = 3600.0
"""Seconds after which what waits for its turn is looked at again: others may be gone by then."""


@attrs.frozen
class Wait:
    """How long nothing more may go out, and by which rate."""

    seconds: float
    because: str
    """`connection-rate`, `message-rate` or `byte-rate`."""


@attrs.define(eq=False)
class Provider:
    """What is known of some hosts. Synchronous, like the sites that stand before it."""

    shape: Shape
    on_turn: Callable[[Provider], None] = lambda _: None
    """Called when a rate lets something through again."""
    hosts: frozenset[str] = frozenset()
    """What the MX names; empty: not known, or a fixed host."""
    sites: dict[Site, None] = attrs.field(factory=dict)
    """In the order of their coming."""
    line: dict[Site, None] = attrs.field(factory=dict)
    """Those that want a connection, in the order of their turns. Some may have no need any more."""
    resting: dict[Site, None] = attrs.field(factory=dict)
    """Those with idle connections; some may have none any more."""
    window: ConcurrencyWindow = attrs.field(init=False)
    dispatchers: int = 0
    """Of all sites, idle ones included."""
    suspended_until: float = 0.0
    """Trio time."""
    suspended_because: str = ""
    complaints: int = 0
    """Replies in a row that were about us (`reputation`)."""
    last_failure: Outcome | None = None
    line_first: bool = False
    """Whether the last thing that a rate let through was for those in line: it alternates."""
    backlog: float = 0.0
    """Seconds that what is ready takes by the rates, once they are used up."""
    _horizon: float = 0.0
    """Trio time from which on the next slot is free for what has to wait in the spool."""
    _connections: Bucket | None = attrs.field(init=False)
    _messages: Bucket | None = attrs.field(init=False)
    _octets: Bucket | None = attrs.field(init=False)
    _turn: Alarm | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        shape = self.shape
        self.window = ConcurrencyWindow(shape.initial_concurrency, shape.concurrency)
        self._connections = _bucket(shape.connections)
        self._messages = _bucket(shape.messages)
        self._octets = _bucket(shape.octets)

    def reshape(self, shape: Shape) -> None:
        """Another shape from now on; what was used of the rates stays used."""
        now = trio.current_time()
        self.shape = shape
        self.window.resize(shape.concurrency)
        self._connections = _changed(self._connections, shape.connections, now)
        self._messages = _changed(self._messages, shape.messages, now)
        self._octets = _changed(self._octets, shape.octets, now)
        self._horizon = 0.0
        self.backlog = sum(self.cost(job) for site in self.sites for _, _, job in site.ready)
        if self._turn is not None:
            self._turn.set(now)

    def twin(self, shape: Shape) -> Provider:
        """One with the same hosts, of another shape, that begins with what is known and used here."""
        twin = Provider(shape, self.on_turn, self.hosts)
        twin.window = self.window.copy(shape.concurrency)
        twin.suspended_until, twin.suspended_because = self.suspended_until, self.suspended_because
        twin.complaints, twin.last_failure = self.complaints, self.last_failure
        return twin

    # --- sites -----------------------------------------------------------------------------------

    def add(self, site: Site) -> None:
        """Let the site share what is here."""
        self.sites[site] = None
        site.provider = self
        self.dispatchers += site.dispatchers
        if self.is_paced:
            self.backlog += sum(self.cost(job) for _, _, job in site.ready)
        if site.waiting:
            self.resting[site] = None

    def remove(self, site: Site) -> None:
        """The site goes elsewhere, or is forgotten."""
        del self.sites[site]
        self.line.pop(site, None)
        self.resting.pop(site, None)
        self.dispatchers -= site.dispatchers
        if self.is_paced:
            self.backlog -= sum(self.cost(job) for _, _, job in site.ready)

    @property
    def has_place(self) -> bool:
        """Whether one more connection may be open."""
        return self.dispatchers < self.window.size

    def first_in_line(self) -> Site | None:
        """The site whose turn it is to get a connection."""
        while self.line:
            site = next(iter(self.line))
            if site.lacks_dispatcher:
                return site
            del self.line[site]
        return None

    def must_yield(self, site: Site, carried: int) -> bool:
        """Whether a connection of the site that carried so much has to give its place to another site."""
        if not self.line or self.has_place or (carried < FAIR_SHARE and site.ready):
            return False
        if self.first_in_line() is site:  # this was its turn
            del self.line[site]
            self.line[site] = None
        first = self.first_in_line()
        return first is not None and first is not site

    def free_place(self) -> None:
        """End an idle connection, so that a site that has work gets its place."""
        while self.resting:
            site = next(iter(self.resting))
            del self.resting[site]
            if site.waiting and not site.ready:
                site.retire_one()
                return

    def is_suspended(self, now: float) -> bool:
        return now < self.suspended_until

    # --- rates -----------------------------------------------------------------------------------

    @property
    def is_paced(self) -> bool:
        """Whether messages have a rate, by number or by size."""
        return self._messages is not None or self._octets is not None

    @property
    def counts_connections(self) -> bool:
        return self._connections is not None

    def connection_wait(self, now: float) -> float:
        """Seconds until a connection may be made."""
        return 0.0 if self._connections is None else self._connections.wait(1, now)

    def take_connection(self, now: float) -> None:
        """One is made."""
        if self._connections is not None:
            self._connections.take(1, now)

    def return_connection(self, now: float) -> None:
        """It was not made after all."""
        if self._connections is not None:
            self._connections.give_back(1, now)

    def turn_wait(self, job: Job, now: float) -> float:
        """Seconds until the job may go."""
        wait = 0.0
        if self._messages is not None:
            wait = self._messages.wait(1, now)
        if self._octets is not None:
            wait = max(wait, self._octets.wait(job.message.size, now))
        return wait

    def take_turn(self, job: Job, now: float) -> None:
        """The job goes; who waits is asked again when another may."""
        self._use(job, 1, now)
        if self.resting or self.line:
            self.call_at(now + self.turn_wait(job, now))

    def return_turn(self, job: Job, now: float) -> None:
        """It did not go after all."""
        self._use(job, -1, now)

    def _use(self, job: Job, times: int, now: float) -> None:
        if self._messages is not None:
            self._messages.take(times, now)
        if self._octets is not None:
            self._octets.take(times * job.message.size, now)

    def call_at(self, time: float) -> None:
        """Let `on_turn` be called then, if not earlier."""
        if self._turn is None:
            self._turn = Alarm(lambda: self.on_turn(self))
        if time < self._turn.time:
            self._turn.set(time)

    def next_resting(self) -> Site | None:
        """The site with work and an idle connection that has waited longest for its turn by the rates."""
        for site in self.resting:
            if site.waiting and len(site.ready) > site.starting:
                del self.resting[site]
                self.resting[site] = None
                return site
        return None

    def close(self) -> None:
        """It is not used any more."""
        if self._turn is not None:
            self._turn.close()

    def is_unused(self, now: float) -> bool:
        """Whether nothing of its rates is used up, so that it may be forgotten."""
        buckets = (self._connections, self._messages, self._octets)
        return self._horizon <= now and all(bucket is None or bucket.is_full(now) for bucket in buckets)

    def waits(self, now: float) -> Wait | None:
        """What keeps the next thing back at this moment, if a rate does."""
        first = min(
            (site.ready[0] for site in self.sites if site.ready), key=lambda entry: entry[:2], default=None
        )
        if first is None:
            return None
        job = first[2]
        buckets = (
            ("message-rate", self._messages, 1),
            ("byte-rate", self._octets, job.message.size),
            ("connection-rate", self._connections if not self.dispatchers else None, 1),
        )
        waits = [
            Wait(wait, name)
            for name, bucket, amount in buckets
            if bucket is not None and (wait := bucket.wait(amount, now))
        ]
        return max(waits, key=lambda wait: wait.seconds, default=None)

    def cost(self, job: Job) -> float:
        """Seconds that the job takes by the rates."""
        cost = 0.0
        if self._messages is not None:
            cost = 1 / self._messages.allowance.rate
        if self._octets is not None:
            cost = max(cost, job.message.size / self._octets.allowance.rate)
        return cost

    def slot(self, job: Job, now: float, *, fresh: bool) -> float | None:
        """When it will be the turn of a job that is about to become ready (Trio time); None: soon enough to
        wait for it here. Fresh mail is put behind what waits in the spool already."""
        wait = max(self.turn_wait(job, now), self.backlog + self.cost(job) - self._credit(now))
        if not self.backlog:  # nothing before it
            wait = self.turn_wait(job, now)
        queued = fresh and self._horizon > now + PATIENCE
        if wait <= PATIENCE and not queued:
            return None
        slot = max(self._horizon, now + wait)
        self._horizon = slot + self.cost(job)
        return min(slot, now + LONGEST_TURN)

    def _credit(self, now: float) -> float:
        """Seconds of the rates that were not used yet."""
        return min(bucket.credit(now) for bucket in (self._messages, self._octets) if bucket is not None)


def _bucket(allowance: Allowance | None) -> Bucket | None:
    return None if allowance is None else Bucket(allowance)


def _changed(bucket: Bucket | None, allowance: Allowance | None, now: float) -> Bucket | None:
    if bucket is None or allowance is None:
        return _bucket(allowance)
    bucket.change(allowance, now)
    return bucket
