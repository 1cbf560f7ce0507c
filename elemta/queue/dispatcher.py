"""One connection to one site and the jobs that go over it, one after the other.

A dispatcher owns its connection, its cancel scope and at most one job. Whatever ends it (a crash, the
watchdog, a drain, a deadline), the job it holds gets a result: nothing leaves here without an owner.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import attrs
import trio

from elemta.delivery import ConnectFailed, Connection, ConnectionStale, Course, Parcel, Transport
from elemta.events import Entry
from elemta.mail import Cause, Deferred, Delivered, Outcome, Reply, TlsFacts, replies
from elemta.runtime import Alarm
from elemta.spool import NO_FACTS, AttemptFacts

from .desk import Desk
from .elsewhere import choose, may_go_elsewhere, part
from .gate import Ruling
from .recording import keep_flight
from .site import Job, Site

_BEFORE_DATA = frozenset(
    {"connect", "idle", "plugin", "greeting", "hello", "starttls", "login", "mail", "rcpt", "data", "rset"}
)
"""Phases in which a drain ends an attempt at once: nothing of the message has been sent."""
_BEFORE_SENDING = ("before_attempt", "tls_result")


@attrs.define(eq=False)
class Dispatcher:
    """Carries jobs of `site` until there are none, the connection ends or it is told to stop."""

    desk: Desk
    site: Site
    transport: Transport
    number: int = 0
    """Which one it is in this life of the server."""
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    connection: Connection | None = None
    aside: Connection | None = None
    """The kept connection while a job is offered to another host."""
    job: Job | None = None
    starting: bool = True
    connecting: bool = False
    asking: bool = False
    """Plugins are asked about the job."""
    opened: float = 0.0
    connects: int = 0
    """Connections that were asked for."""
    carried: int = 0
    """Jobs that went over the present connection."""
    taken: int = 0
    """Jobs in all."""
    begun: float = 0.0
    """Trio time of the begin of the attempt."""
    connect_seconds: float = 0.0
    """Of the attempt, spent on making connections."""
    course: Course = attrs.field(factory=Course)
    """Of the attempt."""
    ended_by_operator: bool = False
    seen: tuple[str, int, int] = ("", 0, 0)
    """Phase and progress at the watchdog's last look."""
    seen_at: float = 0.0
    following: tuple[Job, Parcel] | None = None
    """The job after `job`, whose envelope may have gone ahead over the connection."""
    _parcel: Parcel | None = None
    _attempt: Alarm = attrs.field(init=False)
    _idle: Alarm = attrs.field(init=False)
    _idled: bool = False
    _woken: trio.Event = attrs.field(factory=trio.Event)

    @property
    def id(self) -> str:
        """Of the attempt."""
        return f"{self.number}.{self.taken}"

    @property
    def phase(self) -> str:
        """What it waits for, for people and the watchdog."""
        if self.connecting or self.asking:
            return "connect" if self.connecting else "plugin"
        return self.connection.phase if self.connection is not None else "idle"

    @property
    def progress(self) -> tuple[str, int, int]:
        """Changes whenever the dispatcher gets on."""
        return self.phase, self.taken, self.connection.progress if self.connection is not None else 0

    @property
    def before_data(self) -> bool:
        """Whether nothing of the message has been sent."""
        return self.job is None or self.phase in _BEFORE_DATA

    @property
    def dot_sent(self) -> bool:
        """Whether the message may have been taken by now, while nobody knows."""
        return self.connection is not None and self.connection.dot_sent

    @property
    def deadline(self) -> float:
        """When what it does now ends at the latest, by Trio's clock."""
        own = self._attempt.time if self.job is not None else self._idle.time
        return own if self.connection is None else min(own, self.connection.deadline)

    def end_by_operator(self) -> None:
        """End the attempt, which is recorded as such. Sync."""
        self.ended_by_operator = True
        self.scope.cancel(reason="ended by the operator")

    async def run(self) -> None:
        """Work until done. A cancel of `scope` ends it; the job in hand is settled by `_settle_rest`."""
        self._attempt = Alarm(functools.partial(self.scope.cancel, reason="attempt took too long"))
        self._idle = Alarm(self._end_idling)
        with self.scope:
            try:
                await self._work()
            except ConnectFailed as failure:
                self._connect_failed(failure.outcome, failure.story)
            finally:
                self._attempt.close()
                self._idle.close()
                self._give_following_back()
                # Each bounds itself by timeouts.quit, shielded: a polite end, also when cancelled.
                for connection in (self.connection, self.aside):
                    if connection is not None:
                        await connection.aclose()

    async def _work(self) -> None:
        while (job := await self._next_job()) is not None:
            self.job = job
            self.taken += 1
            self.begun = trio.current_time()
            self.connect_seconds = 0.0
            self.course = self.transport.course = Course()
            self._attempt.set(self.begun + self.desk.context.config.timeouts.attempt)
            await self.desk.wait_may_deliver()
            outcomes: list[Outcome] | Ruling
            if job.tried:
                outcomes = await self._deliver_elsewhere(job, self.desk.parcel(job))
            elif (ruling := await self._ask("before_attempt")) is not None:
                outcomes = ruling
            else:
                outcomes = await self._deliver(self._parcel or self.desk.parcel(job))
            if isinstance(outcomes, Ruling):
                await self.desk.results.rule(self.site, self.job, outcomes)
                self.job = None
                self._attempt.close()
                continue
            self._record(outcomes)
            await self._settle(outcomes, self.facts())
            self._attempt.close()
            self.carried += 1
            self._feed_back(outcomes)
            if job.tried:
                await self._return_from_elsewhere()

    def facts(self) -> AttemptFacts:
        """What is known of the attempt up to now. Sync."""
        assert self.job is not None
        tls = None if self.connection is None else self.connection.tls
        return AttemptFacts(
            trio.current_time() - self.begun,
            _in_words(tls),
            connect=self.connect_seconds,
            waited=max(0.0, self.begun - self.job.active.since),
            secured=tls,
            phases=self.course.phases(),
        )

    async def _settle(self, outcomes: list[Outcome], facts: AttemptFacts) -> None:
        """Write down what is decided; the rest of the job comes next."""
        job = self.job
        assert job is not None
        rest = part(job, outcomes, self.connection, self.desk.context.config.delivery.mx_sessions)
        if rest.jobs:
            job.active.jobs += len(rest.jobs)
            for other in rest.jobs:
                self.site.put_back(other)
            job = self.job = choose(job, rest.settled)
            outcomes = [outcomes[place] for place in rest.settled]
        if outcomes:
            await self.desk.results.settle(self.site, job, outcomes, facts)
        else:
            job.active.jobs -= 1
        self.job = None

    async def _deliver_elsewhere(self, job: Job, parcel: Parcel) -> list[Outcome]:
        """Offer what one host did not take to another one of the route (RFC 5321 §5.1)."""
        if self.connection is not None and not self._connection_fits():
            await self._close()
        self.aside, self.connection = self.connection, None
        outcomes = list(job.earlier)
        places = [place for place, outcome in enumerate(outcomes) if may_go_elsewhere(outcome)]
        self.connecting = True
        try:
            self.connection = await self.transport.connect_elsewhere(job.tried)
        except ConnectFailed as failure:
            for place in places:
                outcomes[place] = _with_detail(outcomes[place], f"elsewhere: {failure}")
            return outcomes
        finally:
            self.connecting = False
        if (ruling := await self._ask("tls_result")) is not None:
            for place in places:
                outcomes[place] = _with_detail(
                    outcomes[place], f"elsewhere: {ruling.reason or 'not allowed'}"
                )
            return outcomes
        people = [parcel.recipients[place] for place in places]
        chosen = self.connection.limits.first_part(people)
        people = [people[place] for place in chosen]
        results = await self._carry(self.connection, attrs.evolve(parcel, recipients=tuple(people)))
        for place, outcome in zip((places[each] for each in chosen), results, strict=True):
            outcomes[place] = outcome
        return outcomes

    async def _return_from_elsewhere(self) -> None:
        """The next job begins again at the host that comes first."""
        await self._close()
        self.connection, self.aside = self.aside, None

    async def _ask(self, hook: str) -> Ruling | None:
        """Whether plugins let the job be tried, before anything of it is sent."""
        gate, connection = self.desk.gate, self.connection
        if not gate.asks(hook):
            return None
        assert self.job is not None
        self.asking = True
        try:
            if hook == "before_attempt" or connection is None:
                return await gate.attempt(hook, self.site, self.job)
            return await gate.attempt(hook, self.site, self.job, tls=connection.tls, remote=connection.remote)
        finally:
            self.asking = False

    async def _deliver(self, parcel: Parcel) -> list[Outcome] | Ruling:
        if self.connection is not None and not self._connection_fits():
            await self._close()
        fresh = self.connection is None
        if self.connection is None:
            await self._connect()
        assert self.connection is not None
        parcel = self._keep_to_limits(self.connection, parcel)
        if (ruling := await self._ask("tls_result")) is not None:
            return ruling
        try:
            return await self._carry(self.connection, parcel)
        except ConnectionStale:
            # The kept connection was closed while idle and took nothing of this parcel: once more on a fresh
            # one. That one has no idle time to be closed in.
            if fresh:
                raise
        await self._close()
        await self._connect()
        parcel = self._keep_to_limits(self.connection, parcel)
        if (ruling := await self._ask("tls_result")) is not None:
            return ruling
        return await self._carry(self.connection, parcel)

    async def _carry(self, connection: Connection, parcel: Parcel) -> list[Outcome]:
        connection.course = self.course
        return await connection.deliver(parcel)

    def _keep_to_limits(self, connection: Connection, parcel: Parcel) -> Parcel:
        """Where the next hop takes fewer recipients in a transaction (RFC 9422), the rest becomes a job
        of its own, which comes next."""
        job = self.job
        assert job is not None
        places = connection.limits.first_part(parcel.recipients)
        if len(places) == len(job.recipients):
            return parcel
        chosen = frozenset(places)
        rest = tuple(each for place, each in enumerate(job.recipients) if place not in chosen)
        job.active.jobs += 1
        self.site.put_back(Job(job.active, rest, job.deadline))
        self.job = choose(job, places)
        return self.desk.parcel(self.job)

    def _look_ahead(self) -> Parcel | None:
        """Take the next job while the present one is finished, if it is sure to go over this connection."""
        site = self.site
        first = site.peek_turn()
        if first is None or first.tried or self.following is not None or self._must_stop():
            return None
        if self.carried + 1 >= self._messages_per_connection:
            return None
        if any(map(self.desk.gate.asks, _BEFORE_SENDING)):  # they may be against it
            return None
        parcel = self.desk.parcel(first)
        assert self.connection is not None
        if len(self.connection.limits.first_part(parcel.recipients)) < len(parcel.recipients):
            return None
        if parcel.content.body is None:  # it has to be read first, which may fail
            return None
        job = site.take_turn()
        assert job is not None
        self.following = job, parcel
        return parcel

    def _take_following(self) -> Job | None:
        if self.following is None:
            self._parcel = None
            return None
        if self.desk.context.drain.draining:
            self._give_following_back()
            return None
        job, self._parcel = self.following
        self.following = None
        return job

    def _give_following_back(self) -> None:
        """Nothing of its content was sent, and whoever takes it next names it on his own connection."""
        if self.following is not None:
            self.site.return_turn(self.following[0])
            self.following = None

    @property
    def _messages_per_connection(self) -> float:
        ours = self.site.shape.messages_per_connection
        return ours if self.connection is None else min(ours, self.connection.limits.messages)

    def _connection_fits(self) -> bool:
        return (
            self.connection is not None
            and self.connection.usable
            and self.carried < self._messages_per_connection
            and trio.current_time() - self.opened < self.site.shape.connection_lifetime
        )

    async def _connect(self) -> None:
        self.connecting = True
        if self.connects:  # the first was counted when it was allowed
            self.site.provider.take_connection(trio.current_time())
        self.connects += 1
        begun = trio.current_time()
        try:
            self.connection = await self.transport.connect()
            self.connection.following = self._look_ahead
        finally:
            self.connecting = False
            self.course.leave()
            self.connect_seconds += trio.current_time() - begun
        self.opened = trio.current_time()
        self.carried = 0

    async def _close(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            await connection.aclose()

    async def _next_job(self) -> Job | None:
        """The next job; waits with a usable connection for the idle time; None: the work is done."""
        if self._needs_permission() or self.site.provider.must_yield(self.site, self.carried):
            self._give_following_back()
            self._has_started()
            return None
        job = self._take_following() or self._take()
        self._has_started()
        if job is not None:
            # A site with a deep ready queue must not own the loop.
            await trio.lowlevel.checkpoint()
            return job
        waiting = self.site.waiting
        self._idled = False
        self._idle.set(trio.current_time() + self.site.shape.idle)
        while self._connection_fits() and not self._must_stop() and not self._idled:
            self._woken = woken = trio.Event()
            self.site.rest(woken)
            try:
                await woken.wait()
            finally:
                if woken in waiting:
                    waiting.remove(woken)
                else:  # whoever took it out counts on us
                    self.site.starting -= 1
            # Another dispatcher may have been quicker.
            if (job := self._take()) is not None or self._retires():
                break
        self._idle.close()
        # With the idle time's end a job may have come as well.
        return job or self._take()

    def _has_started(self) -> None:
        if self.starting:
            self.starting = False
            self.site.starting -= 1

    def _retires(self) -> bool:
        """Whether it was woken to end."""
        retires = self.site.retiring > 0
        self.site.retiring -= retires
        return retires

    def _needs_permission(self) -> bool:
        """Whether the connection is used up and the next one has to be allowed: then another dispatcher makes
        it when it may."""
        return self.connects > 0 and self.site.provider.counts_connections and not self._connection_fits()

    def _end_idling(self) -> None:
        self._idled = True
        self._woken.set()

    def _must_stop(self) -> bool:
        return self.desk.context.drain.draining or self.site.is_suspended(trio.current_time())

    def _take(self) -> Job | None:
        return None if self._must_stop() else self.site.take_turn()

    def _feed_back(self, outcomes: list[Outcome]) -> None:
        if self.site.provider.complaints or not all(isinstance(outcome, Delivered) for outcome in outcomes):
            self.desk.crew.listen(self.site, outcomes)
        if any(_asks_to_go_away(outcome) for outcome in outcomes):
            self.site.window.failure()
            self.site.provider.last_failure = next(
                outcome for outcome in outcomes if _asks_to_go_away(outcome)
            )
        else:
            self.site.window.success()
            if self.site.ready or self.site.provider.line:
                self.desk.crew.staff(self.site)

    def _connect_failed(self, outcome: Outcome, story: tuple[Entry, ...]) -> None:
        facts = NO_FACTS
        if self.job is not None:
            facts = self.facts()
            keep_flight(self.desk.context, self.site, self.job, self.id, (outcome,), story)
        self.desk.crew.connect_failed(self.site, self.job, outcome, facts)
        self.job = None

    def _record(self, outcomes: Sequence[Outcome]) -> None:
        """Keep what was said, if the attempt did not deliver to everybody."""
        job, connection = self.job, self.connection
        if job is None or connection is None or all(isinstance(each, Delivered) for each in outcomes):
            return
        story = connection.story(job.message.id)
        keep_flight(self.desk.context, self.site, job, self.id, outcomes, story)

    def record_end(self, outcome: Outcome) -> None:
        """The same where it ended without a result for its job."""
        self._record((outcome,))

    def outcome_of_end(self, error: BaseException | None) -> Outcome:
        """What to record for the job in hand when the dispatcher ended without a result for it."""
        if self.dot_sent:
            by = " by the operator" if self.ended_by_operator else ""
            return Deferred(
                Cause.UNKNOWN_AFTER_DOT, replies.LOCAL_ERROR, detail=f"ended{by} after the final dot"
            )
        if error is not None:
            return Deferred(Cause.INTERNAL, replies.LOCAL_ERROR, detail=type(error).__name__)
        if self.ended_by_operator:
            return Deferred(Cause.OPERATOR, replies.ATTEMPT_CANCELLED)
        return Deferred(Cause.TIMEOUT, Reply.of(451, "4.4.2", "attempt took too long"))


_OF_THE_SITE = frozenset(
    {
        Cause.TIMEOUT,
        Cause.CONNECTION_LOST,
        Cause.CONNECT,
        Cause.PROTOCOL,
        Cause.TLS,
        Cause.TLS_NOT_OFFERED,
        Cause.CERTIFICATE,
    }
)


def _in_words(tls: TlsFacts | None) -> str:
    return "" if tls is None else f"{tls.version} {tls.cipher}"


def _asks_to_go_away(outcome: Outcome) -> bool:
    """Whether this says something about the site rather than about the message."""
    if not isinstance(outcome, Deferred):
        return False
    if outcome.cause in _OF_THE_SITE:
        return True
    return outcome.from_remote and outcome.reply.code == 421  # RFC 5321 §3.8


def _with_detail(outcome: Outcome, more: str) -> Outcome:
    assert isinstance(outcome, Deferred)
    return attrs.evolve(outcome, detail=f"{outcome.detail}; {more}" if outcome.detail else more)
