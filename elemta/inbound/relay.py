"""Who may send where: never an open relay. Pure table look-ups, one decision per recipient.

Decided by the client's address, its account and the recipient's domain, never by what the client says
of itself: not by the name in EHLO, not by the sender address (RFC 5321 §7.1, §7.9).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable

import attrs

from elemta.config import ListenerAuth, ListenerRole, Network, TransportKind
from elemta.mail import Domain, ForwardPath, Mailbox, Reply, ReversePath, replies
from elemta.routing import Destination, Router

_ROUTING_MARKS = frozenset("@%!")
"""In a local part they may ask a next hop to send on: `victim%elsewhere`, `elsewhere!victim`."""


@attrs.frozen(slots=True)
class RelayDecision:
    """Whether a recipient is taken, the reply that says so, and the mailbox it stands for."""

    accepted: bool
    reply: Reply
    mailbox: Mailbox | None = None
    """Where the mail goes, if accepted: the postmaster's for the bare `<postmaster>`."""
    original: Mailbox | None = None
    """Who is behind it, where it is a sender that we rewrote."""


def is_trusted(peer: str, networks: Iterable[Network]) -> bool:
    """Whether the client's address lies in one of the networks that may send anywhere.

    IPv4-mapped IPv6 addresses and networks count as the IPv4 ones they stand for; what is no IP
    address is in no network.
    """
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in _plain_network(network) for network in networks)


def is_loopback(peer: str) -> bool:
    """Whether the peer is this machine itself."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _plain_network(network: Network) -> Network:
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return ipaddress.IPv4Network((mapped, network.prefixlen - 96))
    return network


def may_send(
    *,
    trusted: bool,
    role: ListenerRole,
    auth: ListenerAuth = ListenerAuth.OFF,
    authenticated: bool = False,
) -> Reply | None:
    """Whether the client may begin a transaction at all: `None`, or the reply that refuses it."""
    if authenticated:
        return None
    # Where authentication is required, an address is none.
    if auth is ListenerAuth.REQUIRED or (role is ListenerRole.SUBMISSION and not trusted):
        return replies.AUTH_REQUIRED  # RFC 6409 §4.3, RFC 4954 §6
    return None


def is_incomplete(mailbox: Mailbox, router: Router) -> bool:
    """Whether the domain is a single label that means something only where it comes from, and is none of
    ours (RFC 6409 §4.2)."""
    domain = mailbox.domain
    return (
        isinstance(domain, Domain)
        and "." not in domain.text
        and router.destination(mailbox) is Destination.FOREIGN
    )


def may_return(
    router: Router,
    path: ForwardPath,
    *,
    sender: ReversePath,
    now: float,
    kept: Callable[[str], Mailbox | None] = lambda key: None,
) -> RelayDecision | None:
    """Decide about a recipient that is a sender which we rewrote; None: it is none. `now`: wall clock. `kept`
    knows who was kept under a key.

    The hash in it is what lets a stranger reach somebody else's domain through us, and only for a bounce
    where the configuration says so.
    """
    if path.mailbox is None:
        return None
    found = router.original_sender(path.mailbox, now, bounce=sender.is_null)
    if found is None:
        return None
    original = kept(found.kept) if found.kept else found.mailbox
    if original is None:
        return RelayDecision(False, replies.MAILBOX_UNKNOWN)
    if not found.may_write:
        return RelayDecision(False, replies.BOUNCES_ONLY)
    return RelayDecision(True, replies.RECIPIENT_OK, path.mailbox, original)


def may_relay(
    router: Router,
    path: ForwardPath,
    *,
    trusted: bool,
    role: ListenerRole,
    exists: Callable[[Mailbox], bool] | None = None,
) -> RelayDecision:
    """Decide about one recipient of a client that is `trusted` (see `is_trusted`, or authenticated) or not.

    mx: local and relay domains from anyone, everything from trusted clients. submission: everything
    from trusted clients, nothing from others. lmtp: local domains, everything from trusted clients.
    `exists` knows more of who exists than the router by itself.
    """
    mailbox = router.mailbox_of(path)
    if not (exists or router.exists)(mailbox):  # also for our own users: what they mistyped is told at once
        if not trusted and role is ListenerRole.SUBMISSION:
            return RelayDecision(False, replies.AUTH_REQUIRED)
        return RelayDecision(False, replies.MAILBOX_UNKNOWN)  # RFC 5321 §3.3
    if trusted or path.mailbox is None:  # RFC 5321 §4.5.1: <postmaster> is always to be supported
        return RelayDecision(True, replies.RECIPIENT_OK, mailbox)
    if role is ListenerRole.SUBMISSION:
        return RelayDecision(False, replies.AUTH_REQUIRED)
    destination = router.destination(mailbox)
    if destination is Destination.FOREIGN:
        refusal = replies.DOMAIN_NOT_OURS if role is ListenerRole.LMTP else replies.RELAY_DENIED
        return RelayDecision(False, refusal)
    if role is ListenerRole.LMTP and destination is not Destination.LOCAL:
        return RelayDecision(False, replies.DOMAIN_NOT_OURS)
    # A local part that asks for more routing is a name like any other here. But an SMTP next hop that
    # trusts us might follow it, and so be an open relay through us, also behind a domain of ours.
    # (For relay domains the router says FOREIGN already.)
    if (
        not _ROUTING_MARKS.isdisjoint(mailbox.local_part)
        and router.route(mailbox).transport is TransportKind.SMTP
    ):
        return RelayDecision(False, replies.RELAY_DENIED)
    return RelayDecision(True, replies.RECIPIENT_OK, mailbox)
