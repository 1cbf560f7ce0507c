"""Pausing and resuming by sender, domain and route; returning mail to its sender."""

from __future__ import annotations

import pytest
import trio
from queue_bed import LATER, answers, config_with, open_bed

from elemta.config import Config, RouteConfig, TransportKind
from elemta.config.units import parse_route_pattern
from elemta.mail import MailSyntaxError, parse_mailbox
from elemta.queue.operations import BOUNCED, route_named, route_test
from elemta.routing import Router
from elemta.spool import MemoryStore, PauseKind, QueueFilter, RecipientState, SpoolUnavailable

KINDS = [
    (PauseKind.DOMAIN, "x.example"),
    (PauseKind.SENDER, "sender@example.org"),
    (PauseKind.ROUTE, "smtp:x.example"),
]


@pytest.mark.parametrize(("kind", "value"), KINDS)
async def test_what_is_paused_waits_with_its_reason_until_it_is_resumed(
    kind: PauseKind, value: str, autojump_clock: object
) -> None:
    with trio.fail_after(10**6):
        async with open_bed() as bed:
            operations = bed.queue.operations
            await operations.pause(kind, value, reason="maintenance, says anna")
            message = await bed.accept("a@x.example", "b@x.example")
            other = await bed.accept("a@y.example", sender="other@example.org")
            await trio.sleep(7200)
            entry = await bed.entry(message)
            assert (entry.state, entry.reason, entry.attempts) == (RecipientState.HELD, "paused", 0)
            assert await bed.spool.show(other) is None
            assert bed.parcels("smtp:x.example") == []
            stored = await bed.spool.stored(message)
            assert stored is not None
            pause = operations.pause_of(stored, "b@x.example")
            assert pause is not None
            assert (pause.kind, pause.value, pause.reason) == (kind, value, "maintenance, says anna")
            assert await operations.resume(kind, value) == 2
            await trio.sleep(1)
            assert await bed.spool.show(message) is None
            assert await operations.resume(kind, value) is None
            assert (await bed.spool.totals()).difference == 0


async def test_a_pause_outlives_the_server(autojump_clock: object) -> None:
    store = MemoryStore()
    with trio.fail_after(10**6):
        async with open_bed(store=store) as bed:
            await bed.queue.operations.pause(PauseKind.DOMAIN, "x.example", reason="why")
            message = await bed.accept("a@x.example")
            await trio.sleep(1)
        async with open_bed(store=store) as bed:
            later = await bed.accept("a@x.example")
            await trio.sleep(1)
            assert [pause.reason for pause in await bed.spool.pauses()] == ["why"]
            assert (await bed.entry(later)).reason == "paused"
            assert await bed.queue.operations.resume(PauseKind.DOMAIN, "x.example") == 2
            await trio.sleep(1)
            assert await bed.spool.show(message) is None
        async with open_bed(store=store) as bed:
            assert await bed.spool.pauses() == ()


async def test_a_pause_with_an_end_ends_by_itself(autojump_clock: object) -> None:
    with trio.fail_after(10**6):
        async with open_bed() as bed:
            now = bed.clock.time()
            await bed.queue.operations.pause(PauseKind.DOMAIN, "x.example", reason="", until=now + 1000)
            message = await bed.accept("a@x.example")
            await trio.sleep(990)
            assert (await bed.entry(message)).reason == "paused"
            await trio.sleep(20)
            assert await bed.spool.show(message) is None
            assert await bed.spool.pauses() == ()


async def test_what_waits_for_a_connection_is_put_aside_and_what_is_under_way_ends(
    autojump_clock: object,
) -> None:
    async def slow(parcel: object) -> list[object]:
        await trio.sleep(10)
        return list(await answers(LATER)(parcel))  # type: ignore[arg-type]

    with trio.fail_after(10**6):
        async with open_bed(slow, config=config_with()) as bed:  # type: ignore[arg-type]
            messages = [await bed.accept("a@x.example", "a@y.example") for _ in range(20)]
            await trio.sleep(1)
            started = len(bed.parcels("smtp:x.example"))
            assert 0 < started < 20
            await bed.queue.operations.pause(PauseKind.DOMAIN, "x.example", reason="")
            await trio.sleep(60)
            assert len(bed.parcels("smtp:x.example")) <= started + 5  # what had gone ahead
            states = [(await bed.entry(message)).reason for message in messages]
            assert states.count("paused") >= 10
            assert len(bed.parcels("smtp:y.example")) == 20
            assert (await bed.spool.totals()).difference == 0


async def test_the_held_stay_held_when_a_pause_ends(autojump_clock: object) -> None:
    with trio.fail_after(10**6):
        async with open_bed() as bed:
            await bed.queue.operations.pause(PauseKind.DOMAIN, "x.example", reason="")
            message = await bed.accept("a@x.example")
            await trio.sleep(1)
            assert await bed.spool.hold(QueueFilter(messages=(message,)), "look at this") == 1
            assert await bed.queue.operations.resume(PauseKind.DOMAIN, "x.example") == 0
            await trio.sleep(1)
            assert (await bed.entry(message)).reason == "look at this"


