"""Looking at the SQLite spool: every read, written once, for the writer's and for read-only connections."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable
from typing import Any

import apsw
import attrs
import msgspec

from elemta.mail import MessageId

from .audit import audit
from .clues import Block, Span, make_block, next_span, stale_blocks
from .details import decode_details, to_seconds
from .history import find_ended, find_living, read_history
from .selection import bindings, matching, page_sql
from .store import Blocks, Differences, Ids, Leases, Pauses, Place, QueueEntries, Shares, StoreReader
from .values import (
    AddressTest,
    BacklogShare,
    History,
    Page,
    Pause,
    PauseKind,
    QueueEntry,
    QueueFilter,
    RecipientEntry,
    RecipientState,
    ShareKey,
    SpoolStatistics,
    StoredMessage,
    Wanted,
)

_MESSAGE_COLUMNS = "m.seq, m.id, m.sender, m.received, m.size, m.peer"
_RECIPIENT_COLUMNS = """r.position, r.address, r.state, r.attempts, r.due, r.lease, r.reason, r.reply,
 r.remote, r.last_attempt, r.interrupted"""
_SHOW = f"""SELECT {_MESSAGE_COLUMNS}, {_RECIPIENT_COLUMNS}
  FROM message m JOIN recipient r ON r.message = m.seq
  WHERE m.id = ? ORDER BY r.position"""  # noqa: S608 - constants
_STORED = "SELECT id, details, prefix, size, digest, received FROM message WHERE id = ?"
_BODY = "SELECT content FROM body WHERE seq = (SELECT seq FROM message WHERE id = ?)"
_BODY_FILES = "SELECT id, size - length(prefix) FROM message WHERE NOT inline"
_NEXT_DUE = """SELECT due FROM recipient INDEXED BY recipient_due WHERE state = 0 AND lease = 0 AND due >= ?
 AND domain NOT IN (SELECT value FROM json_each(?)) ORDER BY due LIMIT 1"""
_EARLIEST = -(1 << 63)
_STATISTICS = """SELECT accepted, delivered, failed, expired, removed,
  (SELECT count(*) FROM recipient WHERE state = 1),
  (SELECT count(*) FROM recipient WHERE state = 0 AND lease = 0),
  (SELECT count(*) FROM recipient WHERE lease <> 0),
  messages, octets, (SELECT received FROM message ORDER BY seq LIMIT 1), ended
  FROM counter"""
_PAUSES = "SELECT kind, value, since, until, reason FROM pause ORDER BY kind, value"
_LEASES = (
    "SELECT m.id, r.position, r.lease FROM recipient r JOIN message m ON m.seq = r.message WHERE lease <> 0"
)
_SHARES = {
    by: f"""SELECT {by}, count(*) FROM recipient INDEXED BY recipient_{by}
      WHERE state <= 1 AND lease = 0 GROUP BY {by} ORDER BY 2 DESC, 1 LIMIT ?"""  # noqa: S608 - constants
    for by in ShareKey
}


def stored_message(row: tuple[Any, ...]) -> StoredMessage:
    """From the columns id, details, prefix, size, digest, received.

    Raises:
      ValueError: the details are damaged.
    """
    id, details, prefix, size, digest, received = row
    envelope, origin = decode_details(details)
    return StoredMessage(id, envelope, origin, prefix, None, size, digest, to_seconds(received))


def _recipient_entry(row: tuple[Any, ...]) -> RecipientEntry:
    position, address, number, attempts, due, lease, reason, reply, remote, last_attempt, interrupted = row
    state = RecipientState(number)
    waiting = state is RecipientState.QUEUED and not lease
    return RecipientEntry(
        position,
        address,
        state,
        attempts,
        to_seconds(due) if waiting else None,
        bool(lease),
        reason,
        reply,
        remote,
        None if last_attempt is None else to_seconds(last_attempt),
        interrupted,
    )


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else to_seconds(milliseconds)


def _chosen(entry: QueueEntry, test: AddressTest) -> QueueEntry:
    recipients = tuple(each for each in entry.recipients if test.address(each.address))
    return attrs.evolve(entry, recipients=recipients)


class SqliteReader(StoreReader):
    """Reads over one connection. Most methods are one statement and see one state; `list`, `history` and
    `audit` may see a message in its next one, or gone."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._query: Callable[..., Any] = connection.execute  # Any: columns have the types of the schema

    @property
    def connection(self) -> apsw.Connection:
        """For time limits and checks at start-up."""
        return self._connection

    def next_due(self, avoid: Collection[str] = ()) -> float | None:
        return self._next_due(avoid, _EARLIEST)

    def _next_due(self, avoid: Collection[str], start: int) -> float | None:
        domains = msgspec.json.encode(sorted(avoid)).decode()
        row = self._query(_NEXT_DUE, (start, domains)).fetchone()
        return None if row is None else to_seconds(row[0])

    def list(self, which: QueueFilter, *, after: Place, limit: int) -> QueueEntries:
        page = self.matching(which, after=after, limit=limit)
        values = bindings(attrs.evolve(which, messages=page.messages))
        entries = self._entries(self._query(page_sql(_MESSAGE_COLUMNS, _RECIPIENT_COLUMNS), values))
        if which.test is None:
            return entries
        return [chosen for entry in entries if (chosen := _chosen(entry, which.test)).recipients]

    def matching(self, which: QueueFilter, *, after: Place, limit: int) -> Page:
        return matching(self._query, which, after=after, limit=limit)

    def show(self, message: MessageId) -> QueueEntry | None:
        entries = self._entries(self._query(_SHOW, (message,)))
        return entries[0] if entries else None

    @staticmethod
    def _entries(rows: Iterable[tuple[Any, ...]]) -> QueueEntries:
        entries: QueueEntries = []
        for (place, id, sender, received, size, peer), group in itertools.groupby(rows, lambda row: row[:6]):
            recipients = tuple(_recipient_entry(row[6:]) for row in group)
            entries.append(QueueEntry(id, sender, to_seconds(received), size, peer, recipients, place))
        return entries

    def stored(self, message: MessageId) -> StoredMessage | None:
        row = self._query(_STORED, (message,)).fetchone()
        return None if row is None else stored_message(row)

    def body(self, message: MessageId) -> bytes | None:
        row = self._query(_BODY, (message,)).fetchone()
        return None if row is None else row[0]

    def body_files(self) -> dict[MessageId, int]:
        return dict(self._query(_BODY_FILES))

    def statistics(self) -> SpoolStatistics:
        *counted, held, waiting, leased, messages, octets, oldest, ended = self._query(_STATISTICS).fetchone()
        accepted, delivered, failed, expired, removed = counted
        return SpoolStatistics(
            accepted,
            delivered,
            failed,
            expired,
            removed,
            held,
            waiting + leased,
            leased,
            messages,
            octets,
            None if oldest is None else to_seconds(oldest),
            ended,
        )

    def history(self, message: MessageId) -> History | None:
        entry = self.show(message)
        return read_history(self._query, message, () if entry is None else entry.recipients)

    def find_living(self, wanted: Wanted, limit: int) -> Ids:
        if not wanted.has_index:
            return find_living(self._query, wanted, limit)
        which = QueueFilter(
            sender=None if wanted.sender is None else str(wanted.sender),
            recipient=None if wanted.recipient is None else str(wanted.recipient),
        )
        return [*self.matching(which, after=None, limit=limit).messages]

    def find_ended(self, wanted: Wanted, limit: int) -> Ids:
        return find_ended(self._query, wanted, limit)

    def next_span(self) -> Span | None:
        return next_span(self._query, False) or next_span(self._query, True)

    def make_block(self, span: Span) -> Block:
        return make_block(self._query, span)

    def stale_blocks(self) -> Blocks:
        return stale_blocks(self._query)

    def pauses(self) -> Pauses:
        return [
            Pause(
                PauseKind(kind),
                value,
                to_seconds(since),
                None if until is None else to_seconds(until),
                reason,
            )
            for kind, value, since, until, reason in self._query(_PAUSES)
        ]

    def shares(self, by: ShareKey, limit: int) -> Shares:
        return [BacklogShare(value, count) for value, count in self._query(_SHARES[by], (limit,))]

    def audit(self, limit: int) -> Differences:
        if self._connection.in_transaction:
            return audit(self._query, limit)
        self._query("BEGIN")  # all of it sees one state
        try:
            return audit(self._query, limit)
        finally:
            self._query("COMMIT")

    def leases(self) -> Leases:
        return self._query(_LEASES).fetchall()  # type: ignore[no-any-return]

    def close(self) -> None:
        self._connection.close()
