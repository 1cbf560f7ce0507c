"""The suppression list: addresses to which nothing is to be sent, and some that may never be put on it.

An SQLite file of its own in the state folder, for the server and for commands beside it. The list is kept
here; whether and for whose mail it counts, and what is put on it by itself, is a plugin's to decide
(docs/decisions/0016).

    suppressed   address (small letters), never (0 or 1), why, source: who put it there,
                 since and until: seconds since the epoch; until NULL: for ever
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar, TypeVarTuple

import apsw
import attrs

from elemta.runtime import ThreadPool, WallClock, run_in_thread

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

SUPPRESSION_FILE: Final = "suppression.sqlite"
"""In the state folder."""
APPLICATION_ID: Final = 0x454C4D53
"""`ELMS`: tells our file from any other SQLite database."""
SCHEMA: Final = 1
LONGEST_ADDRESS: Final = 320
LONGEST_WHY: Final = 500
_BUSY_MILLISECONDS: Final = 2000
_SWEEP: Final = 1000
"""Entries whose time is over that a change deletes on its way."""
_TABLES: Final = """
CREATE TABLE suppressed (
    address TEXT NOT NULL PRIMARY KEY,
    never INTEGER NOT NULL CHECK (never IN (0, 1)),
    why TEXT NOT NULL,
    source TEXT NOT NULL,
    since REAL NOT NULL,
    until REAL
) WITHOUT ROWID;
CREATE INDEX suppressed_until ON suppressed (until) WHERE until IS NOT NULL;
"""
_FIND: Final = """
SELECT address, never, why, source, since, until FROM suppressed
WHERE address = ? AND (until IS NULL OR until > ?)
"""
_PAGE: Final = """
SELECT address, never, why, source, since, until FROM suppressed
WHERE address > ? AND (until IS NULL OR until > ?) AND (? = '' OR instr(address, ?))
ORDER BY address LIMIT ?
"""
_PUT: Final = """
INSERT OR REPLACE INTO suppressed (address, never, why, source, since, until) VALUES (?, ?, ?, ?, ?, ?)
"""
# What an operator has said for ever, or that it may never be on the list, no bounce changes.
_ADD: Final = """
INSERT INTO suppressed (address, never, why, source, since, until) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (address) DO UPDATE SET never = excluded.never, why = excluded.why, source = excluded.source,
    since = excluded.since, until = excluded.until
