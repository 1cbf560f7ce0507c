"""The table of accounts: an SQLite file of its own, which `elemta user` and other programs change. Blocking.

    accounts   name, disabled (0 or 1), send_as: patterns with blanks between them
    secrets    account, credential (`password` or `app:LABEL`), hash, scram, sealed: as in the users file

The names are those of the users file, and each row is read as strictly as a line of it. The journal is
SQLite's oldest kind: with it the server needs no right to write, neither the file nor beside it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from .keyfile import AuthFilesError, Ownership, check_private
from .passwords import Cost
from .users import Secret, UserRecord, UsersFile, parse_line

APPLICATION_ID = 0x454C4D41
"""`ELMA`: tells our file from any other SQLite database."""
SCHEMA = 1
SAMPLE = 1000
"""Accounts by which it is told what most of them cost."""

_BUSY_MILLISECONDS = 1000
_TABLES = """
CREATE TABLE accounts (
    name TEXT NOT NULL PRIMARY KEY,
    disabled INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1)),
    send_as TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE TABLE secrets (
    account TEXT NOT NULL REFERENCES accounts (name) ON DELETE CASCADE ON UPDATE CASCADE,
    credential TEXT NOT NULL DEFAULT 'password',
    hash TEXT NOT NULL,
    scram TEXT,
    sealed TEXT,
    PRIMARY KEY (account, credential)
) WITHOUT ROWID;
"""
_ACCOUNT = "SELECT name, disabled, send_as FROM accounts"
_SECRETS = """
SELECT credential, hash, scram, sealed FROM secrets WHERE account = ?
ORDER BY credential != 'password', credential
"""


class TableUnusable(Exception):
    """The table cannot be read or changed now, or has a row that is none; the text has no secret in it."""


class RowWrong(TableUnusable):
    """A row is none; the others may be."""


class UserTable:
    """A table that is open. For one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Open the table for reading.

        Raises:
          AuthFilesError: it is not there, open to others, or no table of accounts.
        """
        self.path = path
        self._inode = _inode(_checked(path))
        try:
            self._connection = _connect(path, apsw.SQLITE_OPEN_READONLY)
            _require_ours(path, self._connection)
        except apsw.Error as cause:
            raise AuthFilesError(path, f": cannot be read: {cause}") from cause

    def close(self) -> None:
        self._connection.close(True)

    @property
    def replaced(self) -> bool:
        """Whether the path is another file by now."""
        try:
            return _inode(os.stat(self.path)) != self._inode
        except OSError:
            return True

    def version(self) -> int:
        """Another number whenever somebody has changed the table.

        Raises:
          TableUnusable: see there; also the other methods.
        """
        with _translated(self.path):
            return int(self._connection.pragma("data_version"))

    def read(self, name: str) -> UserRecord | None:
        """The account of that name."""
        with _translated(self.path):
            return _read(self._connection, name)

    def all(self) -> UsersFile:
        """All accounts by name.

        Raises:
          AuthFilesError: names every account that is wrong.
        """
        with _translated(self.path), _snapshot(self._connection):
            found, problems = _read_all(self._connection, "SELECT name FROM accounts ORDER BY name")
        if problems:
            raise AuthFilesError(self.path, *(f": {problem}" for problem in problems))
        return found

    def usual(self, cost: Cost, iterations: int) -> tuple[Cost, int]:
        """What most of the first accounts cost, and their SCRAM count."""
        with _translated(self.path), _snapshot(self._connection):
            # a row with a mistake lets nobody in as that account; the others are none the worse for it
            sample, _ = _read_all(self._connection, "SELECT name FROM accounts LIMIT ?", SAMPLE)
        return sample.usual_cost(cost), sample.usual_iterations(iterations)


class TableChange:
    """A change of the table that is under way."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def find(self, name: str) -> UserRecord | None:
        return _read(self._connection, name)

    def put(self, record: UserRecord) -> None:
        """Write the account in place of the one of its name."""
        name = record.account.name
        patterns = " ".join(map(str, record.account.send_as))
        self._connection.execute(
            "INSERT INTO accounts VALUES (?, ?, ?) "
            "ON CONFLICT (name) DO UPDATE SET disabled = excluded.disabled, send_as = excluded.send_as",
            (name, int(record.disabled), patterns),
        )
        self._connection.execute("DELETE FROM secrets WHERE account = ?", (name,))
        self._connection.executemany(
            "INSERT INTO secrets VALUES (?, ?, ?, ?, ?)", [_row(name, secret) for secret in record.secrets]
        )

    def remove(self, name: str) -> None:
        self._connection.execute("DELETE FROM accounts WHERE name = ?", (name,))


