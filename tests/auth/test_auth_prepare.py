"""Names and passwords in their one form: RFC 4013 and RFC 8265."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elemta.auth import NotPrepared, prepare_name, prepare_password, saslprep


@pytest.mark.parametrize(
    ("text", "prepared"),
    [  # RFC 4013 §3
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        # §2.1: other blanks are blanks
        ("a\u00a0b\u3000c", "a b c"),
        ("", ""),
        # a code point that Unicode 3.2 did not have (RFC 3454 §7: queries may have them)
        ("\U0001f600", "\U0001f600"),
    ],
)
def test_saslprep_gives_the_examples_of_the_standard(text: str, prepared: str) -> None:
    assert saslprep(text) == prepared


@pytest.mark.parametrize(
    "text",
    [
        "\u0007",  # RFC 4013 §3
        "\x7f",
        "a\nb",
        "\u0627\u0031",  # RFC 4013 §3: does not end right to left
        "\u0627a\u0627",
        "\u0080a",
        "\ue000",  # private use
        "\ufdd0",  # not a character
        "\ud800",  # surrogate
        "\u2ff0",
        "\u200e",
        "\U000e0001",
    ],
)
def test_saslprep_refuses_what_the_standard_prohibits_and_does_not_repeat_it(text: str) -> None:
    with pytest.raises(NotPrepared) as caught:
        saslprep(text)
    assert text not in str(caught.value)


def test_right_to_left_text_is_taken_whole() -> None:
    assert saslprep("\u0627\u0031\u0628") == "\u0627\u0031\u0628"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Alice@Example.ORG", "alice@example.org"),
        ("alice", "alice"),
        ("JÜRGEN", "jürgen"),
        ("Ju\u0308rgen", "jürgen"),
        ("\uff21lice", "alice"),  # full width
        ("\u212aevin", "kevin"),  # Kelvin sign: one account, not a second one that looks the same
        ("x" * 255, "x" * 255),
    ],
)
def test_names_that_look_the_same_are_one_account(text: str, name: str) -> None:
    assert prepare_name(text) == name
    assert prepare_name(name) == name


@pytest.mark.parametrize(
    "text", ["", "a b", "a\u00a0b", "\u00ad", "x" * 256, "ü" * 128, "a\0b", "a\r\nb", "\u3000", "\u337f" * 80]
)
def test_what_can_be_no_name_is_refused(text: str) -> None:
    with pytest.raises(NotPrepared):
        prepare_name(text)


def test_passwords_keep_their_case_and_blanks() -> None:
    assert prepare_password("Correct Horse ") == "Correct Horse "
    assert prepare_password("p\u00e4ss") == prepare_password("pa\u0308ss")


@pytest.mark.parametrize("text", ["", "\u00ad", "x" * 1025, "ä" * 600, "a\0b"])
def test_what_can_be_no_password_is_refused(text: str) -> None:
    with pytest.raises(NotPrepared):
        prepare_password(text)


@given(st.text(max_size=40))
def test_preparing_twice_changes_nothing(text: str) -> None:
    try:
        name = prepare_name(text)
    except NotPrepared:
        return
    assert prepare_name(name) == name
    assert " " not in name
