"""EHLO lines, out and in."""

import attrs
import pytest

from elemta.mail import Reply
from elemta.smtp import Capabilities, Extension, FutureRelease
from elemta.smtp.extensions import format_date_time, parse_date_time
from elemta.testing.pairs import EVERYTHING


def parse(*lines: str) -> Capabilities:
    return Capabilities.parse(Reply(250, None, ("mx.example.org greets you", *lines)))


def test_what_is_announced_is_read_back():
    full = EVERYTHING
    assert Capabilities.parse(Reply(250, None, full.lines("mx.example.org"))) == full


def test_every_extension_is_announced_by_its_keyword():
    full = attrs.evolve(EVERYTHING, help=True)
    lines = full.lines("mx.example.org")
    assert lines[0] == "mx.example.org"
    assert {line.partition(" ")[0] for line in lines[1:]} == {item.value for item in Extension}
    assert {
        "SIZE 1000000",
        "AUTH PLAIN LOGIN",
        "LIMITS RCPTMAX=1000",
        "DELIVERBY 60",
        "FUTURERELEASE 86400 2027-01-15T08:00:00Z",
        "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT",
        "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE",
    } <= set(lines)
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
        ("DELIVERBY", Capabilities(deliver_by=0)),
        ("DELIVERBY 240", Capabilities(deliver_by=240)),
        ("DELIVERBY 240,MORE", Capabilities(deliver_by=240)),
        ("DELIVERBY soon", Capabilities(deliver_by=0)),
        (
            "FUTURERELEASE 86400 2027-01-15T09:00:00+01:00",
            Capabilities(future_release=FutureRelease(86400, 1_800_000_000)),
        ),
        ("FUTURERELEASE 86400", Capabilities()),
        ("FUTURERELEASE 86400 tomorrow", Capabilities()),
        ("FUTURERELEASE 0 2027-01-15T09:00:00Z", Capabilities()),
        ("xclient name Addr", Capabilities(xclient=("NAME", "ADDR"))),
        ("XFORWARD SOURCE", Capabilities(xforward=("SOURCE",))),
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


def test_without_a_bound_deliverby_is_announced_alone():
    # RFC 2852 §3: min-by-time is optional
    assert Capabilities(deliver_by=0).lines("mx")[1:] == ("DELIVERBY",)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2027-01-15T08:00:00Z", 1_800_000_000),
        ("2027-01-15t08:00:00z", 1_800_000_000),
        ("2027-01-15T08:00:00.999Z", 1_800_000_000),
        ("2027-01-15T09:30:00+01:30", 1_800_000_000),
        ("2027-01-15T00:00:00-08:00", 1_800_000_000),
        ("2016-12-31T23:59:60Z", 1_483_228_800),  # a leap second (RFC 3339 §5.7)
        ("2024-02-29T00:00:00Z", 1_709_164_800),
    ],
)
def test_a_time_of_rfc_3339(text, seconds):
    assert parse_date_time(text) == seconds
    assert parse_date_time(format_date_time(seconds)) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2027-01-15",
        "2027-01-15T08:00:00",
        "2027-01-15 08:00:00Z",
        "2027-01-15T08:00Z",
        "2027-01-15T08:00:00.Z",
        "2027-01-15T08:00:61Z",
        "2027-01-15T24:00:00Z",
        "2027-02-30T08:00:00Z",
        "2023-02-29T08:00:00Z",
        "0000-01-01T00:00:00Z",
        "2027-01-15T08:00:00+24:00",
        "2027-01-15T08:00:00+00:60",
        "2027-01-15T08:00:00+0100",
        "\u0662027-01-15T08:00:00Z",
        "2027-01-15T08:00:00Z\n",
    ],
)
def test_no_time_of_rfc_3339(text):
    assert parse_date_time(text) is None