@contextmanager
def edit_table(path: Path, ownership: Ownership) -> Iterator[TableChange]:
    """Change the table in a `with` block: all of it at the end, or nothing where the block raised.

    A file that is not there is made. A crash leaves the old rows or the new ones.

    Raises:
      AuthFilesError: the file cannot be used as it is.
      TableUnusable: it is being changed by somebody else, or cannot be written.
    """
    _make(path, ownership)
    _checked(path)
    with _translated(path):
        connection = _connect(path, apsw.SQLITE_OPEN_READWRITE)
        try:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("BEGIN IMMEDIATE")
            if connection.pragma("application_id") == 0 and connection.pragma("schema_version") == 0:
                connection.execute(_TABLES)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {SCHEMA}")
            _require_ours(path, connection)
            yield TableChange(connection)
            connection.execute("COMMIT")
        finally:
            connection.close(True)  # what was not committed is undone


def load_table(path: Path) -> UsersFile:
    """All accounts of a table.

    Raises:
      AuthFilesError: it cannot be used; names every account that is wrong.
      TableUnusable: see there.
    """
    table = UserTable(path)
    try:
        return table.all()
    finally:
        table.close()


def _make(path: Path, ownership: Ownership) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    except OSError as error:
        raise AuthFilesError(path, f": cannot be made: {error.strerror}") from error
    try:
        ownership.give(descriptor)
    finally:
        os.close(descriptor)


def _checked(path: Path) -> os.stat_result:
    try:
        facts = os.stat(path)
    except OSError as error:
        raise AuthFilesError(path, f": cannot be read: {error.strerror}") from error
    check_private(path, facts)
    return facts


def _inode(facts: os.stat_result) -> tuple[int, int]:
    return (facts.st_dev, facts.st_ino)


def _connect(path: Path, flags: int) -> apsw.Connection:
    connection = apsw.Connection(str(path), flags=flags)
    connection.set_busy_timeout(_BUSY_MILLISECONDS)
    for setting in ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0", "temp_store = MEMORY"):
        connection.execute(f"PRAGMA {setting}")
    return connection


def _require_ours(path: Path, connection: apsw.Connection) -> None:
    if connection.pragma("application_id") != APPLICATION_ID:
        raise AuthFilesError(path, ": is no table of accounts: 'elemta user add' makes one")
    if connection.pragma("user_version") != SCHEMA:
        raise AuthFilesError(path, f": is of another version than {SCHEMA}")


@contextmanager
def _snapshot(connection: apsw.Connection) -> Iterator[None]:
    """Many reads of one state."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except apsw.BusyError as cause:
        raise TableUnusable(f"{path}: somebody else is changing it") from cause
    except apsw.Error as cause:
        raise TableUnusable(f"{path}: {cause}") from cause


def _read(connection: apsw.Connection, name: str) -> UserRecord | None:
    row = connection.execute(f"{_ACCOUNT} WHERE name = ?", (name,)).fetchone()
    if row is None:
        return None
    words = [str(row[0])]
    if row[1]:
        words.append("disabled")
    words += [f"send-as={pattern}" for pattern in str(row[2]).split()]
    for credential, *forms in connection.execute(_SECRETS, (name,)):
        word = f"{credential}={';'.join(str(form) for form in forms if form is not None)}"
        if any(character.isspace() for character in word):
            raise RowWrong(f"account {name!r}: a secret has a blank")
        words.append(word)
    try:
        record = parse_line(" ".join(words))
    except ValueError as error:
        raise RowWrong(f"account {name!r}: {error}") from None
    # a name that is not prepared would be found by nobody, or by somebody else
    return record if record is not None and record.account.name == name else None


def _read_all(connection: apsw.Connection, query: str, *bindings: int) -> tuple[UsersFile, tuple[str, ...]]:
    """The accounts whose names the query gives, and what is wrong with the others."""
    found: dict[str, UserRecord] = {}
    problems = []
    for name in [str(name) for (name,) in connection.execute(query, bindings)]:
        try:
            record = _read(connection, name)
        except RowWrong as error:
            problems.append(str(error))
            continue
        if record is None:
            problems.append(f"account {name!r}: the name is not in small letters, so nobody can use it")
        else:
            found[name] = record
    return UsersFile(found), tuple(problems)


def _row(name: str, secret: Secret) -> tuple[str, str, str, str | None, str | None]:
    scram = None if secret.scram is None else secret.scram.format()
    return (name, secret.credential, secret.hash.format(), scram, secret.sealed)
