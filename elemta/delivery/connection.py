"""Carry messages over one SMTP or LMTP session, one transaction each (RFC 5321 §3.3, RFC 2033).

With PIPELINING a small message takes two writes and two reads: MAIL, RCPT and DATA go together, then
the whole content with its final dot. Where the next message is known by then, its MAIL, RCPT and DATA go
in the same write as that dot, and it takes one. Without PIPELINING each command waits for its reply.
What the next hop says is sorted out in one place for both, reply by reply.
"""

from __future__ import annotations

import attrs
import trio

from elemta.events import Entry, Mark
from elemta.mail import (
    NULL_PATH,
    BodyType,
    Cause,
    Deferred,
    Delivered,
    EnhancedCode,
    Failed,
    Mailbox,
    MessageId,
    Outcome,
    Recipient,
    Relay,
    Reply,
    Severity,
    TlsFacts,
    replies,
)
from elemta.runtime import WallClock
from elemta.smtp import (
    Command,
    Data,
    Mail,
    MailParams,
    OutOfStep,
    Rcpt,
    RemoteProtocolError,
    Rset,
    Side,
    State,
)

from .conversion import convert
from .hosts import HostMemory
from .needs import (
    EightBit,
    eight_bit_in_memory,
    find_eight_bit,
    mail_command,
    must_tell_delays,
    needs_conversion,
    rcpt_command,
)
from .reading import open_content
from .transport import Connection, ConnectionStale, Content, ContentReader, Parcel, SessionLimits
from .wire import PeerGone, Wire

BLOCK = 64 * 1024
"""Octets of the body in one write; each has `timeouts.block`, and slow lines exist."""
CHUNK = 256 * 1024
"""Octets of a chunk where a message needs BDAT."""
SMALL = 16 * 1024
"""Up to that a message always fits into the socket's buffer, so its write takes no time of its own."""

PROMPT = 1.0
"""Seconds within which a next hop answers a message so that the next may be bound to the connection."""

_OPEN = frozenset((State.READY, State.MAIL, State.REFUSED, State.RCPT))
"""Where the next transaction can begin, perhaps after RSET."""
_OF_RECIPIENTS = EnhancedCode(5, 3)
"""RFC 3463 §3.6: too many recipients."""
_TOO_MANY_RECIPIENTS = (None, _OF_RECIPIENTS)
SURELY_A_LIMIT = 10
"""Recipients taken from which on 452 without an enhanced code is believed to be about their number."""


@attrs.define(eq=False)
class _Attempt:
    """What is to be said, and what has become of each recipient."""

    content: Content
    outcomes: list[Outcome | None]
    mail: Mail | None
    """None: it cannot go to this next hop at all."""
    rcpts: list[tuple[int, Rcpt]] = attrs.field(factory=list)
    """With the place in `outcomes` of each that can be tried."""
    accepted: list[int] = attrs.field(factory=list)
    sent: bool = False
    """Whether MAIL, RCPT and DATA have gone ahead behind the last message."""

    @property
    def in_chunks(self) -> bool:
        """Whether its content goes with BDAT, for it has lines of no form (RFC 3030 §3)."""
        return self.mail is not None and self.mail.params.body_type is BodyType.BINARY_MIME

    def settle_rest(self, outcome: Outcome) -> None:
        """Give the outcome to all who have none yet."""
        self.outcomes = [outcome if known is None else known for known in self.outcomes]

    def result(self) -> list[Outcome]:
        known = [outcome for outcome in self.outcomes if outcome is not None]
        assert len(known) == len(self.outcomes)
        return known


def _envelope_commands(attempt: _Attempt) -> tuple[Command, ...]:
    """RFC 2920 §3.1: they may go in one group, DATA last."""
    assert attempt.mail is not None
    rcpts = (rcpt for _, rcpt in attempt.rcpts)
    return (attempt.mail, *rcpts) if attempt.in_chunks else (attempt.mail, *rcpts, Data())


