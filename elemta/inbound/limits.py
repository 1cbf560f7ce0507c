"""How many sessions there may be: in total, per client, and per network in growing steps."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Iterable, Iterator
from typing import TypeAlias

import attrs

from elemta.config import LimitsConfig, Network
from elemta.mail import Reply, replies
from elemta.runtime import KeyedLimiter

from .relay import is_trusted

_PROVIDER = 4
"""How many times `sessions_per_network` an IPv6 /32 may have: all that a small provider has to give away."""

Block: TypeAlias = tuple[int, int, int]
"""IP version, bits, and the network's number: an address without the rest of its bits."""


@attrs.frozen
class ClientLimitsStatistics:
    sessions: int
    limit: int
    refused_busy: int
    """Turned away because there were too many in total."""
    refused_client: int
    """Turned away because one client or network had too many."""
    busiest: tuple[tuple[str, int], ...]
    """Clients with most sessions, most first."""


@attrs.define(slots=True, eq=False)
class Admission:
    """A place for one session; give it back with `ClientLimits.release`."""

    blocks: tuple[Block, ...] = ()
    """Under which the place is counted, the client first; none where it is exempt."""


@attrs.define(eq=False)
class _Step:
    """One size of network and how many sessions it may have."""

    ipv4_bits: int
    """0: this step is not for IPv4."""
    ipv6_bits: int
    sessions: KeyedLimiter[Block]


class ClientLimits:
    """Counts sessions. Memory is bounded by those that exist; nothing is kept of those that are gone.

    `most` bounds the total beside the configuration: what the system has descriptors for.
    """

    def __init__(
        self, limits: LimitsConfig, networks: Iterable[Network] = (), *, most: int | None = None
    ) -> None:
        self._ceiling = most
        # RFC 6177: one customer has a whole IPv6 /64 at least, and may well have a /48 without asking
        self._steps = tuple(
            _Step(ipv4, ipv6, KeyedLimiter(1, keys=sys.maxsize))  # never more than there are sessions
            for ipv4, ipv6 in ((32, 64), (24, 48), (0, 32))
        )
        self._sessions = 0
        self._refused_busy = 0
        self._refused_client = 0
        self.replace(limits, networks)

    def replace(self, limits: LimitsConfig, networks: Iterable[Network]) -> None:
        """Use other limits from now on; who is in stays in."""
        self._networks = tuple(networks)
        self._most = limits.sessions if self._ceiling is None else min(limits.sessions, self._ceiling)
        for step, most in zip(
            self._steps,
            (
                limits.sessions_per_client,
                limits.sessions_per_network,
                _PROVIDER * limits.sessions_per_network,
            ),
            strict=True,
        ):
            step.sessions.limit = most

    def admit(self, peer: str, *, forwarded: bool = False) -> Admission | Reply:
        """A place for a session of this peer, or the reply that turns it away.

        With `forwarded` the peer is a proxy, whose address says nothing of the client: only the total
        counts, until `identify` tells who it is.
        """
        if self._sessions >= self._most:
            self._refused_busy += 1
            return replies.SERVER_BUSY
        admission = Admission()
        if not forwarded:
            refusal = self.identify(admission, peer)
            if refusal is not None:
                return refusal
        self._sessions += 1
        return admission

    def identify(self, admission: Admission, peer: str) -> Reply | None:
        """Count the place as this client's: None, or the reply that turns it away; then nothing changed."""
        if is_trusted(peer, self._networks):
            blocks: tuple[Block, ...] = ()
        else:
            blocks = tuple(self._blocks(peer))
        for index, (step, block) in enumerate(zip(self._steps, blocks, strict=False)):
            if not step.sessions.acquire_nowait(block):
                self._give_back(blocks[:index])
                self._refused_client += 1
                return replies.TOO_MANY_FROM_NETWORK if index else replies.TOO_MANY_CONNECTIONS
        self._give_back(admission.blocks)
        admission.blocks = blocks
        return None

    def release(self, admission: Admission) -> None:
        """Give a place back, once."""
        self._sessions -= 1
        self._give_back(admission.blocks)

    def statistics(self) -> ClientLimitsStatistics:
        busiest = self._steps[0].sessions.statistics().busiest
        return ClientLimitsStatistics(
            sessions=self._sessions,
            limit=self._most,
            refused_busy=self._refused_busy,
            refused_client=self._refused_client,
            busiest=tuple((block_text(block), count) for block, count in busiest),
        )

    def _give_back(self, blocks: tuple[Block, ...]) -> None:
        for step, block in zip(self._steps, blocks, strict=False):
            step.sessions.release(block)

    def _blocks(self, peer: str) -> Iterator[Block]:
        try:
            address = ipaddress.ip_address(peer.partition("%")[0])
        except ValueError:
            yield (0, 0, 0)  # a Unix domain socket: one client, however many programs
            return
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        number, width = int(address), address.max_prefixlen
        for step in self._steps:
            bits = step.ipv4_bits if address.version == 4 else step.ipv6_bits
            if bits:
                yield (address.version, bits, number >> (width - bits))


def block_text(block: Block) -> str:
    """The block for people: an IPv4 address, or a network."""
    version, bits, number = block
    if version == 0:
        return "unix"
    if version == 4:
        address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.IPv4Address(number << (32 - bits))
    else:
        address = ipaddress.IPv6Address(number << (128 - bits))
    return str(address) if bits == address.max_prefixlen else f"{address}/{bits}"
