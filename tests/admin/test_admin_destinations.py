"""Destinations over HTTP: listed, shown, paused, and woken from their rest."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio.testing
from admin_bed import Answer, Bed, open_bed


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
