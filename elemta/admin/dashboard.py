"""Serves the dashboard: a few files from the package, which need no token and hold no data."""

from __future__ import annotations

from importlib import resources

import attrs
from starlette.requests import Request
from starlette.responses import Response

from .operations import Operation, Raw
from .problems import NotFound

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_HEADERS = {
    # Nothing from elsewhere, nothing inline, no text that is taken for markup or for a script.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
}


@attrs.frozen
class _File:
    content: bytes
    media_type: str


def _load() -> dict[str, _File]:
    folder = resources.files(__package__) / "page"
    files = {}
    for entry in folder.iterdir():
        suffix = entry.name[entry.name.rfind(".") :]
        if suffix in _TYPES:
            files[entry.name] = _File(entry.read_bytes(), f"{_TYPES[suffix]}; charset=utf-8")
    return files


class _Page:
    def __init__(self) -> None:
        self._files = _load()

    async def index(self, _: Request) -> Response:
        return self._answer("index.html")

    async def file(self, request: Request) -> Response:
        return self._answer(request.path_params["name"])

    def _answer(self, name: str) -> Response:
        file = self._files.get(name)
        if file is None:
            raise NotFound("there is no such file")
        return Response(file.content, headers=_HEADERS | {"content-type": file.media_type})


def page_operations() -> list[Operation]:
    """The paths of this module."""
    page = _Page()
    return [
        Operation(
            id="showPage",
            method="GET",
            path="/",
            handler=page.index,
            scope=None,
            summary="The dashboard, which asks for a token itself",
            answer=Raw("text/html"),
            tag="page",
        ),
        Operation(
            id="showPageFile",
            method="GET",
            path="/page/{name}",
            handler=page.file,
            scope=None,
            summary="A script or style sheet of the dashboard",
            answer=Raw("text/plain"),
            problems=(404,),
            tag="page",
        ),
    ]
