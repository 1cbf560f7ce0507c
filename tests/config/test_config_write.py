"""The configuration as text: effective settings, JSON Schema, sample files."""

import tomllib
from pathlib import Path
from typing import Any

import attrs
import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elemta.config import (
    AdminConfig,
    Config,
    ConfigError,
    DeliveryConfig,
    DomainPattern,
    DomainsConfig,
    HostPort,
    LimitsConfig,
    ListenerConfig,
    ListenerRole,
    QueueConfig,
    RelayConfig,
    RouteConfig,
    RoutePattern,
    RouteTls,
    TlsConfig,
    TransportKind,
    example_config,
    field_sentence,
    json_schema,
    load_config,
    parse_config,
    render_config,
    units,
)
from elemta.config import schema as schema_module
from elemta.config.schema import SECTIONS
from elemta.mail import Domain

ROOT = Path(__file__).parents[2]
SAMPLES = [ROOT / "conf" / "elemta.toml", ROOT / "conf" / "elemta.minimal.toml"]
VALIDATOR = jsonschema.Draft202012Validator(json_schema())


def test_the_list_of_sections_is_complete() -> None:
    classes = [
        value for value in vars(schema_module).values() if isinstance(value, type) and attrs.has(value)
    ]
    own = {value for value in classes if value.__module__ == schema_module.__name__}
    assert own == set(SECTIONS)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_has_a_sentence(section: type) -> None:
    assert section.__doc__
    for field in attrs.fields(section):
        assert field_sentence(section, field.name), field.name


def test_what_is_no_setting_has_no_sentence() -> None:
    assert field_sentence(Config, "colour") == ""
    assert field_sentence(HostPort, "host") == ""


def test_the_shipped_sample_is_the_packaged_one() -> None:
    assert SAMPLES[0].read_text(encoding="utf-8") == example_config()


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_the_samples_are_valid(path: Path) -> None:
    assert load_config(path).hostname.endswith(".org")


def test_the_sample_relays_for_this_machine_only_and_listens_on_loopback() -> None:
    config = parse_config(example_config(), "elemta.toml")
    assert all(network.is_loopback for network in config.relay.networks)
    assert {str(listener.address) for listener in config.listeners} == {"127.0.0.1:2525", "[::1]:2525"}
    assert str(config.admin.address) == "127.0.0.1:8025"
    assert config.state_dir == Path("var")


def test_the_sample_repeats_the_defaults() -> None:
    """What it says about queue, limits and timeouts is what one gets without saying it."""
    config = parse_config(example_config(), "elemta.toml")
    default = Config(hostname="mx.example.org")
    for name in ("queue", "delivery", "dns", "limits", "timeouts", "logging"):
        assert getattr(config, name) == getattr(default, name)


def commented_blocks() -> list[str]:
    """The examples in the sample that are switched off: commented lines from a header on."""
    blocks: list[str] = []
    inside = False
    for line in example_config().split("\n"):
        code = line.removeprefix("# ")
        if line.startswith("# [") and not inside:
            blocks.append("")
            inside = True
        inside = inside and line.startswith("# ")
        if inside:
            blocks[-1] += code + "\n"
    return blocks


def test_the_commented_examples_of_the_sample_are_valid() -> None:
    blocks = commented_blocks()
    assert len(blocks) >= 9
    for block in blocks:
        parse_config('hostname = "mx.example.org"\n' + block, "block")


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_a_rendered_configuration_reads_back_as_itself(path: Path) -> None:
    config = load_config(path)
    assert parse_config(render_config(config), "rendered") == config


def test_a_rendered_setting_stands_under_its_sentence() -> None:
    lines = render_config(Config(hostname="mx.example.org")).split("\n")
    at = lines.index('lifetime = "5d"')
    assert lines[at - 1] == "# After this the sender is told that it failed."
    assert "# postmaster is not set" in lines
    assert max(map(len, lines)) <= 110


LABELS = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
DOMAINS = st.builds(lambda one, two: Domain(f"{one}.{two}"), LABELS, LABELS)
# whole milliseconds are what the text can say
DURATIONS = st.integers(1000, units.LONGEST_DURATION * 1000).map(lambda milliseconds: milliseconds / 1000)
TEXTS = st.text(st.characters(exclude_characters="\0{}~", exclude_categories=["Cs"]), min_size=1, max_size=20)
PATHS = TEXTS.map(Path)
ADDRESSES = st.builds(HostPort, st.ip_addresses().map(str) | st.just(""), st.integers(0, 65535))


def _listeners(ports: list[int]) -> tuple[ListenerConfig, ...]:
    roles = list(ListenerRole)
    return tuple(
        ListenerConfig(f"l{port}", HostPort("::1", port), role=roles[port % len(roles)]) for port in ports
    )


def _routes(domains: list[Domain], host: str, path: str) -> tuple[RouteConfig, ...]:
    kinds = [
        {"transport": TransportKind.DISCARD},
        {"transport": TransportKind.MAILDIR, "path": path},
        {"transport": TransportKind.LMTP, "host": host, "port": 24, "tls": RouteTls.NONE},
        {"transport": TransportKind.SMTP, "host": host},
    ]
    return tuple(
        RouteConfig(RoutePattern(domain=DomainPattern(domain)), **kinds[index % len(kinds)])  # type: ignore[arg-type]
        for index, domain in enumerate(domains)
    )


