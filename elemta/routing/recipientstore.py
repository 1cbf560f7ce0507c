"""The table of recipients: an SQLite file with the same as the recipients file, read anew for each question.

    recipients   domain (as in DNS, small letters), local_part (small letters; empty: everybody there),
                 targets: as behind the colon in the file; empty: it is a mailbox of its own

Blocking, and for one thread at a time. What other programs commit is seen by the next question. The journal
is SQLite's oldest kind: with it the server needs no right to write, neither the file nor beside it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import apsw

from elemta.mail import Domain, Mailbox

from .recipients import MAX_TARGETS, Entry, Key, RecipientsFileError, RecipientTable, parse_key, parse_targets

T = TypeVar("T")

APPLICATION_ID: Final = 0x454C4D52
"""`ELMR`: tells our file from any other SQLite database."""
SCHEMA: Final = 1

_MAX_ROWS: Final = 10 * MAX_TARGETS
"""Looked for in one question: a web of aliases that is larger is a mistake."""
_BUSY_MILLISECONDS: Final = 1000
_TABLES: Final = """
CREATE TABLE recipients (
    domain TEXT NOT NULL,
    local_part TEXT NOT NULL,
    targets TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (domain, local_part)
) WITHOUT ROWID;
"""


class RecipientsUnavailable(Exception):
    """Who exists cannot be found out now, or a row is wrong: nothing may be refused for good, and nothing
    taken."""


class RecipientStore:
    """A table that is read, in front of it the recipients file, whose lines come first."""

    def __init__(
        self, path: Path, file: RecipientTable | None, delimiter: str, is_ours: Callable[[str], bool]
    ) -> None:
        """Open the table. Only the domains that `is_ours` is true for are looked for in it.

        Raises:
          RecipientsFileError: it is not there, others may write it, or it is no table of recipients.
        """
        self._path = path
        self._file = file
        self._delimiter = delimiter
        self._is_ours = is_ours
        self._inode = (0, 0)
        self._connection: apsw.Connection | None = None
        self._open()

    def ask(self, question: Callable[[RecipientTable], T]) -> T:
        """The answer to a question, of one state of the table. After an error it is opened anew.

        Raises:
          RecipientsUnavailable: see there.
        """
        try:
            connection = self._current()
            connection.execute("BEGIN")
            try:
                rows = _Rows(connection, self._file, self._is_ours)
                return question(RecipientTable(rows, self._delimiter, listed=_Listed(rows)))
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        except apsw.BusyError as cause:
            raise RecipientsUnavailable(f"{self._path}: somebody else is changing it") from cause
        except apsw.Error as cause:
            self._close()
            raise RecipientsUnavailable(f"{self._path}: {cause}") from cause
        except RecipientsFileError as error:
            raise RecipientsUnavailable(str(error)) from error
        except UnicodeDecodeError as error:  # SQLite keeps what others write, whether it is text or not
            raise RecipientsUnavailable(f"{self._path}: a row is no UTF-8 text") from error
        except RecipientsUnavailable as error:
            raise RecipientsUnavailable(f"{self._path}: {error}") from error

    def _current(self) -> apsw.Connection:
        try:
            replaced = _inode(os.stat(self._path)) != self._inode
        except OSError as error:
            raise RecipientsUnavailable(error.strerror) from error
        if self._connection is None or replaced:
            self._close()
            self._open()
        assert self._connection is not None
        return self._connection

    def _open(self) -> None:
        self._inode = _inode(_checked(self._path))
        self._connection = _connect(self._path, apsw.SQLITE_OPEN_READONLY)

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close(True)


class _Rows(Mapping[Key, Entry]):
    """Entries as they are asked for."""

    def __init__(
        self, connection: apsw.Connection, file: RecipientTable | None, is_ours: Callable[[str], bool]
    ) -> None:
        self._connection = connection
        self._file = file
        self._is_ours = is_ours
        self._left = _MAX_ROWS
        self._listed: dict[str, bool] = {}

    def __getitem__(self, key: Key) -> Entry:
        if self._file is not None and (found := self._file.entries.get(key)) is not None:
            return found
        if not self.is_listed(key[1]):
            raise KeyError(key)
        self._left -= 1
        if self._left < 0:
            raise RecipientsUnavailable(f"an alias leads to more than {_MAX_ROWS} addresses")
        query = "SELECT targets FROM recipients WHERE domain = ? AND local_part = ?"
        row = self._connection.execute(query, (key[1], key[0])).fetchone()
        if row is None:
            raise KeyError(key)
        try:
            return Entry(0, parse_targets(str(row[0]), Domain(key[1])))
        except ValueError as error:
            raise RecipientsUnavailable(f"{key[0]}@{key[1]}: {error}") from error

    def is_listed(self, domain: str) -> bool:
        found = self._listed.get(domain)
        if found is None:
            found = self._listed[domain] = self._look(domain)
        return found

    def _look(self, domain: str) -> bool:
        if self._file is not None and domain in self._file.listed:
            return True
        if not self._is_ours(domain):
            return False
        query = "SELECT 1 FROM recipients WHERE domain = ? LIMIT 1"
        return self._connection.execute(query, (domain,)).fetchone() is not None

    def __iter__(self) -> Iterator[Key]:
        for domain, local_part in self._connection.execute("SELECT domain, local_part FROM recipients"):
            yield str(local_part), str(domain)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _Listed:
    """The domains that have an entry."""

    def __init__(self, rows: _Rows) -> None:
        self._rows = rows

    def __contains__(self, domain: object) -> bool:
        return isinstance(domain, str) and self._rows.is_listed(domain)


class RecipientsChange:
    """A change of the table that is under way."""

    def __init__(self, connection: apsw.Connection, delimiter: str) -> None:
        self._connection = connection
        self._delimiter = delimiter

    def put(self, address: str, targets: str = "") -> None:
        """Write `local@domain` or `@domain` in place of what there was of it.

        Raises:
          ValueError: it is no address, the targets are none, or lead only back to it. Nothing is written.
        """
        local_part, domain = parse_key(address)
        parse_targets(targets, Domain(domain))
        with self._connection:  # a savepoint: undone where it raises
            self._write(local_part, domain, targets)

    def _write(self, local_part: str, domain: str, targets: str) -> None:
        self._connection.execute(
            "INSERT INTO recipients VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET targets = excluded.targets",
            (domain, local_part, targets),
        )
        rows = _Rows(self._connection, None, lambda _: True)
        table = RecipientTable(rows, self._delimiter, listed=_Listed(rows))
        count = len(table.expand(Mailbox(local_part or "anybody", Domain(domain))))
        if count == 0:
            raise ValueError("this alias leads only back to itself: name a mailbox that exists")
        if count > MAX_TARGETS:
            raise ValueError(f"there are more than {MAX_TARGETS} mailboxes behind this alias")

    def remove(self, address: str) -> bool:
        """Whether it was there.

        Raises:
          ValueError: it is no address.
        """
        local_part, domain = parse_key(address)
        query = "DELETE FROM recipients WHERE domain = ? AND local_part = ? RETURNING 1"
        return self._connection.execute(query, (domain, local_part)).fetchone() is not None

    def all(self) -> Iterator[tuple[str, str]]:
        """Addresses with their targets."""
        query = "SELECT domain, local_part, targets FROM recipients ORDER BY domain, local_part"
        for domain, local_part, targets in self._connection.execute(query):
            address = str(Mailbox(local_part, Domain(domain))) if local_part else f"@{domain}"
            yield address, str(targets)


@contextmanager
def edit_recipients(path: Path, delimiter: str) -> Iterator[RecipientsChange]:
    """Change the table in a `with` block: all of it at the end, or nothing where the block raised.

    A file that is not there is made. A crash leaves the old rows or the new ones.

    Raises:
      RecipientsFileError: the file cannot be used as it is.
      RecipientsUnavailable: it is being changed by somebody else, or cannot be written.
    """
    # SQLite leaves an empty file behind where its first change is not committed.
    fresh = not path.exists() or _checked(path).st_size == 0
    try:
        flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if fresh else 0)
        connection = _connect(path, flags, fresh=fresh)
        try:
            connection.execute("BEGIN IMMEDIATE")
            if fresh and connection.pragma("application_id") != APPLICATION_ID:  # nobody was faster
                connection.execute(_TABLES)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {SCHEMA}")
            yield RecipientsChange(connection, delimiter)
            connection.execute("COMMIT")
        finally:
            connection.close(True)  # what was not committed is undone
    except apsw.BusyError as cause:
        raise RecipientsUnavailable(f"{path}: somebody else is changing it") from cause
    except apsw.Error as cause:
        raise RecipientsUnavailable(f"{path}: {cause}") from cause
    except UnicodeDecodeError as cause:
        raise RecipientsUnavailable(f"{path}: a row is no UTF-8 text") from cause


def _connect(path: Path, flags: int, *, fresh: bool = False) -> apsw.Connection:
    try:
        connection = apsw.Connection(str(path), flags=flags)
        connection.set_busy_timeout(_BUSY_MILLISECONDS)
        for setting in (
            "trusted_schema = OFF",
            "cell_size_check = ON",
            "mmap_size = 0",
            "temp_store = MEMORY",
        ):
            connection.execute(f"PRAGMA {setting}")
        known = fresh or connection.pragma("application_id") == APPLICATION_ID
        version = SCHEMA if fresh else connection.pragma("user_version")
    except apsw.Error as cause:
        raise RecipientsFileError(path, [(0, f"cannot be read: {cause}")]) from cause
    if not known:
        connection.close(True)
        raise RecipientsFileError(path, [(0, "is no table of recipients: 'elemta recipients set' makes one")])
    if version != SCHEMA:
        connection.close(True)
        raise RecipientsFileError(path, [(0, f"is of another version than {SCHEMA}")])
    return connection


def _checked(path: Path) -> os.stat_result:
    try:
        facts = os.stat(path)
    except OSError as error:
        raise RecipientsFileError(path, [(0, error.strerror or str(error))]) from error
    if facts.st_mode & 0o002:
        raise RecipientsFileError(path, [(0, "everybody may write it: chmod o-w")])
    return facts


def _inode(facts: os.stat_result) -> tuple[int, int]:
    return (facts.st_dev, facts.st_ino)
