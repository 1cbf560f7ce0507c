"""The server side of a session: bytes become events, replies become bytes.

The machine hands out one thing at a time. After a command or the end of a message `next_event()`
gives PAUSED until `reply()`; so pipelined commands wait in the buffer, their order is kept by
construction, and all replies of a batch can leave in one write when the buffer has run dry.

CHUNKING (RFC 3030). A body that comes by BDAT looks like one that comes by DATA:

- `CommandReceived(Bdat(size, last))` comes for the *first* chunk of a transaction, before its octets,
  and only where a body may begin. Answer it as DATA: `reply(replies.START_DATA)` begins the body and
  gives `b""` (a BDAT line itself has no answer on the wire); any 4yz or 5yz refuses, and gives `b""` too,
  since the octets have to be read before a refusal is said (§2). Further chunks are not handed out as
  commands.
- Octets come as `BodyChunk`, those of all chunks as one stream.
- A chunk that is not the last ends with `ChunkEnd(size, problem, refusal)`, to be answered by `reply`:
  `event.refusal` where that is not None (what the first BDAT was answered), else
  `replies.chunk_ok(event.size)` to go on, or a 4yz or 5yz, as for a `problem`. A refused chunk ends the
  body: forget it.
- The last chunk ends with `BodyEnd`, answered as after DATA (in LMTP once for each recipient). Only if
  the first BDAT was refused and was the last, too, `ChunkEnd` comes, with the refusal.
- A BDAT that is out of sequence or behind a refused chunk is a `CommandReceived(BadCommand)`, as is any
  other bad command; it comes when its octets were dropped. Chunk octets are never commands.
- After a refused chunk only RSET, EHLO or QUIT lead on; but a chunk marked LAST ends the transaction
  whatever its answer is. So: if after a `reply` the state is READY, no transaction is open.
- `in_body` says whether octets of a message are awaited now (also those that are dropped), or a command.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from elemta.mail import BodyType, Reply, replies

from .body import ChunkDecoder, DotDecoder, Limits
from .chunks import Chunk
from .commands import (
    Auth,
    AuthResponse,
    BadCommand,
    Bdat,
    Command,
    Ehlo,
    Expn,
    Helo,
    Lhlo,
    Mail,
    Rcpt,
    Rset,
    Vrfy,
    Xclient,
)
from .errors import LocalProtocolError, RemoteProtocolError
from .events import (
    NEED_DATA,
    PAUSED,
    BodyChunk,
    BodyEnd,
    ChunkEnd,
    CommandReceived,
    ConnectionClosed,
    ServerEvent,
)
from .extensions import Capabilities
from .lines import INCOMPLETE, TOO_LONG, LineBuffer, LineSignal
from .parsing import Dialect, Line, parse_auth_response, parse_line, split_line
from .replies import format_reply, name_host
from .sequence import out_of_sequence
from .states import GROUP_ENDERS, State, Verb, is_legal, state_after, state_expected
from .witness import LONGEST_LINE, Kept, Side, Witness

MAX_AUTH_LINE: Final = 12288
"""Octets of a line of a SASL exchange, RFC 4954 §4."""

_NO_CAPABILITIES: Final = Capabilities()
_STRICT: Final = Dialect()
_CLOSED: Final = ConnectionClosed()
_HELLOS: Final = (Ehlo, Helo, Lhlo)
_WITH_STRING: Final = (Vrfy, Expn)
_RESTRICTED: Final = frozenset({Verb.DATA, Verb.AUTH, Verb.STARTTLS})
"""Commands that depend on more than the state."""
_WITH_CHUNKS: Final = frozenset({State.MAIL, State.REFUSED, State.RCPT, State.CHUNKS, State.FAILED})
"""Where a refused BDAT has an effect: in a transaction."""
_EXCEPTIONAL: Final = frozenset({BadCommand, Bdat, ChunkEnd, BodyEnd})
"""What is pending and not answered as most commands are."""


class ServerConnection:
    """One session of a server, over SMTP or with `lmtp` over LMTP (RFC 2033).

    `greet` first. Then, as long as the state is not CLOSED: give what was received to
    `receive_data`, take events with `next_event`, answer each `CommandReceived`, `ChunkEnd` and `BodyEnd`
    with `reply`. Methods that give bytes expect all of them to be sent, in order.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        capabilities: Capabilities = _NO_CAPABILITIES,
        *,
        lmtp: bool = False,
        dialect: Dialect = _STRICT,
        hostname: str = "",
    ) -> None:
        """`hostname` is ours, for replies that end the session or turn the client away."""
        self.capabilities = capabilities
        """What is offered; decides which commands and parameters are legal. May be set at any time, such as
        after TLS has started or the client has authenticated; it is not applied to a session with HELO."""
        self.early_data = 0
        """How often the client went on where it had to wait: for the greeting, behind a command that ends a
        group, or without PIPELINING (RFC 2920 §3.1). Depends on how packets arrive."""
        self.witness: Witness | None = None
        """Is told of what is said."""
        self._limits = Limits() if limits is None else limits
        self._lmtp = lmtp
        self._dialect = dialect
        self._hostname = hostname
        self._state = State.GREETING
        self._lines = LineBuffer()
        self._eof = False
        self._pending: Command | BadCommand | ChunkEnd | BodyEnd | None = None
        self._body: DotDecoder | None = None
        self._body_ended = False
        self._chunk: Chunk | None = None
        """The one that is under way."""
        self._chunks: ChunkDecoder | None = None
        """Of the transaction, from its first BDAT on."""
        self._helo = False
        """HELO, which has no extensions (RFC 5321 §4.1.4)."""
        self._tls = False
        self._authenticated = False
        self._utf8 = False
        """The transaction has SMTPUTF8 (RFC 6531 §3.4)."""
        self._binary = False
        """The transaction has BODY=BINARYMIME (RFC 3030 §3)."""
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
    def in_body(self) -> bool:
        """Whether octets of a message are awaited, kept or dropped, and not a command."""
        return self._state is State.BODY or self._chunk is not None

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
        state = self._state
        if state is State.BODY:
            return self._next_of_body()
        if self._chunk is not None:
            return self._next_of_chunk(self._chunk)
        if state is State.CLOSED:
            return _CLOSED
        if state is State.GREETING or state is State.TLS:
            return PAUSED
        if state is State.ERROR:
            raise LocalProtocolError("the connection is in error")
        limit = self._limits.command_line
        if state is State.AUTH:
            limit = max(limit, MAX_AUTH_LINE)
        try:
            line = self._lines.take_line(limit)
        except RemoteProtocolError:
            self._state = State.ERROR
            raise
        if line is INCOMPLETE:
            return self._starved()
        if self.witness is not None:
            self.witness(Side.CLIENT, self._seen(line))
        command: Command | BadCommand | Chunk
        if line is TOO_LONG:
            command = self._too_long()
        else:
            assert isinstance(line, bytes)
            command = self._read(line)
            if isinstance(command, Chunk):
                return self._next_of_chunk(command)
        # Behind a BDAT line its octets are, which are no talk out of turn
        if (
            self.has_buffered
            and (command.verb in GROUP_ENDERS or not self.offered.pipelining)
            and command.verb != Verb.BDAT
        ):
            self.early_data += 1
        self._pending = command
        return CommandReceived(command)

    def _seen(self, line: bytes | LineSignal) -> object:
        if self._state is State.AUTH:
            return Kept.SECRET
        return line[:LONGEST_LINE] if isinstance(line, bytes) else "(a line that is too long)"

    def _starved(self) -> ServerEvent:
        if not self._eof:
            return NEED_DATA
        self._state = State.CLOSED
        return _CLOSED

    def _too_long(self) -> BadCommand:
        # RFC 5321 §4.5.3.1.10: "500 Line too long"
        if self._state is State.AUTH:
            return BadCommand(Verb.AUTH, replies.AUTH_TOO_LONG)
        return BadCommand("", replies.LINE_TOO_LONG)

    def _read(self, line: bytes) -> Command | BadCommand | Chunk:
        """The command; a chunk where it is not shown as one."""
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
        if verb == Verb.BDAT:
            return self._read_chunk(split)
        # Sequence before arguments: which parameters are right depends on where we are
        if not is_legal(self._state, verb):
            return BadCommand(verb, self._out_of_sequence(verb))
        if verb in _RESTRICTED:
            refusal = self._restriction(verb)
            if refusal is not None:
                return BadCommand(verb, refusal)
        return parse_line(split, offered, utf8=self._utf8, dialect=self._dialect)

    def _restriction(self, verb: str) -> Reply | None:
        """Why a command that is legal by the table is out of sequence all the same."""
        if verb == Verb.AUTH:
            return replies.BAD_SEQUENCE if self._authenticated else None  # RFC 4954 §4: whatever it says
        if verb == Verb.STARTTLS:
            return replies.TLS_ACTIVE if self._tls else None  # RFC 3207 §4.2
        # The table has DATA here for clients, who meet servers that say 354 (RFC 2920 §3.1); we never do.
        if self._state is State.REFUSED:
            return self._out_of_sequence(verb)
        return replies.BINARY_NEEDS_BDAT if self._binary else None  # RFC 3030 §3

    def _out_of_sequence(self, verb: str) -> Reply:
        return out_of_sequence(self._state, verb, lmtp=self._lmtp)

    def _read_chunk(self, line: Line) -> Command | BadCommand | Chunk:
        # By what is offered to anybody: whoever says how many octets follow will send them, and to read
        # them as commands is what has to be avoided.
        command = parse_line(line, self.capabilities)
        if not isinstance(command, Bdat):
            return command
        refusal = None
        if not self.offered.chunking:
            refusal = replies.NOT_IMPLEMENTED
        elif not is_legal(self._state, Verb.BDAT):
            refusal = self._out_of_sequence(Verb.BDAT)
        chunk = self._chunk = Chunk.begin(command, refusal)
        return command if refusal is None and self._chunks is None else chunk

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
        if self.witness is not None:
            self.witness(Side.CLIENT, end)
        self._pending = end
        return end

    def _next_of_chunk(self, chunk: Chunk) -> ServerEvent:
        event = chunk.next_event(self._lines, self._chunks)
        if event is None:
            return self._starved()
        if isinstance(event, CommandReceived):
            self._pending = event.command
        elif not isinstance(event, BodyChunk):
            self._pending = event
        return event

    # --- Replies out --------------------------------------------------------------------------------

    def greet(self, reply: Reply) -> bytes:
        """The first reply: 220, or 554 or 421 to turn the client away (RFC 5321 §3.1)."""
        if self._state is not State.GREETING:
            raise LocalProtocolError("the client was greeted already")
        if self.witness is not None:
            self.witness(Side.SERVER, reply)
        self._state = self._after(Verb.CONNECT, reply)
        if self.has_buffered:
            self.early_data += 1  # RFC 5321 §4.3.1: the client waits for the greeting
        if not reply.is_positive:
            reply = name_host(reply, self._hostname)
        return format_reply(reply, enhanced=False)  # RFC 2034 §4

    def reply(self, reply: Reply) -> bytes:
        """Answer what is pending: the command, the chunk, or the message.

        421 may come at any time, and closes (RFC 5321 §3.8). At the end of an LMTP body the reply is
        given once for each accepted recipient. For BDAT there is nothing to send yet.

        Raises:
          LocalProtocolError: nothing is pending, or this reply is none that the command has.
          RemoteProtocolError: 220 to STARTTLS, but there is plaintext behind it.
        """
        pending = self._pending
        if self.witness is not None and (reply.code >= 300 or type(pending) is not Bdat):
            self.witness(Side.SERVER, reply)
        if reply.code == 421:
            return self._close(reply)
        if pending is None:
            raise LocalProtocolError(f"{reply.code} answers nothing")
        if type(pending) in _EXCEPTIONAL:
            return self._reply_to_exceptional(reply)
        assert not isinstance(pending, (BadCommand, ChunkEnd, BodyEnd))
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
        if reply.code == 221:
            reply = name_host(reply, self._hostname)
        utf8 = self._utf8 or (isinstance(pending, _WITH_STRING) and pending.smtputf8)  # RFC 6531 §3.7.4.2
        return format_reply(reply, enhanced=enhanced, utf8=utf8)

    def _reply_to_exceptional(self, reply: Reply) -> bytes:
        pending = self._pending
        if isinstance(pending, BodyEnd):
            if self._lmtp:
                return self.body_replies([reply] * self._recipients)
            state = self._after(Verb.BODY, reply)
            output = format_reply(reply, utf8=self._utf8)
            self._end_message(state)
            return output
        if isinstance(pending, ChunkEnd):
            assert self._chunk is not None
            return self._end_chunk(reply, self._chunk)
        if isinstance(pending, BadCommand):
            return self._refuse(pending, reply)
        # BDAT has no answer of its own: a refusal waits until the octets were read (RFC 3030 §2)
        assert self._chunk is not None
        if reply.code < 300:
            raise LocalProtocolError(f"{reply.code} does not answer BDAT before its octets")
        if reply.is_positive:
            self._chunks = ChunkDecoder(self._limits, binary=self._binary)
        else:
            self._chunk.refusal = reply
        self._pending = None
        return b""

    def body_replies(self, each: Sequence[Reply]) -> bytes:
        """Answer an LMTP body: one reply per accepted recipient, in order (RFC 2033 §4.2)."""
        if not self._lmtp or not isinstance(self._pending, BodyEnd):
            raise LocalProtocolError("no LMTP body is pending")
        if len(each) != self._recipients:
            raise LocalProtocolError(f"{len(each)} replies for {self._recipients} recipients")
        if any(reply.code == 421 for reply in each):
            raise LocalProtocolError("421 is for the session, not for a recipient")
        for reply in each:
            state = self._after(Verb.BODY, reply)
        output = b"".join(format_reply(reply, utf8=self._utf8) for reply in each)
        self._end_message(state)
        return output

    def _end_message(self, state: State) -> None:
        self._pending = self._body = self._chunk = None
        self._state = state
        self._end_transaction()

    def _end_chunk(self, reply: Reply, chunk: Chunk) -> bytes:
        """Answer one that does not complete the message."""
        if chunk.refusal is not None and reply.is_positive:
            raise LocalProtocolError(f"{reply.code} to a refused chunk")
        last = chunk.command.last
        state = self._after(Verb.BODY if last else Verb.BDAT, reply)
        # RFC 2033 §4.3: LAST is answered once for each recipient
        count = self._recipients if self._lmtp and last and self._recipients else 1
        output = format_reply(reply, utf8=self._utf8) * count
        if last:
            self._end_message(state)
            return output
        self._pending = self._chunk = None
        self._state = state
        if state is State.FAILED:
            self._chunks = None
        return output

    def _refuse(self, pending: BadCommand, reply: Reply) -> bytes:
        if reply.is_positive:
            raise LocalProtocolError(f"{reply.code} to a bad command")
        if pending.verb == Verb.BDAT and self.offered.chunking and self._state in _WITH_CHUNKS:
            # Also where its size was not understood: what follows would make a message with a hole
            return self._end_chunk(reply, self._chunk or Chunk.begin(Bdat(0), reply))
        self._pending = self._chunk = None
        if self._state is State.AUTH:  # RFC 4954 §4: the exchange ends with it
            self._state = self._after(Verb.AUTH, reply)
        # RFC 2034 §4: LHLO is a hello only in LMTP (RFC 2033 §4.1)
        hello = pending.verb in (Verb.EHLO, Verb.HELO) or (self._lmtp and pending.verb == Verb.LHLO)
        return format_reply(reply, enhanced=not hello)

    def _accepted(self, command: Command) -> bool:
        """Note what a command changed besides the state; say whether its reply has an enhanced code."""
        if isinstance(command, Rcpt):
            self._recipients += 1
        elif isinstance(command, Mail):
            self._end_transaction()
            self._utf8 = command.params.smtputf8
            self._binary = command.params.body_type is BodyType.BINARY_MIME
        elif isinstance(command, _HELLOS):
            self._helo = isinstance(command, Helo)
            self._end_transaction()
            return False  # RFC 2034 §4
        elif isinstance(command, (Auth, AuthResponse)):
            self._authenticated = True
        elif isinstance(command, Rset):
            self._end_transaction()
        elif isinstance(command, Xclient):
            # The session begins anew; the TLS session is not the client's to change
            self._helo = self._authenticated = False
            return False  # as the greeting that it is (RFC 2034 §4)
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
        self._pending = self._body = self._chunk = self._chunks = None
        return format_reply(name_host(reply, self._hostname), enhanced=enhanced)

    def _end_transaction(self) -> None:
        self._recipients = 0
        self._utf8 = self._binary = False
        self._chunks = None

    # --- What happened outside ------------------------------------------------------------------------

    def tls_started(self) -> None:
        """The handshake after STARTTLS is done. The client starts anew with EHLO (RFC 3207 §4.2)."""
        state = state_expected(self._state, Verb.TLS)
        if state is None:
            raise LocalProtocolError(f"TLS cannot start in {self._state}")
        if self.witness is not None:
            self.witness(Side.NOTE, "TLS")
        self._state = state
        self._tls = True
        self._helo = self._authenticated = False
        self._end_transaction()

    def send_failed(self) -> None:
        """A write raised, so what the client saw is not known: no further use."""
        self._state = State.ERROR
        self._pending = self._body = self._chunk = self._chunks = None
