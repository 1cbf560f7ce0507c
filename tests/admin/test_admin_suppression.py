"""The suppression list over HTTP: pages, search, additions, removals, and what each is refused for."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio.testing
from admin_bed import Answer, Bed, open_bed
from test_admin_openapi import check, document_of

from elemta.events import AuditEvent
from elemta.spool import Suppression, SuppressionUnavailable

LIST = "/api/v1/suppression"


async def post(bed: Bed, path: str = LIST, **body: object) -> Answer:
    answer = await bed.request("POST", path, body=json.dumps(body).encode())
    check(await document_of(bed), "post", path, answer.status, answer.json())
    return answer


async def get(bed: Bed, path: str = LIST) -> Any:
    answer = await bed.request("GET", path)
    check(await document_of(bed), "get", path.partition("?")[0], answer.status, answer.json())
    return answer.json()


async def test_addresses_are_put_on_the_list_and_taken_off(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        now = bed.facts.clock.time()
        entries = [
            {"address": "Bob@far.example", "why": "asked us", "until": now + 90},
            {"address": "vip@far.example", "never": True},
        ]
        assert (await post(bed, entries=entries)).json() == {"addresses": 2}
        one = await get(bed, f"{LIST}/one?address=BOB@far.example")
        assert one == {
            "address": "bob@far.example",
            "why": "asked us",
            "source": "operator",
            "since": one["since"],
            "until": now + 90,
            "never": False,
        }
        assert [each["never"] for each in (await get(bed))["entries"]] == [False, True]
        taken = await post(bed, f"{LIST}/remove", addresses=["bob@FAR.example", "x@far.example"])
        assert taken.json() == {"addresses": 1}
        assert (await bed.request("GET", f"{LIST}/one?address=bob@far.example")).status == 404
        audit = [event.detail for event in bed.events if isinstance(event, AuditEvent)]
        assert audit == [
            "add bob@far.example, vip@far.example",
            "remove bob@far.example, x@far.example",
        ]


async def test_it_comes_in_pages_and_is_searched(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        await post(bed, entries=[{"address": f"{number:02}@far.example"} for number in range(25)])
        seen: list[str] = []
        after = ""
        while after is not None:
            page = await get(bed, f"{LIST}?limit=10&after={after}")
            seen += [each["address"] for each in page["entries"]]
            after = page["next"]
        assert seen == [f"{number:02}@far.example" for number in range(25)]
        found = await get(bed, f"{LIST}?search=24@")
        assert [each["address"] for each in found["entries"]] == ["24@far.example"]


@pytest.mark.parametrize(
    ("path", "body", "detail"),
    [
        (LIST, {"entries": []}, "1 to 1000"),
        (LIST, {"entries": [{"address": "a@x.example"}] * 1001}, "1 to 1000"),
        (LIST, {"entries": [{"address": "a@x.example"}, {"address": "no address"}]}, "no address"),
        (LIST, {"entries": [{"address": "a@x.example", "why": "x" * 501}]}, "why"),
        (LIST, {"entries": [{"address": "a@x.example", "why": "a\r\nb"}]}, "why"),
        (LIST, {"entries": [{"address": "a@x.example", "source": ""}]}, "source"),
        (LIST, {"entries": [{"address": "a@x.example", "until": 1}]}, "over"),
        (LIST, {"entries": [{"address": "a@x.example", "ever": True}]}, "ever"),
        (f"{LIST}/remove", {"addresses": ["@"]}, "no address"),
        (f"{LIST}/remove", {}, "addresses"),
    ],
)
async def test_what_can_be_no_entry_is_400_and_changes_nothing(
    path: str, body: dict[str, Any], detail: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_bed() as bed:
        answer = await post(bed, path, **body)
        assert answer.status == 400
        assert detail in answer.json()["detail"]
        assert (await get(bed))["entries"] == []


async def test_a_list_that_does_not_answer_is_503(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise SuppressionUnavailable("suppression.sqlite: disk I/O error")

    async with open_bed() as bed:
        for name in ("find", "page", "put", "remove"):
            monkeypatch.setattr(Suppression, name, fail)
        for answer in (
            await bed.request("GET", LIST),
            await bed.request("GET", f"{LIST}/one?address=a@x.example"),
            await post(bed, entries=[{"address": "a@x.example"}]),
            await post(bed, f"{LIST}/remove", addresses=["a@x.example"]),
        ):
            assert (answer.status, answer.json()["detail"]) == (503, "suppression.sqlite: disk I/O error")
