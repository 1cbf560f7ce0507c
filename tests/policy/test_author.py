"""Whose domains are in From: what everybody reads alike is read, what readers read differently is refused."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elemta.policy.author import MAX_FIELD, find_authors
from elemta.policy.head import MOST_FIELDS, MessageHead


def authors(value: bytes) -> list[str] | str:
    """The domains, or the problem."""
    found = find_authors(MessageHead(b"To: x@y.example\r\nFrom: " + value + b"\r\nSubject: z\r\n\r\n"))
    assert bool(found.domains) != bool(found.problem)
    return [domain.text for domain in found.domains] or found.problem


@pytest.mark.parametrize(
    "value",
    [
        b"ann@bank.example",
        b"<ann@bank.example>",
        b"Ann <ann@bank.example>",
        b"Ann B. Clark <ann@bank.example>",
        b'"Clark, Ann" <ann@bank.example>',
        b"Clark, Ann <ann@bank.example>",
        b'"a@evil.example" <ann@bank.example>',
        b'"<a@evil.example>" <ann@bank.example>',
        b"ann@bank.example (a@evil.example)",
        b"(a@evil.example) ann (x) @ (y (z)) bank (\\)) . example",
        b"ann@BANK.Example",
        b"ann@bank.example.",
        b'"a b"@bank.example',
        b'"a@evil.example"@bank.example',
        b"ann.clark@bank.example",
        b"ann . clark @ bank . example",
        b"Ann\r\n <ann@bank.example>",
        b"\t<ann@bank.example>\t",
        b"<@relay.example,@other.example:ann@bank.example>",
        b"=?utf-8?q?a=40evil=2Eexample?= <ann@bank.example>",
        b"=?utf-8?q?=3Ca=40evil.example=3E?= <ann@bank.example>",
        b"<=?utf-8?q?a=40evil.example?=@bank.example>",
        "Änn <änn@bank.example>".encode(),
        b"ann@bank.example, bob@bank.example",
        b"ann@bank.example, , bob@BANK.example,",
        b"Friends: ann@bank.example, Bob <bob@bank.example>;",
        b"Friends: ann@bank.example",
        b'"My friends": ann@bank.example;, bob@bank.example',
        b".Ann <ann@bank.example>",
        b"[Shop] Ann <ann@bank.example>",
        b"a%evil.example@bank.example",
        b"a!evil.example@bank.example",
    ],
)
def test_an_author_that_everybody_reads_alike(value: bytes):
    assert authors(value) == ["bank.example"]


@pytest.mark.parametrize(
    "value",
    [
        b"ann@bank.example, a@evil.example",
        b"Friends: ann@bank.example, a@evil.example;",
        b"ann@bank.example <a@evil.example>",
        b'"Ann" <ann@bank.example>, "Other" <a@evil.example>',
    ],
)
def test_authors_of_several_domains(value: bytes):
    assert authors(value) == ["bank.example", "evil.example"]


def test_u_labels_become_a_labels():
    assert authors("ann@bücher.example".encode()) == ["xn--bcher-kva.example"]
    assert authors(b"ann@xn--bcher-kva.example") == ["xn--bcher-kva.example"]


@pytest.mark.parametrize(
    "value",
    [
        b"<ann@bank.example> <a@evil.example>",
        b"<ann@bank.example> a@evil.example",
        b"ann@bank.example a@evil.example",
        b"ann@bank.example@evil.example",
        b"<ann@bank.example",
        b"ann@bank.example>",
        b"<<ann@bank.example>>",
        b"<ann@bank.example>>",
        b"<ann@bank.example, a@evil.example>",
        b"ann@bank.example; a@evil.example",
        b"Friends: ann@bank.example; a@evil.example",
        b"Friends: Other: ann@bank.example;;",
        b":ann@bank.example;",
        b'"Ann <ann@bank.example>',
        b"Ann (x <ann@bank.example>",
        b"Ann) <ann@bank.example>",
        b"Ann\\ <ann@bank.example>",
        b"ann@bank..example",
        b"ann@.bank.example",
        b"ann@",
        b"@bank.example",
        b"<@bank.example>",
        b"<@relay.example ann@bank.example>",
        b"ann..clark@bank.example",
        b".ann@bank.example",
        b"ann.@bank.example",
        b"ann clark@bank.example",
        b'"ann""clark"@bank.example',
        b"ann@[192.0.2.1]",
        b"ann@[192.0.2.1",
        b"[x]@bank.example",
        b"ann@ba nk.example",
        b"ann@-bank.example",
        b"ann@192.0.2.1",
        b"ann@\xff.example",
        b"\xff <ann@bank.example>",
        b"Ann\x00 <ann@bank.example>",
        b"Ann\x7f <ann@bank.example>",
        b"Ann\n <ann@bank.example>",
        b"Ann\r <ann@bank.example>",
        "ann@ｂａｎｋ.example".encode(),
        "ann@bank。example".encode(),
        "ann@\u202ebank.example".encode(),
    ],
)
def test_what_readers_may_read_differently_has_no_author(value: bytes):
    assert authors(value) == "the From field cannot be read"


@pytest.mark.parametrize(
    "value", [b"", b"  ", b"Ann", b"Ann, Bob", b"Friends:;", b"=?utf-8?q?a=40bank.example?=", b","]
)
def test_a_field_without_an_address(value: bytes):
    assert authors(value) == "the From field has no address"


def test_there_must_be_one_field():
    field = b"From: ann@bank.example\r\n"
    assert find_authors(MessageHead(b"To: x\r\n\r\n")).problem == "no From field"
    assert (
        find_authors(MessageHead(field + b"FROM : a@evil.example\r\n\r\n")).problem == "several From fields"
    )
    assert find_authors(MessageHead(field + field + b"\r\n")).problem == "several From fields"


def test_a_header_of_which_not_all_was_read_has_no_author():
    head = MessageHead(b"From: ann@bank.example\r\n" + b"X: y\r\n" * MOST_FIELDS + b"\r\n")
    assert find_authors(head).problem == "the header has too many fields"


def test_a_field_that_is_too_long_is_not_read():
    assert authors(b"Ann " * (MAX_FIELD // 4) + b"<ann@bank.example>") == "the From field is too long"


@pytest.mark.parametrize(
    "unit",
    [
        b"a,",
        b"(",
        b"()",
        b'"',
        b'""',
        b"<",
        b"a:",
        b";",
        b".",
        b"@",
        b"\\",
        b"[",
        b"a@b.c,",
        b" ",
        b"=?",
        b"a.",
    ],
)
def test_a_field_of_one_sign_is_quick(unit: bytes):
    value = unit * (MAX_FIELD // len(unit) - 20)
    assert min(cost(value) for _ in range(3)) < 0.05  # the least: others pay for the garbage of earlier tests


def cost(value: bytes) -> float:
    start = time.process_time()
    authors(value)
    return time.process_time() - start


@given(st.binary(max_size=200))
def test_whatever_stands_there_nothing_breaks(value: bytes):
    find_authors(MessageHead(b"From: " + value.replace(b"\r\n", b"\r\n ") + b"\r\n\r\n"))


@given(st.text(alphabet='ab@.<>:;,()" \\[]=', max_size=40))
def test_whatever_signs_stand_there_nothing_breaks(value: str):
    find_authors(MessageHead(b"From: " + value.encode() + b"\r\n\r\n"))
