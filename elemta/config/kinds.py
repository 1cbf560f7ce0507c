"""Which TOML value a setting takes: its kind, and the rules that narrow it.

A field of the schema is annotated with a type that has a kind (`str`, `HostPort`, an enum …) or with
`Annotated[type, kind, rule, …]`. Loading, writing and the JSON Schema all ask `leaf_of` here, so
the three cannot disagree. Nothing is coerced: `"7"` is not 7, 5 is not `"5"`, 1 is not true.
"""

from __future__ import annotations

import enum
import functools
import ipaddress
import math
import re
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeAlias, Union, get_args, get_origin

import attrs

from elemta.mail import Domain

from . import units
from .units import (
    AnswerRange,
    BadValue,
    ByteRate,
    DomainPattern,
    HostPattern,
    HostPort,
    Network,
    Rate,
    RoutePattern,
    did_you_mean,
    shown,
)

Plain: TypeAlias = str | int | float | bool | dict[str, Any]
"""What a leaf is in TOML. A table is one where its content is somebody else's: any of TOML's values."""


@attrs.frozen(eq=False)
class Kind:
    """How one kind of value is written in TOML."""

    noun: str
    taken: tuple[type, ...]
    """Exact types of the TOML values that may be read."""
    read: Callable[[Any], Any]
    """Raises `BadValue`. Any: each kind has its own type, and mypy cannot tie it to a field."""
    write: Callable[[Any], Plain]
    schema: Mapping[str, object]
    """JSON Schema of the TOML value."""
    hint: Callable[[object], str] = lambda raw: ""
    """How to write a value of the wrong type."""

    def show(self, value: object) -> str:
        """The value as it stands in the file."""
        written = self.write(value)
        return shown(written) if not isinstance(written, str) else written


@attrs.frozen
class Rule:
    """Narrows a kind. Each of its methods is a place where a rule may have something to say."""

    def check_raw(self, raw: object) -> None:
        """Refuse a TOML value before it is read, with `BadValue`."""

    def check(self, value: Any, kind: Kind) -> None:
        """Refuse a value that was read, with `BadValue`."""

    def sentence(self, kind: Kind) -> str:
        """The rule for people, or nothing."""
        return ""

    def narrow(self, schema: dict[str, Any], kind: Kind) -> None:
        """Express the rule in the JSON Schema, as far as that can."""


@attrs.frozen
class Range(Rule):
    """A number, size or duration from `minimum` to `maximum`; `because` names the reason of the bound."""

    minimum: float | None = None
    maximum: float | None = None
    because: str = ""
    or_zero: bool = False
    """Zero is allowed too; it means "off"."""

    def check(self, value: Any, kind: Kind) -> None:
        if self.or_zero and value == 0:
            return
        because = f" ({self.because})" if self.because else ""
        if self.minimum is not None and value < self.minimum:
            other = f" or {kind.show(0)}" if self.or_zero else ""
            raise BadValue(f"{kind.show(value)} is less than {kind.show(self.minimum)}{other}{because}")
        if self.maximum is not None and value > self.maximum:
            raise BadValue(f"{kind.show(value)} is more than {kind.show(self.maximum)}{because}")

    def sentence(self, kind: Kind) -> str:
        parts = []
        if self.minimum is not None:
            parts.append(
                f"at least {kind.show(self.minimum)}" + (f" or {kind.show(0)}" if self.or_zero else "")
            )
        if self.maximum is not None:
            parts.append(f"at most {kind.show(self.maximum)}")
        sentence = ", ".join(parts) + "."
        return sentence[0].upper() + sentence[1:]

    def narrow(self, schema: dict[str, Any], kind: Kind) -> None:
        if str in kind.taken and int not in kind.taken:
            return  # a duration is text, whose order JSON Schema cannot see
        if self.minimum is not None:
            schema["minimum"] = 0 if self.or_zero else self.minimum
        if self.maximum is not None:
            schema["maximum"] = self.maximum


@attrs.frozen
class NotTheInternet(Rule):
    """Networks that may relay must be somebody's own."""

    def check(self, value: Any, kind: Kind) -> None:
        # 2000::/3 is all global unicast of IPv6 (RFC 4291 2.4); nobody is given more than a /16 of it
        wide = (
            value.prefixlen < 8
            if isinstance(value, ipaddress.IPv4Network)
            else value.prefixlen < 16 and value.overlaps(ipaddress.IPv6Network("2000::/3"))
        )
        if wide:
            raise BadValue(
                f"{value} would make this an open relay", "name only the networks of your own clients"
            )


@attrs.frozen
class Reachable(Rule):
    """An address and port that can be asked, not only bound."""

    def check(self, value: Any, kind: Kind) -> None:
        if not value.host or not value.port:
            raise BadValue(
                f"{str(value)!r} cannot be asked", 'write an address and its port, like "127.0.0.1:53"'
            )