WHERE suppressed.until <= excluded.since OR (NOT suppressed.never AND suppressed.until IS NOT NULL)
"""
_DELETE_OLD: Final = """
DELETE FROM suppressed WHERE address IN (SELECT address FROM suppressed WHERE until <= ? LIMIT ?)
"""


class SuppressionUnavailable(Exception):
    """The list cannot be read or changed now."""


@attrs.frozen
class Suppressed:
    """One address of the list."""

    address: str
    """In small letters."""
    why: str = ""
    source: str = "operator"
    """Who put it there: `operator`, or the name of a plugin."""
    since: float = 0.0
    """Seconds since the epoch."""
    until: float | None = None
    """None: until somebody takes it off."""
    never: bool = False
    """Nothing is suppressed: it may not be put on the list by itself."""


def suppression_key(address: str) -> str:
    """The form in which addresses are compared: large letters are as small ones, in mailboxes, too."""
    return address.lower()


class SuppressionFile:
    """The file, blocking; for one thread at a time. It is made by the first change, not by questions.

    All methods raise SuppressionUnavailable; nothing has changed then.
    """

    def __init__(self, path: Path | None) -> None:
        """Without a path it is in memory only."""
        self._path = path
        self._connection: apsw.Connection | None = None

    def find(self, address: str, now: float) -> Suppressed | None:
        """What the list says of the address."""
        with self._using(make=False) as connection:
            if connection is None:
                return None
            row = connection.execute(_FIND, (suppression_key(address), now)).fetchone()
            return None if row is None else _entry(row)

    def page(self, now: float, *, after: str, limit: int, search: str = "") -> list[Suppressed]:
        """Up to `limit` entries behind that address, by address; only those that have `search` in it."""
        with self._using(make=False) as connection:
            if connection is None:
                return []
            bounds = (suppression_key(after), now, search.lower(), search.lower(), limit)
            rows = connection.execute(_PAGE, bounds)
            return [_entry(row) for row in rows]

    def put(self, entries: Sequence[Suppressed], now: float) -> None:
        """Put these on the list, each in the place of what was there: all of them, on the disk, or none."""
        with self._changing(now) as connection:
            connection.executemany(_PUT, map(_row, entries))

    def add(self, entry: Suppressed, now: float) -> bool:
        """The same for what is found out by itself; whether it is on the list now because of that.

        An entry without an end, or one that says never, stays as it is.
        """
        with self._changing(now) as connection:
            connection.execute(_ADD, _row(entry))
            return connection.changes() > 0

    def remove(self, addresses: Iterable[str], now: float) -> int:
        """Take these off the list; how many were on it."""
        with self._using(make=False) as there:
            if there is None:
                return 0
        with self._changing(now) as connection:
            count = 0
            for address in addresses:
                connection.execute("DELETE FROM suppressed WHERE address = ?", (suppression_key(address),))
                count += connection.changes()
            return count

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close(True)

    @contextmanager
    def _changing(self, now: float) -> Iterator[apsw.Connection]:
        with self._using(make=True) as connection:
            assert connection is not None
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.execute(_DELETE_OLD, (now, _SWEEP))
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    @contextmanager
    def _using(self, *, make: bool) -> Iterator[apsw.Connection | None]:
        try:
            yield self._open(make=make)
        except apsw.BusyError as cause:
            raise SuppressionUnavailable(f"{self._path}: somebody else is changing it") from cause
        except apsw.Error as cause:
            self.close()  # what is wrong with the file may be gone when it is opened anew
            raise SuppressionUnavailable(f"{self._path}: {cause}") from cause
        except OSError as cause:
            raise SuppressionUnavailable(f"{self._path}: {cause.strerror or cause}") from cause

    def _open(self, *, make: bool) -> apsw.Connection | None:
        if self._connection is not None:
            return self._connection
        if self._path is not None:
            if not make and not self._path.exists():
                return None
            _make_private(self._path)
        connection = apsw.Connection(":memory:" if self._path is None else str(self._path))
        try:
            _prepare(connection)
        except BaseException:
            connection.close(True)
            raise
        self._connection = connection
        return connection


class Suppression:
    """The list for the server: the file behind a thread of its own. Cancelling is safe: a change that was
    begun is made."""

    def __init__(self, path: Path | None, clock: WallClock) -> None:
        self._file = SuppressionFile(path)
        self._clock = clock
        self._pool = ThreadPool("suppression", 1)

    async def find(self, address: str) -> Suppressed | None:
        """See `SuppressionFile`, as for the others."""
        return await self._work(self._file.find, address, self._clock.time())

    async def page(self, *, after: str, limit: int, search: str = "") -> list[Suppressed]:
        def look() -> list[Suppressed]:
            return self._file.page(self._clock.time(), after=after, limit=limit, search=search)

        return await self._work(look)

    async def put(self, entries: Sequence[Suppressed]) -> None:
        await self._work(self._file.put, entries, self._clock.time())

    async def add(self, address: str, why: str, source: str, seconds: float | None) -> bool:
        """Put an address on the list for so long, None: for ever; whether it is on it because of that."""
        now = self._clock.time()
        until = None if seconds is None else now + seconds
        entry = Suppressed(suppression_key(address), why, source, now, until)
        return await self._work(self._file.add, entry, now)

    async def remove(self, addresses: Iterable[str]) -> int:
        return await self._work(self._file.remove, addresses, self._clock.time())

    def close(self) -> None:
        """For when nobody asks any more. Blocking."""
        self._file.close()

    async def _work(self, work: Callable[[*Ts], T], *args: *Ts) -> T:
        return await run_in_thread(self._pool, work, *args)


def _row(entry: Suppressed) -> tuple[str, int, str, str, float, float | None]:
    return (
        suppression_key(entry.address)[:LONGEST_ADDRESS],
        int(entry.never),
        entry.why[:LONGEST_WHY],
        entry.source,
        entry.since,
        entry.until,
    )


def _entry(row: Sequence[object]) -> Suppressed:
    address, never, why, source, since, until = row
    return Suppressed(
        str(address),
        str(why),
        str(source),
        float(str(since)),
        None if until is None else float(str(until)),
        bool(never),
    )


def _make_private(path: Path) -> None:
    # SQLite would make it as the umask allows, and gives -wal and -shm the mode and owner of this file. What
    # root makes is for the server that owns the folder.
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    try:
        folder = path.parent.stat()
        if os.geteuid() == 0 and folder.st_uid != 0:
            os.fchown(descriptor, folder.st_uid, folder.st_gid)
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def _prepare(connection: apsw.Connection) -> None:
    """Raises SuppressionUnavailable, apsw.Error."""
    connection.set_busy_timeout(_BUSY_MILLISECONDS)
    for setting in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "trusted_schema = OFF",
        "cell_size_check = ON",
        "mmap_size = 0",
    ):
        connection.execute(f"PRAGMA {setting}")
    if connection.pragma("application_id") == 0:
        connection.execute("BEGIN IMMEDIATE")
        if connection.pragma("schema_version") == 0:  # nobody else was quicker
            connection.execute(_TABLES)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA}")
        connection.execute("COMMIT")
    if connection.pragma("application_id") != APPLICATION_ID:
        raise SuppressionUnavailable("it is the database of another program")
    if connection.pragma("user_version") != SCHEMA:
        raise SuppressionUnavailable(f"it is of another version than {SCHEMA}")
