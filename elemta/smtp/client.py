"""The client side of a session: commands become bytes, bytes become replies.

What was sent and is not answered stands in a queue; each reply answers its head. Two states follow
from that: `state`, moved by the replies that came, and the one that will be reached if everything in
the queue is accepted, which decides what may be sent now. So a group may be sent behind another, also
MAIL and RCPT of the next message right behind the final dot (RFC 2920 §3.1).
"""

from __future__ import annotations

from collections import deque
from typing import Final

from elemta.mail import BodyType

from .body import DotEncoder
from .commands import (
    Auth,
    AuthResponse,
    Bdat,
    Command,
    Data,
    Ehlo,
    EndOfBody,
    Expn,
    Helo,
    Lhlo,
    Mail,
    Rcpt,
    StartTls,
    Xclient,
    Xforward,
)
from .errors import LocalProtocolError, OutOfStep, RemoteProtocolError
from .events import NEED_DATA, PAUSED, ClientEvent, ConnectionClosed, ReplyReceived
from .extensions import Capabilities
from .formatting import format_command
from .params import NO_MAIL_PARAMS, missing_extension
from .replies import ReplyParser
from .states import GROUP_ENDERS, State, Verb, state_after, state_expected
from .witness import Kept, Side, Witness

_CLOSED: Final = ConnectionClosed()


class _Greeting:
    """What the first reply answers."""

    verb: Final = Verb.CONNECT


_GREETING: Final = _Greeting()


