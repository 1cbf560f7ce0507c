"""Which hosts stand behind a route."""

import pytest
import trio

from elemta.config import TransportKind
from elemta.delivery import mail_hosts
from elemta.routing import Route
from elemta.testing import FakeResolver

RESOLVER = FakeResolver(
    {
        "a.example": {"MX": [(10, "MX1.Big.example"), (20, "mx2.big.example")]},
        "plain.example": {"A": ["198.51.100.3"]},
        "null.example": {"MX": [(0, ".")]},
    },
    failing=["broken.example"],
)


@pytest.mark.parametrize(
    ("domain", "hosts"),
    [
        ("a.example", {"mx1.big.example", "mx2.big.example"}),
        ("plain.example", {"plain.example"}),
        ("null.example", set()),
        ("gone.example", set()),
        ("broken.example", set()),
        ("[192.0.2.1]", set()),
    ],
)
async def test_hosts_are_what_the_mx_names(domain: str, hosts: set[str], autojump_clock: object) -> None:
    route = Route(TransportKind.SMTP, domain, 25, use_mx=True)
    with trio.fail_after(5):
        assert await mail_hosts(route, RESOLVER) == hosts


async def test_a_fixed_host_has_no_mx_to_ask(autojump_clock: object) -> None:
    resolver = FakeResolver()
    with trio.fail_after(5):
        assert await mail_hosts(Route(TransportKind.SMTP, "relay.example", 587), resolver) == frozenset()
    assert resolver.queries == []
