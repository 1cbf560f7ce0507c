"""What one host must prove before it gets mail: from the route's wish, DNSSEC and TLSA records.

| `tls` of the route | TLS | certificate | without it |
| --- | --- | --- | --- |
| `none` | never | – | – |
| `opportunistic` | where it is offered | by TLSA where there are records, else not asked for | plain text |
| `required` | always | as above | mail waits |
| `verified` | always | from a known authority, for the name of the host | mail waits |
| `dane` | as `opportunistic` | by TLSA where there are records, whatever `delivery.dane` says | plain text |
| `dane-only` | always | by TLSA | mail waits |

TLSA records count only where a trusted resolver has validated every step that leads to them: MX, addresses,
TLSA (RFC 7672 §2). With records, TLS is mandatory (§2.2), and there is no falling back to anything. Where
there are none, a policy of the domain that is enforced (MTA-STS) makes `verified` of all but `none` and
`dane-only`.
"""

from __future__ import annotations

import attrs

from elemta.config import RouteTls
from elemta.dns import HostAddresses, RecordKind, Status, TlsaRecord
from elemta.mail import Cause, Deferred, replies
from elemta.routing import Route

from .context import DeliveryContext
from .dane import usable_rules
from .sts_policy import StsMode, StsPolicy
from .tls_results import Failure, PolicyUsed, TlsResult

MAX_REASON = 200
"""Characters of a reason that are counted by."""


@attrs.frozen
class Security:
    """The terms for sessions with one host."""

    level: RouteTls
    """`none`, `opportunistic`, `required` or `verified`; DANE is `required` with `rules`."""
    server_name: str
    """Whom to ask for in the handshake (SNI), and whom `verified` proves."""
    rules: tuple[TlsaRecord, ...] = ()
    """One of them must be met by the certificate."""
    names: tuple[str, ...] = ()
    """Whom a certificate below a trust anchor of the rules may name (RFC 7672 §3.2.3)."""
    authentic: bool = True
    """Whether nobody between us and DNS can have put another host in the place of the domain's."""
    used: PolicyUsed | None = None
    """Under which policy sessions are counted; None: they are not."""
    tentative: bool = False
    """Whether to try `verified` first and, where that fails, to count it and go on as `level` says:
    MTA-STS in mode testing (RFC 8461 §5)."""


async def plan_security(
    route: Route,
    host: str,
    found: HostAddresses,
    context: DeliveryContext,
    *,
    authentic: bool,
    policy: StsPolicy | None = None,
) -> Security | Deferred:
    """The terms for a host of the route; `Deferred`: it cannot be used for now, another may.

    `authentic`: DNS has vouched for the MX records that named the host, or our operator named it.
    `policy`: what the domain says by MTA-STS.
    """
    enforced = policy if policy is not None and policy.mode is StsMode.ENFORCE else None
    if route.tls is RouteTls.NONE or not _wants_dane(route, context):
        if enforced is not None:
            return _by_policy(enforced, host)
        return Security(route.tls, host, authentic=authentic)
    rules: tuple[TlsaRecord, ...] | None = None
    base = host
    if authentic and found.authentic:
        # RFC 7672 §2.2.2: without authenticated addresses nothing is asked, as many a name server that knows
        # no TLSA knows no DNSSEC either, and would only fail.
        bases = [host] if found.canonical in ("", host) else [found.canonical, host]
        for base in bases:  # RFC 7672 §2.2.3: the name behind the alias first
            answer = await context.resolver.query(f"_{route.port}._tcp.{base}", RecordKind.TLSA)
            if answer.status is Status.FAILED:
                # RFC 7672 §2.1.2: bogus or no answer. To go on would be what an attacker wants.
                return Deferred(Cause.DNS, replies.DNS_FAILED, host, detail=answer.detail)
            if answer.status is Status.OK and answer.authentic:
                rules = usable_rules(answer.certificate_rules)
                break
    if rules:
        names = dict.fromkeys([base, host, *([route.next_hop] if route.use_mx else [])])
        # RFC 8461 §2: a policy never overrides DANE
        return Security(RouteTls.REQUIRED, base, rules, tuple(names))
    if route.tls is RouteTls.DANE_ONLY:
        detail = "the TLSA records are of no use" if rules is not None else _missing(found, authentic)
        return Deferred(Cause.CERTIFICATE, replies.TLS_FAILED, host, detail=detail)
    if enforced is not None:
        return _by_policy(enforced, host)
    if rules is not None or route.tls is RouteTls.REQUIRED:
        # RFC 7672 §2.2: records that are all unusable still say that there is TLS
        return Security(RouteTls.REQUIRED, host, authentic=authentic)
    return Security(RouteTls.OPPORTUNISTIC, host, authentic=authentic)


