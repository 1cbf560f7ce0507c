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

_NOT_ASCII = re.compile(r"[^\x20-\x7e]")


class BadChange(Exception):
    """A plugin wants what cannot be; the text names the plugin."""


@attrs.frozen
class Changed:
    """A message as plugins want it."""

    sender: ReversePath
    recipients: dict[Mailbox, Recipient]
    priority: int
    header: tuple[HeaderChange, ...] = ()


def apply_changes(before: Changed, changes: Iterable[tuple[str, Changes]], *, utf8: bool) -> Changed:
    """Make them in order.

    Raises:
      BadChange: an address is none.
    """
    sender, recipients, priority = before.sender, dict(before.recipients), before.priority
    header = list(before.header)
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
    return Changed(sender, recipients, priority, tuple(header))


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
            head = _without(fields, change.name, b"") + rest
        else:
            replaced = _without(fields, change.name, field)
            head = (fields + field if replaced == fields else replaced) + rest
    return b"".join(top), head


def _end_of_fields(head: bytes) -> int:
    """Where the empty line begins; the length where there is none."""
    end = split_header(head)
    if head.startswith(b"\r\n"):
        return 0
    return end - 2 if head[:end].endswith(b"\r\n\r\n") else end


def _without(fields: bytes, name: str, instead: bytes) -> bytes:
    """All fields of that name taken out; `instead` stands where the first one was."""
    wanted = name.lower().encode("ascii")
    rest, kept = fields, b""
    for field in HeaderBlock(fields).fields():
        if field.name.lower() != wanted:
            continue
        before, _, rest = rest.partition(field.raw)
        kept += before + instead
        instead = b""
    return kept + rest


def _field(change: HeaderChange, *, utf8: bool) -> bytes:
    value = change.value if utf8 else _NOT_ASCII.sub("?", change.value)
    return fold([f"{change.name}:", *value.split()]).encode("utf-8", "replace")
