"""The files of the dashboard: who gets them, under which policy, and that nothing in them makes markup."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trio
from admin_bed import open_bed

import elemta.admin

FOLDER = Path(elemta.admin.__file__).parent / "page"
FILES = sorted(path.name for path in FOLDER.iterdir())


async def test_the_page_needs_no_token_and_loads_nothing_from_elsewhere(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed() as bed:
        answer = await bed.request("GET", "/", token=None)
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "require-trusted-types-for 'script'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-content-type-options"] == "nosniff"
        for name in re.findall(rb'(?:href|src)="(/page/[^"]+)"', answer.body):
            assert (await bed.request("GET", name.decode(), token=None)).status == 200


@pytest.mark.parametrize("name", FILES)
async def test_each_file_is_served_as_what_it_is(autojump_clock: trio.testing.MockClock, name: str) -> None:
    kinds = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
    async with open_bed() as bed:
        answer = await bed.request("GET", f"/page/{name}", token=None)
        assert answer.status == 200
        assert answer.headers["content-type"] == f"{kinds[name.rpartition('.')[2]]}; charset=utf-8"
        assert answer.body == (FOLDER / name).read_bytes()


@pytest.mark.parametrize(
    "path",
    ["/page/", "/page/none.js", "/page/../api.py", "/page/..%2fapi.py", "/page/%2e%2e/api.py", "/page"],
)
async def test_nothing_else_is_served(autojump_clock: trio.testing.MockClock, path: str) -> None:
    async with open_bed() as bed:
        answer = await bed.request("GET", path, token=None)
        assert answer.status in (401, 404)
        assert b"import" not in answer.body


async def test_another_site_does_not_get_the_page(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        assert (await bed.request("GET", "/", token=None, host="evil.example")).status == 421
        answer = await bed.request("GET", "/page/main.js", token=None, Origin="http://evil.example")
        assert answer.status == 403


@pytest.mark.parametrize("name", FILES)
def test_no_text_can_become_markup_or_code(name: str) -> None:
    text = (FOLDER / name).read_text()
    for way in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
        "srcdoc",
    ):
        assert way not in text
    if name.endswith(".html"):
        assert not re.search(r"\son\w+=|style=|<script(?![^>]*\ssrc=)", text)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".js")])
def test_each_module_that_is_imported_is_there(name: str) -> None:
    for other in re.findall(r'from "\./([^"]+)"', (FOLDER / name).read_text()):
        assert other in FILES
