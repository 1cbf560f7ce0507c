"""Each target with hypothesis: from random octets, from words of the protocol, and from changed seeds."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .targets import SEEDS, TARGETS, WORDS

EXAMPLES = 120
words = st.lists(st.one_of(st.sampled_from(WORDS), st.binary(max_size=3)), max_size=40).map(b"".join)
front = st.binary(min_size=3, max_size=3)


def _changed(seed: bytes, at: int, gone: int, new: bytes) -> bytes:
    at %= len(seed) + 1
    return seed[:at] + new + seed[at + gone :]


def inputs(name: str) -> st.SearchStrategy[bytes]:
    seeds = st.sampled_from(SEEDS[name])
    changed = st.builds(
        _changed, seeds, st.integers(0, 500), st.integers(0, 8), st.one_of(words, st.binary())
    )
    return st.one_of(st.binary(max_size=200), st.tuples(front, words).map(b"".join), seeds, changed)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_any_octets(name: str) -> None:
    @given(inputs(name))
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def check(data: bytes) -> None:
        TARGETS[name](data)

    check()


@pytest.mark.parametrize("name", sorted(TARGETS))
@pytest.mark.parametrize(
    "octet", [b"A", b"\r", b"\n", b"\0", b" ", b".", b"<", b"2", b"250-x\r\n", b"NOOP\r\n"]
)
def test_the_same_octets_without_an_end(name: str, octet: bytes) -> None:
    TARGETS[name](b"\0\0\0" + octet * (300_000 // len(octet)))
    TARGETS[name](b"\0\0\xff" + octet * (100_000 // len(octet)))
