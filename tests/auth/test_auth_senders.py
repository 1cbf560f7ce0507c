"""Which sender addresses an account may use."""

from __future__ import annotations

import pytest

from elemta.auth import may_send_as, parse_sender_pattern
from elemta.config import BadValue
from elemta.mail import parse_mailbox


@pytest.mark.parametrize(
    ("pattern", "address", "taken"),
    [
        ("alice@example.org", "alice@example.org", True),
        ("alice@example.org", "ALICE@Example.ORG", True),
        ("alice@example.org", "alice+x@example.org", False),
        ("alice@example.org", "bob@example.org", False),
        ("*@example.org", "anybody@example.org", True),
        ("*@example.org", "a@sub.example.org", False),
        ("*@example.org", "a@notexample.org", False),
        ("*@example.org", "a@[192.0.2.1]", False),
        ("*@*.example.org", "a@sub.example.org", True),
        ("*@*.example.org", "a@deep.sub.example.org", True),
        ("*@*.example.org", "a@example.org", False),
        ("*@*.example.org", "a@subexample.org", False),
        ("*", "x@anywhere.example", True),
        ("*", "x@[192.0.2.1]", True),
    ],
)
def test_a_pattern_takes_its_addresses_only(pattern: str, address: str, taken: bool) -> None:
    assert parse_sender_pattern(pattern).takes(parse_mailbox(address)) is taken


@pytest.mark.parametrize("text", ["alice@example.org", "*@example.org", "*@*.example.org", "*"])
def test_a_pattern_is_written_as_it_is_read(text: str) -> None:
    assert str(parse_sender_pattern(text)) == text
    assert parse_sender_pattern(str(parse_sender_pattern(text))) == parse_sender_pattern(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "alice",
        "@example.org",
        "*@",
        "*@*",
        "<a@example.org>",
        "a b@example.org",
        '"a b"@example.org',
        "a@b\tc",
    ],
)
def test_what_is_no_pattern_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(BadValue):
        parse_sender_pattern(text)


def test_an_account_may_use_its_own_name_and_its_list() -> None:
    patterns = (parse_sender_pattern("*@lists.example.org"),)
    assert may_send_as("alice@example.org", patterns, parse_mailbox("Alice@example.org"))
    assert may_send_as("alice@example.org", patterns, parse_mailbox("x@lists.example.org"))
    assert not may_send_as("alice@example.org", patterns, parse_mailbox("bob@example.org"))


def test_an_account_whose_name_is_no_address_has_only_its_list() -> None:
    assert not may_send_as("alice", (), parse_mailbox("alice@example.org"))
    assert may_send_as(
        "alice", (parse_sender_pattern("alice@example.org"),), parse_mailbox("alice@example.org")
    )


def test_u_labels_and_a_labels_are_the_same_domain() -> None:
    pattern = parse_sender_pattern("*@exämple.org")
    assert pattern.takes(parse_mailbox("a@xn--exmple-cua.org"))
