"""What is wrong with a configuration, said so that it can be mended without asking."""

from __future__ import annotations

import re

import attrs

from .positions import KeyPath

_BARE = re.compile(r"[A-Za-z0-9_-]{1,60}")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@attrs.frozen
class ConfigProblem:
    """One mistake: where, what, and if it can be told, how to write it."""

    file: str
    line: int
    """From 1; 0 where the file as a whole is meant."""
    path: str
    """`listeners[1].role`; empty where no setting is meant."""
    reason: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        parts = [place, self.path, self.reason] if self.path else [place, self.reason]
        text = ": ".join(parts) + (f"; {self.hint}" if self.hint else "")
        return _UNPRINTABLE.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


class ConfigError(Exception):
    """A configuration that cannot be used, with everything that is wrong with it, in order of lines."""

    def __init__(self, problems: tuple[ConfigProblem, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


def path_text(path: KeyPath) -> str:
    """`listeners[1].role`; a key that is no bare one is quoted."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
            continue
        key = step if _BARE.fullmatch(step) else repr(step[:60])
        text += f".{key}" if text else key
    return text
