"""Addresses in blocks, as limits count them: one customer has one IPv4 address, but billions of IPv6."""

from __future__ import annotations

import ipaddress


def address_block(address: str, ipv4_bits: int, ipv6_bits: int) -> str:
    """The block of that many bits that an address is in, `192.0.2.0/24`; a full-length one is the address.

    IPv4-mapped IPv6 counts as the IPv4 address it stands for, a zone does not count, and what is no
    address stays as it is.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    bits = ipv4_bits if parsed.version == 4 else ipv6_bits
    cut = parsed.max_prefixlen - bits
    if not cut:
        return str(parsed)
    start = type(parsed)(int(parsed) >> cut << cut)
    return f"{start}/{bits}"
