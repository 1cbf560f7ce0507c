"""The name servers to ask, and which of them deserve to be asked first."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from pathlib import Path

import attrs

from elemta.config import HostPort, Network

DNS_PORT = 53
MAX_SERVERS = 8
DEMOTED_SECONDS = 30.0
"""How long a server that failed stands behind the others; as long as all are demoted, all are asked."""
SILENCES = 3
"""In a row before silence counts against a server: one may only mean that a stranger's servers are slow."""
DEFAULT_SERVER = HostPort("127.0.0.1", DNS_PORT)  # what resolv.conf(5) says of a missing or empty file
RESOLV_CONF = Path("/etc/resolv.conf")


@attrs.define(eq=False)
class Server:
    """A name server and how it behaves."""

    address: HostPort
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address
    silences: int = 0
    demoted_until: float = float("-inf")

    def answered(self) -> None:
        self.silences = 0
        self.demoted_until = float("-inf")

    def silent(self, now: float) -> None:
        self.silences += 1
        if self.silences >= SILENCES:
            self.demote(now)

    def demote(self, now: float) -> None:
        self.demoted_until = now + DEMOTED_SECONDS


class ServerList:
    """The servers in the operator's order, those that failed lately last.

    Raises:
      ValueError: a name server is not given by its address.
    """

    def __init__(self, addresses: Iterable[HostPort]) -> None:
        self._servers = [_server(address) for address in addresses][:MAX_SERVERS]
        if not self._servers:
            self._servers = [_server(DEFAULT_SERVER)]

    def all_within(self, networks: Iterable[Network]) -> bool:
        """Whether every server is in one of the networks. One outside could answer in place of the others."""
        known = tuple(networks)
        return all(any(server.ip in network for network in known) for server in self._servers)

    def in_order(self, now: float) -> list[Server]:
        return sorted(self._servers, key=lambda server: max(server.demoted_until - now, 0.0))


def _server(address: HostPort) -> Server:
    try:
        ip = ipaddress.ip_address(address.host)
    except ValueError:
        raise ValueError(f"name server {address.host!r} is not an IP address") from None
    return Server(address, ip)


def read_resolv_conf(path: Path = RESOLV_CONF) -> list[HostPort]:
    """The `nameserver` lines; none where the file is missing or unreadable. Nonsense is passed over."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    found = []
    for line in text.split("\n"):
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            try:
                ipaddress.ip_address(words[1])
            except ValueError:
                continue
            found.append(HostPort(words[1], DNS_PORT))
    return found
