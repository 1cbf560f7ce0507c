"""The life of a message and why it waits, as the dashboard tells it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
import trio
from admin_bed import Bed, open_bed

from elemta.admin.timeline import Timeline
from elemta.admin.waiting import Surroundings, explain, words
from elemta.admin.watchers import Watchers
from elemta.config import QueueConfig
from elemta.events import MessageJudged, MessageRejected, PluginDecided, SessionOpened
from elemta.mail import MessageId
from elemta.queue import AttemptView, QueueStatistics, SiteStatistics
from elemta.spool import Pause, PauseKind, QueueEntry, RecipientEntry, RecipientState

NOW = 1_750_000_000.0


async def timeline(bed: Bed, message: str) -> Any:
    answer = await bed.request("GET", f"/api/v1/messages/{message}/timeline")
    assert answer.status == 200, answer.body
    msgspec.json.decode(answer.body, type=Timeline)
    return answer.json()


def watch(bed: Bed) -> None:
    bed.facts.watchers = Watchers(bed.facts.bus, bed.facts.clock, events=1000, limit=10)


async def test_a_message_is_told_from_its_acceptance_to_its_next_attempt(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed() as bed:
        watch(bed)
        message = await bed.accept("carl@far.example")
        told = await timeline(bed, message)
        assert [step["kind"] for step in told["steps"]] == ["event", "attempt"]
        accepted, attempt = told["steps"]
        assert (accepted["type"], accepted["event"]["peer"]) == ("message.accepted", "192.0.2.9")
        assert (attempt["recipient"], attempt["state"], attempt["reason"]) == (
            "carl@far.example",
            "queued",
            "connect",
        )
        (waiting,) = told["waiting"]
        assert waiting["headline"].startswith("The next attempt is in ")
        assert "no host of the destination took a connection" in waiting["headline"]
        assert waiting["until"] > told["now"]
        assert "451 4.4.1 no answer" in waiting["facts"][0]


async def test_what_happened_in_its_session_is_told_while_it_is_kept(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed() as bed:
        watch(bed)
        bus = bed.facts.bus
        bus.publish(SessionOpened(time=0.0, session="s", listener="mx", peer="192.0.2.9", port=1))
        bus.publish(SessionOpened(time=0.0, session="other", listener="mx", peer="192.0.2.8", port=1))
        message = await bed.accept("carl@far.example")
        for id in (message, "another"):
            bus.publish(
                MessageJudged(time=0.0, session="s", message=id, results=("spf=pass",), action="note")
            )
        bus.publish(
            PluginDecided(
                time=0.0, plugin="p", hook="mail", decision="Hold", reason="r", changes="", session="s"
            )
        )
        types = [step.get("type") for step in (await timeline(bed, message))["steps"]]
        assert sorted(filter(None, types)) == [
            "message.accepted",
            "message.judged",
            "plugin.decided",
            "session.opened",
        ]


async def test_a_message_that_is_gone_keeps_its_life(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        watch(bed)
        message = await bed.accept("carl@far.example")
        body = {"action": "remove", "selection": {"messages": [message]}}
        await bed.request("POST", "/api/v1/queue", body=json.dumps(body).encode())
        told = await timeline(bed, message)
        assert told["life"]["ended"] is not None
        assert told["waiting"] == []
        assert [step.get("type", "attempt") for step in told["steps"]] == [
            "message.accepted",
            "attempt",
            "message.removed",
        ]


async def test_one_that_was_never_accepted_is_told_from_the_last_events(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed() as bed:
        watch(bed)
        id = MessageId("0123456789abcdef")
        bed.facts.bus.publish(
            MessageJudged(time=0.0, session="s", message=id, results=("dmarc=fail",), action="refuse")
        )
        told = await timeline(bed, id)
        assert told["life"] is None
        assert [step["type"] for step in told["steps"]] == ["message.judged"]


@pytest.mark.parametrize("id", ["0123456789abcdef", "x", "..", "%00", "0" * 400])
async def test_an_unknown_message_is_404(autojump_clock: trio.testing.MockClock, id: str) -> None:
    async with open_bed() as bed:
        watch(bed)
        bed.facts.bus.publish(
            MessageRejected(time=0.0, session="s", sender="a@b", recipients=(), reply="", reason="")
        )
        assert (await bed.request("GET", f"/api/v1/messages/{id}/timeline")).status == 404


# --- In words -----------------------------------------------------------------------------------------------


def recipient(**values: Any) -> RecipientEntry:
    known: dict[str, Any] = {
        "index": 0,
        "address": "carl@far.example",
        "state": RecipientState.QUEUED,
        "attempts": 0,
        "due": NOW,
        "leased": False,
        "reason": "new",
        "reply": "",
        "remote": "",
        "last_attempt": None,
    }
    return RecipientEntry(**(known | values))


def site(**values: Any) -> SiteStatistics:
    known: dict[str, Any] = {
        "route": "smtp:far.example",
        "ready": 3,
        "dispatchers": 2,
        "window": 5,
        "suspended_for": 0.0,
        "suspended_because": "",
        "waits_for": 0.0,
        "waits_because": "",
        "delivered": 0,
        "deferred": 0,
        "failed": 0,
        "last_error": "",
    }
    return SiteStatistics(**(known | values))


def tell(
    who: RecipientEntry,
    *,
    sites: tuple[SiteStatistics, ...] = (),
    attempts: tuple[AttemptView, ...] = (),
    pauses: tuple[Pause, ...] = (),
    active: int = 0,
    draining: bool = False,
) -> tuple[str, str]:
    entry = QueueEntry(MessageId("0123456789abcdef"), "anna@client.example", NOW - 60, 100, "p", (who,), 1)
    queue = QueueStatistics(active, 0, 0, sites, draining)
    told = explain(entry, who, "smtp:far.example", Surroundings(NOW, queue, attempts, pauses, QueueConfig()))
    return told.headline, "\n".join(told.facts)


def attempt(**values: Any) -> AttemptView:
    known: dict[str, Any] = {
        "id": "1.1",
        "message": "0123456789abcdef",
        "recipients": ("carl@far.example",),
        "sender": "anna@client.example",
        "route": "smtp:far.example",
        "remote": "mx.far.example[192.0.2.1]:25",
        "phase": "final-dot",
        "seconds": 12.0,
        "seconds_left": 588.0,
        "dot_sent": True,
    }
    return AttemptView(**(known | values))


def test_an_attempt_under_way_is_told_with_its_phase_and_its_end() -> None:
    headline, _ = tell(recipient(leased=True), attempts=(attempt(message="another"), attempt()))
    assert headline == (
        "An attempt is under way since 12 s: waiting for the next hop to say that it has the message "
        "(mx.far.example[192.0.2.1]:25), at most 9 min more."
    )


def test_what_waits_for_a_time_says_when_and_why() -> None:
    headline, facts = tell(
        recipient(due=NOW + 300, reason="remote-reply", attempts=2, reply="451 later", last_attempt=NOW - 5)
    )
    assert headline == "The next attempt is in 5 min, because the next hop put it off."
    assert facts.startswith("Attempt 2, 5 s ago: 451 later")
    assert "It is given up in 4 d 23 h, and the sender is told." in facts


def test_what_waits_for_its_destination_says_what_is_wrong_there() -> None:
    suspended = site(suspended_for=120.0, suspended_because="unreachable", last_error="451 4.4.1 no answer")
    headline, facts = tell(recipient(), sites=(suspended,))
    assert headline == "Its destination is left alone for 2 min."
    assert "smtp:far.example is suspended: unreachable. Its last word: 451 4.4.1 no answer" in facts


def test_what_waits_for_a_connection_says_how_much_is_before_it() -> None:
    headline, facts = tell(recipient(leased=True), sites=(site(),))
    assert "waits for a connection" in headline
    assert "3 messages are ready; 2 of 5 connections are open" in facts
    slowed = site(waits_for=7.0, waits_because="message-rate")
    assert (
        "A message-rate in the shaping of smtp:far.example lets the next one through in 7 s."
        in (tell(recipient(leased=True), sites=(slowed,))[1])
    )


@pytest.mark.parametrize(
    ("pause", "concerned"),
    [
        (Pause(PauseKind.DOMAIN, "far.example", NOW, None, "maintenance"), True),
        (Pause(PauseKind.SENDER, "anna@client.example", NOW, None, ""), True),
        (Pause(PauseKind.ROUTE, "smtp:far.example", NOW, None, ""), True),
        (Pause(PauseKind.DOMAIN, "other.example", NOW, None, ""), False),
    ],
)
def test_a_pause_is_told_where_it_concerns_the_recipient(pause: Pause, concerned: bool) -> None:
    held = recipient(state=RecipientState.HELD, due=None, reason="paused")
    headline, facts = tell(held, pauses=(pause,))
    assert "paused" in headline
    assert (f"The {pause.kind} {pause.value} is paused" in facts) is concerned


def test_other_reasons_are_told() -> None:
    held = recipient(state=RecipientState.HELD, due=None, reason="held by the operator")
    assert tell(held)[0] == "It is held until somebody releases it: held by the operator."
    assert tell(recipient(), draining=True)[0] == "The server is stopping: nothing new is begun."
    assert tell(recipient())[0] == "It is due and waits for its turn."
    assert "places in memory are taken" in tell(recipient(), active=10**9)[1]
    assert "ended in a crash" in tell(recipient(interrupted=2))[1]
    final = recipient(state=RecipientState.DELIVERED, due=None, attempts=1, reply="250 ok")
    assert tell(final) == ("It does not wait: it was delivered.", "Attempt 1: 250 ok")


def test_spans_are_told_for_people() -> None:
    assert [words(each) for each in (-1, 5, 119, 120, 7199, 7200, 100000, 200000)] == [
        "0 s",
        "5 s",
        "119 s",
        "2 min",
        "119 min",
        "2 h 0 min",
        "27 h 46 min",
        "2 d 7 h",
    ]