class ClientConnection:
    """One session of a client, over SMTP or with `lmtp` over LMTP (RFC 2033).

    Take the greeting with `next_event` first. Methods that give bytes expect all of them to be sent,
    in order. One `ReplyReceived` comes for each command sent, and one for each message (in LMTP one
    for each accepted recipient), in the order in which they were sent.
    """

    def __init__(self, *, lmtp: bool = False) -> None:
        self.witness: Witness | None = None
        """Is told of what is said."""
        self._lmtp = lmtp
        self._capabilities = Capabilities()
        self._parser = ReplyParser()
        self._eof = False
        self._state = State.GREETING
        self._expected = State.GREETING
        self._outstanding: deque[Command | EndOfBody | _Greeting] = deque([_GREETING])
        self._encoder: DotEncoder | None = None
        self._sender = NO_MAIL_PARAMS
        """Of the transaction that is being sent."""
        self._accepted: list[Rcpt] = []
        """Accepted in the transaction that is being answered."""

    @property
    def state(self) -> State:
        """Where the session is, by the replies that have come."""
        return self._state

    @property
    def capabilities(self) -> Capabilities:
        """What the server announced: none before EHLO or LHLO, after HELO, and again after STARTTLS."""
        return self._capabilities

    @property
    def outstanding(self) -> int:
        """How many replies are still to come."""
        return len(self._outstanding)

    @property
    def accepted(self) -> tuple[Rcpt, ...]:
        """The recipients that the server took in the transaction that is open."""
        return tuple(self._accepted)

    @property
    def body_open(self) -> bool:
        """Whether 354 was given and the message is still being sent."""
        return self._encoder is not None

    # --- Commands out -----------------------------------------------------------------------------

    def send(self, *commands: Command) -> bytes:
        """The lines of the commands. Several at once, or some while others are outstanding, need PIPELINING.

        Raises:
          LocalProtocolError: a command is out of sequence, is not announced, or may not be pipelined
            here. Nothing of the call counts as sent then.
        """
        before = self._expected, self._sender, len(self._outstanding)
        output = []
        try:
            for command in commands:
                expected = self._check(command)
                sender = command.params if isinstance(command, Mail) else self._sender
                output.append(format_command(command, utf8=sender.smtputf8))
                self._sender = sender
                self._expected = expected
                self._outstanding.append(command)
        except LocalProtocolError:
            self._expected, self._sender, count = before
            while len(self._outstanding) > count:
                self._outstanding.pop()
            raise
        if self.witness is not None:
            for command in commands:
                self.witness(Side.CLIENT, command)
        return b"".join(output)

    def _check(self, command: Command) -> State:
        """Whether it may be sent now; the state it leads to if the server agrees."""
        verb = command.verb
        if self._state in (State.CLOSED, State.ERROR):
            raise LocalProtocolError(f"the connection is {self._state.value}")
        if self._outstanding:
            last = self._outstanding[-1]
            # RFC 2920 §3.1
            if last is _GREETING or last.verb in GROUP_ENDERS or not self._capabilities.pipelining:
                raise LocalProtocolError(f"{verb} has to wait for the reply to {last.verb}")
        expected = state_expected(self._expected, verb)
        if expected is None:
            raise LocalProtocolError(f"{verb} is out of sequence in {self._expected.value}")
        offered = self._capabilities
        match command:
            case Mail(_, params) | Rcpt(_, params):
                missing = missing_extension(params, offered)
                if missing:  # RFC 5321 §4.1.1.11: only what was announced
                    raise LocalProtocolError(f"{verb} with {missing}, which is not announced")
            case Data():
                if self._sender.body_type is BodyType.BINARY_MIME:  # RFC 3030 §3
                    raise LocalProtocolError("BODY=BINARYMIME needs BDAT")
            case Ehlo() | Helo():
                if self._lmtp:  # RFC 2033 §4.1
                    raise LocalProtocolError(f"{verb} in LMTP")
            case Lhlo():
                if not self._lmtp:
                    raise LocalProtocolError("LHLO in SMTP")
            case StartTls() if not offered.starttls:
                raise LocalProtocolError("STARTTLS is not announced")
            case Auth(mechanism) if mechanism not in offered.auth:
                raise LocalProtocolError(f"AUTH {mechanism} is not announced")
            # One verb for both, so the table does not tell them apart
            case Auth() if self._expected is State.AUTH:
                raise LocalProtocolError("AUTH within an exchange")
            case AuthResponse() if self._expected is not State.AUTH:
                raise LocalProtocolError("no response is asked for")
            case Bdat():
                raise LocalProtocolError("BDAT goes with its octets: send_chunk")
            case Xclient(attributes) if not set(attributes) <= set(offered.xclient):
                raise LocalProtocolError("XCLIENT with attributes that are not announced")
            case Xforward(attributes) if not set(attributes) <= set(offered.xforward):
                raise LocalProtocolError("XFORWARD with attributes that are not announced")
            case Expn() if not offered.expn:
                raise LocalProtocolError("EXPN is not announced")
        return expected

    def send_body(self, data: bytes) -> bytes:
        """Some of the message, with its dots stuffed; the same object where none has to be."""
        if self._encoder is None:
            raise LocalProtocolError("no message is asked for")
        if not self._accepted and data:
            # RFC 2920 §3.1: 354 with no accepted recipient is answered with the final dot alone
            raise LocalProtocolError("no recipient was accepted: end the body at once")
        return self._encoder.feed(data)

    def end_body(self) -> bytes:
        """The final dot, with the CRLF before it that the message may lack."""
        if self._encoder is None:
            raise LocalProtocolError("no message is asked for")
        output = self._encoder.end()
        self._encoder = None
        self._await_verdict()
        return output

    def send_chunk(self, data: bytes, *, last: bool = False) -> bytes:
        """Some of the message behind its BDAT line, dots as they are (RFC 3030 §2). Without DATA before it.

        Chunks may follow each other while their replies are outstanding where PIPELINING is announced;
        once one is refused no more may be sent. The reply to the last is that to the message. An empty
        message has one chunk, and an empty last one may follow.

        Raises:
          LocalProtocolError: CHUNKING is not announced, replies to other commands are outstanding, no
            recipient was accepted, or a chunk was refused.
        """
        if not self._capabilities.chunking:
            raise LocalProtocolError("CHUNKING is not announced")
        if self._state not in (State.RCPT, State.CHUNKS):
            raise LocalProtocolError(f"no message can be sent in {self._state.value}")
        for command in self._outstanding:
            # Which recipients were accepted has to be known, so that it is known how many replies come
            if not isinstance(command, Bdat):
                raise LocalProtocolError(f"BDAT has to wait for the reply to {command.verb}")
        if self._outstanding and not self._capabilities.pipelining:
            raise LocalProtocolError("BDAT has to wait for the reply to the chunk before")
        command = Bdat(len(data), last)
        if last:
            self._await_verdict()
        else:
            self._outstanding.append(command)
            self._expected = State.CHUNKS
        return format_command(command) + data

    def _await_verdict(self) -> None:
        """The message was sent."""
        if self.witness is not None:
            self.witness(Side.CLIENT, Kept.CONTENT)
        self._expected = State.READY
        if self._lmtp:  # RFC 2033 §4.2, §4.3
            self._outstanding.extend(EndOfBody(recipient) for recipient in self._accepted)
        else:
            self._outstanding.append(EndOfBody())
        self._accepted = []

    # --- Bytes in, replies out ----------------------------------------------------------------------

    def receive_data(self, data: bytes) -> None:
        """Take what was received; `b""` is the end of file.

        Raises:
          LocalProtocolError: during a TLS handshake, whose octets are not for this machine, or in ERROR.
        """
        if self._state in (State.TLS, State.ERROR):
            raise LocalProtocolError(f"no data is expected in {self._state}")
        if data:
            self._parser.feed(data)
        else:
            self._eof = True

    def next_event(self) -> ClientEvent:
        """The next reply.

        Raises:
          RemoteProtocolError: what came is no reply, or none to what was sent.
          LocalProtocolError: the connection is in ERROR already.
        """
        if self._state is State.CLOSED:
            return _CLOSED
        if self._state is State.ERROR:
            raise LocalProtocolError("the connection is in error")
        if self._state is State.TLS:
            return PAUSED
        try:
            return self._next_reply()
        except RemoteProtocolError:
            self._state = State.ERROR
            raise

    def _next_reply(self) -> ClientEvent:
        command = self._outstanding[0] if self._outstanding else None
        # RFC 2034 §4: the greeting and the answers to hello have no enhanced code. Refusals have one in the
        # world as it is, and there it cannot be anything else.
        plain = isinstance(command, (_Greeting, Ehlo, Helo, Lhlo))
        reply = self._parser.next_reply(enhanced=not plain)
        if reply is None:
            if not self._eof:
                return NEED_DATA
            self._state = State.CLOSED
            return _CLOSED
        if self.witness is not None:
            self.witness(Side.SERVER, reply)
        if command is None:
            # RFC 5321 §3.8 allows 421 at any time; others say 4yz or 5yz in the middle of a message,
            # and go. A positive reply to nothing means that we are out of step.
            if reply.is_positive:
                raise OutOfStep(f"{reply.code} answers nothing")
            self._close()
            return ReplyReceived(None, reply)
        self._outstanding.popleft()
        answered = None if isinstance(command, _Greeting) else command
        if reply.code == 421:  # RFC 5321 §3.8: what else was sent gets no reply
            self._close()
            return ReplyReceived(answered, reply)
        self._move(command, reply.code)
        if reply.code < 300:
            if isinstance(command, (Ehlo, Lhlo)):
                self._capabilities = Capabilities.parse(reply)
            elif isinstance(command, Helo):
                self._capabilities = Capabilities()
            elif isinstance(command, Rcpt):
                self._accepted.append(command)
        if not self._outstanding:
            self._expected = self._state
        return ReplyReceived(answered, reply)

    def _move(self, command: Command | EndOfBody | _Greeting, code: int) -> None:
        state = state_after(self._state, command.verb, code)
        if state is None:
            # A command behind one that was refused is refused as well, and changes nothing
            if code < 400:
                raise OutOfStep(f"{code} does not answer {command.verb} in {self._state.value}")
            return
        if isinstance(command, EndOfBody) and any(isinstance(it, EndOfBody) for it in self._outstanding):
            return
        if state is State.TLS and len(self._parser):
            # RFC 3207 §4.2: a reply that was put in before the handshake must not count after it
            raise RemoteProtocolError("plaintext behind the reply to STARTTLS")
        if state is State.BODY:
            if self._lmtp and not self._accepted:  # RFC 2033 §4.2
                raise RemoteProtocolError("DATA was accepted without a recipient")
            self._encoder = DotEncoder()
        elif state is State.READY or state is State.MAIL:
            self._accepted = []
        self._state = state

    def _close(self) -> None:
        self._state = self._expected = State.CLOSED
        self._outstanding.clear()
        self._encoder = None

    # --- What happened outside ------------------------------------------------------------------------

    def tls_started(self) -> None:
        """The handshake after STARTTLS is done: nothing known before it counts (RFC 3207 §4.2)."""
        state = state_expected(self._state, Verb.TLS)
        if state is None:
            raise LocalProtocolError(f"TLS cannot start in {self._state}")
        if self.witness is not None:
            self.witness(Side.NOTE, "TLS")
        self._state = self._expected = state
        self._capabilities = Capabilities()

    def send_failed(self) -> None:
        """A write raised, so what the server saw is not known: no further use."""
        self._state = self._expected = State.ERROR
        self._outstanding.clear()
        self._encoder = None
