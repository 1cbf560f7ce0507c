"""By what people find a message: its Message-ID, and a hash of its subject."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elemta.mail import NO_MARKS, Marks, bare_message_id, marks_of, subject_mark

HELLO = subject_mark("Hello you")


@pytest.mark.parametrize(
    "subject",
    [
        "Hello you",
        "  hello \t YOU ",
        "=?utf-8?q?Hello_you?=",
        "=?utf-8?b?SGVsbG8geW91?=",
        "=?iso-8859-1?q?Hello?= =?utf-8?q?_you?=",
    ],
)
def test_a_subject_has_one_mark_however_it_is_written(subject: str) -> None:
    assert subject_mark(subject) == HELLO
    assert len(HELLO) == 16


@pytest.mark.parametrize("subject", ["=?x?q?Hello?=", "=?utf-8?q?=ff?=", "=?nope?b?SGVsbG8=?=", "\udcff"])
def test_what_cannot_be_decoded_has_a_mark_all_the_same(subject: str) -> None:
    assert len(subject_mark(subject)) == 16


def test_the_first_fields_count_and_folds_do_not() -> None:
    header = (
        b"Received: x\r\nsubject: Hello\r\n you\r\nMESSAGE-ID:\r\n <1@x.example>\r\n"
        b"Subject: other\r\nMessage-ID: <2@x.example>\r\n\r\nSubject: body\r\n"
    )
    assert marks_of(header) == Marks("1@x.example", HELLO)


@pytest.mark.parametrize("header", [b"", b"\r\nSubject: x\r\n", b"Subject:  \r\nMessage-ID: \r\n\r\n"])
def test_a_message_without_them_has_none(header: bytes) -> None:
    assert marks_of(header) == NO_MARKS


def test_a_message_id_is_compared_without_brackets() -> None:
    assert bare_message_id(" <a@x> ") == bare_message_id("a@x") == "a@x"
    assert len(marks_of(b"Message-ID: <" + b"x" * 9999 + b">\r\n").message_id) < 251


@given(st.binary())
def test_nothing_in_a_header_raises(header: bytes) -> None:
    marks_of(b"Subject: " + header + b"\r\n")
    marks_of(header)


@given(st.text())
def test_no_text_raises(text: str) -> None:
    assert len(subject_mark(text)) in (0, 16)
