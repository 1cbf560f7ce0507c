"""Plugins over HTTP: which there are and how they do, enable, disable, reload, where a shadow differs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from elemta.plugin import Difference, PluginUnusable

from .operations import Operation, Parameter, read_json, tell_audit
from .problems import BadRequest, Conflict, Problem
from .shapes import Shape
from .steering import as_builtins, json_response
from .tokens import Scope

if TYPE_CHECKING:
    from .api import Facts


class PluginFace(Protocol):
    """The plugins, as far as they are shown and steered here. Changes raise PluginUnusable and OSError."""

    def listing(self) -> list[dict[str, Any]]: ...

    def differences(self, name: str | None) -> list[Difference]: ...

    async def enable(self, name: str) -> None: ...

    async def disable(self, name: str) -> None: ...

    async def reload(self, name: str) -> None: ...


class PluginWish(Shape):
    """What is to be done with a plugin."""

    action: str
    """`enable`, `disable` or `reload`."""
    name: str


class PluginEntry(Shape):
    """A plugin of the configuration. Numbers are there where it is in service."""

    name: str
    standing: str
    """`running`, `down`, `suspended` or `disabled`."""
    isolation: str
    shadow: bool
    hooks: list[str]
    source: str | None = None
    """Where it was found."""
    calls: int = 0
    active: int = 0
    failures: dict[str, int] = msgspec.field(default_factory=dict)
    restarts: int = 0
    seconds: float = 0.0
    """Of all calls together."""
    missed: int = 0
    """Things it was not told of, since too many waited."""
    workers: list[int] = msgspec.field(default_factory=list)
    metrics: dict[str, float] = msgspec.field(default_factory=dict)
    """What it counts itself."""
    differed: int = 0
    """In shadow mode: how often it would have decided otherwise."""


class PluginEntries(Shape):
    """All plugins, those in service first, in the order in which they are asked."""

    plugins: list[PluginEntry]


class Differences(Shape):
    """Where plugins in shadow mode would have decided otherwise, the last times."""

    differences: list[Difference]


class _Plugins:
    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    def _listing(self) -> Response:
        keeper = self._facts.keeper
        return json_response({"plugins": [] if keeper is None else keeper.listing()})

    async def list(self, _: Request) -> Response:  # noqa: ASYNC124 - Starlette awaits it
        return self._listing()

    async def change(self, request: Request) -> Response:
        wish = await read_json(request, PluginWish)
        keeper = self._facts.keeper
        if keeper is None:
            raise Problem(503, "the server is still starting")
        tell_audit(request, f"{wish.action} {wish.name}")
        try:
            match wish.action:
                case "enable":
                    await keeper.enable(wish.name)
                case "disable":
                    await keeper.disable(wish.name)
                case "reload":
                    await keeper.reload(wish.name)
                case _:
                    raise BadRequest("action is one of enable, disable, reload")
        except PluginUnusable as error:
            raise Conflict(str(error)) from error
        except OSError as error:
            raise Problem(503, f"it cannot be written down: {error.strerror}") from error
        return self._listing()

    async def differences(self, request: Request) -> Response:  # noqa: ASYNC124 - Starlette awaits it
        keeper = self._facts.keeper
        found = [] if keeper is None else keeper.differences(request.query_params.get("name"))
        return json_response({"differences": [as_builtins(each) for each in found]})


def plugin_operations(facts: Facts) -> list[Operation]:
    """What this module does."""
    plugins = _Plugins(facts)
    return [
        Operation(
            id="listPlugins",
            method="GET",
            path="/api/v1/plugins",
            handler=plugins.list,
            scope=Scope.READ,
            summary="Plugins, and how they do",
            answer=PluginEntries,
            tag="plugins",
        ),
        Operation(
            id="changePlugin",
            method="POST",
            path="/api/v1/plugins",
            handler=plugins.change,
            scope=Scope.OPERATE,
            summary="Take a plugin into service, out of it, or load its file again",
            body=PluginWish,
            answer=PluginEntries,
            problems=(409,),
            tag="plugins",
        ),
        Operation(
            id="listPluginDifferences",
            method="GET",
            path="/api/v1/plugins/differences",
            handler=plugins.differences,
            scope=Scope.READ,
            summary="Where plugins in shadow mode would have decided otherwise",
            answer=Differences,
            query=(Parameter("name", "Of this plugin only"),),
            tag="plugins",
        ),
    ]
