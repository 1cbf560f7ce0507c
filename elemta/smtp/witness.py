"""What was said in a session, for who looks at it afterwards: in order, without secrets and messages.

A machine tells its witness of each line that it took and gave, as the object that it has at hand; only who
wants to read it pays for the text.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from typing import TypeAlias

from elemta.mail import Reply

from .commands import Auth, AuthResponse, Command, EndOfBody
from .errors import LocalProtocolError
from .events import BodyEnd
from .formatting import format_command

LONGEST_LINE = 1000
"""Octets of a client's line that are kept."""
_MOST_LINES = 30
"""Of one reply that are shown."""

_AUTH = re.compile(rb"[ \t]*AUTH(?:[ \t]+([A-Za-z0-9_-]{1,20}))?(?:[ \t].*)?", re.IGNORECASE | re.DOTALL)
_VERBS = frozenset(
    b"BDAT DATA EHLO ETRN EXPN HELO HELP LHLO MAIL NOOP QUIT RCPT RSET STARTTLS VRFY XCLIENT XFORWARD".split()
)
_WORD = re.compile(rb"[A-Za-z]{1,12}(?=[ \t])")


class Side(enum.StrEnum):
    """Who said it."""

    CLIENT = "C"
    SERVER = "S"
    NOTE = "*"
    """Nobody: something happened."""


class Kept(enum.Enum):
    """What is not written down."""

    SECRET = "(a secret)"  # noqa: S105 - says that there was one
    CONTENT = "(the message)"


Witness: TypeAlias = Callable[[Side, object], None]
"""Told of each line in order: the bytes of a line, a command, a reply, the end of a message, or a note."""


def show_said(what: object) -> list[str]:
    """The lines of what a witness was told. May hold a stranger's text: to be escaped where it is shown."""
    match what:
        case Kept():
            return [what.value]
        case Reply():
            return _show_reply(what)
        case BodyEnd(size, problem):
            return [f"(a message of {size} octets)" if problem is None else f"(a message: {problem.value})"]
        case EndOfBody():
            return [Kept.CONTENT.value]
        case Auth(mechanism):
            return [f"AUTH {mechanism} {Kept.SECRET.value}"]
        case AuthResponse():
            return [Kept.SECRET.value]
        case bytes():
            return [_show_line(what)]
        case str():
            return [what]
    return [_show_command(what)]  # type: ignore[arg-type]  # a command: nothing else is left


def _show_command(command: Command) -> str:
    try:
        return format_command(command, utf8=True).decode("utf-8", "backslashreplace").rstrip("\r\n")
    except LocalProtocolError:
        return command.verb


def _show_line(line: bytes) -> str:
    """A client's line as it came. What is none of our commands may be anything, a password as well."""
    if (auth := _AUTH.fullmatch(line)) is not None:
        mechanism = b"" if auth[1] is None else b" " + auth[1]
        return f"AUTH{mechanism.decode()} {Kept.SECRET.value}"
    verb = re.match(rb"[ \t]*([A-Za-z]*)", line)
    if verb is None or verb[1].upper() not in _VERBS:
        word = _WORD.match(line)
        lead = "" if word is None else word[0].decode() + " "
        return f"{lead}({len(line)} octets that are no command)"
    return line.decode("utf-8", "backslashreplace").rstrip("\r\n")


def _show_reply(reply: Reply) -> list[str]:
    if reply.code == 334:  # RFC 4954 §4
        return ["334 (a challenge)"]
    enhanced = f"{reply.enhanced_text} " if reply.enhanced_text else ""
    lines = reply.lines or ("",)
    shown = [
        f"{reply.code}{'-' if place < len(lines) else ' '}{enhanced}{text}"
        for place, text in enumerate(lines, 1)
    ]
    return shown if len(shown) <= _MOST_LINES else [*shown[: _MOST_LINES - 1], "…"]
