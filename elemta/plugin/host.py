"""All plugins together: starts them, asks those of a hook, tells what they said and how they failed.

Where no plugin has a hook, asking costs one look-up (`has`): sessions do not even make the arguments.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import attrs
import trio

from elemta.events import (
    Event,
    EventBus,
    PluginCallFailed,
    PluginDecided,
    PluginResumed,
    PluginSuspended,
)
from elemta.runtime import Backoff, WallClock, summarize, supervise

from .chain import NO_OBJECTION, Chain, Verdict, decision_for
from .decisions import NO_CHANGES, Changes, Continue, HookAnswer, NoteValue
from .hooks import HOOKS
from .member import Member, Standing
from .observed import arguments_of
from .tier import Failure, PluginFailed, TierStatistics
from .views import HookArguments

MOST_WAITING = 1_000
"""Things that an observer has not heard of yet; what is more it never hears of."""


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
    metrics: dict[str, int]
    """What it counts itself."""


@attrs.frozen(eq=False)
class Ward:
    """A plugin that the host is given: the member, and the numbers it counts."""

    member: Member
    metrics: dict[str, int] = attrs.field(factory=dict)


@attrs.define(eq=False)
class _Observer:
    """What one plugin that observes is still to hear of."""

    member: Member
    sender: trio.MemorySendChannel[tuple[str, HookArguments]]
    receiver: trio.MemoryReceiveChannel[tuple[str, HookArguments]]
    missed: int = 0


class PluginHost:
    """Made by `open_plugins`."""

    def __init__(self, wards: Sequence[Ward], bus: EventBus, clock: WallClock) -> None:
        self._wards = wards
        self._bus = bus
        self._clock = clock
        self._asked: dict[str, tuple[Member, ...]] = {}
        self._told: dict[str, tuple[_Observer, ...]] = {}
        self._observers: list[_Observer] = []
        for ward in wards:
            self._add(ward.member)

    def _add(self, member: Member) -> None:
        observer: _Observer | None = None
        for hook in member.hooks & HOOKS.keys():
            if not HOOKS[hook].observes:
                self._asked[hook] = (*self._asked.get(hook, ()), member)
            elif hook not in ("startup", "shutdown"):
                if observer is None:
                    observer = _Observer(member, *_open_channel())
                    self._observers.append(observer)
                self._told[hook] = (*self._told.get(hook, ()), observer)

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
        chain: Chain[Member] = Chain(members, notes)
        for member in chain:
            if member.disabled or not member.wants(arguments):
                continue
            if notes:
                arguments = attrs.evolve(arguments, notes=dict(notes))
            try:
                answer = await self._call(member, hook, arguments)
            except PluginFailed as failure:
                if not member.entry.shadow:
                    chain.fail(member.name, decision_for(failure, member.on_failure(failure)))
                continue
            if answer.changes is not NO_CHANGES or not isinstance(answer.decision, Continue):
                self._tell_decided(member, hook, answer, arguments)
            if not member.entry.shadow:
                chain.take(member.name, answer)
        return chain.verdict()

    def tell(self, hook: str, arguments: HookArguments, *, but: str = "") -> None:
        """Let observers know, all `but` that plugin, each when it gets there, in order. Sync."""
        for observer in self._told.get(hook, ()):
            member = observer.member
            if member.disabled or member.name == but or not member.wants(arguments):
                continue
            try:
                observer.sender.send_nowait((hook, arguments))
            except trio.WouldBlock:
                observer.missed += 1

    async def _call(self, member: Member, hook: str, arguments: HookArguments) -> HookAnswer:
        if member.suspended_until is not None:
            if not member.resumes():
                await trio.lowlevel.checkpoint()
                raise PluginFailed(Failure.CRASH, "suspended")
            self._bus.publish(PluginResumed(time=self._clock.time(), plugin=member.name))
        try:
            return await member.tier.call(hook, arguments)
        except PluginFailed as failure:
            self._failed(member, hook, failure, arguments)
            raise

    def _failed(self, member: Member, hook: str, failure: PluginFailed, arguments: HookArguments) -> None:
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
                changes=_in_words(answer.changes),
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
        missed = {observer.member.name: observer.missed for observer in self._observers}
        return tuple(
            PluginStatus(
                ward.member.name,
                ward.member.standing,
                tuple(sorted(ward.member.hooks)),
                ward.member.entry.shadow,
                ward.member.tier.statistics(),
                missed.get(ward.member.name, 0),
                dict(ward.metrics),
            )
            for ward in self._wards
        )

    def set_enabled(self, name: str, enabled: bool) -> bool:
        """Ask the plugin, or do not, from now on; a suspension ends. Whether there is one of that name."""
        for ward in self._wards:
            if ward.member.name == name:
                ward.member.disabled = not enabled
                ward.member.suspended_until = None
                return True
        return False

    # --- Running ------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:  # noqa: ASYNC114
        """Run all plugins until cancelled. Started, when each was tried to be started once."""
        async with trio.open_nursery() as nursery:
            settled = []
            for ward in self._wards:
                event = trio.Event()
                settled.append(event)
                nursery.start_soon(self._keep, ward.member, event, name=f"plugin {ward.member.name}")
            for observer in self._observers:
                nursery.start_soon(self._pump, observer)
            for event in settled:
                await event.wait()
            watch = self._bus.observe("plugins", self._observe) if self._told else None
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                if watch is not None:
                    watch.close()

    async def _keep(self, member: Member, settled: trio.Event) -> None:
        """Start a plugin, again after a pause where it does not start."""

        async def start() -> None:
            async with trio.open_nursery() as nursery:
                await nursery.start(member.tier.start)
                settled.set()

        def on_crash(_: str, error: BaseException) -> None:
            failure = (
                error if isinstance(error, PluginFailed) else PluginFailed(Failure.CRASH, summarize(error))
            )
            self._failed(member, "startup", failure, HookArguments())
            settled.set()

        await supervise(f"plugin {member.name}", start, on_crash=on_crash, backoff=Backoff())

    async def _pump(self, observer: _Observer) -> None:
        member = observer.member
        while True:
            hook, arguments = await observer.receiver.receive()
            try:
                await self._call(member, hook, arguments)
            except PluginFailed:
                await trio.lowlevel.checkpoint()  # it was told, and there is nobody to decide for


def _open_channel() -> tuple[
    trio.MemorySendChannel[tuple[str, HookArguments]], trio.MemoryReceiveChannel[tuple[str, HookArguments]]
]:
    return trio.open_memory_channel[tuple[str, HookArguments]](MOST_WAITING)


@asynccontextmanager
async def open_plugins(
    wards: Sequence[Ward], bus: EventBus, clock: WallClock
) -> AsyncGenerator[PluginHost, None]:
    """Run these plugins while the block runs. A plugin that does not start is tried again, and fails its
    calls meanwhile; so does one that crashes. Nothing of that is raised here."""
    host = PluginHost(wards, bus, clock)
    async with trio.open_nursery() as nursery:
        if wards:
            await nursery.start(host.run)
        yield host
        nursery.cancel_scope.cancel(reason="the server stops")


def _in_words(changes: Changes) -> str:
    words = [f"{each.action} {each.name}" for each in changes.headers]
    words += [f"{each.action} {each.address}" for each in changes.recipients]
    for name in ("sender", "route", "priority"):
        if getattr(changes, name) is not None:
            words.append(f"{name} {getattr(changes, name)}")
    words += [f"tag {tag}" for tag in changes.tags]
    return ", ".join(words)
