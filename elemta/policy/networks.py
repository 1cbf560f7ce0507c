"""Addresses as keys: the network of a client."""

from __future__ import annotations

import ipaddress

from .client import IpAddress


def network_of(address: IpAddress, ipv4_bits: int, ipv6_bits: int) -> str:
    """The network of the address as text, such as `192.0.2.0/24` or `2001:db8::/64`."""
    bits = ipv4_bits if address.version == 4 else ipv6_bits
    shift = address.max_prefixlen - bits
    base = int(address) >> shift << shift  # `ip_network` takes ten times as long
    first = ipaddress.IPv4Address(base) if address.version == 4 else ipaddress.IPv6Address(base)
    return f"{first}/{bits}"
