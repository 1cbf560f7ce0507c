"""The header block: where it ends, and its fields, in linear time whatever it holds."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elemta.mail import HeaderBlock, HeaderField, split_header

HEADER = (
    b"Received: from a\r\n\tby b; now\r\n"
    b"RECEIVED: from c\r\n"
    b"Subject: one\r\n two\r\n"
    b"X-Empty:\r\n"
    b"From: a@example.org\r\n"
)


@pytest.mark.parametrize(
    ("header", "body"),
    [
        (HEADER + b"\r\n", b"body\r\n"),
        (HEADER + b"\r\n", b""),
        (HEADER + b"\r\n", b"\r\n\r\n"),
        (b"\r\n", b"body\r\n"),
        (b"\r\n", b"\r\n\r\nbody"),
        (HEADER, b""),
        (b"Subject: no end", b""),
        (b"", b""),
        (b"A: b\n\nno: end\r\n", b""),
        (b"A: b\r\n \r\nC: d\r\n\r\n", b"x"),  # a blank in the line: folding, not the end
    ],
)
def test_the_body_begins_behind_the_empty_line(header, body):
    assert split_header(header + body) == len(header)


def test_fields_are_given_whole_and_in_order():
    fields = list(HeaderBlock(HEADER + b"\r\nBody: no field\r\n").fields())
    assert [field.name for field in fields] == [b"Received", b"RECEIVED", b"Subject", b"X-Empty", b"From"]
    assert b"".join(field.raw for field in fields) == HEADER


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"A: b\r\n", b"b"),
        (b"A:b", b"b"),
        (b"A :\t b \t\r\n", b"b"),
        (b"A:\r\n", b""),
        (b"A: b\r\n c\r\n\td\r\n", b"b c\td"),
        (b"A: b:c\r\n", b"b:c"),
        (b"A:\r\n b\r\n", b"b"),
        (b"A: b\x0b\r\n", b"b\x0b"),
    ],
)
def test_a_value_is_unfolded(raw, value):
    [field] = HeaderBlock(raw).fields()
    assert field == HeaderField(b"A", raw)
    assert field.value == value


@pytest.mark.parametrize(
    "bad", [b"no field\r\n", b": b\r\n", b" leading: x\r\n", b"two words: x\r\n", b"\xc3\xa9: x\r\n"]
)
def test_what_is_no_field_is_passed_over_with_its_continuation(bad):
    block = HeaderBlock(bad + b"\tmore: x\r\nA: b\r\n")
    assert list(block.fields()) == [HeaderField(b"A", b"A: b\r\n")]


def test_a_bare_line_end_does_not_begin_a_field():
    block = HeaderBlock(b"A: b\nReceived: c\rReceived: d\r\nE: f\r\n")
    assert [field.name for field in block.fields()] == [b"A", b"E"]
    assert block.count(b"Received") == 0


def test_find_gives_the_first_in_any_case():
    block = HeaderBlock(HEADER)
    assert block.find(b"received") == HeaderField(b"Received", b"Received: from a\r\n\tby b; now\r\n")
    assert block.find(b"FROM").value == b"a@example.org"
    assert block.find(b"To") is None
    assert HeaderBlock(b"").find(b"To") is None


@pytest.mark.parametrize(
    ("raw", "count"),
    [
        (b"", 0),
        (b"Received", 0),
        (b"Received: x", 1),
        (b"Received: x\r\n", 1),
        (b"rEcEiVeD : x\r\nReceived\t:\r\n", 2),
        (b"Received-SPF: x\r\nX-Received: y\r\n", 0),
        (b"A: b\r\nReceived: x\r\n received: y\r\nReceived: z\r\n", 2),
        (b"A: Received: x\r\n\r\nReceived: y\r\n", 0),
        (b"\r\nReceived: y\r\n", 0),
        (b"Received: x\r\n\r\nReceived: y\r\n", 1),
        (b"Received\r\nReceived: x\r\n", 1),
    ],
)
def test_fields_of_a_name_are_counted(raw, count):
    block = HeaderBlock(raw)
    assert block.count(b"Received") == count
    assert sum(field.name.lower() == b"received" for field in block.fields()) == count


PIECES = st.sampled_from([b"A", b"a:", b" ", b"\t", b"\r\n", b"\r", b"\n", b":", b"b", b"\xff", b"A: x\r\n"])


@given(st.lists(PIECES).map(b"".join))
def test_counting_and_iterating_agree(raw):
    block = HeaderBlock(raw)
    assert block.count(b"a") == sum(field.name.lower() == b"a" for field in block.fields())
    for field in block.fields():
        assert field.raw in raw[: split_header(raw)]
        assert b"\r\n" not in field.value


@pytest.mark.parametrize(
    "raw",
    [
        b"A" * 2_000_000,
        b"A: b\r\n " * 250_000,
        b"A: " + b"\r\n" * 1_000_000,
        b"A: b\r\n" + b"\r\n\t" * 600_000,
        b"A" + b" " * 2_000_000,
        b"Received" + b" " * 1_000_000 + b"\r\nReceived" + b" " * 1_000_000,
        b"\r\nreceive" * 200_000,
        b":" * 2_000_000,
        b"a\r" * 1_000_000,
    ],
    ids=lambda raw: ascii(raw[:20]),
)
def test_hostile_headers_cost_linear_time(raw):
    start = time.process_time()
    split_header(raw)
    block = HeaderBlock(raw)
    block.count(b"Received")
    block.find(b"Subject")
    assert time.process_time() - start < 1.0
