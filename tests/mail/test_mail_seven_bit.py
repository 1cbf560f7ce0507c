"""What comes out is 7-bit, means the same, and is untouched where it was 7-bit before."""

from __future__ import annotations

import email
import email.policy
import quopri
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elemta.mail import CannotConvert, SevenBitEncoder
from elemta.mail.seven_bit import MAX_HELD

UTF8_TEXT = "Grüße aus Köln, 100 % = alles.\r\n".encode()


def convert(message: bytes, size: int = 0) -> bytes:
    encoder = SevenBitEncoder()
    pieces = [message] if not size else [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join([encoder.feed(piece) for piece in pieces]) + encoder.end()


def leaves(message: bytes) -> list[tuple[str, bytes]]:
    """Type and decoded content of each part, as the standard library reads them."""

    def walk(part: email.message.Message) -> Iterator[tuple[str, bytes]]:
        if part.is_multipart():
            for each in part.get_payload():
                yield from walk(each)  # type: ignore[arg-type]
        else:
            yield part.get_content_type(), part.get_payload(decode=True)  # type: ignore[misc]

    return list(walk(email.message_from_bytes(message, policy=email.policy.compat32)))


TEXT = (
    b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n\r\n" + UTF8_TEXT
)
NESTED = (
    b'Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n boundary="o (1)"\r\n'
    b"content-transfer-encoding: 8BIT\r\n\r\npreamble \xff\r\n--o (1)\r\n\r\nplain ascii\r\n--o (1)\r\n"
    b"Content-Type: multipart/alternative; boundary=in\r\nContent-Transfer-Encoding: 8bit\r\n\r\n--in\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    + UTF8_TEXT
    + b"\r\n"
    b"--in\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\nPGI+\r\n--in--\r\n"
    b"--o (1)\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + TEXT + b"\r\n"
    b"--o (1)--\r\nepilogue \xfe\r\n"
)


@pytest.mark.parametrize("size", [0, 1, 7, 64])
@pytest.mark.parametrize("message", [TEXT, NESTED], ids=["text", "nested"])
def test_parts_mean_the_same_and_all_lines_are_seven_bit_and_short(message: bytes, size: int) -> None:
    converted = convert(message, size)
    assert converted.isascii()
    assert leaves(converted) == leaves(message)
    assert max(map(len, converted.split(b"\r\n"))) <= 78
    assert b"8bit" not in converted.lower()


def test_multipart_and_message_are_labelled_not_encoded() -> None:
    """RFC 2045 §6.4"""
    converted = convert(NESTED)
    assert converted.count(b"Content-Transfer-Encoding: 7bit\r\n") == 3
    assert converted.count(b"Content-Transfer-Encoding: quoted-printable\r\n") == 2
    assert b"preamble ?\r\n" in converted
    assert converted.endswith(b"epilogue ?\r\n")


@pytest.mark.parametrize("size", [0, 1, 5])
def test_message_that_is_seven_bit_already_stays_as_it_is(size: int) -> None:
    message = convert(NESTED)
    assert convert(message, size) == message
    plain = b"Subject: x\r\n\r\nhello\r\n.\r\nno end"
    assert convert(plain, size) == plain


@pytest.mark.parametrize("size", [0, 1])
def test_message_without_mime_gets_a_label(size: int) -> None:
    """RFC 1428 §3"""
    converted = convert(b"Subject: x\r\n\r\nascii\r\nK\xf6ln\r\n", size)
    assert converted == (
        b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\nascii\r\nK=F6ln\r\n"
    )


def test_part_that_hides_eight_bit_behind_its_label_is_encoded() -> None:
    message = TEXT.replace(b"8bit", b"7bit")
    converted = convert(message)
    assert converted.isascii()
    assert leaves(converted) == leaves(message)


def test_binary_content_keeps_bare_line_ends_and_nul() -> None:
    """RFC 3030 §3: what was BINARYMIME can be sent on as lines."""
    body = b"a\rb\nc\0d\xff" + b"x" * 3000
    message = (
        b"MIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\n"
        b"Content-Transfer-Encoding: binary\r\n\r\n" + body
    )
    converted = convert(message)
    assert leaves(converted) == [("application/octet-stream", body)]
    assert max(map(len, converted.split(b"\r\n"))) <= 78
    assert b"\0" not in converted


@pytest.mark.parametrize(
    "message",
    [
        b"Subject: K\xf6ln\r\n\r\nx\r\n",
        TEXT.replace(b"8bit", b"base64"),
        TEXT.replace(b"8bit", b"x-uuencode"),
        TEXT.replace(b"text/plain; charset=utf-8", b"message/partial; id=1"),
        TEXT.replace(b"text/plain; charset=utf-8", b"multipart/mixed"),
        b"X: " + b"y" * (MAX_HELD + 1) + b"\r\n\r\n",
        b"X: y\r\n" * (MAX_HELD // 5) + b"\r\n",
        b"\r\n" + b"z" * (MAX_HELD + 1),
        b"\r\n" + b"ascii text\r\n" * (MAX_HELD // 10) + b"K\xf6ln\r\n",
    ],
    ids=[
        "header",
        "base64",
        "uuencode",
        "partial",
        "no-boundary",
        "line",
        "header-size",
        "body-line",
        "late",
    ],
)
def test_what_may_not_or_cannot_be_encoded_is_said(message: bytes) -> None:
    with pytest.raises(CannotConvert):
        convert(message)


def test_header_that_ends_with_the_message_is_given_whole() -> None:
    assert convert(b"Subject: x\r\nTo: y") == b"Subject: x\r\nTo: y"
    assert convert(b"") == b""


def test_boundary_of_an_outer_part_ends_the_inner_ones() -> None:
    message = NESTED.replace(b"--in--\r\n", b"")
    converted = convert(message)
    assert converted.isascii()
    assert leaves(converted) == leaves(message)


def test_large_part_is_held_only_to_a_bound() -> None:
    encoder = SevenBitEncoder()
    encoder.feed(b"Subject: x\r\n\r\n")
    given = sum(len(encoder.feed(b"ascii text, harmless\r\n" * 1000)) for _ in range(100))
    assert given > 22_000 * 100 - MAX_HELD - 30_000


@given(st.binary(max_size=400), st.integers(1, 50))
def test_any_eight_bit_body_comes_back_octet_for_octet(body: bytes, size: int) -> None:
    head = (
        b"MIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\n"
        b"Content-Transfer-Encoding: 8bit\r\n\r\n"
    )
    converted = convert(head + body, size)
    assert converted.isascii()
    assert leaves(converted) == [("application/octet-stream", body)]


@given(
    st.lists(
        st.sampled_from(
            [b"--b", b"--b--", b"--c", b"\xe9", b"a", b"", b"Content-Type: multipart/x; boundary=c"]
        )
    )
)
def test_any_order_of_boundaries_gives_seven_bit_or_is_refused(lines: list[bytes]) -> None:
    message = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"\r\n".join(lines)
    try:
        whole = convert(message)
    except CannotConvert:
        return
    assert whole.isascii()
    assert convert(message, 1) == whole


@pytest.mark.parametrize(
    "kind", ["message/global", "message/global-headers", "message/global-delivery-status"]
)
@pytest.mark.parametrize("label", [b"Content-Transfer-Encoding: 8bit\r\n", b""])
def test_messages_whose_header_is_utf_8_are_encoded_as_a_whole(kind: str, label: bytes) -> None:
    """RFC 6532 §3.5: unlike other messages they may be."""
    part = b"Content-Type: %b\r\n%b\r\n" % (kind.encode(), label)
    inner = (
        "Subject: dé\r\nContent-Type: multipart/mixed; boundary=in\r\n\r\n--in\r\n\r\nà\r\n--in--".encode()
    )
    head = b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=out\r\n\r\n"
    message = head + b"--out\r\n" + part + inner + b"\r\n--out--\r\n"
    for size in (0, 7):
        converted = convert(message, size)
        assert converted.isascii()
        _, _, encoded = converted.partition(b"--out\r\n")
        fields, _, content = encoded.removesuffix(b"\r\n--out--\r\n").partition(b"\r\n\r\n")
        assert b"Content-Transfer-Encoding: quoted-printable" in fields
        assert quopri.decodestring(content) == inner
    plain = head + b"--out\r\n" + part.replace(label, b"") + b"Subject: x\r\n\r\ny\r\n--out--\r\n"
    assert convert(plain) == plain
