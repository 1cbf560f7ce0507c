"""What a plugin may answer: a decision, changes, and notes for those asked after it.

Everything here is a frozen value made only of what goes through a pipe: text, numbers, octets, tuples.
So both tiers get the same, and an answer that was cut short can be dropped whole.
"""

from __future__ import annotations

import enum
import re
from typing import Any, TypeAlias

import attrs

NoteValue: TypeAlias = str | int | float | bool | None
"""What the results store keeps under a name."""

_ENHANCED = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}")
# RFC 5322 §3.6.8: ftext is any printable character except the colon
_FIELD_NAME = re.compile(r"[\x21-\x39\x3b-\x7e]{1,77}")
_LINE_BREAK = re.compile(r"[\r\n\x00]")
# RFC 5322 §2.2.3: a fold is CRLF before a blank. A line of nothing but blanks could be taken for the end.
_LINE_ENDS = re.compile(r"\r\n|\r|\n")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_FOLDED = re.compile(r"(?:[^\r\n\x00]|\r\n[ \t]+(?=[^ \t\r\n]))*")


def _enhanced(_: object, attribute: attrs.Attribute[str], value: str) -> None:
    if not _ENHANCED.fullmatch(value):
        raise ValueError(f"{attribute.name} is {value!r}; an enhanced code looks like 4.7.1 (RFC 3463)")


def _code(first: int) -> Any:  # attrs types validators by the class they stand in
    def check(_: object, attribute: attrs.Attribute[int], value: int) -> None:
        if type(value) is not int or value // 100 != first:
            raise ValueError(f"{attribute.name} is {value!r}; it has to be {first}00 to {first}99")

    return check


def _one_line(_: object, attribute: attrs.Attribute[str], value: str) -> None:
    if not isinstance(value, str) or _LINE_BREAK.search(value):
        raise ValueError(f"{attribute.name} has to be text of one line")


def _field_value(_: object, attribute: attrs.Attribute[str], value: str) -> None:
    if not isinstance(value, str) or not _FOLDED.fullmatch(value):
        raise ValueError(f"{attribute.name} has to be text of one line, or folded as RFC 5322 §2.2.3 has it")


def _same_class(decision: Defer | Reject) -> None:
    if int(decision.enhanced[0]) * 100 != decision.code // 100 * 100:
        raise ValueError(f"code {decision.code} and enhanced code {decision.enhanced} differ in their class")


@attrs.frozen(slots=True)
class Continue:
    """No objection; the next plugin is asked."""


@attrs.frozen(slots=True)
class Accept:
    """Let it through at this hook: plugins behind are not asked at it. Grants no right to relay."""

    reason: str = attrs.field(default="", validator=_one_line)


@attrs.frozen(slots=True)
class Defer:
    """Not now: the client, or the queue, tries again later (4yz)."""

    text: str = attrs.field(default="Try again later", validator=_one_line)
    """What the client reads. Printable ASCII; anything else is shown as `?`."""
    code: int = attrs.field(default=451, validator=_code(4))
    enhanced: str = attrs.field(default="4.7.1", validator=_enhanced)
    reason: str = attrs.field(default="", validator=_one_line)
    """For the operator only."""

    __attrs_post_init__ = _same_class


@attrs.frozen(slots=True)
class Reject:
    """No, for good (5yz)."""

    text: str = attrs.field(default="Refused by local policy", validator=_one_line)
    """What the client reads. Printable ASCII; anything else is shown as `?`."""
    code: int = attrs.field(default=550, validator=_code(5))
    enhanced: str = attrs.field(default="5.7.1", validator=_enhanced)
    reason: str = attrs.field(default="", validator=_one_line)
    """For the operator only."""

    __attrs_post_init__ = _same_class


@attrs.frozen(slots=True)
class Hold:
    """Take the message, and keep all of its recipients on hold until an operator releases them."""

    reason: str = attrs.field(default="", validator=_one_line)


@attrs.frozen(slots=True)
class Discard:
    """Say yes to the client, and forget the message. It is told in an event."""

    reason: str = attrs.field(default="", validator=_one_line)


@attrs.frozen(slots=True)
class Quarantine:
    """Take the message and hold it as suspect; `elemta queue list` shows the reason."""

    reason: str = attrs.field(default="", validator=_one_line)


