"""The store in one SQLite file: accepting, claiming and recording as statements of a batch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

import apsw

from elemta.mail import Cause, MessageId

from . import moving
from .database import abandon, open_database, open_readonly, translate
from .details import describe, encode_details, plain, sender_text, to_milliseconds
from .errors import BatchSpoiled, LeaseLost, SpoolError, SpoolFull, SpoolUnavailable
from .queries import SqliteReader, bindings, recipients_sql, stored_message
from .store import (
    Aftermath,
    AttemptRecord,
    Claim,
    ClaimedRecipient,
    Corrupt,
    NewMessage,
    QueueFilter,
    RecipientResult,
    RecipientState,
    Removal,
    Store,
)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

DATABASE = "spool.db"
"""Name in the spool folder."""

_QUEUED = int(RecipientState.QUEUED)
_HELD = int(RecipientState.HELD)

_INSERT_MESSAGE = """INSERT INTO message
 (id, received, size, inline, pending, sender, peer, digest, prefix, details)
 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_INSERT_BODY = "INSERT INTO body (seq, content) VALUES (?, ?)"
_INSERT_RECIPIENT = """INSERT INTO recipient
 (message, position, state, lease, due, attempts, interrupted, delay_noticed,
  address, domain, reason, reply, remote)
 VALUES (?, ?, ?, ?, ?, ?, 0, 0, ?, ?, ?, '', '')"""
_FIND_MESSAGE = "SELECT seq, pending, size, inline, NULL, NULL FROM message WHERE id = ?"
_FIND_BOTH = """SELECT m.seq, m.pending, m.size, m.inline, r.lease, r.hold FROM message AS m
 LEFT JOIN recipient AS r ON r.message = m.seq AND r.position = ? WHERE m.id = ?"""
_ENDED_MESSAGE = "SELECT id, pending, size, inline FROM message WHERE seq = ?"
_FIND_LEASE = "SELECT lease, hold FROM recipient WHERE message = ? AND position = ?"
_UPDATE_RECIPIENT = """UPDATE recipient SET state = ?, due = ?, lease = 0, hold = NULL,
 interrupted = CASE WHEN ? THEN interrupted + 1 ELSE 0 END, delay_noticed = max(delay_noticed, ?),
 last_attempt = ?, reason = ?, reply = ?, remote = ?
 WHERE message = ? AND position = ?"""
_UPDATE_PENDING = "UPDATE message SET pending = ? WHERE seq = ?"
_DELETE_RECIPIENTS = "DELETE FROM recipient WHERE message = ?"
_DELETE_MESSAGE = "DELETE FROM message WHERE seq = ?"
_DELETE_BODY = "DELETE FROM body WHERE seq = ?"
_DUE = """SELECT due, message, position, attempts, delay_noticed, interrupted, hold FROM recipient
 WHERE state = 0 AND lease = 0 AND due <= ? ORDER BY due, message, position LIMIT ?"""
_EXPIRED = """SELECT due, message, position, attempts, delay_noticed, interrupted + 1, hold FROM recipient
 WHERE lease <> 0 AND due <= ? ORDER BY due, message, position LIMIT ?"""
_TAKE = """UPDATE recipient SET lease = ?, due = ?, attempts = ?, interrupted = ?
 WHERE message = ? AND position = ?"""
_CLAIMED_MESSAGE = "SELECT id, details, prefix, size, digest, received FROM message WHERE seq = ?"
_HOLD = """UPDATE recipient SET state = 1, due = NULL, lease = 0, hold = NULL, reason = ?
 WHERE message = ? AND position = ?"""
_HOLD_LATER = "UPDATE recipient SET hold = ? WHERE message = ? AND position = ?"
_RELEASE = "UPDATE recipient SET state = 0, due = ?, interrupted = 0 WHERE message = ? AND position = ?"
_FORGET_HOLD = "UPDATE recipient SET hold = NULL WHERE message = ? AND position = ? AND hold IS NOT NULL"
_RETRY = "UPDATE recipient SET due = ? WHERE message = ? AND position = ?"
_REMOVE = "UPDATE recipient SET state = 5, due = NULL, reason = 'operator' WHERE message = ? AND position = ?"
_GIVE_BACK = """UPDATE recipient SET attempts = attempts - 1, lease = 0, hold = NULL,
 state = hold IS NOT NULL, due = CASE WHEN hold IS NULL THEN ? END, reason = coalesce(hold, ?)
 WHERE message = (SELECT seq FROM message WHERE id = ?) AND position = ? AND lease = ? AND lease <> 0"""
