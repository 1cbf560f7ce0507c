"""Takes messages that no session brought: handed in by a program through the admin port.

They go the way of a user's message in a session of the role submission: its recipients are verified, its
header is completed, plugins are asked about it, it is signed, and `Injection.finish` returns only once it is
on stable storage.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import trio

from elemta.config import Config, HostPort, ListenerConfig, ListenerRole
from elemta.delivery import Verdict
from elemta.mail import (
    BodyType,
    DeliverBy,
    DeliverByMode,
    ForwardPath,
    Identity,
    Mailbox,
    MessageId,
    Notify,
    Origin,
    Reply,
    ReversePath,
    SessionId,
    replies,
)
from elemta.plugin import SessionView
from elemta.smtp import BodyEnd, ChunkDecoder, Limits, MailParams, RcptParams
from elemta.spool import SpoolFull

from .asked import refusal_of
from .body_panel import BodyPanel
from .context import Services, SessionContext, make_context
from .panel import Panel
from .promises import Promises
from .transaction import Transaction

LISTENER = ListenerConfig("api", HostPort("127.0.0.1", 0), ListenerRole.SUBMISSION)
"""The name of the listener in events, and how sessions of it are treated."""
PROTOCOL = "HTTP"
QUESTIONS = 5
"""About recipients of one message at the same time; `verification.probes` bounds those of all."""


class NotTaken(Exception):
    """A message, or a recipient, was refused; nothing is stored."""

    def __init__(self, reply: Reply, recipient: str = "") -> None:
        super().__init__(str(reply))
        self.reply = reply
        self.recipient = recipient


@attrs.frozen
class Wishes:
    """What a message handed in this way is to have beside its content."""

    sender: ReversePath
    recipients: Sequence[Mailbox]
    actor: str
    """Who hands it in: the name of the token."""
    peer: str
    priority: int = 0
    """-9 to 9 (RFC 6710)."""
    envelope_id: str | None = None
    """Comes back in notices (RFC 3461 §4.4)."""
    notify: Notify | None = None
    """When the sender wants a notice; None: as usual."""
    release_at: float | None = None
    """Not before that time; seconds since the epoch (RFC 4865)."""
    deliver_by: float | None = None
    """Returned as undeliverable then (RFC 2852)."""
    require_tls: bool = False
    traceparent: str = ""
    """W3C Trace Context of the program's request."""


class Injection:
    """One message. Made by `begin_injection`; `finish` and `discard` each leave no draft behind."""

    def __init__(self, context: SessionContext, transaction: Transaction) -> None:
        self._transaction = transaction
        self._verifier = context.services.verifier
        limits = context.config.limits
        # A program's message has the line ends of its machine; what comes in as mail must have those of mail
        self._decoder = ChunkDecoder(
            Limits(
                message_size=context.message_size,
                text_line=limits.text_line,
                header_size=limits.header_size,
                repair_line_ends=True,
            )
        )

    async def verify(self) -> None:
        """Ask the next hops about the recipients as at RCPT, of all together within `verification.timeout`.

        Raises:
          NotTaken: one of them does not exist, or could not be verified and that puts the message off.
        """
        verifier = self._verifier
        if verifier is None:
            return
        people = [each for each in await self._transaction.find_all_to_verify() if verifier.may_ask(each)]
        verdicts: dict[Mailbox, Verdict] = {}
        limiter = trio.CapacityLimiter(QUESTIONS)

        async def ask(mailbox: Mailbox) -> None:
            async with limiter:
                verdicts[mailbox] = await verifier.ask(mailbox)

        with trio.move_on_after(verifier.timeout):
            async with trio.open_nursery() as nursery:
                for mailbox in people:
                    nursery.start_soon(ask, mailbox)
        for mailbox in people:
            reply = refusal_of(verdicts.get(mailbox, Verdict.UNKNOWN), verifier)
            if reply is not None:
                raise NotTaken(reply, str(mailbox))

    async def write(self, data: bytes) -> None:
        """The next octets of the message, header first.

        Raises:
          SpoolUnavailable: storage failed.
        """
        content = self._decoder.feed(data)
        if content:
            await self._transaction.write(content)

    async def finish(self) -> MessageId:
        """Store the message, and give its id. Cancelled: nothing is stored, and the caller discards.

        Raises:
          NotTaken: nothing is stored; the reply says why.
          SpoolUnavailable: storage failed, nothing is stored.
          CommitFailed: what became of it is not known.
        """
        transaction, decoder = self._transaction, self._decoder
        content = decoder.end()
        if content:
            await transaction.write(content)
        # The reply is lost where the program has left; with the same Idempotency-Key it can ask again.
        reply = await transaction.finish(BodyEnd(decoder.size, decoder.problem), lambda: False)
        if reply.code >= 400:
            raise NotTaken(reply)
        assert transaction.message is not None
        return transaction.message

    def discard(self, reason: str) -> None:
        """Forget it, unless it was stored."""
        self._transaction.discard(reason)


