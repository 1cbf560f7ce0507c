"""From which of our addresses a connection comes, and what follows where one cannot be bound."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import attrs
import pytest
import trio
from delivery_helpers import HOST, fixed_route, make_context, make_parcel, mx_route

from elemta.config import Config, DeliveryConfig, RouteTls, ShapingConfig, SourceConfig, parse_host_pattern
from elemta.delivery import ConnectFailed, NoSource, Shaping, Sources, make_transport
from elemta.mail import Cause, Delivered
from elemta.routing import Route
from elemta.runtime import SourceUnusable, SystemNetwork
from elemta.testing.network import MemoryNetwork, open_memory_network
from elemta.testing.peers import SinkPeer

POOL = (
    SourceConfig("one", "192.0.2.201", None, "one.example", ("bulk",), 3),
    SourceConfig("two", "192.0.2.202", "2001:db8::202", "two.example", ("bulk",), 1),
)
ZONE = {
    "example.org": {"MX": [(10, "mx.big.example")]},
    "mx.big.example": {"A": [HOST], "AAAA": ["2001:db8::1"]},
}


@attrs.define
class Bed:
    network: MemoryNetwork
    sink: SinkPeer
    sources: Sources
    failures: list[tuple[str, str, str]]
    context: Any

    async def send(self, route: Route) -> str:
        """Deliver one message; the local address that it came from."""
        connection = await make_transport(route, self.context).connect()
        (outcome,) = await connection.deliver(make_parcel())
        await connection.aclose()
        assert isinstance(outcome, Delivered)
        source = self.network.attempts[-1].source
        assert source is not None
        return source


@asynccontextmanager
async def open_sources(*own: str, config: Config | None = None, **more: Any) -> AsyncIterator[Bed]:
    failures: list[tuple[str, str, str]] = []
    async with open_memory_network() as network:
        sink = SinkPeer()
        network.listen(HOST, 25, sink.serve)
        network.listen("2001:db8::1", 25, sink.serve)
        network.own_addresses |= set(own)
        sources = Sources(POOL, lambda *words: failures.append(words))
        shaping = Shaping(config or Config(hostname="mx.example"))
        context = make_context(network, ZONE, sources=sources, shaping=shaping, **more)
        yield Bed(network, sink, sources, failures, context)


ALL = ("192.0.2.201", "192.0.2.202", "2001:db8::202")


async def test_a_connection_comes_from_the_source_with_its_name(autojump_clock: object) -> None:
    async with open_sources(*ALL) as bed:
        assert await bed.send(attrs.evolve(fixed_route(), source="two")) == "192.0.2.202"
    assert bed.sink.hellos == ["two.example"]


async def test_without_a_source_all_is_as_before(autojump_clock: object) -> None:
    async with open_sources(*ALL) as bed:
        connection = await make_transport(fixed_route(), bed.context).connect()
        await connection.aclose()
    assert bed.network.attempts[-1].source is None
    assert bed.sink.hellos == ["mx.example"]


async def test_a_pool_is_used_by_weight(autojump_clock: object) -> None:
    sources, random = Sources(POOL), Random(5)
    chosen = Counter(sources.depart("bulk", HOST, random).origin.name for _ in range(400))
    assert 270 < chosen["one"] < 330
    assert chosen["two"] == 400 - chosen["one"]


async def test_a_weight_of_nothing_is_for_when_no_other_is_left(autojump_clock: object) -> None:
    spare = attrs.evolve(POOL[0], weight=0)
    sources, random = Sources((spare, POOL[1])), Random(5)
    assert {sources.depart("bulk", HOST, random).origin.name for _ in range(50)} == {"two"}
    departure = sources.depart("bulk", HOST, random)
    departure.fail("gone")
    assert departure.origin.name == "one"


async def test_an_address_that_cannot_be_bound_is_left_out_for_a_while(
    autojump_clock: trio.testing.MockClock,
) -> None:
    route = attrs.evolve(fixed_route(), source="bulk")
    async with open_sources("192.0.2.202") as bed:
        for _ in range(20):
            assert await bed.send(route) == "192.0.2.202"
        assert [(name, address) for name, address, _ in bed.failures] == [("one", "192.0.2.201")]
        tries = Counter(attempt.source for attempt in bed.network.attempts)
        assert tries["192.0.2.201"] == 1
        assert set(bed.sink.hellos) == {"two.example"}
        await trio.sleep(301)
        bed.network.own_addresses.add("192.0.2.201")
        assert "192.0.2.201" in {await bed.send(route) for _ in range(20)}


async def test_where_no_address_can_be_bound_the_mail_waits(autojump_clock: object) -> None:
    async with open_sources() as bed:
        for _ in range(2):  # the second time all are known to fail, and are tried all the same
            with pytest.raises(ConnectFailed) as caught:
                await make_transport(attrs.evolve(fixed_route(), source="bulk"), bed.context).connect()
            assert caught.value.outcome.cause is Cause.LOCAL
        assert len(bed.failures) == 2
        bed.network.own_addresses.add("192.0.2.201")
        assert await bed.send(attrs.evolve(fixed_route(), source="bulk")) == "192.0.2.201"


async def test_an_address_for_which_we_have_none_of_its_family_is_no_target(autojump_clock: object) -> None:
    async with open_sources(*ALL) as bed:
        assert await bed.send(attrs.evolve(mx_route(), source="one", tls=RouteTls.NONE)) == "192.0.2.201"
        assert [attempt.host for attempt in bed.network.attempts] == [HOST]
        with pytest.raises(NoSource):
            bed.sources.depart("one", "2001:db8::1", Random(1))


async def test_the_table_that_fits_the_hosts_chooses_and_a_route_before_it(autojump_clock: object) -> None:
    table = ShapingConfig(mx=parse_host_pattern(".big.example"), source="one", tls=RouteTls.REQUIRED)
    config = Config(hostname="mx.example", shaping=(table,), delivery=DeliveryConfig(source="two"))
    async with open_sources(*ALL, config=config) as bed:
        with pytest.raises(ConnectFailed) as caught:
            await make_transport(mx_route(), bed.context).connect()
        assert caught.value.outcome.cause is Cause.TLS_NOT_OFFERED
        assert {attempt.source for attempt in bed.network.attempts} == {"192.0.2.201"}
        plain = attrs.evolve(mx_route(), tls=RouteTls.NONE)
        assert await bed.send(plain) == "192.0.2.201"
        assert await bed.send(attrs.evolve(plain, source="two")) in ("192.0.2.202", "2001:db8::202")
        assert await bed.send(fixed_route()) == "192.0.2.202"


async def test_the_system_says_what_cannot_be_bound() -> None:
    with trio.fail_after(5), pytest.raises(SourceUnusable):
        await SystemNetwork().connect("127.0.0.1", 9, source="192.0.2.77")
