"""The index of the SQLite store for searches: blocks of terms, made in the background for what is stored.

Theory of operation. An index that SQLite keeps would change a handful of pages for each message. Here a block
says of `BLOCK` messages which terms (sender, recipient, Message-ID, subject, words of replies) each has:
sorted numbers in one value that is written once, about 50 octets for a message. Who searches goes through
the blocks (some 250 for a million messages), and looks closely only at rows that have all terms: terms are
short hashes, so there may be some too many. The newest rows are in no block; they are looked through.

Rows come in the order of their place but for those of messages that ended late, or whose `seq` was used
before: whoever stores one at or below the frontier, up to where blocks go, notes it in table `late`. A
frontier is moved before its block is made: so no row slips in between.
"""

from __future__ import annotations

import re
import sys
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import attrs
import msgspec

from .details import search_texts

Query: TypeAlias = Callable[..., Any]  # Any: columns have the types of the schema
Found: TypeAlias = list[tuple[int, str]]
"""Places and ids."""

BLOCK = 4096
"""Messages in a block: a position has 16 bits, and a block is made in some 50 ms."""
MARGIN = 2048
"""Newest messages that wait: most that come out of their order do so by less."""
_CLOSE = 500
"""Rows that are looked at closely at a time."""

_WORD = re.compile(r"[0-9A-Za-z_-]{4,}")

_FRONTIER = "SELECT coalesce(max(last), ?) FROM clue WHERE living = ? AND NOT late"
_BOUND = {
    True: "SELECT seq FROM message WHERE seq > ? ORDER BY seq LIMIT 1 OFFSET ?",
    False: "SELECT number FROM ended WHERE number > ? ORDER BY number LIMIT 1 OFFSET ?",
}
_ROWS = {
    True: "SELECT seq, details, NULL FROM message WHERE seq > ? AND seq <= ? ORDER BY seq",
    False: "SELECT number, details, results FROM ended WHERE number > ? AND number <= ? ORDER BY number",
}
_THESE_ROWS = {
    True: """SELECT seq, details, NULL FROM json_each(?) j CROSS JOIN message m ON m.seq = j.value
      ORDER BY seq""",
    False: """SELECT number, details, results FROM json_each(?) j CROSS JOIN ended e ON e.number = j.value
      ORDER BY number""",
}
_LATE = "SELECT place FROM late WHERE living = ? ORDER BY place LIMIT ?"
_NOTE_LATE = "INSERT OR IGNORE INTO late VALUES (?, ?)"
_ADD = "INSERT INTO clue (living, late, first, last, terms, places) VALUES (?, ?, ?, ?, ?, ?)"
_NOT_LATE = "DELETE FROM late WHERE living = ? AND place IN (SELECT value FROM json_each(?))"
_STALE = {
    True: """SELECT block FROM clue c WHERE living AND NOT EXISTS
      (SELECT 1 FROM message m WHERE m.seq >= c.first AND m.seq <= c.last)""",
    False: """SELECT block FROM clue c WHERE NOT living AND NOT EXISTS
      (SELECT 1 FROM ended e WHERE e.number >= c.first AND e.number <= c.last)""",
}
_DROP = "DELETE FROM clue WHERE block = ?"
_BLOCKS = {
    True: "SELECT block, first, terms FROM clue WHERE living ORDER BY first",
    False: "SELECT block, last, terms FROM clue WHERE NOT living ORDER BY last DESC",
}
_PLACES = "SELECT places FROM clue WHERE block = ?"

_replies = msgspec.json.Decoder(tuple[msgspec.Raw, list[list[Any]]])
_REPLY = 6
"""Where it stands in an attempt of `ended.results`."""


@attrs.frozen
class Span:
    """What the next block is made of."""

    living: bool
    after: int
    upto: int
    late: tuple[int, ...] = ()
    """If any, these rows and not those between."""


@attrs.frozen
class Block:
    """One that is ready to be stored."""

    span: Span
    first: int
    last: int
    terms: bytes
    places: bytes


# --- Terms --------------------------------------------------------------------------------------------------


def wanted_terms(
    sender: tuple[str, str] | None,
    recipient: tuple[str, str] | None,
    message_id: str | None,
    subject: str | None,
    reply: str | None,
) -> set[int]:
    """Terms that everything that is wanted has. None at all: the index is of no use."""
    terms = set()
    if sender is not None:
        terms.add(_term("s", "@".join(sender)))
    if recipient is not None:
        terms.add(_term("r", "@".join(recipient)))
    if message_id is not None:
        terms.add(_term("m", message_id))
    if subject is not None:
        terms.add(_term("t", subject))
    if reply is not None:
        terms.update(_words(reply))
    return terms


def _terms(details: str, results: bytes | None) -> Iterator[int]:
    sender, recipients, message_id, subject = search_texts(details)
    if sender is not None:
        yield _term("s", "@".join(sender))
    for recipient in recipients:
        yield _term("r", "@".join(recipient))
    if message_id:
        yield _term("m", message_id)
    if subject:
        yield _term("t", subject)
    if results is not None:
        for attempt in _replies.decode(results)[1]:
            yield from _words(attempt[_REPLY])


