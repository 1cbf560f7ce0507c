"""Whether everything in the SQLite store agrees: the counters, the owners of recipients, the bodies."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from elemta.mail import MessageId

from .folder import BODIES, SPOOL
from .values import Difference

Query = Callable[..., Any]  # Any: columns have the types of the schema

YOUNG_FILE = 3600.0
"""Seconds for which a body file without a message may be on its way in."""

_COUNTS = """SELECT
  (SELECT accepted FROM counter), (SELECT delivered + failed + expired + removed FROM counter),
  (SELECT count(*) FROM recipient WHERE state = 1), (SELECT count(*) FROM recipient WHERE state = 0),
  (SELECT messages FROM counter), (SELECT count(*) FROM message),
  (SELECT octets FROM counter), (SELECT coalesce(sum(size), 0) FROM message),
  (SELECT ended FROM counter), (SELECT count(*) FROM ended)"""

# Each finds what must not be: the id of a message (or its number), and a detail.
_CHECKS = (
    (
        "limbo",
        """SELECT m.id, r.address || ' is queued, with neither a lease nor a due time'
         FROM recipient r LEFT JOIN message m ON m.seq = r.message WHERE r.state = 0 AND r.due IS NULL""",
    ),
    (
        "limbo",
        """SELECT m.id, r.address || ' is held or final, with a lease or a due time'
         FROM recipient r LEFT JOIN message m ON m.seq = r.message
         WHERE r.state > 0 AND (r.due IS NOT NULL OR r.lease <> 0)""",
    ),
    (
        "orphan",
        """SELECT r.message, r.address || ' belongs to no message' FROM recipient r
         WHERE NOT EXISTS (SELECT 1 FROM message m WHERE m.seq = r.message)""",
    ),
    (
        "pending",
        """SELECT id, found || ' of its recipients are not final where ' || pending || ' are counted'
         FROM (SELECT m.id, m.pending, (SELECT count(*) FROM recipient r
          WHERE r.message = m.seq AND r.state <= 1) AS found FROM message m)
         WHERE found <> pending OR found = 0""",
    ),
    (
        "body",
        """SELECT m.id, 'its body is missing' FROM message m
         WHERE m.inline AND NOT EXISTS (SELECT 1 FROM body b WHERE b.seq = m.seq)""",
    ),
    (
        "orphan",
        """SELECT b.seq, 'a body without a message' FROM body b
         WHERE NOT EXISTS (SELECT 1 FROM message m WHERE m.seq = b.seq AND m.inline)""",
    ),
    (
        "parked",
        """SELECT m.id, 'it is not in the indexes of the backlog' FROM message m WHERE NOT m.parked
         AND EXISTS (SELECT 1 FROM recipient r WHERE r.message = m.seq AND r.state <= 1 AND r.lease = 0)""",
    ),
)


def audit(query: Query, limit: int) -> list[Difference]:
    """All differences inside the database, at most `limit` of each kind."""
    differences = list(_counts(query(_COUNTS).fetchone()))
    for kind, statement in _CHECKS:
        for message, detail in query(f"{statement} LIMIT ?", (limit,)):
            differences.append(Difference(kind, detail, "" if message is None else str(message)))
    return differences


def _counts(row: tuple[int, ...]) -> Iterator[Difference]:
    accepted, final, held, queued, *pairs = row
    if accepted != final + held + queued:
        yield Difference(
            "count",
            f"{accepted} recipients were accepted; {final} are final, {held} held and {queued} queued: "
            f"{accepted - final - held - queued:+d}",
        )
    for name, counted, found in zip(("messages", "octets", "ended"), pairs[::2], pairs[1::2], strict=True):
        if counted != found:
            yield Difference("count", f"{name}: {counted} are counted and {found} are there")


def audit_files(folder: Path, expected: Mapping[MessageId, int], *, before: float) -> list[Difference]:
    """Compare the folder of body files with what the database says. A file without a message that was
    changed after `before` may be on its way in, and one that was expected may be gone with its message."""
    differences = []
    found: dict[str, int] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            found[entry.name] = status.st_size
            if entry.name not in expected and status.st_mtime < before:
                differences.append(Difference("orphan", "a body file without a message", entry.name))
    for message, size in expected.items():
        if message not in found:
            differences.append(Difference("body", "its body file is missing", message))
        elif found[message] != size:
            differences.append(
                Difference(
                    "body", f"its body file has {found[message]} octets where {size} were stored", message
                )
            )
    return differences


def audit_folder(state_dir: Path, expected: Mapping[MessageId, int], limit: int) -> list[Difference]:
    """The body files of a spool that no server runs on, or that one does: then what is young is left out."""
    before = time.time() - YOUNG_FILE
    return audit_files(state_dir / SPOOL / BODIES, expected, before=before)[:limit]
