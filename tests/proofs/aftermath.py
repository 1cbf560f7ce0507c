"""What a spool holds when its server is gone: read without that server's help, and checked in every way.

Nothing is changed, so the next start finds what the crash left.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import apsw

from elemta.spool import QueueFilter, StoreReader, open_readonly_spool

from .ledger import body_digest, notice_about, subject_of

PAGE = 1000


@dataclass
class Aftermath:
    """The messages of a spool by the id that the ledger knows, and what is wrong with it."""

    stored: dict[str, str] = field(default_factory=dict)
    """Digest of the content behind the header, as `ledger.body_digest` makes it."""
    notices: set[str] = field(default_factory=set)
    """Ids that notices are about."""
    messages: int = 0
    faults: list[str] = field(default_factory=list)


def examine(state_dir: Path) -> Aftermath:
    """Look at every message and its body, at the counters, and at SQLite's own check of the whole file."""
    found = Aftermath()
    database = state_dir / "spool" / "spool.db"
    with open_readonly_spool(state_dir) as reader:
        _read_messages(reader, database.parent / "bodies", found)
        totals = reader.statistics()
    ended = totals.delivered + totals.failed + totals.expired + totals.removed
    if totals.accepted != ended + totals.held + totals.queued:
        found.faults.append(f"recipients in limbo: {totals}")
    if totals.messages != found.messages:
        found.faults.append(f"{totals.messages} messages are counted, {found.messages} are there")
    connection = apsw.Connection(
        f"file:{database}?mode=ro", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    )
    try:
        verdict = connection.pragma("integrity_check")
        orphans = connection.execute(
            """SELECT (SELECT count(*) FROM body WHERE seq NOT IN (SELECT seq FROM message)),
             (SELECT count(*) FROM recipient WHERE message NOT IN (SELECT seq FROM message)),
             (SELECT count(*) FROM message WHERE seq NOT IN (SELECT message FROM recipient))"""
        ).get
    finally:
        connection.close()
    if verdict != "ok":
        found.faults.append(f"integrity_check: {verdict}")
    if orphans != (0, 0, 0):
        found.faults.append(f"bodies, recipients, messages without the others: {orphans}")
    return found


def _read_messages(reader: StoreReader, bodies: Path, found: Aftermath) -> None:
    after = None
    while entries := reader.list(QueueFilter(), after=after, limit=PAGE):
        for entry in entries:
            message = reader.stored(entry.id)
            assert message is not None
            body = reader.body(entry.id)
            if body is None:
                try:
                    body = (bodies / entry.id).read_bytes()
                except OSError as error:
                    found.faults.append(f"{entry.id}: {error}")
                    continue
            # The digest that was stored with it (RELIABILITY D10), independently of what the sender noted.
            if hashlib.blake2b(body + message.prefix, digest_size=16).digest() != message.digest:
                found.faults.append(f"{entry.id}: the body does not match its digest")
            if len(body) + len(message.prefix) != message.size:
                found.faults.append(f"{entry.id}: {len(body)} octets of {message.size - len(message.prefix)}")
            found.messages += 1
            id_, notice = subject_of(body), notice_about(body)
            if id_ is not None:
                found.stored[id_] = body_digest(body)
            elif notice is not None:
                found.notices.add(notice[0])
            else:
                found.faults.append(f"{entry.id} is nobody's")
        after = entries[-1].id
