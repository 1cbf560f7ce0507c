"""The lives of messages in the SQLite store: attempts as they come, and what is kept of those gone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import apsw
import msgspec

from elemta.mail import MessageId, Phases, is_id

from .clues import search, wanted_terms
from .details import (
    decode_details,
    decode_marks,
    describe,
    mailbox_part,
    marks_part,
    outcome_detail,
    phase_list,
    plain,
    to_milliseconds,
    to_seconds,
)
from .values import AttemptEntry, AttemptRecord, History, RecipientEntry, RecipientState, Wanted

Execute = Callable[..., Any]  # Any: columns have the types of the schema

MOST_RUNS = 30
"""Different results that are kept of one recipient, the last ones."""
TWINS = 64
"""Messages of one millisecond whose numbers may be the same; they take the next free ones."""

_DIGITS = str.maketrans("0123456789abcdefghjkmnpqrstvwxyz", "0123456789abcdefghijklmnopqrstuv")
_LENGTH = 13
"""Characters of an id that go into its number: 65 bits, of which 63 fit."""
_RANDOM_BITS = 18
"""How many of them are not its time."""

_AGAIN = """UPDATE attempt SET last = ?, times = times + 1, tls = ?, seconds = ?, phases = ?
 WHERE message = ? AND position = ?
 AND run = (SELECT max(run) FROM attempt WHERE message = ? AND position = ?)
 AND state = ? AND reason = ? AND reply = ? AND remote = ? AND detail = ?"""
_FIRST = """INSERT INTO attempt
 SELECT ?1, ?2, coalesce(max(run), 0) + 1, ?3, ?4, ?4, 1, ?5, ?6, ?7, ?8, ?9, ?10, ?11
 FROM attempt WHERE message = ?1 AND position = ?2"""
_TRIM = f"""DELETE FROM attempt WHERE message = ? AND position = ?
 AND run <= (SELECT max(run) FROM attempt WHERE message = ? AND position = ?) - {MOST_RUNS}"""  # noqa: S608
_ATTEMPTS = """SELECT position, state, first, last, times, reason, reply, remote, detail, tls, seconds, phases
 FROM attempt WHERE message = ? ORDER BY last, position"""
_FORGET_ATTEMPTS = "DELETE FROM attempt WHERE message = ?"
_END = "INSERT INTO ended SELECT ?, id, ?, received, size, details, ? FROM message WHERE seq = ?"
_RECIPIENTS = """SELECT position, state, attempts, last_attempt, reason, reply, remote
 FROM recipient WHERE message = ? ORDER BY position"""
_OLDEST = "SELECT number, ended FROM ended WHERE number > ? ORDER BY number LIMIT ?"
_FORGET = "DELETE FROM ended WHERE number = ?"
_DETAILS_MATCH = """(?1 IS NULL OR substr(details, 1, length(?1)) = ?1) AND (?2 IS NULL OR instr(details, ?2))
 AND (?3 IS NULL OR instr(details, ?3)) AND (?4 IS NULL OR instr(details, ?4))"""
_ENDED_MATCHES = f"{_DETAILS_MATCH} AND (?5 IS NULL OR instr(results, ?5))"
_LIVING_MATCHES = f"""{_DETAILS_MATCH}
 AND (?5 IS NULL OR EXISTS (SELECT 1 FROM attempt WHERE message = seq AND instr(reply, ?5)))"""  # noqa: S608
_BEHIND = {
    True: f"""SELECT seq, id FROM message
      WHERE {_LIVING_MATCHES} AND seq > ?7 ORDER BY seq LIMIT ?6""",  # noqa: S608 - constants
    False: f"""SELECT number, id FROM ended
      WHERE {_ENDED_MATCHES} AND number > ?7 ORDER BY number DESC LIMIT ?6""",  # noqa: S608 - constants
}
_AMONG = {
    True: f"""SELECT seq, m.id FROM json_each(?7) j CROSS JOIN message m ON seq = j.value
      WHERE {_LIVING_MATCHES} ORDER BY seq LIMIT ?6""",  # noqa: S608 - constants
    False: f"""SELECT number, e.id FROM json_each(?7) j CROSS JOIN ended e ON number = j.value
      WHERE {_ENDED_MATCHES} ORDER BY number DESC LIMIT ?6""",  # noqa: S608 - constants
}
_ANSWERED = f"""SELECT id FROM message WHERE {_DETAILS_MATCH}
 AND seq IN (SELECT message FROM attempt WHERE instr(reply, ?5)) ORDER BY seq LIMIT ?6"""  # noqa: S608
_LIVING = "SELECT seq, details, received, size FROM message WHERE id = ?"
_GONE = """SELECT details, received, size, ended, results FROM ended
 WHERE number BETWEEN ? AND ? AND id = ?"""


class _EndedRecipient(msgspec.Struct, array_like=True):
    # Arrays: this is written for each message. New fields go to the end, with a default.
    position: int
    state: int
    attempts: int
    last_attempt: int | None
    reason: str
    reply: str
    remote: str


class _EndedAttempt(msgspec.Struct, array_like=True):
    position: int
    state: int
    first: int
    last: int
    times: int
    reason: str
    reply: str
    remote: str
    detail: str = ""
    tls: str = ""
    seconds: float = 0.0
    phases: list[float] = []


class _Results(msgspec.Struct, array_like=True):
    recipients: list[_EndedRecipient]
    """Empty where one attempt was all: then what it did to each is what became of it."""
    attempts: list[_EndedAttempt]


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Results)
_phases = msgspec.json.Decoder(list[float])


def number(message: MessageId) -> int:
    """The number of an id; that of a later id is greater, or the same in rare cases."""
    return int(message[:_LENGTH].translate(_DIGITS), 32) >> 2


def note_attempts(
    execute: Execute, connection: apsw.Connection, seq: int, record: AttemptRecord, moment: int
) -> None:
    """Write down an attempt that is not all of the life of its message."""
    facts = record.facts
    phases = _encoder.encode(phase_list(facts.phases)).decode()
    for result in record.results:
        place = seq, result.index
        words = int(result.state), *describe(result.outcome), outcome_detail(result.outcome, facts.note)
        execute(_AGAIN, (moment, facts.tls, facts.seconds, phases, *place, *place, *words))
        if not connection.changes():
            state, *texts = words
            execute(_FIRST, (*place, state, moment, *texts, facts.tls, facts.seconds, phases))
            execute(_TRIM, (*place, *place))


def end_with(execute: Execute, seq: int, record: AttemptRecord, moment: int) -> int | None:
    """Keep what is known of a message whose only attempt this was; returns its number, if there was one."""
    facts = record.facts
    phases = phase_list(facts.phases)
    attempts = [
        (
            result.index,
            int(result.state),
            moment,
            moment,
            1,
            *describe(result.outcome),
            outcome_detail(result.outcome, facts.note),
            facts.tls,
            facts.seconds,
            phases,
        )
        for result in record.results
    ]
    return _insert(execute, record.message, seq, moment, ((), attempts))


def end(execute: Execute, message: MessageId, seq: int, moment: int) -> int | None:
    """Keep what is known of a message; to be called before its recipients are deleted. As `end_with`."""
    recipients, attempts = execute(_RECIPIENTS, (seq,)).fetchall(), _attempts(execute, seq)
    execute(_FORGET_ATTEMPTS, (seq,))
    return _insert(execute, message, seq, moment, (recipients, attempts))


def _attempts(query: Execute, seq: int) -> list[tuple[Any, ...]]:
    return [(*row, _phases.decode(phases)) for *row, phases in query(_ATTEMPTS, (seq,))]


def _insert(execute: Execute, message: MessageId, seq: int, moment: int, results: object) -> int | None:
    encoded, first = _encoder.encode(results), number(message)
    for place in range(first, first + TWINS):
        try:
            execute(_END, (place, moment, encoded, seq))
        except apsw.ConstraintError:
            continue
        return place
    return None  # so many in one millisecond: a trace is not worth more than the mail


def forget_attempts(execute: Execute, seq: int) -> None:
    """Drop the attempts of a message of which nothing is kept."""
    execute(_FORGET_ATTEMPTS, (seq,))


def forget(
    execute: Execute, before: float, surplus: int, *, after: int, limit: int
) -> tuple[int, int | None]:
    """As `Store.forget`; `surplus` is by how many there are too many."""
    moment = to_milliseconds(before)
    newest = max(0, moment) << _RANDOM_BITS
    rows = execute(_OLDEST, (after, limit)).fetchall()
    dropped = 0
    for place, ended in rows:
        if ended < moment or dropped < surplus:
            execute(_FORGET, (place,))
            dropped += 1
    # A message ends after its id was made: behind `newest` none can have ended before that time.
    if len(rows) < limit or (rows[-1][0] >= newest and dropped >= surplus):
        return dropped, None
    return dropped, rows[-1][0]


def read_history(query: Execute, message: MessageId, recipients: Sequence[RecipientEntry]) -> History | None:
    """The life of a message; `recipients` where it is still here.

    Raises:
      ValueError: what is kept is damaged.
    """
    row = query(_LIVING, (message,)).fetchone()
    if row is not None:
        seq, details, received, size = row
        found = _attempts(query, seq)
        return _history(message, details, received, size, None, recipients, found)
    if not is_id(message):
        return None
    first = number(message)
    row = query(_GONE, (first, first + TWINS - 1, message)).fetchone()
    if row is None:
        return None
    details, received, size, ended, results = row
    decoded = _decoder.decode(results)
    attempts = [msgspec.structs.astuple(each) for each in decoded.attempts]
    known = decoded.recipients or [_only(each) for each in decoded.attempts]
    addresses = [str(recipient.mailbox) for recipient in decode_details(details)[0].recipients]
    entries = [_entry(each, addresses[each.position]) for each in known]
    return _history(message, details, received, size, ended, entries, attempts)


def find_ended(query: Execute, wanted: Wanted, limit: int) -> list[MessageId]:
    """As `StoreReader.find_ended`; of a reply, whole words are looked for."""
    # In the results, too, a reply is text of JSON
    reply = None if wanted.remote_id is None else _encoder.encode(wanted.remote_id)[1:-1]
    return _find(query, False, (*_parts(wanted), reply), _terms_of(wanted, wanted.remote_id), limit)


def find_living(query: Execute, wanted: Wanted, limit: int) -> list[MessageId]:
    """The same among messages that are here, the oldest first. What was answered to them changes, and is in
    no index, but few have an answer."""
    parts, terms = (*_parts(wanted), wanted.remote_id), _terms_of(wanted, None)
    if wanted.remote_id is not None and not terms:
        return [MessageId(id) for (id,) in query(_ANSWERED, (*parts, limit))]
    return _find(query, True, parts, terms, limit)


def _find(
    query: Execute, living: bool, parts: Sequence[object], terms: set[int], limit: int
) -> list[MessageId]:
    def look(places: Sequence[int] | int, most: int) -> list[tuple[int, str]]:
        if isinstance(places, int):
            return query(_BEHIND[living], (*parts, most, places)).fetchall()  # type: ignore[no-any-return]
        values = (*parts, most, _encoder.encode(places).decode())
        return query(_AMONG[living], values).fetchall()  # type: ignore[no-any-return]

    if terms:
        return [MessageId(id) for id in search(query, living, terms, limit, look)]
    return [MessageId(id) for _, id in look(-1, limit)]


def _terms_of(wanted: Wanted, reply: str | None) -> set[int]:
    sender, recipient = wanted.sender, wanted.recipient
    return wanted_terms(
        None if sender is None else (sender.local_part, sender.domain.text),
        None if recipient is None else (recipient.local_part, recipient.domain.text),
        None if wanted.message_id is None else plain(wanted.message_id),
        wanted.subject,
        reply,
    )


def _parts(wanted: Wanted) -> tuple[str | None, ...]:
    """What the details of a message begin with, and what else is in them."""
    sender, recipient = wanted.sender, wanted.recipient
    return (
        None if sender is None else f"[{mailbox_part(sender)}],",
        None if recipient is None else f"{mailbox_part(recipient)},",
        None if wanted.message_id is None else marks_part(message_id=wanted.message_id),
        None if wanted.subject is None else marks_part(subject=wanted.subject),
    )


def _history(
    message: MessageId,
    details: str,
    received: int,
    size: int,
    ended: int | None,
    recipients: Sequence[RecipientEntry],
    attempts: Iterable[tuple[Any, ...]],
) -> History:
    envelope, origin = decode_details(details)
    return History(
        message,
        envelope,
        origin,
        to_seconds(received),
        size,
        None if ended is None else to_seconds(ended),
        tuple(recipients),
        tuple(_attempt(row) for row in attempts),
        decode_marks(details),
    )


def _only(attempt: _EndedAttempt) -> _EndedRecipient:
    words = attempt.reason, attempt.reply, attempt.remote
    return _EndedRecipient(attempt.position, attempt.state, 1, attempt.last, *words)


def _entry(ended: _EndedRecipient, address: str) -> RecipientEntry:
    return RecipientEntry(
        ended.position,
        address,
        RecipientState(ended.state),
        ended.attempts,
        None,
        False,
        ended.reason,
        ended.reply,
        ended.remote,
        None if ended.last_attempt is None else to_seconds(ended.last_attempt),
    )


def _attempt(row: tuple[Any, ...]) -> AttemptEntry:
    position, state, first, last, times, reason, reply, remote, detail, tls, seconds, phases = row
    return AttemptEntry(
        position,
        RecipientState(state),
        to_seconds(first),
        to_seconds(last),
        times,
        reason,
        reply,
        remote,
        detail,
        tls,
        seconds,
        Phases(*phases),
    )