def begin_injection(config: Config, services: Services, wishes: Wishes, size: int) -> Injection:
    """Check the envelope and begin a message of about `size` octets.

    Raises:
      NotTaken: a recipient does not exist, there are too many, storage is full or the server too busy.
      SpoolUnavailable: storage failed.
    """
    context = make_context(config, LISTENER, services)
    overload = services.load.overload() if services.load is not None else ""
    if overload:
        raise NotTaken(replies.overloaded(overload))
    if size > context.message_size:
        raise NotTaken(replies.size_exceeded(context.message_size))
    try:
        services.spool.check_room(size)
    except SpoolFull:
        raise NotTaken(replies.STORAGE_FULL) from None
    session = SessionId(services.make_id())
    origin = Origin(
        session=session,
        peer=wishes.peer,
        hello=wishes.actor,
        protocol=PROTOCOL,
        listener=LISTENER.name,
        identity=Identity(wishes.actor, "token"),
        traceparent=wishes.traceparent,
    )
    now = services.clock.time()
    by = None if wishes.deliver_by is None else DeliverBy(wishes.deliver_by, DeliverByMode.RETURN)
    if by is not None and by.deadline <= max(now, wishes.release_at or now):
        raise NotTaken(replies.DELIVER_BY_PAST)  # RFC 2852 §4
    transaction = Transaction(
        context,
        origin,
        wishes.sender,
        MailParams(
            body_type=BodyType.EIGHT_BIT_MIME,
            smtputf8=_needs_utf8(wishes),
            envelope_id=wishes.envelope_id,
            require_tls=wishes.require_tls,
        ),
        Promises(by, wishes.release_at, priority=wishes.priority),
        may_relay=True,
        asks=_asks(services, origin),
    )
    parameters = RcptParams(wishes.notify)
    for mailbox in wishes.recipients:
        reply = transaction.add_recipient(ForwardPath(mailbox), parameters)
        if reply.code >= 400:
            raise NotTaken(reply, str(mailbox))
    reply = transaction.begin_body()
    if reply.code >= 400:
        raise NotTaken(reply)
    return Injection(context, transaction)


def _needs_utf8(wishes: Wishes) -> bool:
    """Whether an address has more than ASCII (RFC 6531 §3.4)."""
    sender = wishes.sender.mailbox
    return not all(mailbox.is_ascii for mailbox in (*wishes.recipients, *((sender,) if sender else ())))


def _asks(services: Services, origin: Origin) -> BodyPanel | None:
    if services.plugins is None:
        return None
    view = SessionView(
        id=origin.session,
        listener=origin.listener,
        role=LISTENER.role.value,
        peer=origin.peer,
        hello=origin.hello,
        identity=origin.identity,
        trusted=True,
    )
    return BodyPanel(Panel(services.plugins), view)
