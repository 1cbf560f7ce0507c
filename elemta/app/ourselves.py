"""Which addresses and ports lead back to this server, as it listens now."""

from __future__ import annotations

from collections.abc import Iterable

from elemta.config import HostPort
from elemta.runtime import is_own_address

_EVERYWHERE = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - compared only


class Ourselves:
    """Asked for each next hop, and for address literals. A reload replaces what it knows."""

    def __init__(self, addresses: Iterable[HostPort]) -> None:
        self.replace(addresses)

    def replace(self, addresses: Iterable[HostPort]) -> None:
        """Listen at these from now on."""
        self._addresses = frozenset((address.host, address.port) for address in addresses)
        self._hosts = frozenset(host for host, _ in self._addresses) - _EVERYWHERE
        self._ports_everywhere = frozenset(port for host, port in self._addresses if host in _EVERYWHERE)

    def is_listener(self, host: str, port: int) -> bool:
        """Whether who connects there reaches one of our listeners."""
        return (host, port) in self._addresses or (port in self._ports_everywhere and is_own_address(host))

    def is_address(self, host: str) -> bool:
        """Whether we take mail at that address, on whatever port."""
        return host in self._hosts or (bool(self._ports_everywhere) and is_own_address(host))