_EXTEND = """UPDATE recipient SET due = ?
 WHERE message = (SELECT seq FROM message WHERE id = ?) AND position = ? AND lease = ? AND lease <> 0"""
_RELEASE_LEASES = """UPDATE recipient SET lease = 0, interrupted = interrupted + 1, hold = NULL,
 state = hold IS NOT NULL, due = CASE WHEN hold IS NULL THEN ? END, reason = coalesce(hold, reason)
 WHERE lease <> 0"""
_COUNT = """UPDATE counter SET accepted = accepted + ?, delivered = delivered + ?, failed = failed + ?,
 expired = expired + ?, removed = removed + ?, messages = messages + ?, octets = octets + ?"""

# Places in the list of what a batch adds to the counters.
_ACCEPTED, _MESSAGES, _OCTETS = 0, 5, 6
_NOTHING = (0,) * 7


def _place(state: RecipientState) -> int:
    """DELIVERED, FAILED, EXPIRED, REMOVED are 2 to 5 and stand behind `accepted`."""
    return int(state) - 1


def _check_lease(
    record: AttemptRecord, result: RecipientResult, lease: int | None, hold: str | None
) -> str | None:
    """Whether the recipient is to be held, after making sure that the attempt still owns it."""
    if not lease or lease != result.lease:
        raise LeaseLost(f"recipient {result.index} of message {record.message} was given to someone else")
    return hold


