"""The translation while it is being made: settings of elemta, and what could not be translated."""

from __future__ import annotations

import re
from typing import Any

import attrs

from ..units import BadValue, format_duration, parse_domain_pattern, parse_network
from .files import Setting

_TIME = re.compile(r"([0-9]+)([smhdw]?)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@attrs.frozen
class Remark:
    """What somebody has to look at: where, which parameter, what was done or left, and what to do."""

    place: str
    """`file:line`."""
    name: str
    text: str
    remedy: str = ""
    translated: bool = False
    """Whether it was translated, though not to quite the same."""

    def __str__(self) -> str:
        return f"{self.place}: {self.name}: {self.text}" + (f"; {self.remedy}" if self.remedy else "")


@attrs.define(eq=False)
class Draft:
    """Grows while parameters are read. Values are plain: text, numbers, lists, tables."""

    values: dict[str, str]
    """All parameters with their values filled in, defaults included, to look others up."""
    settings: dict[str, Any] = attrs.field(factory=dict)
    """By section; the key of the first level is empty."""
    listeners: list[dict[str, Any]] = attrs.field(factory=list)
    routes: list[dict[str, Any]] = attrs.field(factory=list)
    """In the order in which they match."""
    remarks: list[Remark] = attrs.field(factory=list)

    def set(self, path: str, value: object) -> None:
        """Set `section.name`; a name alone is of the first level."""
        section, _, name = path.rpartition(".")
        self.settings.setdefault(section, {})[name] = value

    def append(self, path: str, *values: object) -> None:
        """Add to a list, each value once."""
        section, _, name = path.rpartition(".")
        present = self.settings.setdefault(section, {}).setdefault(name, [])
        present += [value for value in values if value not in present]

    def get(self, path: str) -> Any:
        section, _, name = path.rpartition(".")
        return self.settings.get(section, {}).get(name)

    def remark(self, place: str, name: str, text: str, remedy: str) -> None:
        """Say what is to be looked at of something that is no parameter."""
        self.remarks.append(Remark(place, name, text, remedy))

    def leave(self, setting: Setting, text: str, remedy: str) -> None:
        """Say that something was not translated."""
        self.remarks.append(Remark(setting.place, setting.name, text, remedy))

    def note(self, setting: Setting, text: str, remedy: str = "") -> None:
        """Say that something was translated to what is not quite the same."""
        self.remarks.append(Remark(setting.place, setting.name, text, remedy, translated=True))


def seconds(setting: Setting, value: str, unit: str = "s") -> float:
    """A time of Postfix; `unit` is that of a plain number.

    Raises:
      BadValue: it is none.
    """
    match = _TIME.fullmatch(value)
    if match is None:
        raise BadValue(f"{value!r} is no time")
    return float(int(match[1]) * _SECONDS[match[2] or unit])


def duration(setting: Setting, value: str, unit: str = "s") -> str:
    """The same as elemta writes it."""
    return format_duration(seconds(setting, value, unit))


def domain(text: str) -> str | None:
    """A domain, or `.example.org` as `*.example.org`; None for what is neither."""
    pattern = f"*{text}" if text.startswith(".") else text
    try:
        return str(parse_domain_pattern(pattern))
    except BadValue:
        return None


def network(text: str) -> str | None:
    """A network without Postfix's brackets; None for what is none."""
    try:
        return str(parse_network(text.replace("[", "").replace("]", "")))
    except BadValue:
        return None


def is_table(text: str) -> bool:
    """`hash:/etc/postfix/x`, a path, or a word with a colon that is no address."""
    return text.startswith("/") or re.match(r"[a-z_]+:", text) is not None