CONFIGS = st.builds(
    lambda hostname, local, ports, host, path, **other: Config(
        hostname=hostname.text,
        listeners=_listeners(ports),
        domains=DomainsConfig(local=tuple(local)),
        routes=_routes(local, host, path),
        **other,
    ),
    hostname=DOMAINS,
    local=st.lists(DOMAINS, unique=True, max_size=5),
    ports=st.lists(st.integers(1, 65535), unique=True, max_size=3),
    host=LABELS,
    path=TEXTS,
    state_dir=PATHS,
    tls=st.just(TlsConfig()) | st.builds(TlsConfig, PATHS, PATHS),
    relay=st.lists(st.sampled_from(["10.0.0.0/8", "::1/128", "192.0.2.7/32"]), unique=True).map(
        lambda texts: RelayConfig(tuple(map(units.parse_network, texts)))
    ),
    queue=st.builds(
        QueueConfig,
        retry=st.lists(DURATIONS, min_size=1, max_size=30).map(tuple),
        retry_jitter=st.floats(0, 0.5),
        lifetime=st.just(float(units.LONGEST_DURATION)),
        active_bytes=st.integers(1, units.LARGEST_SIZE),
    ),
    delivery=st.builds(DeliveryConfig, concurrency=st.integers(5, 1 << 62), ipv6=st.booleans()),
    limits=st.builds(LimitsConfig, message_size=st.integers(65536, units.LARGEST_SIZE)),
    admin=st.builds(
        AdminConfig, st.none() | ADDRESSES.map(lambda a: attrs.evolve(a, port=0)), st.none() | PATHS
    ),
)


@settings(max_examples=60, deadline=None)
@given(CONFIGS)
def test_any_sound_configuration_survives_rendering_and_reading(config: Config) -> None:
    text = render_config(config)
    assert parse_config(text, "rendered") == config
    VALIDATOR.validate(tomllib.loads(text))


def test_a_value_without_text_form_is_refused() -> None:
    with pytest.raises(ValueError, match="not a duration"):
        render_config(Config(hostname="a.b", queue=QueueConfig(lifetime=float("inf"))))
    with pytest.raises(ValueError, match="cannot be written as TOML"):
        render_config(Config(hostname="a.b", state_dir=Path("\udcff")))
    with pytest.raises(ValueError, match="read back as another value"):
        render_config(Config(hostname="a.b", queue=QueueConfig(retry_jitter=float("nan"))))


def test_the_schema_is_a_json_schema() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)  # raises where it is none
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_the_samples_satisfy_the_schema(path: Path) -> None:
    sample = tomllib.loads(path.read_text(encoding="utf-8"))
    assert list(VALIDATOR.iter_errors(sample)) == []


def test_the_schema_describes_every_setting_with_its_default() -> None:
    def check(schema: dict[str, Any]) -> None:
        for name, inner in schema["properties"].items():
            assert inner["description"], name
            if inner["type"] == "object" and "properties" in inner:  # others have settings of their own
                check(inner)
            elif inner["type"] == "array" and inner["items"]["type"] == "object":
                check(inner["items"])

    schema = json_schema()
    check(schema)
    assert schema["required"] == ["hostname"]
    limits = schema["properties"]["limits"]["properties"]
    assert limits["message_size"]["default"] == "50MiB"
    assert limits["recipients"] == {
        "type": "integer",
        "minimum": 100,
        "default": 1000,
        "description": "Most recipients in one transaction; the rest is deferred with 452. At least 100.",
    }
    assert schema["properties"]["queue"]["properties"]["retry"]["default"][-1] == "2h"
    listener = schema["properties"]["listeners"]["items"]["properties"]
    assert listener["auth"]["enum"] == ["off", "optional", "required"]
    assert listener["role"]["enum"] == ["mx", "submission", "lmtp"]


# Each is wrong by itself, without looking at other settings: so both readers must say so.
BROKEN = [
    "hostname = 5",
    'colour = "red"',
    "[limits]\nrecipients = 99",
    '[limits]\nrecipients = "700"',
    '[limits]\nmessage_size = "50MB"',
    "[limits]\nmessage_size = 5",
    "[queue]\nlifetime = 300",
    '[queue]\nlifetime = "300"',
    '[queue]\nretry = "5m"',
    "[queue]\nretry_jitter = 0.9",
    '[[listeners]]\nname = "a"',
    '[[listeners]]\nname = "a"\naddress = "localhost:25"',
    '[[listeners]]\nname = "a"\naddress = ":25"\nrole = "MX"',
    '[[listeners]]\nname = "a"\naddress = ":25"\nauth = "always"',
    '[[listeners]]\nname = "a"\naddress = ":25"\nproxy_protocol = "v2"',
    '[[routes]]\nmatch = "*"\ntransport = "pope"',
    '[relay]\nnetworks = ["everybody"]',
    "[plugins]",
    '[delivery]\nipv6 = "yes"',
    "delivery = 1",
    "delivery.port = 0",
]


@pytest.mark.parametrize("text", BROKEN)
def test_what_is_broken_breaks_the_schema_too(text: str) -> None:
    text = ("" if text.startswith("hostname") else 'hostname = "mx.example.org"\n') + text
    assert not VALIDATOR.is_valid(tomllib.loads(text))
    with pytest.raises(ConfigError):
        parse_config(text, "f")
