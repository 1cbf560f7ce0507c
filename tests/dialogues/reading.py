r"""Read dialogues from their files.

    == a title that says the behaviour             begins a dialogue
    rfc: 5321 4.1.4, 2920 3.1                      the sections that ask for it
    with: role=lmtp limits.recipients=100          what the server is like, see `playing.make_server`
    from: mail                                     where it starts, see START; without it `ehlo`
    whole                                          never played octet by octet: packets are what it is about
    C: RCPT TO:<b@ours.example>                    sent with CRLF; lines in a row leave in one write
    C~ .\n                                         sent as it stands
    --                                             what was said so far leaves, and the server acts on it
    S: 250 2.1.5 ~ok !~never                       one reply: code, enhanced code, a pattern it has, one it lacks
    S: nothing                                     the server is silent: it waits for more
    S: close                                       the server hangs up
    TLS                                            the client's handshake
    EOF                                            the client has no more to send
    wait: 301                                      seconds
    stored: 2                                      so many messages are in the spool
    body: Subject: x\r\n\r\nhello\r\n              content of the last one
    prefix: with ESMTPS                            a pattern that what was put before the last one has
    envelope: a@else.example > b@ours.example      sender and recipients of the last one
    options: smtputf8=True ret=HDRS                what else its envelope has; of the last recipient: notify

Codes and enhanced codes may have alternatives and `x` for any digit: `501|555`, `5xx`, `5.5.x`; `-` asks that
there is no enhanced code. In what is sent `\r \n \t \0 \\ \xHH` are octets, `$(text*N)` is text N times,
`$b64(text)` is base64, and letters beyond ASCII are UTF-8.
"""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Final

import attrs

EHLO: Final = b"EHLO client.example\r\n"
MAIL: Final = b"MAIL FROM:<a@else.example>\r\n"
RCPT: Final = b"RCPT TO:<b@ours.example>\r\n"
GREETED: Final = ((b"", "220"),)
SAID_EHLO: Final = (*GREETED, (EHLO, "250"))
START: Final[dict[str, tuple[tuple[bytes, str], ...]]] = {
    "connect": (),
    "greeting": GREETED,
    "helo": (*GREETED, (b"HELO client.example\r\n", "250")),
    "ehlo": SAID_EHLO,
    "mail": (*SAID_EHLO, (MAIL, "250")),
    "rcpt": (*SAID_EHLO, (MAIL, "250"), (RCPT, "250")),
    "data": (*SAID_EHLO, (MAIL, "250"), (RCPT, "250"), (b"DATA\r\n", "354")),
    "lhlo": (*GREETED, (b"LHLO client.example\r\n", "250")),
    "lrcpt": (*GREETED, (b"LHLO client.example\r\n", "250"), (MAIL, "250"), (RCPT, "250")),
    "tls": (*SAID_EHLO, (b"STARTTLS\r\n", "220"), (b"TLS", ""), (EHLO, "250")),
}
"""What was said before the first line of a dialogue, and which replies it got."""

STORED: Final = ("stored", "body", "prefix", "envelope", "options")
"""Steps that look into the spool."""

_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|(.))")
_PLAIN = {"r": "\r", "n": "\n", "t": "\t", "0": "\0", "\\": "\\"}
_REPEAT = re.compile(r"\$\(((?:[^()])*)\*([0-9]+)\)")
_BASE64 = re.compile(r"\$b64\(([^()]*)\)")
_REPLY = re.compile(
    r"(?P<code>[0-9x|]+)(?: (?P<enhanced>[-0-9x.|]+))?(?: ~(?P<has>.*?))?(?: !~(?P<lacks>.*))?"
)


@attrs.frozen
class Expected:
    """What a reply must be like."""

    code: re.Pattern[str]
    enhanced: re.Pattern[str] | None
    """None: any, or none."""
    has: re.Pattern[str] | None
    lacks: re.Pattern[str] | None


@attrs.frozen
class Step:
    kind: str
    line: int
    data: bytes = b""
    text: str = ""
    reply: Expected | None = None


