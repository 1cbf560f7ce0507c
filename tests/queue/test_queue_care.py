"""Leases, the watchdog and the drain."""

from __future__ import annotations

import pytest
import trio
from queue_bed import OK, open_bed

from elemta.config import Config, DeliveryConfig, QueueConfig
from elemta.delivery import Parcel
from elemta.mail import Cause, Outcome


async def test_the_watchdog_ends_a_dispatcher_without_progress(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def hang(parcel: Parcel) -> list[Outcome]:
        await trio.sleep_forever()
        raise AssertionError

    async with open_bed(hang) as bed:
        message = await bed.accept("r@a.example")
        await trio.sleep(890)
        entry = await bed.spool.show(message)
        assert entry is not None
        assert entry.recipients[0].leased
        await trio.sleep(150)
        entry = await bed.spool.show(message)
    assert entry is not None
    assert not entry.recipients[0].leased


async def test_leases_of_waiting_mail_are_kept(autojump_clock: trio.testing.MockClock) -> None:
    """A message that waits in a ready queue for longer than a lease is not claimed a second time."""

    async def slow(parcel: Parcel) -> list[Outcome]:
        await trio.sleep(600)
        return [OK]

    delivery = DeliveryConfig(initial_concurrency=1, concurrency=1)
    config = Config(hostname="mx.example.net", delivery=delivery, queue=QueueConfig(lease=300.0))
    async with open_bed(slow, config=config) as bed:
        for _ in range(4):
            await bed.accept("r@a.example")
        await trio.sleep(3000)
        assert len(bed.transports["smtp:a.example"].parcels) == 4
        assert (await bed.spool.totals()).delivered == 4


async def test_a_drain_gives_back_what_waits_and_finishes_what_was_sent(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def slow(parcel: Parcel) -> list[Outcome]:
        await trio.sleep(5)
        return [OK]

    delivery = DeliveryConfig(initial_concurrency=1, concurrency=1)
    async with open_bed(slow, config=Config(hostname="mx.example.net", delivery=delivery)) as bed:
        first = await bed.accept("r@a.example")
        second = await bed.accept("r@a.example")
        await trio.sleep(1)
        bed.drain.begin("test", 25.0, 5.0)
        await trio.sleep(10)
        assert await bed.spool.show(first) is None
        entry = await bed.spool.show(second)
        assert entry is not None
        assert (entry.recipients[0].leased, entry.recipients[0].attempts) == (False, 0)
        third = await bed.accept("r@a.example")
        await trio.sleep(1)
        entry = await bed.spool.show(third)
        assert entry is not None
        assert not entry.recipients[0].leased


async def test_a_drain_cuts_what_does_not_end(autojump_clock: trio.testing.MockClock) -> None:
    async def hang(parcel: Parcel) -> list[Outcome]:
        await trio.sleep_forever()
        raise AssertionError

    begun = 0.0
    async with open_bed(hang) as bed:
        message = await bed.accept("r@a.example")
        await trio.sleep(1)
        begun = trio.current_time()
        bed.drain.begin("test", 25.0, 5.0)
    assert trio.current_time() - begun == pytest.approx(25.0, abs=0.1)
    assert [event.message for event in bed.of("recipient.deferred")] == [message]  # type: ignore[attr-defined]
    assert [event.cause for event in bed.of("recipient.deferred")] == [Cause.UNKNOWN_AFTER_DOT]  # type: ignore[attr-defined]
