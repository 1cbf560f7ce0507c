"""All checks of one message: SPF, DKIM, ARC, reverse DNS at the same time, then DMARC; and what follows.

Which results there are, and in which order, depends on the configuration and the message only, never on
what came back first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import attrs
import trio

from elemta.config import CheckAction, Config, DkimConfig, MessageAction
from elemta.dns import Iprev, Resolver, ReverseName, look_up_reverse
from elemta.mail import (
    AuthResult,
    AuthResults,
    Domain,
    Envelope,
    MailSyntaxError,
    Origin,
    Reply,
    Result,
    authentication_results,
    claimed_results,
    parse_domain,
)
from elemta.runtime import ThreadPool, WallClock, get_logger

from .arc import ArcResult, arc_needs, check_arc
from .author import find_authors
from .canonical import BodyNeed
from .client import IpAddress, parse_peer
from .disposition import NOTHING, Disposition, Findings, dispose, trusted_sealer
from .dkim import DkimResult, check_dkim, dkim_needs
from .dmarc import DmarcResult, Identifier, Mechanism, check_dmarc
from .hashing import Hashed, MessageHasher
from .head import MessageHead
from .results import iprev_result
from .spf import SpfIdentity, SpfResult, SpfResults, check_spf

T = TypeVar("T")

NO_RESULTS = AuthResults()
NO_FINDINGS = Findings()

_log = get_logger(__name__)
_BROKEN = "internal error"


@attrs.frozen
class Verdict:
    """What was found out about a message, and what becomes of it."""

    results: AuthResults = NO_RESULTS
    """As Authentication-Results shows them: reverse DNS, SPF (name of the host if that has a record, then
    sender), DKIM (topmost signature first), ARC if there is a chain, DMARC."""
    disposition: Disposition = NOTHING
    findings: Findings = NO_FINDINGS
    """The same in full, for reports, sealing and plugins."""

    @property
    def action(self) -> MessageAction:
        """NOTE, QUARANTINE, DEFER or REFUSE."""
        return self.disposition.action

    @property
    def reply(self) -> Reply | None:
        """What to answer where it is deferred or refused."""
        return self.disposition.reply

    def fields(self, authserv_id: str, *, smtputf8: bool) -> bytes:
        """What to put before the header of an accepted message: its results, and whether it is suspect."""
        found = authentication_results(self.results, authserv_id, smtputf8=smtputf8)
        if self.action is MessageAction.QUARANTINE:
            found = f"X-Elemta-Quarantine: {self.disposition.check}\r\n".encode("ascii") + found
        return found


class MessageChecks:
    """Checks messages of the configuration's `mx` listeners. Holds no state.

    How a session uses it, for messages of clients that have neither authenticated nor are in relay.networks:

    1. When the body begins: `hasher = checks.hasher()`, and `await hasher.write(data)` with all octets as
       they came, also those that are deleted in step 3: a signature may be of them.
    2. At the end of the body: `verdict = await checks.check_message(hasher.finish(), origin, envelope)`.
       It takes at most the largest of the timeouts of policy.spf, .dkim, .arc and .reverse_dns, and then that
       of policy.dmarc.
    3. `verdict.reply` is what to answer; without one the message is accepted, with `verdict.fields(…)` before
       its header, and without the octets in `checks.forged(header)`: these are deleted whether or not the
       message was checked, unless a client of our own wrote them.
    4. `verdict.findings.arc` is what `ArcSealer.seal` wants, with the new Authentication-Results.

    Args:
      pool: threads for large messages.
    """

    def __init__(self, config: Config, resolver: Resolver, clock: WallClock, pool: ThreadPool) -> None:
        self._resolver = resolver
        self._clock = clock
        self._pool = pool
        policy = config.policy
        self._policy = policy
        self._hostname = config.hostname
        self.authserv_id = policy.authserv_id or config.hostname
        """Our name in Authentication-Results (RFC 8601 §2.5)."""
        self._own_names = frozenset(_lower(name) for name in (config.hostname, self.authserv_id))

    def hasher(self, needs: Callable[[MessageHead], list[BodyNeed]] | None = None) -> MessageHasher:
        """What takes a message in pieces; with `needs` it hashes also what others want, such as a sealer."""

        def plan(head: MessageHead) -> list[BodyNeed]:
            return [*self.needs(head), *(needs(head) if needs else ())]

        return MessageHasher(plan, self._pool)

    def plain_hasher(self, needs: Callable[[MessageHead], list[BodyNeed]]) -> MessageHasher:
        """One for a message that is not checked, only signed."""
        return MessageHasher(needs, self._pool)

    @property
    def any(self) -> bool:
        """Whether any check is made at all."""
        policy = self._policy
        return policy.reverse_dns.action is not CheckAction.OFF or any(
            each.action is not MessageAction.OFF
            for each in (policy.spf, policy.dkim, policy.dmarc, policy.arc)
        )

    def needs(self, head: MessageHead) -> list[BodyNeed]:
        """What must be hashed of the body for `check_message`."""
        found: list[BodyNeed] = []
        if self._wants(self._policy.dkim.action):
            found += dkim_needs(head, self._policy.dkim)
        if self._policy.arc.action is not MessageAction.OFF:
            found += arc_needs(head)
        return found

    def forged(self, header: bytes) -> list[tuple[int, int]]:
        """Which octets of a header that came from outside claim to be results of ours (RFC 8601 §5)."""
        return claimed_results(header, self._own_names)

    async def check_message(self, hashed: Hashed, origin: Origin, envelope: Envelope) -> Verdict:
        """Make all checks that are configured.

        Each has its own deadline, and what is not known by then is TEMPERROR. Never raises for what is in the
        message or in DNS. Cancelled, it leaves nothing behind.
        """
        address = parse_peer(origin.peer)
        if address is None or any(address in network for network in self._policy.exempt):
            await trio.lowlevel.checkpoint_if_cancelled()
            return Verdict()
        reverse: ReverseName | None = None
        spf: SpfResults | None = None
        dkim: tuple[DkimResult, ...] = ()
        arc: ArcResult | None = None

        async def find_reverse() -> None:
            nonlocal reverse
            seconds = self._policy.reverse_dns.timeout
            reverse = await _contained(
                "iprev",
                lambda: look_up_reverse(self._resolver, address, seconds=seconds),
                ReverseName(Iprev.TEMPERROR),
            )

        async def find_spf() -> None:
            nonlocal spf
            spf = await self._check_spf(address, origin, envelope)

        async def find_dkim() -> None:
            nonlocal dkim
            dkim = await self._check_dkim(hashed, self._policy.dkim)

        async def find_arc() -> None:
            nonlocal arc
            arc = await self._check_arc(hashed)

        async with trio.open_nursery() as nursery:
            if self._policy.reverse_dns.action is not CheckAction.OFF:
                nursery.start_soon(find_reverse)
            if self._wants(self._policy.spf.action):
                nursery.start_soon(find_spf)
            if self._wants(self._policy.dkim.action):
                nursery.start_soon(find_dkim)
            if self._policy.arc.action is not MessageAction.OFF:
                nursery.start_soon(find_arc)
        dmarc = await self._check_dmarc(hashed.head, spf, dkim)
        findings = Findings(spf, dkim, arc, dmarc)
        return Verdict(self._results(findings, reverse, address), dispose(findings, self._policy), findings)

    def _wants(self, action: MessageAction) -> bool:
        """SPF and DKIM are what DMARC stands on, even if nothing follows from themselves."""
        return action is not MessageAction.OFF or self._policy.dmarc.action is not MessageAction.OFF

    async def _check_spf(self, address: IpAddress, origin: Origin, envelope: Envelope) -> SpfResults:
        return await _contained(
            "spf",
            lambda: check_spf(
                address,
                envelope.reverse_path,
                origin.hello,
                self._policy.spf,
                resolver=self._resolver,
                receiver=self._hostname,
            ),
            SpfResults(
                SpfResult(SpfIdentity.MAIL, Result.TEMPERROR, str(envelope.reverse_path), reason=_BROKEN)
            ),
        )

    async def _check_dkim(self, hashed: Hashed, config: DkimConfig) -> tuple[DkimResult, ...]:
        return await _contained(
            "dkim",
            lambda: check_dkim(
                hashed.head,
                hashed.hashes,
                config,
                resolver=self._resolver,
                now=self._clock.time(),
                pool=self._pool,
            ),
            (DkimResult(Result.TEMPERROR, _BROKEN),),
        )

    async def _check_arc(self, hashed: Hashed) -> ArcResult:
        return await _contained(
            "arc",
            lambda: check_arc(
                hashed.head,
                hashed.hashes,
                self._policy.arc,
                self._policy.dkim,
                resolver=self._resolver,
                now=self._clock.time(),
                pool=self._pool,
            ),
            ArcResult(Result.TEMPERROR, _BROKEN),
        )

    async def _check_dmarc(
        self, head: MessageHead, spf: SpfResults | None, dkim: tuple[DkimResult, ...]
    ) -> tuple[DmarcResult, ...]:
        config = self._policy.dmarc
        if config.action is MessageAction.OFF:
            return ()
        return await _contained(
            "dmarc",
            lambda: check_dmarc(find_authors(head), identifiers(spf, dkim), config, resolver=self._resolver),
            (DmarcResult(Result.TEMPERROR, reason=_BROKEN),),
        )

    def _results(self, findings: Findings, reverse: ReverseName | None, address: IpAddress) -> AuthResults:
        found: list[AuthResult] = []
        if reverse is not None:
            found.append(iprev_result(reverse, address))
        if findings.spf is not None:
            hello = findings.spf.hello
            if hello is not None and hello.result is not Result.NONE:
                found.append(hello.auth_result())
            found.append(findings.spf.sender.auth_result())
        found += (each.auth_result() for each in findings.dkim)
        if findings.arc is not None and findings.arc.result is not Result.NONE:
            found.append(findings.arc.auth_result())
        sealer = trusted_sealer(findings.arc, self._policy.arc.trusted)
        for each in findings.dmarc:
            result = each.auth_result()
            if sealer and each.result is Result.FAIL:
                result = attrs.evolve(result, reason=f"passed before {sealer} sealed it")
            found.append(result)
        return AuthResults(tuple(found))


def identifiers(spf: SpfResults | None, dkim: tuple[DkimResult, ...]) -> list[Identifier]:
    """The domains that SPF and DKIM vouch for, or might vouch for (RFC 9989 §4.3).

    A signature that is valid counts even if its key says that it is being tested (t=y): to whoever holds the
    key it is no test.
    """
    found: dict[Identifier, None] = {}
    if spf is not None:  # RFC 9989 §4.4.2: of the reverse path; where that is null, of the name of the host
        _add(found, spf.sender.domain, spf.sender.result, Mechanism.SPF)
    for each in dkim:
        _add(found, each.domain, each.result, Mechanism.DKIM)
    return list(found)


def _add(found: dict[Identifier, None], text: str, result: Result, mechanism: Mechanism) -> None:
    if result not in (Result.PASS, Result.TEMPERROR):
        return
    try:
        domain = parse_domain(text)
    except MailSyntaxError:
        return
    if isinstance(domain, Domain):
        found[Identifier(domain, mechanism, late=result is Result.TEMPERROR)] = None


async def _contained(check: str, run: Callable[[], Awaitable[T]], broken: T) -> T:
    """What a check finds; `broken` where it stumbles over a message, which is a bug and costs only that."""
    try:
        return await run()
    except Exception:
        _log.exception("a check of a message failed", check=check)
        return broken


def _lower(name: str) -> str:
    return name.lower().removesuffix(".")
