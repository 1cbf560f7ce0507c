"""The whole queue on virtual time, from an accepted message to its end."""

from __future__ import annotations

import email
import email.policy
import itertools

import attrs
import pytest
import trio
from queue_bed import OK, answer_ok, answers, config_with, open_bed

from elemta.config import Config, DeliveryConfig, QueueConfig
from elemta.delivery import Parcel
from elemta.mail import Cause, Deferred, Failed, Outcome, Reply

LATER = Deferred(Cause.REMOTE_REPLY, Reply.of(451, "4.3.0", "later"), "next.example", from_remote=True)
NEVER = Failed(Cause.REMOTE_REPLY, Reply.of(550, "5.1.1", "no such user"), "next.example", from_remote=True)
UNREACHABLE = Deferred(Cause.CONNECT, Reply.of(451, "4.4.1", "no answer"))


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


async def test_deferred_is_tried_again_by_the_schedule(autojump_clock: trio.testing.MockClock) -> None:
    times: list[float] = []

    async def answer(parcel: Parcel) -> list[Outcome]:
        times.append(trio.current_time())
        await trio.sleep(0)
        return [LATER if len(times) < 4 else OK]

    async with open_bed(answer, config=config_with(retry=(300.0, 600.0, 1200.0))) as bed:
        await bed.accept("r@a.example")
        await trio.sleep(3600)
    waits = [round(b - a) for a, b in itertools.pairwise(times)]
    assert waits == [300, 600, 1200]
    assert bed.kinds().count("recipient.deferred") == 3
    assert bed.kinds()[-1] == "recipient.delivered"


async def test_failed_makes_one_bounce_that_reaches_the_sender(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed() as bed:
        from queue_bed import ScriptedTransport

        bed.transports["smtp:a.example"] = ScriptedTransport(answers(NEVER))
        await bed.accept("r@a.example", "s@a.example")
        await trio.sleep(5)
        (parcel,) = bed.transports["smtp:example.org"].parcels
        totals = await bed.spool.totals()
    assert parcel.envelope.reverse_path.is_null
    assert str(parcel.recipients[0].mailbox) == "sender@example.org"
    notice = email.message_from_bytes(parcel.content.body or b"", policy=email.policy.default)
    assert notice.get_content_type() == "multipart/report"
    status = list(notice.iter_parts())[1]
    fields = [block["Action"] for block in status.get_payload()[1:]]  # type: ignore[union-attr, index]
    assert fields == ["failed", "failed"]
    assert "Subject: x" in list(notice.iter_parts())[2].as_string()
    assert (totals.accepted, totals.failed, totals.delivered, totals.queued) == (3, 2, 1, 0)


async def test_a_bounce_is_never_bounced(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed(answers(NEVER)) as bed:
        await bed.accept("r@a.example", sender=None)
        await trio.sleep(5)
        totals = await bed.spool.totals()
    assert (totals.accepted, totals.failed, totals.queued) == (1, 1, 0)
    assert "notice.queued" not in bed.kinds()


async def test_one_recipient_fails_the_other_arrives(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed(answers(OK, NEVER)) as bed:
        await bed.accept("r@a.example", "s@a.example", sender=None)
        await trio.sleep(5)
        totals = await bed.spool.totals()
    assert (totals.delivered, totals.failed) == (1, 1)


async def test_late_mail_is_told_once_and_expiry_ends_it(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed(config=config_with(delay_notice=3600.0, lifetime=86400.0)) as bed:
        from queue_bed import ScriptedTransport

        bed.transports["smtp:a.example"] = ScriptedTransport(answers(LATER))
        await bed.accept("r@a.example")
        await trio.sleep(2 * 86400)
        notices = [parcel.content.body or b"" for parcel in bed.transports["smtp:example.org"].parcels]
        totals = await bed.spool.totals()
    assert [b"Action: delayed" in notice for notice in notices] == [True, False]
    assert b"Action: failed" in notices[1]
    assert (totals.expired, totals.queued) == (1, 0)
    (failure,) = bed.of("recipient.failed")
    assert failure.expired  # type: ignore[attr-defined]


async def test_a_notice_expires_without_a_word(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed(answers(LATER)) as bed:
        await bed.accept("r@a.example", sender=None)
        await trio.sleep(3 * 86400)
        totals = await bed.spool.totals()
    assert (totals.expired, totals.queued, totals.accepted) == (1, 0, 1)


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
        from queue_bed import ScriptedTransport

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
    from elemta.spool import QueueFilter

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
    from elemta.spool import QueueFilter

    async with open_bed(answers(LATER), config=config_with(retry=(3000.0,))) as bed:
        await bed.accept("r@a.example")
        await trio.sleep(1)
        await bed.spool.retry(QueueFilter())
        await trio.sleep(1)
        assert len(bed.transports["smtp:a.example"].parcels) == 2


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
