"""EHLO lines, out and in."""

import pytest

from elemta.mail import Reply
from elemta.smtp import Capabilities, Extension
from elemta.testing.pairs import EVERYTHING


def parse(*lines: str) -> Capabilities:
    return Capabilities.parse(Reply(250, None, ("mx.example.org greets you", *lines)))


def test_what_is_announced_is_read_back():
    full = EVERYTHING
    assert Capabilities.parse(Reply(250, None, full.lines("mx.example.org"))) == full


def test_every_extension_is_announced_by_its_keyword():
    full = Capabilities(
        True,
        10,
        True,
        True,
        True,
        True,
        True,
        ("PLAIN",),
        True,
        True,
        True,
        True,
        True,
        True,
        True,
        (("RCPTMAX", 5),),
    )
    lines = full.lines("mx.example.org")
    assert lines[0] == "mx.example.org"
    assert {line.partition(" ")[0] for line in lines[1:]} == {item.value for item in Extension}
    assert {"SIZE 10", "AUTH PLAIN", "LIMITS RCPTMAX=5"} <= set(lines)
    assert Capabilities.parse(Reply(250, None, lines)) == full


def test_without_extensions_only_the_host_name_is_said():
    assert Capabilities().lines("mx.example.org") == ("mx.example.org",)
    assert parse() == Capabilities()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("pipelining", Capabilities(pipelining=True)),
        (" 8bitMime ", Capabilities(eight_bit_mime=True)),
        ("SIZE 1000", Capabilities(size=1000)),
        ("SIZE", Capabilities(size=0)),
        ("SIZE 0", Capabilities(size=0)),
        ("SIZE many", Capabilities(size=0)),
        ("SIZE +5", Capabilities(size=0)),
        ("SIZE \u0661", Capabilities(size=0)),
        ("AUTH plain LOGIN", Capabilities(auth=("PLAIN", "LOGIN"))),
        ("AUTH=PLAIN", Capabilities(auth=("PLAIN",))),
        ("LIMITS RCPTMAX=10 MAILMAX=x FOO=12345678", Capabilities(limits=(("RCPTMAX", 10),))),
        ("X-ANYTHING at all", Capabilities(other=("X-ANYTHING",))),
        ("-nonsense", Capabilities()),
        ("", Capabilities()),
        ("\u0131 x", Capabilities()),
        ("SMTP\u017fTF8", Capabilities()),
    ],
)
def test_one_line_of_an_answer(line, expected):
    assert parse(line) == expected


def test_mechanisms_of_several_lines_are_joined_without_repetition():
    assert parse("AUTH PLAIN LOGIN", "AUTH=LOGIN SCRAM-SHA-256").auth == ("PLAIN", "LOGIN", "SCRAM-SHA-256")


def test_the_first_line_is_no_keyword():
    assert Capabilities.parse(Reply(250, None, ("PIPELINING",))) == Capabilities()


def test_a_limit_by_name():
    assert parse("LIMITS rcptmax=10").limit("RCPTMAX") == 10
    assert parse().limit("RCPTMAX") is None
