"""The line buffer: whole, byte by byte, with trailing bytes; bounded."""

import sys

import pytest
from smtp_helpers import splits

from elemta.mail import replies
from elemta.smtp import LineBuffer, RemoteProtocolError
from elemta.smtp.lines import HARD_LIMIT, INCOMPLETE, TOO_LONG


def lines(parts, limit=20):
    buffer = LineBuffer()
    found = []
    for part in parts:
        buffer.feed(part)
        while (line := buffer.take_line(limit)) is not INCOMPLETE:
            found.append(line)
    return found, buffer.take_all()


@pytest.mark.parametrize(
    ("data", "expected", "rest"),
    [
        (b"NOOP\r\n", [b"NOOP"], b""),
        (b"\r\n\r\n", [b"", b""], b""),
        (b"a\r\nb\r\ntail", [b"a", b"b"], b"tail"),
        (b"a\nb\rc\r\r\n", [b"a\nb\rc\r"], b""),
        (b"a\n", [], b"a\n"),
        (b"a\r", [], b"a\r"),
        (b"x" * 18 + b"\r\n", [b"x" * 18], b""),
        (b"x" * 19 + b"\r\nNOOP\r\n", [TOO_LONG, b"NOOP"], b""),
        (b"x" * 70 + b"\r\nNOOP\r\n", [TOO_LONG, b"NOOP"], b""),
        (b"x" * 19 + b"\r\r\r\nNOOP\r\n", [TOO_LONG, b"NOOP"], b""),
    ],
)
def test_lines_do_not_depend_on_how_they_arrive(data, expected, rest):
    for parts in splits(data):
        assert lines(parts) == (expected, rest)


def test_a_line_that_is_too_long_is_not_kept():
    buffer = LineBuffer()
    for _ in range(600):
        buffer.feed(b"x" * 100)
        assert buffer.take_line(512) is INCOMPLETE
        assert len(buffer) <= 512
    buffer.feed(b"\r\nQUIT\r\n")
    assert buffer.take_line(512) is TOO_LONG
    assert buffer.take_line(512) == b"QUIT"


@pytest.mark.parametrize("step", [1000, HARD_LIMIT + 1])
def test_a_line_without_an_end_is_an_error(step):
    buffer = LineBuffer()
    with pytest.raises(RemoteProtocolError) as caught:
        for _ in range(0, HARD_LIMIT + 1, step):
            buffer.feed(b"x" * step)
            buffer.take_line(512)
    assert caught.value.reply_hint == replies.LINE_TOO_LONG


def test_a_complete_line_beyond_the_hard_limit_is_an_error_too():
    buffer = LineBuffer()
    buffer.feed(b"x" * (HARD_LIMIT - 1) + b"\r\n")
    with pytest.raises(RemoteProtocolError):
        buffer.take_line(512)


def test_what_was_handed_out_is_given_up_while_more_waits():
    buffer = LineBuffer()
    for _ in range(50):
        buffer.feed(b"x" * 4000 + b"\r\n" + b"y" * 4000 + b"\r\n")
        assert buffer.take_line(5000) == b"x" * 4000
        assert buffer.take_line(5000) is not INCOMPLETE
        buffer.feed(b"z")
        assert len(buffer) == 1
        buffer.feed(b"\r\n")
        assert buffer.take_line(5000) == b"z"
    assert len(buffer) == 0


def test_compaction_in_the_middle_of_a_line_keeps_the_line():
    buffer = LineBuffer()
    buffer.feed(b"x" * 40000 + b"\r\n" + b"y" * 40000 + b"\r\nabc\r")
    assert buffer.take_line(HARD_LIMIT) == b"x" * 40000
    assert buffer.take_line(HARD_LIMIT) == b"y" * 40000
    assert buffer.take_line(HARD_LIMIT) is INCOMPLETE
    buffer.feed(b"\nd")
    assert buffer.take_line(HARD_LIMIT) == b"abc"
    assert buffer.take_all() == b"d"


def test_taking_all_from_the_middle():
    buffer = LineBuffer()
    buffer.feed(b"DATA\r\nbody")
    assert buffer.take_line(100) == b"DATA"
    assert buffer.take_all() == b"body"
    assert len(buffer) == 0
    assert buffer.take_all() == b""


def test_a_buffer_that_was_read_empty_keeps_no_memory():
    buffer = LineBuffer()
    buffer.feed(b"NOOP\r\n" * 10_000)
    while buffer.take_line(512) is not INCOMPLETE:
        pass
    assert sys.getsizeof(buffer._buffer) < 200
    buffer.feed(b"QUI")
    assert buffer.take_line(512) is INCOMPLETE
    buffer.feed(b"T\r\n")
    assert buffer.take_line(512) == b"QUIT"
