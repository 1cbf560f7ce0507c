"""The server steered as a whole: its configuration shown and read again, the orderly stop."""

from __future__ import annotations

import attrs
import trio
from starlette.requests import Request
from starlette.responses import Response

from elemta.config import Config, config_as_plain

from .. import shapes
from ..api import Facts
from ..operations import Operation, read_json, tell_audit
from ..problems import Conflict, Problem
from ..steering import json_response as _json
from ..tokens import Scope

HIDDEN = "(hidden)"


def redacted(config: Config) -> dict[str, object]:
    """The settings in effect as JSON, without what gives a right to whoever knows it.

    Passwords and keys are in files, of which only the names are shown; what remains are zones of lists with a
    key of the subscriber in their name, and settings of plugins that call themselves secret.
    """
    plain = config_as_plain(config)
    hide(plain)
    return plain


def hide(value: object) -> None:
    """Replace what sounds like a secret, at any depth."""
    if isinstance(value, dict):
        for name, inner in value.items():
            lower = str(name).lower()
            if isinstance(inner, str) and any(word in lower for word in _SECRETS) and "file" not in lower:
                value[name] = HIDDEN
            else:
                hide(inner)
    elif isinstance(value, list):
        for each in value:
            hide(each)


_SECRETS = ("password", "secret", "token", "api_key", "apikey")


@attrs.frozen(eq=False)
class _Control:
    _facts: Facts

    async def config(self, _: Request) -> Response:
        if self._facts.config is None:
            raise Problem(503, "the server is not up yet")
        return _json({"config": redacted(self._facts.config())})

    async def reload(self, request: Request) -> Response:
        if self._facts.reload is None:
            raise Problem(503, "the server is not up yet")
        # What a reload has begun it ends, also where nobody waits for the answer any more.
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _RELOAD_SECONDS):
            told = await self._facts.reload()
        if told is None:
            raise Conflict("there is no configuration file to read again, or the server stops")
        if told.error:
            raise Problem(422, told.error)
        tell_audit(request, ", ".join(told.changed) or "nothing changed")
        return _json({"changed": list(told.changed), "restart": list(told.restart)})

    async def drain(self, request: Request) -> Response:
        wish = await read_json(request, shapes.DrainWish)
        if self._facts.begin_drain is None:
            raise Problem(503, "the server is not up yet")
        reason = wish.reason or "asked for over the API"
        tell_audit(request, reason)
        self._facts.begin_drain(reason)
        return _json(
            {"draining": True, "seconds": self._facts.drain.hard_deadline - trio.current_time()}, 202
        )


_RELOAD_SECONDS = 60.0


def control_operations(facts: Facts) -> list[Operation]:
    """The paths of this module."""
    control = _Control(facts)
    return [
        Operation(
            id="showConfig",
            method="GET",
            path="/api/v1/config",
            handler=control.config,
            scope=Scope.ADMIN,
            summary="The configuration in effect, defaults included, without secrets",
            answer=shapes.ConfigShown,
        ),
        Operation(
            id="reload",
            method="POST",
            path="/api/v1/reload",
            handler=control.reload,
            scope=Scope.ADMIN,
            summary="Read the configuration again, as SIGHUP does; a mistake in it changes nothing",
            answer=shapes.Reloaded,
            problems=(409, 422),
        ),
        Operation(
            id="drain",
            method="POST",
            path="/api/v1/drain",
            handler=control.drain,
            scope=Scope.ADMIN,
            summary="Stop the server in an orderly way, as SIGTERM does",
            body=shapes.DrainWish,
            answer=shapes.Draining,
            status=202,
        ),
    ]