class SqliteStore(SqliteReader, Store):
    """A store over the one read-write connection of a spool folder."""

    flushes = True

    def __init__(self, connection: apsw.Connection, directory: Path) -> None:
        super().__init__(connection)
        self.directory = directory
        self._cursor = connection.cursor()
        self._execute: Callable[..., Any] = self._cursor.execute
        self._added = list(_NOTHING)
        self._gone: list[MessageId] = []
        self._corrupt: list[Corrupt] = []
        self._written = 0
        self._broken = False
        self._careful = False

    @classmethod
    def open(cls, directory: Path) -> SqliteStore:
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

    # Accept

    def accept(self, message: NewMessage, *, lease: int | None, lease_until: float) -> None:
        self._guarded(self._accept, message, lease, lease_until)

    def _accept(self, message: NewMessage, lease: int | None, lease_until: float) -> None:
        envelope, body = message.envelope, message.body
        received = to_milliseconds(message.received)
        recipients = envelope.recipients
        self._execute(
            _INSERT_MESSAGE,
            (
                message.id,
                received,
                message.size,
                body is not None,
                len(recipients),
                sender_text(envelope.reverse_path),
                plain(message.origin.peer),
                message.digest,
                message.prefix,
                encode_details(envelope, message.origin),
            ),
        )
        seq = self._connection.last_insert_rowid()
        if body is not None:
            self._execute(_INSERT_BODY, (seq, body))
        due: int | None = to_milliseconds(message.first_due)
        state, number, attempts, reason = _QUEUED, 0, 0, message.first_reason
        if message.hold is not None:
            state, due, reason = _HELD, None, plain(message.hold)
        elif lease is not None:
            number, attempts, due = lease, 1, to_milliseconds(lease_until)
        for position, recipient in enumerate(recipients):
            mailbox = recipient.mailbox
            self._execute(
                _INSERT_RECIPIENT,
                (seq, position, state, number, due, attempts, str(mailbox), mailbox.domain.text, reason),
            )
        added = self._added
        added[_ACCEPTED] += len(recipients)
        added[_MESSAGES] += 1
        added[_OCTETS] += message.size

    # Record

    def record(
        self,
        record: AttemptRecord,
        now: float,
        *,
        notice_leases: Sequence[int | None] = (),
        lease_until: float = 0.0,
    ) -> bool:
        return self._guarded(self._record, record, now, notice_leases, lease_until)

    def _record(
        self, record: AttemptRecord, now: float, notice_leases: Sequence[int | None], lease_until: float
    ) -> bool:
        results = record.results
        if len(results) == 1:  # most are: one statement finds both
            row = self._execute(_FIND_BOTH, (results[0].index, record.message)).fetchone()
        else:
            row = self._execute(_FIND_MESSAGE, (record.message,)).fetchone()
        if row is None:
            raise LeaseLost(f"message {record.message} is gone")
        seq, pending, size, inline, lease, hold = row
        if len(results) == 1:
            holds = [_check_lease(record, results[0], lease, hold)]
        else:
            holds = [
                _check_lease(
                    record,
                    result,
                    *self._execute(_FIND_LEASE, (seq, result.index)).fetchone() or (None, None),
                )
                for result in results
            ]
        ended = sum(result.state.is_final for result in record.results)
        gone: bool = ended == pending
        if gone:
            self._delete(record.message, seq, size, inline)
        else:
            moment = to_milliseconds(now)
            for result, hold in zip(record.results, holds, strict=True):
                self._update(seq, result, hold, moment)
            if ended:
                self._execute(_UPDATE_PENDING, (pending - ended, seq))
        for result in record.results:
            if result.state.is_final:
                self._added[_place(result.state)] += 1
        for index, notice in enumerate(record.notices):
            lease = notice_leases[index] if index < len(notice_leases) else None
            self._accept(notice, lease, lease_until)
        return gone

    def _update(self, seq: int, result: RecipientResult, hold: str | None, moment: int) -> None:
        reason, reply, remote = describe(result.outcome)
        state, due = int(result.state), None
        if state == _QUEUED:
            if hold is not None:
                state, reason = _HELD, hold
            else:
                due = moment if result.due is None else to_milliseconds(result.due)
        elif result.hold is not None:
            reason = plain(result.hold)
        flags = result.crashed, result.delay_noticed
        self._execute(
            _UPDATE_RECIPIENT,
            (state, due, *flags, moment, reason, reply, remote, seq, result.index),
        )

    def _delete(self, id: MessageId, seq: int, size: int, inline: int) -> None:
        self._execute(_DELETE_RECIPIENTS, (seq,))
        self._execute(_DELETE_MESSAGE, (seq,))
        if inline:
            self._execute(_DELETE_BODY, (seq,))
        else:
            self._gone.append(id)
        self._added[_MESSAGES] -= 1
        self._added[_OCTETS] -= size

    # Claim

    def claim(self, limit: int, lease: int, now: float, lease_until: float) -> list[Claim]:
        return self._guarded(self._claim, limit, lease, to_milliseconds(now), to_milliseconds(lease_until))

    def _claim(self, limit: int, lease: int, now: int, until: int) -> list[Claim]:
        rows = self._execute(_DUE, (now, limit)).fetchall()
        expired = self._execute(_EXPIRED, (now, limit)).fetchall()
        if expired:
            rows = sorted(rows + expired, key=lambda row: row[:3])[:limit]
        by_message: dict[int, list[tuple[Any, ...]]] = {}
        for row in rows:
            _, message, position, *_, hold = row
            if hold is not None:  # was to be held when its attempt ended, and the attempt never did
                self._execute(_HOLD, (hold, message, position))
            else:
                by_message.setdefault(message, []).append(row)
        claims = []
        for message, taken in by_message.items():
            claim = self._take(message, taken, lease, until)
            if claim is not None:
                claims.append(claim)
        return claims

    def _take(self, seq: int, rows: list[tuple[Any, ...]], lease: int, until: int) -> Claim | None:
        row = self._execute(_CLAIMED_MESSAGE, (seq,)).fetchone()
        try:
            message = stored_message(row)
        except ValueError as problem:
            self._each(_HOLD, (("corrupt", seq, position) for _, _, position, *_ in rows))
            self._corrupt.append(Corrupt(row[0], f"its envelope is damaged: {problem}"))
            return None
        recipients = []
        for _, _, position, attempts, delay_noticed, interrupted, _ in rows:
            self._execute(_TAKE, (lease, until, attempts + 1, interrupted, seq, position))
            recipients.append(
                ClaimedRecipient(
                    position,
                    message.envelope.recipients[position],
                    attempts + 1,
                    lease,
                    bool(delay_noticed),
                    interrupted,
                )
            )
        return Claim(message, tuple(recipients))

    def unclaim(
        self, message: MessageId, leases: Sequence[tuple[int, int]], due: float, reason: Cause
    ) -> None:
        moment, text = to_milliseconds(due), str(reason)
        self._guarded(
            self._each, _GIVE_BACK, [(moment, text, message, index, lease) for index, lease in leases]
        )

    def extend(self, message: MessageId, leases: Sequence[tuple[int, int]], lease_until: float) -> None:
        until = to_milliseconds(lease_until)
        self._guarded(self._each, _EXTEND, [(until, message, index, lease) for index, lease in leases])

    def shift_due(self, after: float, until: float, by: float, limit: int) -> tuple[int, float | None]:
        return self._guarded(moving.shift_due, self._execute, after, until, by, limit)

    def clamp_due(self, now: float, *, waiting: float, leased: float, limit: int) -> int:
        clamp = functools.partial(moving.clamp_due, waiting=waiting, leased=leased, limit=limit)
        return self._guarded(clamp, self._execute, now)

    def release_leases(self, now: float) -> int:
        self._run(_RELEASE_LEASES, (to_milliseconds(now),))
        return self._connection.changes()

    # Operators

    def hold(self, which: QueueFilter, reason: str) -> int:
        return self._guarded(self._hold, which, plain(reason))

    def _hold(self, which: QueueFilter, reason: str) -> int:
        queued = [row for row in self._matching(which) if row[2] == _QUEUED]
        self._each(_HOLD, ((reason, seq, position) for seq, position, _, lease in queued if not lease))
        self._each(_HOLD_LATER, ((reason, seq, position) for seq, position, _, lease in queued if lease))
        return len(queued)

    def release(self, which: QueueFilter, now: float) -> int:
        return self._guarded(self._release, which, to_milliseconds(now))

    def _release(self, which: QueueFilter, now: int) -> int:
        rows = self._matching(which)
        held = [(now, seq, position) for seq, position, state, _ in rows if state == _HELD]
        self._each(_RELEASE, held)
        self._each(_FORGET_HOLD, ((seq, position) for seq, position, _, lease in rows if lease))
        return len(held)

    def retry(self, which: QueueFilter, now: float) -> int:
        return self._guarded(self._retry, which, to_milliseconds(now))

    def _retry(self, which: QueueFilter, now: int) -> int:
        rows = self._matching(which)
        waiting = [(now, seq, at) for seq, at, state, lease in rows if state == _QUEUED and not lease]
        self._each(_RETRY, waiting)
        return len(waiting)

    def remove(self, which: QueueFilter) -> Removal:
        return self._guarded(self._remove, which)

    def _remove(self, which: QueueFilter) -> Removal:
        ended: dict[int, int] = {}
        for seq, position, state, lease in self._matching(which):
            if state in (_QUEUED, _HELD) and not lease:
                self._execute(_REMOVE, (seq, position))
                ended[seq] = ended.get(seq, 0) + 1
        gone = []
        for seq, count in ended.items():
            self._added[_place(RecipientState.REMOVED)] += count
            row = self._execute(
                "SELECT id, pending, size, inline FROM message WHERE seq = ?", (seq,)
            ).fetchone()
            id, pending, size, inline = row
            if pending == count:
                self._delete(id, seq, size, inline)
                gone.append(id)
            else:
                self._execute(_UPDATE_PENDING, (pending - count, seq))
        return Removal(sum(ended.values()), tuple(sorted(gone)))

    def _matching(self, which: QueueFilter) -> list[tuple[int, int, int, int]]:
        statement = recipients_sql(which.messages is not None)
        return self._execute(statement, bindings(which)).fetchall()  # type: ignore[no-any-return]

    # Statements

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
