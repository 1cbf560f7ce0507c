"""PLAIN, LOGIN, CRAM-MD5, EXTERNAL: the examples of their standards, and what is none of their messages."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elemta.auth import MECHANISMS
from elemta.auth.actions import (
    Ask,
    CheckPassword,
    Disproved,
    FindSecrets,
    Malformed,
    Proved,
    Situation,
)
from elemta.auth.mechanisms import cram_md5, external, login, plain

# RFC 2195 §2
SITUATION = Situation("postoffice.reston.mci.net", "1896.697170952", certificate="Fred@example.org")
TIM = CheckPassword("tim", "tanstaaftanstaaf", True)


def test_plain_by_the_examples_of_rfc_4616() -> None:
    assert plain(SITUATION, b"\0tim\0tanstaaftanstaaf") == TIM
    assert plain(SITUATION, b"Ursel\0Kurt\0xipj3plmq") == CheckPassword("kurt", "xipj3plmq", False)


def test_plain_may_say_its_own_name_twice() -> None:
    assert plain(SITUATION, b"TIM\0tim\0tanstaaftanstaaf") == TIM


def test_plain_without_an_initial_response() -> None:
    asked = plain(SITUATION, None)
    assert isinstance(asked, Ask)
    assert asked.challenge == b""
    assert asked.then(b"\0tim\0tanstaaftanstaaf") == TIM


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"tim",
        b"tim\0x",
        b"\0\0x",
        b"\0tim\0",
        b"\0tim\0x\0",
        b"\0tim\0\xff",
        b"\0tim\0" + b"x" * 9000,
    ],
)
def test_what_is_no_message_of_plain_is_malformed(response: bytes) -> None:
    assert isinstance(plain(SITUATION, response), Malformed)


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (b"\0ti m\0x", Disproved("", "no possible name")),
        (b"ti m\0tim\0x", Disproved("", "no possible name")),
        (b"\0" + b"x" * 300 + b"\0x", Disproved("", "no possible name")),
        (b"\0tim\0x\x01", Disproved("tim", "no possible password")),
        (b"\0tim\0" + b"x" * 1025, Disproved("tim", "no possible password")),
    ],
)
def test_what_no_account_can_have_is_a_failure(response: bytes, expected: Disproved) -> None:
    assert plain(SITUATION, response) == expected


def test_login_asks_for_name_and_password() -> None:
    name = login(SITUATION, None)
    assert isinstance(name, Ask)
    assert name.challenge == b"Username:"
    password = name.then(b"Tim")
    assert isinstance(password, Ask)
    assert password.challenge == b"Password:"
    assert password.then(b"tanstaaftanstaaf") == TIM


def test_login_takes_the_name_as_initial_response() -> None:
    password = login(SITUATION, b"tim")
    assert isinstance(password, Ask)
    assert password.challenge == b"Password:"


@pytest.mark.parametrize("bad", [b"", b"\xff", b"a\0b", b"x" * 9000])
def test_login_refuses_what_is_no_text(bad: bytes) -> None:
    assert isinstance(login(SITUATION, bad), Malformed)
    asked = login(SITUATION, b"tim")
    assert isinstance(asked, Ask)
    assert isinstance(asked.then(bad), Malformed)


def cram_answer(answer: bytes, *secrets: tuple[str, bytes]) -> object:
    asked = cram_md5(SITUATION, None)
    assert isinstance(asked, Ask)
    assert asked.challenge == b"<1896.697170952@postoffice.reston.mci.net>"
    action = asked.then(answer)
    return action.then(secrets) if isinstance(action, FindSecrets) else action


def test_cram_md5_by_the_example_of_rfc_2195() -> None:
    answer = b"tim b913a602c7eda7a495b4e6e7334d3890"
    assert cram_answer(answer, ("password", b"tanstaaftanstaaf")) == Proved("tim", "password")
    assert cram_answer(answer, ("password", b"x"), ("app:a", b"tanstaaftanstaaf")) == Proved("tim", "app:a")
    assert cram_answer(answer, ("password", b"x")) == Disproved("tim", "wrong password")
    assert cram_answer(answer) == Disproved("tim", "wrong password")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"tim",
        b"tim B913A602C7EDA7A495B4E6E7334D3890",
        b" " + b"0" * 32,
        b"tim " + b"0" * 33,
        b"\xff " + b"0" * 32,
    ],
)
def test_what_is_no_answer_of_cram_md5_is_malformed(answer: bytes) -> None:
    assert isinstance(cram_answer(answer), Malformed)


def test_cram_md5_has_no_initial_response() -> None:
    assert isinstance(cram_md5(SITUATION, b""), Malformed)  # RFC 4954 §4


def test_a_name_that_nobody_can_have_is_no_answer_to_cram_md5() -> None:
    assert cram_answer(b"a b " + b"0" * 32) == Disproved("", "no possible name")


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (b"", Proved("fred@example.org", "certificate", True)),
        (b"fred@EXAMPLE.org", Proved("fred@example.org", "certificate", True)),
        (b"bob@example.org", Proved("fred@example.org", "certificate", False)),
        (b"a b", Disproved("", "no possible name")),
    ],
)
def test_external_is_the_account_of_the_certificate(response: bytes, expected: object) -> None:
    assert external(SITUATION, response) == expected


def test_external_without_an_initial_response_asks_with_nothing() -> None:
    asked = external(SITUATION, None)
    assert isinstance(asked, Ask)
    assert asked.challenge == b""
    assert asked.then(b"") == Proved("fred@example.org", "certificate", True)


@pytest.mark.parametrize("response", [b"\xff", b"a\0", b"x" * 9000])
def test_what_is_no_message_of_external_is_malformed(response: bytes) -> None:
    assert isinstance(external(SITUATION, response), Malformed)


def test_external_without_a_certificate_proves_nothing() -> None:
    assert external(attrs.evolve(SITUATION, certificate=None), b"") == Disproved("", "no possible name")


@given(st.sampled_from(sorted(MECHANISMS)), st.lists(st.binary(max_size=60), min_size=1, max_size=3))
def test_no_message_raises(name: str, messages: list[bytes]) -> None:
    begin = next(kind.begin for mechanism, kind in MECHANISMS.items() if mechanism == name)
    situation = attrs.evolve(SITUATION, bindings={"tls-exporter": b"x"}, plus_offered=True)
    action = begin(situation, messages[0])
    for message in messages[1:]:
        if isinstance(action, Ask):
            action = action.then(message)
    assert isinstance(action, Ask | CheckPassword | FindSecrets | Proved | Disproved | Malformed)
