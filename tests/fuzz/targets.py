"""What must hold for any octets: replies or a named protocol error, bounded memory, never another exception.

Each target takes octets and raises only where that does not hold. The first octets choose the settings and
how the rest is cut into pieces, so that a fuzzer can reach all of them; no target uses randomness or a clock.
Hypothesis and atheris run the same functions.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator

from elemta.inbound.fixup import HeaderFixer
from elemta.mail import (
    HeaderBlock,
    MailSyntaxError,
    Reply,
    parse_domain,
    parse_forward_path,
    parse_reverse_path,
    replies,
    split_header,
)
from elemta.smtp import (
    NEED_DATA,
    PAUSED,
    Auth,
    AuthResponse,
    BadCommand,
    BodyChunk,
    BodyEnd,
    ChunkEnd,
    ClientConnection,
    CommandReceived,
    ConnectionClosed,
    Data,
    Ehlo,
    Limits,
    Mail,
    ProxyParser,
    Quit,
    Rcpt,
    RemoteProtocolError,
    ReplyParser,
    ReplyReceived,
    ServerConnection,
    ServerEvent,
    StartTls,
    State,
    decode_xtext,
)
from elemta.testing.pairs import EVERYTHING

MEMORY = 2 * 65536 + 4096
"""Octets that a machine may keep of what it has not shown yet, besides the last piece that it was given."""
MAX_REPLY_LINE = 512
"""RFC 5321 §4.5.3.1.5."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_GREETING = Reply.of(220, None, "mx.example")
_CHALLENGE = Reply.of(334, None, "")


class Octets:
    """Takes settings off the front of the input."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self) -> int:
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def pieces(self) -> Iterator[bytes]:
        """What is left: whole, or in pieces whose sizes come from the input as well."""
        size, rest = self.number(), self._data[self._at :]
        if not size:
            if rest:
                yield rest
            return
        for at in range(0, len(rest), size):
            yield rest[at : at + size]


def _memory(part: object) -> int:
    """Octets in the buffers of an object and of those that it owns."""
    seen: set[int] = set()

    def measure(value: object, depth: int) -> int:
        if id(value) in seen or depth > 3:
            return 0
        seen.add(id(value))
        if isinstance(value, bytes | bytearray | str):
            return len(value)
        if isinstance(value, list | tuple | set):
            return sum(measure(each, depth + 1) for each in value)
        names = [name for each in type(value).__mro__ for name in getattr(each, "__slots__", ())]
        inside = [getattr(value, name, None) for name in names] + list(
            getattr(value, "__dict__", {}).values()
        )
        return sum(measure(each, depth + 1) for each in inside) if "elemta" in type(value).__module__ else 0

    return measure(part, 0)


def _check_reply(output: bytes) -> None:
    """RFC 5321 §4.2: whole lines, of a legal length, each with a code."""
    assert not output or output.endswith(b"\r\n"), output
    for line in output.split(b"\r\n")[:-1]:
        assert len(line) + 2 <= MAX_REPLY_LINE, line
        assert line[:3].isdigit(), line
        assert line[3:4] in (b" ", b"-"), line
        assert b"\r" not in line, line
        assert b"\n" not in line, line


# --- The server's machine --------------------------------------------------------------------------------


def _answer(event: ServerEvent, choice: int) -> Reply:
    """A reply that the machine allows; which one is the input's choice."""
    if isinstance(event, BodyEnd):
        return replies.queued("id") if choice % 3 else replies.LOCAL_ERROR  # type: ignore[arg-type]
    if isinstance(event, ChunkEnd):
        if event.refusal is not None:
            return event.refusal
        return replies.chunk_ok(event.size) if choice % 3 else replies.LOCAL_ERROR
    assert isinstance(event, CommandReceived), event
    command = event.command
    if isinstance(command, BadCommand):
        return command.reply
    if choice % 7 == 6:
        return replies.SHUTTING_DOWN
    if choice % 5 == 4 and not isinstance(command, Quit):
        return replies.LOCAL_ERROR
    if command.verb in ("DATA", "BDAT"):
        return replies.START_DATA
    if isinstance(command, StartTls):
        return replies.TLS_READY
    if isinstance(command, Auth | AuthResponse):
        return _CHALLENGE if choice % 2 else replies.NOOP_OK
    if isinstance(command, Quit):
        return replies.CLOSING
    if command.verb == "XCLIENT":
        return _GREETING
    return replies.NOOP_OK


