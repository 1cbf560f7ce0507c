"""Next hops for tests: one that plays a script, faults included, and one that behaves.

Both are handlers of one connection, `await peer.serve(stream)`: give that to `MemoryNetwork.listen`,
to `trio.serve_tcp`, or start it on one end of `memory_connection`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

import attrs
import trio

from elemta.mail import Reply, replies
from elemta.smtp import (
    NEED_DATA,
    PAUSED,
    BadCommand,
    Bdat,
    BodyChunk,
    BodyEnd,
    Capabilities,
    ChunkEnd,
    Command,
    CommandReceived,
    ConnectionClosed,
    Data,
    Ehlo,
    Helo,
    Lhlo,
    Limits,
    Mail,
    Quit,
    Rcpt,
    RemoteProtocolError,
    Rset,
    ServerConnection,
)


class Fault(enum.Enum):
    """What a scripted peer does instead of replying."""

    DROP = "drop"
    """Close the connection."""
    STALL = "stall"
    """Say nothing more, and read nothing more, for ever."""
    GARBAGE = "garbage"
    """Send what is no reply, and close."""
    ENDLESS = "endless"
    """Send a reply that never ends."""


class Expect(enum.Enum):
    """What a scripted peer waits for, where that is no command."""

    NOTHING = "nothing"
    """Reply at once: the greeting, or a word out of turn."""
    BODY = "body"
    """All up to and with the line that is only a dot."""


Step: TypeAlias = tuple[bytes | Expect | float, bytes | Fault]
"""What is to come, and the answer (where it is empty: none). What is to come is the beginning of a command
in any case, or `Expect`, or a number: nothing, but so many seconds pass."""

GARBAGE: Final = b"\x00\xff SSH-2.0-OpenSSH_9.2\r\n"
GREETING: Final[Step] = (Expect.NOTHING, b"220 peer.example ESMTP\r\n")
PIPELINING_HELLO: Final[Step] = (
    b"EHLO ",
    b"250-peer.example\r\n250-PIPELINING\r\n250-SIZE 10000000\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n",
)
LOCKSTEP_HELLO: Final[Step] = (b"EHLO ", b"250 peer.example\r\n")
MAIL_OK: Final[Step] = (b"MAIL FROM:", b"250 2.1.0 ok\r\n")
RCPT_OK: Final[Step] = (b"RCPT TO:", b"250 2.1.5 ok\r\n")
DATA_OK: Final[Step] = (b"DATA", b"354 go ahead\r\n")
BODY_OK: Final[Step] = (Expect.BODY, b"250 2.0.0 taken\r\n")
TRANSACTION: Final[tuple[Step, ...]] = (MAIL_OK, RCPT_OK, DATA_OK, BODY_OK)


class ScriptedPeer:
    """Plays the server of one connection, step by step.

    Each step waits for what it expects and answers in a write of its own. Behind the last one the peer
    goes on reading, and answers QUIT, until the other side closes. A command that the script does not
    expect is an AssertionError in `serve`.
    """

    def __init__(self, *script: Step) -> None:
        self.script = script
        self.received = b""
        """Every octet that was read."""
        self.commands: list[bytes] = []
        """Commands without their CRLF, in order."""
        self.bodies: list[bytes] = []
        """Bodies as they were on the wire, with stuffed dots and the final one."""
        self.finished = trio.Event()
        """The connection is over."""
        self._buffer = b""

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Play the script. A peer that goes away early is no error; see what it said in `commands`."""
        try:
            for expected, answer in self.script:
                if not await self._hear(stream, expected):
                    return
                if isinstance(answer, Fault):
                    await self._fail(stream, answer)
                    return
                if answer:
                    await stream.send_all(answer)
            while (line := await self._take(stream, b"\r\n")) is not None:
                self.commands.append(line[:-2])
                if line[:-2].upper() == b"QUIT":
                    await stream.send_all(b"221 2.0.0 bye\r\n")
        except trio.BrokenResourceError:
            pass
        finally:
            self.finished.set()
            with trio.move_on_after(1, shield=True):
                await trio.aclose_forcefully(stream)

    async def _hear(self, stream: trio.abc.Stream, expected: bytes | Expect | float) -> bool:
        if expected is Expect.NOTHING:
            return True
        if isinstance(expected, (int, float)):
            await trio.sleep(expected)
            return True
        if expected is Expect.BODY:
            body = b"\r\n"  # that of the DATA line, so that a body may be only the dot
            while not body.endswith(b"\r\n.\r\n"):
                line = await self._take(stream, b"\r\n")
                if line is None:
                    return False
                body += line
            self.bodies.append(body[2:])
            return True
        line = await self._take(stream, b"\r\n")
        if line is None:
            return False
        self.commands.append(line[:-2])
        assert line.upper().startswith(expected.upper()), f"{expected!r} was expected, {line!r} came"
        return True

    async def _take(self, stream: trio.abc.Stream, end: bytes) -> bytes | None:
        while end not in self._buffer:
            data = await stream.receive_some()
            if not data:
                return None
            self.received += data
            self._buffer += data
        taken, _, self._buffer = self._buffer.partition(end)
        return taken + end

    async def _fail(self, stream: trio.abc.Stream, fault: Fault) -> None:
        match fault:
            case Fault.DROP:
                return
            case Fault.STALL:
                await trio.sleep_forever()
            case Fault.GARBAGE:
                await stream.send_all(GARBAGE)
            case Fault.ENDLESS:
                while True:
                    await stream.send_all(b"250-and more\r\n" * 1000)


