"""One plugin among those that are asked: whom it is asked about, and whether it is asked at all now."""

from __future__ import annotations

import enum
import zlib
from collections import deque

import attrs
import trio

from elemta.config import DomainPattern, OnFailure, PluginConfig

from .tier import Failure, PluginFailed, Tier
from .views import HookArguments

WINDOW = 60.0
"""Seconds in which failures count together."""


class Standing(enum.StrEnum):
    """What listings say of a plugin."""

    RUNNING = "running"
    DOWN = "down"
    """Not started, or in the pause before its restart."""
    SUSPENDED = "suspended"
    DISABLED = "disabled"


@attrs.define(eq=False)
class Member:
    """A plugin with its conditions and its circuit breaker. Everything here is sync."""

    entry: PluginConfig
    tier: Tier
    hooks: frozenset[str]
    suspended_until: float | None = None
    """On Trio's clock."""
    disabled: bool = False
    _failures: deque[float] = attrs.field(factory=deque)

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def standing(self) -> Standing:
        if self.disabled:
            return Standing.DISABLED
        if self.suspended_until is not None:
            return Standing.SUSPENDED
        return Standing.RUNNING if self.tier.statistics().running else Standing.DOWN

    def wants(self, arguments: HookArguments) -> bool:
        """Whether the conditions of the configuration hold, as far as the hook knows what they are about."""
        entry, session = self.entry, arguments.session
        if session is not None:
            if entry.listeners and session.listener not in entry.listeners:
                return False
            if entry.roles and session.role not in entry.roles:
                return False
            if entry.sample < 1.0 and not self._is_sampled(session.id):
                return False
        if entry.domains:
            envelope = arguments.envelope
            about = (arguments.recipient,) if arguments.recipient else envelope.recipients if envelope else ()
            return not about or any(_is_in(address, entry.domains) for address in about)
        return True

    def _is_sampled(self, session: str) -> bool:
        """By the session's id: it is asked about all of a session, or about nothing of it."""
        drawn = zlib.crc32(f"{self.name} {session}".encode())
        return drawn < self.entry.sample * 2**32

    def on_failure(self, failure: PluginFailed) -> OnFailure:
        """What the configuration wants decided."""
        entry = self.entry
        by_kind = {
            Failure.ERROR: entry.on_error,
            Failure.TIMEOUT: entry.on_timeout,
            Failure.CRASH: entry.on_crash,
        }
        return by_kind[failure.kind]

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

    def resumes(self) -> bool:
        """End a suspension whose time is over; whether that happened now."""
        if self.suspended_until is None or trio.current_time() < self.suspended_until:
            return False
        self.suspended_until = None
        return True


def _is_in(address: str, patterns: tuple[DomainPattern, ...]) -> bool:
    domain = address.rpartition("@")[2].lower()
    return any(
        domain.endswith("." + pattern.domain.text) if pattern.subdomains else domain == pattern.domain.text
        for pattern in patterns
    )