def server(data: bytes) -> None:
    """A whole session of the server's machine."""
    octets = Octets(data)
    flags, choices = octets.number(), octets.number()
    limits = Limits(
        command_line=64 if flags & 1 else 512,
        message_size=100 if flags & 2 else 0,
        text_line=20 if flags & 4 else 0,
        header_size=50 if flags & 8 else 0,
        repair_line_ends=bool(flags & 16),
    )
    machine = ServerConnection(limits, EVERYTHING, lmtp=bool(flags & 32))
    _check_reply(machine.greet(_GREETING))
    try:
        for piece in [*octets.pieces(), b""]:
            machine.receive_data(piece)
            while (event := machine.next_event()) is not NEED_DATA:
                if isinstance(event, ConnectionClosed):
                    return
                if isinstance(event, BodyChunk):
                    assert event.data, "an empty chunk"
                    continue
                assert event is not PAUSED
                assert machine.next_event() is PAUSED
                choices = (choices * 31 + 7) % 251
                _check_reply(machine.reply(_answer(event, choices)))
                if machine.state is State.TLS:
                    machine.tls_started()
                if machine.state is State.CLOSED:
                    break
            if machine.state is State.CLOSED:
                return
            kept = _memory(machine)
            assert kept <= MEMORY + len(piece), f"{kept} octets are kept"
    except RemoteProtocolError as error:
        assert 400 <= error.reply_hint.code < 600, error.reply_hint  # noqa: PT017
        assert machine.state is State.ERROR


# --- The client's machine, and the replies it reads --------------------------------------------------------


def client(data: bytes) -> None:
    """A client that sends a message and meets any answers."""
    octets = Octets(data)
    flags = octets.number()
    machine = ClientConnection(lmtp=bool(flags & 1))
    sender, user = Mail(parse_reverse_path("<a@b.example>")), Rcpt(parse_forward_path("<u@b.example>"))
    hello_said = False
    try:
        for piece in [*octets.pieces(), b""]:
            machine.receive_data(piece)
            while isinstance(event := machine.next_event(), ReplyReceived):
                assert 200 <= event.reply.code < 600
                if machine.state is State.HELLO and not hello_said and not flags & 1:
                    hello_said = True
                    machine.send(Ehlo("c.example"))
                elif machine.state is State.READY and isinstance(event.command, Ehlo):
                    machine.send(sender, user, Data()) if machine.capabilities.pipelining else machine.send(
                        sender
                    )
                elif machine.state is State.BODY and isinstance(event.command, Data):
                    machine.end_body()
            if isinstance(event, ConnectionClosed):
                return
            kept = _memory(machine)
            assert kept <= 2 * MEMORY + len(piece), f"{kept} octets are kept"
    except RemoteProtocolError:
        assert machine.state is State.ERROR


def reply(data: bytes) -> None:
    """The reader of replies."""
    octets = Octets(data)
    enhanced = bool(octets.number() & 1)
    parser = ReplyParser()
    try:
        for piece in octets.pieces():
            parser.feed(piece)
            while (found := parser.next_reply(enhanced=enhanced)) is not None:
                assert 200 <= found.code < 600
                assert found.lines
                assert not any("\r\n" in line for line in found.lines)
            kept = _memory(parser)
            assert kept <= 2 * MEMORY + len(piece), f"{kept} octets are kept"
    except RemoteProtocolError:
        pass