@attrs.frozen
class Received:
    """A message that a `SinkPeer` accepted."""

    mail: Mail
    recipients: tuple[Rcpt, ...]
    content: bytes
    """Un-stuffed."""


Answer: TypeAlias = Reply | Callable[[Command], Reply]
"""What a sink says at a stage instead of its usual reply, always or depending on the command."""

SINK_CAPABILITIES: Final = Capabilities(
    pipelining=True, size=0, eight_bit_mime=True, enhanced_status_codes=True, smtputf8=True, dsn=True
)


class SinkPeer:
    """A small server that behaves, takes everything and remembers it; serves many connections.

    `answers` replaces the reply at a stage: `greeting`, or a verb in upper case (`MAIL`, `RCPT`,
    `DATA` …), `BODY` for the reply to a message, or `CHUNK` for that to a part of one. Change it at any time.
    """

    def __init__(
        self,
        *,
        hostname: str = "sink.example",
        capabilities: Capabilities = SINK_CAPABILITIES,
        lmtp: bool = False,
        answers: Mapping[str, Answer] | None = None,
        body_answers: Sequence[Reply] | None = None,
    ) -> None:
        self.hostname = hostname
        self.capabilities = capabilities
        self.lmtp = lmtp
        self.answers: dict[str, Answer] = dict(answers or {})
        self.body_answers = body_answers
        """LMTP: the replies for each recipient of a message."""
        self.messages: list[Received] = []
        self.sessions = 0
        self.hellos: list[str] = []
        self.commands: list[str] = []
        """Verbs, in order, of all sessions."""

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection to its end; a client that vanishes is no error."""
        self.sessions += 1
        session = _SinkSession(self, stream)
        try:
            await session.run()
        except trio.BrokenResourceError:
            pass
        finally:
            with trio.move_on_after(1, shield=True):
                await trio.aclose_forcefully(stream)

    def take(self, message: Received) -> None:
        """Remember a message that was accepted."""
        self.messages.append(message)

    def answer(self, stage: str, command: Command | None, usual: Reply) -> Reply:
        """The reply to give at a stage."""
        chosen = self.answers.get(stage)
        if chosen is None:
            return usual
        if isinstance(chosen, Reply):
            return chosen
        assert command is not None, "the greeting answers nothing that a function could look at"
        return chosen(command)


class _SinkSession:
    def __init__(self, sink: SinkPeer, stream: trio.abc.Stream) -> None:
        self._sink = sink
        self._stream = stream
        self._machine = ServerConnection(Limits(), sink.capabilities, lmtp=sink.lmtp)
        self._mail: Mail | None = None
        self._recipients: list[Rcpt] = []
        self._body = bytearray()

    async def run(self) -> None:
        machine, sink = self._machine, self._sink
        output = machine.greet(sink.answer("greeting", None, replies.banner(sink.hostname, lmtp=sink.lmtp)))
        while True:
            try:
                event = machine.next_event()
            except RemoteProtocolError:
                return
            match event:
                case CommandReceived(command):
                    output += self._reply(command)
                case BodyChunk(data):
                    self._body += data
                case ChunkEnd(size):
                    output += machine.reply(sink.answer("CHUNK", Data(), replies.chunk_ok(size)))
                case BodyEnd():
                    output += self._finish()
                case ConnectionClosed():
                    await self._stream.send_all(output)
                    return
                case _:
                    assert event in (NEED_DATA, PAUSED)
                    if output:
                        await self._stream.send_all(output)
                        output = b""
                    machine.receive_data(bytes(await self._stream.receive_some()))

    def _reply(self, command: Command | BadCommand) -> bytes:
        sink, machine = self._sink, self._machine
        sink.commands.append(command.verb)
        if isinstance(command, BadCommand):
            return machine.reply(command.reply)
        reply = sink.answer(command.verb, command, self._usual(command))
        output = machine.reply(reply)
        if reply.is_positive:
            match command:
                case Ehlo(hello) | Helo(hello) | Lhlo(hello):
                    sink.hellos.append(hello)
                case Mail():
                    self._mail, self._recipients = command, []
                    self._body.clear()
                case Rcpt():
                    self._recipients.append(command)
                case Data():
                    self._body.clear()
        return output

    def _usual(self, command: Command) -> Reply:
        match command:
            case Ehlo() | Lhlo():
                return replies.hello(*self._machine.offered.lines(self._sink.hostname))
            case Helo():
                return replies.hello(self._sink.hostname)
            case Mail():
                return replies.SENDER_OK
            case Rcpt():
                return replies.RECIPIENT_OK
            case Data() | Bdat():
                return replies.START_DATA
            case Rset():
                return replies.RESET_OK
            case Quit():
                return replies.CLOSING
            case _:
                return replies.NOOP_OK

    def _finish(self) -> bytes:
        sink, machine = self._sink, self._machine
        reply = sink.answer("BODY", Data(), Reply.of(250, "2.0.0", "taken"))
        each = [reply] * len(self._recipients)
        if sink.lmtp and sink.body_answers is not None:
            each = list(sink.body_answers)
        taken = tuple(rcpt for rcpt, answer in zip(self._recipients, each, strict=True) if answer.is_positive)
        assert self._mail is not None
        if taken:
            sink.take(Received(self._mail, taken, bytes(self._body)))
        if sink.lmtp and reply.code != 421:
            return machine.body_replies(each)
        return machine.reply(reply)
