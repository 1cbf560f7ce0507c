"""The header of a message as signatures see it: fields by name, bottom up, in canonical form.

Built once for each message and shared by all its signatures: a field is brought into its relaxed form at
most once, whoever signed it. Everything is linear in the header but for the hashes, of which there is a
bounded number.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import attrs

from elemta.mail import split_header

from .canonical import Form, relaxed_field
from .tags import without_value

if TYPE_CHECKING:
    from hashlib import _Hash

MOST_FIELDS = 2000
"""Fields that are looked at. Honest messages have up to some hundred; each costs Python about 2 µs."""

# RFC 5322 §2.2.3: a line that begins with a blank belongs to the one before
_FIELD_END = re.compile(rb"\r\n(?![ \t])")
# RFC 5322 §3.6.8: ftext is any printable character except the colon. §4.5 has blanks before the colon.
_NAME = re.compile(rb"([\x21-\x39\x3b-\x7e]++)[ \t]*+:")


@attrs.define(eq=False)
class Field:
    """One header field."""

    name: bytes
    """In small letters."""
    raw: bytes
    """All its octets, folded as they came, without the last line end."""
    _relaxed: bytes | None = None

    @property
    def value(self) -> bytes:
        """What stands behind the colon, folded as it came."""
        return self.raw.partition(b":")[2]

    @property
    def unfolded(self) -> bytes:
        """The value in one line, bare of blanks at its ends (RFC 5322 §2.2.3)."""
        return self.value.replace(b"\r\n", b"").strip(b" \t")

    @property
    def relaxed(self) -> bytes:
        """RFC 6376 §3.4.2, without a line end."""
        if self._relaxed is None:
            self._relaxed = relaxed_field(self.name, self.value)
        return self._relaxed

    def canonical(self, form: Form) -> bytes:
        """In that form, without a line end."""
        return self.relaxed if form is Form.RELAXED else self.raw

    def unsigned(self, form: Form) -> tuple[bytes, ...]:
        """A signature as it was signed by itself, with an empty b= (RFC 6376 §3.7), without a line end.

        There may be two forms of that; either is good.
        """
        start, colon, value = self.raw.partition(b":")
        values = without_value(value, b"b")
        if form is Form.RELAXED:
            return tuple(relaxed_field(self.name, value) for value in values)
        return tuple(start + colon + value for value in values)


class MessageHead:
    """The fields of one header. What is no field (no colon, a name with blanks) is passed over."""

    def __init__(self, raw: bytes) -> None:
        """Args:
        raw: the header, with its empty line and what is behind it or without.
        """
        self.fields: list[Field] = []
        self.excess = False
        """Whether it has more fields than are looked at: then nothing can be said about signatures."""
        self._by_name: dict[bytes, list[Field]] = {}
        text = raw[: split_header(raw)].removesuffix(b"\r\n")  # the empty line
        self.size = len(text)
        start = 0
        for count, end in enumerate(_FIELD_END.finditer(text)):
            if count >= MOST_FIELDS:
                self.excess = True
                return
            self._add(text, start, end.start())
            start = end.end()
        if start < len(text):
            self._add(text, start, len(text))

    def _add(self, text: bytes, start: int, end: int) -> None:
        name = _NAME.match(text, start, end)
        if name:
            field = Field(name[1].lower(), text[start:end])
            self.fields.append(field)
            self._by_name.setdefault(field.name, []).append(field)

    def below(self, prefix: bytes) -> MessageHead:
        """The header that it will be once these fields are put before it."""
        whole = MessageHead(prefix)
        for field in self.fields:
            whole.fields.append(field)
            whole._by_name.setdefault(field.name, []).append(field)
        whole.size += self.size
        whole.excess = whole.excess or self.excess
        return whole

    def named(self, name: bytes) -> Sequence[Field]:
        """The fields of that name (in small letters) from top to bottom."""
        return self._by_name.get(name, ())

    def select(self, names: Iterable[bytes]) -> list[Field]:
        """The fields that a list of names (in small letters) signs, in its order (RFC 6376 §5.4.2).

        The first time that a name stands in the list it means the lowest field, then the one above it;
        a name with no field left means nothing, and so keeps such a field from being added.
        """
        left: dict[bytes, int] = {}
        selected = []
        for name in names:
            fields = self._by_name.get(name)
            if fields is None:
                continue
            index = left.get(name, len(fields)) - 1
            if index >= 0:
                selected.append(fields[index])
                left[name] = index
        return selected

    def hashes(self, form: Form, names: Iterable[bytes], signature: Field) -> tuple[bytes, ...]:
        """What a signature may have signed: the fields it names, then itself (RFC 6376 §3.7)."""
        digest = hashlib.sha256()
        update_fields(digest, self.select(names), form)
        return finish_hashes(digest, form, signature)


def update_fields(digest: _Hash, fields: Iterable[Field], form: Form) -> None:
    """Hash whole fields, each with its line end."""
    for field in fields:
        digest.update(field.canonical(form))
        digest.update(b"\r\n")


def finish_hashes(digest: _Hash, form: Form, signature: Field) -> tuple[bytes, ...]:
    """The hash so far with the signature itself behind it, in each of its forms."""
    found = []
    for unsigned in signature.unsigned(form):
        whole = digest.copy()
        whole.update(unsigned)
        found.append(whole.digest())
    return tuple(found)
