"""From the spool to the sites, on virtual time: what is taken into memory, and when."""

from __future__ import annotations

import trio
from queue_bed import LATER, OK, answers, config_with, open_bed

from elemta.config import Config, DeliveryConfig
from elemta.delivery import Parcel
from elemta.mail import Outcome
from elemta.spool import QueueFilter, SpoolFull


async def test_an_accepted_message_is_delivered_and_gone(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        message = await bed.accept("r@a.example")
        await trio.sleep(1)
        assert await bed.spool.show(message) is None
        assert bed.kinds() == ["recipient.delivered"]
        totals = await bed.spool.totals()
    assert (totals.accepted, totals.delivered, totals.queued) == (1, 1, 0)


async def test_the_transport_gets_what_was_stored(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        await bed.accept("r@a.example", body=b"Subject: y\r\n\r\n.dot\r\n")
        await trio.sleep(1)
        (parcel,) = bed.transports["smtp:a.example"].parcels
    assert parcel.content.prefix == b"Received: x\r\n"
    assert parcel.content.body == b"Subject: y\r\n\r\n.dot\r\n"
    assert [str(recipient.mailbox) for recipient in parcel.recipients] == ["r@a.example"]


async def test_recipients_at_one_site_share_a_transaction(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        await bed.accept("r@a.example", "s@a.example", "t@b.example")
        await trio.sleep(1)
        assert [len(parcel.recipients) for parcel in bed.transports["smtp:a.example"].parcels] == [2]
        assert [len(parcel.recipients) for parcel in bed.transports["smtp:b.example"].parcels] == [1]


async def test_many_recipients_are_split(autojump_clock: trio.testing.MockClock) -> None:
    config = Config(hostname="mx.example.net", delivery=DeliveryConfig(recipients_per_transaction=3))
    async with open_bed(config=config) as bed:
        await bed.accept(*(f"r{i}@a.example" for i in range(7)))
        await trio.sleep(1)
        assert sorted(len(parcel.recipients) for parcel in bed.transports["smtp:a.example"].parcels) == [
            1,
            3,
            3,
        ]
        assert (await bed.spool.totals()).queued == 0


async def test_mail_beyond_the_active_bound_waits_in_the_spool_and_follows(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def slow(parcel: Parcel) -> list[Outcome]:
        await trio.sleep(1)
        return [OK]

    async with open_bed(slow, config=config_with(active_messages=10)) as bed:
        for _ in range(50):
            await bed.accept("r@a.example")
        assert bed.queue.statistics().active_messages <= 10
        await trio.sleep(120)
        totals = await bed.spool.totals()
        assert bed.queue.statistics().active_messages == 0
        assert bed.queue.statistics().active_octets == 0
    assert (totals.delivered, totals.queued) == (50, 0)


async def test_mail_in_the_spool_at_the_start_is_delivered(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        bed.spool.set_intake(None)
        message = await bed.accept("r@a.example")
        await trio.sleep(61)
        assert await bed.spool.show(message) is None


async def test_held_mail_waits_for_its_release(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed(answers(LATER), config=config_with(retry=(300.0,))) as bed:
        message = await bed.accept("r@a.example")
        await trio.sleep(1)
        assert await bed.spool.hold(QueueFilter(messages=(message,)), "because") == 1
        await trio.sleep(7200)
        assert len(bed.transports["smtp:a.example"].parcels) == 1
        await bed.spool.release(QueueFilter(messages=(message,)))
        await trio.sleep(1)
        assert len(bed.transports["smtp:a.example"].parcels) == 2


async def test_retry_now_does_not_wait_for_the_schedule(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed(answers(LATER), config=config_with(retry=(3000.0,))) as bed:
        await bed.accept("r@a.example")
        await trio.sleep(1)
        await bed.spool.retry(QueueFilter())
        await trio.sleep(1)
        assert len(bed.transports["smtp:a.example"].parcels) == 2


async def test_a_full_disk_delays_the_scheduler_and_does_not_end_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed() as bed:
        spool, refused = bed.spool, []

        def full(name: str, times: int) -> None:
            work = getattr(spool, name)

            async def try_it(*values: object, **more: object) -> object:
                await trio.lowlevel.checkpoint()
                if len([each for each in refused if each == name]) < times:
                    refused.append(name)
                    raise SpoolFull("the disk is full")
                return await work(*values, **more)

            setattr(spool, name, try_it)

        for name in ("clamp_due", "claim", "next_due"):
            full(name, 3)
        spool.set_intake(None)
        message = await bed.accept("r@a.example")
        await trio.sleep(120)
        assert await spool.show(message) is None
        assert sorted(refused) == ["claim"] * 3 + ["clamp_due"] * 3 + ["next_due"] * 3
        assert "task.crashed" not in bed.kinds()
