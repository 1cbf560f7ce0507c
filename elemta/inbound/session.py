"""One session: bytes to the protocol machine and back, with a bound on every wait.

Theory of operation. The machine hands out one event at a time; all commands that came in one piece
are answered before the next wait, and their replies leave in one write (RFC 2920). One cancel scope
lives as long as the session; each wait moves its deadline (`Deadlines`). When it fires, the scope is
left first, then the last word (421) is sent in a scope of its own. A write that was cut short leaves
the client at a place nobody knows, so nothing is sent after it.
"""

from __future__ import annotations

import attrs
import trio

from elemta import smtp
from elemta.config import ListenerTls
from elemta.events import SessionClosed, SessionOpened, SessionTls
from elemta.mail import Reply, SessionId, replies
from elemta.runtime import QuickSocketStream, get_logger
from elemta.smtp import NEED_DATA, ServerConnection, State
from elemta.spool import SpoolUnavailable
from elemta.tls import TlsFailed, start_tls

from .context import SessionContext
from .deadlines import BodyPace, Deadlines, Expiry, Phase
from .dialogue import Dialogue
from .presence import is_gone
from .transaction import ClientGone, CommitFailed, Transaction

RECEIVE_SIZE = 65536
"""Octets asked for at once. The kernel has rarely more, and the buffer is gone when the data is."""
_FLUSH_SIZE = 32768
"""Octets of replies that are gathered at most."""
_EVENTS_PER_TURN = 16
"""Events (some 10 µs each) that one client may have handled before other tasks get their turn."""
_LEAST_FINAL_REPLY = 1.0
"""Seconds that the reply to a stored message has even when the drain is at its end."""

_log = get_logger(__name__)


class _SessionEnds(Exception):
    """The session is over; `reply` is the last word, if there may be one."""

    def __init__(self, cause: str, reply: Reply | None = None) -> None:
        super().__init__(cause)
        self.cause = cause
        self.reply = reply


@attrs.frozen
class SessionView:
    """A session as listings show it."""

    id: SessionId
    listener: str
    peer: str
    port: int
    phase: str
    seconds: float
    """Since it began."""
    seconds_left: float
    """Until its next deadline."""
    tls: bool
    commands: int
    messages: int


