"""What the client has said so far in its session, and how each command is answered. No I/O, no waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from elemta import smtp
from elemta.events import CommandRejected
from elemta.mail import Origin, Reply, SessionId, TlsFacts, replies
from elemta.spool import SpoolFull, SpoolUnavailable

from .context import SessionContext
from .deadlines import Deadlines
from .relay import is_trusted, may_send
from .transaction import Transaction


class Dialogue:
    """Answers commands, opens and drops transactions, and counts what tries our patience."""

    __slots__ = (
        "_connection",
        "_context",
        "_deadlines",
        "_hello",
        "_junk",
        "_origin",
        "_peer",
        "_port",
        "_protocol",
        "_session",
        "_trusted",
        "cause",
        "commands",
        "errors",
        "messages",
        "tls",
        "transaction",
    )

    def __init__(
        self,
        context: SessionContext,
        connection: smtp.ServerConnection,
        deadlines: Deadlines,
        session: SessionId,
        peer: str,
        port: int,
    ) -> None:
        self._context = context
        self._connection = connection
        self._deadlines = deadlines
        self._session = session
        self._peer = peer
        self._port = port
        self._trusted = is_trusted(peer, context.config.relay.networks)
        self._hello = ""
        self._protocol = ""
        self._origin: Origin | None = None
        self._junk = 0
        self.transaction: Transaction | None = None
        """The one that is open."""
        self.tls: TlsFacts | None = None
        self.cause = ""
        """Why the session ends, once an answer ends it."""
        self.commands = 0
        self.errors = 0
        self.messages = 0
        """Those that were accepted."""

    def answer(self, command: smtp.Command | smtp.BadCommand) -> Reply:
        """What to reply; what the reply promises has been done."""
        self.commands += 1
        kind = type(command)
        if self._context.services.drain.draining and kind is not smtp.Quit:
            self.cause = "drain"
            reply = replies.SHUTTING_DOWN
        else:
            reply = _ANSWERS[kind](self, command)
        if reply.code < 400:
            return reply
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

    def message_accepted(self) -> None:
        """Count it. Who sends mail may also say NOOP and RSET again."""
        self.messages += 1
        self._junk = 0

    def tls_started(self, facts: TlsFacts) -> None:
        """Forget everything that was said in clear text (RFC 3207 §4.2)."""
        self.reset("tls")
        self.tls = facts
        self._hello = self._protocol = ""
        self._origin = None

    def tell_rejected(self, verb: str, reply: Reply, recipient: str = "") -> None:
        """Publish that a command was refused."""
        services = self._context.services
        services.bus.publish(
            CommandRejected(
                time=services.clock.time(),
                session=self._session,
                verb=verb,
                reply=str(reply),
                sender=self.transaction.sender_text() if self.transaction else "",
                recipient=recipient,
            )
        )

    # --- Each command -----------------------------------------------------------------------------------

    def _bad(self, command: smtp.BadCommand) -> Reply:
        return command.reply

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
        limits = context.config.limits
        listener = context.listener
        refusal = may_send(trusted=self._trusted, role=listener.role, auth=listener.auth)
        if refusal is not None:
            return refusal
        if self.messages >= limits.messages_per_session:
            self.cause = "limit"
            return replies.TOO_MANY_TRANSACTIONS
        size = command.params.size or 0
        if 0 < limits.message_size < size:
            return replies.size_exceeded(limits.message_size)  # RFC 1870 §6.1
        try:
            context.services.spool.check_room(size)
        except SpoolFull:
            return replies.STORAGE_FULL
        except SpoolUnavailable:
            self.cause = "storage"
            return replies.INTERNAL_ERROR
        origin = self._make_origin(utf8=command.params.smtputf8)
        self.transaction = Transaction(context, origin, command.path, command.params, trusted=self._trusted)
        self._deadlines.begin_transaction(context.config.timeouts.transaction)
        return replies.SENDER_OK

    def _make_origin(self, *, utf8: bool) -> Origin:
        origin = self._origin
        if origin is None:
            origin = self._origin = Origin(
                session=self._session,
                peer=self._peer,
                port=self._port,
                hello=self._hello,
                protocol=self._protocol + ("S" if self.tls and self._protocol != "SMTP" else ""),
                listener=self._context.listener.name,
                tls=self.tls,
            )
        if utf8:  # RFC 6531 §4.3: UTF8SMTP, UTF8SMTPS, UTF8LMTP, UTF8LMTPS
            return attrs.evolve(origin, protocol="UTF8" + origin.protocol.removeprefix("E"))
        return origin

    def _rcpt(self, command: smtp.Rcpt) -> Reply:
        assert self.transaction is not None
        return self.transaction.add_recipient(command.path, command.params)

    def _data(self, command: smtp.Data) -> Reply:
        assert self.transaction is not None
        try:
            return self.transaction.begin_body()
        except SpoolUnavailable:
            self.cause = "storage"
            return replies.INTERNAL_ERROR  # 421: nothing was begun, so it may be said

    def _rset(self, command: smtp.Rset) -> Reply:
        self.reset("rset")
        return self._junk_command() or replies.RESET_OK

    def _noop(self, command: smtp.Noop) -> Reply:
        return self._junk_command() or replies.NOOP_OK

    def _vrfy(self, command: smtp.Vrfy) -> Reply:
        return self._junk_command() or replies.CANNOT_VERIFY

    def _help(self, command: smtp.Help) -> Reply:
        return self._junk_command() or replies.HELP

    def _quit(self, command: smtp.Quit) -> Reply:
        self.cause = "quit"
        return replies.CLOSING

    def _starttls(self, command: smtp.StartTls) -> Reply:
        contexts = self._context.services.tls
        if contexts is None or contexts.server is None:  # the certificate went away by a reload
            return replies.TLS_NOT_AVAILABLE
        return replies.TLS_READY

    def _junk_command(self) -> Reply | None:
        self._junk += 1
        return replies.TOO_MANY_ERRORS if self._junk > self._context.config.limits.junk_commands else None


_ANSWERS: dict[type, Callable[[Dialogue, Any], Reply]] = {  # Any: each takes its own command
    smtp.BadCommand: Dialogue._bad,
    smtp.Ehlo: Dialogue._say_hello,
    smtp.Helo: Dialogue._say_hello,
    smtp.Lhlo: Dialogue._say_hello,
    smtp.Mail: Dialogue._mail,
    smtp.Rcpt: Dialogue._rcpt,
    smtp.Data: Dialogue._data,
    smtp.Rset: Dialogue._rset,
    smtp.Noop: Dialogue._noop,
    smtp.Quit: Dialogue._quit,
    smtp.Vrfy: Dialogue._vrfy,
    smtp.Help: Dialogue._help,
    smtp.StartTls: Dialogue._starttls,
}
"""EXPN, ETRN and AUTH are missing because they are not offered: the machine makes a BadCommand of them."""
