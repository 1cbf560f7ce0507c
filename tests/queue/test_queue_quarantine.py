"""Mail that a check has marked, and the route for it: of its own, through restarts, pauses and its fallback."""

from __future__ import annotations

import trio
from queue_bed import UNREACHABLE, ScriptedTransport, answers, local_config, open_bed

from elemta.config import FallbackConfig, RouteConfig, RoutePattern, TransportKind
from elemta.spool import MemoryStore, PauseKind, RecipientState

SUSPECTS = "lmtp:[quarantine.example]:24"
MATCH = RoutePattern(quarantine=True)
CONFIG = local_config(RouteConfig(MATCH, TransportKind.LMTP, host="quarantine.example"))


async def test_what_is_marked_goes_there_and_nothing_else(autojump_clock: trio.abc.Clock) -> None:
    with trio.fail_after(10**6):
        async with open_bed(config=CONFIG) as bed:
            marked = await bed.accept("a@x.example", "b@y.example", quarantined=True)
            await bed.accept("a@x.example")
            await trio.sleep(1)
            parcels = bed.parcels(SUSPECTS)
            assert {parcel.message for parcel in parcels} == {marked}
            recipients = [str(each.mailbox) for parcel in parcels for each in parcel.recipients]
            assert recipients == ["a@x.example", "b@y.example"]
            assert len(bed.parcels("smtp:x.example")) == 1
            assert bed.parcels("smtp:y.example") == []
            assert (await bed.spool.totals()).difference == 0


async def test_without_such_a_route_it_goes_on_to_its_recipients(autojump_clock: trio.abc.Clock) -> None:
    with trio.fail_after(10**6):
        async with open_bed() as bed:
            await bed.accept("a@x.example", quarantined=True)
            await trio.sleep(1)
            assert len(bed.parcels("smtp:x.example")) == 1


async def test_it_is_still_known_after_a_restart(autojump_clock: trio.abc.Clock) -> None:
    store = MemoryStore()
    with trio.fail_after(10**6):
        async with open_bed(store=store, config=CONFIG) as bed:
            bed.transports[SUSPECTS] = ScriptedTransport(answers(UNREACHABLE))
            message = await bed.accept("a@x.example", quarantined=True)
            await trio.sleep(1)
            assert (await bed.entry(message)).state is RecipientState.QUEUED
        async with open_bed(store=store, config=CONFIG) as bed:
            await trio.sleep(7200)
            assert await bed.spool.show(message) is None
            assert len(bed.parcels(SUSPECTS)) == 1
            assert bed.parcels("smtp:x.example") == []


async def test_a_pause_of_its_route_ends_for_it_too(autojump_clock: trio.abc.Clock) -> None:
    with trio.fail_after(10**6):
        async with open_bed(config=CONFIG) as bed:
            operations = bed.queue.operations
            await operations.pause(PauseKind.ROUTE, SUSPECTS, reason="why")
            await operations.pause(PauseKind.DOMAIN, "y.example", reason="why")
            message = await bed.accept("a@x.example", quarantined=True)
            other = await bed.accept("a@y.example")
            await trio.sleep(7200)
            assert ((await bed.entry(message)).reason, bed.parcels(SUSPECTS)) == ("paused", [])
            stored = await bed.spool.stored(message)
            assert stored is not None
            pause = operations.pause_of(stored, "a@x.example")
            assert pause is not None
            assert pause.value == SUSPECTS
            await operations.resume(PauseKind.ROUTE, SUSPECTS)
            await trio.sleep(1)
            assert await bed.spool.show(message) is None
            assert (await bed.entry(other)).reason == "paused"  # put aside again, for its own pause


async def test_its_fallback_is_that_of_its_own_route(autojump_clock: trio.abc.Clock) -> None:
    spare = FallbackConfig(host="spare.example")
    route = RouteConfig(MATCH, TransportKind.LMTP, host="quarantine.example", fallback=spare)
    with trio.fail_after(10**6):
        async with open_bed(config=local_config(route)) as bed:
            for hop in (SUSPECTS, "smtp:x.example"):
                bed.transports[hop] = ScriptedTransport(answers(UNREACHABLE))
            await bed.accept("a@x.example", quarantined=True)
            message = await bed.accept("a@x.example")
            await trio.sleep(10)
            assert len(bed.parcels("smtp:[spare.example]:25")) == 1
            assert (await bed.entry(message)).state is RecipientState.QUEUED
