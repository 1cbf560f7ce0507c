"""Networks that no stranger's DNS record may lead us into."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from elemta.config import DeliveryConfig, Network

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""RFC 6052 §2.1; §3.1 forbids it for addresses that are not global."""


_SMTP_PORT = 25
_DEFAULT = DeliveryConfig().prohibited_networks


class ProhibitedNetworks:
    """Whether an address is in one of the networks, by itself or by an IPv4 address that it stands for."""

    def __init__(self, networks: Iterable[Network]) -> None:
        self._networks = tuple(networks)

    @classmethod
    def of(cls, config: DeliveryConfig, port: int) -> ProhibitedNetworks:
        """Those that hold for mail by MX to that port.

        At another port than 25 a stranger's host does not answer: such a setting is a laboratory's, whose
        hosts are often all on one machine. What was configured by hand holds there, too.
        """
        if port != _SMTP_PORT and config.prohibited_networks == _DEFAULT:
            return cls(())
        return cls(config.prohibited_networks)

    def __contains__(self, address: object) -> bool:
        return any(
            form in network
            for form in _forms(ipaddress.ip_address(str(address)))
            for network in self._networks
            if form.version == network.version
        )


def _forms(address: IpAddress) -> Iterator[IpAddress]:
    yield address
    if isinstance(address, ipaddress.IPv4Address):
        return
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    if address.sixtofour is not None:  # RFC 3056: a tunnel to that IPv4 address
        yield address.sixtofour
    if address.teredo is not None:  # RFC 4380
        yield from address.teredo
    if address in _NAT64:
        yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
