"""Plugins come and go while others are asked: calls end where they began, what does not start changes nothing."""

from typing import Any

import trio
from plugin_bed import hosting, loaded, ward_of

from elemta.events import PluginDecided, RecipientDelivered
from elemta.plugin import Accept, Continue, HookArguments, PluginHost, Reject, SessionView, Ward
from elemta.plugin.api import Changes, Plugin, hook

ABOUT = HookArguments(recipient="a@example.org", session=SessionView("s", "mx", "mx", "192.0.2.1"))
DELIVERED = RecipientDelivered(
    time=1.0, message="m", recipient="b@example.org", route="r", remote="", reply="", attempts=1, seconds=1.0
)


def saying(text: str, *, after: float = 0.0) -> type[Plugin[Any]]:
    class Saying(Plugin[Any]):
        @hook("rcpt")
        async def check(self) -> Reject:
            await trio.sleep(after)
            return Reject(text)

    return Saying


async def change(host: PluginHost, *wards: Ward) -> dict[str, str]:
    made = await host.prepare(wards)
    if made.failures:
        made.abandon()
    else:
        made.commit()
    return made.failures


async def answer(host: PluginHost) -> str:
    decision = (await host.ask("rcpt", ABOUT, {})).decision
    return decision.text if isinstance(decision, Reject) else type(decision).__name__


async def test_a_call_under_way_ends_on_the_old_version_and_the_next_is_for_the_new(autojump_clock):
    async with hosting(loaded(saying("old", after=5))) as (host, _, _), trio.open_nursery() as nursery:
        answers: list[str] = []

        async def ask() -> None:
            answers.append(await answer(host))

        nursery.start_soon(ask)
        await trio.sleep(1)
        assert await change(host, ward_of(loaded(saying("new")))) == {}
        assert await answer(host) == "new"
        assert answers == []
        await trio.sleep(10)
        assert answers == ["old"]


async def test_the_old_version_is_told_of_its_end_once_it_has_nothing_to_do(autojump_clock):
    ended: list[float] = []

    class Old(Plugin[Any]):
        @hook("rcpt")
        async def check(self) -> None:
            await trio.sleep(5)

        @hook("shutdown")
        async def end(self) -> None:
            ended.append(trio.current_time())

    async with hosting(loaded(Old)) as (host, _, _), trio.open_nursery() as nursery:
        nursery.start_soon(host.ask, "rcpt", ABOUT, {})
        await trio.sleep(1)
        await change(host)
        assert not host.has("rcpt")
        await trio.sleep(3)
        assert ended == []
        await trio.sleep(3)
        assert ended == [5.0]


async def test_an_old_version_that_never_ends_is_not_waited_for_longer_than_its_timeout(autojump_clock):
    class Stubborn(Plugin[Any]):
        @hook("rcpt")
        async def check(self) -> None:
            while True:
                try:
                    await trio.sleep_forever()
                except trio.Cancelled:
                    await trio.lowlevel.cancel_shielded_checkpoint()

    async with hosting(loaded(Stubborn, timeout=3.0)) as (host, _, _), trio.open_nursery() as nursery:
        nursery.start_soon(host.ask, "rcpt", ABOUT, {})
        await trio.sleep(1)
        (service,) = host._services
        await change(host, ward_of(loaded(saying("new"))))
        await trio.sleep(10)
        assert not service.member.tier.statistics().running
        assert await answer(host) == "new"


async def test_what_does_not_start_leaves_the_old_version_in_service(autojump_clock):
    class Broken(Plugin[Any]):
        @hook("startup")
        async def begin(self) -> None:
            raise ValueError("no licence")

        @hook("rcpt")
        async def check(self) -> None:
            pass

    async with hosting(loaded(saying("old"))) as (host, _, _):
        failures = await change(host, ward_of(loaded(Broken)))
        assert list(failures) == ["p"]
        assert "no licence" in failures["p"]
        await trio.sleep(1000)  # nothing of the new one goes on behind the scenes
        assert await answer(host) == "old"


async def test_an_observer_hears_all_from_before_its_end_and_the_next_one_all_behind_it(autojump_clock):
    heard: list[tuple[str, str]] = []

    def observing(name: str, pause: float) -> type[Plugin[Any]]:
        class Observing(Plugin[Any]):
            @hook("delivered")
            async def hear(self, outcome: Any) -> None:
                await trio.sleep(pause)
                heard.append((name, outcome.message))

        return Observing

    async with hosting(loaded(observing("old", 1.0))) as (host, _, bus):
        bus.publish(DELIVERED)
        bus.publish(DELIVERED)
        await change(host, ward_of(loaded(observing("new", 0.0))))
        bus.publish(DELIVERED)
        await trio.sleep(10)
        assert sorted(heard) == [("new", "m"), ("old", "m"), ("old", "m")]
        await change(host)
        assert host._watch is None


async def test_the_order_is_that_of_the_change():
    first, second = ward_of(loaded(saying("first"), "a")), ward_of(loaded(saying("second"), "b"))
    async with hosting() as (host, _, _):
        assert await answer(host) == "Continue"
        await change(host, first, second)
        assert await answer(host) == "first"
        await change(host, second, first)
        assert await answer(host) == "second"
        assert [each.name for each in host.statuses()] == ["b", "a"]


async def test_a_shadow_is_compared_with_what_the_others_decide():
    class Tagging(Plugin[Any]):
        @hook("message")
        async def tag(self) -> Changes:
            return Changes(tags=("x",))

    class Agreeing(Plugin[Any]):
        @hook("rcpt")
        async def check(self) -> None:
            pass

    class Failing(Plugin[Any]):
        @hook("rcpt")
        async def check(self) -> None:
            raise ValueError("no")

    shadows = [
        loaded(saying("shadow"), "s", shadow=True),
        loaded(Agreeing, "agreeing", shadow=True),
        loaded(Failing, "failing", shadow=True),
        loaded(Tagging, "tagging", shadow=True),
    ]

    class Letting(Plugin[Any]):
        @hook("rcpt")
        async def check(self, recipient: str) -> Accept | Reject | None:
            return Reject("real") if recipient.startswith("bad") else None

    async with hosting(*shadows, loaded(Letting, "real")) as (host, events, _):
        assert (await host.ask("rcpt", ABOUT, {})).decision == Continue()
        assert (await host.ask("message", ABOUT, {})).changes == ()
        bad = HookArguments(recipient="bad@example.org")
        assert (await host.ask("rcpt", bad, {})).plugin == "real"
        found = [(each.plugin, each.would, each.did, each.recipients) for each in host.shadows.kept]
        assert found == [
            ("s", "reject", "continue", ("a@example.org",)),
            ("failing", found[1][1], "continue", ("a@example.org",)),
            ("tagging", "tag x", "continue", ("a@example.org",)),
            ("agreeing", "continue", "reject (plugin real)", ("bad@example.org",)),
            ("failing", found[4][1], "reject (plugin real)", ("bad@example.org",)),
        ]
        assert found[1][1].startswith("defer: error: ValueError: no")
        tallies = {name: (each.asked, each.differed) for name, each in host.shadows.tallies.items()}
        assert tallies == {"s": (2, 1), "agreeing": (2, 1), "failing": (2, 2), "tagging": (1, 1)}
        assert all(each.shadow for each in events if isinstance(each, PluginDecided) and each.plugin == "s")