@attrs.frozen
class Dialogue:
    title: str
    file: str
    line: int
    sections: tuple[str, ...]
    settings: dict[str, str]
    start: str
    whole: bool
    steps: tuple[Step, ...]

    @property
    def id(self) -> str:
        return f"{self.file.removesuffix('.dialogue')}: {self.title}"


class DialogueError(Exception):
    """A file is not of the form above."""


def _wild(text: str) -> re.Pattern[str]:
    return re.compile(
        "|".join(re.escape(each).replace("x", "[0-9]+") if each != "-" else "" for each in text.split("|"))
    )


def to_octets(text: str) -> bytes:
    """What a line of the file means on the wire."""
    text = _REPEAT.sub(lambda found: found[1] * int(found[2]), text)

    def unescape(found: re.Match[str]) -> str:
        if found[1]:
            return chr(0xDC00 + int(found[1], 16))  # an octet that need not be UTF-8
        return _PLAIN[found[2]]

    def encode(text: str) -> bytes:
        octets = bytearray()
        for character in _ESCAPE.sub(unescape, text):
            point = ord(character)
            octets += bytes([point - 0xDC00]) if 0xDC00 <= point <= 0xDCFF else character.encode()
        return bytes(octets)

    pieces = []
    at = 0
    for found in _BASE64.finditer(text):
        pieces += [encode(text[at : found.start()]), base64.b64encode(encode(found[1]))]
        at = found.end()
    return b"".join([*pieces, encode(text[at:])])


def _expected(text: str, where: str) -> Expected:
    found = _REPLY.fullmatch(text)
    if not found:
        raise DialogueError(f"{where}: not a reply: {text!r}")
    has, lacks = found["has"], found["lacks"]
    return Expected(
        _wild(found["code"]),
        None if found["enhanced"] is None else _wild(found["enhanced"]),
        None if has is None else re.compile(has),
        None if lacks is None else re.compile(lacks),
    )


def _step(line: str, number: int, where: str) -> Step:
    kind, _, text = line.partition(": ")
    if line.startswith("C~"):
        return Step("say", number, to_octets(line[3:]))
    if kind == "C" or line == "C:":
        return Step("say", number, to_octets(text) + b"\r\n")
    if line in ("--", "TLS", "EOF"):
        return Step(line, number)
    if kind == "S":
        if text in ("nothing", "close"):
            return Step(text, number)
        return Step("reply", number, reply=_expected(text, where))
    if kind in ("wait", *STORED) and kind != "body":
        return Step(kind, number, text=text)
    if kind == "body":
        return Step(kind, number, to_octets(text))
    raise DialogueError(f"{where}: what is {line!r}?")


def read_dialogues(path: Path) -> list[Dialogue]:
    """The dialogues of a file, in order.

    Raises:
      DialogueError: something is not of the form above, or a dialogue names no section.
    """
    found: list[Dialogue] = []
    for block in _blocks(path):
        first, title = block[0]
        fields: dict[str, str] = {}
        steps: list[Step] = []
        for number, line in block[1:]:
            kind, colon, text = line.partition(": ")
            if (colon and kind in ("rfc", "with", "from")) or line == "whole":
                fields[kind] = text
            else:
                steps.append(_step(line, number, f"{path.name}:{number}"))
        if "rfc" not in fields or not steps:
            raise DialogueError(f"{path.name}:{first}: no section, or nothing said")
        start = fields.get("from", "ehlo")
        if start not in START:
            raise DialogueError(f"{path.name}:{first}: no start {start!r}")
        found.append(
            Dialogue(
                title=title,
                file=path.name,
                line=first,
                sections=tuple(section.strip() for section in fields["rfc"].split(",")),
                settings=dict(word.split("=", 1) for word in fields.get("with", "").split()),
                start=start,
                whole="whole" in fields,
                steps=tuple(steps),
            )
        )
    return found


def _blocks(path: Path) -> list[list[tuple[int, str]]]:
    blocks: list[list[tuple[int, str]]] = []
    for number, line in enumerate(path.read_text("utf-8").split("\n"), 1):
        if line.startswith("== "):
            blocks.append([(number, line[3:])])
        elif line and not line.startswith("#"):
            if not blocks:
                raise DialogueError(f"{path.name}:{number}: before the first title")
            blocks[-1].append((number, line))
    return blocks