class _InMemory:
    """A body that needs no reading, in the form of one that does."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def read(self) -> bytes:
        body, self._body = self._body, b""
        return body


class SmtpConnection(Connection):
    """An open session behind its greeting, hello and STARTTLS. Made by `SmtpTransport`."""

    def __init__(
        self,
        wire: Wire,
        remote: str,
        *,
        lmtp: bool,
        tls: TlsFacts | None,
        clock: WallClock,
        host: str,
        hosts: HostMemory,
        authentic: bool = True,
    ) -> None:
        self.remote = remote
        """The next hop as `host[address]:port`."""
        self.tls = tls
        self._host, self._hosts = host, hosts
        self._announced = SessionLimits.of(wire.machine.capabilities.limits)
        self._wire = wire
        self._authentic = authentic
        """Whether the remote is certain to be a host of the domain, and not only who it says it is."""
        self._lmtp = lmtp
        self._clock = clock
        dsn = wire.machine.capabilities.dsn
        # RFC 2033: LMTP ends at a mailbox: notices of success are ours, unless the server takes them on.
        self._relay = None if lmtp and not dsn else Relay(dsn=dsn)
        self._relay_in_time = None if self._relay is None else Relay(dsn=dsn, deliver_by=True)
        self._kept = False
        """Whether it waited, between two messages, for the next."""
        self._dot_sent = False
        self._prompt = False
        """Whether the last message was answered within `PROMPT`."""
        self._ahead: tuple[Parcel, _Attempt] | None = None
        """The parcel whose envelope has gone ahead."""

    @property
    def limits(self) -> SessionLimits:  # type: ignore[override]  # it may learn more
        known = self._hosts.most_recipients(self._host)
        if known >= self._announced.recipients:
            return self._announced
        return attrs.evolve(self._announced, recipients=known)

    @property
    def usable(self) -> bool:
        if self._ahead is not None:  # its replies may have come; if the session is over, they will tell
            return not self._wire.broken
        return not self._wire.broken and self._wire.machine.state in _OPEN and self._wire.quiet

    @property
    def phase(self) -> str:
        return self._wire.phase

    @property
    def progress(self) -> int:
        return self._wire.progress

    @property
    def deadline(self) -> float:
        return self._wire.deadline

    @property
    def peer(self) -> str:
        return self.remote

    @property
    def dot_sent(self) -> bool:
        return self._dot_sent

    def story(self, message: MessageId) -> tuple[Entry, ...]:
        return self._wire.transcript.since(Mark(message))

    async def deliver(self, parcel: Parcel) -> list[Outcome]:
        self._dot_sent = False
        self._wire.course = self.course
        content = parcel.content
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            self._wire.transcript.note(Side.NOTE, Mark(parcel.message))
            parcel, eight_bit = await self._converted(parcel)
            content = parcel.content
            attempt = self._plan(parcel, eight_bit)
        elif ahead[0] is parcel:
            attempt = ahead[1]
        else:
            self._wire.broken = True
            raise ConnectionStale("another envelope has gone ahead")
        if not attempt.rcpts:
            return attempt.result()
        if content.body is not None:
            await self._converse(attempt, _InMemory(content.body))
        else:
            # Opened before MAIL: where the spool cannot give the body, the session is as good as before.
            async with open_content(content) as reader:
                await self._converse(attempt, reader)
        return attempt.result()

    async def probe(self, mailbox: Mailbox) -> Outcome:
        wire = self._wire
        utf8 = not mailbox.is_ascii
        rcpt = rcpt_command(Recipient(mailbox), wire.machine.capabilities, utf8=utf8)
        if isinstance(rcpt, Failed) or (utf8 and not wire.machine.capabilities.smtputf8):
            await trio.lowlevel.checkpoint()
            return Failed(Cause.UNSUPPORTED, replies.REMOTE_SMTPUTF8_NEEDED, self.remote)
        said: Outcome | None = None
        with wire.converse("mail", wire.timeouts.mail) as scope:
            try:
                reply = await wire.ask(Mail(NULL_PATH, MailParams(smtputf8=utf8)))
                if reply.severity is Severity.POSITIVE:
                    wire.begin("rcpt", wire.timeouts.rcpt)
                    said = self._outcome(await wire.ask(rcpt))
                else:  # it says nothing of the recipient
                    said = Deferred(Cause.REMOTE_REPLY, reply, self.remote, from_remote=True)
            except PeerGone as gone:
                said = self._lost(gone)
            except RemoteProtocolError as error:
                wire.broken = True
                said = self._unknown(Cause.PROTOCOL, replies.REMOTE_PROTOCOL, str(error))
            except BaseException:
                wire.broken = True
                raise
        if scope.cancelled_caught or said is None:
            said = self._unknown(Cause.TIMEOUT, replies.REMOTE_TIMEOUT, f"no progress in {wire.phase}")
        wire.end()
        return said

    async def _converted(self, parcel: Parcel) -> tuple[Parcel, EightBit]:
        """The parcel in the form in which it can be sent here, if there is one."""
        offered, envelope = self._wire.machine.capabilities, parcel.envelope
        eight_bit = await find_eight_bit(parcel.content, envelope, offered)
        # What needs SMTPUTF8 cannot do without: a header is not converted.
        if needs_conversion(envelope, eight_bit, offered) and not eight_bit.header:
            content = await convert(parcel.content)
            if content is not None:
                envelope = attrs.evolve(envelope, body_type=BodyType.SEVEN_BIT)
                eight_bit = EightBit(header=False, anywhere=False)
                return attrs.evolve(parcel, content=content, envelope=envelope), eight_bit
        return parcel, eight_bit

    def _plan(self, parcel: Parcel, eight_bit: EightBit) -> _Attempt:
        offered = self._wire.machine.capabilities
        # RFC 8689 §4.2.1: TLS with a proof, and a host that no forged MX record can have named
        secure = self.tls is not None and self.tls.verified and self._authentic
        mail = mail_command(
            parcel.envelope,
            parcel.content.size,
            eight_bit,
            offered,
            secure=secure,
            now=self._clock.time(),
            final=self._lmtp,
        )
        if isinstance(mail, Failed):
            refused: Outcome = attrs.evolve(mail, remote=self.remote)
            return _Attempt(parcel.content, [refused] * len(parcel.recipients), None)
        attempt = _Attempt(parcel.content, [None] * len(parcel.recipients), mail)
        delays = must_tell_delays(parcel.envelope, offered)
        for index, recipient in enumerate(parcel.recipients):
            rcpt = rcpt_command(recipient, offered, utf8=mail.params.smtputf8, tell_delays=delays)
            if isinstance(rcpt, Failed):
                attempt.outcomes[index] = attrs.evolve(rcpt, remote=self.remote)
            else:
                attempt.rcpts.append((index, rcpt))
        return attempt

    async def _converse(self, attempt: _Attempt, reader: ContentReader) -> None:
        """Run the transaction; whatever happens in it becomes outcomes. Only a cancel from outside and
        errors of the reader get through, and leave the connection broken."""
        wire = self._wire
        kept, self._kept = self._kept, True
        timeouts = wire.timeouts
        first = ("rset", timeouts.rset) if self._must_reset and not attempt.sent else ("mail", timeouts.mail)
        with wire.converse(*first) as scope:
            try:
                await self._transaction(attempt, reader)
            except PeerGone as gone:
                if kept and not wire.replies:
                    # Nothing can have been taken before the first reply: DATA was not answered.
                    raise ConnectionStale(str(gone)) from gone
                attempt.settle_rest(self._lost(gone))
            except RemoteProtocolError as error:
                wire.broken = True
                if wire.phase == "rset":  # it is about the message before
                    raise ConnectionStale(f"{error} in rset") from error
                ahead = wire.machine.capabilities.pipelining and not self._dot_sent
                if isinstance(error, OutOfStep) and ahead and attempt.accepted:
                    # With commands sent ahead, the refusal of one recipient may be that of another
                    for index, _ in attempt.rcpts:
                        attempt.outcomes[index] = None
                attempt.settle_rest(self._unknown(Cause.PROTOCOL, replies.REMOTE_PROTOCOL, str(error)))
            except BaseException:
                wire.broken = True
                raise
        if scope.cancelled_caught:
            if wire.phase == "rset":
                raise ConnectionStale("no answer to RSET")
            attempt.settle_rest(
                self._unknown(Cause.TIMEOUT, replies.REMOTE_TIMEOUT, f"no progress in {wire.phase}")
            )
        if self._ahead is None and not wire.is_settled():
            wire.broken = True
        wire.end()
        self._dot_sent = False

    async def _transaction(self, attempt: _Attempt, reader: ContentReader) -> None:
        wire, timeouts = self._wire, self._wire.timeouts
        assert attempt.mail is not None
        ahead = wire.machine.capabilities.pipelining
        reset = self._must_reset and not attempt.sent
        if ahead and not attempt.sent:
            first = (Rset(),) if reset else ()
            await wire.send_group(wire.machine.send(*first, *_envelope_commands(attempt)))
        if reset:
            if not (await self._say(Rset(), ahead=ahead)).is_positive:
                wire.broken = True
                raise ConnectionStale("RSET was refused")
            wire.begin("mail", timeouts.mail)
        reply = await self._say(attempt.mail, ahead=ahead)
        if reply.severity is Severity.POSITIVE:
            await self._name_recipients(attempt, ahead=ahead)
        else:
            attempt.settle_rest(self._outcome(reply))
            if ahead:
                for _ in attempt.rcpts:
                    await wire.reply()
        if attempt.in_chunks:
            if attempt.accepted:
                await self._send_chunks(attempt, reader)
        elif attempt.accepted:
            wire.begin("data", timeouts.data)
            reply = await self._say(Data(), ahead=ahead)
            if reply.severity is Severity.INTERMEDIATE:
                await self._send_content(attempt.content, reader)
                await self._final_replies(attempt)
            else:
                if ahead:
                    wire.expect_no_consent()
                attempt.settle_rest(self._outcome(reply))
        elif ahead:
            await self._abandon()

    @property
    def _must_reset(self) -> bool:
        # RFC 5321 §4.1.4: a transaction that failed half-way is still open over there
        return self._wire.machine.state is not State.READY

    async def _say(self, command: Command, *, ahead: bool) -> Reply:
        """The reply to the command, which was sent ahead with others or is sent now."""
        return await (self._wire.reply() if ahead else self._wire.ask(command))

    async def _name_recipients(self, attempt: _Attempt, *, ahead: bool) -> None:
        wire, seconds = self._wire, self._wire.timeouts.rcpt
        for place, (index, rcpt) in enumerate(attempt.rcpts):
            wire.begin("rcpt", seconds)
            reply = await self._say(rcpt, ahead=ahead)
            if reply.severity is Severity.POSITIVE:
                attempt.accepted.append(index)
                continue
            if reply.code == 552:  # RFC 5321 §4.5.3.1.10: as if it were 452
                reply = attrs.evolve(reply, code=452)
            attempt.outcomes[index] = self._outcome(reply)
            if (
                reply.code == 452
                and reply.enhanced in _TOO_MANY_RECIPIENTS
                and attempt.accepted
                and not ahead
            ):
                # RFC 5321 §4.5.3.1.10: those behind belong into another transaction; do not ask for each
                for later, _ in attempt.rcpts[place + 1 :]:
                    attempt.outcomes[later] = self._outcome(reply)
                break
        self._learn_limit(attempt)

    def _learn_limit(self, attempt: _Attempt) -> None:
        """Remember how many were taken where all behind these were too many."""
        taken = len(attempt.accepted)
        named = [index for index, _ in attempt.rcpts]
        if not taken or attempt.accepted != named[:taken]:
            return
        refused = [attempt.outcomes[index] for index in named[taken:]]
        if refused and all(_is_one_too_many(outcome, taken) for outcome in refused):
            self._hosts.took_few(self._host, taken)

    async def _abandon(self) -> None:
        """DATA went ahead, and nobody was accepted: it should be refused; where not, send nothing."""
        wire = self._wire
        wire.begin("data", wire.timeouts.data)
        reply = await wire.reply()
        if reply.severity is Severity.INTERMEDIATE:
            # RFC 2920 §3.1: a single dot; what is said to it means nothing, and holds up what is known
            wire.begin("final-dot", wire.timeouts.rset)
            await wire.send(wire.machine.end_body())
            await wire.reply()

    async def _send_content(self, content: Content, reader: ContentReader) -> None:
        wire, seconds = self._wire, self._wire.timeouts.block
        if content.body is not None and content.size <= SMALL:
            wire.begin("final-dot", wire.timeouts.final_dot)
            held = wire.machine.send_body(content.prefix + content.body)
        else:
            wire.begin("body", seconds)
            held = wire.machine.send_body(content.prefix)
            while piece := await reader.read():
                for start in range(0, len(piece), BLOCK):
                    if held and len(held) + len(piece) > BLOCK:
                        await wire.send_and_listen(held)
                        wire.begin("body", seconds)  # RFC 5321 §4.5.3.2.5
                        held = b""
                    held += wire.machine.send_body(piece[start : start + BLOCK])
        # A 250 that came with the 354 answers no dot: taken for that to ours, it would lose the message.
        wire.expect_silence()
        end = held + wire.machine.end_body()
        self._dot_sent = True  # before the write: what of it gets there is not known if it fails
        if len(end) > SMALL:
            await wire.send_and_listen(end, answered=True)
            end = b""
        if self.following is not None and self._prompt:
            end += self._go_ahead(self.following())
        if end:
            await wire.send(end)

    async def _send_chunks(self, attempt: _Attempt, reader: ContentReader) -> None:
        """The same with BDAT (RFC 3030 §2): each chunk but the last has its reply before the next is sent."""
        wire, timeouts = self._wire, self._wire.timeouts
        held = attempt.content.prefix
        while piece := await reader.read():
            held += piece
            while len(held) > CHUNK:
                wire.expect_silence()  # else all replies would count for a chunk too early, the last one too
                wire.begin("body", timeouts.block)
                await wire.send_and_listen(wire.machine.send_chunk(held[:CHUNK]), answered=True)
                reply = await wire.reply()
                if not reply.is_positive:
                    attempt.settle_rest(self._outcome(reply))
                    return
                held = held[CHUNK:]
        wire.expect_silence()
        wire.begin("final-dot", timeouts.final_dot)
        self._dot_sent = True  # before the write, as of a dot
        await wire.send_and_listen(wire.machine.send_chunk(held, last=True), answered=True)
        await self._final_replies(attempt)

    def _go_ahead(self, parcel: Parcel | None) -> bytes:
        """Name the next message in the write that ends this one, where the next hop allows and is prompt.

        RFC 2920 §3.1: the content of a message may be the first in a group, MAIL, RCPT and DATA may
        follow. That saves a round trip for each message. If the session ends before the content is
        asked for, nothing of that message has been taken.
        """
        machine = self._wire.machine
        if parcel is None or self._lmtp or not machine.capabilities.pipelining:
            return b""
        assert parcel.content.body is not None
        attempt = self._plan(parcel, eight_bit_in_memory(parcel.content))
        if not attempt.rcpts or attempt.in_chunks:
            return b""
        attempt.sent = True
        self._ahead = parcel, attempt
        self._wire.transcript.note(Side.NOTE, Mark(parcel.message))
        return machine.send(*_envelope_commands(attempt))

    async def _final_replies(self, attempt: _Attempt) -> None:
        wire, seconds = self._wire, self._wire.timeouts.final_dot
        if wire.phase != "final-dot":
            wire.begin("final-dot", seconds)  # RFC 5321 §4.5.3.2.6, RFC 1047
        if not self._lmtp:
            since = trio.current_time()
            attempt.settle_rest(self._outcome(await wire.reply(), attempt.mail))
            self._prompt = trio.current_time() - since < PROMPT
            return
        for index in attempt.accepted:  # RFC 2033 §4.2: one reply for each, in the order of RCPT
            attempt.outcomes[index] = self._outcome(await wire.reply(), attempt.mail)
            wire.begin("final-dot", seconds)

    def _outcome(self, reply: Reply, mail: Mail | None = None) -> Outcome:
        """What the reply means; `mail` was taken where it is the last one."""
        if reply.code == 421:  # RFC 5321 §3.8
            self._hosts.tire(self._host)
        match reply.severity:
            case Severity.POSITIVE:
                in_time = mail is not None and mail.params.deliver_by is not None
                relay = self._relay_in_time if in_time else self._relay
                return Delivered(reply, self.remote, from_remote=True, relay=relay)
            case Severity.PERMANENT:
                return Failed(Cause.REMOTE_REPLY, reply, self.remote, from_remote=True)
            case _:
                return Deferred(Cause.REMOTE_REPLY, reply, self.remote, from_remote=True)

    def _lost(self, gone: PeerGone) -> Outcome:
        if gone.reply is not None:
            return self._outcome(gone.reply)
        detail = f"{gone} in {self._wire.phase}"
        return self._unknown(Cause.CONNECTION_LOST, replies.CONNECTION_LOST, detail)

    def _unknown(self, cause: Cause, reply: Reply, detail: str) -> Deferred:
        """Deferred for that cause, unless the dot was sent: then all that counts is that nobody knows."""
        if self._dot_sent:
            cause, reply = Cause.UNKNOWN_AFTER_DOT, replies.UNKNOWN_AFTER_DOT
        return Deferred(cause, reply, self.remote, detail=detail)

    async def aclose(self) -> None:
        await self._wire.aclose()


def _is_one_too_many(outcome: Outcome | None, taken: int) -> bool:
    """Whether it tells of the number of recipients; 452 without an enhanced code may be a full mailbox."""
    if not isinstance(outcome, Deferred) or outcome.reply.code != 452:
        return False
    enhanced = outcome.reply.enhanced
    return enhanced == _OF_RECIPIENTS or (enhanced is None and taken >= SURELY_A_LIMIT)