async def test_a_bounced_message_is_returned_with_a_notice(autojump_clock: object) -> None:
    with trio.fail_after(10**6):
        async with open_bed(answers(LATER), config=config_with()) as bed:
            messages = [await bed.accept("a@x.example", "b@y.example") for _ in range(60)]
            kept = await bed.accept("a@z.example")
            await trio.sleep(1)
            assert await bed.spool.hold(QueueFilter(messages=(messages[0],)), "odd") == 2
            count = await bed.queue.operations.bounce(QueueFilter(domain="x.example"))
            assert count == 60
            totals = await bed.spool.totals()
            assert (totals.failed, totals.difference) == (60, 0)
            assert len(bed.of("notice.queued")) == 60
            entry = await bed.entry(messages[0], 1)
            assert (entry.state, entry.reason) == (RecipientState.HELD, "odd")
            assert (await bed.entry(kept)).state is RecipientState.QUEUED
            history = await bed.spool.history(messages[1])
            assert history is not None
            assert [attempt.reason for attempt in history.attempts] == [
                "remote-reply",
                "remote-reply",
                "operator",
            ]


async def test_bouncing_a_notice_tells_nobody(autojump_clock: object) -> None:
    with trio.fail_after(10**6):
        async with open_bed(answers(LATER)) as bed:
            await bed.accept("a@x.example", sender=None)
            await trio.sleep(1)
            assert await bed.queue.operations.bounce(QueueFilter(sender="<>")) == 1
            totals = await bed.spool.totals()
            assert (totals.failed, totals.messages, totals.difference) == (1, 0, 0)


async def test_a_route_selects_what_would_go_there(autojump_clock: object) -> None:
    with trio.fail_after(10**6):
        async with open_bed(answers(LATER)) as bed:
            message = await bed.accept("a@X.example", "b@y.example")
            await trio.sleep(1)
            which = bed.queue.operations.selection(PauseKind.ROUTE, "smtp:x.example")
            (entry,) = await bed.spool.list(which)
            assert entry.id == message
            assert [parse_mailbox(each.address).domain.text for each in entry.recipients] == ["x.example"]


async def test_a_claim_that_is_not_ended_is_given_back_as_it_was(autojump_clock: object) -> None:
    with trio.fail_after(10**6):
        async with open_bed(answers(LATER), config=config_with()) as bed:
            message = await bed.accept("a@x.example", "b@y.example")
            await trio.sleep(1)
            assert await bed.spool.hold(QueueFilter(messages=(message,)), "odd") == 2
            before = bed.queue.statistics().active_messages
            (claim,) = await bed.spool.seize((message,), QueueFilter())
            with trio.CancelScope() as scope:
                scope.cancel()
                await bed.queue.claims.end(claim, BOUNCED)
            assert bed.queue.statistics().active_messages == before
            entries = [await bed.entry(message, index) for index in (0, 1)]
            assert [(entry.state, entry.reason, entry.leased) for entry in entries] == [
                (RecipientState.HELD, "odd", False)
            ] * 2


ROUTER = Router(
    Config(
        hostname="mx.example.net",
        routes=(
            RouteConfig(parse_route_pattern("vip@x.example"), TransportKind.DISCARD),
            RouteConfig(parse_route_pattern("y.example"), TransportKind.SMTP, host="192.0.2.1", port=2525),
        ),
    )
)


@pytest.mark.parametrize(
    ("route", "address", "domain_may", "takes"),
    [
        ("smtp:x.example", "a@x.example", True, True),
        ("smtp:x.example", "vip@x.example", True, False),
        ("smtp:x.example", "a@z.example", False, False),
        ("discard", "vip@x.example", True, True),
        ("smtp:[192.0.2.1]:2525", "a@y.example", True, True),
        ("smtp:[192.0.2.1]:2525", "a@x.example", True, False),
        ("smtp:x.example", "no address", False, False),
    ],
)
def test_a_selection_by_route_takes_whom_the_route_would_take(route, address, domain_may, takes):
    test = route_test(ROUTER, route)
    assert test.domain(address.partition("@")[2]) is domain_may
    assert test.address(address) is takes


@pytest.mark.parametrize(
    ("name", "route"),
    [
        ("smtp:x.example", "smtp:x.example"),
        ("discard", "discard"),
        ("x.example", "smtp:x.example"),
        ("vip@x.example", "discard"),
        ("y.example", "smtp:[192.0.2.1]:2525"),
        ("[192.0.2.7]", "smtp:[192.0.2.7]"),
    ],
)
def test_a_route_is_meant_by_its_name_a_domain_or_an_address(name, route):
    assert route_named(ROUTER, name) == route


def test_what_can_be_no_route_is_told():
    with pytest.raises(MailSyntaxError):
        route_named(ROUTER, "no domain")


async def test_a_pause_that_cannot_be_ended_goes_on(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, value = KINDS[0]

    async def fail(*_: object) -> int:
        raise SpoolUnavailable

    with trio.fail_after(10**6):
        async with open_bed() as bed:
            operations = bed.queue.operations
            await operations.pause(kind, value, reason="maintenance")
            with monkeypatch.context() as patch:
                patch.setattr(type(bed.spool), "resume", fail)
                with pytest.raises(SpoolUnavailable):
                    await operations.resume(kind, value)
            message = await bed.accept("a@x.example")
            await trio.sleep(7200)
            assert (await bed.entry(message)).reason == "paused"
            assert await operations.resume(kind, value) == 1
