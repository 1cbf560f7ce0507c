"""What the configuration says of a plugin at one hook: its own words, else those of the plugin. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import attrs

from elemta.config import DomainPattern, HookConfig, OnFailure, PluginConfig

from .tier import Failure, PluginFailed
from .views import HookArguments


@attrs.frozen
class HookSettings:
    """How a plugin is asked at one hook, and what is decided where it gives no answer."""

    plugin: str
    enabled: bool
    timeout: float
    verdicts: dict[Failure, OnFailure]
    before: tuple[str, ...]
    after: tuple[str, ...]
    listeners: tuple[str, ...]
    roles: tuple[str, ...]
    domains: tuple[DomainPattern, ...]
    sample: float
    is_for_all: bool = attrs.field(init=False)
    """There are no conditions: what most plugins come to."""

    @is_for_all.default
    def _find_conditions(self) -> bool:
        return not (self.listeners or self.roles or self.domains) and self.sample >= 1.0

    def wants(self, arguments: HookArguments) -> bool:
        """Whether the conditions hold, as far as the hook knows what they are about."""
        if self.is_for_all:
            return True
        session = arguments.session
        if session is not None:
            if self.listeners and session.listener not in self.listeners:
                return False
            if self.roles and session.role not in self.roles:
                return False
            if self.sample < 1.0 and not self._is_sampled(session.id):
                return False
        if self.domains:
            about = _recipients_of(arguments)
            return not about or any(_is_in(address, self.domains) for address in about)
        return True

    def _is_sampled(self, session: str) -> bool:
        """By the session's id: it is asked about all of a session, or about nothing of it."""
        drawn = zlib.crc32(f"{self.plugin} {session}".encode())
        return drawn < self.sample * 2**32

    def on_failure(self, failure: PluginFailed) -> OnFailure:
        """What the configuration wants decided."""
        return self.verdicts[failure.kind]


def settings_of(entry: PluginConfig, hook: str) -> HookSettings:
    """What holds for the plugin at that hook."""
    own = next((each for each in entry.hooks if each.name == hook), None) or HookConfig(hook)
    return HookSettings(
        plugin=entry.name,
        enabled=own.enabled,
        timeout=entry.timeout if own.timeout is None else own.timeout,
        verdicts={
            Failure.ERROR: own.on_error or entry.on_error,
            Failure.TIMEOUT: own.on_timeout or entry.on_timeout,
            Failure.CRASH: own.on_crash or entry.on_crash,
        },
        before=own.before or entry.before,
        after=own.after or entry.after,
        listeners=own.listeners or entry.listeners,
        roles=own.roles or entry.roles,
        domains=own.domains or entry.domains,
        sample=entry.sample if own.sample is None else own.sample,
    )


def timeouts_of(entry: PluginConfig, hooks: Iterable[str]) -> dict[str, float]:
    """For each hook the time for one answer."""
    return {hook: settings_of(entry, hook).timeout for hook in hooks}


def _recipients_of(arguments: HookArguments) -> tuple[str, ...]:
    one = arguments.recipient or (arguments.outcome.recipient if arguments.outcome is not None else "")
    if one:
        return (one,)
    if arguments.attempt is not None:
        return arguments.attempt.recipients
    return arguments.envelope.recipients if arguments.envelope is not None else ()


def _is_in(address: str, patterns: tuple[DomainPattern, ...]) -> bool:
    domain = address.rpartition("@")[2].lower()
    return any(pattern.covers(domain) for pattern in patterns)
