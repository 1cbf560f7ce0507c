"""Destinations over HTTP: listed, shown, paused, and woken from their rest."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio.testing
from admin_bed import Answer, Bed, open_bed
from test_admin_openapi import check, document_of

from elemta.events import AuditEvent


async def post(bed: Bed, **body: object) -> Answer:
    return await bed.request("POST", "/api/v1/destinations", body=json.dumps(body).encode())


async def listed(bed: Bed) -> dict[str, Any]:
    answer = await bed.request("GET", "/api/v1/destinations")
    assert answer.status == 200
    return {each["route"]: each for each in answer.json()["destinations"]}


async def test_what_waits_is_listed_and_shown(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        await bed.accept("carl@far.example", "dora@far.example", "emil@other.example")
        await trio.sleep(1)
        found = await listed(bed)
        assert found["smtp:far.example"]["waiting"] == 2
        for name in ("smtp:far.example", "far.example", "anybody@FAR.example"):
            one = (await bed.request("GET", f"/api/v1/destinations/one?name={name}")).json()
            assert (one["route"], one["waiting"]) == ("smtp:far.example", 2)
        assert one["limits"]["connections"] == 20
        few = (await bed.request("GET", "/api/v1/destinations?limit=1")).json()
        assert (len(few["destinations"]), few["more"]) == (1, 1)


async def test_a_pause_of_a_destination_ends_with_its_resume(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        answer = await post(bed, action="pause", name="far.example", reason="they move")
        assert answer.json()["route"] == "smtp:far.example"
        await bed.accept("carl@far.example")
        assert (await listed(bed))["smtp:far.example"]["paused"] == "they move"
        answer = await post(bed, action="resume", name="smtp:far.example")
        assert answer.json() == {"route": "smtp:far.example", "recipients": 1}
        assert (await post(bed, action="resume", name="smtp:far.example")).status == 404


async def test_a_resume_ends_the_rest_of_a_dead_destination(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        for number in range(40):
            await bed.accept(f"r{number}@far.example")
        await trio.sleep(60)
        resting = (await listed(bed))["smtp:far.example"]["now"]
        assert resting["suspended_because"] == "unreachable"
        answer = await post(bed, action="resume", name="far.example")
        assert answer.json()["recipients"] == 40
        resumed = [event for event in bed.events if event.type == "site.resumed"]
        assert len(resumed) == 1


@pytest.mark.parametrize(
    "body",
    [
        {"action": "stop", "name": "far.example"},
        {"action": "pause", "name": ""},
        {"action": "pause", "name": "a b"},
        {"action": "pause", "name": "far.example", "seconds": 0},
    ],
)
async def test_a_bad_wish_is_400(body: dict[str, object], autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        assert (await post(bed, **body)).status == 400
        assert await bed.spool.pauses() == ()


async def post_limits(bed: Bed, **body: object) -> Answer:
    answer = await bed.request("POST", "/api/v1/destinations/limits", body=json.dumps(body).encode())
    check(await document_of(bed), "post", "/api/v1/destinations/limits", answer.status, answer.json())
    return answer


async def test_limits_are_set_and_cleared(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        await bed.accept("carl@far.example")
        wanted = {"concurrency": 2, "message_rate": "60/1m", "byte_rate": "1MiB/1h"}
        answer = await post_limits(bed, name="far.example", limits=wanted, reason="they asked")
        assert answer.json() == {"route": "smtp:far.example", "limits": wanted}
        one = (await bed.request("GET", "/api/v1/destinations/one?name=far.example")).json()
        check(await document_of(bed), "get", "/api/v1/destinations/one", 200, one)
        assert (one["limits"]["connections"], one["limits"]["messages in a time"]) == (2, "60/1m, 60 at once")
        assert one["shaping"] == ["set for smtp:far.example"]
        assert one["limits_set"]["limits"] == wanted
        listed = (await bed.request("GET", "/api/v1/destinations/limits")).json()["limits"]
        status = (await bed.request("GET", "/api/v1/status")).json()
        assert status["limits"] == listed == [one["limits_set"]]
        assert (listed[0]["reason"], listed[0]["route"]) == ("they asked", "smtp:far.example")
        await post_limits(bed, name="far.example", limits={"concurrency": 4})
        one = (await bed.request("GET", "/api/v1/destinations/one?name=far.example")).json()
        assert (one["limits"]["connections"], "messages in a time" in one["limits"]) == (4, False)
        assert (await post_limits(bed, name="far.example", limits={})).json()["limits"] == {}
        one = (await bed.request("GET", "/api/v1/destinations/one?name=far.example")).json()
        assert (one["limits"]["connections"], one["limits_set"]) == (20, None)
        assert (await post_limits(bed, name="far.example", limits={})).status == 404
        audit = [each.detail for each in bed.events if isinstance(each, AuditEvent)]
        assert audit == [
            "smtp:far.example: concurrency 2, message_rate 60/1m, byte_rate 1MiB/1h",
            "smtp:far.example: concurrency 4",
            "clear smtp:far.example",
        ]


@pytest.mark.parametrize(
    ("name", "limits", "detail"),
    [
        ("far.example", {"concurrency": 0}, "concurrency is a number from 1"),
        ("far.example", {"concurrency": "2"}, "concurrency is a number"),
        ("far.example", {"concurrency": True}, "int"),
        ("far.example", {"message_rate": 60}, "message_rate is a rate"),
        ("far.example", {"message_rate": "60"}, "message_rate: '60' is not a rate"),
        ("far.example", {"byte_rate": "0/1m"}, "lets nothing through"),
        ("far.example", {"source": "pool"}, "source cannot be set"),
        ("discard:x", {"concurrency": 1}, "only smtp and lmtp"),
        ("a b", {"concurrency": 1}, "name is no route"),
    ],
)
async def test_limits_that_can_be_none_are_400(
    name: str, limits: dict[str, object], detail: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_bed() as bed:
        answer = await post_limits(bed, name=name, limits=limits)
        assert answer.status == 400
        assert detail in answer.json()["detail"]
        assert not bed.facts.queue.limits.all
