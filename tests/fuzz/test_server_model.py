"""The server's machine against a model of what a session has agreed upon, in any order of octets and answers.

The model is the client's view: it counts what was answered with 250, so that a message can be compared with
what was agreed: no message without MAIL and RCPT, as many replies as RFC 2033 §4.2 asks for, and no octet of
a body that was ever a command.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from elemta.mail import Reply, replies
from elemta.smtp import (
    NEED_DATA,
    PAUSED,
    BadCommand,
    Bdat,
    BodyChunk,
    BodyEnd,
    ChunkEnd,
    CommandReceived,
    ConnectionClosed,
    Data,
    Ehlo,
    Helo,
    Lhlo,
    Limits,
    Mail,
    Quit,
    Rcpt,
    RemoteProtocolError,
    Rset,
    ServerConnection,
    StartTls,
    State,
)
from elemta.testing.pairs import EVERYTHING

from .targets import MEMORY, _memory

LINES = st.sampled_from(
    [
        b"EHLO x\r\n",
        b"HELO x\r\n",
        b"LHLO x\r\n",
        b"MAIL FROM:<a@b.example>\r\n",
        b"MAIL FROM:<> BODY=BINARYMIME\r\n",
        b"RCPT TO:<u@b.example>\r\n",
        b"RCPT TO:<v@b.example> NOTIFY=NEVER\r\n",
        b"DATA\r\n",
        b"body line\r\n",
        b"RSET\r\n",
        b"NOOP\r\n",
        b"\r\n.\r\n",
        b"BDAT 6\r\nRSET\r\n",
        b"BDAT 6 LAST\r\nQUIT\r\n",
        b"BDAT 0 LAST\r\n",
        b"STARTTLS\r\n",
        b"WHAT\r\n",
    ]
)


class ServerModel(RuleBasedStateMachine):
    """Feeds lines, whole or in parts, and answers as the drawn numbers say."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = ServerConnection(Limits(command_line=512), EVERYTHING)
        self.lmtp = False
        self.hello = False
        self.sender = False
        self.recipients = 0
        self.body = 0
        self.over = False

    @initialize(lmtp=st.booleans(), size=st.sampled_from([0, 10]))
    def greet(self, lmtp: bool, size: int) -> None:
        self.over = self.hello = False
        self._forget()
        self.lmtp = lmtp
        self.machine = ServerConnection(Limits(command_line=512, message_size=size), EVERYTHING, lmtp=lmtp)
        self.machine.greet(Reply.of(220, None, "mx"))

    @precondition(lambda self: self.over)
    @rule(lmtp=st.booleans())
    def connect_again(self, lmtp: bool) -> None:
        self.greet(lmtp, 0)

    def _forget(self) -> None:
        self.sender = False
        self.recipients = self.body = 0

    @precondition(lambda self: not self.over)
    @rule(line=LINES, cut=st.integers(0, 12), choice=st.integers(0, 5))
    def say(self, line: bytes, cut: int, choice: int) -> None:
        cut %= len(line)
        for part in (line[:cut], line[cut:]):
            if part and not self.over:
                self.machine.receive_data(part)
                self._turn(choice)

    @precondition(lambda self: not self.over)
    @rule()
    def hang_up(self) -> None:
        self.machine.receive_data(b"")
        self._turn(0)
        assert self.over

    def _turn(self, choice: int) -> None:
        try:
            while (event := self.machine.next_event()) is not NEED_DATA:
                if isinstance(event, ConnectionClosed):
                    self.over = True
                    return
                if isinstance(event, BodyChunk):
                    assert self.sender
                    assert self.recipients
                    self.body += len(event.data)
                    continue
                assert event is not PAUSED
                self._answer(event, choice)
                if self.machine.state is State.TLS:
                    self.machine.tls_started()
                    self.hello = False
                    self._forget()
                if self.machine.state is State.CLOSED:
                    self.over = True
                    return
        except RemoteProtocolError:
            assert self.machine.state is State.ERROR
            self.over = True

    def _answer(self, event: CommandReceived | BodyEnd | ChunkEnd, choice: int) -> None:
        machine = self.machine
        refuse = choice == 5
        if isinstance(event, BodyEnd):
            assert self.sender
            assert self.recipients
            assert machine.recipients == self.recipients
            output = machine.reply(replies.LOCAL_ERROR if refuse or event.problem else replies.NOOP_OK)
            # RFC 2033 §4.2: one reply for each recipient
            assert output.count(b"\r\n") == (self.recipients if self.lmtp else 1)
            self._forget()
            return
        if isinstance(event, ChunkEnd):
            reply = event.refusal or (replies.LOCAL_ERROR if refuse else replies.chunk_ok(event.size))
            machine.reply(reply)
            if machine.state is State.READY:
                self._forget()
            return
        command = event.command
        if isinstance(command, BadCommand):
            machine.reply(command.reply)
            if machine.state is State.READY:
                self._forget()
            return
        # RFC 5321 §4.1.4: what the machine shows as good is in its place
        if isinstance(command, Mail):
            assert self.hello
            assert not self.sender
        if isinstance(command, Rcpt | Data | Bdat):
            assert self.sender
        if isinstance(command, Data | Bdat):
            assert self.recipients
        if refuse and not isinstance(command, Quit):
            machine.reply(replies.LOCAL_ERROR)
            return
        match command:
            case Data() | Bdat():
                machine.reply(replies.START_DATA)
            case Quit():
                machine.reply(replies.CLOSING)
            case StartTls():
                machine.reply(replies.TLS_READY)
            case _:
                machine.reply(replies.NOOP_OK)
        match command:
            case Ehlo() | Helo() | Lhlo():
                self.hello = True
                self._forget()
            case Mail():
                self.sender = True
            case Rcpt():
                self.recipients += 1
            case Rset():
                self._forget()

    @invariant()
    def memory_is_bounded(self) -> None:
        assert _memory(self.machine) <= MEMORY


TestServerModel = ServerModel.TestCase
TestServerModel.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
