"""Which events a watcher wants: parsed from a query string or a message, matched one event at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

import attrs
import msgspec

from elemta.events import Event, SessionClosed, SessionOpened
from elemta.runtime import LEVELS

MAX_VALUES = 50
"""Of one kind in one filter."""
MAX_VALUE = 320
"""Characters of one value: the longest address (RFC 5321 §4.5.3.1), about."""
MAX_SESSIONS = 20_000
"""Sessions that a filter by listener remembers."""

KINDS = ("type", "session", "message", "sender", "recipient", "domain", "listener", "level")
_PLACES = ("last", "since")

Test: TypeAlias = Callable[[Event], bool]


class BadFilter(Exception):
    """The text is for the client."""


@attrs.frozen
class Wish:
    """What a watcher asks for: which events, and where to begin. Without a place: with the next event."""

    wanted: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    """By kind; one of the values of each kind must fit."""
    last: int | None = None
    """Begin with so many events that fit and are kept."""
    since: int | None = None
    """Begin behind the event of that number."""


class Filter:
    """Decides about events in their order. It may remember sessions, so it serves one watcher."""

    def __init__(
        self, wanted: Mapping[str, tuple[str, ...]], listener_of: Mapping[str, str] | None = None
    ) -> None:
        """`listener_of`: the listener of each session that is open when the events begin."""
        self._tests: list[Test] = [_TESTS[kind](values) for kind, values in wanted.items() if kind in _TESTS]
        self.key: object = tuple(sorted(wanted.items()))
        """The same for filters that decide the same; None: it remembers, and is like no other."""
        if "listener" in wanted:
            self._tests.append(_ByListener(wanted["listener"], listener_of or {}))
            self.key = None

    @property
    def takes_all(self) -> bool:
        return not self._tests

    def __call__(self, event: Event) -> bool:
        # Each test sees each event that passed those before it; the one that remembers comes last, so
        # it may miss the end of a session, and forgets by itself.
        return all(test(event) for test in self._tests)


# --- Parsing ------------------------------------------------------------------------------------------------


def parse_query(query: bytes) -> Wish:
    """The wish in a query string: `type=recipient.*&type=message.*&domain=example.org&last=100`.

    Raises:
      BadFilter: with what is wrong, and what there is.
    """
    found: dict[str, list[str]] = {}
    try:
        pairs = parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MAX_VALUES * len(KINDS),
        )
    except ValueError:
        raise BadFilter("the query string cannot be read") from None
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return _make_wish(found)


class _Message(msgspec.Struct, forbid_unknown_fields=True):
    """What a client may send."""

    subscribe: dict[str, str | int | list[str]]


def parse_message(message: str | bytes) -> Wish:
    """The wish in a message: `{"subscribe": {"type": ["recipient.*"], "since": 17}}`; the names are those of
    the query string.

    Raises:
      BadFilter: with what is wrong, and what there is.
    """
    try:
        parsed = msgspec.json.decode(message, type=_Message)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BadFilter(f'expected {{"subscribe": {{"type": […], …}}}}: {error}') from error
    found: dict[str, list[str]] = {}
    for name, value in parsed.subscribe.items():
        if isinstance(value, int) and name not in _PLACES:
            raise BadFilter(f"{_shown(name)} is text or a list of texts")
        found[name] = value if isinstance(value, list) else [str(value)]
    return _make_wish(found)


def _make_wish(found: Mapping[str, list[str]]) -> Wish:
    for name, values in found.items():
        if name not in KINDS and name not in _PLACES:
            raise BadFilter(f"unknown filter {_shown(name)}: there are {', '.join((*KINDS, *_PLACES))}")
        if len(values) > MAX_VALUES:
            raise BadFilter(f"{name}: at most {MAX_VALUES} values")
        for value in values:
            if not 0 < len(value) <= MAX_VALUE:
                raise BadFilter(f"{name}: a value has 1 to {MAX_VALUE} characters")
    for level in found.get("level", ()):
        if level not in LEVELS:
            raise BadFilter(f"level is one of {', '.join(LEVELS)}")
    if "last" in found and "since" in found:
        raise BadFilter("give last or since, not both")
    return Wish(
        {kind: tuple(found[kind]) for kind in KINDS if found.get(kind)},
        last=_number(found, "last"),
        since=_number(found, "since"),
    )


def _number(found: Mapping[str, list[str]], name: str) -> int | None:
    values = found.get(name)
    if values is None:
        return None
    if len(values) != 1 or not (values[0].isascii() and values[0].isdigit() and len(values[0]) <= 18):
        raise BadFilter(f"{name} is one number")
    return int(values[0])


def _shown(name: str) -> str:
    return repr(name[:40])


# --- Matching -----------------------------------------------------------------------------------------------


class _Pattern:
    """Text with `*` for anything; letters in either case. Takes linear time, whatever is asked."""

    def __init__(self, pattern: str) -> None:
        self._parts = pattern.lower().split("*")

    def __call__(self, text: str) -> bool:
        text = text.lower()
        first, *rest = self._parts
        if not rest:
            return text == first
        *middle, last = rest
        if not text.startswith(first) or not text.endswith(last) or len(text) < len(first) + len(last):
            return False
        position, end = len(first), len(text) - len(last)
        for part in middle:
            position = text.find(part, position, end)
            if position < 0:
                return False
            position += len(part)
        return True


def _any_of(values: Iterable[str]) -> Callable[[str], bool]:
    exact = frozenset(value.lower() for value in values if "*" not in value)
    patterns = [_Pattern(value) for value in values if "*" in value]
    return lambda text: text.lower() in exact or any(pattern(text) for pattern in patterns)


def _by_type(values: Collection[str]) -> Test:
    fits = _any_of(values)
    known: dict[str, bool] = {}  # there are some dozen types, and each event has one

    def test(event: Event) -> bool:
        kind = event.type
        answer = known.get(kind)
        if answer is None:
            answer = known[kind] = fits(kind)
        return answer

    return test


def _by_field(*names: str) -> Callable[[Collection[str]], Test]:
    def make(values: Collection[str]) -> Test:
        wanted = frozenset(values)
        return lambda event: any(getattr(event, name, None) in wanted for name in names)

    return make


def _by_sender(values: Collection[str]) -> Test:
    fits = _any_of(values)
    return lambda event: any(fits(sender) for sender in _texts(event, "sender"))


def _by_recipient(values: Collection[str]) -> Test:
    fits = _any_of(values)
    return lambda event: any(fits(recipient) for recipient in _recipients(event))


def _by_domain(values: Collection[str]) -> Test:
    fits = _any_of(values)
    return lambda event: any(
        fits(address.rpartition("@")[2])
        for address in (*_texts(event, "sender"), *_recipients(event))
        if "@" in address
    )


def _by_level(values: Collection[str]) -> Test:
    least = min(LEVELS[value] for value in values)
    return lambda event: LEVELS[event.level] >= least


def _texts(event: Event, name: str) -> tuple[str, ...]:
    value = getattr(event, name, "")
    return (value,) if isinstance(value, str) and value else ()


def _recipients(event: Event) -> tuple[str, ...]:
    several: Any = getattr(event, "recipients", None)  # Any: in one event it is a number
    return several if isinstance(several, tuple) else _texts(event, "recipient")


class _ByListener:
    """Events of a listener, and of the sessions that began at it."""

    def __init__(self, values: Collection[str], listener_of: Mapping[str, str]) -> None:
        self._fits = _any_of(values)
        self._sessions = dict.fromkeys(
            session for session, listener in listener_of.items() if self._fits(listener)
        )

    def __call__(self, event: Event) -> bool:
        listener = getattr(event, "listener", None)
        session = getattr(event, "session", None)
        if isinstance(listener, str):
            fits = self._fits(listener)
            if fits and isinstance(event, SessionOpened):
                self._sessions[event.session] = None
                if len(self._sessions) > MAX_SESSIONS:
                    del self._sessions[next(iter(self._sessions))]
            return fits
        fits = session in self._sessions
        if fits and isinstance(event, SessionClosed):
            del self._sessions[event.session]
        return fits


_TESTS: Mapping[str, Callable[[Collection[str]], Test]] = {
    "type": _by_type,
    "session": _by_field("session"),
    "message": _by_field("message", "about"),
    "sender": _by_sender,
    "recipient": _by_recipient,
    "domain": _by_domain,
    "level": _by_level,
}
