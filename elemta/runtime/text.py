"""Text from strangers made safe for terminals and one-line records."""

from __future__ import annotations

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def escape_text(text: str, limit: int | None = None) -> str:
    """The text with everything that is not plainly printable shown as an escape (`\\x1b`, `\\u202e`),
    so that it is one line, moves no cursor, and hides or turns round nothing.

    With a limit, a longer text is cut before escaping and ends in `…`.
    """
    if limit is not None and len(text) > limit:
        text = text[: limit - 1] + "…"
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escape(character) for character in text)


def _escape(character: str) -> str:
    number = ord(character)
    if number > 0xFFFF:
        return f"\\U{number:08x}"
    return _SHORT.get(character) or (f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}")
