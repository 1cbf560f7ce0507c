"""OAUTHBEARER by the examples of RFC 7628, XOAUTH2, and what is none of their messages."""

from __future__ import annotations

import json

import pytest

from elemta.auth.actions import Ask, CheckToken, Disproved, Malformed, Situation
from elemta.auth.bearer import OAUTHBEARER_FAILURE, XOAUTH2_FAILURE, oauthbearer, xoauth2

SITUATION = Situation("mx.example.org", "nonce")
TOKEN = "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="
# RFC 7628 §4.1
EXAMPLE = (
    b"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=Bearer "
    + TOKEN.encode()
    + b"\x01\x01"
)


def test_the_example_of_rfc_7628() -> None:
    assert oauthbearer(SITUATION, EXAMPLE) == CheckToken("user@example.com", TOKEN, OAUTHBEARER_FAILURE)


def test_the_name_may_be_left_to_the_token() -> None:
    assert oauthbearer(SITUATION, b"n,,\x01auth=bearer  abc\x01\x01") == CheckToken(
        None, "abc", OAUTHBEARER_FAILURE
    )


def test_names_are_unescaped_and_prepared() -> None:
    action = oauthbearer(SITUATION, b"y,a=A=2Cb=3D,\x01auth=Bearer x\x01\x01")
    assert isinstance(action, CheckToken)
    assert action.name == "a,b="


@pytest.mark.parametrize(
    "message", [b"n,,\x01auth=\x01\x01", b"n,,\x01\x01", b"n,,\x01auth=Basic abc\x01\x01"]
)
def test_without_a_token_the_failure_tells_the_client_what_is_wanted(message: bytes) -> None:
    assert oauthbearer(SITUATION, message) == CheckToken(None, "", OAUTHBEARER_FAILURE)  # RFC 7628 §4.3


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x01",
        b"n,,auth=Bearer x\x01\x01",
        b"n,,\x01auth=Bearer x\x01",
        b"p=tls-exporter,,\x01auth=Bearer x\x01\x01",
        b"n,a=,\x01auth=Bearer x\x01\x01",
        b"n,a=x=,\x01auth=Bearer x\x01\x01",
        b"n,,\x01auth=Bearer x\x01auth=Bearer y\x01\x01",
        b"n,,\x01auth=Bearer x\x01AUTH=Bearer y\x01\x01",
        b"n,,\x01a1=x\x01\x01",
        b"n,,\x01auth=Bearer \xff\x01\x01",
        b"n,,\x01auth=Bearer x\x01\x01\n",
        b"n,,\x01auth=Bearer " + b"x" * 10_000 + b"\x01\x01",
    ],
)
def test_what_is_no_message_is_malformed(message: bytes) -> None:
    assert isinstance(oauthbearer(SITUATION, message), Malformed)


def test_a_name_that_nobody_can_have_is_a_failure() -> None:
    expected = Disproved("", "no possible name")
    assert oauthbearer(SITUATION, b"n,a=a b,\x01auth=Bearer x\x01\x01") == expected
    assert xoauth2(SITUATION, b"user=a b\x01auth=Bearer x\x01\x01") == expected


def test_xoauth2() -> None:
    message = (
        b"user=someuser@example.com\x01auth=Bearer ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg\x01\x01"
    )
    token = "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg"
    assert xoauth2(SITUATION, message) == CheckToken("someuser@example.com", token, XOAUTH2_FAILURE)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"user=a\x01auth=Bearer x\x01",
        b"user=\x01auth=Bearer x\x01\x01",
        b"auth=Bearer x\x01user=a\x01\x01",
    ],
)
def test_what_is_no_message_of_xoauth2_is_malformed(message: bytes) -> None:
    assert isinstance(xoauth2(SITUATION, message), Malformed)


@pytest.mark.parametrize("mechanism", [oauthbearer, xoauth2])
def test_without_an_initial_response_the_client_is_asked_with_nothing(mechanism: object) -> None:
    asked = mechanism(SITUATION, None)  # type: ignore[operator]
    assert isinstance(asked, Ask)
    assert asked.challenge == b""
    assert isinstance(asked.then(b""), Malformed)


@pytest.mark.parametrize("failure", [OAUTHBEARER_FAILURE, XOAUTH2_FAILURE])
def test_failures_are_json(failure: bytes) -> None:
    assert json.loads(failure)["status"]
