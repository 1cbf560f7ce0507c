"""What was said in sessions and attempts that failed, over HTTP."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio
from admin_bed import Bed, open_bed

from elemta.admin.resources.flights import FlightList, WholeFlight
from elemta.events import FlightRecorder, Mark, Transcript


def keep(bed: Bed, kind: str = "attempt", about: str = "1.1", message: str = "", cause: str = "no") -> None:
    flights = bed.facts.flights
    if flights is None:
        flights = bed.facts.flights = FlightRecorder(10**6)
    transcript = Transcript()
    transcript.note("S", "220 mx")
    transcript.note("*", Mark(message))
    transcript.note("C", b"MAIL FROM:<\x1b[2J\xff@evil.example>")
    flights.keep(
        kind, transcript.all(), time=7.0, about=about, peer="192.0.2.1", message=message, cause=cause
    )


async def get(bed: Bed, path: str, shape: type) -> Any:
    answer = await bed.request("GET", path)
    assert answer.status == 200, answer.body
    msgspec.json.decode(answer.body, type=shape)
    return answer.json()


async def test_they_are_listed_and_chosen(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        assert await get(bed, "/api/v1/flights", FlightList) == {"total": 0, "flights": []}
        keep(bed, message="m1")
        keep(bed, "session", about="s1")
        listed = await get(bed, "/api/v1/flights", FlightList)
        assert [each["about"] for each in listed["flights"]] == ["s1", "1.1"]
        assert (await get(bed, "/api/v1/flights?limit=1", FlightList))["total"] == 2
        for query, wanted in (("kind=session", "s1"), ("message=m1", "1.1"), ("about=s1", "s1")):
            found = await get(bed, f"/api/v1/flights?{query}", FlightList)
            assert [each["about"] for each in found["flights"]] == [wanted]
        assert (await get(bed, "/api/v1/flights?peer=192.0.2.9", FlightList))["total"] == 0


async def test_one_is_shown_with_what_strangers_said_made_harmless(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed() as bed:
        keep(bed, message="m1", cause="550 \x1b[2J")
        whole = await get(bed, "/api/v1/flights/1", WholeFlight)
        assert [(line["side"], line["text"]) for line in whole["said"]] == [
            ("S", "220 mx"),
            ("*", "message m1"),
            ("C", "MAIL FROM:<\\x1b[2J\\xff@evil.example>"),
        ]
        assert whole["cause"] == "550 \\x1b[2J"
        assert whole["dropped"] == 0


@pytest.mark.parametrize("id", ["2", "x", "0", "%2e%2e"])
async def test_one_that_is_not_there_is_404(autojump_clock: trio.testing.MockClock, id: str) -> None:
    async with open_bed() as bed:
        keep(bed)
        assert (await bed.request("GET", f"/api/v1/flights/{id}")).status == 404


async def test_a_message_tells_of_its_flights(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        message = await bed.accept("carl@far.example")
        keep(bed, message="another")
        keep(bed, message=message)
        answer = await bed.request("GET", f"/api/v1/messages/{message}/timeline")
        assert [flight["id"] for flight in answer.json()["flights"]] == ["2"]


async def test_nothing_is_shown_without_a_token(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        keep(bed)
        for path in ("/api/v1/flights", "/api/v1/flights/1"):
            assert (await bed.request("GET", path, token=None)).status == 401
