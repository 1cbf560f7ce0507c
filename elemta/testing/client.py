"""A client for tests that speaks SMTP command by command, and remembers the whole dialogue."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

import attrs
import trio

from elemta.mail import Reply
from elemta.smtp import ReplyParser

PATIENCE: Final = 600.0
"""Seconds of the test's clock that a reply may take."""
_QUEUED: Final = re.compile(r"queued as (\S+)")


class HungUp(AssertionError):
    """The server closed the connection, or said nothing any more, where a reply was due."""


class SmtpClient:
    """One session: `await client.command("NOOP")` sends a line and gives the reply.

    Made by `Mta.session`, where greeting and EHLO are exchanged already.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.transcript: list[str] = []
        """What was said, in order: lines of the client with `C: ` in front, replies with `S: `."""
        self.greeting: Reply | None = None
        self._stream = stream
        self._parser = ReplyParser()

    async def read(self) -> Reply:
        """The next reply.

        Raises:
          HungUp: there is none.
        """
        while (reply := self._parser.next_reply()) is None:
            data = b""
            with trio.move_on_after(PATIENCE) as scope:
                try:
                    data = bytes(await self._stream.receive_some())
                except trio.BrokenResourceError:
                    pass
            if not data:
                what = f"was silent for {PATIENCE:g} s" if scope.cancelled_caught else "closed the connection"
                raise HungUp("\n".join([f"the server {what}", *self.transcript]))
            self._parser.feed(data)
        self.transcript.append(f"S: {reply}")
        return reply

    async def command(self, line: str) -> Reply:
        """Send one line, and give the reply to it."""
        self.transcript.append(f"C: {line}")
        await self._send(line.encode() + b"\r\n")
        return await self.read()

    async def hello(self, name: str = "client.example") -> Reply:
        """EHLO."""
        return await self.command(f"EHLO {name}")

    async def mail(self, sender: str, params: str = "") -> Reply:
        """MAIL; empty text is the null path."""
        return await self.command(f"MAIL FROM:<{sender}> {params}".rstrip())

    async def rcpt(self, recipient: str, params: str = "") -> Reply:
        """RCPT."""
        return await self.command(f"RCPT TO:<{recipient}> {params}".rstrip())

    async def data(self, content: bytes) -> Reply:
        """DATA and the message, whose lines end in CRLF; the reply to whichever of both is the last word."""
        reply = await self.command("DATA")
        if reply.code != 354:
            return reply
        # RFC 5321 4.5.2: a leading dot is doubled
        stuffed = re.sub(rb"(?m)^\.", b"..", content)
        if not stuffed.endswith(b"\r\n"):
            stuffed += b"\r\n"
        self.transcript.append(f"C: ({len(content)} octets)")
        await self._send(stuffed + b".\r\n")
        return await self.read()

    async def quit(self) -> Reply:
        """QUIT."""
        return await self.command("QUIT")

    async def close(self) -> None:
        """Close the connection, whatever was said."""
        await trio.aclose_forcefully(self._stream)

    async def _send(self, data: bytes) -> None:
        try:
            await self._stream.send_all(data)
        except trio.BrokenResourceError:
            return  # what it said before may still be read; else `read` says that it is gone


@attrs.frozen
class Sent:
    """What became of one `Mta.send`."""

    reply: Reply = attrs.field(repr=str)
    """The last word: to the message, or to the first command that was refused."""
    refused: dict[str, Reply] = attrs.field(
        repr=lambda each: str({who: str(why) for who, why in each.items()})
    )
    """Recipients that were refused, each with the reply."""
    transcript: tuple[str, ...] = attrs.field(repr=False)

    @property
    def accepted(self) -> bool:
        """The server has the message."""
        return self.reply.code == 250

    @property
    def message(self) -> str:
        """The id that it got in the queue; empty without one."""
        found = _QUEUED.search(self.reply.text)
        return found[1] if found and self.accepted else ""

    def assert_accepted(self) -> None:
        """The message was taken, for all its recipients."""
        __tracebackhide__ = True
        self._check(self.accepted, "the message was not accepted")
        self._check(not self.refused, "not all recipients were accepted")

    def assert_rejected(self, text: str = "", *, code: int | None = None) -> None:
        """It was refused for good (5yz), with this in the reply."""
        __tracebackhide__ = True
        self._check_refusal(5, "rejected", text, code)

    def assert_deferred(self, text: str = "", *, code: int | None = None) -> None:
        """It was refused for now (4yz), with this in the reply."""
        __tracebackhide__ = True
        self._check_refusal(4, "deferred", text, code)

    def _check_refusal(self, digit: int, word: str, text: str, code: int | None) -> None:
        __tracebackhide__ = True
        self._check(self.reply.code // 100 == digit, f"the message was not {word}")
        self._check(code in (None, self.reply.code), f"the code is {self.reply.code} and not {code}")
        self._check(text in str(self.reply), f"the reply does not say {text!r}")

    def _check(self, holds: bool, complaint: str) -> None:
        __tracebackhide__ = True
        if not holds:
            raise AssertionError("\n".join([f"{complaint}:", *self.transcript]))


async def send_message(
    client: SmtpClient,
    sender: str,
    recipients: Sequence[str],
    content: bytes,
    *,
    check: Callable[[], None],
) -> Sent:
    """One message in a session that has said hello. `check` is called behind every reply."""
    refused: dict[str, Reply] = {}
    params = "BODY=8BITMIME" if not content.isascii() else ""
    if not all(each.isascii() for each in (sender, *recipients)):
        params = f"{params} SMTPUTF8".lstrip()

    def sent(reply: Reply) -> Sent:
        return Sent(reply, refused, tuple(client.transcript))

    reply = await client.mail(sender, params)
    check()
    if not reply.is_positive:
        return sent(reply)
    for recipient in recipients:
        reply = await client.rcpt(recipient)
        check()
        if not reply.is_positive:
            refused[recipient] = reply
    if len(refused) == len(recipients):
        return sent(next(iter(refused.values()), reply))
    reply = await client.data(content)
    check()
    return sent(reply)
