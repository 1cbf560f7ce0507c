"""A conflict between settings that are each in order."""

from __future__ import annotations

import attrs

from .positions import KeyPath


@attrs.frozen
class Contradiction:
    """A conflict seen at `path`. It says nothing while a value of `path` or `others` is itself mistaken."""

    path: KeyPath
    reason: str
    hint: str = ""
    others: tuple[KeyPath, ...] = ()
