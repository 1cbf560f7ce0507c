"""Events as JSON, and on their way into the log."""

import attrs
import pytest

from elemta import events
from elemta.events import (
    Event,
    MessageRejected,
    RecipientDeferred,
    RecipientFailed,
    ServerStopping,
    SessionClosed,
    as_dict,
    log_record,
)
from elemta.runtime import LEVELS

DEFERRED = RecipientDeferred(
    time=1_750_000_000.125,
    message="0123456789abcdef",
    recipient="a@example.org",
    route="smtp:example.org",
    remote="",
    cause="connect",
    reply="451 4.4.1 no answer",
    detail="",
    attempts=2,
    due=1_750_000_300.0,
)


def test_time_and_type_come_first_then_the_fields_in_order_without_empty_text():
    assert list(as_dict(DEFERRED).items()) == [
        ("time", "2025-06-15T15:06:40.125Z"),
        ("type", "recipient.deferred"),
        ("message", "0123456789abcdef"),
        ("recipient", "a@example.org"),
        ("route", "smtp:example.org"),
        ("cause", "connect"),
        ("reply", "451 4.4.1 no answer"),
        ("attempts", 2),
        ("due", "2025-06-15T15:11:40.000Z"),
    ]


def test_tuples_are_lists_also_when_empty():
    event = MessageRejected(time=0.0, session="s", sender="", recipients=(), reply="552", reason="size")
    assert as_dict(event)["recipients"] == []
    assert as_dict(attrs.evolve(event, recipients=("a", "b")))["recipients"] == ["a", "b"]


def test_zero_and_false_are_kept():
    closed = SessionClosed(
        time=0.0, session="s", cause="quit", seconds=0.0, commands=0, messages=0, errors=0, octets_in=0
    )
    assert as_dict(closed)["errors"] == 0
    failed = RecipientFailed(
        time=0.0,
        message="m",
        recipient="r",
        route="x",
        remote="",
        cause="c",
        reply="r",
        detail="",
        attempts=1,
    )
    assert as_dict(failed)["expired"] is False


def test_events_with_one_field_and_with_none():
    assert as_dict(ServerStopping(time=0.0, reason="SIGTERM")) == {
        "time": "1970-01-01T00:00:00.000Z",
        "type": "server.stopping",
        "reason": "SIGTERM",
    }

    @attrs.frozen(slots=True, kw_only=True)
    class Bare(Event):
        type = "bare"

    assert as_dict(Bare(time=0.0)) == {"time": "1970-01-01T00:00:00.000Z", "type": "bare"}


def test_none_is_left_out():
    @attrs.frozen(slots=True, kw_only=True)
    class Some(Event):
        type = "some"
        a: str | None = None
        b: str | None = None
        due: float | None = None

    assert list(as_dict(Some(time=0.0, b="x"))) == ["time", "type", "b"]


KINDS = [
    kind
    for kind in vars(events).values()
    if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_event_has_a_type_and_a_level_and_no_field_that_hides_them(kind):
    assert "." in kind.type
    assert kind.level in LEVELS
    names = [field.name for field in attrs.fields(kind)]
    assert names[0] == "time"
    assert not {"type", "level"} & set(names)


def test_types_are_unique():
    assert len({kind.type for kind in KINDS}) == len(KINDS)


def test_a_log_record_has_the_level_behind_the_time():
    record = log_record(DEFERRED)
    assert list(record)[:3] == ["time", "level", "type"]
    assert record["level"] == "warning"
    assert {key: value for key, value in record.items() if key != "level"} == as_dict(DEFERRED)