# --- Values ------------------------------------------------------------------------------------------------


def path(data: bytes) -> None:
    """Paths, domains and xtext: what is read can be written and read again."""
    octets = Octets(data)
    flags = octets.number()
    utf8 = bool(flags & 1)
    text = b"".join(octets.pieces()).decode("utf-8", "surrogateescape" if flags & 2 else "replace")
    for read in (parse_reverse_path, parse_forward_path):
        try:
            found = read(text, utf8=utf8)
        except MailSyntaxError:
            continue
        assert read(str(found), utf8=utf8 or not str(found).isascii()) == found
        assert not any(character in str(found) for character in "\r\n\0")
    try:
        domain = parse_domain(text, utf8=utf8)
        assert parse_domain(str(domain)) == domain
        assert domain.unicode
    except MailSyntaxError:
        pass
    try:
        assert not _CONTROL.search(decode_xtext(text, utf8=utf8))
    except MailSyntaxError:
        pass


def header(data: bytes) -> None:
    """The header block: fields stand in it in order, and both ways to look for one agree."""
    block = HeaderBlock(data)
    at = 0
    names: list[bytes] = []
    for field in block.fields():
        found = data.find(field.raw, at)
        assert found >= at, field
        at = found + len(field.raw)
        assert field.name, field
        assert len(field.value) < len(field.raw)
        names.append(field.name.lower())
    assert 0 <= split_header(data) <= len(data)
    for name in {b"received", b"message-id", *names}:
        assert block.count(name) == names.count(name), name
        first = block.find(name)
        assert (first is not None) == (name in names)


def proxy(data: bytes) -> None:
    """The PROXY header of a load balancer."""
    octets = Octets(data)
    parser = ProxyParser()
    pieces = list(octets.pieces())
    try:
        for number, piece in enumerate(pieces):
            if (found := parser.feed(piece)) is not None:
                assert (found.source is None) == (found.destination is None)
                assert b"".join(pieces[: number + 1]).endswith(parser.rest)
                return
            kept = _memory(parser)
            assert kept <= MEMORY + len(piece), f"{kept} octets are kept"
    except RemoteProtocolError:
        pass


def fixup(data: bytes) -> None:
    """What submission mends in a header: domains are put in and nothing else, and only once."""
    domain = "q.example"
    octets = Octets(data)
    pieces = [piece.replace(b"@q.example", b"@") for piece in octets.pieces()]
    message = b"".join(pieces)

    def fixed(parts: list[bytes]) -> bytes:
        fixer = HeaderFixer(domain, 1 << 20)
        return b"".join([*(fixer.feed(part) for part in parts), fixer.end()])

    result = fixed([message])
    if b"@q.example" not in message:
        assert result.replace(b"@q.example", b"") == message
    assert result.endswith(message[split_header(message) :])
    assert fixed(pieces) == result
    assert fixed([result]) == result


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (server, client, reply, path, header, fixup, proxy)
}

