"""Hand one message to a server over SMTP (RFC 5321), and know whether it has taken it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import trio

from elemta.mail import Reply
from elemta.plugin.api import OutsideFailed
from elemta.smtp import DotEncoder, RemoteProtocolError, ReplyParser

_PIECE: Final = 65_536


class Conversation:
    """One connection, from the greeting on. Waits are bounded by the caller's deadline."""

    def __init__(self, stream: trio.abc.Stream, hostname: str) -> None:
        self._stream = stream
        self._hostname = hostname
        self._parser = ReplyParser()
        self._keywords: frozenset[str] = frozenset()

    async def hand_in(self, sender: str, recipient: str, *, eight_bit: bool, message: Iterable[bytes]) -> str:
        """Hand it in; what the server said when it took it. If cancelled, it may have been taken.

        Raises:
          OutsideFailed: it did not take it, or is none that can.
        """
        await self._expect("the greeting", 220)
        hello = await self._say(f"EHLO {self._hostname}", 250)
        self._keywords = frozenset(line.split()[0].upper() for line in hello.lines[1:] if line.split())
        utf8 = not (sender + recipient).isascii()
        for needed, keyword in ((eight_bit, "8BITMIME"), (utf8, "SMTPUTF8")):
            if needed and keyword not in self._keywords:
                raise OutsideFailed(f"the archive has no {keyword}, which this message needs")
        params = (" BODY=8BITMIME" if eight_bit else "") + (" SMTPUTF8" if utf8 else "")
        await self._say(f"MAIL FROM:<{sender}>{params}", 250)
        await self._say(f"RCPT TO:<{recipient}>", 250)
        await self._say("DATA", 354)
        encoder = DotEncoder()
        for piece in message:
            await self._stream.send_all(encoder.feed(piece))
        await self._stream.send_all(encoder.end())
        taken = await self._expect("the message", 250)
        await self._stream.send_all(b"QUIT\r\n")
        return " ".join(taken.lines)

    async def _say(self, line: str, code: int) -> Reply:
        await self._stream.send_all(f"{line}\r\n".encode())
        return await self._expect(line.partition(" ")[0], code)

    async def _expect(self, what: str, code: int) -> Reply:
        reply = await self._reply()
        if reply.code != code:
            raise OutsideFailed(f"the archive answered {what} with {reply}")
        return reply

    async def _reply(self) -> Reply:
        while True:
            try:
                reply = self._parser.next_reply()
            except RemoteProtocolError as error:
                raise OutsideFailed(f"the archive speaks no SMTP: {error}") from error
            if reply is not None:
                return reply
            data = await self._stream.receive_some(_PIECE)
            if not data:
                raise OutsideFailed("the archive closed the connection")
            self._parser.feed(bytes(data))
