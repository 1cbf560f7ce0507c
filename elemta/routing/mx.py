"""The hosts that take mail for a domain, in the order in which to try them (RFC 5321 §5.1)."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Container, Iterable
from random import Random

import attrs
import trio

from elemta.dns import (
    Answer,
    HostAddresses,
    MxRecord,
    RecordKind,
    Resolver,
    Status,
    addresses,
    is_host_address,
    is_localhost,
)
from elemta.mail import (
    AddressLiteral,
    Cause,
    Deferred,
    Domain,
    Failed,
    MailSyntaxError,
    Reply,
    parse_domain,
)

MAX_HOSTS = 16
"""Considered of one MX list. Real lists have up to some ten; a hostile one must not make work without end."""


@attrs.frozen
class MxPlan:
    """Where to go: host names, or one address as text for an address literal. Never empty."""

    hosts: tuple[str, ...]
    """Best first. Each had an address, or DNS could not say: ask `elemta.dns.addresses` (by now cached)."""
    implicit: bool = False
    """Whether the domain has no MX and is its own mail host (RFC 5321 §5.1)."""
    authentic: bool = False
    """Whether the MX answer was authenticated; what DANE needs first (RFC 7672 §2.2.1)."""


async def plan_mx(
    domain: Domain | AddressLiteral,
    resolver: Resolver,
    *,
    hostname: str,
    random: Random,
    is_ourselves: Callable[[str], bool] = lambda address: False,
    prohibited: Container[str] = (),
    ipv6: bool = True,
) -> MxPlan | Failed | Deferred:
    """Ask where mail for the domain goes; equal preferences are shuffled.

    We drop ourselves, known by `hostname` or by an address for which `is_ourselves` is true, and all
    that is not preferred to us: from there mail would come back to us. Addresses of the hosts are
    asked for here, all at once, so that hosts without any do not cost an attempt. A host all of whose
    addresses are `prohibited` is left out; of the others these addresses are still the caller's to avoid.

    Returns `Failed` for a domain that does not exist (5.1.2), takes no mail (5.1.10, RFC 7505), leads
    back here (5.4.6), or has no usable host (5.4.4); `Deferred` (4.4.3) where DNS failed.
    """
    if isinstance(domain, AddressLiteral):
        return _literal(domain, is_ourselves=is_ourselves, prohibited=prohibited, ipv6=ipv6)
    answer = await resolver.query(domain.text, RecordKind.MX)
    match answer.status:
        case Status.FAILED:
            return _dns_failed(answer.detail)
        case Status.NXDOMAIN:
            return _failed(Cause.NO_SUCH_DOMAIN, "5.1.2", "The recipient's domain does not exist")
        case Status.NODATA:
            # RFC 5321 §5.1: no MX at all is an implicit MX with preference 0, the domain itself
            candidates = [MxRecord(0, domain.text)]
        case Status.OK:
            if _is_null_mx(answer):
                # RFC 7505 §4.2: 556 and X.1.10
                return Failed(Cause.NULL_MX, Reply.of(556, "5.1.10", "The recipient's domain takes no mail"))
            candidates = _sorted_hosts(answer.mail_exchangers, random)
    if not candidates:
        return _failed(Cause.DNS, "5.4.4", "The recipient's domain names no usable mail host")

    candidates, found_us = _prune(candidates, lambda record: record.host == hostname.lower())
    candidates = candidates[:MAX_HOSTS]
    found = await _addresses_of(candidates, resolver, ipv6=ipv6)
    candidates, found_us_by_address = _prune(
        candidates, lambda record: any(is_ourselves(text) for text in found[record.host].addresses)
    )
    return _result(
        [(record.host, found[record.host]) for record in candidates],
        answer,
        found_us=found_us or found_us_by_address,
        prohibited=prohibited,
    )


def _result(
    hosts: list[tuple[str, HostAddresses]], answer: Answer, *, found_us: bool, prohibited: Container[str]
) -> MxPlan | Failed | Deferred:
    allowed = [(host, found) for host, found in hosts if not _is_out_of_bounds(found.addresses, prohibited)]
    only_prohibited = bool(hosts) and not allowed
    hosts = allowed
    usable = tuple(host for host, found in hosts if found.status in (Status.OK, Status.FAILED))
    if any(found.status is Status.OK for _, found in hosts):
        return MxPlan(usable, implicit=answer.status is Status.NODATA, authentic=answer.authentic)
    if usable:
        return _dns_failed("; ".join(found.detail for _, found in hosts if found.detail))
    if found_us:
        return _loop()
    if only_prohibited:
        return _out_of_bounds()
    return _failed(Cause.DNS, "5.4.4", "No mail host of the recipient's domain has an address")


def _is_out_of_bounds(addresses: Collection[str], prohibited: Container[str]) -> bool:
    """Whether a host has addresses, and none of them may be connected to."""
    return bool(addresses) and all(address in prohibited for address in addresses)


def _literal(
    literal: AddressLiteral,
    *,
    is_ourselves: Callable[[str], bool],
    prohibited: Container[str],
    ipv6: bool,
) -> MxPlan | Failed | Deferred:
    address = literal.address
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    if address is None or not is_host_address(str(address)) or (address.version == 6 and not ipv6):
        return _failed(Cause.UNSUPPORTED, "5.1.2", "This kind of address literal cannot be reached from here")
    if is_ourselves(str(address)):
        return _loop()
    if str(address) in prohibited:
        return _out_of_bounds()
    return MxPlan((str(address),))


def _is_null_mx(answer: Answer) -> bool:
    # RFC 7505 §3: a single MX with preference 0 and the root as host. Other preferences are seen and mean
    # the same; beside other records a root is merely a host that cannot be.
    return [record.host for record in answer.mail_exchangers] == [""]


def _sorted_hosts(records: Iterable[MxRecord], random: Random) -> list[MxRecord]:
    """Usable hosts, each once with its best preference, in the order to try."""
    best: dict[str, MxRecord] = {}
    for record in sorted(records, key=lambda record: (record.preference, record.host)):
        host = _host_name(record.host)
        if host is not None:
            best.setdefault(host, MxRecord(record.preference, host))
    # RFC 5321 §5.1: equal preferences MUST be spread at random. Sorted above, so that only `random` decides.
    shuffled = list(best.values())
    random.shuffle(shuffled)
    return sorted(shuffled, key=lambda record: record.preference)


def _host_name(text: str) -> str | None:
    """The host, or `None` for what an MX may not name: the root, an address, this very machine, nonsense."""
    if is_localhost(text):  # RFC 6761 §6.3: the world cannot mean its own loopback and ours
        return None
    try:
        host = parse_domain(text)
    except MailSyntaxError:  # RFC 5321 §5.1, RFC 1035 §3.3.9: a domain name, never an address
        return None
    return host.text if isinstance(host, Domain) else None


def _prune(records: list[MxRecord], is_us: Callable[[MxRecord], bool]) -> tuple[list[MxRecord], bool]:
    """What is preferred to us, and whether we were in the list at all."""
    ours = min((record.preference for record in records if is_us(record)), default=None)
    if ours is None:
        return records, False
    # RFC 5321 §5.1, RFC 974: equal ones go as well, else two such servers would pass a message to and fro
    return [record for record in records if record.preference < ours], True


async def _addresses_of(
    records: list[MxRecord], resolver: Resolver, *, ipv6: bool
) -> dict[str, HostAddresses]:
    found: dict[str, HostAddresses] = {}

    async def ask(host: str) -> None:
        found[host] = await addresses(resolver, host, ipv6=ipv6)

    async with trio.open_nursery() as nursery:
        for record in records:
            nursery.start_soon(ask, record.host)
    return found


def _failed(cause: Cause, enhanced: str, text: str) -> Failed:
    return Failed(cause, Reply.of(550, enhanced, text))


def _loop() -> Failed:
    return _failed(Cause.LOOP, "5.4.6", "The best mail host of the recipient's domain is this server")


def _out_of_bounds() -> Failed:
    # Permanent, like Exim's ignore_target_hosts: such a record is a mistake, or an attempt to make us talk to
    # what only we can reach; waiting for days helps neither.
    text = "The mail host of the recipient's domain has an address that no mail host of the internet can have"
    return _failed(Cause.DNS, "5.4.4", text)


def _dns_failed(detail: str) -> Deferred:
    return Deferred(
        Cause.DNS, Reply.of(451, "4.4.3", "DNS gave no answer for the recipient's domain"), detail=detail
    )
