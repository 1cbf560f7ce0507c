"""One plugin among those that are asked: whom it is asked about, and whether it is asked at all now."""

from __future__ import annotations

import enum
from collections import deque

import attrs
import trio

from elemta.config import PluginConfig

from .settings import HookSettings, settings_of
from .tier import Tier

WINDOW = 60.0
"""Seconds in which failures count together."""


class Standing(enum.StrEnum):
    """What listings say of a plugin."""

    RUNNING = "running"
    DOWN = "down"
    """Not started, or in the pause before its restart."""
    SUSPENDED = "suspended"
    DISABLED = "disabled"
    """Not in service, as an operator or the configuration wants it."""


@attrs.define(eq=False)
class Member:
    """A plugin with its settings and its circuit breaker. Everything here is sync."""

    entry: PluginConfig
    tier: Tier
    hooks: frozenset[str]
    suspended_until: float | None = None
    """On Trio's clock."""
    _failures: deque[float] = attrs.field(factory=deque)
    _settings: dict[str, HookSettings] = attrs.field(factory=dict)

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def standing(self) -> Standing:
        if self.suspended_until is not None:
            return Standing.SUSPENDED
        return Standing.RUNNING if self.tier.statistics().running else Standing.DOWN

    def at(self, hook: str) -> HookSettings:
        """What the configuration says of it at a hook."""
        settings = self._settings.get(hook)
        if settings is None:
            settings = self._settings[hook] = settings_of(self.entry, hook)
        return settings

    def failed(self) -> bool:
        """Count a failure; whether it was one too many, so that the plugin is suspended from now on."""
        most = self.entry.suspend_after
        if not most or self.suspended_until is not None:
            return False
        now = trio.current_time()
        self._failures.append(now)
        while self._failures[0] <= now - WINDOW:
            self._failures.popleft()
        if len(self._failures) < most:
            return False
        self._failures.clear()
        self.suspended_until = now + self.entry.suspend_for
        return True

    def suspend(self) -> None:
        """Let it not be asked for a while."""
        self._failures.clear()
        self.suspended_until = trio.current_time() + self.entry.suspend_for

    def resumes(self) -> bool:
        """End a suspension whose time is over; whether that happened now."""
        if self.suspended_until is None or trio.current_time() < self.suspended_until:
            return False
        self.suspended_until = None
        return True
