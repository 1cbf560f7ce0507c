"""One mail transaction, from MAIL to the commit of its message."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import trio

from elemta.config import ListenerRole
from elemta.events import MessageAccepted, MessageRejected, NoticeQueued
from elemta.mail import (
    NO_DSN_OPTIONS,
    Action,
    AuthResults,
    BodyType,
    Deed,
    DsnOptions,
    Envelope,
    ForwardPath,
    HeaderBlock,
    Mailbox,
    MessageId,
    Notify,
    Origin,
    Recipient,
    Reply,
    ReversePath,
    parse_mailbox,
    received,
    replies,
)
from elemta.plugin import Changes, EnvelopeView, HeaderChange
from elemta.policy import Refusal
from elemta.routing import Found, RecipientsUnavailable
from elemta.runtime import get_logger
from elemta.smtp import BodyEnd, BodyProblem, MailParams, RcptParams
from elemta.spool import Draft, NewMessage, SpoolError, SpoolFull, SpoolUnavailable

from .body_panel import NOTHING_SAID, BodyPanel, MessageVerdict
from .changes import BadChange, Changed, apply_changes, new_header
from .context import SessionContext
from .examination import Examination, examine
from .expansion import Expansion, expand, expanded_notice
from .fixup import HeaderFixer, missing_fields
from .judge import Judge
from .promises import Promises
from .relay import may_relay, may_return

_log = get_logger(__name__)

_PROBLEMS = {
    BodyProblem.BARE_LF: replies.BAD_LINE_ENDS,
    BodyProblem.BARE_CR: replies.BAD_LINE_ENDS,
    BodyProblem.NUL: replies.NUL_IN_TEXT,
    BodyProblem.HEADER_TOO_BIG: replies.HEADER_TOO_LARGE,
    BodyProblem.LINE_TOO_LONG: replies.TEXT_LINE_TOO_LONG,
}
_PIECE = 256 * 1024
"""Octets of a message that are copied at a time."""
_LONGEST_LOOK_UP = 10.0
"""Seconds for which a recipient may wait for its turn at the table."""
_MAX_MESSAGE_ID = 250
"""Characters of the Message-ID field that are shown in events."""


class ClientGone(Exception):
    """The client left before the message was ours: nothing is stored, nobody waits for a reply."""


class CommitFailed(Exception):
    """What became of the commit is not known: no reply may be sent, neither yes nor no (RELIABILITY D4)."""


class Transaction:
    """Collects an envelope and a body, then commits both.

    Ends with `finish` or `discard`; each leaves no draft behind. A transaction that is cancelled
    anywhere has stored nothing, except where `finish` says so.
    """

    __slots__ = (
        "_added",
        "_asks",
        "_context",
        "_deeds",
        "_draft",
        "_examination",
        "_fixer",
        "_found",
        "_hold",
        "_judge",
        "_kept",
        "_may_relay",
        "_meant_for",
        "_origin",
        "_originals",
        "_params",
        "_priority",
        "_promises",
        "_quarantined",
        "_recipients",
        "_refusal",
        "_tags",
        "_unsure",
        "message",
        "sender",
        "size",
    )

    def __init__(
        self,
        context: SessionContext,
        origin: Origin,
        sender: ReversePath,
        params: MailParams,
        promises: Promises,
        *,
        may_relay: bool,
        judge: Judge | None = None,
        asks: BodyPanel | None = None,
    ) -> None:
        self._judge = judge
        self._context = context
        self._origin = origin
        self.sender = sender
        self._params = params
        self._promises = promises
        self._priority = promises.priority
        self._may_relay = may_relay
        self._asks = asks
        """What asks plugins about the message; None: there are none."""
        self._hold: str | None = None
        """Why it is kept for an operator."""
        self._tags: tuple[str, ...] = ()
        """Words of plugins about it."""
        self._deeds: tuple[Deed, ...] = ()
        """What plugins did, for its story."""
        self._recipients: dict[Mailbox, Recipient] = {}
        self._found: dict[Mailbox, Found] = {}
        """What the table of recipients says."""
        self._unsure: set[Mailbox] = set()
        """Those that are still to be looked up."""
        self._originals: dict[Mailbox, Mailbox] = {}
        """Who is behind those recipients that are senders which we rewrote."""
        self._kept: dict[str, Mailbox | None] = {}
        """The same of those that were kept under a key."""
        self._added: set[Mailbox] = set()
        """Recipients that plugins have added: mail for them is sent on by us."""
        self._draft: Draft | None = None
        self._fixer: HeaderFixer | None = None
        """Where the header may be mended (RFC 6409 §8)."""
        self._examination: Examination | None = None
        """Where the message is checked or signed."""
        self._quarantined = False
        """Whether a check has marked it."""
        self._meant_for: tuple[str, ...] = ()
        """The recipients of what is quarantined in another mailbox."""
        self._refusal: Refusal | None = None
        """Why the body will not be accepted, known before its end: told there."""
        self.message: MessageId | None = None
        self.size = 0
        """Octets of the message, once it is stored."""

    # --- Envelope -----------------------------------------------------------------------------------

    def add_recipient(self, path: ForwardPath, params: RcptParams) -> Reply:
        """Answer RCPT; a recipient named twice is kept once (RFC 5321 §4.1.1.3 leaves that to us), with
        the notices that were asked for either time."""
        context = self._context
        router, now = context.services.router, context.services.clock.time()
        decision = may_return(router, path, sender=self.sender, now=now, kept=self._kept.get) or may_relay(
            router, path, trusted=self._may_relay, role=context.listener.role, exists=self._exists
        )
        mailbox = decision.mailbox
        if mailbox is None:
            return decision.reply
        dsn = (
            NO_DSN_OPTIONS
            if params.notify is None and params.original_recipient is None
            else DsnOptions(params.notify, params.original_recipient)
        )
        if (known := self._recipients.get(mailbox)) is not None:
            if known.dsn != dsn:
                self._recipients[mailbox] = attrs.evolve(known, dsn=known.dsn.joined(dsn))
        else:
            if len(self._recipients) >= context.recipients:
                return replies.TOO_MANY_RECIPIENTS  # RFC 5321 §4.5.3.1.10
            self._recipients[mailbox] = Recipient(mailbox, dsn)
            if decision.original is not None:
                self._originals[mailbox] = decision.original
        return decision.reply

    def has_to_ask(self, path: ForwardPath) -> bool:
        """Whether `look_up` would have something to ask."""
        router = self._context.services.router
        return bool(self._kept_under(path)) or router.has_to_ask(router.mailbox_of(path))

    def _kept_under(self, path: ForwardPath) -> str:
        """The key of a sender which we rewrote, where it is not in the address itself."""
        services = self._context.services
        if path.mailbox is None or services.kept_senders is None:
            return ""
        found = services.router.original_sender(path.mailbox, services.clock.time(), bounce=True)
        return "" if found is None else found.kept

    async def look_up(self, path: ForwardPath) -> Reply | None:
        """Ask the table of recipients about one that is to be added, where there is such a table; None, or
        why it cannot be added now."""
        kept = self._context.services.kept_senders
        if kept is not None and (key := self._kept_under(path)):
            with trio.move_on_after(_LONGEST_LOOK_UP):
                self._kept[key] = await kept.find(key)
                return None
            return replies.RECIPIENTS_UNAVAILABLE
        mailbox = self._context.services.router.mailbox_of(path)
        if mailbox not in self._recipients:
            self._found.pop(mailbox, None)  # refused before: it may exist by now
        return await self._find(mailbox)

    async def _find(self, mailbox: Mailbox) -> Reply | None:
        router = self._context.services.router
        if mailbox in self._found or mailbox in self._originals or not router.has_to_ask(mailbox):
            return None
        with trio.move_on_after(_LONGEST_LOOK_UP):
            try:
                self._found[mailbox] = await router.find(mailbox)
            except RecipientsUnavailable as error:
                _log.error("recipients cannot be looked up", reason=str(error))
                return replies.RECIPIENTS_UNAVAILABLE
            return None
        _log.error("recipients cannot be looked up", reason="too many questions wait")
        return replies.RECIPIENTS_UNAVAILABLE

    def _exists(self, mailbox: Mailbox) -> bool:
        """What was not looked up yet exists until it is: at the end of the message."""
        found = self._found.get(mailbox)
        if found is not None:
            return found.exists
        router = self._context.services.router
        if router.has_to_ask(mailbox):
            self._unsure.add(mailbox)
            return True
        return router.exists(mailbox)

    async def _find_all(self) -> Refusal | None:
        """Look up those that came in no RCPT: of a program, or of a plugin."""
        for mailbox in self._recipients:
            reply = await self._find(mailbox)
            if reply is not None:
                return Refusal(reply, "recipients cannot be looked up")
            # asked by the router where a reload has taken the table away
            if mailbox in self._unsure and not self._exists(mailbox):
                return Refusal(replies.MAILBOX_UNKNOWN, f"{mailbox} does not exist")
        return None

    @property
    def recipients(self) -> int:
        """How many there are."""
        return len(self._recipients)

    @property
    def last_recipient(self) -> str:
        """The one that was added last."""
        return str(next(reversed(self._recipients)))

    @property
    def last_to_verify(self) -> Mailbox | None:
        """The one that was added last, where it is to be verified."""
        mailbox = next(reversed(self._recipients))
        return mailbox if self._stands_for_itself(mailbox) else None

    async def find_all_to_verify(self) -> list[Mailbox]:
        """All recipients that are to be verified, after a look into the table of them. Who cannot be found
        there now is left out: `finish` refuses the message."""
        for mailbox in self._recipients:
            await self._find(mailbox)
        return [mailbox for mailbox in self._recipients if self._stands_for_itself(mailbox)]

    def _stands_for_itself(self, mailbox: Mailbox) -> bool:
        """Whether the next hop may know whether there is one; who is behind an alias is our own word."""
        router = self._context.services.router
        if mailbox in self._originals or mailbox == router.postmaster:  # RFC 5321 §4.5.1: he always exists
            return False
        found = self._found.get(mailbox)
        if found is None and router.has_to_ask(mailbox):
            return False
        return (router.expand(mailbox) if found is None else found.behind) == (mailbox,)

    def envelope_view(self) -> EnvelopeView:
        """The envelope as plugins see it."""
        params, mailbox = self._params, self.sender.mailbox
        return EnvelopeView(
            sender="" if mailbox is None else str(mailbox),
            recipients=self._recipient_texts(),
            size=params.size,
            body_type=(params.body_type or BodyType.SEVEN_BIT).value,
            smtputf8=params.smtputf8,
            require_tls=params.require_tls,
            priority=self._priority,
            tags=self._tags,
        )

    def forget_last_recipient(self) -> None:
        """Undo `add_recipient`: the policy refuses it."""
        self._recipients.popitem()

    # --- Body ---------------------------------------------------------------------------------------

    def begin_body(self) -> Reply:
        """Answer DATA, or the first BDAT. From here on the message has an id and a draft.

        Raises:
          SpoolUnavailable: storage failed.
        """
        services = self._context.services
        message = MessageId(services.make_id())
        try:
            self._draft = services.spool.new_draft(message)
        except SpoolFull:
            return replies.STORAGE_FULL
        self.message = message
        domain = self._context.dialect.default_domain
        if self._mends and domain is not None:
            self._fixer = HeaderFixer(domain.text, self._context.config.limits.header_size)
        self._examination = examine(
            self._context,
            self._origin,
            self.sender,
            message,
            may_relay=self._may_relay,
            may_write_as=self._may_write_as(),
        )
        return replies.START_DATA

    def _may_write_as(self) -> Callable[[Mailbox], bool] | None:
        """What an account may use in From, as in MAIL (RFC 6409 §6.1); None where nobody knows better."""
        identity, authenticator = self._origin.identity, self._context.authenticator
        if identity is None or authenticator is None:
            return None
        return lambda mailbox: authenticator.may_send_as(identity, mailbox)

    @property
    def _mends(self) -> bool:
        """Whether the message is one of our users', whose header may be completed."""
        context = self._context
        return context.listener.role is ListenerRole.SUBMISSION and context.config.submission.fix_header

    async def write(self, data: bytes) -> None:
        """Keep a piece of the body. Once the body is refused its rest is read and dropped.

        Raises:
          SpoolUnavailable: storage failed.
        """
        assert self._draft is not None
        if self._refusal is not None:
            return
        if self._fixer is not None:
            data = self._fixer.feed(data)
            if not data:
                return
        await self._write(data)

    async def _write(self, data: bytes) -> None:
        """The same for what is mended."""
        if self._examination is not None:
            data = await self._examination.write(data)
            if not data:
                return
        await self._keep(data)

    async def _keep(self, data: bytes) -> None:
        assert self._draft is not None
        try:
            await self._draft.write(data)
        except SpoolFull:
            # The client reads no reply before it has sent all, so tell it then.
            self._refusal = Refusal(replies.STORAGE_FULL, "storage full")
            self._draft.discard()
            return
        if self._asks is not None:
            self._refusal = await self._asks.piece(self.envelope_view(), self._draft, data)
            if self._refusal is not None:
                self._draft.discard()

    async def finish(self, end: BodyEnd, is_gone: Callable[[], bool]) -> Reply:
        """Check the whole message, store it, and give the reply that says what became of it.

        A positive reply means: on stable storage. There is no checkpoint between the commit and the
        return, so the caller can send the reply whatever is pending. Cancelled: nothing is stored, and
        the caller discards.

        Raises:
          ClientGone: nothing is stored.
          CommitFailed: send no reply.
          SpoolUnavailable: storage failed before the commit; nothing is stored, which may be said.
        """
        if self._fixer is not None:
            fixer, self._fixer = self._fixer, None
            await self.write(fixer.end())
        if self._examination is not None and self._refusal is None:
            await self._keep(self._examination.end())
        refusal = self._refusal or self._check(end) or await self._find_all() or await self._examine()
        if refusal is None and self._asks is not None:
            refusal = await self._ask(self._asks)
            if self._draft is None:  # a plugin wants it forgotten
                return self._positive()
        if refusal is None:
            refusal = await self._find_all()
        if refusal is None:
            if is_gone():
                raise ClientGone
            refusal = await self._commit()
        if refusal is None:
            return self._positive()
        self._reject(refusal.reply, refusal.reason)
        return refusal.reply

    def _positive(self) -> Reply:
        assert self.message is not None
        if self._context.lmtp:
            return replies.recipient_queued(self.message)
        return replies.queued(self.message)

    async def _ask(self, asks: BodyPanel) -> Refusal | None:
        """Ask the plugins about the whole message, and do what they want. A message that is to be forgotten
        has no draft any more."""
        assert self._draft is not None
        try:
            results = None if self._examination is None else self._examination.results
            verdict = await asks.whole(self.envelope_view(), self._draft, results)
            if verdict.refusal is not None:
                return verdict.refusal
            if verdict.changes:
                await self._change(verdict.changes)
            last = NOTHING_SAID
            if not verdict.discard and self._recipients:
                last = await self._ask_before_queue(asks, results)
            if last.refusal is not None:
                return last.refusal
        except SpoolFull:
            return Refusal(replies.STORAGE_FULL, "storage full")
        except BadChange as error:
            self._context.services.report_crash("plugin", error, session=self._origin.session)
            return Refusal(replies.LOCAL_ERROR, str(error))
        self._hold = verdict.hold if last.hold is None else last.hold
        self._deeds = verdict.deeds + last.deeds
        discard = (
            verdict.discard or last.discard or ("" if self._recipients else "plugins removed all recipients")
        )
        if discard:
            self._reject(self._positive(), f"discarded: {discard}")
        return None

    async def _ask_before_queue(self, asks: BodyPanel, results: AuthResults | None) -> MessageVerdict:
        """Ask about the message as it is to be stored."""
        assert self._draft is not None
        assert self.message is not None
        verdict = await asks.before_queue(self.envelope_view(), self._draft, self.message, results)
        if verdict.changes:
            await self._change(verdict.changes)
        return verdict

    async def _change(self, changes: Sequence[tuple[str, Changes]]) -> None:
        """Make all changes, or none where one cannot be made."""
        assert self._draft is not None
        utf8 = self._params.smtputf8
        before = Changed(self.sender, self._recipients, self._priority, tags=self._tags)
        changed = apply_changes(before, changes, utf8=utf8)
        if changed.header:
            await self._rewrite(self._draft, changed.header, utf8=utf8)
        self._added |= changed.recipients.keys() - before.recipients.keys()
        self.sender, self._recipients, self._priority = changed.sender, changed.recipients, changed.priority
        self._tags = changed.tags

    async def _rewrite(self, old: Draft, changes: Sequence[HeaderChange], *, utf8: bool) -> None:
        """Put another header before the body: the message is written once more, under another id."""
        services = self._context.services
        message = MessageId(services.make_id())
        draft = services.spool.new_draft(message)
        try:
            top, head = new_header(old.head, changes, utf8=utf8)
            await draft.write(top + head)
            position = len(old.head)
            while piece := await old.read(position, _PIECE):
                await draft.write(piece)
                position += len(piece)
        except BaseException:
            draft.discard()
            raise
        old.discard()
        self._draft, self.message = draft, message

    def end_chunk(self, problem: BodyProblem | None) -> Reply | None:
        """Answer a chunk that is not the last (RFC 3030 §2): None to go on, or the reply that ends the body,
        which is forgotten."""
        refusal = self._refusal or self._refuse(problem)
        if refusal is None:
            return None
        self._reject(refusal.reply, refusal.reason)
        return refusal.reply

    def refuse_body(self, reply: Reply, reason: str) -> None:
        """Forget a body that was begun."""
        if self._draft is not None:
            self._reject(reply, reason)

    def _refuse(self, problem: BodyProblem | None) -> Refusal | None:
        """The refusal of a body that has a problem."""
        if problem is None:
            return None
        if problem is BodyProblem.TOO_BIG:
            return Refusal(replies.size_exceeded(self._context.message_size), problem.value)
        return Refusal(_PROBLEMS[problem], problem.value)

    def _check(self, end: BodyEnd) -> Refusal | None:
        refusal = self._refuse(end.problem)
        if refusal is not None:
            return refusal
        assert self._draft is not None
        head = self._draft.head
        # RFC 5321 §6.3
        if HeaderBlock(head).count(b"received") > self._context.config.delivery.max_hops:
            return Refusal(replies.TOO_MANY_HOPS, "loop")
        return None

    async def _examine(self) -> Refusal | None:
        """What follows from what the message claims to be."""
        if self._examination is None:
            return None
        try:
            refusal = await self._examination.judge(self._envelope(self._expansion().recipients))
            if refusal is None and self._examination.is_suspect:
                self._quarantine()
            return refusal
        except Exception as error:  # a bug with this one message; nothing was given to the spool
            services = self._context.services
            services.report_crash(
                "examination", error, session=self._origin.session, message=self.message or ""
            )
            return Refusal(replies.LOCAL_ERROR, "internal error")

    def _quarantine(self) -> None:
        """Let another mailbox or another next hop have it, where the configuration names one. Strangers hear
        nothing of it."""
        self._quarantined = True
        text = self._context.config.policy.quarantine_mailbox
        if text is None:
            if self._context.services.router.quarantine_name is not None:
                self._recipients = {
                    mailbox: Recipient(mailbox, DsnOptions(Notify.NEVER), each.sender)
                    for mailbox, each in self._recipients.items()
                }
            return
        self._meant_for = self._recipient_texts()
        mailbox = parse_mailbox(text, utf8=True)
        self._recipients = {mailbox: Recipient(mailbox, DsnOptions(Notify.NEVER))}
        self._originals = {}

    def _quarantine_fields(self) -> bytes:
        return b"".join(f"X-Elemta-Recipient: {each}\r\n".encode() for each in self._meant_for)

    async def _commit(self) -> Refusal | None:
        context, draft, message = self._context, self._draft, self.message
        assert draft is not None
        assert message is not None
        services = context.services
        try:
            expansion = self._expansion()
            envelope = self._envelope(expansion.recipients)
            prefix = self._trace(envelope, message)
            if self._mends:
                config, now = context.config, services.clock.time()
                prefix += missing_fields(draft.head, message, config.hostname, now)
            if self._examination is not None:
                prefix = await self._examination.fields(draft.head, prefix, envelope) + prefix
            prefix += self._quarantine_fields()
            accepted = self._accepted_event(draft, len(prefix), message)
            notices = self._notices(expansion, envelope, message, prefix)
            judged = None if self._judge is None else self._judge.hold(message, self.recipients)
            head = draft.head if self._asks is not None else b""
        except Exception as error:  # a bug with this one message; nothing was given to the spool
            services.report_crash("transaction", error, session=self._origin.session, message=message)
            return Refusal(replies.LOCAL_ERROR, "internal error")
        try:
            with services.bus.spans.measure("commit", session=self._origin.session):
                await services.spool.commit(
                    draft,
                    message=message,
                    envelope=envelope,
                    origin=self._origin,
                    prefix=prefix,
                    hold=self._hold or judged,
                    notices=notices,
                )
        except SpoolFull:
            return Refusal(replies.STORAGE_FULL, "storage full")
        except SpoolUnavailable as cause:
            raise CommitFailed from cause
        except SpoolError as error:  # this one message cannot be stored, and is not
            services.report_crash("commit", error, session=self._origin.session, message=message)
            return Refusal(replies.LOCAL_ERROR, "internal error")
        except Exception as cause:
            # Nothing that the spool promises, so nothing is known of what it did.
            services.report_crash("commit", cause, session=self._origin.session, message=message)
            raise CommitFailed from cause
        self._draft = None
        self.size = accepted.size
        services.bus.publish(accepted)
        for notice in notices:
            services.bus.publish(self._notice_event(notice, message))
        if self._asks is not None:
            self._asks.stored(self.envelope_view(), head, accepted.size, message)
        return None

    def _expansion(self) -> Expansion:
        services = self._context.services
        router, mailbox, now = services.router, self.sender.mailbox, services.clock.time()

        def behind(recipient: Mailbox) -> tuple[Mailbox, ...]:
            original = self._originals.get(recipient)
            if original is not None:
                return (original,)
            found = self._found.get(recipient)
            return router.expand(recipient) if found is None else found.behind

        if mailbox is None:
            return expand(self._recipients.items(), behind)
        keep = None if services.kept_senders is None else services.kept_senders.keep
        return expand(
            self._recipients.items(),
            behind,
            lambda target: router.forward_sender(mailbox, target, now, keep),
            added=self._added,
        )

    def _envelope(self, recipients: tuple[Recipient, ...]) -> Envelope:
        params, promises = self._params, self._promises
        return Envelope(
            self.sender,
            recipients,
            params.body_type or BodyType.SEVEN_BIT,
            params.smtputf8,
            params.ret,
            params.envelope_id,
            params.require_tls,
            self._priority,
            promises.deliver_by,
            promises.release_at,
            self._tags,
            self._deeds,
            promises.hold_request,
            self._quarantined,
        )

    def _notices(
        self, expansion: Expansion, envelope: Envelope, message: MessageId, prefix: bytes
    ) -> tuple[NewMessage, ...]:
        """What the sender wants to know now already."""
        if not expansion.expanded:
            return ()
        assert self._draft is not None
        services, notary = self._context.services, self._context.services.notary
        notice = expanded_notice(
            expansion,
            envelope,
            hostname=self._context.config.hostname,
            notice=MessageId(services.make_id()),
            original=message,
            header=prefix + self._draft.head,
            now=services.clock.time(),
            sign=(lambda _: b"") if notary is None else notary.sign_own,
        )
        return () if notice is None else (notice,)

    def _notice_event(self, notice: NewMessage, message: MessageId) -> NoticeQueued:
        return NoticeQueued(
            time=notice.received,
            message=notice.id,
            about=message,
            recipient=self.sender_text(),
            action=Action.EXPANDED,
        )

    def _trace(self, envelope: Envelope, message: MessageId) -> bytes:
        """What is put before the message. Its own Return-Path fields stay: removing them is for final
        delivery (RFC 5321 §4.4)."""
        context = self._context
        recipients = tuple(self._recipients)  # as the client said it: who stands behind an alias is not shown
        return received(
            self._origin,
            hostname=context.config.hostname,
            message=message,
            recipient=recipients[0] if len(recipients) == 1 else None,
            time=context.services.clock.time(),
            smtputf8=envelope.smtputf8,
            priority=envelope.priority if self._params.priority is not None else None,
        )

    def _accepted_event(self, draft: Draft, prefix: int, message: MessageId) -> MessageAccepted:
        origin = self._origin
        field = HeaderBlock(draft.head).find(b"message-id")
        message_id = field.value[:_MAX_MESSAGE_ID].decode("utf-8", "replace") if field else ""
        return MessageAccepted(
            time=self._context.services.clock.time(),
            session=origin.session,
            message=message,
            sender=self.sender_text(),
            recipients=self._recipient_texts(),
            size=draft.size + prefix,
            peer=origin.peer,
            protocol=origin.protocol,
            message_id_header=message_id,
            traceparent=origin.traceparent,
        )

    # --- The end ------------------------------------------------------------------------------------

    def discard(self, reason: str) -> None:
        """Forget everything; a body that was begun counts as rejected, for this reason."""
        if self._draft is not None:
            self._reject(None, reason)

    def _reject(self, reply: Reply | None, reason: str) -> None:
        assert self._draft is not None
        self._draft.discard()
        self._draft = None
        services = self._context.services
        services.bus.publish(
            MessageRejected(
                time=services.clock.time(),
                session=self._origin.session,
                sender=self.sender_text(),
                recipients=self._recipient_texts(),
                reply=str(reply) if reply else "",
                reason=reason,
            )
        )

    def sender_text(self) -> str:
        """As events show it: without brackets, except `<>`."""
        mailbox = self.sender.mailbox
        return "<>" if mailbox is None else str(mailbox)

    def _recipient_texts(self) -> tuple[str, ...]:
        return tuple([str(mailbox) for mailbox in self._recipients])
