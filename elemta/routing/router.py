"""Accept or refuse a recipient; recipient to route. Pure table look-ups, no DNS."""

from __future__ import annotations

import attrs

from elemta.config import RouteTls, TransportKind


@attrs.frozen
class Route:
    """Where a recipient goes. Equal routes share a site: its connections, limits and suspension."""

    transport: TransportKind
    next_hop: str
    """Domain whose MX is asked, fixed host, or folder; lower case."""
    port: int = 0
    use_mx: bool = False
    """Whether `next_hop` is a domain whose MX records say where to go."""
    tls: RouteTls = RouteTls.OPPORTUNISTIC

    def __str__(self) -> str:
        if self.transport in (TransportKind.SMTP, TransportKind.LMTP):
            host = self.next_hop if self.use_mx else f"[{self.next_hop}]:{self.port}"
            return f"{self.transport}:{host}"
        return f"{self.transport}:{self.next_hop}" if self.next_hop else str(self.transport)
