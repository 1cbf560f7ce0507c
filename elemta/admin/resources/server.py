"""The server as a whole: health, metrics, status."""

from __future__ import annotations

import attrs
from starlette.requests import Request
from starlette.responses import Response

from .. import metrics, shapes
from ..api import Facts
from ..operations import Operation, Parameter, Raw
from ..steering import as_builtins, limits_as_json
from ..steering import json_response as _json
from ..tokens import Scope


@attrs.frozen(eq=False)
class _Server:
    _facts: Facts

    async def livez(self, _: Request) -> Response:
        return Response("alive\n", media_type="text/plain")

    async def readyz(self, request: Request) -> Response:
        state = self._facts.readiness()
        if request.query_params.get("verbose") == "yes":
            lines = [f"{part.name}: {part.trouble or 'ok'}" for part in state.parts]
        else:
            lines = ["ready"] if state.ready else list(state.reasons)
        return Response(
            "".join(f"{line}\n" for line in lines), 200 if state.ready else 503, media_type="text/plain"
        )

    async def startupz(self, _: Request) -> Response:
        if self._facts.listeners() or self._facts.drain.draining:
            return Response("started\n", media_type="text/plain")
        return Response("listeners: not open yet\n", 503, media_type="text/plain")

    async def metrics(self, _: Request) -> Response:
        looked = await metrics.look(self._facts)
        text = await metrics.expose(metrics.families(self._facts, looked))
        return Response(text, headers={"content-type": metrics.CONTENT_TYPE})

    async def status(self, _: Request) -> Response:
        facts = self._facts
        state = facts.readiness()
        return _json(
            {
                "version": facts.version,
                "hostname": facts.hostname,
                "started": facts.started,
                "now": facts.clock.time(),
                "ready": state.ready,
                "reasons": list(state.reasons),
                "listeners": facts.listeners(),
                "spool": as_builtins(await facts.spool.totals()),
                "queue": as_builtins(facts.queue.statistics()),
                "rates": _rates(facts),
                "held_accounts": _held_accounts(facts),
                "limits": limits_as_json(facts.queue.limits.all),
                "counts": {
                    "messages": facts.counts.messages,
                    "delivered": facts.counts.delivered,
                    "deferred": facts.counts.deferred.total(),
                    "failed": facts.counts.failed.total(),
                    "crashes": facts.counts.crashes,
                },
            }
        )


def _rates(facts: Facts) -> list[dict[str, object]]:
    if facts.gate is None:
        return []
    return [
        {
            "rate": each.name,
            "known": each.limiter.keys,
            "allowed": each.limiter.allowed,
            "refused": each.limiter.refused,
            "forgotten": each.limiter.forgotten,
        }
        for each in facts.gate.statistics().rates
    ]


def _held_accounts(facts: Facts) -> list[str]:
    breaker = None if facts.gate is None else facts.gate.statistics().breaker
    return [] if breaker is None else list(breaker.held)


def server_operations(facts: Facts) -> list[Operation]:
    """The paths of this module."""
    server = _Server(facts)
    text = Raw("text/plain")
    return [
        Operation(
            id="livez",
            method="GET",
            path="/livez",
            handler=server.livez,
            scope=None,
            summary="Whether the server is alive",
            answer=text,
            tag="health",
        ),
        Operation(
            id="readyz",
            method="GET",
            path="/readyz",
            handler=server.readyz,
            scope=None,
            summary="Whether it can accept mail; otherwise why not, a line for each reason",
            answer=text,
            query=(Parameter("verbose", "`yes`: each part and how it is", {"enum": ["yes", "no"]}),),
            other_answers={503: Raw("text/plain", "It cannot")},
            tag="health",
        ),
        Operation(
            id="startupz",
            method="GET",
            path="/startupz",
            handler=server.startupz,
            scope=None,
            summary="Whether the server has started",
            answer=text,
            other_answers={503: Raw("text/plain", "Not yet")},
            tag="health",
        ),
        Operation(
            id="metrics",
            method="GET",
            path="/metrics",
            handler=server.metrics,
            scope=Scope.READ,
            summary="Metrics for Prometheus",
            answer=text,
            tag="health",
        ),
        Operation(
            id="status",
            method="GET",
            path="/api/v1/status",
            handler=server.status,
            scope=Scope.READ,
            summary="The server at one moment",
            answer=shapes.Status,
        ),
    ]
