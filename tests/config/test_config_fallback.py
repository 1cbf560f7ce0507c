"""[routes.fallback]: read from TOML, and what makes no sense is an error."""

from __future__ import annotations

import pytest

from elemta.config import ConfigError, FallbackCause, parse_config

BASE = 'hostname = "mx.example.org"\n[[routes]]\nmatch = "*"\n'


def test_a_fallback_is_read() -> None:
    config = parse_config(
        f'{BASE}[routes.fallback]\nhost = "relay.example"\ncauses = ["dns"]\nafter = 3\n', "x"
    )
    fallback = config.routes[0].fallback
    assert (fallback.host, fallback.after, fallback.causes) == ("relay.example", 3, (FallbackCause.DNS,))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("after = 3", "needs a host"),
        ('host = "relay.example"\ncauses = []', "nothing ever leads there"),
        ('host = "relay.example"\nusername = "u"', "needs password_file"),
        ('host = "relay.example"\ncauses = ["unknown-after-dot"]', "unknown-after-dot"),
    ],
)
def test_a_fallback_without_sense_is_an_error(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        parse_config(f"{BASE}[routes.fallback]\n{text}\n", "x")


def test_only_smtp_has_a_fallback() -> None:
    text = BASE.replace('"*"', '"*"\ntransport = "discard"') + '[routes.fallback]\nhost = "relay.example"\n'
    with pytest.raises(ConfigError, match="belongs to smtp"):
        parse_config(text, "x")
