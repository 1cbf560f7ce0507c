"""All plugins together: starts them, asks those of a hook, tells what they said and how they failed.

Where no plugin has a hook, asking costs one look-up (`has`): sessions do not even make the arguments.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import attrs
import trio

from elemta.events import (
    Event,
    EventBus,
    Observer,
    PluginCallFailed,
    PluginDecided,
    PluginResumed,
    PluginSuspended,
)
from elemta.runtime import HistogramStatistics, WallClock

from .chain import MOST_NOTED, NO_OBJECTION, Chain, Verdict, decision_for
from .decisions import NO_CHANGES, Continue, HookAnswer, NoteValue
from .hooks import HOOKS
from .member import Member, Standing
from .metrics import Measured
from .observed import arguments_of
from .order import arrange
from .service import Service, Ward
from .shadow import Shadows
from .tier import Failure, PluginFailed, TierStatistics
from .views import NO_ARGUMENTS, HookArguments
from .watchdog import Watched
from .words import changes_in_words


@attrs.frozen
class PluginStatus:
    """A plugin as listings show it."""

    name: str
    standing: Standing
    hooks: tuple[str, ...]
    shadow: bool
    statistics: TierStatistics
    missed: int
    """Things it was not told of, since too many waited."""
    durations: dict[str, HistogramStatistics]
    """How long its calls took, by hook."""
    measured: Measured
    """What it counts itself."""


class PluginUnusable(Exception):
    """A plugin cannot be taken into service; nothing has changed. The text is for the operator."""


@attrs.frozen(eq=False)
class Change:
    """Another set of plugins, the new ones started already. `commit` or `abandon` has to follow."""

    failures: dict[str, str]
    """Of new ones that could not be started, by name; they are tried again if the change is made."""
    _host: PluginHost
    _services: tuple[Service, ...]
    _fresh: tuple[Service, ...]

    def commit(self) -> None:
        """Ask these from now on; calls under way end where they began. Sync, cannot fail."""
        self._host.seat(self._services)

    def abandon(self) -> None:
        """Leave everything as it is. Sync."""
        for service in self._fresh:
            service.stop()


class PluginHost:
    """Made by `open_plugins`."""

    def __init__(self, bus: EventBus, clock: WallClock) -> None:
        self._bus = bus
        self._clock = clock
        self.shadows = Shadows()
        self.on_change: Callable[[], None] = _nothing
        """Called when other plugins are in service."""
        self._services: tuple[Service, ...] = ()
        self._asked: dict[str, tuple[Service, ...]] = {}
        self._told: dict[str, tuple[Service, ...]] = {}
        self._watch: Observer | None = None
        self._nursery: trio.Nursery | None = None

    @property
    def is_idle(self) -> bool:
        """Whether there are no plugins at all."""
        return not self._services

    def has(self, hook: str) -> bool:
        """Whether any plugin has that hook: else nothing is to be asked or told."""
        return hook in self._asked or hook in self._told

    # --- Asking and telling -------------------------------------------------------------------------------

    async def ask(self, hook: str, arguments: HookArguments, notes: dict[str, NoteValue]) -> Verdict:
        """What the plugins of a hook say, asked in order up to the first decision.

        Takes at most the sum of their timeouts. Never raises for what a plugin does. Cancelled: the plugins'
        calls are, too, and nothing of their answers counts.

        Args:
          notes: the results store of the session; it grows by what they note.
        """
        members = self._asked.get(hook)
        if members is None:
            return NO_OBJECTION
        chain: Chain[Service] = Chain(members, notes)
        shadows: list[tuple[str, HookAnswer]] = []
        for service in chain:
            member = service.member
            settings = member.at(hook)
            if not settings.wants(arguments):
                continue
            if notes:
                arguments = attrs.evolve(arguments, notes=dict(notes))
            try:
                answer = await self._call(service, hook, arguments)
                if answer.notes and not member.entry.shadow and not chain.has_room(member.name, answer):
                    raise self._too_much(service, hook, arguments)
            except PluginFailed as failure:
                decision = decision_for(failure, settings.on_failure(failure))
                if member.entry.shadow:
                    shadows.append((member.name, HookAnswer(decision)))
                else:
                    chain.fail(member.name, decision)
                continue
            has_changes = answer.changes is not NO_CHANGES and bool(answer.changes)
            if has_changes or not isinstance(answer.decision, Continue):
                self._tell_decided(member, hook, answer, arguments)
            if member.entry.shadow:
                shadows.append((member.name, answer))
            else:
                chain.take(member.name, answer)
        verdict = chain.verdict()
        for name, answer in shadows:
            self.shadows.compare(self._clock.time(), name, hook, answer, verdict, arguments)
        return verdict

    def tell(self, hook: str, arguments: HookArguments, *, but: str = "") -> None:
        """Let observers know, all `but` that plugin, each when it gets there, in order. Sync."""
        for service in self._told.get(hook, ()):
            if service.member.name != but and service.member.at(hook).wants(arguments):
                service.hear(hook, arguments)

    async def _call(self, service: Service, hook: str, arguments: HookArguments) -> HookAnswer:
        member = service.member
        if member.suspended_until is not None:
            if not member.resumes():
                await trio.lowlevel.checkpoint()
                raise PluginFailed(Failure.CRASH, "suspended")
            self._bus.publish(PluginResumed(time=self._clock.time(), plugin=member.name))
        service.begin()
        began = trio.current_time()
        try:
            if not self._bus.spans.taken:
                return await member.tier.call(hook, arguments)
            attempt, session = arguments.attempt, arguments.session
            with self._bus.spans.measure(
                f"hook {hook}",
                session="" if session is None or attempt is not None else session.id,
                message="" if attempt is None else attempt.message,
                plugin=member.name,
            ):
                return await member.tier.call(hook, arguments)
        except PluginFailed as failure:
            self._failed(service, hook, failure, arguments)
            raise
        finally:
            service.took(hook, trio.current_time() - began)
            service.end()

    def _too_much(self, service: Service, hook: str, arguments: HookArguments) -> PluginFailed:
        failure = PluginFailed(Failure.ERROR, f"more than {MOST_NOTED} notes of one session")
        self._failed(service, hook, failure, arguments)
        return failure

    def _failed(
        self,
        service: Service,
        hook: str,
        failure: PluginFailed,
        arguments: HookArguments = NO_ARGUMENTS,
    ) -> None:
        member = service.member
        now = self._clock.time()
        self._bus.publish(
            PluginCallFailed(
                time=now,
                plugin=member.name,
                hook=hook,
                kind=failure.kind.value,
                detail=failure.detail,
                session=arguments.session.id if arguments.session else "",
                message=arguments.message.id if arguments.message else "",
            )
        )
        if member.failed():
            seconds = member.entry.suspend_for
            self._bus.publish(
                PluginSuspended(time=now, plugin=member.name, seconds=seconds, detail=failure.detail)
            )

    def _tell_decided(self, member: Member, hook: str, answer: HookAnswer, arguments: HookArguments) -> None:
        decision = answer.decision
        self._bus.publish(
            PluginDecided(
                time=self._clock.time(),
                plugin=member.name,
                hook=hook,
                decision=type(decision).__name__,
                reason="" if isinstance(decision, Continue) else decision.reason,
                changes=changes_in_words(answer.changes),
                shadow=member.entry.shadow,
                session=arguments.session.id if arguments.session else "",
                message=arguments.message.id if arguments.message else "",
            )
        )

    def _observe(self, event: Event) -> None:
        # Nobody hears of himself: the failure to hear of a failure would be the next one.
        own = PluginCallFailed | PluginSuspended | PluginResumed | PluginDecided
        but = event.plugin if isinstance(event, own) else ""
        for hook, arguments in arguments_of(event):
            if hook in self._told:
                self.tell(hook, arguments(), but=but)

    # --- Steering -----------------------------------------------------------------------------------------

    def statuses(self) -> tuple[PluginStatus, ...]:
        """All plugins, in the order in which they are asked."""
        return tuple(
            PluginStatus(
                service.member.name,
                service.member.standing,
                tuple(sorted(service.member.hooks)),
                service.member.entry.shadow,
                service.member.tier.statistics(),
                service.missed,
                service.durations(),
                service.ward.metrics.measured(),
            )
            for service in self._services
        )

    def watched(self) -> list[Watched]:
        """The plugins that run in the loop."""
        return [each.ward.watched for each in self._services if each.ward.watched is not None]

    def suspend(self, name: str, detail: str) -> None:
        """Do not ask a plugin for as long as its configuration says; `on_crash` decides meanwhile. Sync."""
        for service in self._services:
            member = service.member
            if member.name == name:
                member.suspend()
                seconds = member.entry.suspend_for
                self._bus.publish(
                    PluginSuspended(time=self._clock.time(), plugin=name, seconds=seconds, detail=detail)
                )

    async def prepare(self, wards: Sequence[Ward]) -> Change:
        """Start those that are not in service yet; they are not asked before `Change.commit`. One change at a
        time. Cancelled: as before."""
        assert self._nursery is not None
        known = {service.ward: service for service in self._services}
        services = tuple(known.get(ward) or Service(ward) for ward in wards)
        fresh = tuple(each for each in services if each.ward not in known)
        for service in fresh:
            name = f"plugin {service.member.name}"
            self._nursery.start_soon(service.run, self._call, self._failed, name=name)
        change = Change({}, self, services, fresh)
        try:
            for service in fresh:
                await service.settled.wait()
                if service.failure is not None:
                    change.failures[service.member.name] = service.failure.detail
        except BaseException:
            change.abandon()
            raise
        return change

    def seat(self, services: tuple[Service, ...]) -> None:
        """Ask these, in this order, and let the others finish. Sync; for `Change`."""
        assert self._nursery is not None
        for service in self._services:
            if service not in services:
                self._nursery.start_soon(service.retire)
        self._services = services
        self.on_change()
        self._asked, self._told = {}, {}
        for hook, point in HOOKS.items():
            there = {
                each.member.name: each
                for each in services
                if hook in each.member.hooks and each.member.at(hook).enabled
            }
            if there and hook not in ("startup", "shutdown"):
                ordered = arrange(there, partial(_wishes_at, hook))
                (self._told if point.observes else self._asked)[hook] = tuple(ordered)
        if self._told and self._watch is None:
            self._watch = self._bus.observe("plugins", self._observe)
        elif self._watch is not None and not self._told:
            self._watch.close()
            self._watch = None

    # --- Running ------------------------------------------------------------------------------------------

    async def run(  # noqa: ASYNC114
        self, wards: Sequence[Ward], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run plugins until cancelled. Started, when each was tried to be started once."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            (await self.prepare(wards)).commit()
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                if self._watch is not None:
                    self._watch.close()


def _nothing() -> None:
    """Nobody wants to know."""


def _wishes_at(hook: str, service: Service) -> tuple[tuple[str, ...], tuple[str, ...]]:
    settings = service.member.at(hook)
    return settings.before, settings.after


@asynccontextmanager
async def open_plugins(
    wards: Sequence[Ward], bus: EventBus, clock: WallClock
) -> AsyncGenerator[PluginHost, None]:
    """Run these plugins while the block runs. A plugin that does not start is tried again, and fails its
    calls meanwhile; so does one that crashes. Nothing of that is raised here."""
    host = PluginHost(bus, clock)
    async with trio.open_nursery() as nursery:
        await nursery.start(host.run, wards)
        yield host
        nursery.cancel_scope.cancel(reason="the server stops")
