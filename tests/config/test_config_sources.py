"""The settings of [[sources]] and who names them."""

import pytest
from test_config_load import said

from elemta.config import RouteTls, SourceConfig, describe, parse_config, render_config

BASE = 'hostname = "mx.example.org"\npostmaster = "me@example.org"\n'
ONE = (
    '[[sources]]\nname = "one"\nipv4 = "192.0.2.1"\nhello = "one.example.org"\npools = ["bulk"]\nweight = 3\n'
)
TWO = '[[sources]]\nname = "two"\nipv4 = "192.0.2.2"\nipv6 = "2001:db8::2"\npools = ["bulk", "own"]\n'
USERS = (
    '[delivery]\nsource = "bulk"\n[[shaping]]\nmatch = "a.example"\nsource = "two"\ntls = "required"\n'
    '[[routes]]\nmatch = "b.example"\nsource = "own"\n'
)


def test_sources_are_read_and_written_back() -> None:
    config = parse_config(BASE + ONE + TWO + USERS, "f")
    assert config.sources[0] == SourceConfig("one", "192.0.2.1", None, "one.example.org", ("bulk",), 3)
    assert (config.delivery.source, config.shaping[0].source, config.routes[0].source) == (
        "bulk",
        "two",
        "own",
    )
    assert config.shaping[0].tls is RouteTls.REQUIRED
    assert parse_config(render_config(config), "f") == config


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[[sources]]\nname = "x"\n', "f:3: sources[0]: it has no address"),
        (ONE + ONE, "f:10: sources[1].name: 'one' is already the name of sources[0]"),
        (ONE.replace('"bulk"', '"one"'), "f:4: sources[0].name: 'one' is the name of a pool as well"),
        (ONE + '[delivery]\nsource = "bulc"\n', "f:10: delivery.source: there is no source or pool 'bulc'"),
        ('[[shaping]]\nsource = "one"\n', "f:4: shaping[0].source: there is no source or pool 'one'"),
        (
            ONE + '[[routes]]\nmatch = "*"\ntransport = "discard"\nsource = "one"\n',
            "f:12: routes[0].source: means nothing to the transport discard",
        ),
        ('[[sources]]\nname = "x"\nipv4 = "2001:db8::1"\n', "f:5: sources[0].ipv4: "),
    ],
)
def test_mistakes_are_told_with_their_line(text: str, expected: str) -> None:
    lines = said(BASE + text)
    assert any(line.startswith(expected) for line in lines), lines


def test_check_shows_the_sources() -> None:
    one, two = describe(parse_config(BASE + ONE + TWO, "f")).sources
    assert (one.name, one.text) == ("one", "192.0.2.1 as one.example.org, in bulk with weight 3")
    assert two.text == "192.0.2.2 and 2001:db8::2, in bulk, own with weight 1"
