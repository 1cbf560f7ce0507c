"""Counts what has happened since the start, from events, in plain integers and with bounded labels."""

from __future__ import annotations

import re
from collections import Counter

from elemta.events import (
    AccessRefused,
    AuditEvent,
    CommandRejected,
    Event,
    MessageAccepted,
    MessageRejected,
    NoticeQueued,
    PluginCallFailed,
    RecipientDeferred,
    RecipientDelivered,
    RecipientFailed,
    RecipientHeld,
    SessionAuthenticated,
    SessionClosed,
    SessionOpened,
    SessionRefused,
    SessionTls,
    SiteSuspended,
    StorageTrouble,
    TaskCrashed,
)
from elemta.mail import PHASES as STEPS
from elemta.mail import Phases
from elemta.runtime import Histogram

MOST_KEYS = 1000
"""Different labels of one counter; what comes behind them is counted as `other`."""
OTHER = "other"
QUEUE_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400, 432000)
PHASE_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
SESSION_SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800)
SIZES = tuple(float(1 << bits) for bits in range(10, 28, 2))
PHASES = ("accept", "queue", "connect", "transmit")
"""The four delays of a delivery, as Postfix has them: a/b/c/d."""
TROUBLES = ("full", "slow", "unavailable", "corrupt", "recovered", "lease-lost", "record", "handover")
"""Of storage: counted from 0, since Prometheus sees no rise in a series that begins with 1."""

_ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")


class Tally(Counter[tuple[str, ...]]):
    """A counter by labels that cannot grow without bound, whatever strangers send."""

    def add(self, *labels: str, by: int = 1) -> None:
        if labels not in self and len(self) >= MOST_KEYS:
            labels = (OTHER,) * len(labels)
        self[labels] += by


class Counts:
    """What has happened since the start. `observe` is a synchronous observer of the event bus."""

    def __init__(self) -> None:
        self.sessions = Tally()
        self.closed = Tally()
        self.refused = 0
        self.tls = Tally()
        self.authenticated = Tally()
        self.rejected = Tally()
        """By verb, reply code and enhanced code."""
        self.messages = 0
        self.octets = 0
        self.bodies_rejected = Tally()
        self.delivered = 0
        self.deferred = Tally()
        self.failed = Tally()
        self.routes = Tally()
        """By route and outcome."""
        self.held = Tally()
        self.notices = Tally()
        self.suspended = Tally()
        self.plugin_failures = Tally()
        self.storage = Tally({(what,): 0 for what in TROUBLES})
        self.admin = Tally({("refused",): 0})
        self.crashes = 0
        self.in_queue = Histogram(QUEUE_SECONDS)
        self.phases = {phase: Histogram(PHASE_SECONDS) for phase in PHASES}
        self.steps = {step: Histogram(PHASE_SECONDS) for step in STEPS}
        self.session_seconds = Histogram(SESSION_SECONDS)
        self.sizes = Histogram(SIZES)

    def observe(self, event: Event) -> None:
        """Count the event. Sync, a microsecond or two."""
        match event:
            case RecipientDelivered():
                self.delivered += 1
                self.in_queue.observe(event.seconds)
                self.routes.add(event.route, "delivered")
                self._observe_times(event.delays, event.phases)
            case MessageAccepted():
                self.messages += 1
                self.octets += event.size
                self.sizes.observe(event.size)
            case SessionOpened():
                self.sessions.add(event.listener)
            case SessionClosed():
                self.closed.add(event.cause)
                self.session_seconds.observe(event.seconds)
            case CommandRejected():
                self.rejected.add(event.verb, event.reply[:3], _enhanced(event.reply))
            case RecipientDeferred():
                self.deferred.add(event.cause)
                self.routes.add(event.route, "deferred")
                self._observe_times(event.delays, event.phases)
            case RecipientFailed():
                self.failed.add(event.cause)
                self.routes.add(event.route, "failed")
                self._observe_times(event.delays, event.phases)
            case SessionTls():
                self.tls.add(event.version)
            case SessionAuthenticated():
                self.authenticated.add(event.mechanism)
            case MessageRejected():
                self.bodies_rejected.add(event.reply[:3], _enhanced(event.reply))
            case SessionRefused():
                self.refused += 1 + event.more
            case _:
                self._observe_rare(event)

    def _observe_rare(self, event: Event) -> None:
        match event:
            case RecipientHeld():
                self.held.add(event.reason)
            case NoticeQueued():
                self.notices.add(event.action)
            case SiteSuspended():
                self.suspended.add(event.reason)
            case PluginCallFailed():
                self.plugin_failures.add(event.plugin, event.hook, event.kind)
            case StorageTrouble():
                self.storage.add(event.what)
            case AuditEvent():
                self.admin.add(event.operation)
            case AccessRefused():
                self.admin.add("refused")
            case TaskCrashed():
                self.crashes += 1

    def _observe_times(self, delays: tuple[float, ...] | None, phases: Phases) -> None:
        for step, seconds in phases.named().items():
            self.steps[step].observe(seconds)
        for phase, seconds in zip(PHASES, delays or (), strict=False):
            self.phases[phase].observe(seconds)


def _enhanced(reply: str) -> str:
    match = _ENHANCED.match(reply, 4)
    return "" if match is None else match[0]
