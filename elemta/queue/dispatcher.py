"""One connection to one site and the jobs that go over it, one after the other.

A dispatcher owns its connection, its cancel scope and at most one job. Whatever ends it (a crash, the
watchdog, a drain, a deadline), the job it holds gets a result: nothing leaves here without an owner.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import attrs
import trio

from elemta.delivery import ConnectFailed, Connection, ConnectionStale, Parcel, Transport
from elemta.mail import Cause, Deferred, Delivered, Outcome, Reply, replies
from elemta.runtime import Alarm
from elemta.spool import AttemptFacts

from .site import Job, Site

if TYPE_CHECKING:
    from .manager import QueueManager

_BEFORE_DATA = frozenset(
    {"connect", "idle", "greeting", "hello", "starttls", "login", "mail", "rcpt", "data", "rset"}
)
"""Phases in which a drain ends an attempt at once: nothing of the message has been sent."""


@attrs.define(eq=False)
class Dispatcher:
    """Carries jobs of `site` until there are none, the connection ends or it is told to stop."""

    manager: QueueManager
    site: Site
    transport: Transport
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    connection: Connection | None = None
    job: Job | None = None
    starting: bool = True
    connecting: bool = False
    opened: float = 0.0
    carried: int = 0
    """Jobs that went over the present connection."""
    taken: int = 0
    """Jobs in all."""
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
    def phase(self) -> str:
        """What it waits for, for people and the watchdog."""
        if self.connecting:
            return "connect"
        return self.connection.phase if self.connection is not None else "idle"

    @property
    def progress(self) -> tuple[str, int, int]:
        """Changes whenever the dispatcher gets on."""
        return self.phase, self.taken, self.connection.progress if self.connection is not None else 0

    @property
    def before_data(self) -> bool:
        """Whether nothing of the message has been sent."""
        return self.job is None or self.phase in _BEFORE_DATA

    async def run(self) -> None:
        """Work until done. A cancel of `scope` ends it; the job in hand is settled by `_settle_rest`."""
        self._attempt = Alarm(functools.partial(self.scope.cancel, reason="attempt took too long"))
        self._idle = Alarm(self._end_idling)
        with self.scope:
            try:
                await self._work()
            except ConnectFailed as failure:
                self._connect_failed(failure.outcome)
            finally:
                self._attempt.close()
                self._idle.close()
                self._give_following_back()
                if self.connection is not None:
                    # Bounds itself by timeouts.quit, shielded: a polite end, also when cancelled.
                    await self.connection.aclose()

    async def _work(self) -> None:
        while (job := await self._next_job()) is not None:
            self.job = job
            self.taken += 1
            begun = trio.current_time()
            self._attempt.set(begun + self.manager.timeouts.attempt)
            await self.manager.wait_may_deliver()
            parcel = self._parcel or self.manager.parcel(job)
            outcomes = await self._deliver(parcel)
            facts = AttemptFacts(trio.current_time() - begun, self._tls())
            await self.manager.settle(self.site, self.job, outcomes, facts)
            self.job = None
            self._attempt.close()
            self.carried += 1
            self._feed_back(outcomes)

    def _tls(self) -> str:
        tls = None if self.connection is None else self.connection.tls
        return "" if tls is None else f"{tls.version} {tls.cipher}"

    async def _deliver(self, parcel: Parcel) -> list[Outcome]:
        if self.connection is not None and not self._connection_fits():
            await self._close()
        fresh = self.connection is None
        if self.connection is None:
            await self._connect()
        assert self.connection is not None
        parcel = self._keep_to_limits(self.connection, parcel)
        try:
            return await self.connection.deliver(parcel)
        except ConnectionStale:
            # The kept connection was closed while idle and took nothing of this parcel: once more on a fresh
            # one. That one has no idle time to be closed in.
            if fresh:
                raise
        await self._close()
        await self._connect()
        parcel = self._keep_to_limits(self.connection, parcel)
        return await self.connection.deliver(parcel)

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
        self.job = Job(job.active, tuple(job.recipients[place] for place in places), job.deadline)
        return self.manager.parcel(self.job)

    def _look_ahead(self) -> Parcel | None:
        """Take the next job while the present one is finished, if it is sure to go over this connection."""
        site = self.site
        first = site.peek()
        if first is None or self.following is not None or self._must_stop():
            return None
        if self.carried + 1 >= self._messages_per_connection:
            return None
        parcel = self.manager.parcel(first)
        assert self.connection is not None
        if len(self.connection.limits.first_part(parcel.recipients)) < len(parcel.recipients):
            return None
        if parcel.content.body is None:  # it has to be read first, which may fail
            return None
        job = site.take()
        assert job is not None
        self.following = job, parcel
        return parcel

    def _take_following(self) -> Job | None:
        if self.following is None:
            self._parcel = None
            return None
        if self.manager.drain.draining:
            self._give_following_back()
            return None
        job, self._parcel = self.following
        self.following = None
        return job

    def _give_following_back(self) -> None:
        """Nothing of its content was sent, and whoever takes it next names it on his own connection."""
        if self.following is not None:
            self.site.put_back(self.following[0])
            self.following = None

    @property
    def _messages_per_connection(self) -> float:
        ours = self.manager.config.delivery.messages_per_connection
        return ours if self.connection is None else min(ours, self.connection.limits.messages)

    def _connection_fits(self) -> bool:
        config = self.manager.config.delivery
        return (
            self.connection is not None
            and self.connection.usable
            and self.carried < self._messages_per_connection
            and trio.current_time() - self.opened < config.connection_lifetime
        )

    async def _connect(self) -> None:
        self.connecting = True
        try:
            self.connection = await self.transport.connect()
            self.connection.following = self._look_ahead
        finally:
            self.connecting = False
        self.opened = trio.current_time()
        self.carried = 0

    async def _close(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            await connection.aclose()

    async def _next_job(self) -> Job | None:
        """The next job; waits with a usable connection for `delivery.idle`; None: the work is done."""
        job = self._take_following() or self._take()
        if self.starting:
            self.starting = False
            self.site.starting -= 1
        if job is not None:
            # A site with a deep ready queue must not own the loop.
            await trio.lowlevel.checkpoint()
            return job
        waiting = self.site.waiting
        self._idled = False
        self._idle.set(trio.current_time() + self.manager.config.delivery.idle)
        while self._connection_fits() and not self._must_stop() and not self._idled:
            self._woken = woken = trio.Event()
            waiting.append(woken)
            try:
                await woken.wait()
            finally:
                if woken in waiting:
                    waiting.remove(woken)
                else:  # whoever took it out counts on us
                    self.site.starting -= 1
            # Another dispatcher may have been quicker.
            if (job := self._take()) is not None:
                break
        self._idle.close()
        # With the idle time's end a job may have come as well.
        return job or self._take()

    def _end_idling(self) -> None:
        self._idled = True
        self._woken.set()

    def _must_stop(self) -> bool:
        return self.manager.drain.draining or self.site.is_suspended(trio.current_time())

    def _take(self) -> Job | None:
        return None if self._must_stop() else self.site.take()

    def _feed_back(self, outcomes: list[Outcome]) -> None:
        if self.site.complaints or not all(isinstance(outcome, Delivered) for outcome in outcomes):
            self.manager.listen(self.site, outcomes)
        if any(_asks_to_go_away(outcome) for outcome in outcomes):
            self.site.window.failure()
            self.site.last_failure = next(outcome for outcome in outcomes if _asks_to_go_away(outcome))
        else:
            self.site.window.success()
            if self.site.ready:
                self.manager.staff(self.site)

    def _connect_failed(self, outcome: Outcome) -> None:
        self.manager.connect_failed(self.site, self.job, outcome)
        self.job = None

    def outcome_of_end(self, error: BaseException | None) -> Outcome:
        """What to record for the job in hand when the dispatcher ended without a result for it."""
        sent = self.connection is not None and self.connection.dot_sent
        if sent:
            return Deferred(Cause.UNKNOWN_AFTER_DOT, replies.LOCAL_ERROR, detail="ended after the final dot")
        if error is not None:
            return Deferred(Cause.INTERNAL, replies.LOCAL_ERROR, detail=type(error).__name__)
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


def _asks_to_go_away(outcome: Outcome) -> bool:
    """Whether this says something about the site rather than about the message."""
    if not isinstance(outcome, Deferred):
        return False
    if outcome.cause in _OF_THE_SITE:
        return True
    return outcome.from_remote and outcome.reply.code == 421  # RFC 5321 §3.8
