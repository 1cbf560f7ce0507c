"""Destinations as a resource: how each is treated and how it does, left alone and taken up again."""

from __future__ import annotations

from collections import Counter
from typing import Any

import attrs
import trio
from starlette.requests import Request
from starlette.responses import Response

from elemta.config import BadValue
from elemta.delivery import may_have_limits, parse_override
from elemta.mail import MailSyntaxError
from elemta.queue import SiteStatistics, TooManyLimits, route_named
from elemta.spool import PauseKind, ShareKey

from ..api import Facts
from ..operations import Operation, Parameter, read_json, tell_audit
from ..paging import LIMIT, read_limit
from ..problems import BadRequest, Conflict, NotFound, Problem
from ..shapes import DestinationLimits, Shape
from ..steering import LONGEST_REASON, LONGEST_VALUE, as_builtins, limits_as_json
from ..steering import json_response as _json
from ..tokens import Scope

MOST_DOMAINS = 1000
"""Domains with waiting mail that are looked at: those with the most."""
NAME = Parameter("name", "A route such as `smtp:example.org`, a domain or an address", required=True)


class DestinationShown(Shape):
    """A destination at one moment."""

    route: str
    waiting: int
    """Recipients in the spool that are not under way, of the domains with the most of them."""
    paused: str | None
    """Why an operator paused the route; null: nobody did."""
    now: SiteStatistics | None
    """What is in memory; null: nothing is under way."""


class DestinationList(Shape):
    """Destinations, those with the most mail first."""

    destinations: list[DestinationShown]
    more: int


class DestinationDetails(DestinationShown):
    """The same with what it may be given."""

    hosts: list[str]
    """What its MX names, where that is known by now."""
    shaping: list[str]
    """The tables that fit."""
    limits: dict[str, str | int]
    limits_set: DestinationLimits | None
    """Those of them that an operator set; null: all are by the configuration."""
    shares_with: list[str]
    """Other destinations with the same hosts."""


class DestinationWish(Shape):
    """What is to become of a destination."""

    action: str
    """`pause`; or `resume`, which ends its rest as well and makes what waits for it due now."""
    name: str
    """A route, a domain or an address."""
    reason: str = ""
    seconds: float | None = None
    """After which a pause ends by itself."""


class LimitsWish(Shape):
    """Limits for one destination, in the place of what was set for it before."""

    name: str
    """A route, a domain or an address."""
    limits: dict[str, int | str]
    """`concurrency`, `recipients_per_transaction`, `messages_per_connection` (numbers), `connection_rate`,
    `message_rate` (such as `600/1h`), `byte_rate` (`100MiB/1h`); empty: by the configuration again."""
    reason: str = ""


class LimitsResult(Shape):
    """What holds now."""

    route: str
    limits: dict[str, int | str]
    """That are set; empty: none."""


class LimitsList(Shape):
    """All limits that operators set, by route."""

    limits: list[DestinationLimits]


class DestinationResult(Shape):
    """What became of it."""

    route: str
    recipients: int | None = None
    """Of a resume: so many go on."""


