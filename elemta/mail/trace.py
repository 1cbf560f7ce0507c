"""The trace fields that this server adds: Received and Return-Path (RFC 5321 §4.4).

What a stranger said in HELO stands in Received, so it is made harmless first: nothing of it can end
the field, open or close a comment, or move the cursor of a terminal.
"""

from __future__ import annotations

import datetime
import functools
import re
from collections.abc import Sequence

from .address import Mailbox, ReversePath
from .ids import MessageId
from .origin import Origin

LINE_LENGTH = 77
"""Characters per line of a field, below the 78 of RFC 5322 §2.1.1; only a single long word exceeds it."""
MAX_HELLO = 255
"""Octets of the hello text that are kept: the longest domain (RFC 5321 §4.5.3.1.2)."""

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_LATEST = 253402300799
"""The last second of the year 9999: RFC 5322 §3.3 has more, datetime has not."""

_PLAIN_HELLO = re.compile(r"[A-Za-z0-9._-]+|\[[A-Za-z0-9.:-]+\]")
# Everything but atext (RFC 5322 §3.2.3), the dot and the colon.
_HARMFUL = re.compile(r"[^A-Za-z0-9!#$%&'*+/=?^_`{|}~.:\u0080-\U0010ffff-]")
_NON_ASCII = re.compile(r"[^\x00-\x7f]")


@functools.lru_cache(maxsize=16)
def _date(second: int) -> str:
    moment = datetime.datetime.fromtimestamp(min(max(second, 0), _LATEST), datetime.UTC)
    # Not strftime: its names depend on the locale.
    return (
        f"{_DAYS[moment.weekday()]}, {moment.day:02} {_MONTHS[moment.month - 1]} {moment.year:04} "
        f"{moment:%H:%M:%S} +0000"
    )


def date(time: float) -> str:
    """Seconds since 1970 as a date of RFC 5322 §3.3, in UTC."""
    return _date(int(time))


def received(
    origin: Origin,
    *,
    hostname: str,
    message: MessageId,
    recipient: Mailbox | None,
    time: float,
    smtputf8: bool,
    priority: int | None = None,
) -> bytes:
    """The Received field of a message that came from `origin` (RFC 5321 §4.4), folded, with CR LF.

    Args:
      recipient: given only where it is the message's one recipient: more of them would tell each
        who got the others' copies (§7.6).
      smtputf8: the message may have UTF-8 in its header (RFC 6531 §3.7.3).
      priority: given where MAIL named one (RFC 6710 §4.1).
    """
    address = _address(origin.peer)
    words = ["Received:"]
    if address:
        # §4.4: the name the client gave, then in a comment the address that it came from.
        words += (f"from {_hello(origin.hello, smtputf8) or address}", f"({address})")
    words += (f"by {hostname} (elemta)", f"with {origin.protocol} id {message}")
    if origin.tls:
        words.append(f"({origin.tls.version} {origin.tls.cipher})")
    if recipient is not None and (smtputf8 or recipient.is_ascii):
        words.append(f"for <{recipient}>")
    if priority is not None:
        words.append(f"PRIORITY {priority}")  # RFC 6710 §7
    words[-1] += ";"
    words.append(date(time))
    return fold(words).encode("utf-8")


def return_path(path: ReversePath) -> bytes:
    """The Return-Path field of final delivery (RFC 5321 §4.4)."""
    return f"Return-Path: {path}\r\n".encode()


def _address(peer: str) -> str:
    """The client's address as a literal; empty for what was made on this machine."""
    if ":" in peer:
        return f"[IPv6:{peer.partition('%')[0]}]"  # a scope means nothing to a reader elsewhere
    return f"[{peer}]" if peer and peer != "local" else ""


def _hello(text: str, smtputf8: bool) -> str:
    if _PLAIN_HELLO.fullmatch(text) and len(text) <= MAX_HELLO:
        return text
    text = text[:MAX_HELLO]
    if text.isascii() or not smtputf8:
        text = _NON_ASCII.sub("?", text)
    else:
        # Not printable are controls, surrogates, unassigned ones, and those that change the direction.
        text = "".join(character if character.isprintable() else "?" for character in text)
        text = text.encode("utf-8")[:MAX_HELLO].decode("utf-8", "ignore")
    return _HARMFUL.sub("?", text)


def fold(words: Sequence[str]) -> str:
    """One field of these words, with CR LF; lines break only between words (RFC 5322 §2.2.3)."""
    lines = []
    line = words[0]
    for word in words[1:]:
        if len(line) + len(word) < LINE_LENGTH:
            line += " " + word
        else:
            lines.append(line)
            line = "\t" + word
    lines.append(line)
    return "\r\n".join(lines) + "\r\n"
