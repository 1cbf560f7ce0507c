"""One message under examination: what is taken out of its header, found out about it, and put before it.

Theory of operation. The body passes through in pieces and is hashed on its way; only the header is kept back
until it is whole, so that fields which claim to be results of ours never reach the draft (RFC 8601 §5). At
the end a stranger's message is checked, which asks DNS; one of our own users is signed. What is found and
what is signed stands in fields before the message, and these are part of what is committed.
"""

from __future__ import annotations

from collections.abc import Callable

from elemta.config import ListenerRole, MessageAction
from elemta.events import MessageJudged, MessageSealed, MessageSigned
from elemta.mail import (
    AuthResult,
    AuthResults,
    Envelope,
    Mailbox,
    MessageId,
    Origin,
    ReversePath,
    split_header,
)
from elemta.policy import (
    BodyNeed,
    Hashed,
    MessageHasher,
    MessageHead,
    Notary,
    Refusal,
    Verdict,
    parse_peer,
)
from elemta.runtime import get_logger

from .context import SessionContext
from .header_first import HeaderFirst

_log = get_logger(__name__)


def examine(
    context: SessionContext,
    origin: Origin,
    sender: ReversePath,
    message: MessageId,
    *,
    may_relay: bool,
    may_write_as: Callable[[Mailbox], bool] | None,
) -> Examination | None:
    """The examination of a message whose body begins now; None where there is nothing to be done to it.

    Args:
      may_relay: the client is one of ours, by its address or by its account.
      may_write_as: which addresses its account has; None: any, for its address is trusted.
    """
    notary = context.services.notary
    if notary is None:
        return None
    # A program of ours behind relay.networks may be the very one that added results of ours
    cleans = not may_relay or origin.identity is not None
    checks = not may_relay and context.listener.role is ListenerRole.MX and notary.checks.any
    signs = may_relay and notary.signer is not None
    if not (cleans or checks or signs):
        return None
    limit = context.config.limits.header_size
    return Examination(
        notary,
        context,
        origin,
        sender,
        message,
        limit=limit,
        cleans=cleans,
        checks=checks,
        signs=signs,
        may_write_as=may_write_as,
    )