@attrs.frozen(eq=False)
class Leaf:
    """One setting's kind with its rules."""

    kind: Kind
    rules: tuple[Rule, ...] = ()

    def read(self, raw: object) -> Any:
        """Turn a TOML value into the setting's value.

        Raises:
          BadValue: it has the wrong type, or is not allowed here.
        """
        if type(raw) not in self.kind.taken:
            raise BadValue(f"expected {self.kind.noun}, not {typed(raw)}", self.kind.hint(raw))
        for rule in self.rules:
            rule.check_raw(raw)
        value = self.kind.read(raw)
        for rule in self.rules:
            rule.check(value, self.kind)
        return value

    def json_schema(self) -> dict[str, Any]:
        schema = dict(self.kind.schema)
        for rule in self.rules:
            rule.narrow(schema, self.kind)
        return schema

    def sentences(self) -> list[str]:
        """What the rules say, for documentation."""
        return [sentence for rule in self.rules if (sentence := rule.sentence(self.kind))]


_TYPE_NAMES: dict[type, str] = {
    str: "the string",
    bool: "the boolean",
    int: "the integer",
    float: "the number",
}


def typed(raw: object) -> str:
    """A TOML value with its type, for messages."""
    if type(raw) in _TYPE_NAMES:
        return f"{_TYPE_NAMES[type(raw)]} {shown(raw)}"
    if isinstance(raw, list | dict):
        return "an array" if isinstance(raw, list) else "a table"
    return "a date or time"


def _unquote_hint(pattern: str) -> Callable[[object], str]:
    """A hint for numbers that were written as strings."""
    quoted = re.compile(pattern)
    return lambda raw: f"write {raw} without quotes" if isinstance(raw, str) and quoted.fullmatch(raw) else ""


def _boolean_hint(raw: object) -> str:
    if isinstance(raw, str) and raw.lower() in ("true", "false"):
        return f"write {raw.lower()} without quotes"
    return "write true or false" if isinstance(raw, str | int) else ""


def _string_hint(raw: object) -> str:
    return f'write "{shown(raw)}" in quotes' if isinstance(raw, int | float) else ""


def _duration_hint(raw: object) -> str:
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not 0 <= raw <= units.LONGEST_DURATION:
        return 'write it like "90s", "5m" or "5d"'
    return f'write "{raw}s" for seconds' if isinstance(raw, int) else f'write "{units.format_duration(raw)}"'


def _read_float(raw: float) -> float:
    if not math.isfinite(raw):
        raise BadValue(f"{shown(raw)} is not a number one can use")
    return float(raw)


def _read_integer(raw: int) -> int:
    if raw.bit_length() > 63:
        raise BadValue(f"{shown(raw)} is too large")
    return raw


def _read_size(raw: int | str) -> int:
    if isinstance(raw, str):
        return units.parse_size(raw)
    if raw < 0:
        raise BadValue(f"{shown(raw)} is not a size", "it cannot be negative")
    if raw > units.LARGEST_SIZE:
        raise BadValue(f"{shown(raw)} is larger than {units.format_size(units.LARGEST_SIZE)}")
    return raw


def _read_table(raw: dict[str, Any]) -> dict[str, Any]:
    for value in raw.values():
        _check_plain(value)
    return raw


def _check_plain(value: object) -> None:
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            _check_plain(inner)
    elif not isinstance(value, str | int | float):
        raise BadValue("dates and times are no settings", "write it as a string")


def _write_size(octets: float) -> Plain:
    text = units.format_size(int(octets))
    return int(text) if text.isdecimal() else text


def _text(noun: str, read: Callable[[str], Any], pattern: str = "", **extra: object) -> Kind:
    schema: dict[str, object] = {"type": "string", **extra}
    if pattern:
        schema["pattern"] = f"^(?:{pattern})$"
    return Kind(noun, (str,), read, str, schema, _string_hint)


