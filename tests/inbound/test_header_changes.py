"""What plugins want changed in a header, octet by octet."""

import pytest

from elemta.inbound.changes import new_header
from elemta.plugin import HeaderChange

HEAD = b"AX: 0\r\nX: 1\r\nno field\r\nx: 2\r\n more\r\nX: 1\r\n\r\n"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (HeaderChange("remove", "X"), b"AX: 0\r\nno field\r\n\r\n"),
        (HeaderChange("remove", "X", index=3), b"AX: 0\r\nX: 1\r\nno field\r\nx: 2\r\n more\r\n\r\n"),
        (HeaderChange("remove", "X", index=4), HEAD),
        (HeaderChange("replace", "X", "9"), b"AX: 0\r\nX: 9\r\nno field\r\n\r\n"),
        (HeaderChange("replace", "X", "9", index=2), b"AX: 0\r\nX: 1\r\nno field\r\nX: 9\r\nX: 1\r\n\r\n"),
        (HeaderChange("replace", "Y", "9"), HEAD[:-2] + b"Y: 9\r\n\r\n"),
        (HeaderChange("replace", "AX", "0"), HEAD),
    ],
)  # fmt: skip
def test_fields_are_taken_out_where_they_stand(change: HeaderChange, expected: bytes) -> None:
    assert new_header(HEAD, [change], utf8=False) == (b"", expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a  b", b"X: a b\r\n"),
        ("a;\r\n\tb  c", b"X: a;\r\n\tb  c\r\n"),
        ("\r\n a", b"X:\r\n a\r\n"),
        ("ä;\r\n ö", b"X: ?;\r\n ?\r\n"),
        ("a;\r\n " + "b" * 998, b"X: a;\r\n\t" + b"b" * 998 + b"\r\n"),
    ],
)
def test_what_is_folded_stays_as_it_is(value: str, expected: bytes) -> None:
    assert new_header(b"\r\n", [HeaderChange("add", "X", value)], utf8=False) == (b"", expected + b"\r\n")
