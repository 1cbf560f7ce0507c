"""Pauses, traces, dry runs, bounces and the audit over HTTP."""

from __future__ import annotations

import json

import pytest
import trio.testing
from admin_bed import Answer, Bed, open_bed


async def post(bed: Bed, path: str, **body: object) -> Answer:
    return await bed.request("POST", f"/api/v1/{path}", body=json.dumps(body).encode())


async def test_a_pause_is_shown_and_resumed(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        answer = await post(bed, "pauses", action="pause", kind="domain", value="FAR.example", reason="why")
        assert (answer.status, answer.json()) == (200, {"kind": "domain", "value": "far.example"})
        message = await bed.accept("carl@far.example")
        (pause,) = (await bed.request("GET", "/api/v1/pauses")).json()["pauses"]
        assert (pause["value"], pause["reason"], pause["until"]) == ("far.example", "why", None)
        (entry,) = (await bed.request("GET", "/api/v1/queue?cause=paused")).json()["messages"]
        assert (entry["id"], entry["recipients"][0]["state"]) == (message, "held")
        again = await post(bed, "pauses", action="resume", kind="domain", value="far.example")
        assert again.json() == {"recipients": 1}
        again = await post(bed, "pauses", action="resume", kind="domain", value="far.example")
        assert again.status == 404


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"action": "stop", "kind": "domain", "value": "x.example"}, "action"),
        ({"action": "pause", "kind": "planet", "value": "x.example"}, "kind"),
        ({"action": "pause", "kind": "domain", "value": ""}, "characters"),
        ({"action": "pause", "kind": "sender", "value": "nobody"}, "sender"),
        ({"action": "pause", "kind": "domain", "value": "x.example", "seconds": -1}, "seconds"),
        ({"action": "pause", "kind": "domain"}, "value"),
    ],
)
async def test_a_bad_pause_is_400_with_the_reason(
    body: dict[str, object], reason: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_bed() as bed:
        answer = await post(bed, "pauses", **body)
        assert answer.status == 400
        assert reason in answer.json()["detail"]
        assert await bed.spool.pauses() == ()


async def test_a_dry_run_counts_and_changes_nothing(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        await bed.accept("carl@far.example", "dora@far.example", "emil@other.example")
        for action, expected in (("hold", 2), ("retry", 2), ("remove", 2), ("bounce", 2), ("release", 0)):
            answer = await post(
                bed, "queue", action=action, selection={"route": "smtp:far.example"}, dry_run=True
            )
            assert answer.json() == {"recipients": expected, "messages": 1 if expected else 0, "next": None}
        totals = await bed.spool.totals()
        assert (totals.queued, totals.held) == (3, 0)
        bad = await post(bed, "queue", action="burn", selection={"all": True}, dry_run=True)
        assert bad.status == 400


async def test_a_bounce_ends_what_matches_and_its_trace_tells_so(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed() as bed:
        message = await bed.accept("carl@far.example")
        answer = await post(bed, "queue", action="bounce", selection={"cause": "connect"}, limit=10)
        assert (answer.json()["recipients"], answer.json()["messages"]) == (1, 1)
        life = (await bed.request("GET", f"/api/v1/trace/{message}")).json()
        assert [attempt["reason"] for attempt in life["attempts"]] == ["connect", "operator"]
        assert life["recipients"][0]["state"] == "failed"
        assert life["ended"] >= life["received"]
        assert (await bed.request("GET", "/api/v1/audit")).json() == {"differences": []}


@pytest.mark.parametrize("message", ["0123456789abcdef", "nonsense", "%00"])
async def test_what_never_was_has_no_trace(message: str, autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        assert (await bed.request("GET", f"/api/v1/trace/{message}")).status == 404


async def test_ages_select_and_bad_ones_are_400(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        await bed.accept("carl@far.example")
        await trio.sleep(100)
        old = (await bed.request("GET", "/api/v1/queue?older=50")).json()["messages"]
        young = (await bed.request("GET", "/api/v1/queue?newer=50")).json()["messages"]
        assert (len(old), young) == (1, [])
        assert (await bed.request("GET", "/api/v1/queue?older=-1")).status == 400


async def test_a_search_by_address_tells_of_what_is_gone(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        message = await bed.accept("carl@far.example")
        await post(bed, "queue", action="remove", selection={"all": True})
        answer = await bed.request(
            "GET", "/api/v1/trace?recipient=carl@far.example&sender=anna@client.example"
        )
        assert [life["id"] for life in answer.json()["messages"]] == [message]
        answer = await bed.request("GET", "/api/v1/trace?recipient=dora@far.example")
        assert answer.json() == {"messages": []}
        assert (await bed.request("GET", "/api/v1/trace?sender=nobody")).status == 400


@pytest.mark.parametrize("gone", [True, False])
async def test_a_search_by_what_the_header_says(gone: bool, autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        message = await bed.accept(
            "carl@far.example",
            content=b"Message-ID: <1%2@x.example>\r\nSubject: =?utf-8?q?H=C3=A9?=\r\n\r\nx\r\n",
        )
        await bed.accept("dora@far.example", "emil@far.example")
        if gone:
            await post(bed, "queue", action="remove", selection={"all": True})
        for query in ("message_id=%3C1%252@x.example%3E", "message_id=1%252@x.example", "subject=h%C3%A9"):
            (life,) = (await bed.request("GET", f"/api/v1/trace?{query}")).json()["messages"]
            assert (life["id"], life["message_id"]) == (message, "1%2@x.example")
        assert (await bed.request("GET", "/api/v1/trace?subject=he")).json() == {"messages": []}
        for bad in (
            "subject=",
            "remote_id=abc",
            f"message_id={'x' * 253}",
            "subject=%20",
            "message_id=%3C%3E",
            "subject=%3D?utf-8?q??%3D",
        ):
            assert (await bed.request("GET", f"/api/v1/trace?{bad}")).status == 400
