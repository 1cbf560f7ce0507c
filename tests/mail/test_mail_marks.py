"""By what people find a message: its Message-ID, and a hash of its subject."""

from __future__ import annotations

import encodings

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


@pytest.mark.parametrize(
    "subject", ["=?x?q?Hello?=", "=?utf-8?q?=ff?=", "=?nope?b?SGVsbG8=?=", "\udcff", "=?\xe9?q?a?="]
)
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


def test_a_charset_that_is_no_ascii_is_no_error() -> None:
    assert marks_of("Subject: =?\xe9?q?Hello?=\r\n\r\n".encode()).subject
    assert marks_of(b"Subject: =?\xff?b?SGVsbG8=?=\r\n\r\n").subject


def test_python_is_not_asked_for_charsets_that_strangers_make_up() -> None:
    before = len(encodings._cache)  # type: ignore[attr-defined]  # where it remembers them
    for number in range(20):
        subject_mark(f"=?made-up-{number}?q?Hello?=")
    assert len(encodings._cache) == before  # type: ignore[attr-defined]


@pytest.mark.parametrize("charset", ["KOI8-R", "koi8-u", "windows-1251", "gb2312", "ISO-2022-JP"])
def test_charsets_of_mail_are_known(charset: str) -> None:
    assert subject_mark(f"=?{charset}?q?Hello?= you") == HELLO


@pytest.mark.parametrize("length", [200, 248, 249, 250, 300])
def test_a_long_message_id_is_cut_where_a_search_cuts_it(length: int) -> None:
    identity = "x" * length
    assert marks_of(f"Message-ID: <{identity}>\r\n".encode()).message_id == bare_message_id(f"<{identity}>")


@given(st.binary())
def test_nothing_in_a_header_raises(header: bytes) -> None:
    marks_of(b"Subject: " + header + b"\r\n")
    marks_of(header)


@given(st.text())
def test_no_text_raises(text: str) -> None:
    assert len(subject_mark(text)) in (0, 16)
