"""Connections of a destination: how many, for how long, and what follows when they fail."""

from __future__ import annotations

import attrs
import trio
from queue_bed import LATER, OK, UNREACHABLE, ScriptedTransport, answer_ok, open_bed

from elemta.config import Config, DeliveryConfig
from elemta.delivery import Parcel, SessionLimits
from elemta.mail import Cause, Outcome


async def test_connections_are_kept_and_closed_when_idle(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        for _ in range(5):
            await bed.accept("r@a.example")
            await trio.sleep(1)
        transport = bed.transports["smtp:a.example"]
        assert (transport.connects, len(transport.parcels), transport.open) == (1, 5, 1)
        await trio.sleep(11)
        assert transport.open == 0


async def test_a_connection_that_is_not_usable_is_replaced(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        transport = ScriptedTransport(answer_ok, usable_after=lambda _: False)
        bed.transports["smtp:a.example"] = transport
        for _ in range(3):
            await bed.accept("r@a.example")
            await trio.sleep(1)
    assert (transport.connects, transport.open) == (3, 0)


async def test_messages_and_age_of_a_connection_are_bounded(autojump_clock: trio.testing.MockClock) -> None:
    delivery = DeliveryConfig(messages_per_connection=2, connection_lifetime=1000.0)
    async with open_bed(config=Config(hostname="mx.example.net", delivery=delivery)) as bed:
        for _ in range(6):
            await bed.accept("r@a.example")
            await trio.sleep(1)
        assert bed.transports["smtp:a.example"].connects == 3


async def test_a_next_hop_gets_no_more_in_a_session_or_transaction_than_it_takes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    transport = ScriptedTransport(answer_ok, limits=SessionLimits(messages=2, recipients=3))
    delivery = DeliveryConfig(initial_concurrency=1, concurrency=1)
    async with open_bed(config=Config(hostname="mx.example.net", delivery=delivery)) as bed:
        bed.transports["smtp:a.example"] = transport
        await bed.accept(*(f"r{number}@a.example" for number in range(8)))
        await bed.accept("later@a.example")
        await trio.sleep(5)
        names = [[each.mailbox.local_part for each in parcel.recipients] for parcel in transport.parcels]
        assert sorted(name for part in names for name in part) == sorted(
            ["later", *(f"r{number}" for number in range(8))]
        )
        assert sorted(map(len, names)) == [1, 2, 3, 3]
        assert transport.connects == 2
        assert bed.queue.statistics().active_messages == 0


async def test_what_does_not_fit_into_a_transaction_waits_with_the_site(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Each part has its own result: what one part was told is kept when the next one fails."""
    parts: list[int] = []

    async def once(parcel: Parcel) -> list[Outcome]:
        parts.append(len(parcel.recipients))
        return [OK if len(parts) == 1 else LATER] * len(parcel.recipients)

    transport = ScriptedTransport(once, limits=SessionLimits(recipients=2))
    async with open_bed() as bed:
        bed.transports["smtp:a.example"] = transport
        await bed.accept("a@a.example", "b@a.example", "c@a.example")
        await trio.sleep(5)
        (site,) = bed.queue.statistics().sites
        assert parts == [2, 1]
        assert (site.delivered, site.deferred) == (2, 1)


async def test_concurrency_starts_small_and_stays_below_its_limit(
    autojump_clock: trio.testing.MockClock,
) -> None:
    delivery = DeliveryConfig(initial_concurrency=2, concurrency=4)

    async def slow(parcel: Parcel) -> list[Outcome]:
        await trio.sleep(1)
        return [OK]

    async with open_bed(slow, config=Config(hostname="mx.example.net", delivery=delivery)) as bed:
        for _ in range(40):
            await bed.accept("r@a.example")
        await trio.sleep(0.5)
        transport = bed.transports["smtp:a.example"]
        assert transport.open == 2
        await trio.sleep(60)
        assert transport.most_open == 4
        assert len(transport.parcels) == 40


async def test_one_slow_site_does_not_delay_another(autojump_clock: trio.testing.MockClock) -> None:
    async def answer(parcel: Parcel) -> list[Outcome]:
        await trio.sleep(500 if "slow" in str(parcel.recipients[0].mailbox) else 0.01)
        return [OK]

    async with open_bed(answer) as bed:
        for _ in range(50):
            await bed.accept("r@slow.example")
        message = await bed.accept("r@quick.example")
        await trio.sleep(1)
        assert await bed.spool.show(message) is None


async def test_a_dead_site_is_left_alone_and_its_mail_waits(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed(refuse=UNREACHABLE) as bed:
        for _ in range(30):
            await bed.accept("r@a.example")
        await trio.sleep(10)
        connects = bed.transports["smtp:a.example"].connects
        assert connects < 30
        (site,) = bed.queue.statistics().sites
        assert site.suspended_for > 0
        await trio.sleep(200)
        assert bed.transports["smtp:a.example"].connects == connects
        bed.transports["smtp:a.example"].refuse = None
        await trio.sleep(1500)
        totals = await bed.spool.totals()
    assert (totals.delivered, totals.queued) == (30, 0)


async def test_mail_for_a_suspended_site_is_given_back_uncounted(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed(refuse=UNREACHABLE) as bed:
        for _ in range(30):
            await bed.accept("r@a.example")
        await trio.sleep(10)
        message = await bed.accept("r@a.example")
        await trio.sleep(1)
        entry = await bed.spool.show(message)
    assert entry is not None
    assert (entry.recipients[0].attempts, entry.recipients[0].leased) == (0, False)


async def test_a_crash_in_a_transport_defers_and_is_told(autojump_clock: trio.testing.MockClock) -> None:
    crashes = 0

    async def answer(parcel: Parcel) -> list[Outcome]:
        nonlocal crashes
        await trio.sleep(0)
        if crashes < 2:
            crashes += 1
            raise ZeroDivisionError
        return [OK]

    async with open_bed(answer) as bed:
        message = await bed.accept("r@a.example")
        await trio.sleep(1)
        entry = await bed.spool.show(message)
        assert entry is not None
        assert entry.recipients[0].reason == Cause.UNKNOWN_AFTER_DOT
        await trio.sleep(7200)
        assert await bed.spool.show(message) is None
    assert bed.kinds().count("task.crashed") == 2


async def test_the_attempt_deadline_ends_what_hangs(autojump_clock: trio.testing.MockClock) -> None:
    async def hang(parcel: Parcel) -> list[Outcome]:
        await trio.sleep_forever()
        raise AssertionError

    config = Config(hostname="mx.example.net")
    config = attrs.evolve(config, timeouts=attrs.evolve(config.timeouts, attempt=100.0, stuck=9999.0))
    async with open_bed(hang, config=config) as bed:
        message = await bed.accept("r@a.example")
        await trio.sleep(99)
        entry = await bed.spool.show(message)
        assert entry is not None
        assert entry.recipients[0].leased
        await trio.sleep(2)
        entry = await bed.spool.show(message)
    assert entry is not None
    assert (entry.recipients[0].leased, entry.recipients[0].reason) == (False, Cause.UNKNOWN_AFTER_DOT)
