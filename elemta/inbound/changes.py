"""What plugins want changed in a message, applied to its envelope and its header. Pure.

All changes of a message are made, or none: what cannot be made is a `BadChange`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import attrs

from elemta.mail import (
    NULL_PATH,
    HeaderBlock,
    Mailbox,
    MailSyntaxError,
    Recipient,
    ReversePath,
    parse_mailbox,
    split_header,
)
from elemta.mail.trace import fold
from elemta.plugin import Changes, HeaderAction, HeaderChange, RecipientAction

MOST_TAGS = 50
"""Words about one message, the first ones: they are kept with it."""
_NOT_ASCII = re.compile(r"[^\x20-\x7e\t\r\n]")
LONGEST_LINE = 998
"""RFC 5322 §2.1.1, without CRLF."""


class BadChange(Exception):
    """A plugin wants what cannot be; the text names the plugin."""


@attrs.frozen
class Changed:
    """A message as plugins want it."""

    sender: ReversePath
    recipients: dict[Mailbox, Recipient]
    priority: int
    header: tuple[HeaderChange, ...] = ()
    tags: tuple[str, ...] = ()


def apply_changes(before: Changed, changes: Iterable[tuple[str, Changes]], *, utf8: bool) -> Changed:
    """Make them in order.

    Raises:
      BadChange: an address is none.
    """
    sender, recipients, priority = before.sender, dict(before.recipients), before.priority
    header, tags = list(before.header), dict.fromkeys(before.tags)
    for plugin, wanted in changes:
        for change in wanted.recipients:
            mailbox = read_mailbox(change.address, plugin, utf8=utf8)
            if change.action is RecipientAction.ADD:
                recipients.setdefault(mailbox, Recipient(mailbox))
                continue
            old = recipients.pop(mailbox, None)
            if change.action is RecipientAction.REPLACE and old is not None:
                new = read_mailbox(change.replacement, plugin, utf8=utf8)
                recipients.setdefault(new, attrs.evolve(old, mailbox=new))
        if wanted.sender is not None:
            sender = (
                ReversePath(read_mailbox(wanted.sender, plugin, utf8=utf8)) if wanted.sender else NULL_PATH
            )
        priority = priority if wanted.priority is None else wanted.priority
        header += wanted.headers
        tags |= dict.fromkeys(wanted.tags)
    return Changed(sender, recipients, priority, tuple(header), tuple(tags)[:MOST_TAGS])


def read_mailbox(text: str, plugin: str, *, utf8: bool) -> Mailbox:
    """An address that a plugin gave.

    Raises:
      BadChange: it is none.
    """
    try:
        return parse_mailbox(text, utf8=utf8)
    except MailSyntaxError as error:
        raise BadChange(f"plugin {plugin}: {text[:100]!r} is {error}") from error


def new_header(head: bytes, changes: Iterable[HeaderChange], *, utf8: bool) -> tuple[bytes, bytes]:
    """What is put before the header, and the header itself as it is then.

    Args:
      head: the header with its empty line, where it has one.
      utf8: the message may have UTF-8 in its header (RFC 6532); else what is no ASCII is shown as `?`.
    """
    top: list[bytes] = []
    for change in changes:
        field = _field(change, utf8=utf8)
        if change.action is HeaderAction.INSERT:
            top.insert(0, field)
            continue
        length = _end_of_fields(head)
        fields, rest = head[:length], head[length:]
        if change.action is HeaderAction.ADD:
            head = fields + field + rest
        elif change.action is HeaderAction.REMOVE:
            head = (_without(fields, change, b"") or fields) + rest
        else:
            head = (_without(fields, change, field) or fields + field) + rest
    return b"".join(top), head


def _end_of_fields(head: bytes) -> int:
    """Where the empty line begins; the length where there is none."""
    end = split_header(head)
    if head.startswith(b"\r\n"):
        return 0
    return end - 2 if head[:end].endswith(b"\r\n\r\n") else end


def _without(fields: bytes, change: HeaderChange, instead: bytes) -> bytes | None:
    """What the change is about taken out; `instead` stands where the first one was. None: no such field."""
    wanted = change.name.lower().encode("ascii")
    kept, position, copied, count = b"", 0, 0, 0
    found = False
    for field in HeaderBlock(fields).fields():
        start = position
        if not fields.startswith(field.raw, start):  # behind a line that is no field
            start = fields.index(b"\r\n" + field.raw, start) + 2
        position = start + len(field.raw)
        if field.name.lower() != wanted:
            continue
        count += 1
        if change.index in (0, count):
            kept += fields[copied:start] + (b"" if found else instead)
            copied, found = position, True
    return kept + fields[copied:] if found else None


def _field(change: HeaderChange, *, utf8: bool) -> bytes:
    value = change.value if utf8 else _NOT_ASCII.sub("?", change.value)
    if "\r\n" in value:
        blank = "" if value.startswith((" ", "\t", "\r")) else " "
        field = f"{change.name}:{blank}{value}\r\n".encode("utf-8", "replace")
        if max(map(len, field.split(b"\r\n"))) <= LONGEST_LINE:
            return field
    return fold([f"{change.name}:", *value.split()]).encode("utf-8", "replace")
