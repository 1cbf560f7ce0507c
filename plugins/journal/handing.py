"""Hand one message to a server over SMTP (RFC 5321), and know whether it has taken it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import trio

from elemta.mail import Reply
from elemta.plugin.api import OutsideFailed
from elemta.smtp import DotEncoder, RemoteProtocolError, ReplyParser
from elemta.tls import TlsFailed, start_tls

from .security import Security, StartTls

_PIECE: Final = 65_536


class NoTls(OutsideFailed):
    """TLS was begun, and failed: the connection is of no more use."""


class Conversation:
    """One connection, from the greeting on. Waits are bounded by the caller's deadline."""

    def __init__(self, stream: trio.abc.Stream, hostname: str, security: Security) -> None:
        self._stream = stream
        self._hostname = hostname
        self._security = security
        self._parser = ReplyParser()
        self._keywords: frozenset[str] = frozenset()

    async def hand_in(self, sender: str, recipient: str, *, eight_bit: bool, message: Iterable[bytes]) -> str:
        """Hand it in; what the server said when it took it. If cancelled, it may have been taken.

        Raises:
          NoTls: TLS failed, before anything was handed in.
          OutsideFailed: it did not take it, or is none that can.
        """
        await self._expect("the greeting", 220)
        await self._hello()
        await self._secure()
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

    async def _hello(self) -> None:
        hello = await self._say(f"EHLO {self._hostname}", 250)
        self._keywords = frozenset(line.split()[0].upper() for line in hello.lines[1:] if line.split())

    async def _secure(self) -> None:
        """Go on under TLS, as far as that is asked for."""
        security = self._security
        if security.context is None:
            return
        optional = security.level is StartTls.OPPORTUNISTIC
        if "STARTTLS" not in self._keywords:
            if optional:
                return
            raise OutsideFailed(f"the archive offers no STARTTLS, which is {security.level}")
        await self._stream.send_all(b"STARTTLS\r\n")
        reply = await self._reply()
        if reply.code != 220:
            if optional:
                return
            raise OutsideFailed(f"the archive answered STARTTLS with {reply}")
        if len(self._parser):  # RFC 3207 §4.2: nobody knows who said that
            raise NoTls("the archive went on in plain text behind STARTTLS")
        try:
            self._stream, _ = await start_tls(
                self._stream, security.context, server_side=False, hostname=security.hostname
            )
        except TlsFailed as error:
            raise NoTls(f"no TLS with the archive: {error.reason}") from error
        self._parser = ReplyParser()
        await self._hello()  # RFC 3207 §4.2: what was said before does not count

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
