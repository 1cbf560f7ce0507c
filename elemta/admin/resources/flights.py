"""The flight recorder as a resource: what was said in sessions and attempts that failed, the last of them."""

from __future__ import annotations

from typing import Any

import attrs
from starlette.requests import Request
from starlette.responses import Response

from elemta.events import Flight, Mark
from elemta.runtime import escape_text
from elemta.smtp import show_said

from ..api import Facts
from ..operations import Operation, Parameter
from ..paging import LIMIT, read_limit
from ..problems import NotFound
from ..shapes import Shape
from ..steering import json_response
from ..tokens import Scope

LONGEST_LINE = 1000
"""Characters of a line that are shown."""
_FILTERS = ("kind", "message", "about", "peer")


class FlightShown(Shape):
    """What is known of a flight, without what was said."""

    id: str
    kind: str
    """`session` or `attempt`."""
    time: float
    """When it was over."""
    about: str
    """The session or the attempt, by its id."""
    peer: str
    message: str
    """The id of its message; empty where there was none."""
    cause: str
    lines: int


class FlightList(Shape):
    """The newest first."""

    total: int
    """Of those that are kept and match."""
    flights: list[FlightShown]


class Said(Shape):
    """One line of a flight."""

    seconds: float
    """Since the first."""
    side: str
    """`C` the client said it, `S` the server; `*`: something happened."""
    text: str


class WholeFlight(Shape):
    """A flight with what was said. Secrets and messages are left out."""

    id: str
    kind: str
    time: float
    about: str
    peer: str
    message: str
    cause: str
    lines: int
    dropped: int
    """Lines of the middle that were too many to keep."""
    said: list[Said]


def flight_as_json(flight: Flight) -> dict[str, Any]:
    """As listings show it. What strangers said is escaped."""
    return {
        "id": flight.id,
        "kind": flight.kind,
        "time": flight.time,
        "about": flight.about,
        "peer": flight.peer,
        "message": flight.message,
        "cause": escape_text(flight.cause, LONGEST_LINE),
        "lines": len(flight.entries),
    }


def said_as_json(flight: Flight) -> list[dict[str, Any]]:
    """Each line of what was said."""
    begun = flight.entries[0][0] if flight.entries else 0.0
    return [
        {"seconds": round(time - begun, 4), "side": str(side), "text": escape_text(line, LONGEST_LINE)}
        for time, side, what in flight.entries
        for line in ([f"message {what.message}"] if isinstance(what, Mark) else show_said(what))
    ]


def flights_of(facts: Facts, message: str) -> list[dict[str, Any]]:
    """The flights of one message, the oldest first."""
    if facts.flights is None:
        return []
    return [flight_as_json(each) for each in reversed(list(facts.flights)) if each.message == message]


@attrs.frozen(eq=False)
class _Flights:
    _facts: Facts

    async def list(self, request: Request) -> Response:
        wanted = {name: request.query_params[name] for name in _FILTERS if name in request.query_params}
        limit = read_limit(request.query_params.get("limit", "100"))
        found = [
            flight
            for flight in self._facts.flights or ()
            if all(getattr(flight, name) == value for name, value in wanted.items())
        ]
        shown = [flight_as_json(flight) for flight in found[:limit]]
        return json_response({"total": len(found), "flights": shown})

    async def show(self, request: Request) -> Response:
        flights = self._facts.flights
        flight = None if flights is None else flights.find(request.path_params["flight"])
        if flight is None:
            raise NotFound("no such flight, or it had to make room for newer ones")
        whole = flight_as_json(flight) | {"dropped": flight.dropped, "said": said_as_json(flight)}
        return json_response(whole)


def flight_operations(facts: Facts) -> list[Operation]:
    """The paths of this module."""
    flights = _Flights(facts)
    return [
        Operation(
            id="listFlights",
            method="GET",
            path="/api/v1/flights",
            handler=flights.list,
            scope=Scope.READ,
            summary="Sessions and attempts that failed and of which it is kept what was said",
            answer=FlightList,
            query=(
                Parameter("kind", "Only of this kind", {"enum": ["attempt", "session"]}),
                Parameter("message", "Only of the message with this id"),
                Parameter("about", "Only of this session or attempt"),
                Parameter("peer", "Only with this client, or this host as `host[address]:port`"),
                LIMIT,
            ),
            tag="live",
        ),
        Operation(
            id="showFlight",
            method="GET",
            path="/api/v1/flights/{flight}",
            handler=flights.show,
            scope=Scope.READ,
            summary="What was said, line by line",
            answer=WholeFlight,
            problems=(404,),
            tag="live",
        ),
    ]
