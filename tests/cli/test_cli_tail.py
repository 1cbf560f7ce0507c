"""What `elemta tail` makes of each message of the server."""

import json

import pytest

from elemta.cli.tail import Printer

EVENT = {
    "seq": 7,
    "time": "2026-11-25T10:00:00.000Z",
    "level": "info",
    "type": "message.accepted",
    "sender": "a@b.example",
}


@pytest.fixture
def lines() -> list[bytes]:
    return []


def test_an_event_is_a_line_and_its_number_is_kept_in_mind(lines):
    printer = Printer(lines.append, as_json=False, colour=False)
    printer.show(json.dumps(EVENT))
    assert lines == [b"10:00:00.000 info    message.accepted sender=a@b.example\n"]
    assert printer.seen == 7


def test_json_goes_through_as_it_came(lines):
    printer = Printer(lines.append, as_json=True, colour=False)
    printer.show(json.dumps(EVENT))
    assert lines == [json.dumps(EVENT).encode() + b"\n"]


def test_messages_about_the_tail_are_no_events_but_move_our_place(lines, capsys):
    printer = Printer(lines.append, as_json=False, colour=False)
    printer.show(json.dumps({"type": "hello", "seq": 40}))
    assert printer.seen == 40
    printer.show(json.dumps(EVENT))  # a replayed one
    printer.show(json.dumps({"type": "heartbeat", "seq": 41}))
    assert printer.seen == 41
    printer.show(json.dumps({"type": "hello", "seq": 90}))  # of the next connection, which begins behind 41
    assert printer.seen == 41
    printer.show(json.dumps({"type": "lagged", "lost": 12, "next": 60}))
    printer.show(json.dumps({"type": "lagged", "lost": 0, "next": 90, "restarted": True}))
    printer.show(json.dumps({"type": "error", "reason": "no such\x1b[2J filter"}))
    assert printer.error == "no such\\x1b[2J filter"
    assert len(lines) == 1
    assert capsys.readouterr().err == (
        "elemta: 12 events were missed\nelemta: the server was started anew; 0 events were missed\n"
    )


@pytest.mark.parametrize(
    "message", ["", "[]", "nonsense", "{}", '{"type": 5}', '{"seq": "x", "type": "a.b"}']
)
def test_what_no_server_sends_is_left_out(lines, message: str):
    printer = Printer(lines.append, as_json=False, colour=False)
    printer.show(message)
    assert lines == []
    assert printer.seen is None
