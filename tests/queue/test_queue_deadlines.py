"""What senders may ask of time: deliver by (RFC 2852), not before (RFC 4865), sooner than others (RFC 6710)."""

from __future__ import annotations

import email
import email.policy

import pytest
import trio
from queue_bed import (
    LATER,
    OK,
    UNREACHABLE,
    Bed,
    ScriptedTransport,
    SettableClock,
    answers,
    config_with,
    open_bed,
)

from elemta.config import Config, DeliveryConfig
from elemta.delivery import Parcel
from elemta.mail import (
    Cause,
    DeliverBy,
    DeliverByMode,
    DsnOptions,
    Notify,
    Outcome,
    Recipient,
    parse_mailbox,
)
from elemta.queue.results import Results
from elemta.spool import MemoryStore, QueueFilter

EPOCH = SettableClock().offset
RETURN, NOTIFY = DeliverByMode.RETURN, DeliverByMode.NOTIFY


def by(seconds: float, mode: DeliverByMode = RETURN, *, trace: bool = False) -> DeliverBy:
    return DeliverBy(EPOCH + trio.current_time() + seconds, mode, trace)


def person(notify: Notify) -> Recipient:
    return Recipient(parse_mailbox("r@a.example"), DsnOptions(notify=notify))


def notices(bed: Bed) -> list[bytes]:
    return [parcel.content.body or b"" for parcel in bed.parcels("smtp:example.org")]


def busy(bed: Bed, *outcomes: Outcome) -> ScriptedTransport:
    transport = bed.transports["smtp:a.example"] = ScriptedTransport(answers(*outcomes))
    return transport


