"""The file of a memo: one table in an SQLite database of its own, used from threads.

`synchronous=NORMAL`: a power cut may lose the last seconds, never the file. Nothing here is mail.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import apsw

APPLICATION_ID = 0x454C4D4D
"""`ELMM`: tells our file from any other SQLite database."""
SCHEMA = 1

_SETTINGS = {
    "journal_mode": "WAL",
    "synchronous": "NORMAL",
    "mmap_size": "0",
    "temp_store": "MEMORY",
    "trusted_schema": "OFF",
    "cell_size_check": "ON",
    "journal_size_limit": str(4 * 1024 * 1024),
    "cache_size": "-2048",
}
_READER_SETTINGS = ("mmap_size", "temp_store", "trusted_schema", "cell_size_check", "cache_size")
_BUSY_MILLISECONDS = 1000
_TABLES = """
CREATE TABLE memo (
    namespace TEXT NOT NULL,
    rest TEXT NOT NULL,
    value BLOB NOT NULL,
    expires REAL NOT NULL,
    PRIMARY KEY (namespace, rest)
) WITHOUT ROWID;
CREATE INDEX memo_by_expiry ON memo (namespace, expires);
"""
_LAST_TO_EXPIRE = "SELECT value FROM memo WHERE namespace = ? AND expires > ? ORDER BY expires DESC LIMIT ?"
# SQLite as it is built has no DELETE … LIMIT.
_DELETE_SOONEST = """
DELETE FROM memo WHERE (namespace, rest) IN (
    SELECT namespace, rest FROM memo WHERE namespace = ? AND expires <= ? ORDER BY expires LIMIT ?
)
"""

Key: TypeAlias = tuple[str, str]
"""Namespace and rest."""
Entry: TypeAlias = tuple[bytes, float]
"""Value and time of expiry."""


class MemoDamaged(Exception):
    """The file is no sound database. What was in it is worth nothing; begin anew."""


class MemoUnusable(Exception):
    """The file cannot be used for now, or is not ours; it must be left as it is."""


class MemoFile:
    """A file that is open. `read` may run in one thread while another one runs the rest."""

    def __init__(self, path: Path) -> None:
        """Open the file, or make it.

        Raises:
          MemoDamaged, MemoUnusable: see there.
        """
        self.path = path
        try:
            _make_private(path)
            self._writer = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        except (OSError, apsw.Error) as cause:
            raise MemoUnusable(str(cause)) from cause
        try:
            _prepare(self._writer)
            self._reader = _open_reader(path)
            rows = self._writer.execute("SELECT namespace, count(*) FROM memo GROUP BY namespace")
            self.counts: dict[str, int] = {str(namespace): int(count) for namespace, count in rows}
            """Entries of each namespace, whether expired or not."""
        except apsw.Error as cause:
            self._writer.close(True)
            raise translate(cause) from cause
        except MemoUnusable:
            self._writer.close(True)
            raise

    def read(self, key: Key) -> Entry | None:
        """One entry.

        Raises:
          MemoDamaged, MemoUnusable: see there.
        """
        try:
            row = self._reader.execute(
                "SELECT value, expires FROM memo WHERE namespace = ? AND rest = ?", key
            ).fetchone()
        except apsw.Error as cause:
            raise translate(cause) from cause
        return None if row is None else (bytes(row[0]), float(row[1]))

    def read_all(self, namespace: str, after: float, limit: int) -> list[bytes]:
        """Values of a namespace that expire after a time, the last of them first.

        Raises:
          MemoDamaged, MemoUnusable: see there.
        """
        try:
            rows = self._reader.execute(_LAST_TO_EXPIRE, (namespace, after, limit))
            return [bytes(value) for (value,) in rows]
        except apsw.Error as cause:
            raise translate(cause) from cause

    def write(self, changes: Mapping[Key, Entry | None]) -> None:
        """Store all of it in one transaction; None forgets. After an error none of it is stored.

        Raises:
          MemoDamaged, MemoUnusable: see there.
        """
        counts = dict(self.counts)
        try:
            with self._writer:
                for (namespace, rest), entry in changes.items():
                    counts[namespace] = counts.get(namespace, 0) + self._write_one(namespace, rest, entry)
        except apsw.Error as cause:
            raise translate(cause) from cause
        self.counts = counts

    def _write_one(self, namespace: str, rest: str, entry: Entry | None) -> int:
        """By how much that changes the number of entries."""
        if entry is None:
            self._writer.execute("DELETE FROM memo WHERE namespace = ? AND rest = ?", (namespace, rest))
            return -self._writer.changes()
        self._writer.execute(
            "UPDATE memo SET value = ?, expires = ? WHERE namespace = ? AND rest = ?",
            (*entry, namespace, rest),
        )
        if self._writer.changes():
            return 0
        self._writer.execute("INSERT INTO memo VALUES (?, ?, ?, ?)", (namespace, rest, *entry))
        return 1

    def delete_until(self, namespace: str, expires: float, limit: int) -> int:
        """Delete up to `limit` entries of a namespace that expire until then, the soonest first; how many.

        Raises:
          MemoDamaged, MemoUnusable: see there.
        """
        try:
            self._writer.execute(_DELETE_SOONEST, (namespace, expires, limit))
        except apsw.Error as cause:
            raise translate(cause) from cause
        deleted = self._writer.changes()
        self.counts[namespace] = self.counts.get(namespace, 0) - deleted
        return deleted

    def close_reader(self) -> None:
        """First of the two; in the thread that reads."""
        with contextlib.suppress(apsw.Error):
            self._reader.close(True)

    def close(self) -> None:
        """Write what is in the log into the file and close it."""
        with contextlib.suppress(apsw.Error):
            self._writer.close(True)


def set_aside(path: Path) -> Path:
    """Move a damaged file out of the way, and what belongs to it; returns where it is now.

    Raises:
      MemoUnusable: that is not possible.
    """
    aside = path.with_name(f"{path.name}.damaged")
    try:
        path.replace(aside)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    except OSError as cause:
        raise MemoUnusable(str(cause)) from cause
    return aside


def translate(error: apsw.Error) -> MemoDamaged | MemoUnusable:
    """What an error of SQLite means for a memo."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, (apsw.NotADBError, apsw.CorruptError, apsw.SQLError)):
        return MemoDamaged(text)
    return MemoUnusable(text)


def _make_private(path: Path) -> None:
    # SQLite would make it as the umask allows, and gives -wal and -shm the mode of this file.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def _prepare(connection: apsw.Connection) -> None:
    connection.set_busy_timeout(_BUSY_MILLISECONDS)
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").get
    application, version = connection.pragma("application_id"), connection.pragma("user_version")
    if tables and application != APPLICATION_ID:
        raise MemoUnusable("it is the database of another program")
    if version > SCHEMA:
        raise MemoUnusable("it was made by a newer version of this program")
    for name, value in _SETTINGS.items():
        connection.pragma(name, value)
    if not tables:
        with connection:
            connection.execute(_TABLES)
            connection.pragma("application_id", APPLICATION_ID)
            connection.pragma("user_version", SCHEMA)


def _open_reader(path: Path) -> apsw.Connection:
    connection = apsw.Connection(
        f"{path.absolute().as_uri()}?mode=ro", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    )
    connection.set_busy_timeout(_BUSY_MILLISECONDS)
    for name in _READER_SETTINGS:
        connection.pragma(name, _SETTINGS[name])
    return connection
