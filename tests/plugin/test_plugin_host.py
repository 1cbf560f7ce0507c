"""All plugins of a hook: order, first decision, failures, suspension, conditions, shadow, observers."""

from typing import ClassVar

import pytest
import trio
from plugin_bed import hosting, loaded

from elemta.config import DomainPattern, OnFailure
from elemta.events import PluginCallFailed, PluginDecided, PluginResumed, PluginSuspended, RecipientDelivered
from elemta.mail import Domain
from elemta.plugin import (
    Accept,
    Changes,
    Continue,
    Defer,
    Hold,
    HookAnswer,
    HookArguments,
    Reject,
    SessionView,
    Standing,
)
from elemta.plugin.api import Plugin, hook

ABOUT = HookArguments(recipient="a@example.org", session=SessionView("s", "mx", "mx", "192.0.2.1"))


class Noting(Plugin):
    @hook("rcpt")
    async def check(self):
        return HookAnswer(notes={"score": 5})


class ByNotes(Plugin):
    @hook("rcpt")
    async def check(self, notes):
        return Reject("score", reason=str(notes["n.score"]))


class Never(Plugin):
    @hook("rcpt")
    async def check(self):
        raise AssertionError("nobody may ask")


class Broken(Plugin):
    @hook("rcpt")
    async def check(self):
        raise ValueError("broken")


class Tagging(Plugin):
    @hook("message")
    async def check(self):
        return Changes(tags=("t",))


class Letting(Plugin):
    @hook("rcpt")
    async def check(self):
        return Accept()


async def test_the_first_decision_counts_and_notes_go_on():
    async with hosting(loaded(Noting, "n"), loaded(ByNotes, "b"), loaded(Never, "x")) as (host, events, _):
        notes = {}
        verdict = await host.ask("rcpt", ABOUT, notes)
        assert verdict.decision == Reject("score", reason="5")
        assert verdict.reason == "plugin b: 5"
        assert notes == {"n.score": 5}
        (decided,) = [event for event in events if isinstance(event, PluginDecided)]
        assert (decided.plugin, decided.decision, decided.session) == ("b", "Reject", "s")


async def test_accept_ends_the_questions():
    async with hosting(loaded(Letting), loaded(Never, "x")) as (host, _, _):
        assert (await host.ask("rcpt", ABOUT, {})).decision == Accept()


async def test_changes_are_collected_with_who_wants_them():
    about = HookArguments()
    async with hosting(loaded(Tagging, "a"), loaded(Tagging, "b")) as (host, _, _):
        verdict = await host.ask("message", about, {})
        assert verdict.changes == (("a", Changes(tags=("t",))), ("b", Changes(tags=("t",))))
        assert verdict.decision == Continue()


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        (OnFailure.DEFER, Defer),
        (OnFailure.REJECT, Reject),
        (OnFailure.HOLD, Hold),
        (OnFailure.CONTINUE, Continue),
    ],
)
async def test_a_failure_is_decided_as_declared(what, kind):
    async with hosting(loaded(Broken, on_error=what)) as (host, events, _):
        verdict = await host.ask("rcpt", ABOUT, {})
        assert type(verdict.decision) is kind
        (failed,) = [event for event in events if isinstance(event, PluginCallFailed)]
        assert (failed.hook, failed.kind, failed.session) == ("rcpt", "error", "s")
        assert "ValueError: broken" in failed.detail


async def test_a_plugin_that_fails_too_often_is_suspended_and_comes_back(autojump_clock):
    entry = {"on_error": OnFailure.CONTINUE, "suspend_after": 3, "suspend_for": 100.0}
    async with hosting(loaded(Broken, **entry)) as (host, events, _):
        for _ in range(3):
            assert (await host.ask("rcpt", ABOUT, {})).decision == Continue()
        assert host.statuses()[0].standing is Standing.SUSPENDED
        verdict = await host.ask("rcpt", ABOUT, {})
        assert isinstance(verdict.decision, Defer)
        assert len([event for event in events if isinstance(event, PluginCallFailed)]) == 3
        assert [event.seconds for event in events if isinstance(event, PluginSuspended)] == [100.0]
        await trio.sleep(100)
        assert (await host.ask("rcpt", ABOUT, {})).decision == Continue()
        assert any(isinstance(event, PluginResumed) for event in events)
        assert host.statuses()[0].standing is Standing.RUNNING


async def test_failures_that_are_far_apart_suspend_nobody(autojump_clock):
    async with hosting(loaded(Broken, suspend_after=2)) as (host, _, _):
        for _ in range(5):
            await host.ask("rcpt", ABOUT, {})
            await trio.sleep(61)
        assert host.statuses()[0].standing is Standing.RUNNING


