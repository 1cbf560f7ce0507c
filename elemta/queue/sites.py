"""The sites there are and the dispatchers that work for them: when one is hired, what follows its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import trio

from elemta.events import SiteResumed, SiteSuspended
from elemta.mail import Deferred, Delivered, Outcome
from elemta.routing import Route
from elemta.runtime import contain
from elemta.spool import BodyCorrupt

from .context import QueueContext
from .dispatcher import Dispatcher
from .reputation import REPLIES_TO_SUSPEND, REPUTATION_SECONDS, complaint
from .results import Results
from .site import Job, Site
from .window import ConcurrencyWindow

SUSPEND_SECONDS = 300.0
"""How long a dead destination is left alone (Postfix: minimal_backoff_time)."""


@attrs.define(eq=False)
class Sites:
    """Every destination that there is mail for, or was a moment ago."""

    context: QueueContext
    results: Results
    make_dispatcher: Callable[[Site], Dispatcher]
    dispatchers: set[Dispatcher] = attrs.field(factory=set, init=False)
    _sites: dict[Route, Site] = attrs.field(factory=dict, init=False)

    def at(self, route: Route) -> Site:
        """The site of a route; made where there is none."""
        site = self._sites.get(route)
        if site is None:
            delivery = self.context.config.delivery
            window = ConcurrencyWindow(delivery.initial_concurrency, delivery.concurrency)
            site = Site(route, window, self.results.expire, on_low=self.context.bell.ring)
            self._sites[route] = site
        return site

    @property
    def all(self) -> tuple[Site, ...]:
        return tuple(self._sites.values())

    def staff(self, site: Site) -> None:
        """Start the dispatchers that the site wants."""
        now = trio.current_time()
        if site.suspended_because and not site.is_suspended(now):
            site.suspended_because = ""
            self.context.bus.publish(SiteResumed(time=self.context.clock.time(), route=str(site.route)))
        while site.wants_dispatcher(now) and not self.context.drain.draining:
            site.dispatchers += 1
            site.starting += 1
            dispatcher = self.make_dispatcher(site)
            self.dispatchers.add(dispatcher)
            self.context.nursery.start_soon(self._run_dispatcher, dispatcher, name=f"dispatcher {site.route}")

    async def _run_dispatcher(self, dispatcher: Dispatcher) -> None:
        site = dispatcher.site
        crash: list[BaseException] = []

        def on_crash(name: str, error: BaseException) -> None:
            crash.append(error)
            if isinstance(error, BodyCorrupt):
                return  # no bug: the spool has told of it, and the message is held
            self.context.tell_crash(name, error, dispatcher.job.message.id if dispatcher.job else "")

        try:
            await contain(f"dispatcher {site.route}", dispatcher.run, on_crash=on_crash)
        finally:
            self.dispatchers.discard(dispatcher)
            site.dispatchers -= 1
            site.starting -= dispatcher.starting
            if dispatcher.job is not None:
                self._settle_unfinished(dispatcher, crash[0] if crash else None)
            if self.context.drain.draining:
                self._return_ready(site)
            elif not site.is_suspended(trio.current_time()):
                self.staff(site)
            if site.is_idle and not site.is_suspended(trio.current_time()) and site.last_failure is None:
                self._sites.pop(site.route, None)

    def _settle_unfinished(self, dispatcher: Dispatcher, error: BaseException | None) -> None:
        """The dispatcher ended with a job in hand: give it back on a drain, else record why."""
        job, dispatcher.job = dispatcher.job, None
        assert job is not None
        sent = dispatcher.connection is not None and dispatcher.connection.dot_sent
        if self.context.drain.draining and error is None and not sent:
            self.results.give_back_job(job)
            return
        if error is None:
            dispatcher.site.window.failure()
        self.results.record_end(dispatcher.site, job, dispatcher.outcome_of_end(error), error)

    def connect_failed(self, site: Site, job: Job | None, outcome: Outcome) -> None:
        """No connection could be had: settle the job, and all that waits where the site counts as dead."""
        site.last_failure = outcome
        if isinstance(outcome, Deferred):
            site.window.failure()
        if job is not None:
            self.results.settle_later(site, job, outcome)
        if site.window.is_dead:
            self._suspend(site, SUSPEND_SECONDS, "unreachable", outcome)
            while (waiting := site.take()) is not None:
                self.results.settle_later(site, waiting, outcome)

    def listen(self, site: Site, outcomes: Sequence[Outcome]) -> None:
        """Suspend the site where the next hop says again and again that it is tired of us.

        What is ready there is given back: it was not tried, and would only be refused as well.
        """
        for outcome in outcomes:
            reason = complaint(outcome)
            if isinstance(outcome, Delivered):
                site.complaints = 0
            if not reason:
                continue
            site.complaints += 1
            if site.complaints < REPLIES_TO_SUSPEND or site.is_suspended(trio.current_time()):
                continue
            site.last_failure = outcome
            self._suspend(site, REPUTATION_SECONDS, reason, outcome)
            while (waiting := site.take()) is not None:
                self.results.give_back(waiting.message, waiting.recipients, site)
                self.results.room.job_done(waiting)

    def _suspend(self, site: Site, seconds: float, reason: str, outcome: Outcome) -> None:
        site.suspended_until = trio.current_time() + seconds
        site.suspended_because = reason
        site.complaints = 0
        site.window.revive()
        now = self.context.clock.time()
        self.context.bus.publish(
            SiteSuspended(
                time=now, route=str(site.route), reason=reason, reply=str(outcome.reply), until=now + seconds
            )
        )

    def drain(self) -> None:
        """The server stops: give back what waits, end those that have sent nothing of a message."""
        for site in self._sites.values():
            self._return_ready(site)
            while site.waiting:
                site.wake_one()
        for dispatcher in tuple(self.dispatchers):
            if dispatcher.before_data:
                dispatcher.scope.cancel(reason="server stops")

    def _return_ready(self, site: Site) -> None:
        while (job := site.take()) is not None:
            self.results.give_back_job(job)

    def return_overdue(self) -> None:
        """Return the messages whose sender's deadline ended while they waited for a connection."""
        for site in self._sites.values():
            site.drop_all_overdue()

    def forget_idle(self) -> None:
        """Drop sites that have nothing to do and whose last suspension ended long ago."""
        now = trio.current_time()
        for site in self.all:
            if site.is_idle and not site.is_suspended(now) and now - site.suspended_until > SUSPEND_SECONDS:
                del self._sites[site.route]
