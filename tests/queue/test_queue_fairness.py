"""One slow or dead destination, or one sender with a flood, does not keep others waiting."""

from __future__ import annotations

import attrs
import pytest
import trio
from queue_bed import OK, Bed, ScriptedTransport, config_with, open_bed

from elemta.delivery import Parcel
from elemta.mail import MessageId, Outcome
from elemta.spool import MemoryStore


async def hanging(parcel: Parcel) -> list[Outcome]:
    await trio.sleep(600)
    return [OK] * len(parcel.recipients)


async def gone(bed: Bed, message: MessageId, within: float) -> bool:
    """Whether the message leaves the spool in time."""
    with trio.move_on_after(within):
        while await bed.spool.show(message) is not None:
            await trio.sleep(0.1)
        return True
    return False


@pytest.mark.parametrize("destinations", [1, 3])
async def test_slow_destinations_with_many_messages_delay_no_other(
    destinations: int, autojump_clock: object
) -> None:
    config = config_with(active_messages=200)
    with trio.fail_after(10**6):
        async with open_bed(config=config) as bed:
            for number in range(destinations):
                name = f"smtp:slow{number}.example"
                bed.transports[name] = ScriptedTransport(hanging)
            for _ in range(150):
                for number in range(destinations):
                    await bed.accept(f"a@slow{number}.example")
            for number in range(10):
                message = await bed.accept(f"a@other{number}.example")
                assert await gone(bed, message, 2.0)
            assert (await bed.spool.totals()).difference == 0


async def test_a_backlog_for_a_slow_destination_delays_no_other_after_a_start(autojump_clock: object) -> None:
    store = MemoryStore()
    config = config_with(active_messages=100)
    with trio.fail_after(10**6):
        async with open_bed(config=config_with(active_messages=1), store=store) as bed:
            bed.transports["smtp:slow.example"] = ScriptedTransport(hanging)
            for _ in range(300):
                await bed.accept("a@slow.example")
            late = [await bed.accept(f"a@other{number}.example") for number in range(5)]
        async with open_bed(config=config, store=store) as bed:
            bed.transports["smtp:slow.example"] = ScriptedTransport(hanging)
            for message in late:
                assert await gone(bed, message, 5.0)


async def test_all_of_a_slow_destination_is_delivered_in_the_end(autojump_clock: object) -> None:
    async def slow(parcel: Parcel) -> list[Outcome]:
        await trio.sleep(5)
        return [OK] * len(parcel.recipients)

    with trio.fail_after(10**6):
        async with open_bed(slow, config=config_with(active_messages=60)) as bed:
            for _ in range(200):
                await bed.accept("a@slow.example")
            begun = trio.current_time()
            while (await bed.spool.totals()).messages:
                await trio.sleep(1)
            # Never fewer connections than the window allows: no pause between what is ready and what follows.
            assert trio.current_time() - begun <= 200 * 5 / 5
            totals = await bed.spool.totals()
            assert (totals.delivered, totals.difference) == (200, 0)


async def test_a_sender_with_a_flood_does_not_delay_another_to_the_same_destination(
    autojump_clock: object,
) -> None:
    async def steady(parcel: Parcel) -> list[Outcome]:
        await trio.sleep(1)
        return [OK] * len(parcel.recipients)

    config = config_with()
    config = attrs.evolve(config, delivery=attrs.evolve(config.delivery, concurrency=5))
    with trio.fail_after(10**6):
        async with open_bed(steady, config=config) as bed:
            for _ in range(1000):
                await bed.accept("a@x.example", sender="flood@example.org")
            await trio.sleep(2)
            message = await bed.accept("b@x.example", sender="someone@example.org")
            assert await gone(bed, message, 20.0)  # of 200 that the flood takes
            while (await bed.spool.totals()).messages:
                await trio.sleep(1)
            assert (await bed.spool.totals()).delivered == 1001
