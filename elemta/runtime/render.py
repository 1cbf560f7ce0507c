"""Log records as lines: JSON for machines, a console form for people.

A record is a dict with `time` (seconds since 1970), `level` and `type` first. Whatever a stranger put
into a value, a line stays one line and carries no control character and no escape sequence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import msgspec

from .clock import rfc3339
from .text import escape_text

Record: TypeAlias = Mapping[str, Any]  # Any: values are whatever was logged
Renderer: TypeAlias = Callable[[Record], bytes]
"""A record as whole lines in UTF-8; may raise for values it cannot show."""

_LONGEST_VALUE = 1000
_LONGEST_LIST = 20

_encode = msgspec.json.Encoder(enc_hook=repr).encode

# JSON itself escapes only C0. DEL, C1, line separators and what turns text round are legal in it, but a
# log is also looked at in terminals. In UTF-8 these byte sequences are always whole characters.
_UNSAFE = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\x8b-\x8f\xa8-\xae]|\xe2\x81[\xa0-\xaf]|\xef\xbb\xbf")


def render_json(record: Record) -> bytes:
    """One JSON object on one line, `time` as RFC 3339."""
    line = _encode(_with_time(record))
    if not line.isascii() or b"\x7f" in line:
        line = _UNSAFE.sub(lambda match: b"\\u%04x" % ord(match[0].decode()), line)
    return line + b"\n"


class ConsoleRenderer:
    """Lines for people: time, level, what, then names with values; a traceback follows indented."""

    _COLOURS = {"debug": "2", "info": "32", "warning": "33", "error": "31"}  # noqa: RUF012 - constant

    def __init__(self, *, colour: bool, times: bool = True) -> None:
        self._colour = colour
        """Only ever true for a terminal."""
        self._times = times
        """Time and level, which some places have beside the line."""

    def __call__(self, record: Record) -> bytes:
        values = dict(_with_time(record))
        time = str(values.pop("time"))[11:23]
        level = str(values.pop("level", ""))
        kind = str(values.pop("type", ""))
        head = str(values.pop("text", kind)) if kind == "log" else kind
        trace = values.pop("exception", None)
        parts = [self._paint("1", escape_text(head, _LONGEST_VALUE))]
        if self._times:
            painted = self._paint(self._COLOURS.get(level, "0"), f"{escape_text(level):<7}")
            parts = [self._paint("2", time), painted, *parts]
        parts += [
            self._paint("2", escape_text(str(key)) + "=") + _shown(value) for key, value in values.items()
        ]
        lines = [" ".join(parts)]
        if trace is not None:
            lines += ["    " + escape_text(line) for line in str(trace).splitlines()]
        return ("\n".join(lines) + "\n").encode()

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text


def plain_record(record: Record) -> dict[str, Any]:  # Any: str, int, float, bool and None
    """The record with only short plain values, for one that could not be rendered or was too long."""
    return {
        escape_text(_text(key), 100): _plain(value)
        for key, value in list(record.items())[: 5 * _LONGEST_LIST]
    }


def _with_time(record: Record) -> Record:
    time = record["time"]
    return record if isinstance(time, str) else {**record, "time": rfc3339(time)}


def _shown(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ",".join(_shown(item) for item in value) or "[]"
    if isinstance(value, dict):
        return ",".join(f"{_shown(key)}:{_shown(item)}" for key, item in value.items()) or "{}"
    text = escape_text(str(value))
    if not text or " " in text or '"' in text or "," in text:
        return '"' + text.replace('"', '\\"') + '"'
    return text


def _plain(value: object) -> object:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (list, tuple)):
        items = [escape_text(_text(item), _LONGEST_VALUE) for item in value[:_LONGEST_LIST]]
        return [*items, f"and {len(value) - _LONGEST_LIST} more"] if len(value) > _LONGEST_LIST else items
    if type(value) is dict:
        pairs = list(value.items())[:_LONGEST_LIST]
        return {escape_text(_text(key), _LONGEST_VALUE): _plain_number(item) for key, item in pairs}
    return escape_text(_text(value), _LONGEST_VALUE)


def _plain_number(value: object) -> object:
    return value if isinstance(value, (int, float)) else escape_text(_text(value), _LONGEST_VALUE)


def _text(value: object) -> str:
    if type(value) is str:
        return value
    try:
        return str(value)
    except Exception as failure:
        return f"<{type(value).__name__}: its text raises {type(failure).__name__}>"