@pytest.mark.parametrize(
    ("entry", "asked"),
    [
        ({"listeners": ("mx",)}, True),
        ({"listeners": ("other",)}, False),
        ({"roles": ("mx",)}, True),
        ({"roles": ("submission",)}, False),
        ({"domains": (DomainPattern(Domain("example.org")),)}, True),
        ({"domains": (DomainPattern(Domain("example.net")),)}, False),
        ({"domains": (DomainPattern(Domain("example.org"), True),)}, False),
        ({"sample": 0.0}, False),
        ({"sample": 1.0}, True),
        ({"shadow": True}, False),
    ],
)
async def test_conditions_say_about_whom_a_plugin_is_asked(entry, asked):
    async with hosting(loaded(Broken, **entry)) as (host, _, _):
        verdict = await host.ask("rcpt", ABOUT, {})
        assert isinstance(verdict.decision, Defer) is asked


async def test_a_sample_takes_about_its_share_of_the_sessions():
    async with hosting(loaded(ByNotes, sample=0.3)) as (host, _, _):
        member = host._services[0].member
        about = [
            HookArguments(session=SessionView(f"session{number}", "mx", "mx", "192.0.2.1"))
            for number in range(2_000)
        ]
        assert 500 < sum(member.at("rcpt").wants(each) for each in about) < 700


async def test_a_shadow_is_told_and_not_heeded():
    async with hosting(loaded(Letting, "s", shadow=True), loaded(Noting, "n")) as (host, events, _):
        notes = {}
        assert (await host.ask("rcpt", ABOUT, notes)).decision == Continue()
        (decided,) = [event for event in events if isinstance(event, PluginDecided)]
        assert (decided.plugin, decided.decision, decided.shadow) == ("s", "Accept", True)


class Watching(Plugin):
    seen: ClassVar[list[object]] = []

    @hook("delivered")
    async def delivered(self, outcome):
        self.seen.append(outcome.recipient)

    @hook("event")
    async def event(self, event):
        self.seen.append(event["type"])
        raise ValueError("an observer that fails")


async def test_observers_hear_of_events_in_order_and_keep_nobody_waiting():
    Watching.seen.clear()
    async with hosting(loaded(Watching)) as (host, events, bus):
        bus.publish(
            RecipientDelivered(
                time=1.0, message="m", recipient="a@b.example", route="r", remote="", reply="250 ok",
                attempts=1, seconds=0.1,
            )
        )  # fmt: skip
        assert Watching.seen == []
        await trio.testing.wait_all_tasks_blocked()
        assert Watching.seen == ["recipient.delivered", "a@b.example"]
        assert [event.hook for event in events if isinstance(event, PluginCallFailed)] == ["event"]
        assert host.statuses()[0].missed == 0


async def test_a_hook_that_nobody_has_costs_nothing():
    async with hosting(loaded(Letting)) as (host, _, _):
        assert host.has("rcpt")
        assert not host.has("mail")
        assert (await host.ask("mail", ABOUT, {})).decision == Continue()


class Stuck(Plugin):
    @hook("startup")
    async def begin(self):
        await trio.sleep_forever()

    @hook("rcpt")
    async def check(self):
        return None


async def test_a_plugin_that_does_not_start_fails_its_calls_and_is_tried_again(autojump_clock):
    with trio.fail_after(100):
        async with hosting(loaded(Stuck, timeout=3.0)) as (host, events, _):
            assert isinstance((await host.ask("rcpt", ABOUT, {})).decision, Defer)
            await trio.sleep(10)
            tries = [
                event for event in events if isinstance(event, PluginCallFailed) and event.hook == "startup"
            ]
            assert len(tries) >= 2


class Chatty(Plugin):
    @hook("rcpt")
    async def check(self, recipient):
        return HookAnswer(notes={f"{recipient}{number}": 1 for number in range(60)})


async def test_notes_of_a_session_are_bounded_and_one_too_many_is_an_error():
    async with hosting(loaded(Chatty)) as (host, events, _):
        notes = {}
        for number in range(8):
            await host.ask("rcpt", HookArguments(recipient=str(number)), notes)
        assert isinstance((await host.ask("rcpt", HookArguments(recipient="z"), notes)).decision, Defer)
        assert isinstance((await host.ask("rcpt", HookArguments(recipient="0"), notes)).decision, Continue)
        assert len(notes) == 480
        assert "more than 512 notes" in events[-1].detail
