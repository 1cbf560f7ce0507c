"""The hooks: where plugins are asked, with what, and which answers count there."""

from __future__ import annotations

import attrs

from .decisions import Accept, Continue, Decision, Defer, Discard, Hold, Quarantine, Redirect, Reject

_YES_NO: tuple[type[Decision], ...] = (Continue, Accept, Defer, Reject)
_MESSAGE: tuple[type[Decision], ...] = (*_YES_NO, Hold, Discard, Quarantine, Redirect)
_BEFORE_QUEUE: tuple[type[Decision], ...] = (*_YES_NO, Hold, Discard, Quarantine)
_NONE: tuple[type[Decision], ...] = (Continue,)


@attrs.frozen
class HookPoint:
    """One hook."""

    name: str
    arguments: tuple[str, ...]
    """Which fields of `HookArguments` are filled in: the parameters that a method may have."""
    decisions: tuple[type[Decision], ...] = _NONE
    """Those that may be given. Only `Continue`: the hook observes, nobody waits for it, and in the order in
    which things happened."""
    changes: tuple[str, ...] = ()
    """Which fields of `Changes` count."""

    @property
    def observes(self) -> bool:
        return self.decisions == _NONE and not self.changes


_POINTS = (
    # The life of the plugin; each of them is waited for.
    HookPoint("startup", ()),
    HookPoint("shutdown", ("reason",)),
    # A session, in the order of SMTP
    HookPoint("connect", ("session", "notes"), _YES_NO),
    HookPoint("tls", ("session", "notes")),
    HookPoint("hello", ("session", "notes"), _YES_NO),
    HookPoint("auth", ("session", "notes")),
    HookPoint("mail", ("session", "envelope", "notes"), _YES_NO),
    HookPoint("rcpt", ("session", "envelope", "recipient", "notes"), _YES_NO),
    HookPoint("data", ("session", "envelope", "notes"), _YES_NO),
    HookPoint("headers", ("session", "envelope", "message", "notes"), _YES_NO),
    HookPoint("body", ("session", "envelope", "chunk", "notes"), _YES_NO),
    HookPoint(
        "message",
        ("session", "envelope", "message", "results", "notes"),
        _MESSAGE,
        ("headers", "recipients", "sender", "priority", "tags"),
    ),
    HookPoint(
        "enqueue",
        ("session", "envelope", "message", "results", "notes"),
        _BEFORE_QUEUE,
        ("priority", "tags"),
    ),
    HookPoint("enqueued", ("session", "envelope", "message", "notes")),
    HookPoint("disconnect", ("session", "reason", "notes")),
    # The queue
    HookPoint(
        "route",
        ("session", "envelope", "recipient", "attempt", "notes"),
        _BEFORE_QUEUE,
        ("route", "priority"),
    ),
    HookPoint("before_attempt", ("session", "envelope", "attempt", "notes"), _BEFORE_QUEUE),
    HookPoint("tls_result", ("session", "envelope", "attempt", "tls", "notes"), _BEFORE_QUEUE),
    HookPoint("after_attempt", ("session", "envelope", "attempt", "tls", "outcomes", "notes")),
    HookPoint("delivered", ("outcome",)),
    HookPoint("deferred", ("outcome",)),
    HookPoint("failed", ("outcome",)),
    HookPoint("expire", ("outcome",)),
    HookPoint("bounce", ("event",)),
    HookPoint("hold", ("event",)),
    HookPoint("release", ("event",)),
    # The server
    HookPoint("reload", ("event",)),
    HookPoint("event", ("event",)),
)
HOOKS: dict[str, HookPoint] = {point.name: point for point in _POINTS}
"""All hooks of this version of the API."""
