"""The server side of a session: bytes become events, replies become bytes.

The machine hands out one thing at a time. After a command or the end of a message `next_event()`
gives PAUSED until `reply()`; so pipelined commands wait in the buffer, their order is kept by
construction, and all replies of a batch can leave in one write when the buffer has run dry.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from elemta.mail import Reply, replies

from .body import DotDecoder, Limits
from .commands import (
    Auth,
    AuthResponse,
    BadCommand,
    Command,
    Data,
    Ehlo,
    Helo,
    Lhlo,
    Mail,
    Rcpt,
    Rset,
    StartTls,
    parse_auth_response,
    parse_line,
    split_line,
)
from .errors import LocalProtocolError, RemoteProtocolError
from .events import (
    NEED_DATA,
    PAUSED,
    BodyChunk,
    BodyEnd,
    CommandReceived,
    ConnectionClosed,
    ServerEvent,
)
from .extensions import Capabilities
from .lines import INCOMPLETE, TOO_LONG, LineBuffer
from .replies import format_reply
from .states import GROUP_ENDERS, State, Verb, is_legal, state_after, state_expected

MAX_AUTH_LINE: Final = 12288
"""Octets of a line of a SASL exchange, RFC 4954 §4."""
AUTH_LINE_TOO_LONG = Reply.of(500, "5.5.6", "authentication exchange line is too long")
"""RFC 4954 §4."""

_NO_CAPABILITIES: Final = Capabilities()
_CLOSED: Final = ConnectionClosed()
_HELLOS: Final = (Ehlo, Helo, Lhlo)

# What a missing key of the table is told, where more than "bad sequence" can be said
_OUT_OF_SEQUENCE: Final[dict[tuple[State, str], Reply]] = {
    **{
        # RFC 5321 §4.1.4: hello before a transaction; §4.1.1.1 for the extensions' commands
        (State.HELLO, verb): replies.HELLO_FIRST
        for verb in (Verb.MAIL, Verb.RCPT, Verb.DATA, Verb.STARTTLS, Verb.AUTH, Verb.ETRN)
    },
    # RFC 5321 §4.1.1.2, §4.1.4
    **{(state, Verb.MAIL): replies.NESTED_MAIL for state in (State.MAIL, State.REFUSED, State.RCPT)},
    (State.READY, Verb.RCPT): replies.MAIL_FIRST,  # RFC 5321 §3.3
    (State.READY, Verb.DATA): replies.MAIL_FIRST,
    (State.MAIL, Verb.DATA): replies.NO_RECIPIENTS,  # RFC 5321 §3.3
}


class ServerConnection:
    """One session of a server, over SMTP or with `lmtp` over LMTP (RFC 2033).

    `greet` first. Then, as long as the state is not CLOSED: give what was received to
    `receive_data`, take events with `next_event`, answer each `CommandReceived` and each `BodyEnd`
    with `reply`. Methods that give bytes expect all of them to be sent, in order.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        capabilities: Capabilities = _NO_CAPABILITIES,
        *,
        lmtp: bool = False,
    ) -> None:
        self.capabilities = capabilities
        """What is offered; decides which commands and parameters are legal. May be set at any time, such as
        after TLS has started or the client has authenticated; it is not applied to a session with HELO."""
        self.early_data = 0
        """How often the client went on where it had to wait: for the greeting, behind a command that ends a
        group, or without PIPELINING (RFC 2920 §3.1). Depends on how packets arrive."""
        self._limits = Limits() if limits is None else limits
        self._lmtp = lmtp
        self._state = State.GREETING
        self._lines = LineBuffer()
        self._eof = False
        self._pending: Command | BadCommand | BodyEnd | None = None
        self._body: DotDecoder | None = None
        self._body_ended = False
        self._helo = False
        """HELO, which has no extensions (RFC 5321 §4.1.4)."""
        self._tls = False
        self._authenticated = False
        self._utf8 = False
        """The transaction has SMTPUTF8 (RFC 6531 §3.4)."""
        self._recipients = 0

    @property
    def state(self) -> State:
        """Where the session is."""
        return self._state

    @property
    def lmtp(self) -> bool:
        return self._lmtp

    @property
    def has_buffered(self) -> bool:
        """Whether octets were received that no event has shown yet."""
        return len(self._lines) > 0

    @property
    def recipients(self) -> int:
        """Recipients accepted in the transaction that is open: as many replies an LMTP body needs."""
        return self._recipients

    @property
    def offered(self) -> Capabilities:
        """`capabilities`, or none of them after HELO."""
        return _NO_CAPABILITIES if self._helo else self.capabilities

    # --- Bytes in, events out ---------------------------------------------------------------------

    def receive_data(self, data: bytes) -> None:
        """Take what was received; `b""` is the end of file.

        Raises:
          LocalProtocolError: during a TLS handshake, whose octets are not for this machine, or in ERROR.
        """
        if self._state in (State.TLS, State.ERROR):
            raise LocalProtocolError(f"no data is expected in {self._state}")
        if not data:
            self._eof = True
        elif self._state is not State.CLOSED:  # what comes behind QUIT is nothing to us
            self._lines.feed(data)

    def next_event(self) -> ServerEvent:
        """The next thing that the client did.

        Raises:
          RemoteProtocolError: what came cannot be answered in step; send `reply_hint`, close.
          LocalProtocolError: the connection is in ERROR already.
        """
        if self._pending is not None:
            return PAUSED
        if self._state is State.BODY:
            return self._next_of_body()
        if self._state is State.CLOSED:
            return _CLOSED
        if self._state in (State.GREETING, State.TLS):
            return PAUSED
        if self._state is State.ERROR:
            raise LocalProtocolError("the connection is in error")
        limit = self._limits.command_line
        if self._state is State.AUTH:
            limit = max(limit, MAX_AUTH_LINE)
        try:
            line = self._lines.take_line(limit)
        except RemoteProtocolError:
            self._state = State.ERROR
            raise
        if line is INCOMPLETE:
            return self._starved()
        command: Command | BadCommand
        if line is TOO_LONG:
            command = self._too_long()
        else:
            assert isinstance(line, bytes)
            command = self._read(line)
        if self.has_buffered and (command.verb in GROUP_ENDERS or not self.offered.pipelining):
            self.early_data += 1
        self._pending = command
        return CommandReceived(command)

    def _starved(self) -> ServerEvent:
        if not self._eof:
            return NEED_DATA
        self._state = State.CLOSED
        return _CLOSED

    def _too_long(self) -> BadCommand:
        # RFC 5321 §4.5.3.1.10: "500 Line too long"
        if self._state is State.AUTH:
            return BadCommand(Verb.AUTH, AUTH_LINE_TOO_LONG)
        return BadCommand("", replies.LINE_TOO_LONG)

    def _read(self, line: bytes) -> Command | BadCommand:
        if self._state is State.AUTH:
            return parse_auth_response(line)
        offered = self.offered
        split = split_line(line, offered, lmtp=self._lmtp)
        if isinstance(split, BadCommand):
            # RFC 3207 §4.2, RFC 4954 §4: neither is done twice; offering it no more is not "unknown"
            if split.reply is replies.NOT_IMPLEMENTED:
                if self._tls and split.verb == Verb.STARTTLS:
                    return BadCommand(split.verb, replies.TLS_ACTIVE)
                if self._authenticated and split.verb == Verb.AUTH:
                    return BadCommand(split.verb, replies.BAD_SEQUENCE)
            return split
        verb = split.verb
        # Sequence before arguments: which parameters are right depends on where we are
        if not is_legal(self._state, verb):
            return BadCommand(verb, _OUT_OF_SEQUENCE.get((self._state, verb), replies.BAD_SEQUENCE))
        command = parse_line(split, offered, utf8=self._utf8)
        if isinstance(command, Data) and self._state is State.REFUSED:
            # RFC 5321 §3.3, §4.1.1.4: 503 or 554. The table has this key for clients, who meet servers
            # that say 354 here (RFC 2920 §3.1); we never do. RFC 2033 §4.2 leaves LMTP 503 alone.
            return BadCommand(verb, replies.NO_RECIPIENTS if self._lmtp else replies.NO_VALID_RECIPIENTS)
        if isinstance(command, Auth) and self._authenticated:
            return BadCommand(verb, replies.BAD_SEQUENCE)  # RFC 4954 §4
        if isinstance(command, StartTls) and self._tls:
            return BadCommand(verb, replies.TLS_ACTIVE)  # RFC 3207 §4.2
        return command

    def _next_of_body(self) -> ServerEvent:
        body = self._body
        assert body is not None
        while not self._body_ended:
            if not self.has_buffered:
                return self._starved()
            content, rest = body.feed(self._lines.take_all())
            if rest is not None:
                self._body_ended = True
                if rest:
                    self._lines.feed(rest)
            if content:
                return BodyChunk(content)
        end = BodyEnd(body.size, body.problem)
        self._pending = end
        return end

    # --- Replies out --------------------------------------------------------------------------------

    def greet(self, reply: Reply) -> bytes:
        """The first reply: 220, or 554 or 421 to turn the client away (RFC 5321 §3.1)."""
        if self._state is not State.GREETING:
            raise LocalProtocolError("the client was greeted already")
        self._state = self._after(Verb.CONNECT, reply)
        if self.has_buffered:
            self.early_data += 1  # RFC 5321 §4.3.1: the client waits for the greeting
        return format_reply(reply, enhanced=False)  # RFC 2034 §4

    def reply(self, reply: Reply) -> bytes:
        """Answer what is pending: the command, or the message.

        421 may come at any time, and closes (RFC 5321 §3.8). At the end of an LMTP body the reply is
        given once for each accepted recipient.

        Raises:
          LocalProtocolError: nothing is pending, or this reply is none that the command has.
          RemoteProtocolError: 220 to STARTTLS, but there is plaintext behind it.
        """
        if reply.code == 421:
            return self._close(reply)
        pending = self._pending
        if pending is None:
            raise LocalProtocolError(f"{reply.code} answers nothing")
        if isinstance(pending, BodyEnd):
            if self._lmtp:
                return self.body_replies([reply] * self._recipients)
            return self._finish_body([reply])
        if isinstance(pending, BadCommand):
            return self._refuse(pending, reply)
        state = self._after(pending.verb, reply)
        if state is State.TLS and self.has_buffered:
            # RFC 3207 §4.2, CVE-2011-0411: what was sent before the handshake must not count after it
            self._state = State.ERROR
            raise RemoteProtocolError("plaintext behind STARTTLS")
        self._pending = None
        self._state = state
        enhanced = True
        if reply.code < 300:
            enhanced = self._accepted(pending)
        elif state is State.BODY:
            # Octets behind DATA are the message now, if the client did not wait. Had DATA been
            # refused, they would be read as commands; so nothing is read before the reply.
            self._body = DotDecoder(self._limits)
            self._body_ended = False
        elif isinstance(pending, _HELLOS):
            enhanced = False
        return format_reply(reply, enhanced=enhanced, utf8=self._utf8)

    def body_replies(self, each: Sequence[Reply]) -> bytes:
        """Answer an LMTP body: one reply per accepted recipient, in order (RFC 2033 §4.2)."""
        if not self._lmtp or not isinstance(self._pending, BodyEnd):
            raise LocalProtocolError("no LMTP body is pending")
        if len(each) != self._recipients:
            raise LocalProtocolError(f"{len(each)} replies for {self._recipients} recipients")
        if any(reply.code == 421 for reply in each):
            raise LocalProtocolError("421 is for the session, not for a recipient")
        return self._finish_body(each)

    def _finish_body(self, each: Sequence[Reply]) -> bytes:
        for reply in each:
            state = self._after(Verb.BODY, reply)
        output = b"".join(format_reply(reply, utf8=self._utf8) for reply in each)
        self._pending = self._body = None
        self._state = state
        self._end_transaction()
        return output

    def _refuse(self, pending: BadCommand, reply: Reply) -> bytes:
        if reply.is_positive:
            raise LocalProtocolError(f"{reply.code} to a bad command")
        self._pending = None
        if self._state is State.AUTH:  # RFC 4954 §4: the exchange ends with it
            self._state = self._after(Verb.AUTH, reply)
        return format_reply(reply, enhanced=pending.verb not in (Verb.EHLO, Verb.HELO, Verb.LHLO))

    def _accepted(self, command: Command) -> bool:
        """Note what a command changed besides the state; say whether its reply has an enhanced code."""
        match command:
            case Rcpt():
                self._recipients += 1
            case Mail(_, params):
                self._end_transaction()
                self._utf8 = params.smtputf8
            case Ehlo() | Helo() | Lhlo():
                self._helo = isinstance(command, Helo)
                self._end_transaction()
                return False  # RFC 2034 §4
            case Auth() | AuthResponse():
                self._authenticated = True
            case Rset():
                self._end_transaction()
        return True

    def _after(self, verb: str, reply: Reply) -> State:
        if reply.code == 421:
            return State.CLOSED
        state = state_after(self._state, verb, reply.code)
        if state is None:
            raise LocalProtocolError(f"{reply.code} does not answer {verb} in {self._state}")
        return state

    def _close(self, reply: Reply) -> bytes:
        if self._state in (State.CLOSED, State.ERROR, State.TLS):
            raise LocalProtocolError(f"no reply can be sent in {self._state}")
        enhanced = self._state is not State.GREETING and not isinstance(self._pending, _HELLOS)
        self._state = State.CLOSED
        self._pending = self._body = None
        return format_reply(reply, enhanced=enhanced)

    def _end_transaction(self) -> None:
        self._recipients = 0
        self._utf8 = False

    # --- What happened outside ------------------------------------------------------------------------

    def tls_started(self) -> None:
        """The handshake after STARTTLS is done. The client starts anew with EHLO (RFC 3207 §4.2)."""
        state = state_expected(self._state, Verb.TLS)
        if state is None:
            raise LocalProtocolError(f"TLS cannot start in {self._state}")
        self._state = state
        self._tls = True
        self._helo = self._authenticated = False
        self._end_transaction()

    def send_failed(self) -> None:
        """A write raised, so what the client saw is not known: no further use."""
        self._state = State.ERROR
        self._pending = self._body = None
