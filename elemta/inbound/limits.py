"""How many sessions there may be, in total and per client."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import attrs

from elemta.config import LimitsConfig, Network
from elemta.mail import Reply, replies
from elemta.runtime import KeyedLimiter

from .relay import is_trusted

_IPV6_CLIENT = 64
"""Bits of an IPv6 address that tell clients apart: one customer has a whole /64 at least (RFC 6177)."""


@attrs.frozen
class ClientLimitsStatistics:
    sessions: int
    limit: int
    refused_busy: int
    """Turned away because there were too many in total."""
    refused_client: int
    """Turned away because one client had too many."""
    busiest: tuple[tuple[str, int], ...]
    """Clients with most sessions, most first."""


@attrs.frozen(slots=True)
class Admission:
    """A place for one session; give it back with `ClientLimits.release`."""

    client: str
    """Under which the place is counted; empty where the client is exempt."""


def client_of(peer: str) -> str:
    """The key under which a peer is counted: its IPv4 address, its IPv6 /64, or the text as it is."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return peer
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address), _IPV6_CLIENT), strict=False))


class ClientLimits:
    """Counts sessions. Memory is bounded by those that exist; nothing is kept of those that are gone."""

    def __init__(self, limits: LimitsConfig, networks: Iterable[Network]) -> None:
        self._most = limits.sessions
        self._networks = tuple(networks)
        self._clients: KeyedLimiter[str] = KeyedLimiter(limits.sessions_per_client, keys=limits.sessions)
        self._sessions = 0
        self._refused_busy = 0
        self._refused_client = 0

    def admit(self, peer: str) -> Admission | Reply:
        """A place for a session of this peer, or the reply that turns it away."""
        if self._sessions >= self._most:
            self._refused_busy += 1
            return replies.SERVER_BUSY
        client = "" if is_trusted(peer, self._networks) else client_of(peer)
        if client and not self._clients.acquire_nowait(client):
            self._refused_client += 1
            return replies.TOO_MANY_CONNECTIONS
        self._sessions += 1
        return Admission(client)

    def release(self, admission: Admission) -> None:
        """Give a place back, once."""
        self._sessions -= 1
        if admission.client:
            self._clients.release(admission.client)

    def statistics(self) -> ClientLimitsStatistics:
        return ClientLimitsStatistics(
            sessions=self._sessions,
            limit=self._most,
            refused_busy=self._refused_busy,
            refused_client=self._refused_client,
            busiest=self._clients.statistics().busiest,
        )
