"""Moving due times in the SQLite store after the clock was set: a few rows at a time, by index."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from elemta.mail import Cause

from .details import to_milliseconds, to_seconds

Execute = Callable[..., Any]  # Any: columns have the types of the schema

_LAST = (1 << 63) - 1
_WAITING = """SELECT due, message, position FROM recipient
 WHERE state = 0 AND lease = 0 AND due BETWEEN ? AND ? AND reason <> ?
 ORDER BY due, message, position LIMIT ?"""
_LEASED = "SELECT message, position FROM recipient WHERE lease <> 0 AND due > ? LIMIT ?"
_MOVE = "UPDATE recipient SET due = ? WHERE message = ? AND position = ?"


def shift_due(
    execute: Execute, after: float, until: float, by: float, limit: int
) -> tuple[int, float | None]:
    """As `Store.shift_due`."""
    distance = to_milliseconds(by)
    rows = _waiting(execute, to_milliseconds(after), _milliseconds(until), limit)
    for due, message, position in rows:
        execute(_MOVE, (due + distance, message, position))
    return len(rows), to_seconds(rows[-1][0]) if len(rows) == limit else None


def clamp_due(execute: Execute, now: float, *, waiting: float, leased: float, limit: int) -> int:
    """As `Store.clamp_due`."""
    rows = _waiting(execute, to_milliseconds(now + waiting) + 1, _LAST, limit)
    for _, message, position in rows:
        execute(_MOVE, (to_milliseconds(now), message, position))
    until = to_milliseconds(now + leased)
    leases = execute(_LEASED, (until, limit)).fetchall()
    for message, position in leases:
        execute(_MOVE, (until, message, position))
    return len(rows) + len(leases)


def _waiting(execute: Execute, first: int, last: int, limit: int) -> list[tuple[int, int, int]]:
    return execute(_WAITING, (first, last, Cause.FUTURE_RELEASE.value, limit)).fetchall()  # type: ignore[no-any-return]


def _milliseconds(moment: float) -> int:
    return _LAST if moment * 1000 > _LAST else to_milliseconds(moment)
