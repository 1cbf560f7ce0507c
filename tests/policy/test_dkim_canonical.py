"""Canonical forms against the examples of RFC 6376 and against dkimpy, whole and in pieces."""

from __future__ import annotations

import hashlib
import time

import pytest
from dkim.canonicalization import Relaxed, Simple
from hypothesis import given
from hypothesis import strategies as st

from elemta.policy.canonical import BodyHasher, BodyNeed, Form, hash_body, relaxed_field
from elemta.policy.head import MessageHead

SIMPLE, RELAXED = BodyNeed(Form.SIMPLE), BodyNeed(Form.RELAXED)


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def digests(body: bytes, piece: int, *needs: BodyNeed) -> list[bytes]:
    hasher = BodyHasher(needs)
    for start in range(0, len(body), piece):
        hasher.feed(body[start : start + piece])
    found = hasher.finish()
    return [found.digest(need) for need in needs]


# Blanks, tabs and line ends in every order, with a few letters: what a body is made of.
BODIES = st.lists(
    st.sampled_from([b" ", b"\t", b"\r\n", b"a", b"b ", b"\r", b"\n", b"\r\n\r\n", b"  "]), max_size=30
).map(b"".join)
LINES = st.lists(st.sampled_from([b" ", b"\t", b"\r\n", b"a", b"b ", b"\r\n\r\n", b"  "]), max_size=30).map(
    lambda parts: b"".join(parts) + b"\r\n"
)


@given(LINES, st.integers(1, 7))
def test_bodies_are_hashed_as_by_dkimpy_however_they_are_cut(body: bytes, piece: int) -> None:
    simple, relaxed = digests(body, piece, SIMPLE, RELAXED)
    assert simple == sha256(Simple.canonicalize_body(body))
    assert relaxed == sha256(Relaxed.canonicalize_body(body))


@given(BODIES, st.integers(1, 7))
def test_any_octets_give_the_same_hash_however_they_are_cut(body: bytes, piece: int) -> None:
    assert digests(body, piece, SIMPLE, RELAXED) == digests(body, 1000, SIMPLE, RELAXED)


@given(LINES, st.integers(0, 40), st.integers(1, 5))
def test_a_length_cuts_the_canonical_body(body: bytes, length: int, piece: int) -> None:
    needs = [BodyNeed(Form.RELAXED, length), BodyNeed(Form.SIMPLE, length)]
    relaxed, simple = digests(body, piece, *needs)
    assert relaxed == sha256(Relaxed.canonicalize_body(body)[:length])
    assert simple == sha256(Simple.canonicalize_body(body)[:length])


@pytest.mark.parametrize(
    ("body", "simple", "relaxed"),
    [
        (b"", b"\r\n", b""),  # RFC 6376 3.4.3, 3.4.4
        (b"\r\n", b"\r\n", b""),
        (b"\r\n\r\n\r\n", b"\r\n", b""),
        (b" \t\r\n \r\n", b" \t\r\n \r\n", b""),
        (b" C \r\nD \t E\r\n\r\n\r\n", b" C \r\nD \t E\r\n", b" C\r\nD E\r\n"),  # 3.4.5
        (b"no end", b"no end\r\n", b"no end\r\n"),
        (b"no end ", b"no end \r\n", b"no end\r\n"),
        (b"bare\r", b"bare\r\r\n", b"bare\r\r\n"),
        (b"bare \r", b"bare \r\r\n", b"bare \r\r\n"),
        (b"a\r\r\n\r\n", b"a\r\r\n", b"a\r\r\n"),
        (b"a\n\r\n\r\n", b"a\n\r\n", b"a\n\r\n"),
        (b"a\n\n\r\n", b"a\n\n\r\n", b"a\n\n\r\n"),
    ],
)
def test_bodies(body: bytes, simple: bytes, relaxed: bytes) -> None:
    found = hash_body(body, [SIMPLE, RELAXED])
    assert found.digest(SIMPLE) == sha256(simple)
    assert found.digest(RELAXED) == sha256(relaxed)
    assert found.sizes == {Form.SIMPLE: len(simple), Form.RELAXED: len(relaxed)}


