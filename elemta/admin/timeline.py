"""The life of one message over HTTP, from its connection to its end; and why it waits.

What is stored with a message (where it came from, each attempt) is told for as long as it is known. What else
happened in its session comes from the ring of the last events, and is there while they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from elemta.events import Event, as_dict
from elemta.mail import Mailbox, MailSyntaxError, MessageId, is_id, parse_mailbox
from elemta.spool import History

from .operations import Operation
from .problems import NotFound
from .resources.flights import FlightShown, flights_of
from .shapes import HistoryAttempt, MessageLife, Shape
from .steering import history_as_json, json_response
from .tokens import Scope
from .waiting import Surroundings, explain, waiting_as_json

if TYPE_CHECKING:
    from .api import Facts
    from .ring import EventRing

MOST_STEPS = 300
"""Events of one message and its session, the last ones."""
_UNKNOWN = "no such message, or it is too long gone"
_ELSEWHERE = frozenset({"recipient.delivered", "recipient.deferred", "recipient.failed"})
"""Events that are told as attempts."""


def find_events(ring: EventRing, message: str, session: str) -> list[Event]:
    """What the ring has of a message, and of its session but for its other messages. Sync."""
    found = []
    for number in range(ring.oldest, ring.newest + 1):
        event = ring.event(number)
        of = getattr(event, "message", "") or getattr(event, "about", "")
        if of == message or (not of and session and getattr(event, "session", "") == session):
            found.append(event)
    return found[-MOST_STEPS:]


def steps_of(history: History | None, events: list[Event]) -> list[dict[str, Any]]:
    """All that is known, in order of time: `event`, `attempt`."""
    steps = [
        {"kind": "event", "at": event.time, "type": event.type, "level": event.level, "event": as_dict(event)}
        for event in events
        if event.type not in _ELSEWHERE
    ]
    if history is not None:
        steps += _stored_steps(history, {event.type for event in events})
    return sorted(steps, key=lambda step: step["at"])


def _stored_steps(history: History, told: set[str]) -> Iterator[dict[str, Any]]:
    if "message.accepted" not in told:
        origin = history_as_json(history)["origin"]
        accepted = {
            "sender": str(history.envelope.reverse_path.mailbox or "<>"),
            "size": history.size,
            **origin,
        }
        yield {
            "kind": "event",
            "at": history.received,
            "type": "message.accepted",
            "level": "info",
            "event": accepted,
        }
    for attempt in history_as_json(history)["attempts"]:
        yield {"kind": "attempt", "at": attempt["last"], **attempt}
    if history.ended is not None and "message.removed" not in told:
        yield {"kind": "event", "at": history.ended, "type": "message.removed", "level": "info", "event": {}}


class WaitingShown(Shape):
    """What one recipient waits for, in words."""

    recipient: str
    state: str
    route: str
    """Where it goes, as `smtp:example.org`."""
    headline: str
    facts: list[str]
    until: float | None
    """When something happens next; null: that is not known."""
    attempt: str
    """The attempt that is under way; empty: none."""


class EventStep(Shape, tag_field="kind", tag="event"):
    """Something that happened to the message, or in its session."""

    at: float
    type: str
    level: str
    event: dict[str, Any]
    """As the live tail tells it."""


class AttemptStep(HistoryAttempt, tag_field="kind", tag="attempt"):
    """Attempts of one recipient, one after the other with the same result; the last one at this time."""

    at: float


class Timeline(Shape):
    """The life of one message."""

    id: str
    now: float
    life: MessageLife | None
    """Null: it was never accepted, and what is told is from the last events."""
    waiting: list[WaitingShown]
    """Each recipient that is still here, also those that are final."""
    steps: list[EventStep | AttemptStep]
    """In order of time."""
    flights: list[FlightShown]
    """What was said in attempts that failed, and in its session, as far as it is kept; the oldest first."""


class _Timelines:
    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    async def timeline(self, request: Request) -> Response:
        facts = self._facts
        id = request.path_params["message"]
        if not is_id(id):
            raise NotFound(_UNKNOWN)
        history = await facts.spool.history(MessageId(id))
        session = "" if history is None else history.origin.session
        ring = None if facts.watchers is None else facts.watchers.ring
        events = [] if ring is None else find_events(ring, id, session)
        if history is None and not events:
            raise NotFound(_UNKNOWN)
        return json_response(
            {
                "id": id,
                "now": facts.clock.time(),
                "life": None if history is None else history_as_json(history),
                "waiting": await self._waiting(MessageId(id), history),
                "steps": steps_of(history, events),
                "flights": flights_of(facts, id),
            }
        )

    async def _waiting(self, message: MessageId, history: History | None) -> list[dict[str, Any]]:
        facts = self._facts
        entry = await facts.spool.show(message)
        if entry is None:
            return []
        router = facts.queue.operations.router
        around = Surroundings(
            now=facts.clock.time(),
            queue=facts.queue.statistics(),
            attempts=facts.queue.underway.views(),
            pauses=await facts.spool.pauses(),
            config=facts.queue.config.queue,
        )
        explained = []
        for recipient in entry.recipients:
            mailbox = _mailbox(recipient.address)
            route = (
                ""
                if mailbox is None
                else str(
                    router.next_route(
                        mailbox,
                        recipient.attempts,
                        recipient.reason,
                        quarantined=history is not None and history.envelope.quarantined,
                    )
                )
            )
            explained.append(waiting_as_json(explain(entry, recipient, route, around)))
        return explained


def _mailbox(address: str) -> Mailbox | None:
    try:
        return parse_mailbox(address, utf8=True)
    except MailSyntaxError:
        return None


def timeline_operations(facts: Facts) -> list[Operation]:
    """The path of this module."""
    return [
        Operation(
            id="showTimeline",
            method="GET",
            path="/api/v1/messages/{message}/timeline",
            handler=_Timelines(facts).timeline,
            scope=Scope.READ,
            summary="The life of a message from its connection to its end, and why it waits",
            answer=Timeline,
            problems=(404,),
            tag="trace",
        )
    ]
