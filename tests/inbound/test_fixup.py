"""What is mended in a user's message (RFC 6409 §8), octet for octet, and what is left alone."""

import pytest

from elemta.inbound.fixup import HeaderFixer, complete_addresses, missing_fields
from elemta.mail import MessageId

MESSAGE = MessageId("0123456789abcdef")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("From: alice", "From: alice@ours.example"),
        ("from : alice", "from : alice@ours.example"),
        ("From: <alice>", "From: <alice@ours.example>"),
        ("From: Alice Smith <alice>", "From: Alice Smith <alice@ours.example>"),
        ('From: "Smith, Alice" <alice>', 'From: "Smith, Alice" <alice@ours.example>'),
        ("From: alice (Alice <a@b> Smith)", "From: alice@ours.example (Alice <a@b> Smith)"),
        ("From: alice (nested (twice) \\) still)", "From: alice@ours.example (nested (twice) \\) still)"),
        ('From: "the boss"', 'From: "the boss"@ours.example'),
        ("To: a, b@c.example, <d>", "To: a@ours.example, b@c.example, <d@ours.example>"),
        ("To: a,\r\n b,\r\n\tc", "To: a@ours.example,\r\n b@ours.example,\r\n\tc@ours.example"),
        ("Cc: friends: a, b; , c", "Cc: friends: a@ours.example, b@ours.example; , c@ours.example"),
        ("Resent-To: a.b", "Resent-To: a.b@ours.example"),
        ("Bcc: postmaster", "Bcc: postmaster@ours.example"),
        ("To: <@hop.example,@other.example:a>", "To: <@hop.example,@other.example:a@ours.example>"),
        ("To: <>, a", "To: <>, a@ours.example"),
    ],
)
def test_an_address_without_a_domain_gets_one(before: str, after: str):
    header = f"Subject: x\r\n{before}\r\nX-To: a\r\n\r\n"
    expected = f"Subject: x\r\n{after}\r\nX-To: a\r\n\r\n"
    assert complete_addresses(header.encode(), b"ours.example").decode() == expected


@pytest.mark.parametrize(
    "line",
    [
        "From: alice@else.example",
        "From: Alice <alice@else.example>",
        "From: alice@[192.0.2.1]",
        "From: alice @ else.example",
        'From: "a b"@else.example',
        "To: undisclosed-recipients:;",
        "To:",
        "To: ,, ;",
        "To: Alice Smith",  # a name without an address: which one is meant cannot be known
        "To: a b, c",
        "To: alice@",
        "Subject: alice",
        "Message-ID: <alice>",
    ],
)
def test_nothing_else_is_touched(line: str):
    header = f"{line}\r\nSubject: x\r\n\r\n".encode()
    if line == "To: a b, c":
        assert complete_addresses(header, b"ours.example") == header.replace(b", c", b", c@ours.example")
    else:
        assert complete_addresses(header, b"ours.example") == header


@pytest.mark.parametrize(
    "line",
    [
        "To: a <b",
        "To: a > b",
        "To: <a <b>>",
        "To: (no end",
        "To: a) b",
        'To: "no end',
        "To: a\\b",
        "To: [no end",
    ],
)
def test_a_list_that_is_not_understood_is_left_as_it_is(line: str):
    header = f"{line}\r\nTo: a\r\n\r\n".encode()
    assert complete_addresses(header, b"o.example") == f"{line}\r\nTo: a@o.example\r\n\r\n".encode()


def test_octets_beyond_ascii_are_part_of_words():
    header = "From: jörg\r\n\r\n".encode()
    assert complete_addresses(header, b"o.example") == "From: jörg@o.example\r\n\r\n".encode()


def run(pieces: list[bytes], limit: int = 1000) -> bytes:
    fixer = HeaderFixer("o.example", limit)
    return b"".join([*(fixer.feed(piece) for piece in pieces), fixer.end()])


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"To: a\r\n\r\nTo: b\r\n", b"To: a@o.example\r\n\r\nTo: b\r\n"),
        (b"To: a\r\n", b"To: a@o.example\r\n"),
        (b"To: a", b"To: a@o.example"),
        (b"\r\nTo: a\r\n\r\n", b"\r\nTo: a\r\n\r\n"),
        (b"\r", b"\r"),
        (b"", b""),
        (b"no header\r\n\r\nTo: a\r\n", b"no header\r\n\r\nTo: a\r\n"),
    ],
)
def test_only_the_header_is_mended_however_the_message_is_split(size: int, message: bytes, expected: bytes):
    assert run([message[start : start + size] for start in range(0, len(message), size)]) == expected


def test_a_header_beyond_the_limit_is_not_kept_back():
    fixer = HeaderFixer("o.example", 100)
    assert fixer.feed(b"To: a\r\nX: ") == b""
    piece = fixer.feed(b"x" * 100)
    assert piece == b"To: a\r\nX: " + b"x" * 100
    assert fixer.feed(b"\r\n\r\n") == b"\r\n\r\n"
    assert fixer.end() == b""


def test_date_and_message_id_are_added_where_they_lack():
    fields = missing_fields(b"Subject: x\r\n\r\n", MESSAGE, "mx.example", 0.0)
    assert fields == (
        b"Date: Thu, 01 Jan 1970 00:00:00 +0000\r\nMessage-ID: <0123456789abcdef@mx.example>\r\n"
    )
    assert missing_fields(b"DATE: x\r\nmessage-id : y\r\n\r\n", MESSAGE, "mx.example", 0.0) == b""
    assert missing_fields(b"Message-ID: y\r\n\r\n", MESSAGE, "mx.example", 0.0).startswith(b"Date: ")


def test_a_message_without_a_header_gets_one_that_ends():
    assert missing_fields(b"just text\r\n", MESSAGE, "mx.example", 0.0).endswith(b"@mx.example>\r\n\r\n")
    assert missing_fields(b"\r\n", MESSAGE, "mx.example", 0.0).endswith(b"@mx.example>\r\n")
    assert missing_fields(b"", MESSAGE, "mx.example", 0.0).endswith(b"@mx.example>\r\n")
