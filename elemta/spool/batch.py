"""One batch of the SQLite store: its transaction, its counters, how its operations fail and are undone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar, TypeVarTuple

import apsw

from elemta.mail import MessageId

from .clues import note_late, read_frontier
from .database import abandon, open_database, open_readonly, translate
from .errors import BatchSpoiled, SpoolError, SpoolFull, SpoolUnavailable
from .queries import SqliteReader, stored_message
from .selection import bindings, recipients_sql
from .values import Aftermath, Corrupt, QueueFilter, RecipientState, StoredMessage

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

DATABASE = "spool.db"
"""Name in the spool folder."""

_DELETE_RECIPIENTS = "DELETE FROM recipient WHERE message = ?"
_DELETE_MESSAGE = "DELETE FROM message WHERE seq = ?"
_DELETE_BODY = "DELETE FROM body WHERE seq = ?"
_CLAIMED_MESSAGE = "SELECT id, details, prefix, size, digest, received FROM message WHERE seq = ?"
HOLD = """UPDATE recipient SET state = 1, due = NULL, lease = 0, hold = NULL, reason = ?
 WHERE message = ? AND position = ?"""
PARK = "UPDATE message SET parked = 1 WHERE seq = ? AND NOT parked"
_COUNT = """UPDATE counter SET accepted = accepted + ?, delivered = delivered + ?, failed = failed + ?,
 expired = expired + ?, removed = removed + ?, messages = messages + ?, octets = octets + ?,
 ended = ended + ?"""

# Places in the list of what a batch adds to the counters.
ACCEPTED, MESSAGES, OCTETS, ENDED = 0, 5, 6, 7
_NOTHING = (0,) * 8


def place(state: RecipientState) -> int:
    """DELIVERED, FAILED, EXPIRED, REMOVED are 2 to 5 and stand behind `accepted`."""
    return int(state) - 1


class SqliteBatch(SqliteReader):
    """What all operations share: the one read-write connection of a spool folder."""

    def __init__(self, connection: apsw.Connection, directory: Path) -> None:
        super().__init__(connection)
        self.directory: Path | None = directory
        self.keeps_ended = True
        self._cursor = connection.cursor()
        self._execute: Callable[..., Any] = self._cursor.execute
        self._added = list(_NOTHING)
        self._gone: list[MessageId] = []
        self._corrupt: list[Corrupt] = []
        self._written = 0
        self._broken = False
        self._careful = False
        self._frontiers = {living: read_frontier(self._execute, living) for living in (True, False)}
        """Up to which place the index of searches goes, or is about to."""

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Open the database in the folder, making it where there is none.

        Raises what `open_database` raises.
        """
        return cls(open_database(directory / DATABASE), directory)

    def open_reader(self) -> SqliteReader:
        assert self.directory is not None
        return SqliteReader(open_readonly(self.directory / DATABASE))

    def begin(self, *, careful: bool = False) -> None:
        self._careful = careful
        self._run("BEGIN IMMEDIATE")

    def seal(self) -> None:
        if self._added != list(_NOTHING):
            self._run(_COUNT, self._added)
            self._added = list(_NOTHING)

    def commit(self) -> None:
        self.seal()
        self._run("COMMIT")

    def rollback(self) -> None:
        self._added = list(_NOTHING)
        self._gone.clear()
        self._corrupt.clear()
        if self._connection.in_transaction:  # SQLite itself rolls back when the disk is full
            self._run("ROLLBACK")

    def take_aftermath(self) -> Aftermath:
        aftermath = Aftermath(tuple(self._gone), tuple(self._corrupt))
        self._gone.clear()
        self._corrupt.clear()
        return aftermath

    @property
    def checkpoint_size(self) -> int:
        # Pages written to the log since it last began anew; SQLite tells the exact number only
        # through a callback in the middle of COMMIT.
        return self._connection.status(apsw.SQLITE_DBSTATUS_CACHE_WRITE)[0] - self._written

    def checkpoint(self) -> None:
        size = self.checkpoint_size
        try:
            log, moved = self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.BusyError:
            return
        except apsw.Error as cause:
            raise self._failure(cause) from cause
        # Only when all is moved does the next commit begin the log anew; a reader can hold that up.
        self._written += size if moved >= log else size - log

    def close(self) -> None:
        if self._broken:
            abandon(self._connection)
        else:
            self._connection.close()

    # What operations are made of

    def _delete(self, id: MessageId, seq: int, size: int, inline: int) -> None:
        self._execute(_DELETE_RECIPIENTS, (seq,))
        self._execute(_DELETE_MESSAGE, (seq,))
        if inline:
            self._execute(_DELETE_BODY, (seq,))
        else:
            self._gone.append(id)
        self._added[MESSAGES] -= 1
        self._added[OCTETS] -= size

    def _count_ended(self, number: int | None) -> None:
        """The history of a message is kept under that number, if under any."""
        if number is not None:
            self._added[ENDED] += 1
            if number <= self._frontiers[False]:
                note_late(self._execute, False, number)

    def _claimed(self, seq: int, positions: Iterable[int]) -> StoredMessage | None:
        """The message of what is about to be claimed; held where it is damaged."""
        row = self._execute(_CLAIMED_MESSAGE, (seq,)).fetchone()
        try:
            return stored_message(row)
        except ValueError as problem:
            self._each(HOLD, (("corrupt", seq, position) for position in positions))
            self._execute(PARK, (seq,))
            self._corrupt.append(Corrupt(row[0], f"its envelope is damaged: {problem}"))
            return None

    def _matching(self, which: QueueFilter) -> list[tuple[Any, ...]]:
        """Message, position, state, lease, address and reason of what matches."""
        values = bindings(which) | {"after": -1, "until": None}
        rows = self._execute(recipients_sql(which.messages is not None), values).fetchall()
        if which.test is None:
            return rows  # type: ignore[no-any-return]
        return [row for row in rows if which.test.address(row[4])]

    def _each(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        for row in rows:
            self._execute(statement, row)

    def _run(self, statement: str, values: Sequence[object] = ()) -> None:
        try:
            self._execute(statement, values)
        except apsw.Error as cause:
            raise self._failure(cause) from cause

    def _guarded(self, operation: Callable[[*Ts], T], *values: *Ts) -> T:
        """Run an operation so that it happens wholly or not at all, whatever becomes of the batch.

        A savepoint makes SQLite keep a copy of each page that is changed, a fifth of the time of an
        accepted message. Few operations fail, and nearly all of those before they change anything; so
        savepoints are for the batch in which one failed later, run once more.
        """
        changes = self._connection.total_changes()
        try:
            return self._in_savepoint(operation, values) if self._careful else operation(*values)
        except Exception as cause:
            error = self._operation_error(cause)
            if (
                not self._careful
                and self._connection.total_changes() != changes
                and not isinstance(error, (SpoolFull, SpoolUnavailable))
            ):
                raise BatchSpoiled from cause
            if error is cause:
                raise
            raise error from cause

    def _in_savepoint(self, operation: Callable[[*Ts], T], values: tuple[*Ts]) -> T:
        before = tuple(self._added), len(self._gone), len(self._corrupt)
        self._run("SAVEPOINT operation")
        try:
            result = operation(*values)
        except BaseException:
            self._added = list(before[0])
            del self._gone[before[1] :]
            del self._corrupt[before[2] :]
            if self._connection.in_transaction:
                self._run("ROLLBACK TO operation")
                self._run("RELEASE operation")
            raise
        self._run("RELEASE operation")
        return result

    def _operation_error(self, error: Exception) -> Exception:
        if isinstance(error, apsw.Error):
            return self._failure(error)
        if isinstance(error, (UnicodeError, OverflowError)):
            return SpoolError(f"cannot be stored: {type(error).__name__}")
        return error

    def _failure(self, error: apsw.Error) -> SpoolError:
        failure = translate(error, self._connection)
        self._broken |= isinstance(failure, SpoolUnavailable)
        return failure
