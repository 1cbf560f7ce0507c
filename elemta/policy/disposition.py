"""From what was found out about a message, and what is configured, to what becomes of it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import attrs

from elemta.config import DomainPattern, MessageAction, PolicyConfig
from elemta.mail import Domain, MailSyntaxError, Reply, Result, parse_domain, replies

from .arc import ArcResult
from .dkim import DkimResult
from .dmarc import DmarcResult
from .dmarc_record import DmarcPolicy
from .sealing import split_results
from .spf import SpfResult, SpfResults

_SEVERITY = {
    MessageAction.OFF: 0,
    MessageAction.NOTE: 0,
    MessageAction.QUARANTINE: 1,
    MessageAction.DEFER: 2,
    MessageAction.REFUSE: 3,
}
# RFC 8601 §2.2: method [ "/" version ] "=" result
_DMARC_PASS = re.compile(rb"dmarc(?:[ \t]*/[ \t]*1)?[ \t]*=[ \t]*pass(?![A-Za-z0-9-])", re.IGNORECASE)


@attrs.frozen
class Findings:
    """What each check found; None and empty where it was not made."""

    spf: SpfResults | None = None
    dkim: tuple[DkimResult, ...] = ()
    arc: ArcResult | None = None
    dmarc: tuple[DmarcResult, ...] = ()


@attrs.frozen
class Disposition:
    """What becomes of the message, and by which check."""

    action: MessageAction = MessageAction.NOTE
    """NOTE, QUARANTINE, DEFER or REFUSE."""
    reply: Reply | None = None
    """What to answer, where it is deferred or refused."""
    check: str = ""
    """`spf`, `dkim`, `arc` or `dmarc`; empty where nothing is done."""
    reason: str = ""
    """One line for the operator, safe for logs."""

    @property
    def severity(self) -> int:
        return _SEVERITY[self.action]


NOTHING = Disposition()


def dispose(findings: Findings, policy: PolicyConfig) -> Disposition:
    """The most severe of what follows from each; the first of those that are equally severe."""
    return max(_dispositions(findings, policy), key=lambda each: each.severity, default=NOTHING)


def trusted_sealer(arc: ArcResult | None, trusted: Sequence[DomainPattern]) -> str:
    """Who is trusted and has sealed that DMARC was passed before the message came to it; else empty.

    RFC 8617 §7.2.1: only of a valid chain, and of the newest seal, whose maker vouches for what it saw.
    """
    if arc is None or not arc.passed or not arc.sealers:
        return ""
    try:
        sealer = parse_domain(arc.sealers[0])
    except MailSyntaxError:
        return ""
    if not isinstance(sealer, Domain) or not any(pattern.covers(sealer.text) for pattern in trusted):
        return ""
    passed = any(_DMARC_PASS.match(part) for part in split_results(arc.results))
    return sealer.text if passed else ""


def _dispositions(findings: Findings, policy: PolicyConfig) -> Iterator[Disposition]:
    if findings.spf is not None:
        yield _of_spf(findings.spf.sender, policy.spf.action)
        if findings.spf.hello is not None:
            yield _of_spf(findings.spf.hello, policy.spf.hello_action)
    yield _of_dkim(findings.dkim, policy.dkim.action)
    if findings.arc is not None:
        yield _of_arc(findings.arc, policy.arc.action)
    sealer = trusted_sealer(findings.arc, policy.arc.trusted)
    for each in findings.dmarc:
        yield _of_dmarc(each, policy, sealer)


def _disposition(
    check: str,
    action: MessageAction,
    reason: str,
    permanent: Reply,
    temporary: Reply,
    *,
    finished: bool = True,
) -> Disposition:
    """Nobody is refused for good, and nothing marked, because DNS did not answer."""
    if not finished:
        waits = action in (MessageAction.DEFER, MessageAction.REFUSE)
        action = MessageAction.DEFER if waits else MessageAction.NOTE
    match action:
        case MessageAction.OFF | MessageAction.NOTE:
            return NOTHING
        case MessageAction.QUARANTINE:
            return Disposition(action, None, check, f"{check}: {reason}")
        case MessageAction.DEFER:
            return Disposition(action, temporary, check, f"{check}: {reason}")
        case MessageAction.REFUSE:
            return Disposition(action, permanent, check, f"{check}: {reason}")


def _of_spf(found: SpfResult, action: MessageAction) -> Disposition:
    if found.result is Result.FAIL:
        reason = f"{found.domain} does not allow the client ({found.mechanism})"
        return _disposition("spf", action, reason, replies.SPF_FAILED, replies.SPF_FAILED_FOR_NOW)
    if found.result is Result.TEMPERROR:
        reason = f"{found.domain}: {found.reason}"
        return _disposition("spf", action, reason, replies.SPF_FAILED, replies.SPF_UNKNOWN, finished=False)
    return NOTHING


def _of_dkim(found: Sequence[DkimResult], action: MessageAction) -> Disposition:
    signed = [each for each in found if each.result is not Result.NONE]
    if not signed or any(each.passed for each in signed):
        return NOTHING
    return _disposition(
        "dkim",
        action,
        f"no valid signature of {len(signed)}",
        replies.DKIM_FAILED,
        replies.DKIM_FAILED_FOR_NOW,
        finished=all(each.result is not Result.TEMPERROR for each in signed),
    )


def _of_arc(found: ArcResult, action: MessageAction) -> Disposition:
    if found.result in (Result.NONE, Result.PASS):
        return NOTHING
    return _disposition(
        "arc",
        action,
        found.reason,
        replies.ARC_FAILED,
        replies.ARC_FAILED_FOR_NOW,
        finished=found.result is not Result.TEMPERROR,
    )


def _of_dmarc(found: DmarcResult, policy: PolicyConfig, sealer: str) -> Disposition:
    action = policy.dmarc.action
    permanent, temporary = replies.DMARC_FAILED, replies.DMARC_FAILED_FOR_NOW
    match found.result:
        case Result.PERMERROR:
            return _disposition(
                "dmarc", policy.dmarc.no_author, found.reason, replies.NO_AUTHOR, replies.NO_AUTHOR_FOR_NOW
            )
        case Result.TEMPERROR:
            reason = f"{found.domain}: {found.reason}"
            return _disposition("dmarc", action, reason, permanent, temporary, finished=False)
        case Result.FAIL if found.policy is not DmarcPolicy.NONE and not sealer:
            if found.policy is DmarcPolicy.QUARANTINE and action in (
                MessageAction.DEFER,
                MessageAction.REFUSE,
            ):
                action = MessageAction.QUARANTINE
            reason = f"{found.domain} asks for {found.policy}"
            return _disposition("dmarc", action, reason, permanent, temporary)
        case _:  # RFC 9989 §5.4: p=none changes nothing
            return NOTHING