def count_with(
    security: Security | Deferred, route: Route, host: str, policy: StsPolicy | None, context: DeliveryContext
) -> Security | Deferred:
    """The same terms, with what sessions are counted under; a host that cannot be used is counted at once."""
    results = context.tls_results
    if results is None or not route.use_mx or route.tls is RouteTls.NONE:
        return security
    if isinstance(security, Deferred):
        dnssec = security.cause is Cause.DNS or policy is None
        used = PolicyUsed(route.next_hop, "tlsa") if dnssec else _sts_used(route, policy)
        result = TlsResult.DNSSEC_INVALID if dnssec else TlsResult.VALIDATION_FAILURE
        results.failure(used, Failure(result, host, reason=security.detail[:MAX_REASON]))
        return security
    if security.rules:
        lines = tuple(f"{r.usage} {r.selector} {r.matching} {r.data.hex()}" for r in security.rules)
        used = PolicyUsed(route.next_hop, "tlsa", lines)
    elif policy is not None:
        used = _sts_used(route, policy)
        if policy.mode is StsMode.TESTING and not policy.allows(host):
            # RFC 8461 §5: the mail goes all the same, and the domain learns of it
            results.failure(used, Failure(TlsResult.VALIDATION_FAILURE, host, reason="not in the policy"))
        elif policy.mode is StsMode.TESTING:
            return attrs.evolve(security, used=used, tentative=security.level is not RouteTls.VERIFIED)
    else:
        used = PolicyUsed(route.next_hop)
    return attrs.evolve(security, used=used)


def _sts_used(route: Route, policy: StsPolicy | None) -> PolicyUsed:
    assert policy is not None
    return PolicyUsed(route.next_hop, "sts", policy.lines, policy.mx)


async def find_policy(route: Route, context: DeliveryContext) -> StsPolicy | None:
    """The MTA-STS policy that holds for mail on this route, if any."""
    if context.mta_sts is None or not context.config.mta_sts or not route.use_mx:
        return None
    # An address literal has no policy; with `none` our operator has decided for the domain.
    if route.next_hop.startswith("[") or route.tls in (RouteTls.NONE, RouteTls.DANE_ONLY):
        return None
    policy = await context.mta_sts.policy(route.next_hop)
    trouble = context.mta_sts.trouble(route.next_hop)
    if trouble and context.tls_results is not None:
        # RFC 8460 §4.3.2.1: whether or not an older policy holds meanwhile
        used = PolicyUsed(route.next_hop, "sts") if policy is None else _sts_used(route, policy)
        failure = Failure(
            TlsResult.POLICY_FETCH_ERROR, f"mta-sts.{route.next_hop}", reason=trouble[:MAX_REASON]
        )
        context.tls_results.failure(used, failure)
    return policy


def _by_policy(policy: StsPolicy, host: str) -> Security | Deferred:
    """RFC 8461 §4.1, §4.2: a host that the policy names, TLS, and a certificate for it that is known."""
    if policy.allows(host):
        return Security(RouteTls.VERIFIED, host)
    detail = "MTA-STS: the policy of the domain does not name this host"
    return Deferred(Cause.CERTIFICATE, replies.TLS_FAILED, host, detail=detail)


def _missing(found: HostAddresses, authentic: bool) -> str:
    if not authentic:
        return "no DANE: the MX records are not authenticated by DNSSEC"
    if not found.authentic:
        return "no DANE: the addresses are not authenticated by DNSSEC"
    return "no DANE: there are no TLSA records"


def _wants_dane(route: Route, context: DeliveryContext) -> bool:
    if route.tls in (RouteTls.DANE, RouteTls.DANE_ONLY):
        return True
    return context.config.dane and route.use_mx and route.tls is not RouteTls.VERIFIED
