"""The sites there are and the dispatchers that work for them: when one is hired, what follows its end."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeAlias

import attrs
import trio

from elemta.delivery import Shaping
from elemta.events import SiteResumed, SiteSuspended
from elemta.mail import Deferred, Delivered, Outcome
from elemta.routing import Route
from elemta.runtime import contain, noted
from elemta.spool import AttemptFacts, BodyCorrupt

from .context import QueueContext
from .dispatcher import Dispatcher
from .provider import Provider
from .reputation import REPLIES_TO_SUSPEND, REPUTATION_SECONDS, complaint
from .results import Results
from .rollup import Rollup
from .site import Job, Site
from .underway import note_of

SUSPEND_SECONDS = 300.0
"""How long a dead destination is left alone (Postfix: minimal_backoff_time)."""
TURN_SECONDS = 1.0
"""How long a site may leave its turn by the rates unused before it is the next one's."""
SURVEY_SECONDS = 30.0
"""How long it may take to ask for the hosts of a domain; who does not say is counted by itself."""
SURVEY_AGAIN = 3600.0
"""Seconds after which the hosts of a domain that there is always mail for are asked for again."""

Survey: TypeAlias = Callable[[Route], Awaitable[frozenset[str]]]


@attrs.define(eq=False)
class Sites:
    """Every destination that there is mail for, or was a moment ago."""

    context: QueueContext
    results: Results
    make_dispatcher: Callable[[Site], Dispatcher]
    survey: Survey | None = None
    """Tells which hosts the MX of a route names; None: each site is counted by itself."""
    dispatchers: set[Dispatcher] = attrs.field(factory=set, init=False)
    _sites: dict[Route, Site] = attrs.field(factory=dict, init=False)
    _hired: int = attrs.field(default=0, init=False)
    """Dispatchers so far."""
    rollup: Rollup = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.rollup = Rollup(self._shaping(), self._let_through)

    def at(self, route: Route) -> Site:
        """The site of a route; made where there is none."""
        site = self._sites.get(route)
        if site is None:
            provider = self.rollup.new(self.rollup.shaping.of(route))
            site = Site(route, provider, self.results.expire, on_low=self.context.bell.ring)
            provider.add(site)
            self._sites[route] = site
            if route.use_mx and self.survey is not None:
                site.surveyed = math.inf
                self._start_survey(site)
        return site

    @property
    def all(self) -> tuple[Site, ...]:
        return tuple(self._sites.values())

    def _start_survey(self, site: Site) -> None:
        self.context.nursery.start_soon(self._survey, site, name=f"hosts of {site.route}")

    async def _survey(self, site: Site) -> None:
        """Ask for the hosts behind a site, whose provider it then shares; else it keeps its own."""
        assert self.survey is not None
        hosts: frozenset[str] = frozenset()
        survey = partial(self.survey, site.route)

        async def ask() -> None:
            nonlocal hosts
            with trio.move_on_after(SURVEY_SECONDS):
                hosts = await survey()

        try:
            await contain(f"hosts of {site.route}", ask, on_crash=self.context.tell_crash)
        finally:
            site.surveyed = trio.current_time()
        if self._sites.get(site.route) is not site:
            return
        self.rollup.join(site, hosts)
        if site.is_suspended(site.surveyed):
            self._return_untried(site)  # its hosts rest, which was not known when it came
        self.staff(site)

    def staff(self, site: Site) -> None:
        """Start the dispatchers that the site wants, when it is its turn among those with the same hosts."""
        now, provider = trio.current_time(), site.provider
        if provider.suspended_because and not provider.is_suspended(now):
            provider.suspended_because = ""
            self.context.bus.publish(SiteResumed(time=self.context.clock.time(), route=str(site.route)))
        if site.lacks_dispatcher:
            provider.line.setdefault(site)
        self._serve_line(provider, now)

    def _serve_line(self, provider: Provider, now: float) -> None:
        if provider.is_suspended(now) or self.context.drain.draining:
            return
        while (site := provider.first_in_line()) is not None:
            if not provider.has_place:
                provider.free_place()
                return
            if provider.is_paced and site.peek_turn() is None:
                return
            if wait := provider.connection_wait(now):
                provider.call_at(now + wait)
                return
            del provider.line[site]
            self._hire(site)
            provider.take_connection(now)
            if site.lacks_dispatcher:
                provider.line[site] = None  # again, behind the others

    def _hire(self, site: Site) -> None:
        site.dispatchers += 1
        site.provider.dispatchers += 1
        site.starting += 1
        dispatcher = self.make_dispatcher(site)
        self._hired += 1
        dispatcher.number = self._hired
        self.dispatchers.add(dispatcher)
        self.context.nursery.start_soon(self._run_dispatcher, dispatcher, name=f"dispatcher {site.route}")

    def _let_through(self, provider: Provider) -> None:
        """A rate lets something through again: for those who wait in line, or those with a connection."""
        provider.line_first = not provider.line_first
        if provider.line_first and provider.first_in_line() is not None:
            self._serve_line(provider, trio.current_time())
            return
        if (site := provider.next_resting()) is not None:
            for _ in range(min(len(site.ready) - site.starting, len(site.waiting))):
                site.wake_one()
            # Only one site is woken, so that they take turns. It may have nothing to send after all.
            provider.call_at(trio.current_time() + TURN_SECONDS)
        self._serve_line(provider, trio.current_time())

    async def _run_dispatcher(self, dispatcher: Dispatcher) -> None:
        site = dispatcher.site
        crash: list[BaseException] = []

        def on_crash(name: str, error: BaseException) -> None:
            crash.append(error)
            if isinstance(error, BodyCorrupt):
                return  # no bug: the spool has told of it, and the message is held
            self.context.tell_crash(name, error, dispatcher.job.message.id if dispatcher.job else "")

        try:
            with noted(partial(note_of, dispatcher)):
                await contain(f"dispatcher {site.route}", dispatcher.run, on_crash=on_crash)
        finally:
            self.dispatchers.discard(dispatcher)
            site.dispatchers -= 1
            site.provider.dispatchers -= 1
            site.starting -= dispatcher.starting
            if not dispatcher.connects:
                site.provider.return_connection(trio.current_time())
            if dispatcher.job is not None:
                self._settle_unfinished(dispatcher, crash[0] if crash else None)
            if self.context.drain.draining:
                self._return_ready(site)
            else:
                self.staff(site)
            if site.is_idle and site.last_failure is None and self._may_forget(site):
                self._forget(site)

    def _settle_unfinished(self, dispatcher: Dispatcher, error: BaseException | None) -> None:
        """The dispatcher ended with a job in hand: give it back on a drain, else record why."""
        facts = dispatcher.facts()
        assert dispatcher.job is not None
        outcome = dispatcher.outcome_of_end(error)
        if not self.context.drain.draining:
            dispatcher.record_end(outcome)
        job, dispatcher.job = dispatcher.job, None
        if self.context.drain.draining and error is None and not dispatcher.dot_sent:
            self.results.give_back_job(job)
            return
        if error is None and not dispatcher.ended_by_operator:
            dispatcher.site.window.failure()
        self.results.record_end(dispatcher.site, job, outcome, facts, error)

    def connect_failed(self, site: Site, job: Job | None, outcome: Outcome, facts: AttemptFacts) -> None:
        """No connection could be had: settle the job, and all that waits where the site counts as dead."""
        site.provider.last_failure = outcome
        if isinstance(outcome, Deferred):
            site.window.failure()
        if job is not None:
            self.results.settle_later(site, job, outcome, facts)
        if site.window.is_dead:
            self._suspend(site, SUSPEND_SECONDS, "unreachable", outcome)
            while (waiting := site.take()) is not None:
                self.results.settle_later(site, waiting, outcome)
            self._return_all_untried(site.provider)

    def listen(self, site: Site, outcomes: Sequence[Outcome]) -> None:
        """Suspend the site where the next hop says again and again that it is tired of us.

        What is ready there is given back: it was not tried, and would only be refused as well.
        """
        provider = site.provider
        for outcome in outcomes:
            reason = complaint(outcome)
            if isinstance(outcome, Delivered):
                provider.complaints = 0
            if not reason:
                continue
            provider.complaints += 1
            if provider.complaints < REPLIES_TO_SUSPEND or provider.is_suspended(trio.current_time()):
                continue
            provider.last_failure = outcome
            self._suspend(site, REPUTATION_SECONDS, reason, outcome)
            self._return_all_untried(provider)

    def _return_all_untried(self, provider: Provider) -> None:
        for each in provider.sites:
            self._return_untried(each)

    def _return_untried(self, site: Site) -> None:
        """Give back what is ready until the end of the suspension."""
        while (job := site.take()) is not None:
            self.results.give_back(job.message, job.recipients, site)
            self.results.room.job_done(job)

    def _suspend(self, site: Site, seconds: float, reason: str, outcome: Outcome) -> None:
        provider = site.provider
        provider.suspended_until = trio.current_time() + seconds
        provider.suspended_because = reason
        provider.complaints = 0
        provider.window.revive()
        now = self.context.clock.time()
        self.context.bus.publish(
            SiteSuspended(
                time=now, route=str(site.route), reason=reason, reply=str(outcome.reply), until=now + seconds
            )
        )

    def end_rest(self, route: str) -> bool:
        """Try what is suspended again from now on; whether it was."""
        now, found = trio.current_time(), False
        for site in self.all:
            if str(site.route) == route and site.is_suspended(now):
                found = True
                site.provider.suspended_until = now
                for each in tuple(site.provider.sites):
                    self.staff(each)
        return found

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
        """Drop sites that have nothing to do and whose last suspension ended long ago; ask anew for the hosts
        of those that have much to do."""
        now = trio.current_time()
        for site in self.all:
            if site.route.use_mx and self.survey is not None and now - site.surveyed > SURVEY_AGAIN:
                site.surveyed = now
                self._start_survey(site)
            if site.is_idle and now - site.suspended_until > SUSPEND_SECONDS and self._may_forget(site):
                self._forget(site)

    def _may_forget(self, site: Site) -> bool:
        """Whether nothing would be forgotten with it that counts."""
        now, provider = trio.current_time(), site.provider
        if site.surveyed == math.inf:
            return False
        return len(provider.sites) > 1 or (not provider.is_suspended(now) and provider.is_unused(now))

    def _forget(self, site: Site) -> None:
        if self._sites.pop(site.route, None) is not None:
            self.rollup.leave(site)

    def _shaping(self) -> Shaping:
        return Shaping(self.context.config, self.context.overrides)

    def reshape(self) -> None:
        """Go by the tables of the configuration as it is now; windows keep their size within their limits."""
        self.rollup.reshape(self._shaping(), self.all)
        for site in self.all:
            self.staff(site)
