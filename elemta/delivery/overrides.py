"""Limits of single destinations that an operator set beside the configuration, in a small file: they hold
until somebody clears them, restarts and reloads included."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from elemta.config import (
    BadValue,
    ByteRate,
    Rate,
    ShapingConfig,
    TransportKind,
    parse_byte_rate,
    parse_rate,
)
from elemta.runtime import write_private

OVERRIDES_FILE = "destination-limits.json"
"""In the state folder."""
MOST_OVERRIDES = 1000
LARGEST_COUNT: Final = 100_000
_COUNTS = ("concurrency", "recipients_per_transaction", "messages_per_connection")
_RATES = {"connection_rate": parse_rate, "message_rate": parse_rate, "byte_rate": parse_byte_rate}
SETTINGS = (*_COUNTS, *_RATES)
"""Of `[[shaping]]`, which can be set."""


class OverridesDamaged(Exception):
    """The file is there, and is none of ours."""


@attrs.frozen
class Override:
    """What was set for one destination."""

    settings: ShapingConfig
    since: float
    """Seconds since the epoch."""
    reason: str = ""

    def shown(self) -> dict[str, int | str]:
        """The settings as the configuration would say them."""
        values = ((name, getattr(self.settings, name)) for name in SETTINGS)
        return {
            name: str(value) if isinstance(value, Rate | ByteRate) else value
            for name, value in values
            if value is not None
        }


def may_have_limits(route: str) -> bool:
    """Whether a route of this name goes by limits at all."""
    return route.partition(":")[0] in (TransportKind.SMTP, TransportKind.LMTP)


def parse_override(given: Mapping[str, object]) -> ShapingConfig:
    """Settings as they are said: counts as numbers, rates as text.

    Raises:
      BadValue: one of them can be nothing, or there are none.
    """
    read: dict[str, Any] = {}
    for name, value in given.items():
        if name in _COUNTS:
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= LARGEST_COUNT:
                raise BadValue(f"{name} is a number from 1 to {LARGEST_COUNT}")
            read[name] = value
        elif name in _RATES:
            if not isinstance(value, str):
                raise BadValue(f"{name} is a rate, as a text")
            try:
                read[name] = _RATES[name](value)
            except BadValue as error:
                raise BadValue(f"{name}: {error}") from error
        else:
            raise BadValue(f"{name} cannot be set; what can is {', '.join(SETTINGS)}")
    if not read:
        raise BadValue(f"nothing is set; what can be is {', '.join(SETTINGS)}")
    return ShapingConfig(**read)


def read_overrides(state_dir: Path) -> dict[str, Override]:
    """What is set, by route; nothing where there is no file. Blocking.

    Raises:
      OverridesDamaged: it cannot be read.
    """
    file = state_dir / OVERRIDES_FILE
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
        return {
            str(route): Override(parse_override(each["limits"]), float(each["since"]), str(each["reason"]))
            for route, each in read["destinations"].items()
        }
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise OverridesDamaged(f"{file} cannot be read: {error}") from error


def write_overrides(state_dir: Path, overrides: Mapping[str, Override]) -> None:
    """Write them durably, or leave what was there. Blocking.

    Raises:
      OSError: nothing has changed.
    """
    plain = {
        route: {"limits": each.shown(), "since": each.since, "reason": each.reason}
        for route, each in sorted(overrides.items())
    }
    write_private(state_dir / OVERRIDES_FILE, json.dumps({"destinations": plain}, indent=1) + "\n")
