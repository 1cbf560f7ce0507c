"""A client machine wired to a server machine, without I/O, checked against each other after each step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from elemta.mail import MessageId, Reply, parse_forward_path, parse_reverse_path, replies
from elemta.smtp import (
    NEED_DATA,
    PAUSED,
    Auth,
    AuthResponse,
    BadCommand,
    Bdat,
    BodyChunk,
    BodyEnd,
    BodyProblem,
    Capabilities,
    ChunkEnd,
    ClientConnection,
    Command,
    CommandReceived,
    ConnectionClosed,
    Data,
    Ehlo,
    Expn,
    FutureRelease,
    Helo,
    Help,
    Lhlo,
    Limits,
    Mail,
    Quit,
    Rcpt,
    ReplyParser,
    ReplyReceived,
    Rset,
    ServerConnection,
    ServerEvent,
    StartTls,
    State,
    Vrfy,
    Xclient,
    Xforward,
)

HOSTNAME: Final = "mx.example.org"
EVERYTHING: Final = Capabilities(
    pipelining=True,
    size=1_000_000,
    eight_bit_mime=True,
    enhanced_status_codes=True,
    smtputf8=True,
    dsn=True,
    starttls=True,
    auth=("PLAIN", "LOGIN"),
    chunking=True,
    binary_mime=True,
    require_tls=True,
    mt_priority=True,
    deliver_by=60,
    future_release=FutureRelease(86400, 1_800_000_000),
    xclient=("NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT"),
    xforward=("NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE"),
    expn=True,
    limits=(("RCPTMAX", 1000),),
)
"""Every extension that the machine knows."""

STEPS: Final = ("", "CONNECT", "EHLO", "MAIL", "RCPT", "DATA")
"""How far a pair may be led before the test begins; HELO and LHLO may stand for EHLO."""

Answerable: TypeAlias = CommandReceived | ChunkEnd | BodyEnd
"""Events of the server that must be answered."""

PROBLEM_REPLIES: Final = {
    BodyProblem.BARE_LF: replies.BAD_LINE_ENDS,
    BodyProblem.BARE_CR: replies.BAD_LINE_ENDS,
    BodyProblem.NUL: replies.NUL_IN_TEXT,
    BodyProblem.TOO_BIG: replies.size_exceeded(0),
    BodyProblem.HEADER_TOO_BIG: replies.HEADER_TOO_LARGE,
    BodyProblem.LINE_TOO_LONG: replies.TEXT_LINE_TOO_LONG,
}


class ConnectionPair:
    """Two machines and a server's answers between them.

    `command` and `body` go through the client machine, and afterwards both machines must be in the
    same state. `send` gives raw octets to the server machine alone; since the client machine knows
    nothing of them, only the server's state counts from then on.

    Once the pair was led `after` a step, `answers` may give the reply to an event, or None for the
    usual one: yes to everything but bad commands, bad messages and refused chunks.
    """

    def __init__(
        self,
        after: str = "CONNECT",
        *,
        limits: Limits | None = None,
        capabilities: Capabilities = EVERYTHING,
        lmtp: bool = False,
        answers: Callable[[Answerable], Reply | None] | None = None,
    ) -> None:
        self.capabilities = capabilities
        self.server = ServerConnection(limits, capabilities, lmtp=lmtp)
        self.client = ClientConnection(lmtp=lmtp)
        self.lmtp = lmtp
        self.events: list[ServerEvent] = []
        """What the server machine gave, without NEED_DATA and PAUSED."""
        self.received: list[ReplyReceived] = []
        """What the client machine gave."""
        self.replies: list[Reply] = []
        """Every reply that the server sent, as a client reads it."""
        self.bodies: list[bytes] = []
        """The messages that the server took or refused."""
        self._answers: Callable[[Answerable], Reply | None] | None = None
        self._parser = ReplyParser()
        self._body = b""
        self._raw = False
        self._lead(after)
        self._answers = answers

    @property
    def state(self) -> State:
        """Where both machines are, or the server where octets went past the client machine."""
        if not self._raw:
            assert self.client.state is self.server.state, (self.client.state, self.server.state)
        return self.server.state

    @property
    def reply(self) -> Reply:
        """The last one."""
        return self.replies[-1]

    def _lead(self, after: str) -> None:
        hello: Command = Lhlo("client.example") if self.lmtp else Ehlo("client.example")
        if after == "HELO":
            hello, after = Helo("client.example"), "EHLO"
        last = STEPS.index("EHLO" if after == "LHLO" else after)
        if last >= 1:
            self.greet()
        steps: tuple[Command, ...] = (
            hello,
            Mail(parse_reverse_path("<sender@client.example>")),
            Rcpt(parse_forward_path("<user@example.org>")),
            Data(),
        )
        for step in steps[: max(last - 1, 0)]:
            self.command(step)
        assert all(reply.is_positive for reply in self.replies), self.replies

    def greet(self, reply: Reply | None = None) -> Reply:
        """Let the server greet."""
        self._deliver(self.server.greet(reply or replies.banner(HOSTNAME, lmtp=self.lmtp)), plain=True)
        return self.reply

    def command(self, *commands: Command) -> Reply:
        """Send a group through the client machine; the reply to its last command."""
        self._to_server(self.client.send(*commands))
        return self.reply

    def body(self, *pieces: bytes) -> Reply:
        """Send a message, in pieces as given; the last reply to it."""
        for piece in pieces:
            if piece:  # nothing on the wire would be the end of file
                self._to_server(self.client.send_body(piece))
        self._to_server(self.client.end_body())
        return self.reply

    def chunk(self, data: bytes, *, last: bool = False) -> Reply:
        """Send some of a message by BDAT; the last reply to it."""
        self._to_server(self.client.send_chunk(data, last=last))
        return self.reply

    def start_tls(self) -> None:
        """What follows 220 to STARTTLS, as if the handshake was done."""
        self.server.tls_started()
        self.client.tls_started()
        assert self.state is State.HELLO

    def send(self, data: bytes) -> list[Reply]:
        """Give raw octets to the server; the replies to them."""
        self._raw = True
        before = len(self.replies)
        self._to_server(data)
        return self.replies[before:]

    def end_of_file(self) -> None:
        """Let the client hang up."""
        self._to_server(b"")

    # --- Wires ------------------------------------------------------------------------------------

    def _to_server(self, data: bytes) -> None:
        self.server.receive_data(data)
        while True:
            event = self.server.next_event()
            if event is NEED_DATA or event is PAUSED:
                break
            self.events.append(event)
            if isinstance(event, ConnectionClosed):
                self.client.receive_data(b"")
                self._drain_client()
                break
            if isinstance(event, BodyChunk):
                self._body += event.data
                continue
            assert isinstance(event, (CommandReceived, ChunkEnd, BodyEnd))
            assert self.server.next_event() is PAUSED
            if isinstance(event, BodyEnd):
                self.bodies.append(self._body)
                self._body = b""
            elif isinstance(event, CommandReceived) and isinstance(event.command, Bdat):
                self._body = b""  # of a message that was never ended
            reply = self._answers(event) if self._answers else None
            plain = isinstance(event, CommandReceived) and isinstance(event.command, (Ehlo, Helo, Lhlo))
            self._deliver(self.server.reply(reply or self.answer(event)), plain=plain)
        if not self._raw:
            assert self.state is not State.ERROR
            # RFC 2033 §4.2, RFC 5321 §4.2: as many replies as were asked for, no more and no fewer
            assert self.client.outstanding == 0 or self.state in (State.BODY, State.GREETING)

    def _deliver(self, data: bytes, *, plain: bool) -> None:
        if not data:  # what a BDAT line is answered with
            return
        self._parser.feed(data)
        while (reply := self._parser.next_reply(enhanced=not plain)) is not None:
            self.replies.append(reply)
        if self._raw:
            return
        self.client.receive_data(data)
        self._drain_client()

    def _drain_client(self) -> None:
        while isinstance(event := self.client.next_event(), ReplyReceived):
            self.received.append(event)

    def answer(self, event: Answerable) -> Reply:
        """The usual reply."""
        if isinstance(event, ChunkEnd):
            if event.problem is not None:
                return PROBLEM_REPLIES[event.problem]
            return event.refusal or replies.chunk_ok(event.size)
        if isinstance(event, BodyEnd):
            return (
                replies.queued(MessageId("0" * 16))
                if event.problem is None
                else PROBLEM_REPLIES[event.problem]
            )
        match event.command:
            case BadCommand(_, reply):
                return reply
            case Ehlo() | Lhlo():
                return replies.hello(*self.server.capabilities.lines(HOSTNAME))
            case Helo():
                return replies.hello(HOSTNAME)
            case Mail():
                return replies.SENDER_OK
            case Rcpt():
                return replies.RECIPIENT_OK
            case Data() | Bdat():
                return replies.START_DATA
            case Rset():
                return replies.RESET_OK
            case Quit():
                return replies.CLOSING
            case Vrfy() | Expn():
                return replies.CANNOT_VERIFY
            case Help():
                return replies.HELP
            case StartTls():
                return replies.TLS_READY
            case Auth(_, None):
                return Reply(334, None, ("",))
            case AuthResponse(None):
                return Reply.of(501, "5.7.0", "cancelled")
            case Auth() | AuthResponse():
                return Reply.of(235, "2.7.0", "authenticated")
            case Xclient():
                return replies.banner(HOSTNAME, lmtp=self.lmtp)
            case Xforward():
                return replies.FORWARDED_OK
        return replies.NOOP_OK
