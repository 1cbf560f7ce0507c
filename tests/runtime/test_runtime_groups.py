"""Errors in groups and text from strangers, for people."""

import pytest

from elemta.runtime import escape_text, leaves, summarize


def test_leaves_come_in_order_from_all_depths():
    one, two, three = ValueError(1), KeyError(2), OSError(3)
    group = ExceptionGroup("a", [one, ExceptionGroup("b", [ExceptionGroup("c", [two])]), three])
    assert leaves(group) == [one, two, three]


def test_an_error_that_is_no_group_is_its_own_leaf():
    error = ValueError("x")
    assert leaves(error) == [error]


def test_very_deep_groups_do_not_recurse():
    error: Exception = ValueError("deep")
    for _ in range(1500):
        error = ExceptionGroup("", [error])
    assert [str(leaf) for leaf in leaves(error)] == ["deep"]


def test_a_summary_names_type_and_text():
    assert summarize(ValueError("no such thing")) == "ValueError: no such thing"
    assert summarize(ValueError()) == "ValueError"


def test_a_summary_names_equal_errors_once_and_stops_after_five():
    same = ExceptionGroup("", [ValueError("a"), ValueError("a"), KeyError("b")])
    assert summarize(same) == "ValueError: a (2 times); KeyError: 'b'"
    many = ExceptionGroup("", [ValueError(number) for number in range(8)])
    assert summarize(many).endswith("ValueError: 4; and 3 more")


def test_a_summary_is_one_escaped_line_of_bounded_length():
    hostile = summarize(ValueError("a\r\nb\x1b[31m\u202e" + "x" * 10_000), limit=100)
    assert hostile.startswith("ValueError: a\\r\\nb\\x1b[31m\\u202exxx")
    assert len(hostile) == 100
    assert hostile.isprintable()


def test_an_error_whose_text_raises_is_still_named():
    class Odd(Exception):
        def __str__(self):
            raise RuntimeError("no")

    assert summarize(Odd()) == "Odd: <its text raises RuntimeError>"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain Ünïcode ✓", "plain Ünïcode ✓"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\x00\x1b\x7f\x9b", "\\x00\\x1b\\x7f\\x9b"),
        ("\u2028\u202e\ufeff", "\\u2028\\u202e\\ufeff"),
        ("\udc80", "\\udc80"),
        ("\U000e0041", "\\U000e0041"),
        ("", ""),
    ],
)
def test_what_is_not_plainly_printable_is_escaped(text, shown):
    assert escape_text(text) == shown


def test_long_text_is_cut():
    assert escape_text("abcdef", 4) == "abc…"
    assert escape_text("abcd", 4) == "abcd"