@attrs.frozen(eq=False)
class _Destinations:
    _facts: Facts

    async def overview(self, request: Request) -> Response:
        limit = read_limit(request.query_params.get("limit", "200"))
        found = await self._all()
        found.sort(key=_order)
        return _json({"destinations": found[:limit], "more": max(0, len(found) - limit)})

    async def show(self, request: Request) -> Response:
        route = self._route(request.query_params["name"])
        shown = next((each for each in await self._all() if each["route"] == route), None)
        if shown is None:
            shown = {"route": route, "waiting": 0, "paused": await self._paused(route), "now": None}
        site = next((each for each in self._facts.queue.sites.all if str(each.route) == route), None)
        limits = self._facts.queue.limits.all
        own = limits_as_json({route: limits[route]} if route in limits else {})
        more: dict[str, Any] = {"hosts": [], "shaping": [], "limits": {}, "shares_with": []}
        if site is not None:
            provider = site.provider
            more = {
                "hosts": sorted(provider.hosts),
                "shaping": list(provider.shape.tables),
                "limits": provider.shape.limits(),
                "shares_with": sorted(str(each.route) for each in provider.sites if each is not site),
            }
        return _json(shown | more | {"limits_set": own[0] if own else None})

    async def limits(self, _: Request) -> Response:  # noqa: ASYNC124 - Starlette awaits it
        return _json({"limits": limits_as_json(self._facts.queue.limits.all)})

    async def change_limits(self, request: Request) -> Response:
        wish = await read_json(request, LimitsWish)
        route = self._route(wish.name)
        limits = self._facts.queue.limits
        try:
            if not wish.limits:
                if route not in limits.all:
                    raise NotFound(f"no limits are set for {route}")
                tell_audit(request, f"clear {route}")
                await limits.clear(route)
                return _json({"route": route, "limits": {}})
            if not may_have_limits(route):
                raise BadRequest(f"{route} has no limits: only smtp and lmtp have")
            settings = parse_override(wish.limits)
            said = ", ".join(f"{name} {value}" for name, value in wish.limits.items())
            tell_audit(request, f"{route}: {said}")
            override = await limits.set(route, settings, wish.reason[:LONGEST_REASON])
        except BadValue as error:
            raise BadRequest(str(error)) from error
        except TooManyLimits as error:
            raise Conflict(str(error)) from error
        except OSError as error:
            raise Problem(503, f"it cannot be written down: {error.strerror}") from error
        return _json({"route": route, "limits": override.shown()})

    async def change(self, request: Request) -> Response:
        wish = await read_json(request, DestinationWish)
        route = self._route(wish.name)
        operations = self._facts.queue.operations
        if wish.action == "resume":
            tell_audit(request, f"resume {route}")
            paused = await operations.resume(PauseKind.ROUTE, route)
            rested = await operations.end_rest(route)
            if paused is None and rested is None:
                raise NotFound(f"{route} is neither paused nor resting")
            return _json({"route": route, "recipients": (paused or 0) + (rested or 0)})
        if wish.action != "pause":
            raise BadRequest("action is one of pause, resume")
        if wish.seconds is not None and not 0 < wish.seconds < 10**9:
            raise BadRequest("seconds is above 0")
        tell_audit(request, f"pause {route}")
        until = None if wish.seconds is None else self._facts.clock.time() + wish.seconds
        await operations.pause(PauseKind.ROUTE, route, reason=wish.reason[:LONGEST_REASON], until=until)
        return _json({"route": route})

    def _route(self, name: str) -> str:
        if not 0 < len(name) <= LONGEST_VALUE:
            raise BadRequest(f"a name has 1 to {LONGEST_VALUE} characters")
        try:
            return route_named(self._facts.queue.operations.router, name)
        except MailSyntaxError as error:
            raise BadRequest(f"name is no route, domain or address: {error}") from None

    async def _paused(self, route: str) -> str | None:
        for pause in await self._facts.spool.pauses():
            if (pause.kind, pause.value) == (PauseKind.ROUTE, route):
                return pause.reason
        return None

    async def _all(self) -> list[dict[str, Any]]:
        facts = self._facts
        now = trio.current_time()
        live = {str(site.route): site.statistics(now) for site in facts.queue.sites.all}
        waiting: Counter[str] = Counter()
        router = facts.queue.operations.router
        for share in await facts.spool.shares(ShareKey.DOMAIN, MOST_DOMAINS):
            waiting[route_named(router, share.value)] += share.recipients
        paused = {
            pause.value: pause.reason for pause in await facts.spool.pauses() if pause.kind is PauseKind.ROUTE
        }
        return [
            {
                "route": route,
                "waiting": waiting[route],
                "paused": paused.get(route),
                "now": as_builtins(live[route]) if route in live else None,
            }
            for route in dict.fromkeys((*live, *waiting, *paused))
        ]


def _order(shown: dict[str, Any]) -> tuple[int, str]:
    now = shown["now"]
    return -shown["waiting"] - (now["ready"] + now["dispatchers"] if now else 0), shown["route"]


def destination_operations(facts: Facts) -> list[Operation]:
    """The paths of this module."""
    destinations = _Destinations(facts)
    return [
        Operation(
            id="listDestinations",
            method="GET",
            path="/api/v1/destinations",
            handler=destinations.overview,
            scope=Scope.READ,
            summary="Where mail goes now or waits to go, with connections, rests and pauses",
            answer=DestinationList,
            query=(LIMIT,),
            tag="queue",
        ),
        Operation(
            id="showDestination",
            method="GET",
            path="/api/v1/destinations/one",
            handler=destinations.show,
            scope=Scope.READ,
            summary="One destination, with its hosts and limits",
            answer=DestinationDetails,
            query=(NAME,),
            tag="queue",
        ),
        Operation(
            id="changeDestination",
            method="POST",
            path="/api/v1/destinations",
            handler=destinations.change,
            scope=Scope.OPERATE,
            summary="Leave a destination alone, or take it up again at once",
            body=DestinationWish,
            answer=DestinationResult,
            problems=(404,),
            tag="queue",
        ),
        Operation(
            id="listDestinationLimits",
            method="GET",
            path="/api/v1/destinations/limits",
            handler=destinations.limits,
            scope=Scope.READ,
            summary="Limits that operators set for destinations",
            answer=LimitsList,
            tag="queue",
        ),
        Operation(
            id="changeDestinationLimits",
            method="POST",
            path="/api/v1/destinations/limits",
            handler=destinations.change_limits,
            scope=Scope.OPERATE,
            summary="Set or clear limits for a destination, at once and beyond a restart",
            body=LimitsWish,
            answer=LimitsResult,
            problems=(404, 409),
            tag="queue",
        ),
    ]
