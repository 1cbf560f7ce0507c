"""A route that does not serve: mail goes to the fallback of it, when the configuration says so."""

from __future__ import annotations

import pytest
import trio
from queue_bed import (
    LATER,
    NEVER,
    OK,
    UNREACHABLE,
    ScriptedTransport,
    answers,
    local_config,
    open_bed,
    plugin,
)

from elemta.config import Config, FallbackCause, FallbackConfig, RouteConfig, RoutePattern, TransportKind
from elemta.mail import Cause, Deferred, Failed, Outcome, Reply
from elemta.plugin.api import Changes, Plugin, hook
from elemta.spool import MemoryStore

RELAY = "smtp:[relay.example]:25"
NO_DOMAIN = Failed(Cause.NO_SUCH_DOMAIN, Reply.of(550, "5.1.2", "The recipient's domain does not exist"))
UNKNOWN = Deferred(Cause.UNKNOWN_AFTER_DOT, Reply.of(451, "4.4.2", "no answer to the final dot"))


def config(**changes: object) -> Config:
    fallback = FallbackConfig(host="relay.example", **changes)  # type: ignore[arg-type]
    return local_config(RouteConfig(RoutePattern(), TransportKind.SMTP, fallback=fallback))


def primary(outcome: Outcome, **more: object) -> ScriptedTransport:
    return ScriptedTransport(answers(outcome), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("outcome", "changes", "relayed_after"),
    [
        (UNREACHABLE, {}, 0.0),
        (LATER, {}, None),
        (LATER, {"causes": (FallbackCause.REMOTE_REPLY,)}, 0.0),
        (LATER, {"after": 1}, 0.0),
        (LATER, {"after": 3}, 900.0),
        (NEVER, {"after": 1, "causes": tuple(FallbackCause)}, None),
        (NO_DOMAIN, {}, None),
        (NO_DOMAIN, {"causes": (FallbackCause.NO_SUCH_DOMAIN,)}, 0.0),
        # it may have been taken: never at once, and never for its cause
        (UNKNOWN, {"causes": tuple(FallbackCause)}, None),
        (UNKNOWN, {"after": 1}, 1200.0),
    ],
)
async def test_when_the_fallback_is_used(
    outcome: Outcome, changes: dict[str, object], relayed_after: float | None, autojump_clock: trio.abc.Clock
) -> None:
    async with open_bed(config=config(**changes)) as bed:
        bed.transports["smtp:a.example"] = primary(outcome)
        await bed.accept("r@a.example", sender=None)
        await trio.sleep(20_000)
        delivered = bed.of("recipient.delivered")
        begin = bed.of("message.accepted") or bed.events
    if relayed_after is None:
        assert delivered == []
        assert RELAY not in bed.transports
        return
    (event,) = delivered
    assert event.route == RELAY  # type: ignore[attr-defined]
    assert event.time - begin[0].time == pytest.approx(relayed_after, rel=0.3, abs=5)
    assert len(bed.parcels(RELAY)) == 1


async def test_a_fallback_that_defers_is_no_loop(autojump_clock: trio.abc.Clock) -> None:
    async with open_bed(config=config(), refuse=UNREACHABLE) as bed:
        message = await bed.accept("r@a.example", sender=None)
        await trio.sleep(3600)
        entry = await bed.entry(message)
    connects = {name: transport.connects for name, transport in bed.transports.items()}
    # at once after the first attempt, then by the schedule: 10, 20, 40 minutes
    assert connects["smtp:a.example"] == 1
    assert entry.attempts == sum(connects.values()) <= 4


async def test_what_waits_for_a_dead_host_goes_to_the_fallback(autojump_clock: trio.abc.Clock) -> None:
    async with open_bed(config=config()) as bed:
        bed.transports["smtp:a.example"] = dead = primary(OK, refuse=UNREACHABLE)
        for number in range(60):
            await bed.accept(f"r{number}@a.example", sender=None)
        await trio.sleep(30)
        connects = dead.connects
        assert bed.queue.statistics().sites  # its rest is remembered
        for number in range(20):
            await bed.accept(f"s{number}@a.example", sender=None)
        await trio.sleep(30)
        delivered = {event.route for event in bed.of("recipient.delivered")}  # type: ignore[attr-defined]
        totals = await bed.spool.totals()
    assert (totals.delivered, totals.queued, delivered) == (80, 0, {RELAY})
    assert dead.connects == connects


async def test_a_restart_remembers_the_way(autojump_clock: trio.abc.Clock) -> None:
    store = MemoryStore()
    async with open_bed(config=config(after=3), store=store) as bed:
        bed.transports["smtp:a.example"] = primary(LATER)
        await bed.accept("r@a.example", sender=None)
        await trio.sleep(600)  # two attempts
    async with open_bed(config=config(after=2), store=store) as bed:
        await trio.sleep(3600)
        (event,) = bed.of("recipient.delivered")
    assert event.route == RELAY  # type: ignore[attr-defined]


async def test_the_sender_learns_nothing_of_the_detour(autojump_clock: trio.abc.Clock) -> None:
    async with open_bed(config=config(causes=(FallbackCause.NO_SUCH_DOMAIN,))) as bed:
        bed.transports["smtp:a.example"] = primary(NO_DOMAIN)
        await bed.accept("r@a.example", "s@b.example")
        await trio.sleep(60)
    assert [event.type for event in bed.events if event.type.startswith("notice")] == []
    assert len(bed.of("recipient.delivered")) == 2


async def test_a_plugin_that_insists_on_its_host_is_no_loop(autojump_clock: trio.abc.Clock) -> None:
    class Insists(Plugin):
        @hook("route")
        async def choose(self) -> Changes:
            return Changes(route="fixed.example:25")

    async with open_bed(config=config(), refuse=UNREACHABLE, plugins=[plugin(Insists)]) as bed:
        await bed.accept("r@a.example", sender=None)
        await trio.sleep(900)
    assert sum(transport.connects for transport in bed.transports.values()) <= 4
