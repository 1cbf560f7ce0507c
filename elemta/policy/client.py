"""What is known of the client of one session while its session lasts, and how it is turned away."""

from __future__ import annotations

import ipaddress

import attrs

from elemta.config import ListenerRole
from elemta.mail import Identity, Reply
from elemta.runtime import escape_text

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_NOTE = 300
"""Characters of a note; strangers have a part in some of them."""


@attrs.frozen
class Refusal:
    """What to answer, and for the operator why."""

    reply: Reply
    reason: str
    """One line with the check that refused and what it found, safe for logs: `dns-lists: zen.example …`."""


@attrs.define(eq=False)
class Client:
    """The dossier of one session: kept up to date by the session, read and noted in by the gate.

    A session makes one when the address of its client is known (after a PROXY header), sets `hello`
    at each HELO, EHLO and LHLO, sets `identity` once the client has authenticated, and changes `peer`
    only by making another one (XCLIENT).
    """

    peer: str
    """The client's address as text, IPv4-mapped IPv6 unmapped or not."""
    port: int = 0
    listener: str = ""
    """Name of the listener."""
    role: ListenerRole = ListenerRole.MX
    trusted: bool = False
    """It may send anywhere by its address (relay.networks)."""
    hello: str = ""
    """What it called itself last."""
    reverse_name: str = ""
    """The name that its address has in DNS and that leads back to the address; empty where that was not
    asked for or there is none."""
    identity: Identity | None = None
    """Who it proved to be."""
    notes: dict[str, str] = attrs.field(factory=dict)
    """What each check found, by its name (`dns-lists`, `reverse-dns`, `hello` …), as one safe line each."""
    pending: dict[str, Refusal] = attrs.field(factory=dict)
    """Refusals that wait for the first recipient, by check; the gate's own."""
    times_come_again: int | None = None
    """Set while a recipient of this transaction came again after greylisting: for how many messages its
    network had done so before; the gate's own."""
    listed_score: int = 0
    """Sum of the weights of the DNS lists that have its address; below 0 it is vouched for."""
    address: IpAddress | None = attrs.field(init=False)
    """`peer` as a value, unmapped; None for what is no IP address, which no check looks at."""
    _fresh: dict[str, str] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self.address = parse_peer(self.peer)

    @property
    def authenticated(self) -> bool:
        return self.identity is not None

    def record(self, check: str, finding: str) -> None:
        """Write down what a check saw; it stands until the same check sees something else."""
        self.notes[check] = escape_text(finding, _NOTE)

    def note(self, check: str, finding: str) -> None:
        """The same for what speaks against the client, or was unusual: it becomes an event, too."""
        before = self.notes.get(check)
        self.record(check, finding)
        if self.notes[check] != before:
            self._fresh[check] = self.notes[check]

    def take_fresh_notes(self) -> dict[str, str]:
        """The notes that were written since the last call, for events: each is handed out once."""
        fresh, self._fresh = self._fresh, {}
        return fresh


def parse_peer(peer: str) -> IpAddress | None:
    """The address of a peer, without scope, IPv4-mapped IPv6 as the IPv4 it stands for."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
