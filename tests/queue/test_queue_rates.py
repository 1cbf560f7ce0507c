"""Rates of a destination: connections, messages and octets in a time, and how what waits for its turn is told."""

from __future__ import annotations

import attrs
import pytest
import trio
from queue_bed import Bed, ScriptedTransport, answer_ok, open_bed

from elemta.config import ByteRate, Config, DeliveryConfig, HostPattern, Rate, ShapingConfig
from elemta.mail import Cause


def shaped(*, delivery: DeliveryConfig | None = None, **settings: object) -> Config:
    table = attrs.evolve(ShapingConfig(match=HostPattern("a.example")), **settings)
    return Config(hostname="mx.example.net", shaping=(table,), delivery=delivery or DeliveryConfig())


async def sent(bed: Bed, site: str = "smtp:a.example") -> int:
    return len(bed.parcels(site))


async def test_messages_go_at_their_rate_and_others_are_not_held_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed(config=shaped(message_rate=Rate(60, 60), message_burst=2)) as bed:
        for _ in range(12):
            await bed.accept("r@a.example")
            await bed.accept("r@b.example")
        await trio.sleep(0.5)
        assert (await sent(bed), await sent(bed, "smtp:b.example")) == (2, 12)
        await trio.sleep(5)
        assert await sent(bed) == 7
        await trio.sleep(10)
        assert await sent(bed) == 12


async def test_who_has_to_wait_for_long_waits_in_the_spool_with_reason_and_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed(config=shaped(message_rate=Rate(6, 600), message_burst=1)) as bed:
        start = bed.clock.time()
        messages = [await bed.accept("r@a.example") for _ in range(5)]
        await trio.sleep(1)
        assert await sent(bed) == 1
        entries = [await bed.entry(message) for message in messages[1:]]
        assert {entry.reason for entry in entries} == {Cause.RATE}
        waits = [entry.due - start for entry in entries if entry.due is not None]
        assert waits == pytest.approx([100, 200, 300, 400], abs=2)
        assert {entry.attempts for entry in entries} == {0}
        for count in (2, 3, 4, 5):
            await trio.sleep(101)
            assert await sent(bed) == count
        totals = await bed.spool.totals()
    assert totals.delivered == 5


async def test_new_mail_does_not_overtake_what_waits_for_its_turn_in_the_spool(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed(config=shaped(message_rate=Rate(6, 600), message_burst=1)) as bed:
        early = [await bed.accept("r@a.example") for _ in range(3)]
        await trio.sleep(90)
        late = await bed.accept("r@a.example")
        await trio.sleep(400)
        assert [parcel.message for parcel in bed.parcels("smtp:a.example")] == [*early, late]


async def test_octets_go_at_their_rate(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed(config=shaped(byte_rate=ByteRate(10_000, 10), byte_burst=1)) as bed:
        for _ in range(4):
            await bed.accept("r@a.example", body=b"x" * 5000)
        await trio.sleep(1)
        assert await sent(bed) == 1
        await trio.sleep(5)
        assert await sent(bed) == 2
        await trio.sleep(12)
        assert await sent(bed) == 4


async def test_connections_are_made_at_their_rate(autojump_clock: trio.testing.MockClock) -> None:
    config = shaped(connection_rate=Rate(6, 60), connection_burst=2, messages_per_connection=1)
    async with open_bed(config=config) as bed:
        transport = bed.transports["smtp:a.example"] = ScriptedTransport(answer_ok)
        for _ in range(6):
            await bed.accept("r@a.example")
        await trio.sleep(1)
        assert (transport.connects, len(transport.parcels)) == (2, 2)
        await trio.sleep(10)
        assert (transport.connects, len(transport.parcels)) == (3, 3)
        await trio.sleep(60)
        assert (transport.connects, len(transport.parcels)) == (6, 6)


async def test_the_status_tells_which_rate_keeps_back_and_for_how_long(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed(config=shaped(message_rate=Rate(6, 60), message_burst=1)) as bed:
        for _ in range(2):
            await bed.accept("r@a.example")
        await trio.sleep(1)
        (site,) = bed.queue.statistics().sites
        assert site.waits_because == "message-rate"
        assert site.waits_for == pytest.approx(9, abs=0.1)


async def test_connections_and_their_reuse_are_bounded_by_the_table(
    autojump_clock: trio.testing.MockClock,
) -> None:
    config = shaped(concurrency=1, messages_per_connection=2, idle=1.0)
    async with open_bed(config=config) as bed:
        transport = bed.transports["smtp:a.example"] = ScriptedTransport(answer_ok)
        for _ in range(4):
            await bed.accept("r@a.example")
        await trio.sleep(0.5)
        assert (transport.connects, transport.most_open) == (2, 1)
        await trio.sleep(1)
        assert transport.open == 0


async def test_a_reload_changes_rates_and_windows_at_once(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed(config=shaped(message_rate=Rate(1, 20), message_burst=1)) as bed:
        for _ in range(3):
            await bed.accept("r@a.example")
        await trio.sleep(1)
        assert await sent(bed) == 1
        bed.queue.replace(shaped(concurrency=1))
        await trio.sleep(1)
        assert await sent(bed) == 2  # the third waits in the spool until its turn
        await trio.sleep(60)
        assert await sent(bed) == 3


async def test_a_drain_gives_back_what_waits_for_its_turn(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed(config=shaped(message_rate=Rate(6, 60), message_burst=1)) as bed:
        messages = [await bed.accept("r@a.example") for _ in range(3)]
        await trio.sleep(1)
        bed.drain.begin("test", 5.0, 1.0)
        await trio.sleep(1)
        for message in messages[1:]:
            assert (await bed.entry(message)).reason == Cause.SHUTDOWN
