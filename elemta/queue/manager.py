"""Opens the queue and holds it together: sites, active claims, results, notices, drain.

The flow is one way. A claim (fresh from its acceptance through `Intake.put`, or from the scheduler)
becomes jobs, a job waits in the ready queue of its site, a dispatcher carries it, `settle` turns its
outcomes into one record in the spool and tells the watchers. Everything here that changes state
is synchronous; what awaits is only the delivery itself and the reading of a header for a notice.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from random import Random

import attrs
import trio

from elemta.config import Config, TimeoutsConfig
from elemta.delivery import Parcel, Transport
from elemta.events import (
    EventBus,
    NoticeQueued,
    RecipientDeferred,
    RecipientDelivered,
    RecipientFailed,
    StorageTrouble,
    TaskCrashed,
)
from elemta.mail import (
    Cause,
    Deferred,
    Delivered,
    Failed,
    MessageId,
    Notify,
    Outcome,
    make_id,
)
from elemta.mail.dsn import Action
from elemta.mail.header import split_header
from elemta.mail.ids import RANDOM_BITS
from elemta.routing import Route, Router
from elemta.runtime import Drain, Restart, WallClock, contain, summarize, supervise
from elemta.spool import (
    AttemptRecord,
    BodyCorrupt,
    Claim,
    ClaimedRecipient,
    NewMessage,
    RecipientResult,
    RecipientState,
    Spool,
    StoredMessage,
)

from .bounce import Subject, plan_notice, wanted, wants_whole_message
from .dispatcher import Dispatcher
from .retry import GiveUp, RetrySchedule
from .scheduler import Scheduler
from .site import Active, Job, Site, SiteStatistics
from .window import ConcurrencyWindow

SUSPEND_SECONDS = 300.0
"""How long a dead destination is left alone (Postfix: minimal_backoff_time)."""
HEARTBEAT = 60.0
"""Seconds between looks at leases, stuck dispatchers and suspensions that ended."""
PENDING_RECORDS = 5000
"""Results not yet on the disk, from which on deliveries wait for the writer."""
MEMORY_OF_NOTICE = 1024 * 1024
"""Most octets of an original that a notice carries: whole header block, or whole message."""


@attrs.frozen
class QueueStatistics:
    """The queue in memory at one moment."""

    active_messages: int
    active_octets: int
    fresh_messages: int
    sites: tuple[SiteStatistics, ...]
    draining: bool


@attrs.frozen
class Original:
    """What a notice may return of a message: its header block, or all of it."""

    content: bytes
    complete: bool


class QueueManager:
    """The running queue. It is the spool's `Intake`; others call `wake` and `statistics`."""

    def __init__(
        self,
        config: Config,
        spool: Spool,
        router: Router,
        make_transport: Callable[[Route], Transport],
        bus: EventBus,
        *,
        clock: WallClock,
        random: Random,
        drain: Drain,
        nursery: trio.Nursery,
    ) -> None:
        self.config = config
        self.timeouts: TimeoutsConfig = config.timeouts
        self.router = router
        self.clock = clock
        self.drain = drain
        self._spool = spool
        self._make_transport = make_transport
        self._bus = bus
        self._random = random
        self._nursery = nursery
        self._schedule = RetrySchedule(config.queue)
        self._scheduler = Scheduler(self, spool)
        self._sites: dict[Route, Site] = {}
        self._dispatchers: set[Dispatcher] = set()
        self._active: set[Active] = set()
        self._active_messages = 0
        self._fresh_messages = 0
        self._active_octets = 0

    # --- the spool's intake: all synchronous -----------------------------------------------------

    def reserve(self, octets: int, recipients: int) -> bool:
        """Whether a message about to be stored may come here at once, with its body in memory."""
        queue = self.config.queue
        if (
            self.drain.draining
            or self._active_octets + octets > queue.active_bytes
            or self._active_messages >= queue.active_messages
            # Half of the room is for what waits in the spool, so that new mail cannot starve old mail.
            or self._fresh_messages >= (queue.active_messages + 1) // 2
            or recipients > queue.active_messages
        ):
            return False
        self._active_messages += 1
        self._fresh_messages += 1
        self._active_octets += octets
        return True

    def cancel(self, octets: int, recipients: int) -> None:
        """The reserved message was not stored after all."""
        self._active_messages -= 1
        self._fresh_messages -= 1
        self._active_octets -= octets

    def put(self, claim: Claim) -> None:
        """A message was stored and is claimed by this process: deliver it."""
        self._dispatch(claim, fresh=True)

    def wake(self) -> None:
        """Something may be due. Sync, cannot fail."""
        self._scheduler.wake()

    # --- the scheduler's side --------------------------------------------------------------------

    def backlog_room(self) -> int:
        """How many messages may be claimed from the backlog now."""
        queue = self.config.queue
        backlog = self._active_messages - self._fresh_messages
        return min(queue.active_messages - self._active_messages, (queue.active_messages + 1) // 2 - backlog)

    def take_claim(self, claim: Claim) -> None:
        """The scheduler claimed this."""
        self._active_messages += 1
        self._active_octets += _octets(claim.message)
        self._dispatch(claim, fresh=False)

    # --- claims to jobs --------------------------------------------------------------------------

    def _dispatch(self, claim: Claim, *, fresh: bool) -> None:
        active = Active(claim.message, claim.recipients, _octets(claim.message), fresh, trio.current_time())
        self._active.add(active)
        now = trio.current_time()
        largest = self.config.delivery.recipients_per_transaction
        touched: list[Site] = []
        for route, recipients in self._by_route(claim.recipients):
            site = self._site(route)
            if self.drain.draining or site.is_suspended(now):
                self._give_back(claim.message.id, recipients, site, now)
                continue
            touched.append(site)
            for start in range(0, len(recipients), largest):
                active.jobs += 1
                site.add(Job(active, tuple(recipients[start : start + largest])))
        if not active.jobs:
            self._forget(active)
        for site in touched:
            self.staff(site)

    def _by_route(
        self, recipients: tuple[ClaimedRecipient, ...]
    ) -> Iterable[tuple[Route, list[ClaimedRecipient]]]:
        if len(recipients) == 1:
            return ((self.router.route(recipients[0].recipient.mailbox), [recipients[0]]),)
        routes: dict[Route, list[ClaimedRecipient]] = {}
        for claimed in recipients:
            routes.setdefault(self.router.route(claimed.recipient.mailbox), []).append(claimed)
        return routes.items()

    def _give_back(
        self, message: MessageId, recipients: Iterable[ClaimedRecipient], site: Site | None, now: float
    ) -> None:
        """Return recipients that were not tried: due when the suspension ends, or now on a drain."""
        due, cause = self.clock.time(), Cause.SHUTDOWN
        if site is not None and not self.drain.draining:
            wait = max(0.0, site.suspended_until - now)
            due += wait + self._random.uniform(0.0, SUSPEND_SECONDS / 10)
            cause = (
                Cause.BUSY
                if site.last_failure is None
                else getattr(site.last_failure, "cause", Cause.CONNECT)
            )
        self._spool.unclaim(message, [(claimed.index, claimed.lease) for claimed in recipients], due, cause)
        self._scheduler.note_due(due)

    def _forget(self, active: Active) -> None:
        self._active.discard(active)
        self._active_messages -= 1
        self._active_octets -= active.octets
        if active.fresh:
            self._fresh_messages -= 1
        if not self._active_messages % 64:
            self._scheduler.wake()

    def _job_done(self, job: Job) -> None:
        job.active.jobs -= 1
        if not job.active.jobs:
            self._forget(job.active)

    # --- sites and dispatchers -------------------------------------------------------------------

    def _site(self, route: Route) -> Site:
        site = self._sites.get(route)
        if site is None:
            delivery = self.config.delivery
            site = Site(route, ConcurrencyWindow(delivery.initial_concurrency, delivery.concurrency))
            self._sites[route] = site
        return site

    def staff(self, site: Site) -> None:
        """Start the dispatchers that the site wants."""
        now = trio.current_time()
        while site.wants_dispatcher(now) and not self.drain.draining:
            site.dispatchers += 1
            site.starting += 1
            dispatcher = Dispatcher(self, site, self._make_transport(site.route))
            self._dispatchers.add(dispatcher)
            self._nursery.start_soon(self._run_dispatcher, dispatcher, name=f"dispatcher {site.route}")

    async def _run_dispatcher(self, dispatcher: Dispatcher) -> None:
        site = dispatcher.site
        crash: list[BaseException] = []

        def on_crash(name: str, error: BaseException) -> None:
            crash.append(error)
            message = dispatcher.job.message.id if dispatcher.job else ""
            self._bus.publish(
                TaskCrashed(time=self.clock.time(), task=name, error=summarize(error), message=message)
            )

        try:
            await contain(f"dispatcher {site.route}", dispatcher.run, on_crash=on_crash)
        finally:
            self._dispatchers.discard(dispatcher)
            site.dispatchers -= 1
            site.starting -= dispatcher.starting
            if dispatcher.job is not None:
                self._settle_unfinished(dispatcher, crash[0] if crash else None)
            if self.drain.draining:
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
        if self.drain.draining and error is None and not sent:
            self._give_back(job.message.id, job.recipients, None, trio.current_time())
            self._job_done(job)
            return
        if error is None:
            dispatcher.site.window.failure()
        outcome = dispatcher.outcome_of_end(error)
        self._record(dispatcher.site, job, [outcome] * len(job.recipients), original=None)

    def connect_failed(self, site: Site, job: Job | None, outcome: Outcome) -> None:
        """No connection could be had: settle the job, and all that waits where the site counts as dead."""
        site.last_failure = outcome
        if isinstance(outcome, Deferred):
            site.window.failure()
        if job is not None:
            self._later(site, job, outcome)
        if site.window.is_dead:
            site.suspended_until = trio.current_time() + SUSPEND_SECONDS
            site.window.revive()
            while (waiting := site.take()) is not None:
                self._later(site, waiting, outcome)

    def _later(self, site: Site, job: Job, outcome: Outcome) -> None:
        """Settle in a task of its own: a notice may have to read the message first."""
        self._nursery.start_soon(self._settle_contained, site, job, [outcome] * len(job.recipients))

    async def _settle_contained(self, site: Site, job: Job, outcomes: list[Outcome]) -> None:
        def on_crash(name: str, error: BaseException) -> None:
            self._bus.publish(
                TaskCrashed(time=self.clock.time(), task=name, error=summarize(error), message=job.message.id)
            )

        async def settle() -> None:
            await self.settle(site, job, outcomes)

        if not await contain("settle", settle, on_crash=on_crash):
            self._give_back(job.message.id, job.recipients, site, trio.current_time())
            self._job_done(job)

    # --- what dispatchers ask --------------------------------------------------------------------

    def parcel(self, job: Job) -> Parcel:
        """What the transport gets."""
        message = job.message
        recipients = tuple(claimed.recipient for claimed in job.recipients)
        return Parcel(message.id, message.envelope, recipients, self._spool.content(message))

    async def wait_may_deliver(self) -> None:
        """Hold an attempt back while its result could not be written down."""
        if self._spool.pending_records > PENDING_RECORDS:
            await self._spool.wait_recorded()
        while self._spool.deliveries_paused:  # noqa: ASYNC110 - a rare state of a full disk, nobody signals its end
            await trio.sleep(1.0)

    async def settle(self, site: Site, job: Job, outcomes: list[Outcome]) -> None:
        """Write down what an attempt did and tell the watchers.

        Without a notice to write there is no checkpoint before the record, so that a cancel cannot lose
        the word of the next hop (TRIO 3.6). With one, deliveries are recorded first for the same reason.
        """
        if all(isinstance(outcome, Delivered) for outcome in outcomes):
            self._record(site, job, outcomes, original=None)
            return
        if not self._needs_notice(job, outcomes):
            self._record(site, job, outcomes, original=None)
            return
        done = [i for i, outcome in enumerate(outcomes) if isinstance(outcome, Delivered)]
        if done:
            rest = [i for i in range(len(outcomes)) if i not in set(done)]
            part = Job(job.active, tuple(job.recipients[i] for i in done))
            job.active.jobs += 1
            self._record(site, part, [outcomes[i] for i in done], original=None)
            job.recipients = tuple(job.recipients[i] for i in rest)
            outcomes = [outcomes[i] for i in rest]
        original = await self._original(job.message)
        self._record(site, job, outcomes, original=original)

    def _needs_notice(self, job: Job, outcomes: list[Outcome]) -> bool:
        """Whether a notice may follow, so that the original's header is needed."""
        now = self.clock.time()
        received = job.message.received
        null = job.message.envelope.reverse_path.is_null
        if null:
            return False
        late = self.config.queue.delay_notice
        for claimed, outcome in zip(job.recipients, outcomes, strict=True):
            if isinstance(outcome, Failed):
                return True
            if isinstance(outcome, Deferred) and (
                now >= received + self._schedule.lifetime(null_sender=null)
                or (late and not claimed.delay_noticed and now - received >= late)
            ):
                return True
        return False

    async def _original(self, message: StoredMessage) -> Original:
        """The header block of a message, or all of it where the sender asked for that, bounded."""
        whole = wants_whole_message(message) and message.size <= MEMORY_OF_NOTICE
        pieces = [message.prefix]
        size = len(message.prefix)
        try:
            async with self._spool.open_body(message) as reader:
                while size < MEMORY_OF_NOTICE and (piece := await reader.read()):
                    pieces.append(piece)
                    size += len(piece)
                    if not whole and b"\r\n\r\n" in piece:
                        break
        except BodyCorrupt as error:
            self._bus.publish(
                StorageTrouble(time=self.clock.time(), what="corrupt", detail=str(error), message=message.id)
            )
        content = b"".join(pieces)
        if whole and len(content) == message.size:
            return Original(content, complete=True)
        return Original(content[: split_header(content)][:MEMORY_OF_NOTICE], complete=False)

    # --- results ---------------------------------------------------------------------------------

    def _record(self, site: Site, job: Job, outcomes: list[Outcome], *, original: Original | None) -> None:
        """One record for the job: results, next times, notices. Sync; then the watchers hear of it."""
        now = self.clock.time()
        results: list[RecipientResult] = []
        failed: list[Subject] = []
        late: list[Subject] = []
        for claimed, outcome in zip(job.recipients, outcomes, strict=True):
            match outcome:
                case Delivered():
                    site.delivered += 1
                    results.append(
                        RecipientResult(claimed.index, claimed.lease, outcome, RecipientState.DELIVERED)
                    )
                    self._tell_delivered(site, job, claimed, outcome, now)
                case Failed():
                    site.failed += 1
                    results.append(
                        RecipientResult(claimed.index, claimed.lease, outcome, RecipientState.FAILED)
                    )
                    failed.append(Subject(claimed, outcome))
                    self._tell_failed(site, job, claimed, outcome, now, expired=False)
                case Deferred():
                    results.append(self._deferred(site, job, claimed, outcome, now, failed, late, original))
        notices = self._notices(job.message, failed, late, original, now)
        self._spool.record(AttemptRecord(job.message.id, tuple(results), notices))
        self._job_done(job)

    def _deferred(
        self,
        site: Site,
        job: Job,
        claimed: ClaimedRecipient,
        outcome: Deferred,
        now: float,
        failed: list[Subject],
        late: list[Subject],
        original: Original | None,
    ) -> RecipientResult:
        message = job.message
        site.deferred += 1
        next_step = self._schedule.after(
            claimed.attempts,
            received=message.received,
            now=now,
            null_sender=message.envelope.reverse_path.is_null,
            delay_noticed=claimed.delay_noticed,
            random=self._random,
            not_before=now + max(0.0, site.suspended_until - trio.current_time()),
        )
        # Without the original at hand (a crash, a drain) nothing is given up or told: the next attempt does.
        may_tell = original is not None or message.envelope.reverse_path.is_null
        if isinstance(next_step, GiveUp) and may_tell:
            failed.append(Subject(claimed, outcome))
            self._tell_failed(site, job, claimed, outcome, now, expired=True)
            return RecipientResult(claimed.index, claimed.lease, outcome, RecipientState.EXPIRED)
        due = now + self.config.queue.retry[0] if isinstance(next_step, GiveUp) else next_step.due
        notice = not isinstance(next_step, GiveUp) and next_step.delay_notice and original is not None
        if notice:
            end = message.received + self._schedule.lifetime(null_sender=False)
            late.append(Subject(claimed, outcome, retry_until=end))
        self._bus.publish(
            RecipientDeferred(
                time=now,
                message=message.id,
                recipient=str(claimed.recipient.mailbox),
                route=str(site.route),
                remote=outcome.remote,
                cause=outcome.cause,
                reply=str(outcome.reply),
                detail=outcome.detail,
                attempts=claimed.attempts,
                due=due,
            )
        )
        self._scheduler.note_due(due)
        return RecipientResult(
            claimed.index,
            claimed.lease,
            outcome,
            RecipientState.QUEUED,
            due=due,
            delay_noticed=claimed.delay_noticed or notice,
        )

    def _notices(
        self,
        message: StoredMessage,
        failed: list[Subject],
        late: list[Subject],
        original: Original | None,
        now: float,
    ) -> tuple[NewMessage, ...]:
        notices = []
        for subjects, action, when in (
            (failed, Action.FAILED, Notify.FAILURE),
            (late, Action.DELAYED, Notify.DELAY),
        ):
            told = [subject for subject in subjects if wanted(message, subject.claimed, when)]
            if not told or original is None:
                continue
            notice_id = MessageId(make_id(int(now * 1000), self._random.getrandbits(RANDOM_BITS)))
            notices.append(
                plan_notice(
                    message,
                    told,
                    action,
                    original=original.content,
                    complete=original.complete,
                    hostname=self.config.hostname,
                    notice=notice_id,
                    now=now,
                )
            )
            self._bus.publish(
                NoticeQueued(
                    time=now,
                    message=notice_id,
                    about=message.id,
                    recipient=str(message.envelope.reverse_path.mailbox),
                    action=action,
                )
            )
        return tuple(notices)

    def _tell_delivered(
        self, site: Site, job: Job, claimed: ClaimedRecipient, outcome: Delivered, now: float
    ) -> None:
        self._bus.publish(
            RecipientDelivered(
                time=now,
                message=job.message.id,
                recipient=str(claimed.recipient.mailbox),
                route=str(site.route),
                remote=outcome.remote,
                reply=str(outcome.reply),
                attempts=claimed.attempts,
                seconds=round(now - job.message.received, 3),
            )
        )

    def _tell_failed(
        self,
        site: Site,
        job: Job,
        claimed: ClaimedRecipient,
        outcome: Failed | Deferred,
        now: float,
        *,
        expired: bool,
    ) -> None:
        self._bus.publish(
            RecipientFailed(
                time=now,
                message=job.message.id,
                recipient=str(claimed.recipient.mailbox),
                route=str(site.route),
                remote=outcome.remote,
                cause=outcome.cause,
                reply=str(outcome.reply),
                detail=outcome.detail,
                attempts=claimed.attempts,
                expired=expired,
            )
        )

    # --- care ------------------------------------------------------------------------------------

    async def run_scheduler(self) -> None:
        """The scheduler's task."""
        await self._scheduler.run()

    async def run_heartbeat(self) -> None:
        """Keeps leases of what is in memory, ends dispatchers that are stuck, revives suspended sites."""
        while True:
            await trio.sleep(HEARTBEAT)
            self.beat()

    def beat(self) -> None:
        """One look around."""
        now = trio.current_time()
        half = self.config.queue.lease / 2
        for active in self._active:
            if now - active.since >= half:
                active.since = now
                self._spool.extend(
                    active.message.id, [(claimed.index, claimed.lease) for claimed in active.recipients]
                )
        for dispatcher in self._dispatchers:
            if dispatcher.job is None or dispatcher.progress != dispatcher.seen:
                dispatcher.seen, dispatcher.seen_at = dispatcher.progress, now
            elif now - dispatcher.seen_at >= self.timeouts.stuck:
                dispatcher.scope.cancel(reason="no progress")
        for site in [site for site in self._sites.values() if site.is_idle]:
            if not site.is_suspended(now) and now - site.suspended_until > SUSPEND_SECONDS:
                del self._sites[site.route]

    async def run_drain(self) -> None:
        """Once a drain begins: no new attempts, end those that have sent nothing, give back what waits."""
        await self.drain.wait_draining()
        self.wake()
        for site in self._sites.values():
            self._return_ready(site)
            while site.waiting:
                site.wake_one()
        for dispatcher in tuple(self._dispatchers):
            if dispatcher.before_data:
                dispatcher.scope.cancel(reason="server stops")

    def _return_ready(self, site: Site) -> None:
        now = trio.current_time()
        while (job := site.take()) is not None:
            self._give_back(job.message.id, job.recipients, None, now)
            self._job_done(job)

    def statistics(self) -> QueueStatistics:
        """A snapshot; sync and cheap."""
        now = trio.current_time()
        return QueueStatistics(
            active_messages=self._active_messages,
            active_octets=self._active_octets,
            fresh_messages=self._fresh_messages,
            sites=tuple(site.statistics(now) for site in self._sites.values()),
            draining=self.drain.draining,
        )


def _octets(message: StoredMessage) -> int:
    return 0 if message.body is None else len(message.body) + len(message.prefix)


@asynccontextmanager
async def open_queue(
    config: Config,
    spool: Spool,
    router: Router,
    make_transport: Callable[[Route], Transport],
    bus: EventBus,
    *,
    clock: WallClock,
    random: Random,
    drain: Drain,
) -> AsyncGenerator[QueueManager, None]:
    """Run the queue around the block.

    On the way out the queue drains: attempts that have sent nothing end at once, the others may finish
    until `drain.deadline`; then what is left is cancelled and recorded as such.
    """

    def on_crash(name: str, error: BaseException) -> None:
        bus.publish(TaskCrashed(time=clock.time(), task=name, error=summarize(error)))

    async with trio.open_nursery() as nursery:
        manager = QueueManager(
            config,
            spool,
            router,
            make_transport,
            bus,
            clock=clock,
            random=random,
            drain=drain,
            nursery=nursery,
        )
        drain.attach(nursery.cancel_scope)
        spool.set_intake(manager)
        care = trio.CancelScope()

        async def run_care() -> None:
            with care:
                await supervise(
                    "queue heartbeat", manager.run_heartbeat, on_crash=on_crash, restart=Restart.ON_CRASH
                )

        nursery.start_soon(run_care, name="queue heartbeat")
        nursery.start_soon(manager.run_drain, name="queue drain")

        async def run_scheduler() -> None:
            await supervise("scheduler", manager.run_scheduler, on_crash=on_crash, drain=drain)

        nursery.start_soon(run_scheduler, name="scheduler")
        try:
            yield manager
        finally:
            spool.set_intake(None)
            care.cancel(reason="the queue closes")
            if not drain.draining:
                # The block ended without a drain (an error, a test): there is nothing to wait for.
                drain.begin("the queue closes", 0.0, 0.0)
