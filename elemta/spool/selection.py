"""Which messages a filter means, in the SQLite store: a page of them without looking at all.

A filter goes by the index of what it says most with: sender, domain, reason or hold. Those indexes have
only what nobody has claimed (see schema/0002.sql), so what is claimed is looked through beside them: there
is no more of it than may be in memory. A time says where to begin and end, because messages are numbered as
they come. Without any of these the table of recipients is walked in that order.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from elemta.mail import MessageId

from .details import to_milliseconds
from .store import Place
from .values import Page, QueueFilter, RecipientState

Query = Callable[..., Any]  # Any: columns have the types of the schema

MOST_DOMAINS = 100
"""Domains up to which an `AddressTest` goes by the index of domains."""
_LAST = (1 << 63) - 1
_FIRST_SINCE = """SELECT seq FROM message INDEXED BY message_received
 WHERE parked AND received >= ? ORDER BY received LIMIT 1"""
_LAST_BEFORE = """SELECT seq FROM message INDEXED BY message_received
 WHERE parked AND received < ? ORDER BY received DESC LIMIT 1"""
_CLAIMED_RANGE = """SELECT coalesce(min(message), ?), coalesce(max(message), -1) FROM recipient
 WHERE lease <> 0"""
_NEAREST = "SELECT min(seq) - 1 FROM (SELECT seq FROM message WHERE id > ? ORDER BY id LIMIT 100)"
_PLACE = "SELECT seq FROM message WHERE id = ?"

_MESSAGE_MATCHES = """(:sender IS NULL OR m.sender = :sender)
 AND (:before IS NULL OR m.received < :before) AND (:since IS NULL OR m.received >= :since)"""
_RECIPIENT_MATCHES = """(:final OR r.state <= 1) AND (:recipient IS NULL OR r.address = :recipient)
 AND (:domain IS NULL OR r.domain = :domain) AND (:state IS NULL OR r.state = :state)
 AND (:reason IS NULL OR r.reason = :reason)
 AND (:domains IS NULL OR r.domain IN (SELECT value FROM json_each(:domains)))"""
_RANGE = "r.message > :after AND r.message < :until"
_UNCLAIMED = "r.state <= 1 AND r.lease = 0"
# With the ids in front they are looked up rather than compared.
_THESE = "json_each(:messages) j CROSS JOIN message m ON m.id = j.value"
_JOINED = "JOIN message m ON m.seq = r.message"
_CLAIMED = f"recipient r INDEXED BY recipient_leased {_JOINED} WHERE r.lease <> 0"
_BY = {
    "messages": f"{_THESE} JOIN recipient r ON r.message = m.seq WHERE true",
    "sender": """message m INDEXED BY message_sender JOIN recipient r ON r.message = m.seq
      WHERE m.parked AND m.sender = :sender""",
    "domain": f"recipient r INDEXED BY recipient_domain {_JOINED} WHERE {_UNCLAIMED} AND r.domain = :domain",
    "domains": f"""json_each(:domains) j CROSS JOIN recipient r INDEXED BY recipient_domain {_JOINED}
      WHERE {_UNCLAIMED} AND r.domain = j.value""",
    "held": f"recipient r INDEXED BY recipient_held {_JOINED} WHERE r.state = 1",
    "reason": f"recipient r INDEXED BY recipient_reason {_JOINED} WHERE {_UNCLAIMED} AND r.reason = :reason",
    "walk": f"recipient r NOT INDEXED {_JOINED} WHERE true",
}
_WITH_CLAIMED = frozenset({"sender", "domain", "domains", "reason"})

# Every domain of the backlog once, by jumping from one to the next in the index.
_DOMAINS = """WITH RECURSIVE step(domain) AS (
  SELECT min(domain) FROM recipient WHERE state <= 1 AND lease = 0
  UNION ALL
  SELECT (SELECT min(domain) FROM recipient WHERE state <= 1 AND lease = 0 AND domain > step.domain)
  FROM step WHERE step.domain IS NOT NULL)
 SELECT domain FROM step WHERE domain IS NOT NULL
 UNION SELECT domain FROM recipient WHERE lease <> 0"""


@functools.cache
def _matching_sql(way: str) -> str:
    # All parts are constants of this module; what a user gives is bound.
    conditions = f"{_RANGE} AND {_MESSAGE_MATCHES} AND {_RECIPIENT_MATCHES}"
    found = f"SELECT r.message, m.id FROM {_BY[way]} AND {conditions} GROUP BY r.message"  # noqa: S608
    if way in _WITH_CLAIMED:
        found += f" UNION SELECT r.message, m.id FROM {_CLAIMED} AND {conditions}"  # noqa: S608 - constants
    return f"{found} ORDER BY 1 LIMIT :limit"


@functools.cache
def recipients_sql(some: bool) -> str:
    """Message, position, state, lease, address and reason of all recipients that match."""
    return f"""SELECT r.message, r.position, r.state, r.lease, r.address, r.reason
      FROM {_BY["messages" if some else "walk"]}
      AND {_MESSAGE_MATCHES} AND {_RECIPIENT_MATCHES}"""  # noqa: S608 - constants


@functools.cache
def page_sql(message_columns: str, recipient_columns: str) -> str:
    """The matching recipients of the messages `:messages`, in order."""
    return f"""SELECT {message_columns}, {recipient_columns} FROM {_BY["messages"]}
      AND {_MESSAGE_MATCHES} AND {_RECIPIENT_MATCHES} ORDER BY m.seq, r.position"""  # noqa: S608 - constants


def bindings(which: QueueFilter) -> dict[str, Any]:  # Any: what SQLite takes
    """The values that the statements of this module name, but `after`, `until`, `limit` and `domains`."""
    messages = None
    if which.messages is not None:
        messages = msgspec.json.encode(set(which.messages)).decode()
    domain = which.domain
    if domain is None and which.recipient is not None:
        domain = which.recipient.rpartition("@")[2]  # there is an index of domains
    before, since = which.received_before, which.received_after
    return {
        "messages": messages,
        "sender": which.sender,
        "recipient": which.recipient,
        "domain": domain,
        "final": which.means_final,
        "state": None if which.state is None else int(which.state),
        "reason": which.reason,
        "before": None if before is None else to_milliseconds(before),
        "since": None if since is None else to_milliseconds(since),
        "domains": None,
    }


def matching(query: Query, which: QueueFilter, *, after: Place, limit: int) -> Page:
    """The messages with a matching recipient, in the order of their coming, behind `after`."""
    found: list[MessageId] = []
    place = _place(query, after)
    if limit > 0:
        for seq, id in _candidates(query, which, after=place, limit=limit):
            if which.test is not None and not _passes(query, which, seq):
                continue
            found.append(id)
            if len(found) == limit:
                return Page(tuple(found), seq)
    return Page(tuple(found), None)


def _candidates(
    query: Query, which: QueueFilter, *, after: int, limit: int
) -> Iterator[tuple[int, MessageId]]:
    """Messages that match but for the address test, page by page."""
    values = bindings(which)
    domains = None
    if which.test is not None and which.messages is None:
        domains = [domain for (domain,) in query(_DOMAINS) if which.test.domain(domain)]
        if not domains:
            return
        values["domains"] = msgspec.json.encode(domains).decode()
    statement = _matching_sql(_way(which, domains))
    start, until = _range(query, which)
    start = max(start, after)
    while True:
        rows = query(statement, values | {"after": start, "until": until, "limit": limit}).fetchall()
        yield from rows
        if len(rows) < limit:
            return
        start = rows[-1][0]


def _range(query: Query, which: QueueFilter) -> tuple[int, int]:
    """Where to begin and end. Where the clock was set back, a message that came right then may be missed."""
    start, until = -1, _LAST
    if which.received_after is None and which.received_before is None:
        return start, until
    # What came straight from its acceptance is not in the index of times, but claimed.
    claimed = query(_CLAIMED_RANGE, (_LAST,)).fetchone()
    if which.received_after is not None:
        row = query(_FIRST_SINCE, (to_milliseconds(which.received_after),)).fetchone()
        start = min(_LAST if row is None else row[0], claimed[0]) - 1
    if which.received_before is not None:
        row = query(_LAST_BEFORE, (to_milliseconds(which.received_before),)).fetchone()
        until = max(-1 if row is None else row[0], claimed[1]) + 1
    return start, until


def _place(query: Query, after: Place) -> int:
    """The number behind which to go on. Where only a message is named and that is gone, the nearest that is
    still here stand for it."""
    if after is None:
        return -1
    if isinstance(after, int):
        return after
    row = query(_PLACE, (after,)).fetchone()
    if row is None:
        row = query(_NEAREST, (after,)).fetchone()
    return _LAST if row[0] is None else int(row[0])


def _way(which: QueueFilter, domains: list[str] | None) -> str:
    if which.messages is not None:
        return "messages"
    if which.sender is not None and ((which.domain is None and which.recipient is None) or which.means_final):
        return "sender"
    if which.state is not None and which.state.is_final:
        return "walk"
    if which.domain is not None or which.recipient is not None:
        return "domain"
    if domains is not None and len(domains) <= MOST_DOMAINS:
        return "domains"
    if which.state is RecipientState.HELD:
        return "held"
    return "walk" if which.reason is None else "reason"


def _passes(query: Query, which: QueueFilter, seq: int) -> bool:
    """Whether a recipient of this message matches, its address too."""
    assert which.test is not None
    rows = query(
        f"""SELECT r.address FROM recipient r JOIN message m ON m.seq = r.message
          WHERE r.message = :seq AND {_MESSAGE_MATCHES} AND {_RECIPIENT_MATCHES}""",  # noqa: S608 - constants
        bindings(which) | {"seq": seq},
    )
    return any(which.test.address(address) for (address,) in rows)
