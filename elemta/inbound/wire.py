"""The octets of one session: what comes, what is to be sent, and a bound on every wait for either."""

from __future__ import annotations

import trio

from elemta.mail import TlsFacts, replies
from elemta.runtime import QuickSocketStream, ReplayStream, SocketAddress, is_cut_off
from elemta.smtp import ServerConnection
from elemta.tls import TlsFailed, start_tls

from .context import SessionContext
from .deadlines import BodyPace, Deadlines, Phase
from .ending import SessionEnds
from .presence import is_gone

RECEIVE_SIZE = 65536
"""Octets asked for at once. The kernel has rarely more, and the buffer is gone when the data is."""
FLUSH_SIZE = 32768
"""Octets of replies that are gathered at most."""
_LEAST_FINAL_REPLY = 1.0
"""Seconds that the reply to a stored message has even when the drain is at its end."""


class Wire:
    """Between the stream and the protocol machine. Put replies into `out`; they leave with `flush`.

    A write that was cut short leaves the client at a place nobody knows: then the machine is told, and
    nothing may be sent any more.
    """

    __slots__ = (
        "_command_since",
        "_connection",
        "_context",
        "_deadlines",
        "_pace",
        "octets_in",
        "out",
        "stream",
    )

    def __init__(
        self,
        stream: trio.abc.Stream,
        connection: ServerConnection,
        context: SessionContext,
        deadlines: Deadlines,
    ) -> None:
        self.stream = stream
        """What to close in the end: another one after STARTTLS."""
        self.out = b""
        """Replies that are to be sent."""
        self.octets_in = 0
        self._connection = connection
        self._context = context
        self._deadlines = deadlines
        self._pace: BodyPace | None = None
        """Of the body that is under way."""
        self._command_since: float | None = None
        """Since when the next command is awaited, however many octets of it have come."""

    # --- In ---------------------------------------------------------------------------------------------

    async def receive(self) -> None:
        """Wait for more, for as long as the client may take with what is awaited now.

        Raises:
          SessionEnds: the server stops, and a command would be next.
        """
        connection = self._connection
        since = trio.current_time()
        pace = self._pace
        if pace is None and connection.in_body:
            timeouts = self._context.config.timeouts
            pace = self._pace = BodyPace(timeouts.body_idle, timeouts.body_rate)
        if pace is not None:
            self._deadlines.enter(Phase.BODY, pace.allowance(), since=since)
        elif self._context.services.drain.draining:
            raise SessionEnds("drain", replies.SHUTTING_DOWN)
        else:
            if self._command_since is None:
                self._command_since = since
            # RFC 5321 §4.5.3.2.7
            seconds = self._context.config.timeouts.command
            self._deadlines.enter(Phase.COMMAND, seconds, since=self._command_since)
        data = await self._receive_some()
        self._deadlines.phase = Phase.WORK
        if pace is not None:
            pace.received(len(data), trio.current_time() - since)
        self.take(data)

    async def _receive_some(self) -> bytes:
        try:
            return bytes(await self.stream.receive_some(RECEIVE_SIZE))
        except trio.BrokenResourceError as error:
            # Many end TLS without its closing alert (RFC 8446 §6.1). Nothing is lost by taking that for an
            # end: a message ends with its dot or its last chunk, and not with the stream.
            if is_cut_off(error.__cause__):
                return b""
            raise

    def take(self, data: bytes) -> None:
        """Octets of the client, however they came; none is its end."""
        self.octets_in += len(data)
        self._connection.receive_data(data)

    async def wait_before_greeting(self, seconds: float) -> None:
        """Hold back the greeting, unless the client speaks before it."""
        self._deadlines.enter(Phase.GREETING)
        with trio.move_on_after(seconds):
            self.take(await self._receive_some())

    def command_came(self) -> None:
        """The next wait is for another command."""
        self._command_since = None
        self._pace = None

    def body_ended(self) -> None:
        """The next wait is for a command, or for another chunk."""
        self._pace = None

    def is_gone(self) -> bool:
        """Whether nobody waits for a reply any more."""
        # Who has sent more does not wait for this reply, and may have left by intention.
        return not self._connection.has_buffered and is_gone(self.stream)

    # --- Out --------------------------------------------------------------------------------------------

    async def flush(self) -> None:
        """Send the replies that have gathered."""
        if not self.out:
            return
        if self.send_now():
            await trio.lowlevel.checkpoint_if_cancelled()
            return
        self._deadlines.enter(Phase.WRITE, self._context.config.timeouts.write)
        await self.send()

    async def send(self) -> None:
        """Send within whatever scope there is. Cancelled or failed: no further use."""
        if self.send_now():
            await trio.lowlevel.checkpoint_if_cancelled()
            return
        data, self.out = self.out, b""
        try:
            await self.stream.send_all(data)
        except BaseException:
            self._connection.send_failed()  # some, all or none of it was sent (TRIO 3.8)
            raise

    def send_now(self) -> bool:
        """Send what goes without waiting, which is nearly always all; whether nothing is left."""
        if isinstance(self.stream, QuickSocketStream):
            try:
                self.out = self.out[self.stream.send_now(self.out) :]
            except BaseException:
                self._connection.send_failed()
                raise
        return not self.out

    async def send_final_reply(self) -> bool:
        """Send the reply to a stored message, even when a cancel is pending, which acts right after; whether
        it was sent in time."""
        self._deadlines.phase = Phase.FINAL_REPLY
        if self.send_now():
            return True
        left = self._context.services.drain.hard_deadline - trio.current_time()
        seconds = max(_LEAST_FINAL_REPLY, min(self._context.config.timeouts.final_reply, left))
        with trio.move_on_after(seconds, shield=True) as scope:
            await self.send()
        return not scope.cancelled_caught

    # --- TLS --------------------------------------------------------------------------------------------

    def replay(self, data: bytes, peer: SocketAddress) -> None:
        """Let these octets, which were read too early, be the first of TLS."""
        self.stream = ReplayStream(self.stream, data, peer=peer)

    async def start_tls(self, peer: SocketAddress | None) -> TlsFacts:
        """Do the handshake; `peer` is the client where that is not the other end of the connection.

        Raises:
          TlsFailed: no TLS came about; the machine was told.
        """
        tls = self._context.services.tls
        context = tls.server if tls is not None else None
        if context is None:
            self._connection.send_failed()
            raise TlsFailed("there is no certificate")
        self._deadlines.enter(Phase.TLS, self._context.config.timeouts.tls_handshake)
        # A client has only some of the places for handshakes; behind a proxy each has its own.
        stream = self.stream if peer is None else ReplayStream(self.stream, peer=peer)
        try:
            self.stream, facts = await start_tls(stream, context, server_side=True)
        except TlsFailed:
            self._connection.send_failed()
            raise
        self._deadlines.phase = Phase.WORK
        return facts
