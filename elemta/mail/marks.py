"""By what people find a message who do not know our id: its Message-ID, and a hash of its subject.

A subject can be private, so only a hash of it is kept: who knows the subject finds the message, who sees
the hash does not learn the subject (unless by trying).
"""

from __future__ import annotations

import re
from email.errors import MessageError
from email.header import decode_header, make_header
from encodings.aliases import aliases
from hashlib import blake2b

import attrs

from .header import HeaderBlock

LONGEST_MESSAGE_ID = 250
"""Characters of a Message-ID that are looked at."""
_LONGEST_SUBJECT = 1000
_BLANKS = re.compile(r"\s+")
_CHARSET = re.compile(r"(?i)=\?([^?]*)\?[qb]\?")
# Python remembers each name of a charset that it was ever asked for, and strangers make them up
_CHARSETS = frozenset(aliases) | frozenset(aliases.values()) | {"cp874", "koi8_u", "utf_8_sig"}


@attrs.frozen(slots=True)
class Marks:
    """What the header of one message says; empty where it says nothing."""

    message_id: str = ""
    """Without the brackets around it."""
    subject: str = ""
    """`subject_mark` of it."""


NO_MARKS = Marks()


def marks_of(header: bytes) -> Marks:
    """The marks of a message whose header section stands at the beginning of these octets."""
    message_id = subject = ""
    for field in HeaderBlock(header).fields():
        name = field.name.lower()
        if name == b"message-id" and not message_id:
            message_id = bare_message_id(field.value[: LONGEST_MESSAGE_ID + 2].decode("utf-8", "replace"))
        elif name == b"subject" and not subject:
            subject = subject_mark(field.value[:_LONGEST_SUBJECT].decode("utf-8", "replace"))
        if message_id and subject:
            break
    return Marks(message_id, subject) if message_id or subject else NO_MARKS


def bare_message_id(text: str) -> str:
    """A Message-ID without blanks and brackets (RFC 5322 §3.6.4), as it is compared."""
    return text.strip(" \t").removeprefix("<").removesuffix(">")[:LONGEST_MESSAGE_ID]


def subject_mark(text: str) -> str:
    """16 hex digits for a subject: the same however it is encoded, for other blanks, and for small letters.

    Empty for an empty one.
    """
    text = text[:_LONGEST_SUBJECT]
    if "=?" in text and all(_is_known(name) for name in _CHARSET.findall(text)):  # RFC 2047
        try:
            text = str(make_header(decode_header(text)))
        except (MessageError, LookupError, ValueError):
            pass  # it is what it says
    plain = _BLANKS.sub(" ", text).strip().casefold()
    return blake2b(plain.encode("utf-8", "replace"), digest_size=8).hexdigest() if plain else ""


def _is_known(charset: str) -> bool:
    return charset.lower().replace("-", "_") in _CHARSETS
