"""The tree of tasks, sessions and attempts over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import trio
from admin_bed import Bed, open_bed

from elemta.inbound import SessionView
from elemta.mail import SessionId


class Inbound:
    """Listeners with one session."""

    def __init__(self) -> None:
        self.closed: list[str] = []

    @property
    def sessions(self) -> tuple[SessionView, ...]:
        view = SessionView(SessionId("s1"), "mx", "192.0.2.7", 4000, "command", 5.0, 295.0, False, 3, 1)
        return () if self.closed else (view,)

    def close_session(self, id: str) -> bool:
        if id != "s1":
            return False
        self.closed.append(id)
        return True


def flat(task: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield task
    for child in task["children"]:
        yield from flat(child)


async def post(bed: Bed, path: str, **body: object) -> tuple[int, Any]:
    answer = await bed.request("POST", path, body=json.dumps(body).encode())
    return answer.status, answer.json()


async def test_the_tree_has_the_tasks_of_the_queue(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        answer = (await bed.request("GET", "/api/v1/tree")).json()
        tasks = {task["name"]: task for task in flat(answer["tree"])}
        assert {"scheduler", "queue care", "queue drain"} <= set(tasks)
        assert tasks["queue drain"]["waits_for"] == "an event"
        assert tasks["queue drain"]["place"].startswith("elemta.")
        assert tasks["queue drain"]["seconds_left"] > 3600


async def test_sessions_are_listed_shown_and_closed(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        inbound = bed.facts.inbound = Inbound()  # type: ignore[assignment]
        listed = (await bed.request("GET", "/api/v1/sessions")).json()
        assert listed["total"] == 1
        (shown,) = listed["sessions"]
        assert (shown["id"], shown["phase"], shown["seconds_left"]) == ("s1", "command", 295.0)
        assert (await bed.request("GET", "/api/v1/sessions/s1")).json() == shown
        assert await post(bed, "/api/v1/sessions/s1", action="close") == (
            200,
            {"session": "s1", "closed": True},
        )
        assert inbound.closed == ["s1"]  # type: ignore[attr-defined]
        assert (await bed.request("GET", "/api/v1/sessions/s1")).status == 404
        assert (await post(bed, "/api/v1/sessions/s2", action="close"))[0] == 404


@pytest.mark.parametrize("path", ["/api/v1/sessions/s1", "/api/v1/attempts/1.1"])
@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"action": "explode"}', b'{"action": "close", "why": 1}', b'{"action": 7}']
)
async def test_a_bad_wish_ends_nothing(
    autojump_clock: trio.testing.MockClock, path: str, body: bytes
) -> None:
    async with open_bed() as bed:
        inbound = bed.facts.inbound = Inbound()  # type: ignore[assignment]
        assert (await bed.request("POST", path, body=body)).status == 400
        assert not inbound.closed  # type: ignore[attr-defined]


async def test_attempts_are_listed_and_one_that_is_not_there_is_404(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed() as bed:
        await bed.accept("carl@far.example")
        assert (await bed.request("GET", "/api/v1/attempts")).json() == {"total": 0, "attempts": []}
        assert (await post(bed, "/api/v1/attempts/1.1", action="cancel"))[0] == 404


@pytest.mark.parametrize("path", ["/api/v1/tree", "/api/v1/sessions", "/api/v1/attempts"])
async def test_nothing_is_shown_without_a_token(autojump_clock: trio.testing.MockClock, path: str) -> None:
    async with open_bed() as bed:
        assert (await bed.request("GET", path, token=None)).status == 401
