"""Another configuration for a queue that runs."""

from __future__ import annotations

import attrs
import pytest
import trio
from queue_bed import LATER, OK, answers, open_bed

from elemta.config import Config, DeliveryConfig, QueueConfig
from elemta.delivery import Parcel
from elemta.mail import Outcome
from elemta.queue.window import ConcurrencyWindow

START = Config(hostname="mx.example.net")


def changed(**queue: object) -> Config:
    return attrs.evolve(START, queue=attrs.evolve(QueueConfig(), **queue))  # type: ignore[arg-type]


async def test_waits_that_begin_from_now_on_are_the_new_ones(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed(answers(LATER), config=changed(retry=(300.0,), retry_jitter=0.0)) as bed:
        early = await bed.accept("r@a.example")
        await trio.sleep(1)
        bed.queue.replace(changed(retry=(60.0,), retry_jitter=0.0))
        late = await bed.accept("r@b.example")
        await trio.sleep(1)
        now = bed.clock.time()
        assert (await bed.entry(early)).due - now == pytest.approx(298, abs=2)
        assert (await bed.entry(late)).due - now == pytest.approx(59, abs=2)


async def test_fewer_connections_and_less_memory(autojump_clock: trio.testing.MockClock) -> None:
    async def slow(parcel: Parcel) -> list[Outcome]:
        await trio.sleep(1)
        return [OK]

    async with open_bed(
        slow, config=attrs.evolve(START, delivery=DeliveryConfig(initial_concurrency=5))
    ) as bed:
        for _ in range(10):
            await bed.accept("r@a.example")
        await trio.sleep(0.5)
        transport = bed.transports["smtp:a.example"]
        assert transport.open == 5
        bed.queue.replace(
            attrs.evolve(
                changed(active_messages=1),
                delivery=DeliveryConfig(initial_concurrency=1, concurrency=1, idle=0.0),
            )
        )
        await trio.sleep(20)
        transport.most_open = 0
        for _ in range(6):
            await bed.accept("r@a.example")
        await trio.sleep(0.5)
        assert bed.queue.statistics().active_messages <= 1
        await trio.sleep(70)
        assert transport.most_open == 1
        assert len(transport.parcels) == 16


async def test_the_lease_stays_as_it_was(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed(config=changed(lease=900.0)) as bed:
        bed.queue.replace(attrs.evolve(changed(lease=60.0), hostname="new.example.net"))
        assert bed.queue.config.queue.lease == 900.0
        assert bed.queue.config.hostname == "new.example.net"


def test_a_window_shrinks_to_a_new_limit_at_once_and_grows_to_it_slowly() -> None:
    window = ConcurrencyWindow(10, 20)
    window.resize(4)
    assert window.size == 4
    for _ in range(100):
        window.success()
    assert window.size == 4
    window.resize(6)
    assert window.size == 4
    for _ in range(100):
        window.success()
    assert window.size == 6
