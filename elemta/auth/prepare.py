"""Names and passwords in the one form in which they are compared.

Passwords and SCRAM names go through SASLprep (RFC 4013), which is what SCRAM clients apply before they
hash (RFC 5802 §2.2, RFC 7677). Code points newer than the tables of RFC 3454 are let through as RFC 3454 §7
has it for queries, so that they do not depend on a Unicode version. Account names are small letters
besides (UsernameCaseMapped, RFC 8265 §3.3) and have no blanks.
"""

from __future__ import annotations

import stringprep
from unicodedata import ucd_3_2_0

MAX_NAME = 255
"""Octets. RFC 4616 §2 asks for at least so many."""
MAX_PASSWORD = 1024
"""Octets. Nobody types more, and each costs time to hash."""

_PROHIBITED = (  # RFC 4013 §2.3
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


class NotPrepared(ValueError):
    """A text that can be no name or no password. Its message never repeats the text."""


def saslprep(text: str) -> str:
    """The text as RFC 4013 prepares a query.

    Raises:
      NotPrepared: it has prohibited characters, or mixes directions as RFC 3454 §6 forbids.
    """
    if text.isascii():  # nothing to map or to normalize
        if not text.isprintable():
            raise NotPrepared("it has a control character")
        return text
    mapped = "".join(
        " " if stringprep.in_table_c12(character) else character  # RFC 4013 §2.1: other blanks are blanks
        for character in text
        if not stringprep.in_table_b1(character)  # soft hyphens and the like are nothing
    )
    prepared = ucd_3_2_0.normalize("NFKC", mapped)  # RFC 4013 §2.2
    for character in prepared:
        if any(prohibited(character) for prohibited in _PROHIBITED):
            raise NotPrepared("it has a control or unusable character")
    if any(map(stringprep.in_table_d1, prepared)):  # RFC 3454 §6
        if any(map(stringprep.in_table_d2, prepared)):
            raise NotPrepared("it mixes left-to-right and right-to-left letters")
        if not (stringprep.in_table_d1(prepared[0]) and stringprep.in_table_d1(prepared[-1])):
            raise NotPrepared("right-to-left text must begin and end with such a letter")
    return prepared


def prepare_name(text: str) -> str:
    """The name of an account as it is looked up.

    Raises:
      NotPrepared: it can be the name of no account.
    """
    if not text or len(text) > MAX_NAME or len(text.encode("utf-8", "surrogatepass")) > MAX_NAME:
        raise NotPrepared("it is empty or too long")
    # the second time because small letters may combine where capitals did not (RFC 8264 §7)
    prepared = saslprep(saslprep(text).lower())
    if not prepared or " " in prepared:  # RFC 8265 §3.3: a user name has no blanks
        raise NotPrepared("it is empty or has a blank")
    if len(prepared.encode()) > MAX_NAME:
        raise NotPrepared("it is too long")
    return prepared


def prepare_password(text: str) -> str:
    """The password as it is hashed.

    Raises:
      NotPrepared: it is empty, too long or has control characters.
    """
    if len(text) > MAX_PASSWORD or len(text.encode("utf-8", "surrogatepass")) > MAX_PASSWORD:
        raise NotPrepared("it is too long")
    prepared = saslprep(text)
    if not prepared:
        raise NotPrepared("it is empty")
    return prepared