def _words(reply: str) -> Iterator[int]:
    """Words that tell a reply from others: ids have a digit."""
    for word in _WORD.findall(reply):
        if not word.isalpha():
            yield _term("w", word)


def _term(kind: str, text: str) -> int:
    return zlib.crc32(f"{kind}{text}".encode("utf-8", "surrogatepass"))


# --- Making -------------------------------------------------------------------------------------------------


def read_frontier(query: Query, living: bool) -> int:
    """Up to which place blocks go."""
    ((frontier,),) = query(_FRONTIER, (-1, living)).fetchall()  # to its end: an open statement is a lock
    return int(frontier)


def note_late(execute: Query, living: bool, place: int) -> None:
    """A row was stored at or below the frontier."""
    execute(_NOTE_LATE, (living, place))


def next_span(query: Query, living: bool) -> Span | None:
    """What there is enough of for a block."""
    late = tuple(place for (place,) in query(_LATE, (living, BLOCK)))
    if len(late) == BLOCK:
        return Span(living, 0, 0, late)
    after = read_frontier(query, living)
    if query(_BOUND[living], (after, BLOCK + MARGIN - 1)).fetchone() is None:
        return None
    (upto,) = query(_BOUND[living], (after, BLOCK - 1)).fetchone()
    return Span(living, after, upto)


def make_block(query: Query, span: Span) -> Block:
    """Go through the rows. Some 50 ms."""
    if span.late:
        rows = query(_THESE_ROWS[span.living], (msgspec.json.encode(span.late).decode(),))
    else:
        rows = query(_ROWS[span.living], (span.after, span.upto))
    places = array("q")
    terms: set[int] = set()
    for place, details, results in rows:
        position = len(places)
        try:
            terms.update(term << 16 | position for term in _terms(details, results))
        except (ValueError, IndexError, TypeError):
            continue  # damaged, which others find out and tell
        places.append(place)
    if span.late:
        first, last = span.late[0], span.late[-1]
    else:
        first, last = (places[0] if places else span.upto), span.upto
    return Block(span, first, last, _stored(array("Q", sorted(terms))), _stored(places))


def add_block(execute: Query, block: Block) -> None:
    """Store it; its frontier must have been moved before it was made."""
    span = block.span
    execute(_ADD, (span.living, bool(span.late), block.first, block.last, block.terms, block.places))
    if span.late:
        execute(_NOT_LATE, (span.living, msgspec.json.encode(span.late).decode()))


def stale_blocks(query: Query) -> list[int]:
    """Those of which no row is left."""
    return [block for living in (True, False) for (block,) in query(_STALE[living])]


def drop_blocks(execute: Query, blocks: Sequence[int]) -> None:
    for block in blocks:
        execute(_DROP, (block,))


# --- Searching ----------------------------------------------------------------------------------------------


def search(
    query: Query, living: bool, terms: set[int], limit: int, look: Callable[[Sequence[int] | int, int], Found]
) -> list[str]:
    """Ids of at most `limit` rows that have all terms: of living ones the oldest, else the last ones first.

    `look` looks closely: at the rows of these places, or at those behind one, and gives at most so many.
    """
    if limit < 1:
        return []
    direction = 1 if living else -1
    found = dict(look(read_frontier(query, living), limit))
    late = [place for (place,) in query(_LATE, (living, -1))]
    found.update(_look_in_steps(sorted(late, reverse=not living), limit, look))
    for block, nearest, stored in query(_BLOCKS[living]):
        if len(found) >= limit:
            furthest = sorted(direction * place for place in found)[limit - 1]
            if furthest <= direction * nearest:
                break
        positions = _with_all(_loaded("Q", stored), terms)
        if positions:
            row = query(_PLACES, (block,)).fetchone()
            if row is not None:
                places = _loaded("q", row[0])
                some = sorted((places[each] for each in positions), reverse=not living)
                found.update(_look_in_steps(some, limit, look))
    return [found[place] for place in sorted(found, reverse=not living)[:limit]]


def _look_in_steps(
    places: Sequence[int], limit: int, look: Callable[[Sequence[int] | int, int], Found]
) -> Iterable[tuple[int, str]]:
    found: Found = []
    for begin in range(0, len(places), _CLOSE):
        found += look(places[begin : begin + _CLOSE], limit)
        if len(found) >= limit:
            break
    return found


def _with_all(stored: array[int], terms: set[int]) -> set[int]:
    """Positions that have all terms."""
    spans = []
    for term in terms:
        begin, end = bisect_left(stored, term << 16), bisect_left(stored, (term + 1) << 16)
        if begin == end:
            return set()
        spans.append((end - begin, begin, end))
    spans.sort()
    found: set[int] | None = None
    for _, begin, end in spans:
        these = {each & 0xFFFF for each in stored[begin:end]}
        found = these if found is None else found & these
    return found or set()


def _stored(numbers: array[int]) -> bytes:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def _loaded(kind: str, stored: bytes) -> array[int]:
    numbers = array(kind)
    numbers.frombytes(stored)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
