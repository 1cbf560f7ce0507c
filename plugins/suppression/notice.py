"""What a delivery status notification (RFC 3464) says of each recipient. Pure; strangers write it."""

from __future__ import annotations

import email
import re
from email.message import Message
from email.policy import Compat32
from typing import Final

import attrs

_STATUS: Final = re.compile(r"(?<![\d.])([245]\.\d{1,3}\.\d{1,3})(?![\d.])")
_MOST: Final = 1000
"""Recipients in one notice that are looked at, and parts of it."""
_LONGEST: Final = 320
_LONGEST_VALUE: Final = 2000
"""Characters of a field that are looked at."""
_NESTING: Final = re.compile(rb"(?i)(?:multipart|message)/")
_MOST_NESTED: Final = 16
"""Parts that may have parts. The parser compares each line with all boundaries it is inside of."""


class _Bounded(Compat32):
    """Fields cut off: what reads their parameters takes the square of their length."""

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        name, value = super().header_source_parse(sourcelines)
        return name, value[:_LONGEST_VALUE]


_POLICY: Final = _Bounded()


@attrs.frozen
class Told:
    """What became of one recipient."""

    addresses: tuple[str, ...]
    """As the other side names it, and as the message had it where that is said."""
    action: str
    """`failed`, `delayed`, `delivered`, `relayed` or `expanded`."""
    status: str
    """As in RFC 3463."""


def read_notice(content: bytes) -> tuple[Told, ...]:
    """What it says; nothing, where it is no such notice."""
    for number, match in enumerate(_NESTING.finditer(content)):
        if number >= _MOST_NESTED:  # what the notice says comes before the message that it is about
            content = content[: match.start()]
            break
    message = email.message_from_bytes(content, policy=_POLICY)
    for number, part in enumerate(message.walk()):
        if number >= _MOST:
            break
        if part.get_content_type() in ("message/delivery-status", "message/global-delivery-status"):
            blocks = part.get_payload()
            if isinstance(blocks, list):
                found = (_told(block) for block in blocks[:_MOST] if isinstance(block, Message))
                return tuple(each for each in found if each is not None)
    return ()


def _told(block: Message) -> Told | None:
    addresses = tuple(
        address for name in ("Final-Recipient", "Original-Recipient") if (address := _address(block, name))
    )
    action = _text(block, "Action").lower()
    said = _STATUS.search(_text(block, "Status"))
    if not addresses or not action or said is None:
        return None
    status = said[1]
    if status.endswith(
        ".0.0"
    ):  # RFC 3463 §2: says nothing but the class; the other server may have said more
        for better in _STATUS.findall(_text(block, "Diagnostic-Code")):
            if better[0] == status[0]:
                status = better
                break
    return Told(addresses, action, status)


def _text(block: Message, name: str) -> str:
    value = block.get(name)
    return "" if value is None else str(value).strip()


def _address(block: Message, name: str) -> str:
    """Behind the type, as in `rfc822; bob@example.org`."""
    kind, _, address = _text(block, name).partition(";")
    address = address.strip().removeprefix("<").removesuffix(">")
    fits = kind.strip().lower() in ("rfc822", "utf-8") and "@" in address and len(address) <= _LONGEST
    return address if fits else ""
