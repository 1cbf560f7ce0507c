"""An event as a dict: the JSON of logs, tail and API."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

import attrs

from elemta.mail import Phases
from elemta.runtime import rfc3339

from .types import Event

_WALL_TIMES = frozenset({"due"})
"""Fields besides `time` that are seconds since 1970, shown in the same form."""

_shapes: dict[type[Event], tuple[tuple[str, ...], Callable[[Event], tuple[object, ...]]]] = {}
"""Names of an event class's fields but `time`, and what reads them all at once."""


def as_dict(event: Event) -> dict[str, Any]:  # Any: text, numbers, lists
    """`time` (RFC 3339 UTC, milliseconds) and `type`, then the fields in order.

    Tuples are lists; None, empty text and phases without time are left out, but 0, False and empty lists
    are not.
    """
    return _fill({"time": rfc3339(event.time), "type": event.type}, event)


def log_record(event: Event) -> dict[str, Any]:  # Any: as above
    """The same with the event's level behind the time: a line of the log."""
    return _fill({"time": rfc3339(event.time), "level": event.level, "type": event.type}, event)


def _fill(record: dict[str, Any], event: Event) -> dict[str, Any]:  # Any: as above
    shape = _shapes.get(type(event))
    if shape is None:
        shape = _shapes[type(event)] = _shape(type(event))
    names, read = shape
    for name, value in zip(names, read(event), strict=True):
        if value is None or value == "":
            continue
        if type(value) is tuple:
            record[name] = list(value)
        elif type(value) is Phases:
            if phases := value.named():
                record[name] = phases
        elif name in _WALL_TIMES and isinstance(value, float):
            record[name] = rfc3339(value)
        else:
            record[name] = value
    return record


def _shape(kind: type[Event]) -> tuple[tuple[str, ...], Callable[[Event], tuple[object, ...]]]:
    names = tuple(field.name for field in attrs.fields(kind) if field.name != "time")
    if len(names) > 1:
        return names, attrgetter(*names)
    # attrgetter of one name gives no tuple, and of none is an error
    return names, lambda event: tuple(getattr(event, name) for name in names)
