"""What the client has said so far in its session, and how each command is answered. No I/O, no waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from elemta import smtp
from elemta.config import ListenerRole
from elemta.events import CommandRejected
from elemta.mail import Identity, Origin, Reply, ReversePath, SessionId, TlsFacts, replies
from elemta.plugin import HookArguments, SessionView
from elemta.spool import SpoolFull, SpoolUnavailable

from .body_panel import BodyPanel
from .context import SessionContext
from .deadlines import Deadlines
from .forwarding import read_forwarded
from .promises import NO_PROMISES, has_requests, take_promises
from .relay import is_incomplete, may_send
from .transaction import Transaction
from .verify import verify
from .visitor import Visitor


class Dialogue:
    """Answers commands, opens and drops transactions, and counts what tries our patience."""

    __slots__ = (
        "_connection",
        "_context",
        "_deadlines",
        "_hello",
        "_junk",
        "_origin",
        "_protocol",
        "_session",
        "cause",
        "commands",
        "errors",
        "messages",
        "reason",
        "transaction",
        "visitor",
    )

    def __init__(
        self,
        context: SessionContext,
        connection: smtp.ServerConnection,
        deadlines: Deadlines,
        session: SessionId,
        visitor: Visitor,
    ) -> None:
        self._context = context
        self._connection = connection
        self._deadlines = deadlines
        self._session = session
        self.visitor = visitor
        """Who says all this."""
        self._hello = ""
        self._protocol = ""
        self._origin: Origin | None = None
        """As messages keep it; None after each change of what it is made of."""
        self._junk = 0
        self.transaction: Transaction | None = None
        """The one that is open."""
        self.cause = ""
        """Why the session ends, once an answer ends it."""
        self.reason = ""
        """Why the next refusal is one, for the operator, where its reply does not say it."""
        self.commands = 0
        self.errors = 0
        self.messages = 0
        """Those that were accepted."""

    @property
    def hello(self) -> str:
        """What the client called itself."""
        return self._hello

    @property
    def draining(self) -> bool:
        """Whether the server stops, so that the next command is answered 421."""
        return self._context.services.drain.draining

    # --- Answers ----------------------------------------------------------------------------------------

    def answer(self, command: smtp.Command | smtp.BadCommand) -> Reply:
        """What to reply; what the reply promises has been done. Refusals still go through `refuse`."""
        self.commands += 1
        kind = type(command)
        if self._context.services.drain.draining and kind is not smtp.Quit:
            self.cause = "drain"
            return replies.SHUTTING_DOWN
        return _ANSWERS[kind](self, command)

    def refuse(self, command: smtp.Command | smtp.BadCommand, reply: Reply) -> Reply:
        """Tell and count a refusal; the reply to give, which may be the last one."""
        recipient = str(command.path)[1:-1] if type(command) is smtp.Rcpt else ""
        self.tell_rejected(command.verb, reply, recipient)
        # 4yz is not held against the client: it is our doing.
        if reply.code >= 500:
            self.errors += 1
            if self.errors > self._context.config.limits.errors:
                reply = replies.TOO_MANY_ERRORS
        if reply.code == 421:
            self.cause = self.cause or "errors"
        return reply

    def is_held_back(self, reply: Reply) -> bool:
        """Whether the client has made so many errors that this reply should keep it waiting."""
        return reply.code >= 500 and self.errors >= self._context.config.limits.soft_errors

    def reset(self, reason: str) -> None:
        """Drop the transaction that is open."""
        transaction, self.transaction = self.transaction, None
        self._deadlines.end_transaction()
        if transaction is not None:
            transaction.discard(reason)

    def tell_rejected(self, verb: str, reply: Reply, recipient: str = "") -> None:
        """Publish that a command was refused."""
        services = self._context.services
        reason, self.reason = self.reason, ""
        services.bus.publish(
            CommandRejected(
                time=services.clock.time(),
                session=self._session,
                verb=verb,
                reply=str(reply),
                sender=self.transaction.sender_text() if self.transaction else "",
                recipient=recipient,
                reason=reason,
            )
        )

    # --- For plugins ------------------------------------------------------------------------------------

    def session_view(self, hello: str | None = None) -> SessionView:
        """The session as plugins see it now."""
        visitor, listener = self.visitor, self._context.listener
        return SessionView(
            id=self._session,
            listener=listener.name,
            role=listener.role.value,
            peer=visitor.peer,
            port=visitor.port,
            hello=self._hello if hello is None else hello,
            tls=visitor.tls,
            identity=visitor.identity,
            trusted=visitor.trusted,
        )

    def arguments(self) -> HookArguments:
        """What hooks are given: the session, and the envelope where one is open."""
        transaction = self.transaction
        envelope = None if transaction is None else transaction.envelope_view()
        return HookArguments(session=self.session_view(), envelope=envelope)

    # --- What happened outside --------------------------------------------------------------------------

    def message_accepted(self) -> None:
        """Count it. Who sends mail may also say NOOP and RSET again."""
        self.messages += 1
        self._junk = 0

    def tls_started(self, facts: TlsFacts) -> None:
        """Forget everything that was said in clear text (RFC 3207 §4.2)."""
        self.reset("tls")
        self._hello = self._protocol = ""
        self._origin = None
        self.visitor.tls_started(facts)

    def authenticated(self, identity: Identity, credential: str) -> None:
        """The client has proved who it is (RFC 4954)."""
        self._origin = None
        self.visitor.authenticated(identity, credential)

    # --- Each command -----------------------------------------------------------------------------------

    def _bad(self, command: smtp.BadCommand) -> Reply:
        reply = command.reply
        if (
            command.verb == smtp.Verb.AUTH
            and reply is replies.NOT_IMPLEMENTED
            and self._context.authenticator is not None
            and not self._connection.capabilities.auth
            and self.visitor.tls is None
        ):
            return replies.AUTH_NEEDS_TLS  # RFC 4954 §4: else a client would look for accounts elsewhere
        return reply

    def _say_hello(self, command: smtp.Ehlo | smtp.Helo | smtp.Lhlo) -> Reply:
        if self._hello:
            refusal = self._junk_command()
            if refusal is not None:
                return refusal
        self.reset("hello")  # RFC 5321 §4.1.4
        self._hello = command.hello
        kind = type(command)
        # RFC 3848, RFC 2033
        self._protocol = "LMTP" if kind is smtp.Lhlo else "ESMTP" if kind is smtp.Ehlo else "SMTP"
        self._origin = None
        hostname = self._context.config.hostname
        if kind is smtp.Helo:
            return replies.hello(hostname)
        return replies.hello(*self._connection.capabilities.lines(hostname))

    def _mail(self, command: smtp.Mail) -> Reply:
        context = self._context
        services = context.services
        limits = context.config.limits
        params = command.params
        may_relay = self.visitor.may_relay
        refusal = self._may_send(command.path)
        if refusal is not None:
            return refusal
        if self.messages >= limits.messages_per_session:
            self.cause = "limit"
            return replies.TOO_MANY_TRANSACTIONS
        if services.load is not None:
            overload = services.load.overload()
            if overload:
                return replies.overloaded_now(overload)
        size = params.size or 0
        if 0 < context.message_size < size:
            return replies.size_exceeded(context.message_size)  # RFC 1870 §6.1
        promises = NO_PROMISES
        if has_requests(params):
            taken = take_promises(
                params,
                now=services.clock.time(),
                longest_hold=context.longest_hold,
                may_submit=may_relay,
            )
            if isinstance(taken, Reply):
                return taken
            promises = taken
        try:
            services.spool.check_room(size)
        except SpoolFull:
            return replies.STORAGE_FULL
        except SpoolUnavailable:
            self.cause = "storage"
            return replies.INTERNAL_ERROR
        origin = self._make_origin(utf8=params.smtputf8)
        self.transaction = Transaction(
            context,
            origin,
            command.path,
            params,
            promises,
            may_relay=may_relay,
            judge=self.visitor.judge,
            asks=self._asks(),
        )
        self._deadlines.begin_transaction(context.config.timeouts.transaction)
        if promises.priority != (params.priority or 0):
            return replies.priority_changed(promises.priority)
        return replies.SENDER_OK

    def _asks(self) -> BodyPanel | None:
        """What asks plugins about the message of the transaction that begins."""
        panel = self.visitor.panel
        return None if panel is None else BodyPanel(panel, self.session_view())

    def _may_send(self, path: ReversePath) -> Reply | None:
        """Whether this client may send mail, and in this name."""
        context = self._context
        listener = context.listener
        identity = self.visitor.identity
        refusal = may_send(
            trusted=self.visitor.trusted,
            authenticated=identity is not None,
            role=listener.role,
            auth=listener.auth,
        )
        if refusal is not None:
            offered = self._connection.capabilities
            # RFC 3207 §4: what has to come first, where nobody can log in before it
            return replies.STARTTLS_REQUIRED if offered.starttls and not offered.auth else refusal
        mailbox = path.mailbox
        if mailbox is None:  # notices have no sender, also those that a user's program makes
            return None
        if identity is not None:
            authenticator = context.authenticator
            # Without one the account is another server's word (XCLIENT)
            if authenticator is not None and not authenticator.may_send_as(identity, mailbox):
                return replies.SENDER_NOT_OWNED  # RFC 6409 §6.1
        if listener.role is ListenerRole.SUBMISSION and is_incomplete(mailbox, context.services.router):
            return replies.SENDER_DOMAIN_INCOMPLETE  # RFC 6409 §4.2
        return None

    def _make_origin(self, *, utf8: bool) -> Origin:
        origin = self._origin
        if origin is None:
            origin = self._origin = self.visitor.origin(self._hello, self._protocol)
        if utf8:  # RFC 6531 §4.3: UTF8SMTP, UTF8SMTPS, UTF8LMTP, UTF8LMTPS …
            return attrs.evolve(origin, protocol="UTF8" + origin.protocol.removeprefix("E"))
        return origin

    def _rcpt(self, command: smtp.Rcpt) -> Reply:
        assert self.transaction is not None
        mailbox = command.path.mailbox
        context = self._context
        if (
            mailbox is not None
            and context.listener.role is ListenerRole.SUBMISSION
            and is_incomplete(mailbox, context.services.router)
        ):
            return replies.RECIPIENT_DOMAIN_INCOMPLETE  # RFC 6409 §4.2
        return self.transaction.add_recipient(command.path, command.params)

    def _data(self, command: smtp.Data) -> Reply:
        assert self.transaction is not None
        try:
            return self.transaction.begin_body()
        except SpoolUnavailable:
            self.cause = "storage"
            return replies.INTERNAL_ERROR  # 421: nothing was begun, so it may be said

    def _bdat(self, command: smtp.Bdat) -> Reply:
        if 0 < self._context.message_size < command.size:
            return replies.size_exceeded(self._context.message_size)  # RFC 1870 §6.3
        return self._data(smtp.Data())

    def _rset(self, command: smtp.Rset) -> Reply:
        self.reset("rset")
        return self._junk_command() or replies.RESET_OK

    def _noop(self, command: smtp.Noop) -> Reply:
        return self._junk_command() or replies.NOOP_OK

    def _vrfy(self, command: smtp.Vrfy) -> Reply:
        refusal = self._junk_command()
        if refusal is not None:
            return refusal
        if not (self._context.listener.vrfy and self.visitor.may_relay):
            return replies.CANNOT_VERIFY
        return verify(self._context.services.router, command.argument, utf8=command.smtputf8)

    def _help(self, command: smtp.Help) -> Reply:
        return self._junk_command() or replies.HELP

    def _quit(self, command: smtp.Quit) -> Reply:
        self.cause = self.cause or "quit"
        return replies.CLOSING

    def _starttls(self, command: smtp.StartTls) -> Reply:
        if not self._context.services.has_certificate:  # it went away by a reload
            return replies.TLS_NOT_AVAILABLE
        return replies.TLS_READY

    def _auth(self, command: smtp.Auth | smtp.AuthResponse) -> Reply:
        """The session takes the step, which may wait."""
        return AUTH_STEP

    def _xclient(self, command: smtp.Xclient) -> Reply:
        said = read_forwarded(command.attributes)
        if said is None:
            return replies.BAD_PARAMETER_VALUE
        self._hello = self._protocol = ""
        self._origin = None
        self.visitor.become(said)
        return replies.banner(self._context.config.hostname, lmtp=self._context.lmtp)

    def _xforward(self, command: smtp.Xforward) -> Reply:
        said = read_forwarded(command.attributes)
        if said is None:
            return replies.BAD_PARAMETER_VALUE
        self.visitor.tell_forwarded("xforward", said)
        return replies.FORWARDED

    def _junk_command(self) -> Reply | None:
        self._junk += 1
        return replies.TOO_MANY_ERRORS if self._junk > self._context.config.limits.junk_commands else None


AUTH_STEP = Reply.of(334, None)
"""Stands for the answer to AUTH, which is another one each time."""

_ANSWERS: dict[type, Callable[[Dialogue, Any], Reply]] = {  # Any: each takes its own command
    smtp.BadCommand: Dialogue._bad,
    smtp.Ehlo: Dialogue._say_hello,
    smtp.Helo: Dialogue._say_hello,
    smtp.Lhlo: Dialogue._say_hello,
    smtp.Mail: Dialogue._mail,
    smtp.Rcpt: Dialogue._rcpt,
    smtp.Data: Dialogue._data,
    smtp.Bdat: Dialogue._bdat,
    smtp.Rset: Dialogue._rset,
    smtp.Noop: Dialogue._noop,
    smtp.Quit: Dialogue._quit,
    smtp.Vrfy: Dialogue._vrfy,
    smtp.Help: Dialogue._help,
    smtp.StartTls: Dialogue._starttls,
    smtp.Auth: Dialogue._auth,
    smtp.AuthResponse: Dialogue._auth,
    smtp.Xclient: Dialogue._xclient,
    smtp.Xforward: Dialogue._xforward,
}
"""EXPN and ETRN are missing because they are not offered: the machine makes a BadCommand of them."""