class Session:
    """A conversation with one client over one stream. `run` it once; it does not close the stream."""

    __slots__ = (
        "_command_since",
        "_connection",
        "_context",
        "_deadlines",
        "_dialogue",
        "_octets_in",
        "_out",
        "_pace",
        "_peer",
        "_port",
        "_started",
        "id",
        "stream",
    )

    def __init__(self, stream: trio.abc.Stream, context: SessionContext, peer: str, port: int) -> None:
        self.stream = stream
        """What to close in the end: another one after STARTTLS."""
        self.id = SessionId(context.services.make_id())
        self._context = context
        self._peer = peer
        self._port = port
        self._started = trio.current_time()
        self._connection = ServerConnection(
            context.smtp_limits, context.capabilities_now(tls=False), lmtp=context.lmtp
        )
        self._deadlines = Deadlines(context.config.timeouts.session, context.services.drain)
        self._dialogue = Dialogue(context, self._connection, self._deadlines, self.id, peer, port)
        self._pace: BodyPace | None = None
        """Of the body that is under way."""
        self._command_since: float | None = None
        """Since when the next command is awaited, however many octets of it have come."""
        self._out = b""
        """Replies that are to be sent."""
        self._octets_in = 0

    # --- For those who watch and steer ----------------------------------------------------------------

    def view(self) -> SessionView:
        """How it stands now."""
        now = trio.current_time()
        return SessionView(
            id=self.id,
            listener=self._context.listener.name,
            peer=self._peer,
            port=self._port,
            phase=str(self._deadlines.phase),
            seconds=now - self._started,
            seconds_left=max(0.0, self._deadlines.next - now),
            tls=self._dialogue.tls is not None,
            commands=self._dialogue.commands,
            messages=self._dialogue.messages,
        )

    def begin_drain(self) -> None:
        """The server stops. Waiting for a command ends at once; what is under way may finish, until the
        drain's deadline; the next command is answered 421. Sync."""
        self._context.services.drain.attach(self._deadlines.scope)
        if self._deadlines.phase is Phase.COMMAND:
            self._dialogue.cause = "drain"
            self._deadlines.scope.cancel(reason="the server is stopping")

    # --- The whole of it --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Hold the conversation.

        Returns when it is over for whatever the client did. Cancelled, or raising (a bug): nothing is
        left behind, and what was not committed is discarded.
        """
        services = self._context.services
        dialogue = self._dialogue
        services.bus.publish(
            SessionOpened(
                time=services.clock.time(),
                session=self.id,
                listener=self._context.listener.name,
                peer=self._peer,
                port=self._port,
            )
        )
        try:
            await self._hold()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            dialogue.cause = dialogue.cause or "reset"
        except Exception:
            dialogue.cause = "crash"
            raise
        finally:
            cause = dialogue.cause or "cancelled"
            dialogue.reset(cause)
            self._deadlines.close()
            services.bus.publish(
                SessionClosed(
                    time=services.clock.time(),
                    session=self.id,
                    cause=cause,
                    seconds=trio.current_time() - self._started,
                    commands=dialogue.commands,
                    messages=dialogue.messages,
                    errors=dialogue.errors,
                    octets_in=self._octets_in,
                )
            )

    async def _hold(self) -> None:
        last_word: Reply | None = None
        with self._deadlines.scope as scope:
            try:
                await self._converse()
            except _SessionEnds as end:
                self._dialogue.cause = self._dialogue.cause or end.cause
                last_word = end.reply
        if scope.cancelled_caught:
            last_word = self._expire()
        await self.say(last_word)

    def _expire(self) -> Reply | None:
        """Note why the scope was cancelled; the last word that goes with it."""
        phase = self._deadlines.phase
        expiry = self._deadlines.expired()
        dialogue = self._dialogue
        if dialogue.cause == "drain" or expiry is Expiry.DRAIN:
            dialogue.cause = "drain"
            reply = replies.SHUTTING_DOWN
        else:
            dialogue.cause = "timeout"
            reply = replies.COMMAND_TIMEOUT if expiry is Expiry.PHASE else replies.SESSION_TIMEOUT
        return None if phase is Phase.TLS else reply

    async def say(self, reply: Reply | None) -> None:
        """Send what is still to be sent and a last word, if the client can understand it.

        Opens its own scope: it is called when the session's has expired, and after a crash.
        """
        connection = self._connection
        if reply is not None and connection.state not in (State.CLOSED, State.TLS, State.ERROR):
            self._out += connection.reply(reply)
        if self._out and connection.state is not State.ERROR:
            with trio.move_on_after(self._context.config.timeouts.write):
                await self._send()

    # --- The loop ---------------------------------------------------------------------------------------

    async def _converse(self) -> None:
        connection = self._connection
        context = self._context
        if context.listener.tls is ListenerTls.IMPLICIT:
            await self._start_tls()
        if context.services.drain.draining:  # it came in at the last moment
            raise _SessionEnds("drain", replies.SHUTTING_DOWN)
        self._out = connection.greet(replies.banner(context.config.hostname, lmtp=context.lmtp))
        turn = 0
        while True:
            try:
                event = connection.next_event()
            except smtp.RemoteProtocolError as error:
                trouble = error
                break
            if event is NEED_DATA:
                await self._flush()
                await self._receive()
                turn = 0
                continue
            if isinstance(event, smtp.CommandReceived):
                await self._command(event.command)
            elif isinstance(event, smtp.BodyChunk):
                await self._body_piece(event.data)
            elif isinstance(event, smtp.BodyEnd):
                await self._body_end(event)
            else:
                assert isinstance(event, smtp.ConnectionClosed), event
                self._dialogue.cause = self._dialogue.cause or "eof"
                return
            turn += 1
            # A client may send 10 000 commands in one piece; the loop is not its own (TRIO 3.14).
            if turn < _EVENTS_PER_TURN:
                await trio.lowlevel.checkpoint_if_cancelled()
            else:
                turn = 0
                await trio.lowlevel.checkpoint()
        await self._end_out_of_step(trouble)

    async def _receive(self) -> None:
        connection = self._connection
        since = trio.current_time()
        pace = self._pace
        if pace is not None:
            self._deadlines.enter(Phase.BODY, pace.allowance())
        elif self._context.services.drain.draining:
            raise _SessionEnds("drain", replies.SHUTTING_DOWN)
        else:
            if self._command_since is None:
                self._command_since = since
            waited = since - self._command_since
            # RFC 5321 §4.5.3.2.7
            self._deadlines.enter(Phase.COMMAND, self._context.config.timeouts.command - waited)
        data = await self.stream.receive_some(RECEIVE_SIZE)
        self._deadlines.phase = Phase.WORK
        self._octets_in += len(data)
        if pace is not None:
            pace.received(len(data), trio.current_time() - since)
        connection.receive_data(bytes(data))

    async def _flush(self) -> None:
        if self._out:
            self._deadlines.enter(Phase.WRITE, self._context.config.timeouts.write)
            await self._send()

    async def _send(self) -> None:
        if self._send_now():
            await trio.lowlevel.checkpoint_if_cancelled()
            return
        data, self._out = self._out, b""
        try:
            await self.stream.send_all(data)
        except BaseException:
            self._connection.send_failed()  # some, all or none of it was sent (TRIO 3.8)
            raise

    def _send_now(self) -> bool:
        """Send what goes without waiting, which is nearly always all; whether nothing is left."""
        if isinstance(self.stream, QuickSocketStream):
            try:
                self._out = self._out[self.stream.send_now(self._out) :]
            except BaseException:
                self._connection.send_failed()
                raise
        return not self._out

    async def _end_out_of_step(self, error: smtp.RemoteProtocolError) -> None:
        """Send the last word after what cannot be answered in step; the machine gives no more bytes."""
        self._dialogue.cause = "protocol"
        self._dialogue.errors += 1
        self._dialogue.tell_rejected("", error.reply_hint)
        self._out += smtp.format_reply(error.reply_hint)
        await self._flush()

    async def _command(self, command: smtp.Command | smtp.BadCommand) -> None:
        self._command_since = None
        reply = self._dialogue.answer(command)
        if self._dialogue.is_held_back(reply):
            self._deadlines.enter(Phase.DELAY)
            await trio.sleep(self._context.config.limits.error_delay)
        if reply is replies.TLS_READY:
            await self._answer_starttls(reply)
            return
        self._out += self._connection.reply(reply)
        if reply is replies.START_DATA:
            timeouts = self._context.config.timeouts
            self._pace = BodyPace(timeouts.body_idle, timeouts.body_rate)
        if len(self._out) > _FLUSH_SIZE:
            await self._flush()

    # --- The message ------------------------------------------------------------------------------------

    async def _body_piece(self, data: bytes) -> None:
        transaction = self._dialogue.transaction
        assert transaction is not None
        self._deadlines.enter(Phase.WORK)
        try:
            await transaction.write(data)
        except SpoolUnavailable as cause:
            # No commit was begun, so it may be said.
            raise _SessionEnds("storage", replies.INTERNAL_ERROR) from cause

    async def _body_end(self, end: smtp.BodyEnd) -> None:
        transaction = self._dialogue.transaction
        assert transaction is not None
        connection = self._connection
        self._pace = None
        self._deadlines.enter(Phase.COMMIT)
        try:
            reply = await transaction.finish(end, self._is_gone)
        except ClientGone:
            raise _SessionEnds("eof") from None
        except CommitFailed as cause:
            connection.send_failed()  # not even a 421: the message may be there (RELIABILITY D4)
            raise _SessionEnds("storage") from cause
        try:
            self._out += connection.reply(reply)  # over LMTP once per recipient (RFC 2033 §4.2)
        except Exception:
            connection.send_failed()  # what is stored must not be answered 421 (RELIABILITY P2)
            raise
        if reply.is_positive:
            await self._acknowledge(transaction)
        self._dialogue.reset("answered")  # RFC 5321 §4.1.1.4

    async def _acknowledge(self, transaction: Transaction) -> None:
        """Say that the message is ours, even when a cancel is pending, which acts right after."""
        self._dialogue.message_accepted()
        self._deadlines.phase = Phase.FINAL_REPLY
        try:
            if self._send_now():
                return
            with trio.move_on_after(self._final_reply_seconds(), shield=True) as scope:
                await self._send()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._log_unacknowledged(transaction)
            raise
        if scope.cancelled_caught:
            self._log_unacknowledged(transaction)
            raise _SessionEnds("timeout")

    def _log_unacknowledged(self, transaction: Transaction) -> None:
        # It stays: the reply may have arrived. If not, the client sends a duplicate (RELIABILITY D2).
        _log.warning("stored, but the reply was lost", session=self.id, message=transaction.message)

    def _final_reply_seconds(self) -> float:
        left = self._context.services.drain.hard_deadline - trio.current_time()
        return max(_LEAST_FINAL_REPLY, min(self._context.config.timeouts.final_reply, left))

    def _is_gone(self) -> bool:
        # Who has sent more does not wait for this reply, and may have left by intention.
        return not self._connection.has_buffered and is_gone(self.stream)

    # --- TLS --------------------------------------------------------------------------------------------

    async def _answer_starttls(self, reply: Reply) -> None:
        trouble: smtp.RemoteProtocolError | None = None
        try:
            self._out += self._connection.reply(reply)
        except smtp.RemoteProtocolError as error:  # commands in clear text behind it (RFC 3207 §4.2)
            trouble = error
        if trouble is not None:
            await self._end_out_of_step(trouble)
            raise _SessionEnds("protocol") from trouble
        await self._flush()
        await self._start_tls()
        self._connection.tls_started()

    async def _start_tls(self) -> None:
        services = self._context.services
        context = services.tls.server if services.tls is not None else None
        if context is None:
            raise _SessionEnds("tls")
        self._deadlines.enter(Phase.TLS, self._context.config.timeouts.tls_handshake)
        try:
            self.stream, facts = await start_tls(self.stream, context, server_side=True)
        except TlsFailed as cause:
            self._connection.send_failed()
            raise _SessionEnds("tls") from cause
        self._deadlines.phase = Phase.WORK
        self._dialogue.tls_started(facts)
        self._connection.capabilities = self._context.capabilities_now(tls=True)
        services.bus.publish(
            SessionTls(
                time=services.clock.time(),
                session=self.id,
                version=facts.version,
                cipher=facts.cipher,
            )
        )
