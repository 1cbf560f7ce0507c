"""Postfix's files as it reads them: main.cf, master.cf and tables in text (postconf(5), master(5)); pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import attrs

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_REFERENCE = re.compile(r"\$\{((?:[^{}]|\{[^{}]*\})*)\}|\$\(([^()]*)\)|\$([A-Za-z0-9_]+)")
_MOST_EXPANSIONS, _LONGEST = 100, 64 * 1024
"""Of one value, and its characters: a parameter may name itself, and twice."""


class PostfixSyntaxError(ValueError):
    """A line that Postfix would not take either; the text names file and line."""


@attrs.frozen
class Setting:
    """One parameter as it is written."""

    name: str
    value: str
    file: str
    line: int
    """Where it begins, from 1."""

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"


@attrs.frozen
class Service:
    """One service of master.cf."""

    name: str
    """`smtp`, `587`, `127.0.0.1:10025`."""
    kind: str
    """`inet`, `unix`, `fifo`, `pass`."""
    command: str
    options: tuple[Setting, ...]
    """What `-o` sets in place of main.cf."""
    arguments: tuple[str, ...]
    """The others."""
    file: str
    line: int

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"


def read_main(text: str, file: str) -> dict[str, Setting]:
    """The parameters of a main.cf, or of what `postconf -n` prints; of those set twice the last.

    Raises:
      PostfixSyntaxError: a line is no setting.
    """
    found: dict[str, Setting] = {}
    for line, text_line in logical_lines(text):
        name, equals, value = text_line.partition("=")
        name = name.strip()
        if not equals or not _NAME.fullmatch(name):
            raise PostfixSyntaxError(f"{file}:{line}: is not NAME = VALUE")
        found[name] = Setting(name, value.strip(), file, line)
    return found


def read_master(text: str, file: str) -> list[Service]:
    """The services of a master.cf.

    Raises:
      PostfixSyntaxError: a line is no service.
    """
    found = []
    for line, text_line in logical_lines(text):
        words = _words(text_line)
        if len(words) < 8:
            raise PostfixSyntaxError(f"{file}:{line}: a service has eight fields")
        options: list[Setting] = []
        arguments: list[str] = []
        rest = iter(words[8:])
        for word in rest:
            if word != "-o" and not (word.startswith("-o") and len(word) > 2):
                arguments.append(word)
                continue
            name, _, value = (next(rest, "") if word == "-o" else word[2:]).partition("=")
            options.append(Setting(name.strip(), value.strip(), file, line))
        found.append(Service(words[0], words[1], words[7], tuple(options), tuple(arguments), file, line))
    return found


def read_table(text: str) -> Iterator[tuple[int, str, str]]:
    """Line, key and value of a table in text, as of `hash:` before postmap (postmap(1))."""
    for line, text_line in logical_lines(text):
        key, _, value = text_line.strip().partition(" ")
        if key.startswith('"') and text_line.strip().count('"') >= 2:
            key, _, value = text_line.strip()[1:].partition('"')
        yield line, key, value.strip()


def logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with those that go on with them, without comments and empty ones (postconf(5))."""
    begun, parts = 0, [""]
    for number, line in enumerate(text.replace("\r\n", "\n").expandtabs(1).split("\n"), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line.startswith(" ") and begun:
            parts.append(line.strip())
            continue
        if begun:
            yield begun, " ".join(parts)
        begun, parts = number, [line.strip()]
    if begun:
        yield begun, " ".join(parts)


def expand(value: str, values: Mapping[str, str]) -> str:
    """The value with `$name`, `${name}`, `${name?text}` and `${name:text}` filled in; unknown: empty."""
    left = _MOST_EXPANSIONS
    value = value.replace("\0", "").replace("$$", "\0")

    def fill(match: re.Match[str]) -> str:
        nonlocal left
        name = match[1] if match[1] is not None else match[2] if match[2] is not None else match[3]
        for mark in "?:":
            head, found, text = name.partition(mark)
            if found:
                said = values.get(head.strip(), "") != ""
                return text.strip().strip("{}").strip() if said is (mark == "?") else ""
        return values.get(name.strip(), "")

    while "$" in value and left > 0 and len(value) < _LONGEST:
        left -= 1
        fresh = _REFERENCE.sub(fill, value)
        if fresh == value:
            break
        value = fresh
    return value.replace("\0", "$")


def split_list(value: str) -> list[str]:
    """The parts of a list: commas and blanks separate, braces hold together."""
    return [" ".join(word.split()) for word in _words(value.replace(",", " "))]


def _words(text: str) -> list[str]:
    words: list[str] = []
    depth, word = 0, ""
    for character in text:
        if character == "{":
            depth += 1
        elif character == "}":
            depth = max(0, depth - 1)
        if character == " " and depth == 0:
            if word:
                words.append(word.strip("{} ") if word.startswith("{") else word)
            word = ""
        else:
            word += character
    if word:
        words.append(word.strip("{} ") if word.startswith("{") else word)
    return words
