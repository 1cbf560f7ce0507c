"""The cache of DNS as a resource: shown, asked, forgotten."""

from __future__ import annotations

import attrs
from starlette.requests import Request
from starlette.responses import Response

from elemta.dns import RecordKind

from .. import shapes
from ..api import DnsFace, Facts
from ..operations import Operation, Parameter, read_json, tell_audit
from ..paging import LIMIT, read_limit
from ..problems import BadRequest
from ..shapes import DnsFlush
from ..steering import json_response as _json
from ..tokens import Scope

_KINDS = [spelled for kind in RecordKind for spelled in (kind.upper(), kind.lower())]


@attrs.frozen(eq=False)
class _Dns:
    _facts: Facts

    def _dns(self) -> DnsFace:
        if self._facts.dns is None:
            raise BadRequest("this server has no cache of DNS")
        return self._facts.dns

    async def dns_cache(self, request: Request) -> Response:
        query = request.query_params
        limit = read_limit(query.get("limit", "200"))
        face = self._dns()
        entries = face.cached(query.get("name"), limit)
        return _json({"statistics": face.statistics(), "entries": entries})

    async def dns_lookup(self, request: Request) -> Response:
        try:
            return _json(
                await self._dns().lookup(request.query_params["name"], request.query_params.get("type", "MX"))
            )
        except ValueError as error:
            raise BadRequest(str(error)) from error

    async def dns_flush(self, request: Request) -> Response:
        wish = await read_json(request, DnsFlush)
        if (wish.name is None) is not wish.all:
            raise BadRequest("give a name, or say all")
        tell_audit(request, wish.name or "all")
        return _json({"forgotten": self._dns().flush(wish.name)})


def dns_operations(facts: Facts) -> list[Operation]:
    """The paths of this module."""
    dns = _Dns(facts)
    return [
        Operation(
            id="listDns",
            method="GET",
            path="/api/v1/dns",
            handler=dns.dns_cache,
            scope=Scope.READ,
            summary="What is in the cache of DNS",
            answer=shapes.DnsCache,
            query=(Parameter("name", "Only of this name"), LIMIT),
            tag="dns",
        ),
        Operation(
            id="lookUp",
            method="GET",
            path="/api/v1/dns/lookup",
            handler=dns.dns_lookup,
            scope=Scope.READ,
            summary="Ask DNS, as the server would",
            answer=shapes.DnsAnswer,
            query=(
                Parameter("name", "The name", required=True),
                Parameter("type", "The type of record; default MX", {"enum": _KINDS}),
            ),
            tag="dns",
        ),
        Operation(
            id="flushDns",
            method="POST",
            path="/api/v1/dns/flush",
            handler=dns.dns_flush,
            scope=Scope.OPERATE,
            summary="Forget what DNS said, of one name or of all",
            body=DnsFlush,
            answer=shapes.DnsForgotten,
            tag="dns",
        ),
    ]
