"""Play a dialogue against a session: send what the client says, compare what the server answers.

Besides what a dialogue asks for, each reply is held to the form of RFC 5321 §4.2 and RFC 2034 §4.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import trio

from .reading import EHLO, START, STORED, Dialogue, Expected, Step

MAX_REPLY_LINE = 512
"""Octets, RFC 5321 §4.5.3.1.5."""
SMALL = 600
"""Octets of a dialogue's `say` that are also sent one by one; longer ones in pieces."""

_LINE = re.compile(rb"([2-5][0-9][0-9])([- ])(?:(([245])\.[0-9]{1,3}\.[0-9]{1,3}) )?([^\r\n]*)\r\n")
_TEXT = re.compile(r"[ -~\u00a0-\ud7ff\ue000-\U0010ffff]*")


class Mismatch(AssertionError):
    """The server did not do what the dialogue says."""


@attrs.define(eq=False)
class Player:
    """The client's side of one session."""

    stream: trio.abc.Stream
    start_tls: Callable[[trio.abc.Stream], trio.abc.Stream]
    wait_until_idle: Callable[[], Awaitable[None]]
    """Until the server has acted on everything and waits."""
    by_octets: bool = False
    silence: float = 0.001
    """Seconds; in memory what is there comes before a clock moves."""
    transcript: list[str] = attrs.Factory(list)
    _buffer: bytearray = attrs.Factory(bytearray)
    _unsent: bytearray = attrs.Factory(bytearray)
    _closed: bool = False

    def _fail(self, why: str) -> Mismatch:
        return Mismatch("\n".join([why, *self.transcript]))

    # --- What the client does ------------------------------------------------------------------------

    async def flush(self) -> None:
        data = bytes(self._unsent)
        self._unsent.clear()
        if not data:
            return
        self.transcript.append(f"C: {data[:500]!r}")
        size = len(data) if not self.by_octets else max(1, len(data) // SMALL)
        try:
            for at in range(0, len(data), size):
                await self.stream.send_all(data[at : at + size])
        except trio.BrokenResourceError:
            self.transcript.append("   (the server has hung up)")

    async def _receive(self) -> None:
        try:
            data = bytes(await self.stream.receive_some(65536))
        except trio.BrokenResourceError:
            data = b""
        self._buffer += data
        self._closed = not data

    async def _line(self) -> re.Match[bytes]:
        while b"\r\n" not in self._buffer and not self._closed:
            await self._receive()
        end = self._buffer.find(b"\r\n") + 2
        line = bytes(self._buffer[:end] if end > 1 else self._buffer)
        del self._buffer[: len(line)]
        self.transcript.append(f"S: {line.decode('utf-8', 'backslashreplace')!r}")
        if len(line) > MAX_REPLY_LINE:  # RFC 5321 §4.5.3.1.5
            raise self._fail(f"a reply line of {len(line)} octets")
        found = _LINE.fullmatch(line)
        if not found:
            raise self._fail(f"this is no reply line: {line!r}")
        if not _TEXT.fullmatch(found[5].decode("utf-8", "surrogateescape")):
            raise self._fail("a reply with octets that are not text")
        return found

    async def reply(self) -> tuple[str, str, str]:
        """Code, enhanced code and text of the next reply, whose form is checked."""
        await self.flush()
        lines = [await self._line()]
        while lines[-1][2] == b"-":
            lines.append(await self._line())
        code, enhanced = lines[0][1], lines[0][3] or b""
        for line in lines:
            if line[1] != code:  # RFC 5321 §4.2.1
                raise self._fail("codes differ within a reply")
            if (line[3] or b"") != enhanced:  # RFC 2034 §4
                raise self._fail("enhanced codes differ within a reply")
            if line[4] and line[4] != code[:1]:  # RFC 2034 §4
                raise self._fail("the class of the enhanced code is not that of the reply")
        if enhanced and code.startswith(b"3"):
            raise self._fail("an enhanced code of class 3 does not exist")
        text = b"\n".join(line[5] for line in lines).decode("utf-8", "backslashreplace")
        return code.decode(), enhanced.decode(), text

    async def expect(self, expected: Expected) -> None:
        code, enhanced, text = await self.reply()
        if not expected.code.fullmatch(code):
            raise self._fail(f"expected {expected.code.pattern}, not {code}")
        if expected.enhanced is not None and not expected.enhanced.fullmatch(enhanced):
            raise self._fail(f"expected the enhanced code {expected.enhanced.pattern!r}, not {enhanced!r}")
        if expected.enhanced is None and not enhanced and not code.startswith("3"):
            raise self._fail("no enhanced code (RFC 2034 §4)")
        if expected.has is not None and not expected.has.search(text):
            raise self._fail(f"nothing like {expected.has.pattern!r}")
        if expected.lacks is not None and expected.lacks.search(text):
            raise self._fail(f"there is something like {expected.lacks.pattern!r}")

    async def expect_silence(self) -> None:
        await self.flush()
        await self.wait_until_idle()
        with trio.move_on_after(self.silence):
            await self._receive()
        if self._buffer or self._closed:
            raise self._fail(f"expected silence, not {bytes(self._buffer)!r} (closed: {self._closed})")

    async def expect_close(self) -> None:
        await self.flush()
        while not self._closed:
            await self._receive()
        if self._buffer:
            raise self._fail(f"expected the end, not {bytes(self._buffer)!r}")

    async def handshake(self) -> None:
        await self.flush()
        self.stream = self.start_tls(self.stream)
        if isinstance(self.stream, trio.SSLStream):
            await self.stream.do_handshake()

    # --- A whole dialogue ---------------------------------------------------------------------------

    async def begin(self, dialogue: Dialogue) -> None:
        """What comes before the first line of the dialogue."""
        for said, code in START[dialogue.start]:
            if said == b"TLS":
                await self.handshake()
                continue
            self._unsent += said
            found, _, _ = await self.reply()
            if found != code:
                raise self._fail(f"before its begin: expected {code}, not {found}")
            if said == EHLO or not said:
                self.transcript.clear()

    async def play(self, dialogue: Dialogue, check: Callable[[Step], None]) -> None:
        """All of it.

        Args:
          check: looks at what is in the spool.

        Raises:
          Mismatch: with the transcript.
        """
        await self.begin(dialogue)
        for step in dialogue.steps:
            try:
                await self._play_step(step)
                if step.kind in STORED:
                    await self.flush()
                    await self.wait_until_idle()
                    check(step)
            except Mismatch as mismatch:
                raise Mismatch(f"{dialogue.file}:{step.line}: {mismatch}") from None
            except AssertionError as error:
                raise self._fail(f"{dialogue.file}:{step.line}: {error}") from error
        if not self._closed:
            try:
                await self.expect_silence()
            except Mismatch as mismatch:
                raise Mismatch(f"{dialogue.file}:{dialogue.line}: at its end: {mismatch}") from None

    async def _play_step(self, step: Step) -> None:
        match step.kind:
            case "say":
                self._unsent += step.data
            case "--":
                await self.flush()
                await self.wait_until_idle()
            case "reply":
                assert step.reply is not None
                await self.expect(step.reply)
            case "nothing":
                await self.expect_silence()
            case "close":
                await self.expect_close()
            case "TLS":
                await self.handshake()
            case "EOF":
                await self.flush()
                assert isinstance(self.stream, trio.abc.HalfCloseableStream)
                await self.stream.send_eof()
            case "wait":
                await self.flush()
                await trio.sleep(float(step.text))


def tls_with(context: ssl.SSLContext) -> Callable[[trio.abc.Stream], trio.abc.Stream]:
    def start(stream: trio.abc.Stream) -> trio.abc.Stream:
        return trio.SSLStream(stream, context, server_hostname="mx.ours.example", https_compatible=True)

    return start


def show(data: Any) -> str:
    """For messages of failures."""
    text = repr(data)
    return text if len(text) < 300 else f"{text[:300]}…"
