"""The store in one SQLite file: what is accepted, and what comes of attempts."""

from __future__ import annotations

from collections.abc import Sequence

from . import history
from .administering import SqliteAdministering
from .batch import ACCEPTED, DATABASE, MESSAGES, OCTETS, PARK, place
from .claiming import SqliteClaiming
from .clues import note_late
from .details import describe, encode_details, plain, sender_text, to_milliseconds
from .errors import LeaseLost
from .store import Store
from .values import AttemptRecord, NewMessage, RecipientResult, RecipientState

__all__ = ["DATABASE", "SqliteStore"]

_QUEUED = int(RecipientState.QUEUED)
_HELD = int(RecipientState.HELD)
_INSERT_MESSAGE = """INSERT INTO message
 (id, received, size, inline, pending, parked, sender, peer, digest, prefix, details)
 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_INSERT_BODY = "INSERT INTO body (seq, content) VALUES (?, ?)"
_INSERT_RECIPIENT = """INSERT INTO recipient
 (message, position, state, lease, due, attempts, interrupted, delay_noticed,
  address, domain, reason, reply, remote)
 VALUES (?, ?, ?, ?, ?, ?, 0, 0, ?, ?, ?, '', '')"""
_FIND_MESSAGE = "SELECT seq, pending, size, inline, parked, NULL, NULL FROM message WHERE id = ?"
_FIND_BOTH = """SELECT m.seq, m.pending, m.size, m.inline, m.parked, r.lease, r.hold FROM message AS m
 LEFT JOIN recipient AS r ON r.message = m.seq AND r.position = ? WHERE m.id = ?"""
_FIND_LEASE = "SELECT lease, hold FROM recipient WHERE message = ? AND position = ?"
_UPDATE_RECIPIENT = """UPDATE recipient SET state = ?, due = ?, lease = 0, hold = NULL,
 interrupted = CASE WHEN ? THEN interrupted + 1 ELSE 0 END, delay_noticed = max(delay_noticed, ?),
 last_attempt = ?, reason = ?, reply = ?, remote = ?
 WHERE message = ? AND position = ?"""
_UPDATE_PENDING = "UPDATE message SET pending = ?, parked = 1 WHERE seq = ?"


def _check_lease(
    record: AttemptRecord, result: RecipientResult, lease: int | None, hold: str | None
) -> str | None:
    """Whether the recipient is to be held, after making sure that the attempt still owns it."""
    if not lease or lease != result.lease:
        raise LeaseLost(f"recipient {result.index} of message {record.message} was given to someone else")
    return hold


class SqliteStore(SqliteClaiming, SqliteAdministering, Store):
    """A store over the one read-write connection of a spool folder."""

    flushes = True

    # Accept

    def accept(self, message: NewMessage, *, lease: int | None, lease_until: float) -> None:
        self._guarded(self._accept, message, lease, lease_until)

    def _accept(self, message: NewMessage, lease: int | None, lease_until: float) -> None:
        envelope, body = message.envelope, message.body
        recipients = envelope.recipients
        self._execute(
            _INSERT_MESSAGE,
            (
                message.id,
                to_milliseconds(message.received),
                message.size,
                body is not None,
                len(recipients),
                lease is None,
                sender_text(envelope.reverse_path),
                plain(message.origin.peer),
                message.digest,
                message.prefix,
                encode_details(envelope, message.origin, message.marks),
            ),
        )
        seq = self._connection.last_insert_rowid()
        if seq <= self._frontiers[True]:
            note_late(self._execute, True, seq)
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
        added[ACCEPTED] += len(recipients)
        added[MESSAGES] += 1
        added[OCTETS] += message.size

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
        seq, pending, size, inline, parked, lease, hold = row
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
        moment = to_milliseconds(now)
        ended = sum(result.state.is_final for result in results)
        gone: bool = ended == pending
        if gone and not parked:  # what most messages come to
            if self.keeps_ended:
                self._count_ended(history.end_with(self._execute, seq, record, moment))
        else:
            for result, hold in zip(results, holds, strict=True):
                self._update(seq, result, hold, moment)
            history.note_attempts(self._execute, self._connection, seq, record, moment)
            if not gone:
                if ended:
                    self._execute(_UPDATE_PENDING, (pending - ended, seq))
                elif not parked:
                    self._execute(PARK, (seq,))
            elif self.keeps_ended:
                self._count_ended(history.end(self._execute, record.message, seq, moment))
            else:
                history.forget_attempts(self._execute, seq)
        if gone:
            self._delete(record.message, seq, size, inline)
        for result in results:
            if result.state.is_final:
                self._added[place(result.state)] += 1
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
