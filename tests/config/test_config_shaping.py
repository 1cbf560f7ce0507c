"""The settings of [[shaping]]: patterns, rates, what does not go together, what `elemta check` says."""

import pytest
from jsonschema import Draft202012Validator
from test_config_load import said

from elemta.config import (
    BadValue,
    ByteRate,
    HostPattern,
    Rate,
    describe,
    json_schema,
    parse_config,
    parse_host_pattern,
    render_config,
)
from elemta.config.load import read_toml
from elemta.config.units import parse_byte_rate

BASE = 'hostname = "mx.example.org"\npostmaster = "me@example.org"\n'
FULL = """
[[shaping]]
match = ".example.org"
mx = "*.mail.example.net"
concurrency = 4
initial_concurrency = 2
recipients_per_transaction = 10
messages_per_connection = 20
connection_lifetime = "1m"
idle = "0s"
connection_rate = "10/1m"
connection_burst = 2
message_rate = "600/1h"
message_burst = 10
byte_rate = "100MiB/1h"
byte_burst = "5MiB"
"""


def test_every_setting_is_read_and_written_back() -> None:
    config = parse_config(BASE + FULL, "f")
    (table,) = config.shaping
    assert table.match == HostPattern(".example.org")
    assert (table.message_rate, table.byte_rate) == (Rate(600, 3600), ByteRate(100 << 20, 3600))
    assert (table.idle, table.byte_burst) == (0.0, 5 << 20)
    assert parse_config(render_config(config), "f") == config
    assert list(Draft202012Validator(json_schema()).iter_errors(read_toml(BASE + FULL))) == []


@pytest.mark.parametrize(
    ("text", "name", "fits"),
    [
        ("Example.ORG", "example.org", True),
        ("example.org", "a.example.org", False),
        (".example.org", "a.b.example.org", True),
        (".example.org", "example.org", False),
        (".example.org", "anexample.org", False),
        ("*.example.org", "a.example.org", True),
        ("mx?.example.*", "mx1.example.co.uk", True),
        ("mx?.example.*", "mx10.example.org", False),
        ("*", "anything", True),
        ("exämple.org", "xn--exmple-cua.org", True),
        ("192.0.2.1", "192.0.2.1", True),
        ("a.example", "aXexample", False),
    ],
)
def test_patterns_fit_whole_names(text: str, name: str, fits: bool) -> None:
    assert bool(parse_host_pattern(text).expression.fullmatch(name)) is fits


def test_a_name_is_more_specific_than_a_pattern_and_a_longer_pattern_than_a_shorter() -> None:
    texts = ["*", "*.org", ".example.org", "*.example.org", "a.example.org"]
    ranks = [parse_host_pattern(text).rank for text in texts]
    assert ranks == sorted(ranks)


@pytest.mark.parametrize("text", ["", ".", "..", "a b", "*..org", "*.org.", "a/b*", "a@*", "x\x00*"])
def test_what_is_no_pattern_is_refused(text: str) -> None:
    with pytest.raises(BadValue):
        parse_host_pattern(text)


@pytest.mark.parametrize("text", ["10MiB", "0/1h", "10MB/1h", "10MiB/0s", "99999999999TiB/1s", "-1/1s"])
def test_what_is_no_rate_of_octets_is_refused(text: str) -> None:
    with pytest.raises(BadValue):
        parse_byte_rate(text)
    assert str(parse_byte_rate("4096/1h30m")) == "4KiB/1h30m"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[[shaping]]\nmatch = "a b"\n', "f:4: shaping[0].match: 'a b' is not a domain"),
        ('[[shaping]]\nmatch = "a.example"\n', "f:3: shaping[0]: it changes nothing"),
        ("[[shaping]]\nbyte_burst = 5\n", "f:4: shaping[0].byte_burst: a burst of what has no byte_rate"),
        (
            "[[shaping]]\nconcurrency = 1\n[[shaping]]\nidle = '1s'\n",
            "f:5: shaping[1]: shaping[0] is for the",
        ),
        ('[[shaping]]\nmessage_rate = "1/0s"\n', "f:4: shaping[0].message_rate: '1/0s' lets nothing through"),
    ],
)
def test_mistakes_are_told_with_their_line(text: str, expected: str) -> None:
    assert any(line.startswith(expected) for line in said(BASE + text))


def test_check_shows_the_tables_most_specific_first() -> None:
    tables = '[[shaping]]\nmatch = "*"\nidle = "5s"\n[[shaping]]\nmx = "*.example"\nconcurrency = 3\n'
    facts = describe(parse_config(BASE + FULL + tables, "f")).shaping
    assert [fact.name for fact in facts] == [".example.org, mx *.mail.example.net", "*", "mx *.example"]
    assert "message_rate 600/1h, message_burst 10" in facts[0].text
    assert facts[1].text == "idle 5s"
    assert describe(parse_config(BASE, "f")).shaping == ()
