"""What brings attempts or the server down is held, with its story; what merely stood beside it is not."""

from __future__ import annotations

import copy

import pytest
import trio
from queue_bed import LATER, OK, answer_ok, config_with, open_bed

from elemta.delivery import Parcel
from elemta.mail import Outcome
from elemta.queue.claims import MOST_SUSPECTS
from elemta.spool import BodyCorrupt, MemoryStore, QueueFilter, RecipientState


async def crash(parcel: Parcel) -> list[Outcome]:
    await trio.sleep(0.01)
    raise ZeroDivisionError


async def hang(parcel: Parcel) -> list[Outcome]:
    await trio.sleep_forever()
    raise AssertionError


async def test_attempts_that_crash_end_in_a_hold(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed(crash, config=config_with(retry=(300.0,))) as bed:
        message = await bed.accept("r@a.example")
        await trio.sleep(500)
        entry = await bed.entry(message)
        assert (entry.state, entry.interrupted) == (RecipientState.QUEUED, 2)
        await trio.sleep(86_400)
        entry = await bed.entry(message)
        (held,) = bed.of("recipient.held")
        assert len(bed.parcels("smtp:a.example")) == 3
    assert (entry.state, entry.reason, entry.attempts) == (RecipientState.HELD, "crashes", 3)
    assert (
        entry.reply == "451 4.3.0 held: 3 attempts in a row ended in a crash, the last with ZeroDivisionError"
    )
    assert (held.message, held.reason) == (message, "crashes")  # type: ignore[attr-defined]
    assert bed.kinds().count("recipient.deferred") == 2


async def test_a_message_whose_content_is_damaged_is_held_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def answer(parcel: Parcel) -> list[Outcome]:
        await trio.sleep(0.01)
        if parcel.recipients[0].mailbox.local_part == "r":
            raise BodyCorrupt("the body does not match its digest")
        return [OK]

    async with open_bed(answer) as bed:
        message = await bed.accept("r@a.example")
        other = await bed.accept("s@a.example")
        await trio.sleep(1)
        entry = await bed.entry(message)
        assert await bed.spool.show(other) is None
        (held,) = bed.of("recipient.held")
    assert (entry.state, entry.reason) == (RecipientState.HELD, "corrupt")
    assert held.detail == "the body does not match its digest"  # type: ignore[attr-defined]
    assert "task.crashed" not in bed.kinds()


async def test_a_release_gives_it_all_its_chances_again(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed(crash, config=config_with(retry=(300.0,), hold_after_crashes=1)) as bed:
        message = await bed.accept("r@a.example")
        await trio.sleep(1)
        assert (await bed.entry(message)).state is RecipientState.HELD
        bed.transports["smtp:a.example"].answer = answer_ok
        await bed.spool.release(QueueFilter())
        await trio.sleep(1)
        assert await bed.spool.show(message) is None


async def test_a_result_between_crashes_ends_the_row(autojump_clock: trio.testing.MockClock) -> None:
    outcomes = iter([None, None, LATER, None, None, LATER, OK])

    async def answer(parcel: Parcel) -> list[Outcome]:
        await trio.sleep(0.01)
        outcome = next(outcomes)
        if outcome is None:
            raise ZeroDivisionError
        return [outcome]

    async with open_bed(answer, config=config_with(retry=(300.0,))) as bed:
        message = await bed.accept("r@a.example")
        await trio.sleep(86_400)
        assert await bed.spool.show(message) is None


async def test_the_breaker_can_be_switched_off(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed(crash, config=config_with(retry=(300.0,), hold_after_crashes=0)) as bed:
        message = await bed.accept("r@a.example")
        await trio.sleep(3100)
        entry = await bed.entry(message)
    assert (entry.state, entry.interrupted) == (RecipientState.QUEUED, 11)


async def crashes_of_the_server(store: MemoryStore, times: int) -> MemoryStore:
    """A copy of the store as it lies on the disk when the server dies in the middle of all its attempts."""
    for _ in range(times):
        async with open_bed(hang, store=store) as bed:
            await trio.sleep(120)
            await bed.spool.wait_recorded()
            after = copy.deepcopy(store)
        store = after
    return store


async def test_what_was_under_way_at_three_crashes_of_the_server_is_held(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = MemoryStore()
    async with open_bed(hang, store=store) as bed:
        message = await bed.accept("r@a.example")
        await trio.sleep(1)
        await bed.spool.wait_recorded()
        died = copy.deepcopy(store)
    died = await crashes_of_the_server(died, 2)
    async with open_bed(store=died) as bed:
        await trio.sleep(1)
        entry = await bed.entry(message)
        assert bed.parcels("smtp:a.example") == []
        assert bed.kinds() == ["recipient.held"]
    assert (entry.state, entry.reason) == (RecipientState.HELD, "crashes")
    assert entry.reply == "451 4.3.0 held: 3 attempts in a row ended in a crash"


async def test_few_suspects_are_tried_at_a_time(autojump_clock: trio.testing.MockClock) -> None:
    """All that is in memory counts as under way: the third crash must not condemn all of it."""
    store = MemoryStore()
    async with open_bed(hang, store=store) as bed:
        for number in range(50):
            await bed.accept(f"r{number}@a{number % 10}.example")
        await trio.sleep(1)
        await bed.spool.wait_recorded()
        died = copy.deepcopy(store)
    died = await crashes_of_the_server(died, 2)
    async with open_bed(store=died) as bed:
        await trio.sleep(1)
        await bed.spool.wait_recorded()
        totals = await bed.spool.totals()
        assert totals.held == MOST_SUSPECTS
        await trio.sleep(1000)
        totals = await bed.spool.totals()
    assert (totals.held, totals.queued, totals.delivered) == (MOST_SUSPECTS, 0, 50 - MOST_SUSPECTS)


@pytest.mark.parametrize("interrupted", [1, 2])
async def test_fewer_crashes_are_forgiven(interrupted: int, autojump_clock: trio.testing.MockClock) -> None:
    store = MemoryStore()
    async with open_bed(hang, store=store) as bed:
        message = await bed.accept("r@a.example", "s@a.example")
        await trio.sleep(1)
        died = copy.deepcopy(store)
    died = await crashes_of_the_server(died, interrupted - 1)
    async with open_bed(store=died) as bed:
        await trio.sleep(1)
        assert await bed.spool.show(message) is None
        assert bed.queue.room.suspects == 0