SEEDS: dict[str, list[bytes]] = {
    "server": [
        b"\0\x01\0EHLO x\r\nMAIL FROM:<a@b.example> SIZE=10 BODY=8BITMIME\r\nRCPT TO:<u@b.example>\r\nDATA\r\nx: y\r\n\r\n..z\r\n.\r\nQUIT\r\n",
        b"\0\x01\0EHLO x\r\nMAIL FROM:<> BODY=BINARYMIME\r\nRCPT TO:<postmaster>\r\nBDAT 4\r\n\0\r\n.BDAT 2 LAST\r\n\r\n",
        b"\x20\x01\x05LHLO x\r\nMAIL FROM:<\"a b\"@[IPv6:::1]> RET=HDRS ENVID=x+2B\r\nRCPT TO:<u@b.example> NOTIFY=NEVER ORCPT=rfc822;u\r\nDATA\r\n\n.\n\r\n.\r\n",
        b"\0\x03\0EHLO x\r\nAUTH PLAIN =\r\nAA==\r\n*\r\nSTARTTLS\r\n",
        b"\0\x01\0EHLO x\r\nMAIL FROM:<a@b.example> SMTPUTF8 BY=10;R MT-PRIORITY=3 REQUIRETLS HOLDFOR=5 AUTH=<>\r\nVRFY a\r\nHELP\r\nNOOP x\r\nRSET\r\n",
    ],
    "client": [
        b"\0\x00220 mx\r\n250-mx\r\n250-PIPELINING\r\n250 SIZE 10\r\n250 2.1.0 ok\r\n250 2.1.5 ok\r\n354 go\r\n250 2.0.0 ok\r\n",
        b"\0\x05220-a\r\n220 b\r\n421 bye\r\n",
    ],
    "reply": [b"\x01\x03250-2.1.0 a\r\n250 2.1.0 b\r\n550\r\n", b"\0\x00250-" + b"x" * 600 + b"\r\n"],
    "path": [b"\0\0<@a,@b:\"c d\\\"\"@[IPv6:::1]>", b"\x01\0<\xc3\xbc@\xc3\xbc.example>", b"\0\0rfc822+2B"],
    "header": [b"a: b\r\n c\r\nReceived: x\r\n\r\nbody", b"no field\r\n: empty\r\n\r\n"],
    "fixup": [b"\0From: anna\r\nTo: <bob>, \"c d\" <carl@x>, (e) f;\r\n\r\nbody", b"\x04To: g: a, b;\r\n\r\n"],
    "proxy": [
        b"\0PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nrest",
        b"\x03\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\2\1\xc0\0\2\2\0\1\0\2rest",
        b"\0\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    ],
}  # fmt: skip
"""Inputs that reach deep, from which a fuzzer begins."""

WORDS = (
    b"EHLO x\r\n|LHLO x\r\n|HELO x\r\n|MAIL FROM:<a@b.example>|MAIL FROM:<>|RCPT TO:<u@b.example>|RCPT TO:<postmaster>"
    b"|DATA\r\n|RSET\r\n|NOOP\r\n|QUIT\r\n|BDAT 3\r\n|BDAT 0 LAST\r\n|BDAT 9 LAST\r\n|BDAT 99999999999\r\n|STARTTLS\r\n"
    b"|AUTH PLAIN\r\n|AUTH PLAIN =\r\n|*\r\n|YQ==\r\n|VRFY a\r\n|EXPN a\r\n|HELP\r\n|ETRN x\r\n|XCLIENT NAME=x\r\n|XFORWARD ADDR=x\r\n"
    b"| SIZE=9| BODY=BINARYMIME| BODY=8BITMIME| SMTPUTF8| RET=FULL| ENVID=a+2B| NOTIFY=NEVER| ORCPT=rfc822;a| BY=9;R| HOLDFOR=9"
    b'| MT-PRIORITY=-3| REQUIRETLS| AUTH=<>|\r\n|\r\n|\n|\r|.|\r\n.\r\n|\n.\n|\r\n.\n|\0|\xff|\xc3\xbc|"|\\|<|>|@|:|[IPv6:::1]|[x:y]|,|;|='
    b"|220 x\r\n|250-x\r\n|250 2.1.0 x\r\n|250-PIPELINING\r\n|354 x\r\n|421 x\r\n|550-|550 5.1.1 x\r\n|2|5|0|99999999"
    b"|PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n|PROXY TCP6 ::1 ::1 1 2\r\n|PROXY UNKNOWN\r\n|\r\n\r\n\0\r\nQUIT\n|\x21\x11\0\x0c"
    b"|Received: x\r\n|a:b\r\n| folded\r\n|aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
).split(b"|")  # fmt: skip
"""What the protocol is made of, for fuzzers to put together."""

if __name__ == "__main__":  # one saved input again: python -m fuzz.targets server crash-file
    with open(sys.argv[2], "rb") as file:
        TARGETS[sys.argv[1]](file.read())
