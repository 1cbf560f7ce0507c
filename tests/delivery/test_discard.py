"""Everything is taken, counted and forgotten."""

import random

from delivery_helpers import TLS, make_context, make_parcel

from elemta.config import TransportKind
from elemta.delivery import DiscardTransport, make_transport
from elemta.mail import Delivered
from elemta.routing import Route
from elemta.testing.network import open_memory_network


async def test_recipients_are_counted_and_delivered(autojump_clock):
    async with open_memory_network() as network:
        transport = make_transport(Route(TransportKind.DISCARD, ""), make_context(network))
    assert isinstance(transport, DiscardTransport)
    connection = await transport.connect()
    outcomes = await connection.deliver(make_parcel("a@example.org", "b@example.org"))
    await connection.deliver(make_parcel())
    assert [type(outcome) for outcome in outcomes] == [Delivered, Delivered]
    assert transport.discarded == 3
    assert connection.usable
    assert connection.phase == "idle"
    assert connection.progress == 0
    assert not connection.dot_sent
    await connection.aclose()


async def test_context_has_safe_defaults(autojump_clock):
    async with open_memory_network() as network:
        context = make_context(network, random=random.Random(2))
    assert context.tls is TLS
    assert not context.is_local_address("192.0.2.1", 25)
