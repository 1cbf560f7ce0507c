"""Is the message from the domain in From, and what does that domain want if not? (RFC 9989)

Theory of operation. SPF and DKIM say which domains stand behind a message: the identifiers. The message
passes where one of them is aligned with the domain of the author: the same domain (strict), or one of the
same organization (relaxed). Which domain is an organization's is found by walking up the tree of names and
looking for policy records, at most eight; a record may say that names below it are registered by others
(psd=y), or that it is itself an organization's (psd=n). All records of a walk are asked for at the same time.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

import attrs
import trio

from elemta.config import DmarcConfig
from elemta.dns import RecordKind, Resolver, Status
from elemta.mail import AuthResult, Domain, Property, Result

from .author import Authors
from .dmarc_record import DmarcPolicy, DmarcRecord, SuffixFlag, find_record
from .lookups import Lookups, TooManyLookups, evaluate

MOST_QUERIES = 8
"""Names of one walk (RFC 9989 §4.10)."""


class Mechanism(enum.Enum):
    """What may stand behind an identifier (RFC 9989 §4.3)."""

    SPF = "spf"
    DKIM = "dkim"


@attrs.frozen
class Identifier:
    """A domain that SPF or DKIM vouches for."""

    domain: Domain
    mechanism: Mechanism
    late: bool = False
    """It may be, but that could not be found out for now."""


@attrs.frozen
class DmarcResult:
    """The result for the domain of one author."""

    result: Result
    domain: Domain | None = None
    """Of the author; None where there is no author to speak of."""
    policy: DmarcPolicy = DmarcPolicy.NONE
    """What is asked for this message, tests considered; NONE unless it failed."""
    policy_domain: Domain | None = None
    """Whose record it is."""
    record: DmarcRecord | None = None
    organization: Domain | None = None
    aligned: tuple[Identifier, ...] = ()
    """What vouches for the author."""
    reason: str = ""

    @property
    def passed(self) -> bool:
        return self.result is Result.PASS

    def auth_result(self) -> AuthResult:
        """As Authentication-Results says it (RFC 9989 §9.1)."""
        properties = []
        if self.domain is not None:
            properties.append(Property("header", "from", self.domain.text))
        if self.result is Result.FAIL:
            properties.append(Property("policy", "dmarc", self.policy.value))
        return AuthResult("dmarc", self.result, self.reason, tuple(properties))


class _Late(Exception):
    """DNS did not answer what must be known."""


async def check_dmarc(
    authors: Authors, identifiers: Sequence[Identifier], config: DmarcConfig, *, resolver: Resolver
) -> tuple[DmarcResult, ...]:
    """One result for each domain of an author, seldom more than one.

    What is not known within `config.timeout` is TEMPERROR. Never raises for what is in DNS. Cancelled, it
    leaves nothing behind.
    """
    problem = authors.problem
    if len(authors.domains) > config.domains:
        problem = "From has authors of too many domains"  # RFC 9989 §11.5
    if problem:
        return (DmarcResult(Result.PERMERROR, reason=problem),)
    found = {
        domain: DmarcResult(Result.TEMPERROR, domain, reason="not finished in time")
        for domain in authors.domains
    }

    async def check(domain: Domain) -> None:
        try:
            found[domain] = await evaluate(lambda table: judge(table, domain, identifiers), resolver)
        except TooManyLookups:
            found[domain] = DmarcResult(Result.TEMPERROR, domain, reason="too many DNS lookups")

    with trio.move_on_after(config.timeout):
        async with trio.open_nursery() as nursery:
            for domain in authors.domains:
                nursery.start_soon(check, domain)
    return tuple(found.values())


def judge(table: Lookups, author: Domain, identifiers: Sequence[Identifier]) -> DmarcResult:
    """The result for one author. Pure.

    Raises:
      NeedLookup: the table lacks an answer.
    """
    try:
        return _judge(table, author, identifiers)
    except _Late as late:
        # RFC 9989 §5.3.6: neither passed nor failed
        return DmarcResult(Result.TEMPERROR, author, reason=str(late))


def _judge(table: Lookups, author: Domain, identifiers: Sequence[Identifier]) -> DmarcResult:
    walk = _Walk.of(table, author)
    policy_domain = walk.policy_domain
    if policy_domain is None:
        return DmarcResult(Result.NONE, author, reason="no policy")
    record = walk.records[policy_domain]
    if not record.usable:
        return DmarcResult(Result.NONE, author, reason="the policy cannot be read")
    found = DmarcResult(
        Result.PASS,
        author,
        policy_domain=policy_domain,
        record=record,
        organization=walk.organization,
    )
    candidates = [each for each in identifiers if _may_align(each, author, walk.organization, record)]
    for each in candidates:
        _wish(table, each.domain)
    aligned = [
        each
        for each in candidates
        if each.domain == author or organizational_domain(table, each.domain) == walk.organization
    ]
    certain = tuple(each for each in aligned if not each.late)
    if certain:
        return attrs.evolve(found, aligned=certain)
    if aligned:
        raise _Late(f"{aligned[0].mechanism.value} was not finished")
    own = policy_domain == author
    exists = own or record.missing is None or _exists(table, author)
    return attrs.evolve(found, result=Result.FAIL, policy=record.policy_for(own=own, exists=exists))


def organizational_domain(table: Lookups, domain: Domain) -> Domain:
    """The domain of the organization that this one is of (RFC 9989 §4.10.2). Pure.

    Raises:
      NeedLookup: the table lacks an answer.
    """
    return _Walk.of(table, domain).organization


def walk_names(domain: Domain) -> list[Domain]:
    """The domains whose records a walk looks at (RFC 9989 §4.10, steps 3, 4 and 7)."""
    labels = domain.text.split(".")
    first = max(1, len(labels) - MOST_QUERIES + 1)
    return [domain, *(Domain(".".join(labels[start:])) for start in range(first, len(labels)))]


@attrs.frozen
class _Walk:
    """What was found on the way up from a domain."""

    start: Domain
    records: dict[Domain, DmarcRecord]
    """From the longest name to the shortest; behind one with psd=y or psd=n nothing is looked for."""

    @classmethod
    def of(cls, table: Lookups, start: Domain) -> _Walk:
        _wish(table, start)
        records = {}
        for name in walk_names(start):
            answer = table.get(_record_name(name), RecordKind.TXT)
            if answer.status is Status.FAILED:
                raise _Late("DNS failed")
            record = find_record(answer.strings)
            if record is not None:
                records[name] = record
                if record.suffix is not SuffixFlag.UNKNOWN:
                    break
        return cls(start, records)

    @property
    def organization(self) -> Domain:
        """RFC 9989 §4.10.2, steps 1 to 3: as the walk ends at the first psd=, the last record decides."""
        if not self.records:
            return self.start
        last, record = next(reversed(self.records.items()))
        if record.suffix is SuffixFlag.YES and last != self.start:
            return _below(last, self.start)
        return last

    @property
    def policy_domain(self) -> Domain | None:
        """Whose policy holds (§4.10.1): of the domain itself, of its organization, of the suffix above."""
        for candidate in (self.start, self.organization, *reversed(self.records)):
            if candidate in self.records:
                return candidate
        return None


def _record_name(domain: Domain) -> str:
    return f"_dmarc.{domain.text}"


def _below(suffix: Domain, domain: Domain) -> Domain:
    """The name one label longer than the suffix on the way to the domain."""
    rest = domain.text.removesuffix("." + suffix.text)
    return Domain(f"{rest.rpartition('.')[2]}.{suffix.text}")


def _wish(table: Lookups, domain: Domain) -> None:
    for name in walk_names(domain):
        table.wish(_record_name(name), RecordKind.TXT)


def _may_align(identifier: Identifier, author: Domain, organization: Domain, record: DmarcRecord) -> bool:
    """RFC 9989 §4.4, as far as the names alone say it: of others the records need not be asked for."""
    domain = identifier.domain
    if domain == author:
        return True
    strict = record.strict_spf if identifier.mechanism is Mechanism.SPF else record.strict_dkim
    return not strict and f".{domain.text}".endswith(f".{organization.text}")


def _exists(table: Lookups, domain: Domain) -> bool:
    """RFC 9989 appendix A.4: it does if it has any records, or any names below (RFC 8020)."""
    answer = table.get(domain.text, RecordKind.A)
    if answer.status is Status.FAILED:
        raise _Late("DNS failed")
    return answer.status is not Status.NXDOMAIN
