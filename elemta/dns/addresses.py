"""From a host to the addresses to try, both families asked at once and interleaved."""

from __future__ import annotations

import ipaddress
from itertools import chain, zip_longest
from random import Random

import attrs
import trio

from .answers import Answer, RecordKind, Status
from .resolver import Resolver

MAX_ADDRESSES = 32
"""Of one host; more than that is a mistake or an attack, and nobody waits for them all."""


@attrs.frozen(slots=True)
class HostAddresses:
    """What there is to connect to. `addresses` is empty unless `status` is OK."""

    status: Status
    addresses: tuple[str, ...] = ()
    """Canonical text, IPv6 first, then in turns; IPv4-mapped IPv6 unmapped. None that is no host's
    (unspecified, multicast, broadcast), which a stranger's zone may well name."""
    authentic: bool = False
    """Whether every answer used was authenticated."""
    detail: str = ""
    canonical: str = attrs.field(default="", eq=False)
    """The name behind aliases, where it is one for both families."""


async def addresses(
    resolver: Resolver, host: str, *, ipv6: bool = True, random: Random | None = None
) -> HostAddresses:
    """Ask for A and AAAA at the same time; an address as text (brackets allowed) passes through.

    A host is OK when one family gave an address, even if the other failed; FAILED when none did and
    one failed. `localhost` needs no DNS (RFC 6761 §6.3). With `random` the addresses of a family are
    shuffled, so that equal ones share the load; otherwise they keep the resolver's order.
    """
    literal = as_address(host)
    if literal is not None:
        usable = ipv6 or ":" not in literal
        return HostAddresses(Status.OK, (literal,)) if usable else HostAddresses(Status.NODATA)
    if is_localhost(host):
        return HostAddresses(Status.OK, ("::1", "127.0.0.1") if ipv6 else ("127.0.0.1",))

    answers: dict[RecordKind, Answer] = {}

    async def ask(kind: RecordKind) -> None:
        answers[kind] = await resolver.query(host, kind)

    if ipv6:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, RecordKind.A)
            nursery.start_soon(ask, RecordKind.AAAA)
    else:
        await ask(RecordKind.A)
    families = [answers[kind] for kind in (RecordKind.AAAA, RecordKind.A) if kind in answers]
    return _merge(families, ipv6=ipv6, random=random)


def _merge(families: list[Answer], *, ipv6: bool, random: Random | None) -> HostAddresses:
    lists = []
    for answer in families:
        found = list(answer.texts) if answer.status is Status.OK else []
        if random is not None:
            random.shuffle(found)
        lists.append(found)
    interleaved = (text for text in chain.from_iterable(zip_longest(*lists)) if text is not None)
    usable: dict[str, None] = {}  # a dict keeps the order and drops what is there twice
    for text in interleaved:
        address = as_address(text)
        if address is not None and is_host_address(address) and (ipv6 or ":" not in address):
            usable[address] = None
    detail = "; ".join(answer.detail for answer in families if answer.status is Status.FAILED)
    if usable:
        authentic = all(answer.authentic for answer in families if answer.status is Status.OK)
        names = {answer.canonical for answer in families if answer.status is Status.OK}
        canonical = names.pop() if len(names) == 1 else ""
        return HostAddresses(Status.OK, tuple(usable)[:MAX_ADDRESSES], authentic, detail, canonical)
    statuses = {answer.status for answer in families}
    if Status.FAILED in statuses:
        return HostAddresses(Status.FAILED, detail=detail)
    return HostAddresses(Status.NXDOMAIN if statuses == {Status.NXDOMAIN} else Status.NODATA)


def as_address(text: str) -> str | None:
    """The canonical form of an IP address, with or without brackets, or `None` for anything else."""
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        if address.scope_id is not None:
            return None
    return str(address)


def is_host_address(address: str) -> bool:
    """Whether a host can have it: connecting to 0.0.0.0 or :: would reach this very machine."""
    parsed = ipaddress.ip_address(address)
    return not (parsed.is_unspecified or parsed.is_multicast or address == "255.255.255.255")


def is_localhost(host: str) -> bool:
    """Whether the name means this machine whatever DNS says (RFC 6761 §6.3)."""
    name = host.lower().removesuffix(".")
    return name == "localhost" or name.endswith(".localhost")
