"""How much a memo keeps, and how it is going."""

from __future__ import annotations

import attrs


@attrs.frozen
class MemoLimits:
    """How much is remembered, for each namespace, and when it is written."""

    memory_entries: int = 10_000
    """In memory; without a usable file that is all there is."""
    memory_octets: int = 4 * 1024 * 1024
    file_entries: int = 500_000
    """In the file: some 70 MiB of greylisting."""
    pending: int = 20_000
    """Changes of all namespaces together that are not written yet; beyond that the oldest are not written."""
    write_pause: float = 1.0
    """Seconds in which changes gather."""
    sweep_pause: float = 30.0
    """Seconds between two looks for what has expired."""
    retry_pause: float = 60.0
    """Seconds until a file that cannot be used is tried again."""


DEFAULT_LIMITS = MemoLimits()


@attrs.frozen
class MemoStatistics:
    """What a memo holds now, and counts since the start."""

    in_memory: dict[str, int]
    """Entries by namespace."""
    in_file: dict[str, int]
    pending: int
    """Changes that are not written yet."""
    reads: int
    """Of the file."""
    dropped: int
    """Changes that were not written for want of room."""
    usable: bool
    """Whether there is a file behind it now."""