@attrs.frozen(slots=True)
class Redirect:
    """Deliver to these mailboxes in the place of those the client named."""

    recipients: tuple[str, ...] = attrs.field()
    reason: str = attrs.field(default="", validator=_one_line)

    @recipients.validator
    def _check(self, _: object, value: tuple[str, ...]) -> None:
        if (
            not isinstance(value, tuple)
            or not value
            or not all(isinstance(each, str) and each for each in value)
        ):
            raise ValueError("Redirect needs a tuple of at least one address")


Decision: TypeAlias = Continue | Accept | Defer | Reject | Hold | Discard | Quarantine | Redirect
DECISIONS: tuple[type[Decision], ...] = (
    Continue, Accept, Defer, Reject, Hold, Discard, Quarantine, Redirect,
)  # fmt: skip
"""The classes of `Decision`; their names are the tags on the wire and in events."""

CONTINUE = Continue()


class HeaderAction(enum.StrEnum):
    ADD = "add"
    """At the end of the header."""
    INSERT = "insert"
    """At its top, under our own trace fields."""
    REMOVE = "remove"
    """All fields of that name, or the one that `index` says."""
    REPLACE = "replace"
    """The first field of that name, and the others of it are removed; or only the one that `index` says.
    Added where there is none."""


@attrs.frozen(slots=True)
class HeaderChange:
    """One change of the header.

    A value of one line is folded when written. One that has folds (CRLF before a blank) is written as it is:
    signatures are about that.
    """

    action: HeaderAction = attrs.field(converter=HeaderAction)
    name: str = attrs.field()
    value: str = attrs.field(default="", validator=_field_value)
    index: int = attrs.field(default=0)
    """`REMOVE`, `REPLACE`: which of the fields of that name, as they are by then, counted from 1; 0: all."""

    @index.validator
    def _check_index(self, _: object, value: int) -> None:
        if type(value) is not int or not 0 <= value <= 1_000_000:
            raise ValueError(f"index is {value!r}; it has to be a number from 0")

    @name.validator
    def _check(self, _: object, value: str) -> None:
        if not isinstance(value, str) or not _FIELD_NAME.fullmatch(value):
            raise ValueError(f"{value!r} is no name of a header field (RFC 5322 §3.6.8)")


class RecipientAction(enum.StrEnum):
    ADD = "add"
    REMOVE = "remove"
    REPLACE = "replace"


@attrs.frozen(slots=True)
class RecipientChange:
    """One change of the recipients; addresses as `local@example.org`."""

    action: RecipientAction = attrs.field(converter=RecipientAction)
    address: str = attrs.field(validator=_one_line)
    replacement: str = attrs.field(default="", validator=_one_line)
    """`REPLACE`: the mailbox that takes its place."""


@attrs.frozen(slots=True)
class Changes:
    """What a plugin wants changed. Taken whole, or, when the call fails in any way, not at all."""

    headers: tuple[HeaderChange, ...] = ()
    recipients: tuple[RecipientChange, ...] = ()
    sender: str | None = None
    """The new reverse path; empty text: the null path `<>`."""
    route: str | None = None
    """The next hop, as `host` or `host:port`, over SMTP."""
    priority: int | None = None
    """-9 to 9 (RFC 6710)."""
    tags: tuple[str, ...] = ()
    """Words for events and listings."""

    def __bool__(self) -> bool:
        return self != NO_CHANGES


NO_CHANGES = Changes()


@attrs.frozen(slots=True)
class HookAnswer:
    """All that one call of a hook answers."""

    decision: Decision = CONTINUE
    changes: Changes = NO_CHANGES
    notes: dict[str, NoteValue] = attrs.field(factory=dict)
    """For the results store; plugins behind see them under `NAME.key`, with the name of the plugin."""


NO_ANSWER = HookAnswer()
"""No objection, no change, nothing noted. Tiers may hand it out again and again: nobody changes it."""


def field_value(text: str) -> str:
    """Text of a stranger, or of another server, as the value of a header field: line ends become folds."""
    first, *others = [_CONTROL.sub("?", line) for line in _LINE_ENDS.split(text) if line.strip()] or [""]
    return "\r\n".join([first, *(line if line[0] in " \t" else f"\t{line}" for line in others)])


def add_header(name: str, value: str) -> Changes:
    """The change that adds one field at the end of the header."""
    return Changes(headers=(HeaderChange(HeaderAction.ADD, name, value),))
