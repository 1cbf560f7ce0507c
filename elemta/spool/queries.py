"""Looking at the SQLite spool: every read, written once, for the writer's and for read-only connections."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import apsw
import msgspec

from elemta.mail import MessageId

from .details import decode_details, to_seconds
from .store import (
    MessageIds,
    QueueEntries,
    QueueEntry,
    QueueFilter,
    RecipientEntry,
    RecipientState,
    SpoolStatistics,
    StoredMessage,
    StoreReader,
)

_MESSAGE_MATCHES = "(:sender IS NULL OR m.sender = :sender)"
_RECIPIENT_MATCHES = """(:recipient IS NULL OR r.address = :recipient)
 AND (:domain IS NULL OR r.domain = :domain) AND (:state IS NULL OR r.state = :state)"""
# Two forms, because only with the ids in front are they looked up rather than compared.
_ALL = "message m"
_THESE = "json_each(:messages) j CROSS JOIN message m ON m.id = j.value"
_PAGE = f"""m.id > :after AND {_MESSAGE_MATCHES}
 AND EXISTS (SELECT 1 FROM recipient r WHERE r.message = m.seq AND {_RECIPIENT_MATCHES})
 ORDER BY m.id LIMIT :limit"""  # noqa: S608 - constants
_MESSAGE_COLUMNS = "m.seq, m.id, m.sender, m.received, m.size, m.peer"
_RECIPIENT_COLUMNS = """r.position, r.address, r.state, r.attempts, r.due, r.lease, r.reason, r.reply,
 r.remote, r.last_attempt, r.interrupted"""


@functools.cache
def _list_sql(some: bool) -> str:
    # All parts are constants of this module; what a user gives is bound.
    source = _THESE if some else _ALL
    return f"""SELECT {_MESSAGE_COLUMNS}, {_RECIPIENT_COLUMNS}
      FROM (SELECT {_MESSAGE_COLUMNS} FROM {source} WHERE {_PAGE}) m
      JOIN recipient r ON r.message = m.seq
      WHERE {_RECIPIENT_MATCHES} ORDER BY m.id, r.position"""  # noqa: S608 - constants


@functools.cache
def _matching_sql(some: bool) -> str:
    return f"SELECT m.id FROM {_THESE if some else _ALL} WHERE {_PAGE}"  # noqa: S608 - constants


@functools.cache
def recipients_sql(some: bool) -> str:
    """Message, position, state and lease of all recipients that match."""
    return f"""SELECT r.message, r.position, r.state, r.lease
      FROM {_THESE if some else _ALL} JOIN recipient r ON r.message = m.seq
      WHERE {_MESSAGE_MATCHES} AND {_RECIPIENT_MATCHES}"""  # noqa: S608 - constants


_SHOW = f"""SELECT {_MESSAGE_COLUMNS}, {_RECIPIENT_COLUMNS}
  FROM message m JOIN recipient r ON r.message = m.seq WHERE m.id = ? ORDER BY r.position"""  # noqa: S608
_STORED = "SELECT id, details, prefix, size, digest, received FROM message WHERE id = ?"
_BODY = "SELECT content FROM body WHERE seq = (SELECT seq FROM message WHERE id = ?)"
_BODY_FILES = "SELECT id, size - length(prefix) FROM message WHERE NOT inline"
_NEXT_DUE = "SELECT due FROM recipient WHERE state = 0 AND lease = 0 ORDER BY due LIMIT 1"
_STATISTICS = """SELECT accepted, delivered, failed, expired, removed,
  (SELECT count(*) FROM recipient WHERE state = 1),
  (SELECT count(*) FROM recipient WHERE state = 0 AND lease = 0),
  (SELECT count(*) FROM recipient WHERE lease <> 0),
  messages, octets, (SELECT received FROM message ORDER BY seq LIMIT 1)
  FROM counter"""


def bindings(which: QueueFilter) -> dict[str, Any]:  # Any: what SQLite takes
    """The values that the statements of this module name."""
    return {
        "messages": None if which.messages is None else msgspec.json.encode(set(which.messages)).decode(),
        "sender": which.sender,
        "recipient": which.recipient,
        "domain": which.domain,
        "state": None if which.state is None else int(which.state),
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


class SqliteReader(StoreReader):
    """Reads over one connection; each method is one statement, so it sees one state."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._query: Callable[..., Any] = connection.execute  # Any: columns have the types of the schema

    @property
    def connection(self) -> apsw.Connection:
        """For time limits and checks at start-up."""
        return self._connection

    def next_due(self) -> float | None:
        row = self._query(_NEXT_DUE).fetchone()
        return None if row is None else to_seconds(row[0])

    def list(self, which: QueueFilter, *, after: MessageId | None, limit: int) -> QueueEntries:
        values = bindings(which) | {"after": after or "", "limit": limit}
        return self._entries(self._query(_list_sql(which.messages is not None), values))

    def matching(self, which: QueueFilter, *, after: MessageId | None, limit: int) -> MessageIds:
        values = bindings(which) | {"after": after or "", "limit": limit}
        rows = self._query(_matching_sql(which.messages is not None), values)
        return [id for (id,) in rows]

    def show(self, message: MessageId) -> QueueEntry | None:
        entries = self._entries(self._query(_SHOW, (message,)))
        return entries[0] if entries else None

    @staticmethod
    def _entries(rows: Iterable[tuple[Any, ...]]) -> QueueEntries:
        entries: QueueEntries = []
        for (_, id, sender, received, size, peer), group in itertools.groupby(rows, lambda row: row[:6]):
            recipients = tuple(_recipient_entry(row[6:]) for row in group)
            entries.append(QueueEntry(id, sender, to_seconds(received), size, peer, recipients))
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
        row = self._query(_STATISTICS).fetchone()
        accepted, delivered, failed, expired, removed, held, waiting, leased, messages, octets, oldest = row
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
        )

    def close(self) -> None:
        self._connection.close()
