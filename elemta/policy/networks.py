"""Addresses as keys and as names: the network of a client, and where DNS keeps what is known of it."""

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


def reversed_labels(address: IpAddress) -> str:
    """The address as DNS lists want it: octets (RFC 5782 §2.1) or nibbles (§2.4), the last one first."""
    if address.version == 4:
        return ".".join(reversed(str(address).split(".")))
    return ".".join(reversed(f"{int(address):032x}"))


def reverse_name(address: IpAddress) -> str:
    """Where the name of the address is (RFC 1035 §3.5, RFC 3596 §2.5)."""
    return f"{reversed_labels(address)}.{'in-addr' if address.version == 4 else 'ip6'}.arpa"
