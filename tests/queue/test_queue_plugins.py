"""Plugins decide about mail in the queue: where it goes, whether it is tried; and never lose or double it."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from queue_bed import LATER, OK, Bed, ScriptedTransport, answer_ok, answers, config_with, open_bed, plugin

from elemta.config import OnFailure, parse_domain_pattern
from elemta.delivery import Parcel
from elemta.events import PluginCallFailed, RecipientDiscarded
from elemta.mail import Outcome, TlsFacts
from elemta.plugin.api import (
    Answer,
    Changes,
    Continue,
    Decision,
    Defer,
    Discard,
    Hold,
    HookArguments,
    Plugin,
    Quarantine,
    Reject,
    hook,
)
from elemta.spool import MemoryStore, RecipientState

X = (parse_domain_pattern("x.example"),)
BEFORE_SENDING = ("route", "before_attempt", "tls_result")
DECISIONS = (Defer("wait", reason="d"), Reject("no", reason="r"), Hold("h"), Discard("gone"), Quarantine("q"))


def deciding(at: str, decision: Decision, times: int = 10**9) -> type[Plugin[Any]]:
    class Deciding(Plugin[Any]):
        asked = 0

        @hook(at)
        async def decide(self) -> Decision:
            Deciding.asked += 1
            return decision if Deciding.asked <= times else Continue()

    return Deciding


def failing(at: str, how: str) -> type[Plugin[Any]]:
    class Failing(Plugin[Any]):
        @hook(at)
        async def decide(self) -> Any:
            match how:
                case "error":
                    raise SystemExit(3)
                case "timeout":
                    await trio.sleep_forever()
                case "nonsense":
                    return Changes(route="no host at all!")
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 3600):
                await trio.sleep_forever()
            return None

    return Failing


async def sound(bed: Bed) -> None:
    """Nothing is lost, and nothing is there twice."""
    await bed.spool.wait_recorded()
    assert (await bed.spool.totals()).difference == 0
    assert not await bed.spool.audit()


@pytest.mark.parametrize("decision", DECISIONS, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("at", BEFORE_SENDING)
async def test_a_decision_before_the_sending_is_done_and_nothing_is_sent(
    at: str, decision: Decision, autojump_clock: object
) -> None:
    async with open_bed(config=config_with(), plugins=[plugin(deciding(at, decision), domains=X)]) as bed:
        message = await bed.accept("a@x.example")
        await trio.sleep(60)
        assert bed.parcels("smtp:x.example") == []
        totals = await bed.spool.totals()
        match decision:
            case Defer():
                entry = await bed.entry(message)
                assert (entry.state, entry.reason, entry.attempts) == (RecipientState.QUEUED, "plugin", 1)
                assert entry.reply == "451 4.7.1 wait"
            case Reject():
                assert totals.failed == 1
                assert len(bed.of("notice.queued")) == 1
            case Hold() | Quarantine():
                entry = await bed.entry(message)
                assert entry.state is RecipientState.HELD
                assert entry.reason.endswith(f"plugin p: {decision.reason}")
            case Discard():
                assert (totals.removed, len(bed.of("notice.queued"))) == (1, 0)
                (told,) = bed.of("recipient.discarded")
                assert isinstance(told, RecipientDiscarded)
                assert told.reason == "plugin p: gone"
        history = await bed.spool.history(message)
        assert history is not None
        assert "plugin p" in history.attempts[0].detail
        await sound(bed)


@pytest.mark.parametrize("at", BEFORE_SENDING)
async def test_what_was_deferred_is_asked_again_and_goes(at: str, autojump_clock: object) -> None:
    async with open_bed(config=config_with(), plugins=[plugin(deciding(at, Defer(), times=2))]) as bed:
        await bed.accept("a@x.example", "b@y.example")
        await trio.sleep(4 * 3600)
        assert [len(bed.parcels(f"smtp:{each}.example")) for each in "xy"] == [1, 1]
        await sound(bed)


@pytest.mark.parametrize("verdict", list(OnFailure))
@pytest.mark.parametrize("how", ["error", "timeout", "nonsense", "stubborn"])
@pytest.mark.parametrize("at", BEFORE_SENDING)
async def test_a_failure_gives_the_declared_verdict_and_loses_nothing(
    at: str, how: str, verdict: OnFailure, autojump_clock: object
) -> None:
    broken = plugin(
        failing(at, how),
        timeout=2.0,
        on_error=verdict,
        on_timeout=verdict,
        on_crash=verdict,
        suspend_after=0,
        domains=X,
    )
    async with open_bed(config=config_with(), plugins=[broken]) as bed:
        message = await bed.accept("a@x.example")
        await trio.sleep(60)
        sent, totals = len(bed.parcels("smtp:x.example")), await bed.spool.totals()
        assert sent == (verdict is OnFailure.CONTINUE)
        # Of what is rejected the sender is told.
        assert totals.delivered == sent + (verdict is OnFailure.REJECT)
        if verdict is OnFailure.REJECT:
            assert totals.failed == 1
        elif verdict is not OnFailure.CONTINUE:
            state = {OnFailure.DEFER: RecipientState.QUEUED, OnFailure.HOLD: RecipientState.HELD}[verdict]
            assert (await bed.entry(message)).state is state
        failure = bed.of("plugin.failed")[0]
        assert isinstance(failure, PluginCallFailed)
        assert failure.hook == at
        await sound(bed)


async def test_a_plugin_chooses_the_route_of_each_recipient(autojump_clock: object) -> None:
    class Choosing(Plugin[Any]):
        @hook("route")
        async def choose(self, recipient: str, attempt: Any) -> Changes | None:
            assert attempt.recipients == (recipient,)
            if recipient.startswith("far"):
                return Changes(route="relay.example:2525", priority=5)
            return Changes(route="[2001:db8::1]:26") if recipient.startswith("six") else None

    async with open_bed(plugins=[plugin(Choosing)]) as bed:
        message = await bed.accept("far@x.example", "near@x.example", "six@x.example", "far2@y.example")
        await trio.sleep(5)
        sent = {
            name: [str(each.mailbox) for each in parcel.recipients]
            for name, transport in bed.transports.items()
            for parcel in transport.parcels
        }
        assert sent == {
            "smtp:[relay.example]:2525": ["far@x.example", "far2@y.example"],
            "smtp:x.example": ["near@x.example"],
            "smtp:[2001:db8::1]:26": ["six@x.example"],
        }
        await sound(bed)
        history = await bed.spool.history(message)
        assert history is not None
        details = {each.index: each.detail for each in history.attempts}
        assert details[0] == details[3] == "plugin p: route relay.example:2525, priority 5"
        assert details[1] == ""


@pytest.mark.parametrize("at", BEFORE_SENDING)
async def test_a_stop_does_not_wait_for_a_plugin_and_gives_back_what_it_was_asked_about(
    at: str, autojump_clock: object
) -> None:
    store = MemoryStore()
    hanging = plugin(failing(at, "timeout"), timeout=3600.0)
    async with open_bed(config=config_with(), store=store, plugins=[hanging]) as bed:
        message = await bed.accept("a@x.example", "b@x.example")
        await trio.sleep(1)
        begun = trio.current_time()
        bed.drain.begin("test", 30.0, 1.0)
    assert trio.current_time() - begun < 25
    async with open_bed(config=config_with(), store=store) as bed:
        entry = await bed.entry(message)
        assert (entry.state, entry.attempts) in [(RecipientState.QUEUED, 0), (RecipientState.QUEUED, 1)]
        await trio.sleep(3600)
        assert [len(each.recipients) for each in bed.parcels("smtp:x.example")] == [2]
        await sound(bed)


async def test_observers_hear_of_an_attempt_with_its_outcomes(autojump_clock: object) -> None:
    heard: list[HookArguments] = []

    class Observer(Plugin[Any]):
        @hook("after_attempt")
        async def hear(self, attempt: Any, outcomes: Any, tls: Any, envelope: Any, session: Any) -> None:
            heard.append(
                HookArguments(session=session, attempt=attempt, outcomes=outcomes, tls=tls, envelope=envelope)
            )

    async with open_bed(answers(OK, LATER), config=config_with(), plugins=[plugin(Observer)]) as bed:
        bed.transports["smtp:x.example"] = secured = ScriptedTransport(answers(OK, LATER))
        secured.tls = TlsFacts("TLSv1.3", "TLS_AES", verified=True)
        message = await bed.accept("a@x.example", "b@x.example")
        await trio.sleep(1)
        (told,) = heard
        assert told.attempt is not None
        assert (told.attempt.message, told.attempt.recipients) == (message, ("a@x.example", "b@x.example"))
        assert [each.result for each in told.outcomes] == ["delivered", "deferred"]
        assert (told.tls, told.attempt.attempts) == (secured.tls, 0)
        assert told.session is not None
        assert told.session.peer == "192.0.2.9"
        await trio.sleep(3600)
        assert heard[1].attempt is not None
        assert heard[1].attempt.attempts == 1


async def test_a_plugin_sees_how_the_connection_is_secured(autojump_clock: object) -> None:
    class Strict(Plugin[Any]):
        @hook("tls_result")
        async def check(self, tls: Any, attempt: Any) -> Reject | None:
            return (
                None if tls is not None and tls.verified else Reject("not secure", reason=str(attempt.route))
            )

    async with open_bed(plugins=[plugin(Strict)]) as bed:
        secured = bed.transports["smtp:x.example"] = ScriptedTransport(answer_ok)
        secured.tls = TlsFacts("TLSv1.3", "TLS_AES", verified=True)
        await bed.accept("a@x.example", "b@y.example")
        await trio.sleep(2)
        assert (len(secured.parcels), len(bed.parcels("smtp:y.example"))) == (1, 0)
        await sound(bed)


async def test_what_is_noted_at_one_hook_of_the_queue_is_known_at_the_next(autojump_clock: object) -> None:
    class Noting(Plugin[Any]):
        @hook("route")
        async def note(self) -> Answer:
            return Answer(notes={"score": 7})

        @hook("before_attempt")
        async def check(self, notes: dict[str, Any]) -> Hold | None:
            return Hold(f"score {notes['p.score']}")

    async with open_bed(plugins=[plugin(Noting)]) as bed:
        message = await bed.accept("a@x.example")
        await trio.sleep(1)
        assert (await bed.entry(message)).reason == "plugin p: score 7"


async def test_conditions_hold_in_the_queue(autojump_clock: object) -> None:
    only = plugin(deciding("before_attempt", Hold("h")), domains=X)
    elsewhere = plugin(deciding("route", Hold("h")), name="q", listeners=("nowhere",))
    async with open_bed(plugins=[only, elsewhere]) as bed:
        await bed.accept("a@x.example", "b@y.example")
        await trio.sleep(1)
        assert [len(bed.parcels(f"smtp:{each}.example")) for each in "xy"] == [0, 1]


async def test_nobody_sends_ahead_what_plugins_may_be_against(autojump_clock: object) -> None:
    """The envelope of the next message goes with the end of the last one, unless somebody is to be asked."""
    looked: list[Parcel | None] = []

    async def answer(parcel: Parcel) -> list[Outcome]:
        await trio.sleep(1)
        return [OK] * len(parcel.recipients)

    for plugins, found in (((), True), ((plugin(deciding("before_attempt", Continue())),), False)):
        looked.clear()
        config = config_with()
        config = attrs.evolve(
            config, delivery=attrs.evolve(config.delivery, concurrency=1, initial_concurrency=1)
        )
        async with open_bed(answer, config=config, plugins=plugins) as bed:
            transport = bed.transports["smtp:x.example"] = ScriptedTransport(answer)
            transport.on_deliver = lambda following: looked.append(following())
            for name in "abc":
                await bed.accept(f"{name}@x.example")
            await trio.sleep(10)
            assert len(transport.parcels) == 3
            assert any(each is not None for each in looked) is found