async def test_a_message_is_returned_at_its_deadline(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed(config=config_with(retry=(300.0, 3600.0))) as bed:
        transport = busy(bed, LATER)
        await bed.accept("r@a.example", deliver_by=by(1000))
        await trio.sleep(999)
        assert len(transport.parcels) == 2
        assert notices(bed) == []
        await trio.sleep(60)
        (notice,) = notices(bed)
        totals = await bed.spool.totals()
        (failure,) = bed.of("recipient.failed")
    assert b"Action: failed" in notice
    assert b"Status: 5.4.7" in notice
    assert b"Deliver-By-Date: " in notice
    assert (totals.expired, totals.queued) == (1, 0)
    assert (failure.expired, failure.cause) == (True, Cause.EXPIRED)  # type: ignore[attr-defined]


async def test_a_deadline_that_ends_in_a_ready_queue_is_kept(autojump_clock: trio.testing.MockClock) -> None:
    """The one connection is busy for longer than the message has time."""

    async def slow(parcel: Parcel) -> list[Outcome]:
        await trio.sleep(500 if parcel.recipients[0].mailbox.local_part == "r" else 0)
        return [OK] * len(parcel.recipients)

    delivery = DeliveryConfig(initial_concurrency=1, concurrency=1)
    async with open_bed(slow, config=Config(hostname="mx.example.net", delivery=delivery)) as bed:
        await bed.accept("r@a.example")
        for seconds in (100, 490):
            await bed.accept("q@a.example", deliver_by=by(seconds))
        await bed.accept("p@a.example")
        await trio.sleep(200)
        assert len(notices(bed)) == 1, "without waiting for the connection"
        await trio.sleep(400)
        assert len(notices(bed)) == 2
        tried = [str(parcel.recipients[0].mailbox) for parcel in bed.parcels("smtp:a.example")]
    assert tried == ["r@a.example", "p@a.example"]


async def test_a_deadline_that_ends_during_a_suspension_is_kept(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed() as bed:
        transport = bed.transports["smtp:a.example"] = ScriptedTransport(answers(OK), UNREACHABLE)
        for _ in range(30):
            await bed.accept("r@a.example", sender=None)
        await trio.sleep(10)
        connects = transport.connects
        await bed.accept("r@a.example", deliver_by=by(50))
        await bed.accept("r@a.example", deliver_by=by(60, NOTIFY))
        await trio.sleep(100)
        assert transport.connects == connects
        first, second = notices(bed)
    assert b"Status: 5.4.7" in first
    assert b"Action: delayed" in second
    assert b"Status: 4.4.1" in second


async def test_lateness_is_told_at_the_time_that_the_sender_named(
    autojump_clock: trio.testing.MockClock,
) -> None:
    config = config_with(retry=(300.0, 7200.0), delay_notice=3600.0)
    async with open_bed(config=config) as bed:
        transport = busy(bed, LATER)
        await bed.accept("r@a.example", deliver_by=by(10_000, NOTIFY))
        await trio.sleep(9_990)
        assert notices(bed) == []
        await trio.sleep(60)
        (notice,) = notices(bed)
        attempts = len(transport.parcels)
        await trio.sleep(86_400)
        assert len(notices(bed)) == 1
        assert len(transport.parcels) > attempts
    assert b"Action: delayed" in notice
    assert b"Will-Retry-Until: " in notice


@pytest.mark.parametrize(
    ("notify", "told"), [(Notify.SUCCESS, True), (Notify.FAILURE, True), (Notify.NEVER, False)]
)
async def test_only_never_silences_the_word_about_a_missed_time(
    notify: Notify, told: bool, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_bed() as bed:
        busy(bed, LATER)
        await bed.accept(person(notify), deliver_by=by(1000, NOTIFY))
        await trio.sleep(8000)
        assert bool(notices(bed)) is told


async def test_a_time_that_was_over_on_arrival_is_not_told_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed() as bed:
        busy(bed, LATER)
        await bed.accept("r@a.example", deliver_by=by(-5, NOTIFY))
        await trio.sleep(86_400)
        assert notices(bed) == []


async def test_a_return_without_a_wish_for_failures_is_silent(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed() as bed:
        busy(bed, LATER)
        await bed.accept(person(Notify.NEVER), deliver_by=by(1000))
        await bed.accept("r@a.example", sender=None, deliver_by=by(1000))
        await trio.sleep(2000)
        totals = await bed.spool.totals()
        assert notices(bed) == []
    assert (totals.expired, totals.queued) == (2, 0)


async def test_a_deadline_survives_a_restart(autojump_clock: trio.testing.MockClock) -> None:
    store = MemoryStore()
    async with open_bed(store=store) as bed:
        busy(bed, LATER)
        message = await bed.accept("r@a.example", deliver_by=by(1000))
        await trio.sleep(10)
        await bed.entry(message)
    async with open_bed(store=store) as bed:
        transport = busy(bed, LATER)
        await trio.sleep(1100)
        assert len(notices(bed)) == 1
        assert transport.parcels


async def test_a_message_is_not_tried_before_its_release(autojump_clock: trio.testing.MockClock) -> None:
    release = EPOCH + trio.current_time() + 50_000
    store = MemoryStore()
    async with open_bed(store=store) as bed:
        message = await bed.accept("r@a.example", release_at=release)
        await trio.sleep(20_000)
        entry = await bed.entry(message)
        assert (entry.due, entry.reason, entry.attempts) == (release, "future-release", 0)
        assert bed.parcels("smtp:a.example") == []
    async with open_bed(store=store) as bed:
        await trio.sleep(29_900)
        assert bed.parcels("smtp:a.example") == []
        await trio.sleep(200)
        assert await bed.spool.show(message) is None
        assert len(bed.parcels("smtp:a.example")) == 1


async def test_hold_and_release_by_an_operator_do_not_bring_it_forward(
    autojump_clock: trio.testing.MockClock,
) -> None:
    release = EPOCH + trio.current_time() + 50_000
    async with open_bed() as bed:
        message = await bed.accept("r@a.example", release_at=release)
        await bed.spool.hold(QueueFilter(), "maintenance")
        await bed.spool.release(QueueFilter())
        await trio.sleep(100)
        await bed.spool.retry(QueueFilter())
        await trio.sleep(100)
        entry = await bed.entry(message)
        assert (entry.due, entry.reason, entry.attempts) == (release, "future-release", 0)
        assert bed.parcels("smtp:a.example") == []
        await trio.sleep(50_000)
        assert len(bed.parcels("smtp:a.example")) == 1


async def test_the_lifetime_begins_with_the_release(autojump_clock: trio.testing.MockClock) -> None:
    config = config_with(lifetime=10_000.0, delay_notice=5_000.0, retry=(1000.0,))
    async with open_bed(config=config) as bed:
        busy(bed, LATER)
        await bed.accept("r@a.example", release_at=EPOCH + trio.current_time() + 50_000)
        await trio.sleep(54_000)
        assert notices(bed) == []
        await trio.sleep(2_500)
        assert [b"Action: delayed" in notice for notice in notices(bed)] == [True]
        await trio.sleep(5_000)
        assert [b"Action: failed" in notice for notice in notices(bed)] == [False, True]


async def test_a_release_in_the_past_changes_nothing(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        message = await bed.accept("r@a.example", release_at=EPOCH + trio.current_time())
        await trio.sleep(1)
        assert await bed.spool.show(message) is None


async def one_at_a_time(parcel: Parcel) -> list[Outcome]:
    await trio.sleep(10)
    return [OK]


def order(bed: Bed) -> list[str]:
    return [parcel.recipients[0].mailbox.local_part for parcel in bed.parcels("smtp:a.example")]


SERIAL = Config(hostname="mx.example.net", delivery=DeliveryConfig(initial_concurrency=1, concurrency=1))


async def test_what_is_urgent_overtakes_what_waits(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed(one_at_a_time, config=SERIAL) as bed:
        for name, priority in (("first", 0), ("bulk", -4), ("plain", 0), ("urgent", 4), ("alarm", 9)):
            await bed.accept(f"{name}@a.example", priority=priority)
            await trio.sleep(0.1)
        await trio.sleep(100)
        assert order(bed) == ["first", "alarm", "urgent", "plain", "bulk"]


async def test_nothing_is_overtaken_for_ever(autojump_clock: trio.testing.MockClock) -> None:
    """Urgent mail comes as fast as it can be sent; the old message of low priority gets its turn."""
    async with open_bed(one_at_a_time, config=SERIAL) as bed:
        await bed.accept("first@a.example")
        await bed.accept("bulk@a.example", priority=-1)
        for _ in range(60):
            await bed.accept("urgent@a.example", priority=3)
            await trio.sleep(10)
        assert "bulk" in order(bed)
        assert order(bed).index("bulk") >= 20


async def test_what_is_urgent_is_claimed_first(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed(one_at_a_time, config=SERIAL) as bed:
        await trio.sleep(1)  # past the scheduler's first look
        bed.spool.set_intake(None)
        for name, priority in (("plain", 0), ("bulk", -4), ("urgent", 4)):
            await bed.accept(f"{name}@a.example", priority=priority)
        claims = await bed.spool.claim(10)
    assert [str(claim.recipients[0].recipient.mailbox.local_part) for claim in claims] == [
        "urgent",
        "plain",
        "bulk",
    ]


async def test_the_notice_of_a_missed_time_is_a_report(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        busy(bed, LATER)
        await bed.accept("r@a.example", deliver_by=by(1000))
        await trio.sleep(2000)
        (notice,) = notices(bed)
    report = email.message_from_bytes(notice, policy=email.policy.default)
    assert report.get_content_type() == "multipart/report"


async def test_a_crash_while_a_message_is_returned_leaves_it_to_be_returned_again(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle = Results.settle
    crashes = 0

    async def crash_once(self: Results, *arguments: object) -> None:
        nonlocal crashes
        crashes += 1
        if crashes == 1:
            raise ArithmeticError("a bug")
        await settle(self, *arguments)  # type: ignore[arg-type]

    async with open_bed(config=config_with(retry=(300.0, 3600.0))) as bed:
        busy(bed, LATER)
        await bed.accept("r@a.example", deliver_by=by(1000))
        await trio.sleep(900)
        monkeypatch.setattr(Results, "settle", crash_once)
        await trio.sleep(86400)
        (notice,) = notices(bed)
        totals = await bed.spool.totals()
        assert "task.crashed" in bed.kinds()
    assert b"Status: 5.4.7" in notice
    assert (totals.expired, totals.queued) == (1, 0)
