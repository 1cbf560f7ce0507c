"""Packets of the milter protocol, version 6, as Sendmail's libmilter and its filters speak it. Pure.

A packet is its length (32 bits), one octet that says what it is, and data; texts in it end with a zero octet.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable

import attrs

VERSION = 6
OLDEST = 2
LONGEST = 65_536
"""Octets of a packet of a filter: more is not offered."""
LONGEST_CHUNK = 65_535
"""Octets of the body in one packet."""


class BadPacket(Exception):
    """What a filter sends is no milter protocol; the text says why, for the operator."""


class Command(enum.Enum):
    """What the server says."""

    NEGOTIATE = b"O"
    MACROS = b"D"
    CONNECT = b"C"
    HELLO = b"H"
    MAIL = b"M"
    RCPT = b"R"
    DATA = b"T"
    HEADER = b"L"
    END_OF_HEADER = b"N"
    BODY = b"B"
    END_OF_BODY = b"E"
    ABORT = b"A"
    QUIT = b"Q"


class Reply(enum.Enum):
    """What a filter says."""

    NEGOTIATE = b"O"
    ADD_RECIPIENT = b"+"
    ADD_RECIPIENT_WITH = b"2"
    REMOVE_RECIPIENT = b"-"
    ACCEPT = b"a"
    REPLACE_BODY = b"b"
    CONTINUE = b"c"
    DISCARD = b"d"
    CHANGE_SENDER = b"e"
    FAIL_CONNECTION = b"f"
    ADD_HEADER = b"h"
    INSERT_HEADER = b"i"
    CHANGE_HEADER = b"m"
    PROGRESS = b"p"
    QUARANTINE = b"q"
    REJECT = b"r"
    SKIP = b"s"
    DEFER = b"t"
    REPLY_CODE = b"y"
    SHUTDOWN = b"4"


class Action(enum.IntFlag):
    """What a filter may want to do with a message."""

    ADD_HEADERS = 0x01
    CHANGE_BODY = 0x02
    ADD_RECIPIENTS = 0x04
    REMOVE_RECIPIENTS = 0x08
    CHANGE_HEADERS = 0x10
    QUARANTINE = 0x20
    CHANGE_SENDER = 0x40
    ADD_RECIPIENTS_WITH = 0x80
    NAME_MACROS = 0x100


class Step(enum.IntFlag):
    """What a filter does not want to hear (NO), or does not answer (NR)."""

    NO_CONNECT = 0x01
    NO_HELLO = 0x02
    NO_MAIL = 0x04
    NO_RCPT = 0x08
    NO_BODY = 0x10
    NO_HEADERS = 0x20
    NO_END_OF_HEADER = 0x40
    NR_HEADER = 0x80
    NO_UNKNOWN = 0x100
    NO_DATA = 0x200
    SKIP = 0x400
    """It may have heard enough of the body."""
    REJECTED_RCPT = 0x800
    NR_CONNECT = 0x1000
    NR_HELLO = 0x2000
    NR_MAIL = 0x4000
    NR_RCPT = 0x8000
    NR_DATA = 0x10000
    NR_UNKNOWN = 0x20000
    NR_END_OF_HEADER = 0x40000
    NR_BODY = 0x80000
    LEADING_SPACE = 0x100000
    """Values of fields with the blank behind the colon."""


OFFERED_ACTIONS = Action(0x1FF) & ~Action.CHANGE_BODY
"""Plugins cannot change a body."""
OFFERED_STEPS = Step(0x1FFFFF) & ~Step.REJECTED_RCPT
NO: dict[Command, Step] = {
    Command.CONNECT: Step.NO_CONNECT, Command.HELLO: Step.NO_HELLO, Command.MAIL: Step.NO_MAIL,
    Command.RCPT: Step.NO_RCPT, Command.DATA: Step.NO_DATA, Command.HEADER: Step.NO_HEADERS,
    Command.END_OF_HEADER: Step.NO_END_OF_HEADER, Command.BODY: Step.NO_BODY,
}  # fmt: skip
NO_REPLY: dict[Command, Step] = {
    Command.CONNECT: Step.NR_CONNECT, Command.HELLO: Step.NR_HELLO, Command.MAIL: Step.NR_MAIL,
    Command.RCPT: Step.NR_RCPT, Command.DATA: Step.NR_DATA, Command.HEADER: Step.NR_HEADER,
    Command.END_OF_HEADER: Step.NR_END_OF_HEADER, Command.BODY: Step.NR_BODY,
}  # fmt: skip
_STAGES = (Command.CONNECT, Command.HELLO, Command.MAIL, Command.RCPT, Command.DATA, Command.END_OF_BODY,
           Command.END_OF_HEADER)  # fmt: skip
"""By the numbers that lists of macros have."""


@attrs.frozen
class Terms:
    """What was agreed on."""

    version: int
    actions: Action
    steps: Step
    macros: dict[Command, tuple[str, ...]]
    """The names that it wants, where it says which."""


def pack(command: Command, data: bytes = b"") -> bytes:
    """One packet."""
    return struct.pack(">I", len(data) + 1) + command.value + data


def pack_texts(*texts: str) -> bytes:
    """Texts of strangers, without zero octets of their own."""
    return b"".join(text.encode("utf-8", "surrogateescape").replace(b"\0", b"?") + b"\0" for text in texts)


def pack_macros(command: Command, macros: Iterable[tuple[str, str]]) -> bytes:
    """What goes before a command. Long names stand in braces."""
    words = [word for name, value in macros for word in (name if len(name) == 1 else f"{{{name}}}", value)]
    return pack(Command.MACROS, command.value + pack_texts(*words))


def pack_offer() -> bytes:
    """The begin of a conversation."""
    return pack(Command.NEGOTIATE, struct.pack(">III", VERSION, OFFERED_ACTIONS, OFFERED_STEPS))


def read_terms(data: bytes) -> Terms:
    """The answer to an offer.

    Raises:
      BadPacket: it is none, or wants what was not offered.
    """
    if len(data) < 12:
        raise BadPacket("an answer to the offer that is too short")
    version, actions, steps = struct.unpack(">III", data[:12])
    if not OLDEST <= version <= VERSION:
        raise BadPacket(f"version {version} of the protocol; there are {OLDEST} to {VERSION}")
    if actions & ~OFFERED_ACTIONS:
        what = "change bodies" if actions & Action.CHANGE_BODY else f"do {actions & ~OFFERED_ACTIONS:#x}"
        raise BadPacket(f"the filter wants to {what}, which is not possible")
    if steps & ~OFFERED_STEPS:
        raise BadPacket(f"the filter wants steps that were not offered: {steps & ~OFFERED_STEPS:#x}")
    macros: dict[Command, tuple[str, ...]] = {}
    rest = data[12:]
    while len(rest) > 4:
        (stage,) = struct.unpack(">I", rest[:4])
        names, end, rest = rest[4:].partition(b"\0")
        if not end or stage >= len(_STAGES):
            raise BadPacket("a list of macros that is none")
        macros[_STAGES[stage]] = tuple(
            name.strip("{},") for name in names.decode("latin-1").replace(",", " ").split()
        )
    return Terms(version, Action(actions), Step(steps), macros)


def split_texts(data: bytes, number: int) -> list[str]:
    """So many texts.

    Raises:
      BadPacket: there are fewer.
    """
    texts = data.split(b"\0")
    # libmilter ends the last one, too; some filters do not
    if len(texts) < number:
        raise BadPacket("a packet that is too short")
    return [text.decode("utf-8", "replace") for text in texts[:number]]


def split_number(data: bytes) -> tuple[int, bytes]:
    """A number, and what is behind it.

    Raises:
      BadPacket: there is none.
    """
    if len(data) < 4:
        raise BadPacket("a packet that is too short")
    return int.from_bytes(data[:4], "big"), data[4:]


class PacketReader:
    """Octets in, packets out."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """What was received."""
        self._buffer += data

    def next_packet(self) -> tuple[Reply, bytes] | None:
        """The next packet; None: not whole yet.

        Raises:
          BadPacket: it is none.
        """
        if len(self._buffer) < 4:
            return None
        length = int.from_bytes(self._buffer[:4], "big")
        if not 1 <= length <= LONGEST:
            raise BadPacket(f"a packet of {length} octets")
        if len(self._buffer) < 4 + length:
            return None
        code, data = bytes(self._buffer[4:5]), bytes(self._buffer[5 : 4 + length])
        del self._buffer[: 4 + length]
        try:
            return Reply(code), data
        except ValueError:
            raise BadPacket(f"an answer {code!r}, which is none") from None
