"""Which hosts stand behind a route: what the MX names, without asking for their addresses."""

from __future__ import annotations

from elemta.dns import RecordKind, Resolver, Status
from elemta.mail import Domain, parse_domain
from elemta.routing import Route


async def mail_hosts(route: Route, resolver: Resolver) -> frozenset[str]:
    """The names in lower case; none where DNS does not say, or where there is no MX to ask.

    A domain without MX is its own host (RFC 5321 §5.1). The answer is the one that the connection will
    go by: it is in the cache by then.
    """
    if not route.use_mx:
        return frozenset()
    domain = parse_domain(route.next_hop)
    if not isinstance(domain, Domain):
        return frozenset()
    answer = await resolver.query(domain.text, RecordKind.MX)
    if answer.status is Status.NODATA:
        return frozenset((domain.text.lower(),))
    if answer.status is not Status.OK:
        return frozenset()
    return frozenset(host.lower() for record in answer.mail_exchangers if (host := record.host))
