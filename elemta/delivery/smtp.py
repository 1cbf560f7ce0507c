"""Open SMTP sessions: greeting, hello, STARTTLS as the route wants it."""

from __future__ import annotations

import ipaddress
from typing import ClassVar, NoReturn

import attrs
import trio

from elemta.config import RouteTls
from elemta.mail import Cause, Deferred, Reply, Severity, TlsFacts, replies
from elemta.routing import Route
from elemta.smtp import Ehlo, Helo, Lhlo, RemoteProtocolError, StartTls
from elemta.tls import TlsFailed, TlsTrouble, peer_certificates, start_tls

from .connect import Target, TargetFailed, connect_first, dial
from .connection import SmtpConnection
from .context import DeliveryContext
from .dane import disproof
from .login import Login, LoginFailed, log_in
from .security import MAX_REASON
from .tls_results import Failure, TlsResult
from .transport import Transport
from .wire import PeerGone, Wire

LOGIN_FAILED = Reply.of(451, "4.7.8", "the destination does not let us log in")
"""RFC 4954 §6 has 5.7.8 for the credentials; to the sender it is for now."""
SESSION_REFUSED = "the destination refuses the session: "
"""For a 5yz greeting or hello (see `connect.sum_up`); its own words, which say why, stand behind."""

_RESULTS = {
    TlsTrouble.HANDSHAKE: TlsResult.VALIDATION_FAILURE,
    TlsTrouble.NAME: TlsResult.HOST_MISMATCH,
    TlsTrouble.DATE: TlsResult.EXPIRED,
    TlsTrouble.ISSUER: TlsResult.NOT_TRUSTED,
}


class _TlsBroken(Exception):
    """STARTTLS was begun and led nowhere; the stream is of no more use."""

    def __init__(self, failure: TargetFailed, trouble: TlsTrouble) -> None:
        super().__init__(str(failure))
        self.failure = failure
        self.trouble = trouble


