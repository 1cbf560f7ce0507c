"""Where each key and array element of a TOML document stands.

`tomllib` keeps no positions, so the text is walked a second time. The walk is only for documents
that `tomllib` has accepted: it looks for where things begin and end, not for mistakes.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Mapping
from typing import TypeAlias

import attrs

KeyPath: TypeAlias = tuple[str | int, ...]
"""Keys and indexes from the root to a value: `("listeners", 1, "role")`."""

MAX_DEPTH = 8
"""Deeper places are not recorded: no setting is there, and a long dotted key would fill the memory."""

_BLANK = re.compile(r"[ \t]*")
_VOID = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\n]*")
_STRINGS = {
    # a multi-line string may end in up to two quotes of its own before the three that close it
    '"""': re.compile(r'"""(?:[^"\\]|\\.|"(?!"")|""(?!"))*?"{3,5}', re.DOTALL),
    "'''": re.compile(r"'''.*?'{3,5}", re.DOTALL),
    '"': re.compile(r'"(?:[^"\\\n]|\\.)*"'),
    "'": re.compile(r"'[^'\n]*'"),
}
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)")
_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\"}


@attrs.frozen
class Positions:
    """Line numbers, from 1, of what a document contains."""

    lines: Mapping[KeyPath, int]

    def line(self, path: KeyPath) -> int:
        """The line of the value at `path`, or of the nearest thing around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines[path] if path else 1


def find_positions(text: str) -> Positions:
    """Walk a valid TOML document.

    Raises:
      RecursionError: arrays are nested deeper than Python can follow.
    """
    return Positions(_Walk(text.replace("\r\n", "\n")).document())


class _Walk:
    """One pass over the text; `at` is the next character."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self._lines: dict[KeyPath, int] = {}
        self._lengths: dict[KeyPath, int] = {}
        """Elements so far of each array of tables."""

    def document(self) -> dict[KeyPath, int]:
        base: KeyPath = ()
        while True:
            self._skip(_VOID)
            if self._at >= len(self._text):
                return self._lines
            base = self._header() if self._text[self._at] == "[" else self._pair(base)

    def _header(self) -> KeyPath:
        """`[a.b]` or `[[a.b]]`; returns the path that the pairs after it belong to."""
        many = self._text.startswith("[[", self._at)
        self._at += 2 if many else 1
        line = self._line()
        keys = self._key()
        self._at += 2 if many else 1
        path: KeyPath = ()
        for key in keys:
            path = self._inside(path, key)
            self._note(path, line, only_if_new=True)
        if not many:
            self._note(path, line)  # a header of its own is a better place than `[a.b]` for `a`
            return path
        index = self._lengths.get(path, 0)
        self._lengths[path] = index + 1
        path = _deeper(path, index)
        self._note(path, line)
        return path

    def _inside(self, path: KeyPath, key: str) -> KeyPath:
        """The path of `key` in a table, or in the last table of an array of them."""
        if path in self._lengths:
            path = _deeper(path, self._lengths[path] - 1)
        return _deeper(path, key)

    def _pair(self, base: KeyPath) -> KeyPath:
        """`key = value`, also inside an inline table; returns `base`."""
        line = self._line()
        path = base
        for key in self._key():
            path = _deeper(path, key)
            self._note(path, line, only_if_new=True)
        self._at += 1  # the equals sign
        self._skip(_BLANK)
        self._value(path)
        return base

    def _key(self) -> list[str]:
        """A dotted key with the blanks around it."""
        keys = []
        while True:
            self._skip(_BLANK)
            quote = self._text[self._at]
            if quote in "\"'":
                raw = self._skip(_STRINGS[quote])[1:-1]
                keys.append(_ESCAPE.sub(_unescape, raw) if quote == '"' else raw)
            else:
                keys.append(self._skip(_BARE_KEY))
            self._skip(_BLANK)
            if self._text[self._at] != ".":
                return keys
            self._at += 1

    def _value(self, path: KeyPath) -> None:
        first = self._text[self._at]
        if first == "[":
            self._array(path)
        elif first == "{":
            self._inline_table(path)
        elif first in "\"'":
            triple = self._text[self._at : self._at + 3]
            self._skip(_STRINGS.get(triple, _STRINGS[first]))
        else:
            self._skip(_SCALAR)

    def _array(self, path: KeyPath) -> None:
        self._at += 1
        index = 0
        while True:
            self._skip(_VOID)
            if self._text[self._at] == "]":
                self._at += 1
                return
            element = _deeper(path, index)
            self._note(element, self._line())
            self._value(element)
            self._skip(_VOID)
            if self._text[self._at] == ",":
                self._at += 1
            index += 1

    def _inline_table(self, path: KeyPath) -> None:
        self._at += 1
        while True:
            self._skip(_VOID)
            if self._text[self._at] == "}":
                self._at += 1
                return
            self._pair(path)
            self._skip(_VOID)
            if self._text[self._at] == ",":
                self._at += 1

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        assert match is not None, "the document was accepted by tomllib"
        self._at = match.end()
        return match[0]

    def _line(self) -> int:
        return bisect.bisect_right(self._starts, self._at)

    def _note(self, path: KeyPath, line: int, *, only_if_new: bool = False) -> None:
        if len(path) <= MAX_DEPTH and not (only_if_new and path in self._lines):
            self._lines[path] = line


def _deeper(path: KeyPath, step: str | int) -> KeyPath:
    return (*path, step) if len(path) <= MAX_DEPTH else path


def _unescape(match: re.Match[str]) -> str:
    code = match[1]
    return chr(int(code[1:], 16)) if len(code) > 1 else _ESCAPES[code]
