"""Plugins over HTTP: listed, steered, compared; what cannot be done is a problem and is not in the audit."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from admin_bed import Bed, open_bed

from elemta.plugin import Difference, PluginUnusable


class Keeper:
    """One plugin that is only switched."""

    def __init__(self) -> None:
        self.done: list[tuple[str, str]] = []

    def listing(self) -> list[dict[str, Any]]:
        return [
            {"name": "p", "standing": "running", "isolation": "task", "shadow": True, "hooks": ["rcpt"]},
        ]

    def differences(self, name: str | None) -> list[Difference]:
        found = Difference(
            1.0, "p", "rcpt", "reject: no", "continue", "s", "", "a@x.example", ("b@y.example",)
        )
        return [found] if name in (None, "p") else []

    async def _do(self, what: str, name: str) -> None:
        await trio.lowlevel.checkpoint()
        if name == "broken":
            raise PluginUnusable("plugin broken: SyntaxError")
        if name == "full":
            raise OSError(28, "No space left on device")
        self.done.append((what, name))

    async def enable(self, name: str) -> None:
        await self._do("enable", name)

    async def disable(self, name: str) -> None:
        await self._do("disable", name)

    async def reload(self, name: str) -> None:
        await self._do("reload", name)


async def post(bed: Bed, **body: object) -> Any:
    return await bed.request("POST", "/api/v1/plugins", body=json.dumps(body).encode())


async def test_plugins_are_listed_and_steered(autojump_clock: object) -> None:
    async with open_bed() as bed:
        assert (await bed.request("GET", "/api/v1/plugins")).json() == {"plugins": []}
        assert (await post(bed, action="enable", name="p")).status == 503
        keeper = bed.facts.keeper = Keeper()
        (found,) = (await bed.request("GET", "/api/v1/plugins")).json()["plugins"]
        assert (found["name"], found["standing"]) == ("p", "running")
        for action in ("enable", "disable", "reload"):
            assert (await post(bed, action=action, name="p")).status == 200
        assert keeper.done == [("enable", "p"), ("disable", "p"), ("reload", "p")]


@pytest.mark.parametrize(
    ("action", "name", "status", "detail"),
    [
        ("reload", "broken", 409, "SyntaxError"),
        ("enable", "full", 503, "No space left"),
        ("explode", "p", 400, "action is one of"),
    ],
)
async def test_what_cannot_be_done_is_a_problem(
    action: str, name: str, status: int, detail: str, autojump_clock: object
) -> None:
    async with open_bed() as bed:
        bed.facts.keeper = Keeper()
        answer = await post(bed, action=action, name=name)
        assert answer.status == status
        assert detail in answer.json()["detail"]


async def test_differences_are_told_of_one_plugin_or_of_all(autojump_clock: object) -> None:
    async with open_bed() as bed:
        bed.facts.keeper = Keeper()
        for query, count in (("", 1), ("?name=p", 1), ("?name=q", 0)):
            answer = await bed.request("GET", f"/api/v1/plugins/differences{query}")
            assert len(answer.json()["differences"]) == count
