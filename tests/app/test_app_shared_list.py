"""The suppression list as a plugin in a process of its own has it: the same list, and nothing of it is believed."""

from __future__ import annotations

import json
from typing import cast

import pytest
import trio.testing

from elemta.app.plugins import MemoState, SharedList, WorkerDesk
from elemta.dns import Resolver
from elemta.plugin.api import Metrics
from elemta.plugin.suppressed import RemoteSuppressionList
from elemta.runtime import TrioWallClock
from elemta.runtime.threads import in_place
from elemta.spool import Suppressed, Suppression, SuppressionUnavailable


def open_desk() -> tuple[Suppression, WorkerDesk]:
    in_place.set(True)
    kept = Suppression(None, TrioWallClock())
    shared = SharedList("apart", kept)
    return kept, WorkerDesk(Metrics(), cast(MemoState, None), cast(Resolver, None), shared)


async def test_a_worker_works_on_the_list_of_the_server(autojump_clock: trio.testing.MockClock) -> None:
    kept, desk = open_desk()
    listed = RemoteSuppressionList(desk.answer)
    await kept.put([Suppressed("vip@far.example", never=True), Suppressed("old@far.example", "asked us")])
    assert await listed.find("nobody@far.example") is None
    assert await listed.add("New@far.example", "5.1.1", 60.0)
    assert not await listed.add("vip@far.example", "5.1.1", 60.0)
    found = await listed.find("NEW@far.example")
    assert found is not None
    assert (found.address, found.why, found.source) == ("new@far.example", "5.1.1", "apart")
    assert found.until == found.since + 60
    assert (await listed.remove("old@far.example"), await listed.remove("old@far.example")) == (True, False)
    never = await listed.find("vip@far.example")
    assert never is not None
    assert never.never
    await trio.sleep(61)
    assert await listed.find("new@far.example") is None
    assert await listed.add("ever@far.example", "", None)
    assert [each.address for each in await kept.page(after="", limit=9)] == [
        "ever@far.example",
        "vip@far.example",
    ]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("suppression.all", ["x"]),
        ("suppression.add", ["x" * 321, "", 1]),
        ("suppression.add", ["", "", 1]),
        ("suppression.add", ["a@x.example", "", float("inf")]),
        ("suppression.add", ["a@x.example", "", "soon"]),
    ],
)
async def test_what_a_worker_makes_up_changes_nothing(
    name: str, said: list[object], autojump_clock: trio.testing.MockClock
) -> None:
    kept, desk = open_desk()
    with pytest.raises(ValueError):
        await desk.answer(name, json.dumps(said).encode())
    assert await kept.page(after="", limit=9) == []


async def test_a_list_that_does_not_answer_is_an_os_error(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise SuppressionUnavailable("disk I/O error")

    _, desk = open_desk()
    for name in ("find", "add", "remove"):
        monkeypatch.setattr(Suppression, name, fail)
    for work in (
        desk.suppression.find("a@x.example"),
        desk.suppression.add("a@x.example", "", None),
        desk.suppression.remove("a@x.example"),
    ):
        with pytest.raises(OSError, match="disk I/O error"):
            await work