def test_a_hash_that_nobody_asked_for_is_not_there() -> None:
    with pytest.raises(KeyError):
        hash_body(b"x", [SIMPLE]).digest(RELAXED)


@pytest.mark.parametrize(
    "body",
    [b" " * 1_000_000, b" \t" * 500_000 + b"x", b"\r\n" * 500_000, b"\r\n" * 500_000 + b"x", b" \r\n" * 333_333,
     b"\n\r\n" * 333_333, (b" " * 997 + b"\r\n") * 1001, b"\r" * 1_000_000, b"a  b" * 250_000],
    ids=["blanks", "tabs", "empty lines", "empty lines, then text", "blank lines", "bare LF", "long blank lines", "bare CR", "double blanks"],
)  # fmt: skip
def test_a_megabyte_of_the_worst_takes_no_longer_than_a_megabyte_of_text(body: bytes) -> None:
    before = time.thread_time()
    hash_body(body, [SIMPLE, RELAXED])
    assert time.thread_time() - before < 0.2  # some 10 to 40 ms


@given(st.lists(st.sampled_from([b" ", b"\t", b"\r\n ", b"a", b"b  ", b":"]), max_size=20).map(b"".join))
def test_fields_are_relaxed_as_by_dkimpy(value: bytes) -> None:
    ((name, found),) = Relaxed.canonicalize_headers([(b"SUBJect", value + b"\r\n")])
    assert relaxed_field(b"SUBJect", value) + b"\r\n" == name + b":" + found


def test_the_fields_of_a_header() -> None:
    head = MessageHead(
        b"A: X\r\nB : Y\t\r\n\tZ  \r\nno field\r\n: none\r\n\xe4: no\r\na:\r\n\r\nC: body\r\n\r\n"
    )
    assert [field.relaxed for field in head.fields] == [b"a:X", b"b:Y Z", b"a:"]  # RFC 6376 3.4.5
    assert [field.canonical(Form.SIMPLE) for field in head.fields] == [b"A: X", b"B : Y\t\r\n\tZ  ", b"a:"]
    assert head.fields[1].unfolded == b"Y\t\tZ"
    assert [field.raw for field in head.named(b"a")] == [b"A: X", b"a:"]
    assert head.named(b"c") == ()


@pytest.mark.parametrize("raw", [b"", b"\r\n", b"\r\nA: body\r\n", b" A: folded\r\n\r\n", b"text"])
def test_headers_without_fields(raw: bytes) -> None:
    assert MessageHead(raw).fields == []


@pytest.mark.parametrize("raw", [b"A: b", b"A: b\r\n", b"A: b\r\n\r\n"])
def test_a_header_may_end_anyhow(raw: bytes) -> None:
    assert [field.raw for field in MessageHead(raw).fields] == [b"A: b"]


def test_fields_are_selected_from_the_bottom_up() -> None:
    # RFC 6376 5.4.2
    head = MessageHead(b"A: 1\r\nB: 2\r\nA: 3\r\n\r\n")
    names = [b"a", b"c", b"a", b"b", b"a", b"b"]
    assert [field.raw for field in head.select(names)] == [b"A: 3", b"A: 1", b"B: 2"]


def test_fields_that_are_put_before_a_header() -> None:
    head = MessageHead(b"A: 1\r\n\r\n").below(b"A: 0\r\nB: 2\r\n")
    assert [field.raw for field in head.named(b"a")] == [b"A: 0", b"A: 1"]
    assert [field.raw for field in head.select([b"a"])] == [b"A: 1"]
    assert not head.excess


def test_a_header_with_more_fields_than_are_looked_at() -> None:
    head = MessageHead(b"A: b\r\n" * 100_000)
    assert head.excess
    assert head.below(b"B: c\r\n").excess
