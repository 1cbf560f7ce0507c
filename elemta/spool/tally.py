"""Counts by day and text, in an SQLite file of their own: for reports. Bounded, and nothing here is mail."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

import apsw

TallyKey: TypeAlias = tuple[str, str, str]
_BUSY_MILLISECONDS = 1000
_TABLES = """
CREATE TABLE IF NOT EXISTS tally (
    day INTEGER NOT NULL,
    subject TEXT NOT NULL,
    setting TEXT NOT NULL,
    finding TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (day, subject, setting, finding)
) WITHOUT ROWID;
"""


class TallyError(Exception):
    """The file cannot be used now."""


class Tally:
    """A file that is opened for each use: that is once in a minute. Blocking: use a thread.

    A damaged file is moved aside; what was in it is lost, which costs a report.
    """

    def __init__(self, path: Path, rows: int) -> None:
        self._path = path
        self._rows = rows

    def add(self, day: int, counts: Iterable[tuple[TallyKey, int]]) -> int:
        """Add to the counts of a day; how many rows were dropped because there are too many.

        Raises:
          TallyError: nothing was added.
        """
        dropped = 0
        with self._open() as connection, connection:
            (room,) = next(iter(connection.execute("SELECT ? - count(*) FROM tally", (self._rows,))))
            for key, count in counts:
                connection.execute(
                    "UPDATE tally SET count = count + ? WHERE day = ? AND subject = ? AND setting = ? "
                    "AND finding = ?",
                    (count, day, *key),
                )
                if connection.changes():
                    continue
                if room <= 0:
                    dropped += 1
                    continue
                room -= 1
                connection.execute("INSERT INTO tally VALUES (?, ?, ?, ?, ?)", (day, *key, count))
        return dropped

    def before(self, day: int) -> list[tuple[int, TallyKey, int]]:
        """All rows of earlier days, sorted by day and subject.

        Raises:
          TallyError: see there.
        """
        with self._open() as connection:
            return [
                (found, (subject, setting, finding), count)
                for found, subject, setting, finding, count in connection.execute(
                    "SELECT day, subject, setting, finding, count FROM tally WHERE day < ? "
                    "ORDER BY day, subject",
                    (day,),
                )
            ]

    def forget(self, day: int, subject: str) -> None:
        """Delete what a day has of a subject.

        Raises:
          TallyError: see there.
        """
        with self._open() as connection:
            connection.execute("DELETE FROM tally WHERE day = ? AND subject = ?", (day, subject))

    @contextlib.contextmanager
    def _open(self) -> Iterator[apsw.Connection]:
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            os.close(descriptor)
            connection = apsw.Connection(str(self._path))
        except (OSError, apsw.Error) as cause:
            raise TallyError(f"{self._path}: {cause}") from cause
        try:
            connection.set_busy_timeout(_BUSY_MILLISECONDS)
            connection.execute(_TABLES)
            yield connection
        except (apsw.NotADBError, apsw.CorruptError) as cause:
            with contextlib.suppress(OSError):
                os.replace(self._path, self._path.with_suffix(".damaged"))
            raise TallyError(f"{self._path}: damaged, moved aside") from cause
        except apsw.Error as cause:
            raise TallyError(f"{self._path}: {cause}") from cause
        finally:
            connection.close()
