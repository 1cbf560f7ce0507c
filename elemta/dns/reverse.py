"""The name of an address in DNS, and whether it leads back to the address (RFC 8601 §3, iprev)."""

from __future__ import annotations

import enum
import ipaddress
from typing import Protocol, TypeAlias

import attrs
import trio

from elemta.mail import Domain, MailSyntaxError, parse_domain

from .addresses import as_address
from .answers import Answer, RecordKind, Status

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_NAMES = 10
"""Names of one address that are tried (RFC 7208 §4.6.4 has the same bound); the rest is not looked at."""


class AsksDns(Protocol):
    """`Resolver`, or what plugins are handed in its place."""

    async def query(self, name: str, kind: RecordKind) -> Answer:
        """One question."""


class Iprev(enum.StrEnum):
    """The results of RFC 8601 §2.7.3, by the names that stand in Authentication-Results."""

    PASS = "pass"  # noqa: S105 - a result, no password
    FAIL = "fail"
    """It has names, and none leads back."""
    TEMPERROR = "temperror"
    PERMERROR = "permerror"
    """It has no name."""


@attrs.frozen
class ReverseName:
    """What DNS says about an address."""

    result: Iprev
    name: str = ""
    """The first name that leads back to it."""
    unconfirmed: tuple[str, ...] = ()
    """Names that do not, or of which that is not known."""

    def finding(self) -> str:
        """One line for notes."""
        if self.name:
            return f"{self.result}: {self.name}"
        return f"{self.result}: {', '.join(self.unconfirmed)}" if self.unconfirmed else str(self.result)


async def look_up_reverse(resolver: AsksDns, address: IpAddress, *, seconds: float) -> ReverseName:
    """Ask for the names of the address, and for the addresses of all of them at once.

    What is known when the time is over counts: one name that leads back is enough.
    """
    names: list[str] | None = None
    statuses: dict[str, Status] = {}
    confirmed: set[str] = set()
    kind = RecordKind.A if address.version == 4 else RecordKind.AAAA
    pointer_status = Status.FAILED

    async def look_forward(name: str) -> None:
        answer = await resolver.query(name, kind)
        statuses[name] = answer.status
        if any(as_address(text) == str(address) for text in answer.texts):
            confirmed.add(name)

    with trio.move_on_after(seconds):
        answer = await resolver.query(reverse_name(address), RecordKind.PTR)
        pointer_status = answer.status
        names = _usable(answer.texts)
        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(look_forward, name)
    if pointer_status is Status.FAILED:
        return ReverseName(Iprev.TEMPERROR)
    if pointer_status is not Status.OK:
        return ReverseName(Iprev.PERMERROR)
    names = names or []
    for name in names:
        if name in confirmed:
            return ReverseName(Iprev.PASS, name)
    late = any(statuses.get(name, Status.FAILED) is Status.FAILED for name in names)
    return ReverseName(Iprev.TEMPERROR if late else Iprev.FAIL, unconfirmed=tuple(names))


def reversed_labels(address: IpAddress) -> str:
    """The address as DNS lists want it: octets (RFC 5782 §2.1) or nibbles (§2.4), the last one first."""
    if address.version == 4:
        return ".".join(reversed(str(address).split(".")))
    return ".".join(reversed(f"{int(address):032x}"))


def reverse_name(address: IpAddress) -> str:
    """Where the name of the address is (RFC 1035 §3.5, RFC 3596 §2.5)."""
    return f"{reversed_labels(address)}.{'in-addr' if address.version == 4 else 'ip6'}.arpa"


def _usable(names: tuple[str, ...]) -> list[str]:
    """The first names that are names of hosts at all: they come from strangers and go to logs."""
    usable: dict[str, None] = {}
    for text in names[: 10 * MAX_NAMES]:
        try:
            name = parse_domain(text)
        except MailSyntaxError:
            continue
        if isinstance(name, Domain):
            usable[name.text] = None
    return list(usable)[:MAX_NAMES]