class SmtpTransport(Transport):
    """Sessions with the hosts of one route."""

    lmtp: ClassVar[bool] = False

    def __init__(self, route: Route, context: DeliveryContext) -> None:
        self._route = route
        self._context = context

    async def connect(self) -> SmtpConnection:
        return await self.connect_elsewhere(frozenset())

    async def connect_elsewhere(self, tried: frozenset[str]) -> SmtpConnection:
        found = await connect_first(self._route, self._context, self._open, tried=tried, course=self.course)
        connection = found.session
        connection.tried, connection.has_others = found.tried, found.has_others
        return connection

    async def _open(self, target: Target, stream: trio.abc.Stream) -> SmtpConnection:
        level = target.security.level
        if level is RouteTls.NONE:
            return await self._session(target, stream, try_tls=False)
        try:
            return await self._session(target, stream, try_tls=True)
        except _TlsBroken as broken:
            if level is not RouteTls.OPPORTUNISTIC and not target.security.tentative:
                raise broken.failure from broken
        if target.security.tentative:
            # It is counted; on a new connection all goes as if there were no policy.
            terms = attrs.evolve(target.security, tentative=False, used=None)
            again = attrs.evolve(target, security=terms)
            return await self._open(again, await self._dial(again))
        # RFC 7435 §3: what fails opportunistically is done without; TLS cannot be taken back on that stream
        return await self._session(target, await self._dial(target), try_tls=False)

    async def _dial(self, target: Target) -> trio.abc.Stream:
        if self.course is not None:
            self.course.enter("connect")
        return await dial(target, self._context)

    async def _session(self, target: Target, stream: trio.abc.Stream, *, try_tls: bool) -> SmtpConnection:
        wire = Wire(stream, self._context.timeouts, lmtp=self.lmtp, course=self.course)
        try:
            tls = await self._start(wire, target, try_tls=try_tls)
        except BaseException as error:
            failure = error.failure if isinstance(error, _TlsBroken) else error
            if isinstance(failure, TargetFailed):
                failure.story = wire.transcript.all()
            await wire.aclose()
            if try_tls:
                self._count_failure(target, error)
            raise
        if try_tls:
            self._count(target, tls)
        return SmtpConnection(
            wire,
            str(target),
            lmtp=self.lmtp,
            tls=tls,
            clock=self._context.clock,
            authentic=target.security.authentic,
            host=target.host,
            hosts=self._context.hosts,
        )

    def _count(self, target: Target, tls: TlsFacts | None) -> None:
        results, used = self._context.tls_results, target.security.used
        if results is None or used is None:
            return
        if tls is not None:
            results.success(used)
        else:
            failure = Failure(TlsResult.STARTTLS_NOT_SUPPORTED, target.host, target.address)
            results.failure(used, failure)

    def _count_failure(self, target: Target, error: BaseException) -> None:
        results, used = self._context.tls_results, target.security.used
        if results is None or used is None:
            return
        if isinstance(error, _TlsBroken):
            reason = error.failure.outcome.detail[:MAX_REASON]
            failure = Failure(_RESULTS[error.trouble], target.host, target.address, reason)
            results.failure(used, failure)
        elif isinstance(error, TargetFailed) and error.outcome.cause is Cause.TLS_NOT_OFFERED:
            self._count(target, None)

    async def _start(self, wire: Wire, target: Target, *, try_tls: bool) -> TlsFacts | None:
        """Go as far as the first MAIL; what the remote does wrong becomes TargetFailed or _TlsBroken."""
        trouble = TlsTrouble.HANDSHAKE
        with wire.converse("greeting", wire.timeouts.greeting) as scope:
            try:
                facts = await self._talk(wire, target, try_tls=try_tls)
                await self._log_in(wire, target, facts)
                wire.end()
                return facts
            except TargetFailed:
                raise
            except PeerGone as gone:
                if gone.reply is not None and wire.phase != "starttls":
                    _refused(target, gone.reply)
                failure = _failed(target, Cause.CONNECTION_LOST, replies.CONNECTION_LOST, f"{gone}", wire)
            except RemoteProtocolError as error:
                failure = _failed(target, Cause.PROTOCOL, replies.REMOTE_PROTOCOL, f"{error}", wire)
            except TlsFailed as error:
                trouble = error.trouble
                cause = Cause.CERTIFICATE if error.certificate else Cause.TLS
                failure = _failed(target, cause, replies.TLS_FAILED, error.reason, wire)
            except BaseException:
                wire.broken = True
                raise
        wire.broken = True
        if scope.cancelled_caught:
            failure = _failed(target, Cause.TIMEOUT, replies.REMOTE_TIMEOUT, "no answer", wire)
        lost = wire.phase == "hello" and failure.outcome.cause is Cause.CONNECTION_LOST
        if lost and isinstance(wire.stream, trio.SSLStream):
            # RFC 8446 §4.4.2.4: with TLS 1.3 our side is finished when a server refuses what it does not like
            # of us, so its alert comes where the answer to EHLO should be.
            raise _TlsBroken(failure, trouble)
        if wire.phase == "starttls":
            cause = failure.outcome.cause if failure.outcome.cause is Cause.CERTIFICATE else Cause.TLS
            outcome = Deferred(cause, replies.TLS_FAILED, str(target), detail=failure.outcome.detail)
            raise _TlsBroken(TargetFailed(outcome), trouble)
        raise failure

    async def _talk(self, wire: Wire, target: Target, *, try_tls: bool) -> TlsFacts | None:
        greeting = await wire.reply()
        if greeting.severity is not Severity.POSITIVE:
            _refused(target, greeting)
        await self._say_hello(wire, target)
        if not try_tls:
            return None
        facts = await self._start_tls(wire, target)
        if facts is not None:
            await self._say_hello(wire, target)  # RFC 3207 §4.2
        return facts

    async def _log_in(self, wire: Wire, target: Target, tls: TlsFacts | None) -> None:
        route = self._route
        if route.username is None or route.password_file is None:
            return
        login = Login(route.username, route.password_file)
        may_be_seen = tls is not None or ipaddress.ip_address(target.address).is_loopback
        try:
            await log_in(wire, login, self._context.pools, secret_may_be_seen=may_be_seen)
        except LoginFailed as failure:
            # Whatever is wrong with the account is our operator's to mend; mail waits for it.
            outcome = Deferred(Cause.LOGIN, LOGIN_FAILED, str(target), detail=f"login failed: {failure}")
            raise TargetFailed(outcome) from failure

    async def _say_hello(self, wire: Wire, target: Target) -> None:
        departure = target.departure
        hostname = (departure and departure.origin.hello) or self._context.hostname
        wire.begin("hello", wire.timeouts.hello)
        reply = await wire.ask(Lhlo(hostname) if self.lmtp else Ehlo(hostname))
        if reply.severity is Severity.PERMANENT and not self.lmtp:
            wire.begin("hello", wire.timeouts.hello)
            reply = await wire.ask(Helo(hostname))  # RFC 5321 §3.2, §4.1.4
        if reply.severity is not Severity.POSITIVE:
            _refused(target, reply)

    async def _start_tls(self, wire: Wire, target: Target) -> TlsFacts | None:
        security = target.security
        must = security.level is not RouteTls.OPPORTUNISTIC
        if not wire.machine.capabilities.starttls:
            if must:
                detail = "STARTTLS is not offered"
                raise _failed(target, Cause.TLS_NOT_OFFERED, replies.TLS_FAILED, detail)
            return None
        wire.begin("starttls", wire.timeouts.starttls)
        reply = await wire.ask(StartTls())
        if reply.severity is not Severity.POSITIVE:
            if must:
                raise _failed(target, Cause.TLS_NOT_OFFERED, replies.TLS_FAILED, f"STARTTLS: {reply}")
            return None  # RFC 3207 §4: 454; the session goes on in plain text
        context = self._context.tls.client(security.level is RouteTls.VERIFIED or security.tentative)
        name = security.server_name
        stream, facts = await start_tls(wire.stream, context, server_side=False, hostname=name)
        wire.stream = stream
        if security.rules:
            shown = peer_certificates(stream)
            reason = disproof(shown, security.rules, security.names, self._context.clock.time())
            if reason is not None:
                raise TlsFailed(f"DANE: {reason}", certificate=True)
            facts = attrs.evolve(facts, verified=True)
        wire.machine.tls_started()
        return facts


def _refused(target: Target, reply: Reply) -> NoReturn:
    """The target will not talk to us: try the next one (RFC 5321 §5.1)."""
    detail = str(reply)
    if reply.severity is Severity.TRANSIENT:
        outcome = Deferred(Cause.REMOTE_REPLY, reply, str(target), from_remote=True, detail=detail)
        raise TargetFailed(outcome)
    # RFC 3463 §3.4: not accepting network messages
    ours = Reply.of(451, "4.3.2", SESSION_REFUSED + detail)
    outcome = Deferred(Cause.REMOTE_REPLY, ours, str(target), detail=detail)
    raise TargetFailed(outcome, never=reply if reply.code == 521 else None)  # RFC 7504 §3


def _failed(
    target: Target, cause: Cause, reply: Reply, reason: str, wire: Wire | None = None
) -> TargetFailed:
    detail = reason if wire is None else f"{reason} in {wire.phase}"
    return TargetFailed(Deferred(cause, reply, str(target), detail=detail))