class Examination:
    """Takes the octets of one message in pieces, then says what is to be known and added.

    Call `write` for each piece, then `end`, then `judge`, and if the message is accepted `fields`. Cancelled
    anywhere it leaves nothing behind.
    """

    __slots__ = (
        "_checker",
        "_checks",
        "_cleans",
        "_context",
        "_hashed",
        "_hasher",
        "_header",
        "_may_write_as",
        "_message",
        "_notary",
        "_origin",
        "_sealer",
        "_sender",
        "_signer",
        "_verdict",
    )

    def __init__(
        self,
        notary: Notary,
        context: SessionContext,
        origin: Origin,
        sender: ReversePath,
        message: MessageId,
        *,
        limit: int,
        cleans: bool,
        checks: bool,
        signs: bool,
        may_write_as: Callable[[Mailbox], bool] | None,
    ) -> None:
        self._notary = notary
        # A reload must not bring others between the hashes and what is made of them
        self._checker = notary.checks
        self._signer = notary.signer if signs else None
        self._sealer = notary.sealer if checks else None
        self._context = context
        self._origin = origin
        self._sender = sender
        self._message = message
        self._cleans = cleans
        self._checks = checks
        self._may_write_as = may_write_as
        self._hasher: MessageHasher | None = None
        if checks:
            self._hasher = self._checker.hasher(self._needs_of_seal)
        elif signs:
            self._hasher = self._checker.plain_hasher(self._needs_of_signature)
        self._header = HeaderFirst(limit) if cleans else None
        """None: nothing is taken out."""
        self._hashed: Hashed | None = None
        self._verdict: Verdict | None = None

    def _needs_of_seal(self, head: MessageHead) -> list[BodyNeed]:
        return self._sealer.needs() if self._sealer is not None else []

    def _needs_of_signature(self, head: MessageHead) -> list[BodyNeed]:
        assert self._signer is not None
        return self._signer.needs(head, self._sender, self._may_write_as)

    # --- The message comes ------------------------------------------------------------------------------

    async def write(self, data: bytes) -> bytes:
        """The next octets; those that the draft gets, none while the header is not whole."""
        if self._hasher is not None:
            await self._hasher.write(data)  # all of it: a stranger's signature may be of what is taken out
        header = self._header
        if header is None or not header.waits:
            return data
        return self._clean(header.feed(data))

    def end(self) -> bytes:
        """What was kept back, without what is forged; the message is complete."""
        return b"" if self._header is None else self._clean(self._header.end())

    def _clean(self, text: bytes) -> bytes:
        size = split_header(text)
        header = text[:size]
        if b"authentication-results" not in header.lower():
            return text
        pieces = []
        position = 0
        for start, stop in self._checker.forged(header):
            pieces.append(header[position:start])
            position = stop
        if not position:
            return text
        _log.info("a field with results in our name was removed", message=self._message)
        return b"".join((*pieces, header[position:], text[size:]))

    @property
    def results(self) -> AuthResults | None:
        """What `judge` has found out; None: nothing was looked at."""
        return None if self._verdict is None else self._verdict.results

    @property
    def is_suspect(self) -> bool:
        """Whether a check wants it quarantined."""
        return self._verdict is not None and self._verdict.action is MessageAction.QUARANTINE

    # --- It is complete ---------------------------------------------------------------------------------

    async def judge(self, envelope: Envelope) -> Refusal | None:
        """Make the checks that are configured; the refusal, if one follows from them.

        Takes at most the time-outs of policy.
        """
        if self._hasher is not None:
            self._hashed = self._hasher.finish()
        if not self._checks:
            return None
        assert self._hashed is not None
        with self._context.services.bus.spans.measure("checks", session=self._origin.session):
            verdict = await self._checker.check_message(self._hashed, self._origin, envelope)
        self._verdict = verdict
        self._tell_judged(verdict)
        reply = verdict.reply
        return None if reply is None else Refusal(reply, verdict.disposition.reason)

    async def fields(self, header: bytes, below: bytes, envelope: Envelope) -> bytes:
        """What to put before an accepted message, above the fields `below` that are added as well.

        Args:
          header: of the message, as the draft has it.
        """
        verdict, hashed = self._verdict, self._hashed
        if verdict is not None and hashed is not None and verdict.results.results:
            own = verdict.fields(self._checker.authserv_id, smtputf8=envelope.smtputf8)
            return await self._seal(hashed, verdict, own, header, below) + own
        if self._signer is None or hashed is None:
            return b""
        return await self._sign(hashed, header, below)

    async def _seal(self, hashed: Hashed, verdict: Verdict, own: bytes, header: bytes, below: bytes) -> bytes:
        chain = verdict.findings.arc
        if self._sealer is None or chain is None:
            return b""
        head = MessageHead(header).below(own + below)
        sealed = await self._sealer.seal(head, hashed.hashes, chain, own)
        if sealed:
            self._notary.count("sealed")
            services = self._context.services
            services.bus.publish(
                MessageSealed(
                    time=services.clock.time(),
                    message=self._message,
                    domain=self._sealer.domain,
                    instance=chain.last_instance + 1,
                    chain=str(chain.result),
                )
            )
        return sealed

    async def _sign(self, hashed: Hashed, header: bytes, below: bytes) -> bytes:
        signer, sender = self._signer, self._sender
        assert signer is not None
        # Without a field of its own the header ends above the message, whose hash would be another one
        if below.endswith(b"\r\n\r\n"):
            return b""
        head = MessageHead(header).below(below)
        fields = await signer.sign(head, hashed.hashes, sender, self._may_write_as)
        if not fields:
            if self._may_write_as is not None and signer.choose(head, sender):
                _log.info(
                    "not signed: From has an address that the account may not use", message=self._message
                )
            return b""
        self._notary.count("signed")
        services = self._context.services
        services.bus.publish(
            MessageSigned(
                time=services.clock.time(),
                message=self._message,
                keys=tuple(
                    f"{entry.selector}._domainkey.{entry.domain}"
                    for entry in signer.choose(head, sender, self._may_write_as)
                ),
            )
        )
        return fields

    # --- What is told of it -----------------------------------------------------------------------------

    def _tell_judged(self, verdict: Verdict) -> None:
        results = verdict.results.results
        if not results and verdict.action is MessageAction.NOTE:
            return  # its network is exempt
        notary, services = self._notary, self._context.services
        notary.count("checked", tuple(f"{each.method}={each.result}" for each in results))
        address = parse_peer(self._origin.peer)
        if notary.reports is not None and address is not None:
            notary.reports.add(address, verdict)
        if address is not None and self._hashed is not None:
            notary.failures.add(address, verdict, self._hashed.head, notice=self._sender.is_null)
        if verdict.reply is not None:
            notary.count("refused")
        elif verdict.action is MessageAction.QUARANTINE:
            notary.count("quarantined")
        services.bus.publish(
            MessageJudged(
                time=services.clock.time(),
                session=self._origin.session,
                message=self._message,
                results=tuple(map(_describe, results)),
                action=str(verdict.action),
                check=verdict.disposition.check,
                reason=verdict.disposition.reason,
            )
        )


def _describe(found: AuthResult) -> str:
    """One result in a line, as Authentication-Results has it but for its quoting."""
    properties = "".join(f" {part.ptype}.{part.name}={part.value}" for part in found.properties)
    reason = f" ({found.reason})" if found.reason else ""
    return f"{found.method}={found.result}{properties}{reason}"
