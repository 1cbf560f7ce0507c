"""One session: bytes to the protocol machine and back, with a bound on every wait.

Theory of operation. The machine hands out one event at a time; all commands that came in one piece
are answered before the next wait, and their replies leave in one write (RFC 2920). One cancel scope
lives as long as the session; each wait moves its deadline (`Deadlines`). When it fires, the scope is
left first, then the last word (421) is sent in a scope of its own. A write that was cut short leaves
the client at a place nobody knows, so nothing is sent after it.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import trio

from elemta import smtp
from elemta.config import ListenerTls
from elemta.events import SessionClosed, SessionOpened, SessionRefused, SessionTls, Transcript
from elemta.mail import Reply, SessionId, replies
from elemta.plugin import HookArguments
from elemta.runtime import TaskNote, get_logger
from elemta.smtp import NEED_DATA, ServerConnection, State
from elemta.spool import SpoolUnavailable
from elemta.tls import TlsFailed

from .asked import answer_asked, answer_verified, ask_before, ask_table
from .context import SessionContext
from .deadlines import Deadlines, Expiry, Phase
from .dialogue import AUTH_STEP, Dialogue
from .ending import SessionEnds
from .forwarding import ForwardedClient
from .judged import answer_judged, meet, meet_another
from .login import Login
from .proxied import receive_header
from .relay import is_trusted
from .transaction import ClientGone, CommitFailed, Transaction
from .visitor import Visitor
from .wire import FLUSH_SIZE, Wire

OPERATOR = "operator"
"""The cause of an end that an operator wanted."""
_ENDS_WELL = frozenset({"quit", "eof", "drain"})
"""Causes for which what was said is not kept, unless something was refused."""
_FAREWELL = 60.0
"""Seconds that a client has to leave when it was told at once that it is not welcome."""
_EVENTS_PER_TURN = 16
"""Events (some 10 µs each) that one client may have handled before other tasks get their turn."""

_log = get_logger(__name__)


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
    account: str = ""
    """Who has authenticated."""
    hello: str = ""
    """As it called itself."""
    sender: str = ""
    """Of the transaction that is open."""
    recipients: int = 0
    message: str = ""
    """The id that its message will have, once its body has begun."""
    octets_in: int = 0


class Session:
    """A conversation with one client over one stream. `run` it once; it does not close the stream."""

    __slots__ = (
        "_connection",
        "_context",
        "_deadlines",
        "_dialogue",
        "_identify",
        "_login",
        "_message",
        "_opened",
        "_patience",
        "_started",
        "_transcript",
        "_visitor",
        "_wire",
        "id",
    )

    def __init__(
        self,
        stream: trio.abc.Stream,
        context: SessionContext,
        peer: str,
        port: int,
        *,
        identify: Callable[[str], Reply | None] = lambda peer: None,
    ) -> None:
        """`identify` counts the session as another client's than its connection's, or says why not."""
        self.id = SessionId(context.services.make_id())
        self._context = context
        self._started = trio.current_time()
        self._connection = ServerConnection(
            context.smtp_limits,
            lmtp=context.lmtp,
            dialect=context.dialect,
            hostname=context.config.hostname,
        )
        self._deadlines = Deadlines(context.config.timeouts.session, context.services.drain)
        self._wire = Wire(stream, self._connection, context, self._deadlines)
        self._visitor = Visitor(context, self._connection, self.id, peer, port)
        self._dialogue = Dialogue(context, self._connection, self._deadlines, self.id, self._visitor)
        self._login = Login(context, self._dialogue, self._deadlines)
        self._identify = identify
        self._patience = context.config.limits.pipelining_errors
        self._message = ""
        """The id of the last message that came whole."""
        self._transcript: Transcript | None = None
        if context.services.flights is not None:
            self._transcript = Transcript()
            self._connection.witness = self._transcript.note
        self._opened = False
        """Whether it was told that the session has begun; before a PROXY header it has not."""

    @property
    def stream(self) -> trio.abc.Stream:
        """What to close in the end: another one after STARTTLS."""
        return self._wire.stream

    # --- For those who watch and steer ----------------------------------------------------------------

    def view(self) -> SessionView:
        """How it stands now."""
        now = trio.current_time()
        visitor = self._visitor
        transaction = self._dialogue.transaction
        return SessionView(
            id=self.id,
            listener=self._context.listener.name,
            peer=visitor.peer,
            port=visitor.port,
            phase=str(self._deadlines.phase),
            seconds=now - self._started,
            seconds_left=max(0.0, self._deadlines.next - now),
            tls=visitor.tls is not None,
            commands=self._dialogue.commands,
            messages=self._dialogue.messages,
            account=visitor.identity.name if visitor.identity else "",
            hello=self._dialogue.hello,
            sender="" if transaction is None else transaction.sender_text(),
            recipients=0 if transaction is None else transaction.recipients,
            message=(transaction.message or "") if transaction is not None else "",
            octets_in=self._wire.octets_in,
        )

    def note(self) -> TaskNote:
        """How it stands, for the tree of tasks."""
        view = self.view()
        text = f"{view.peer} at {view.listener}" + (f", {view.account}" if view.account else "")
        return TaskNote("session", view.id, text, view.phase, view.seconds, view.seconds_left)

    def close(self) -> None:
        """An operator wants it ended. Sync; at any moment.

        What waits ends at once, and the client is told 421. A message that storage has taken is stored and
        acknowledged first, as with every cancel; one that it has not taken is not there.
        """
        self._dialogue.cause = OPERATOR
        self._deadlines.scope.cancel(reason="closed by the operator")

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
        dialogue = self._dialogue
        detail = ""
        if not self._context.listener.proxy_protocol:
            self._tell_opened()
        try:
            detail = await self._hold()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            dialogue.cause = dialogue.cause or "reset"
        except Exception:
            dialogue.cause = "crash"
            raise
        finally:
            cause = dialogue.cause or "cancelled"
            dialogue.reset(cause)
            self._deadlines.close()
            self._tell_closed(cause, detail)
            self._record(cause, detail)
            panel = self._visitor.panel
            if panel is not None and panel.has("disconnect"):
                view = dialogue.session_view()
                panel.tell("disconnect", HookArguments(session=view, reason=cause))

    def _tell_opened(self) -> None:
        services, visitor = self._context.services, self._visitor
        self._opened = True
        services.bus.publish(
            SessionOpened(
                time=services.clock.time(),
                session=self.id,
                listener=self._context.listener.name,
                peer=visitor.peer,
                port=visitor.port,
            )
        )

    def _tell_closed(self, cause: str, detail: str) -> None:
        services, dialogue = self._context.services, self._dialogue
        if not self._opened:
            services.bus.publish(
                SessionRefused(
                    time=services.clock.time(),
                    listener=self._context.listener.name,
                    peer=self._visitor.via,
                    reason=f"PROXY header: {detail or cause}",
                )
            )
            return
        services.bus.publish(
            SessionClosed(
                time=services.clock.time(),
                session=self.id,
                cause=cause,
                seconds=round(trio.current_time() - self._started, 3),
                commands=dialogue.commands,
                messages=dialogue.messages,
                errors=dialogue.errors,
                octets_in=self._wire.octets_in,
                early=self._connection.early_data,
                detail=detail,
            )
        )

    def _record(self, cause: str, detail: str) -> None:
        """Keep what was said, if not all went well."""
        flights, transcript = self._context.services.flights, self._transcript
        if flights is None or transcript is None or (cause in _ENDS_WELL and not self._dialogue.errors):
            return
        if detail:
            transcript.note(smtp.Side.NOTE, detail)
        flights.keep(
            "session",
            transcript.all(),
            time=self._context.services.clock.time(),
            about=self.id,
            peer=self._visitor.peer,
            message=self._message,
            cause=cause,
            dropped=transcript.dropped,
        )

    async def _hold(self) -> str:
        """Converse to the end, with a last word; what is to be told of the end beside its cause."""
        last_word: Reply | None = None
        detail = ""
        with self._deadlines.scope as scope:
            try:
                await self._converse()
            except SessionEnds as end:
                self._dialogue.cause = self._dialogue.cause or end.cause
                last_word, detail = end.reply, end.detail
        if scope.cancelled_caught:
            last_word = self._expire()
        await self.say(last_word)
        return detail

    def _expire(self) -> Reply | None:
        """Note why the scope was cancelled; the last word that goes with it."""
        phase = self._deadlines.phase
        expiry = self._deadlines.expired()
        dialogue = self._dialogue
        if dialogue.cause == OPERATOR:
            reply = replies.CLOSED_BY_OPERATOR
        elif dialogue.cause == "drain" or expiry is Expiry.DRAIN:
            dialogue.cause = "drain"
            reply = replies.SHUTTING_DOWN
        else:
            dialogue.cause = "timeout"
            reply = replies.COMMAND_TIMEOUT if expiry is Expiry.PHASE else replies.SESSION_TIMEOUT
        return None if phase in (Phase.TLS, Phase.PROXY) else reply

    async def say(self, reply: Reply | None) -> None:
        """Send what is still to be sent and a last word, if the client can understand it.

        Opens its own scope: it is called when the session's has expired, and after a crash.
        """
        connection = self._connection
        if reply is not None and connection.state not in (State.CLOSED, State.TLS, State.ERROR):
            self._wire.out += connection.reply(reply)
        if self._wire.out and connection.state is not State.ERROR:
            with trio.move_on_after(self._context.config.timeouts.write):
                await self._wire.send()

    # --- The loop ---------------------------------------------------------------------------------------

    async def _converse(self) -> None:
        connection = self._connection
        context = self._context
        if context.listener.proxy_protocol:
            await self._receive_proxy_header()
        if context.listener.tls is ListenerTls.IMPLICIT:
            await self._start_tls()
        if context.services.drain.draining:  # it came in at the last moment
            raise SessionEnds("drain", replies.SHUTTING_DOWN)
        await self._greet()
        wire = self._wire
        turn = 0
        while True:
            try:
                event = connection.next_event()
            except smtp.RemoteProtocolError as error:
                trouble = error
                break
            if event is NEED_DATA:
                await wire.flush()
                await wire.receive()
                turn = 0
                continue
            if isinstance(event, smtp.CommandReceived):
                await self._command(event.command)
            elif isinstance(event, smtp.BodyChunk):
                await self._body_piece(event.data)
            elif isinstance(event, smtp.BodyEnd):
                await self._body_end(event)
            elif isinstance(event, smtp.ChunkEnd):
                self._chunk_end(event)
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

    async def _end_out_of_step(self, error: smtp.RemoteProtocolError) -> None:
        """Send the last word after what cannot be answered in step; the machine gives no more bytes."""
        self._dialogue.cause = "protocol"
        self._dialogue.errors += 1
        self._dialogue.tell_rejected("", error.reply_hint)
        self._wire.out += smtp.format_reply(smtp.name_host(error.reply_hint, self._context.config.hostname))
        await self._wire.flush()

    # --- Before the first command -----------------------------------------------------------------------

    async def _receive_proxy_header(self) -> None:
        """Learn who the client is, before anything else, also before TLS (HAProxy, proxy-protocol.txt §5)."""
        context, visitor, wire = self._context, self._visitor, self._wire
        if not is_trusted(visitor.via, context.config.proxies.proxy_protocol):
            raise SessionEnds("proxy", detail="not taken from this address")
        self._deadlines.enter(Phase.PROXY, context.config.timeouts.proxy_header)
        header, rest = await receive_header(wire.stream)
        self._deadlines.phase = Phase.WORK
        if header.source is not None:  # else the proxy speaks for itself
            visitor.stand_for(header.source, header.tls)
        refusal = self._identify(visitor.peer)
        self._tell_opened()
        if header.source is not None:
            visitor.tell_forwarded("proxy", ForwardedClient(visitor.peer, visitor.port))
        if context.listener.tls is ListenerTls.IMPLICIT:
            if refusal is not None:  # a client that expects TLS could not read it
                raise SessionEnds("limit")
            wire.replay(rest, (visitor.peer, visitor.port))
            return
        if rest:
            wire.take(rest)
        if refusal is not None:
            self._turn_away(refusal, "limit")

    async def _greet(self) -> None:
        """Say who we are; or why we will not talk to this client."""
        connection, config = self._connection, self._context.config
        if connection.state is not State.GREETING:
            return  # it was turned away
        judge = self._visitor.judge
        if judge is not None:
            refusal = await meet(judge, self._wire, connection, self._deadlines)
            if refusal is not None:
                self._dialogue.reason = refusal.reason
                self._turn_away(refusal.reply, "policy")
                return
        panel = self._visitor.panel
        if panel is not None and panel.has("connect"):
            self._deadlines.enter(Phase.PLUGIN)
            refusal = await panel.ask("connect", self._dialogue.arguments())
            if refusal is not None:
                self._dialogue.reason = refusal.reason
                self._turn_away(refusal.reply, "plugin")
                return
        self._wire.out += connection.greet(replies.banner(config.hostname, lmtp=self._context.lmtp))

    def _turn_away(self, reply: Reply, cause: str) -> None:
        """Say no in the place of the greeting. After 554 there is still to wait for QUIT (RFC 5321 §3.1)."""
        self._deadlines.begin_transaction(_FAREWELL)
        self._dialogue.cause = cause
        self._dialogue.tell_rejected("CONNECT", reply)
        self._wire.out += self._connection.greet(reply)

    # --- Commands ---------------------------------------------------------------------------------------

    async def _command(self, command: smtp.Command | smtp.BadCommand) -> None:
        self._wire.command_came()
        dialogue = self._dialogue
        judge, panel = self._visitor.judge, self._visitor.panel
        transaction = dialogue.transaction
        recipients = 0 if transaction is None else transaction.recipients
        refused = None if panel is None else await ask_before(command, panel, dialogue, self._deadlines)
        if refused is None and type(command) is smtp.Rcpt:
            refused = await ask_table(command, dialogue, self._deadlines)
        if self._patience and self._connection.early_data > self._patience:
            dialogue.cause = "pipelining"
            reply = replies.OUT_OF_TURN
        elif refused is not None:
            reply = refused
        elif judge is None:
            reply = dialogue.answer(command)
        else:
            reply = await answer_judged(command, judge, dialogue, self._deadlines)
        verifier = self._context.services.verifier
        if verifier is not None and type(command) is smtp.Rcpt and reply.code < 400:
            reply = await answer_verified(command, verifier, dialogue, self._deadlines, reply, recipients)
        if reply is AUTH_STEP:
            assert isinstance(command, (smtp.Auth, smtp.AuthResponse))
            reply = await self._login.answer(command)
        if panel is not None and reply.code < 400:
            if reply is replies.AUTHENTICATED:
                panel.tell("auth", dialogue.arguments())
            else:
                reply = await answer_asked(command, panel, dialogue, self._deadlines, reply, recipients)
        if reply.code >= 400:
            reply = dialogue.refuse(command, reply)
            if dialogue.is_held_back(reply):
                self._deadlines.enter(Phase.DELAY)
                await trio.sleep(self._context.config.limits.error_delay)
        elif reply is replies.TLS_READY:
            await self._answer_starttls(reply)
            return
        elif reply.code == 220:
            reply = await self._meet_again(reply)
        self._wire.out += self._connection.reply(reply)
        if type(command) is smtp.BadCommand and command.verb == smtp.Verb.BDAT:
            self._forget_chunks(reply)
        if len(self._wire.out) > FLUSH_SIZE:  # who pipelines has to take his replies now and then
            await self._wire.flush()

    # --- The message ------------------------------------------------------------------------------------

    async def _body_piece(self, data: bytes) -> None:
        transaction = self._dialogue.transaction
        assert transaction is not None
        self._deadlines.enter(Phase.WORK)
        try:
            await transaction.write(data)
        except SpoolUnavailable as cause:
            # No commit was begun, so it may be said.
            raise SessionEnds("storage", replies.INTERNAL_ERROR) from cause

    async def _body_end(self, end: smtp.BodyEnd) -> None:
        transaction = self._dialogue.transaction
        assert transaction is not None
        connection = self._connection
        self._message = transaction.message or ""
        self._wire.body_ended()
        self._deadlines.enter(Phase.COMMIT)
        try:
            reply = await transaction.finish(end, self._wire.is_gone)
        except ClientGone:
            raise SessionEnds("eof") from None
        except CommitFailed as cause:
            connection.send_failed()  # not even a 421: the message may be there (RELIABILITY D4)
            raise SessionEnds("storage") from cause
        except SpoolUnavailable as cause:
            raise SessionEnds("storage", replies.INTERNAL_ERROR) from cause
        try:
            self._wire.out += connection.reply(reply)  # over LMTP once per recipient (RFC 2033 §4.2)
        except Exception:
            connection.send_failed()  # what is stored must not be answered 421 (RELIABILITY P2)
            raise
        if reply.is_positive:
            await self._acknowledge(transaction)
        self._dialogue.reset("answered")  # RFC 5321 §4.1.1.4

    async def _acknowledge(self, transaction: Transaction) -> None:
        """Say that the message is ours, even when a cancel is pending, which acts right after."""
        self._dialogue.message_accepted()
        try:
            sent = await self._wire.send_final_reply()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._log_unacknowledged(transaction)
            raise
        if not sent:
            self._log_unacknowledged(transaction)
            raise SessionEnds("timeout")
        if self._visitor.judge is not None:
            self._visitor.judge.accepted(transaction.recipients, transaction.size)

    def _log_unacknowledged(self, transaction: Transaction) -> None:
        # It stays: the reply may have arrived. If not, the client sends a duplicate (RELIABILITY D2).
        _log.warning("stored, but the reply was lost", session=self.id, message=transaction.message)

    def _chunk_end(self, end: smtp.ChunkEnd) -> None:
        """Answer a chunk of BDAT that is not the last, or that was refused from its begin (RFC 3030 §2)."""
        transaction = self._dialogue.transaction
        assert transaction is not None
        reply = end.refusal or transaction.end_chunk(end.problem) or replies.chunk_ok(end.size)
        self._wire.body_ended()
        self._wire.out += self._connection.reply(reply)
        if reply.code >= 400:
            self._forget_chunks(reply)

    def _forget_chunks(self, reply: Reply) -> None:
        """A chunk was refused, so nothing can become of its message any more."""
        transaction = self._dialogue.transaction
        if transaction is not None:
            transaction.refuse_body(reply, "chunk refused")
        if self._connection.state is State.READY:
            self._dialogue.reset("refused")

    # --- Another client, or TLS -------------------------------------------------------------------------

    async def _meet_again(self, greeting: Reply) -> Reply:
        """Answer XCLIENT: the client is another one now."""
        dialogue, judge = self._dialogue, self._visitor.judge
        reply, cause = self._identify(self._visitor.peer), "limit"
        if reply is None and judge is not None:
            refusal = await meet_another(judge, self._deadlines)
            if refusal is not None:
                dialogue.reason = refusal.reason
                reply, cause = refusal.reply, "policy"
        if reply is None and (trouble := await self._login.look_up()):
            dialogue.reason = trouble
            reply, cause = replies.ACCOUNTS_UNAVAILABLE, "policy"
        if reply is None:
            return greeting
        dialogue.cause = cause
        dialogue.tell_rejected("XCLIENT", reply)
        return reply

    async def _answer_starttls(self, reply: Reply) -> None:
        trouble: smtp.RemoteProtocolError | None = None
        try:
            self._wire.out += self._connection.reply(reply)
        except smtp.RemoteProtocolError as error:  # commands in clear text behind it (RFC 3207 §4.2)
            trouble = error
        if trouble is not None:
            await self._end_out_of_step(trouble)
            raise SessionEnds("protocol") from trouble
        await self._wire.flush()
        await self._start_tls()
        self._connection.tls_started()

    async def _start_tls(self) -> None:
        services = self._context.services
        try:
            facts = await self._wire.start_tls(self._visitor.behind)
        except TlsFailed as cause:
            raise SessionEnds("tls", detail=cause.reason) from cause
        self._dialogue.tls_started(facts)
        if self._visitor.panel is not None:
            self._visitor.panel.tell("tls", self._dialogue.arguments())
        services.bus.publish(
            SessionTls(
                time=services.clock.time(),
                session=self.id,
                version=facts.version,
                cipher=facts.cipher,
            )
        )
