"""Records as lines: JSON and console. Nothing of a stranger reaches a terminal raw."""

import json

import pytest

from elemta.runtime import ConsoleRenderer, render_json
from elemta.runtime.render import plain_record

RECORD = {
    "time": 1_750_000_000.125,
    "level": "warning",
    "type": "recipient.deferred",
    "reply": "451 4.2.0 busy",
}


def test_json_is_one_object_per_line_in_order():
    line = render_json({**RECORD, "attempts": 2, "list": ["a"], "none": None})
    assert line == (
        b'{"time":"2025-06-15T15:06:40.125Z","level":"warning","type":"recipient.deferred",'
        b'"reply":"451 4.2.0 busy","attempts":2,"list":["a"],"none":null}\n'
    )


def test_a_time_that_is_text_already_stays():
    assert json.loads(render_json({"time": "2025-01-01T00:00:00.000Z"})) == {
        "time": "2025-01-01T00:00:00.000Z"
    }


HOSTILE = "\n\r\x00\x1b[31m\x7f\x9b\u200e\u2028\u202e\u2066\ufeff"


def test_json_carries_no_control_character_and_loses_nothing():
    line = render_json({"time": 0, "text": HOSTILE + "é✓"})
    text = line.decode().rstrip("\n")
    assert text.isprintable()
    assert "é✓" in text
    assert json.loads(line)["text"] == HOSTILE + "é✓"


def test_objects_are_shown_by_their_repr():
    assert json.loads(render_json({"time": 0, "value": ValueError("x")}))["value"] == "ValueError('x')"


def test_console_lines_are_short_and_readable():
    line = ConsoleRenderer(colour=False)({**RECORD, "recipients": ("a@b.c", "d@e.f"), "empty": "", "n": 3})
    assert line == (
        b"15:06:40.125 warning recipient.deferred "
        b'reply="451 4.2.0 busy" recipients=a@b.c,d@e.f empty="" n=3\n'
    )


def test_console_shows_a_loggers_text_first_and_the_traceback_last():
    line = ConsoleRenderer(colour=False)(
        {
            "time": 0,
            "level": "error",
            "type": "log",
            "logger": "x",
            "text": "it broke",
            "exception": "a\n  b\x1b",
            "none": (),
        }
    )
    assert line == b"00:00:00.000 error   it broke logger=x none=[]\n    a\n      b\\x1b\n"


def test_console_quotes_so_that_values_cannot_pretend_to_be_others():
    line = ConsoleRenderer(colour=False)(
        {"time": 0, "level": "info", "type": "t", "a": 'x" b="y', "b": "p,q"}
    )
    assert line == b'00:00:00.000 info    t a="x\\" b=\\"y" b="p,q"\n'


def test_console_escapes_what_moves_a_cursor():
    line = ConsoleRenderer(colour=False)(
        {"time": 0, "level": "x\n", "type": HOSTILE, "key\x1b": HOSTILE, "list": [HOSTILE], "odd": "\udcff"}
    )
    assert line.endswith(b"\n")
    assert line[:-1].decode().isprintable()


def test_console_is_coloured_only_when_told():
    plain = ConsoleRenderer(colour=False)(RECORD)
    coloured = ConsoleRenderer(colour=True)(RECORD)
    assert b"\x1b" not in plain
    assert b"\x1b[33mwarning" in coloured
    hostile = ConsoleRenderer(colour=True)({"time": 0, "level": "strange", "type": "\x1b[2J"})
    assert b"\x1b[2J" not in hostile


def test_a_plain_record_has_only_short_plain_values():
    class Odd:
        def __str__(self):
            raise ValueError("no")

    plain = plain_record(
        {
            "n": 1,
            "f": 1.5,
            "b": True,
            "none": None,
            "odd": Odd(),
            "s": "x" * 5000,
            "l": list(range(50)),
            3: "\udc80",
        }
    )
    assert plain["n"] == 1
    assert plain["b"] is True
    assert plain["none"] is None
    assert plain["odd"] == "<Odd: its text raises ValueError>"
    assert len(plain["s"]) == 1000
    assert plain["l"][19:] == ["19", "and 30 more"]
    assert plain["3"] == "\\udc80"
    assert plain_record({"l": (1, 2)}) == {"l": ["1", "2"]}
    assert len(plain_record(dict.fromkeys(range(1000)))) == 100


@pytest.mark.parametrize("record", [{}, {"time": None}, {"time": "x", "v": "\ud800"}])
def test_what_json_cannot_show_is_an_error_for_the_pump(record):
    with pytest.raises((KeyError, TypeError, UnicodeError)):
        render_json(record)


def test_named_numbers_stay_numbers():
    record = plain_record({**RECORD, "phases": {"dns": 0.5, "bad\n": "x\ny"}})
    assert record["phases"] == {"dns": 0.5, "bad\\n": "x\\ny"}
    assert b"phases=dns:0.5,reply:2" in ConsoleRenderer(colour=False)(
        {**RECORD, "phases": {"dns": 0.5, "reply": 2}}
    )
