"""Authentication-Results: what is shown, and which fields of others claim to be ours."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elemta.mail import (
    AuthResult,
    AuthResults,
    HeaderBlock,
    Property,
    Result,
    authentication_results,
    claimed_results,
)

OURS = {"mx.example.org"}
NAME = "mx.example.org"


def shown(*results: AuthResult, smtputf8: bool = False) -> str:
    """The field without its name, in one line."""
    field = authentication_results(AuthResults(results), NAME, smtputf8=smtputf8)
    assert field.endswith(b"\r\n")
    return (
        field.decode().replace("\r\n\t", " ").removeprefix(f"Authentication-Results: {NAME}; ").rstrip("\r\n")
    )


def spf(value: str, reason: str = "") -> AuthResult:
    return AuthResult("spf", Result.PASS, reason, (Property("smtp", "mailfrom", value),))


# --- What is shown --------------------------------------------------------------------------------------


def test_without_results_it_says_none():
    assert shown() == "none"


def test_results_stand_in_their_order():
    dkim = AuthResult(
        "dkim", Result.FAIL, properties=(Property("header", "d", "a.example"), Property("header", "s", "k"))
    )
    assert shown(spf("a@b.example"), dkim) == (
        "spf=pass smtp.mailfrom=a@b.example; dkim=fail header.d=a.example header.s=k"
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a@b.example", "a@b.example"),
        ("@b.example", "@b.example"),
        ("a/b=c@d.example", "a/b=c@d.example"),
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", '"2001:db8::1"'),
        ("abc/+=", '"abc/+="'),
        ("a b@c.example", '"a b@c.example"'),
        ('"a b"@c.example', r'"\"a b\"@c.example"'),
        ("a\\b", r'"a\\b"'),
        ("a; dkim=pass", '"a; dkim=pass"'),
        ("a\r\nSubject: x", '"a??Subject: x"'),
        ("a\x1b[2J", '"a?[2J"'),
        ("(x", '"(x"'),
        ("é@c.example", "?@c.example"),
        ("x" * 400, "x" * 320),
    ],
)
def test_values_of_strangers_stay_values(value: str, expected: str):
    assert shown(spf(value)) == f"spf=pass smtp.mailfrom={expected}"


def test_utf8_is_shown_where_the_message_may_have_it():
    assert shown(spf("é@c.example"), smtputf8=True) == 'spf=pass smtp.mailfrom="é@c.example"'
    assert shown(spf("a\u202eb"), smtputf8=True) == 'spf=pass smtp.mailfrom="a?b"'


def test_a_reason_is_quoted_and_cut():
    assert shown(spf("a", 'he said "no"')) == r'spf=pass reason="he said \"no\"" smtp.mailfrom=a'
    assert len(shown(spf("a", "x" * 1000))) < 250


def test_an_empty_property_is_left_out():
    assert shown(spf("")) == "spf=pass"


@given(st.text(max_size=400), st.text(max_size=400), st.booleans())
def test_whatever_a_value_is_the_field_stays_one(value: str, reason: str, smtputf8: bool):
    field = authentication_results(AuthResults((spf(value, reason), spf("end"))), NAME, smtputf8=smtputf8)
    (only,) = HeaderBlock(field + b"\r\n").fields()
    assert only.raw == field
    assert smtputf8 or field.isascii()
    assert all(octet >= 32 or octet == 9 for octet in field.replace(b"\r\n", b""))
    unquoted = []
    quoted = escaped = False
    for sign in field.decode():
        if quoted:
            quoted = escaped or sign != '"'
            escaped = sign == "\\" and not escaped
        elif sign == '"':
            quoted = True
        else:
            unquoted.append(sign)
    assert not quoted
    assert "".join(unquoted).count(";") == 2


def test_results_are_found_by_method():
    results = AuthResults((spf("a"), AuthResult("dkim", Result.FAIL)))
    assert [each.method for each in results] == ["spf", "dkim"]
    assert results.of("spf") == (spf("a"),)
    assert results.passed("spf")
    assert not results.passed("dkim")
    assert spf("a").value("smtp", "mailfrom") == "a"
    assert spf("a").value("smtp", "helo") == ""


# --- Forged fields --------------------------------------------------------------------------------------


def left(header: bytes) -> bytes:
    """The header without what claims to be ours."""
    pieces = []
    position = 0
    for start, end in claimed_results(header, OURS):
        assert start >= position
        pieces.append(header[position:start])
        position = end
    return b"".join((*pieces, header[position:]))


@pytest.mark.parametrize(
    "value",
    [
        b" mx.example.org; spf=pass",
        b"mx.example.org;spf=pass",
        b" MX.Example.ORG ; none",
        b" mx.example.org 1; none",
        b" mx.example.org 99; none",
        b" mx.example.org.; none",
        b' "mx.example.org"; none',
        b' "mx.ex\\ample.org"; none',
        b" (a (nested) \\) comment) mx.example.org; none",
        b" (a)\r\n (b)\r\n\tmx.example.org; none",
        b"\r\n mx.example.org;\r\n\tspf=pass\r\n\tdkim=pass",
        b" mx.example.org(x); none",
        b" mx.example.org",
        # of a version that is not known, whoever it is of (RFC 8601 §5)
        b" other.example 2; spf=pass",
        b" other.example (a) 0 ; none",
        b"other.example\r\n 99;none",
        b" other.example 999999999999; none",
        # what cannot be read
        b"",
        b" ; spf=pass",
        b" (comment without an end mx.example.org; none",
        b' "mx.example.org; none',
        b" mx.example.org/1; none",
        b" \xff\xfe; none",
        b" \xc3\xa9..example; none",
        b" " + b"(" * 5000,
    ],
)
@pytest.mark.parametrize(
    "name", [b"Authentication-Results", b"AUTHENTICATION-RESULTS ", b"authentication-results\t"]
)
def test_a_field_with_our_name_or_an_unreadable_one_is_deleted(name: bytes, value: bytes):
    header = b"From: a@b.example\r\n" + name + b":" + value + b"\r\nTo: c@d.example\r\n\r\n"
    assert left(header) == b"From: a@b.example\r\nTo: c@d.example\r\n\r\n"


@pytest.mark.parametrize(
    "field",
    [
        b"Authentication-Results: mx.example.com; spf=pass\r\n",
        b"Authentication-Results: other 1; spf=pass\r\n",
        b"Authentication-Results: other (2) 01; spf=pass\r\n",
        b"Authentication-Results: other; 2=pass\r\n",
        b"Authentication-Results: other; spf=pass smtp.helo=mx.example.org\r\n",
        b"Authentication-Results: (mx.example.org) other; none\r\n",
        b"Authentication-Results: mx.example.org.evil.example; none\r\n",
        b"Authentication-Results: b\xc3\xbccher.example; none\r\n",
        b"ARC-Authentication-Results: i=1; mx.example.org; spf=pass\r\n",
        b"X-Authentication-Results: mx.example.org; spf=pass\r\n",
        b"Subject: x\r\n Authentication-Results: mx.example.org; spf=pass\r\n",
    ],
)
def test_a_field_of_others_stays(field: bytes):
    header = field + b"\r\n"
    assert left(header) == header


def test_u_labels_are_our_name_too():
    header = "Authentication-Results: mx.bücher.example; spf=pass\r\n\r\n".encode()
    assert claimed_results(header, {"mx.xn--bcher-kva.example"}) == [(0, len(header) - 2)]


def test_several_are_found_each_with_its_range():
    field = b"Authentication-Results: mx.example.org; none\r\n"
    header = field + b"A: b\r\n" + field + field + b"\r\n"
    assert left(header) == b"A: b\r\n\r\n"
    assert len(claimed_results(header, OURS)) == 3


def test_the_last_field_of_a_header_without_an_empty_line():
    assert claimed_results(b"Authentication-Results: mx.example.org; none", OURS) == [(0, 44)]


def test_a_large_header_is_quick():
    header = (
        b"Authentication-Results: (((\r\n" * 20_000
        + b"Authentication-Results:"
        + b" \r\n" * 100_000
        + b"\r\n"
    )
    assert len(claimed_results(header, OURS)) == 20_001