DURATION = Kind(
    'a duration such as "5m"',
    (str,),
    units.parse_duration,
    units.format_duration,
    {"type": "string", "pattern": f"^{units.DURATION_PATTERN}$"},
    _duration_hint,
)
SIZE = Kind(
    'a size such as "50MiB"',
    (int, str),
    _read_size,
    _write_size,
    {"type": ["integer", "string"], "minimum": 0, "pattern": f"^{units.SIZE_PATTERN}$"},
)
TABLE = Kind("a table", (dict,), _read_table, dict, {"type": "object"})
HOSTNAME = _text("the name of a host", units.parse_hostname, minLength=3)
NEXT_HOP = _text("a host", units.parse_next_hop, minLength=1)
MAILBOX = _text("an address", lambda text: str(units.parse_mailbox_text(text)), ".+@.+")
MAILDIR_PATH = _text("a folder", units.parse_maildir_path, minLength=1)
ARGUMENT = _text("an argument", units.parse_argument)
SERVICE_URL = _text("a URL", units.parse_service_url, "https?://.+")
DIRECTORY_URL = _text("a URL", units.parse_directory_url, "ldaps?://.+")
ACCOUNT_FILTER = _text("a filter", units.parse_account_filter, r"\(.+\)")
IPV4 = _text("an IPv4 address", units.parse_ipv4, r"[0-9.]+")
IPV6 = _text("an IPv6 address", units.parse_ipv6, r"[0-9A-Fa-f:.]+")
NAME = _text("a string", units.parse_name, units.NAME_PATTERN)
SELECTOR = _text("a selector", units.parse_selector, units.SELECTOR_PATTERN, maxLength=units.MAX_SELECTOR)
EVENT_TYPES = _text("a type of event", units.parse_event_types, units.EVENT_TYPES_PATTERN)
FIELD_NAME = _text("the name of a header field", units.parse_field_name, units.FIELD_NAME_PATTERN)

_KINDS: dict[Any, Kind] = {
    str: _text("a string", str),
    bool: Kind("true or false", (bool,), bool, bool, {"type": "boolean"}, _boolean_hint),
    int: Kind(
        "an integer", (int,), _read_integer, int, {"type": "integer"}, _unquote_hint(r"-?[1-9][0-9]{0,15}|0")
    ),
    # 0 for 0.0 is the same number, not a coercion
    float: Kind(
        "a number",
        (int, float),
        _read_float,
        float,
        {"type": "number"},
        _unquote_hint(r"-?[0-9]\.[0-9]{1,9}"),
    ),
    Path: _text("a path", units.parse_path, minLength=1),
    HostPort: _text("an address with a port", units.parse_host_port, units.HOST_PORT_PATTERN),
    Network: _text("a network", units.parse_network, units.NETWORK_PATTERN),
    Rate: _text('a rate such as "60/1m"', units.parse_rate, units.RATE_PATTERN),
    ByteRate: _text('a rate such as "10MiB/1m"', units.parse_byte_rate, units.BYTE_RATE_PATTERN),
    HostPattern: _text("a pattern", units.parse_host_pattern, minLength=1),
    AnswerRange: _text("answers of a DNS list", units.parse_answers, units.ANSWERS_PATTERN),
    Domain: _text("a domain", units.parse_domain_name, minLength=1),
    DomainPattern: _text('a domain or "*." with a domain', units.parse_domain_pattern, minLength=1),
    RoutePattern: _text("a pattern", units.parse_route_pattern, minLength=1),
}

LEAF_TYPES = tuple(_KINDS)
"""Types that have a kind by themselves, besides enums."""

Duration: TypeAlias = Annotated[float, DURATION]
"""Seconds; written as `"90s"`, `"5m"`, `"1h30m"`, `"5d"`, `"500ms"`."""
ByteSize: TypeAlias = Annotated[int, SIZE]
"""Octets; written as `4096`, `"256KiB"`, `"50MiB"`."""
Table: TypeAlias = Annotated[dict[str, Any], TABLE]
"""Settings that others know, such as those of a plugin."""


@functools.cache
def _enum_kind(choices: type[enum.StrEnum]) -> Kind:
    values = [choice.value for choice in choices]

    def read(text: str) -> enum.StrEnum:
        if text not in values:
            raise BadValue(f"{shown(text)} is not one of {', '.join(values)}", did_you_mean(text, values))
        return choices(text)

    return Kind(f"one of {', '.join(values)}", (str,), read, str, {"type": "string", "enum": values})


def leaf_of(annotation: Any) -> Leaf | None:
    """The leaf that a field's type stands for, or None where it is a section or an array."""
    base, rules = annotation, ()
    if get_origin(annotation) is Annotated:
        base, *notes = get_args(annotation)
        kinds = [note for note in notes if isinstance(note, Kind)]
        rules = tuple(note for note in notes if not isinstance(note, Kind))
        if kinds:
            return Leaf(kinds[0], rules)
    if isinstance(base, type) and issubclass(base, enum.StrEnum):
        return Leaf(_enum_kind(base), rules)
    kind = _KINDS.get(base)
    return Leaf(kind, rules) if kind else None


def without_none(annotation: Any) -> Any:
    """`X` for `X | None`; any other type as it is."""
    if get_origin(annotation) in (types.UnionType, Union) and type(None) in get_args(annotation):
        (inner,) = (part for part in get_args(annotation) if part is not type(None))
        return inner
    return annotation


def element_of(annotation: Any) -> Any | None:
    """`X` for `tuple[X, ...]`, else None."""
    return get_args(annotation)[0] if get_origin(annotation) is tuple else None
