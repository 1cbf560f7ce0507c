"""The Starlette application behind the admin port: health, metrics, status, the queue as JSON."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Protocol

import attrs
import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from elemta.events import EventBus, MessageRemoved, QueueChanged
from elemta.inbound import Listeners, SessionView
from elemta.mail import MessageId, is_id
from elemta.queue import QueueManager
from elemta.runtime import Drain, LoadGauge, WallClock
from elemta.spool import AddressTest, QueueFilter, RecipientState, Spool, SpoolError
from elemta.tls import TlsContexts

from . import metrics
from .auth import Guard
from .health import readiness
from .steering import ActionCount, BadRequest, as_builtins, entry_as_json, steering_routes
from .steering import json_response as _json
from .watchers import Watchers

MAX_PAGE = 1000
_NUMBER = re.compile(r"[0-9]{1,6}")
_NUMBER_OF_SECONDS = re.compile(r"[0-9]{1,10}")


class DnsFace(Protocol):
    """The resolver, as far as it is shown and steered here."""

    def statistics(self) -> dict[str, int]: ...

    def cached(self, name: str | None, most: int) -> list[dict[str, object]]: ...

    async def lookup(self, name: str, kind: str) -> dict[str, object]: ...

    def flush(self, name: str | None) -> int: ...


@attrs.define(eq=False)
class Facts:
    """What the application looks at and steers."""

    version: str
    hostname: str
    started: float
    spool: Spool
    queue: QueueManager
    bus: EventBus
    drain: Drain
    clock: WallClock
    counts: metrics.Counts = attrs.field(factory=metrics.Counts)
    listeners: Callable[[], list[dict[str, object]]] = list
    """Each open listener: name, address, sessions. Set once they are open."""
    tls: TlsContexts | None = None
    """Certificates and handshakes."""
    dns: DnsFace | None = None
    """The cache of DNS; none where a simulation has a resolver without."""
    inbound: Listeners | None = None
    """Sessions. Set once the listeners are open."""
    load: LoadGauge | None = None
    """How busy we are."""
    watchers: Watchers | None = None
    """Who follows the live tail. Set by `open_admin`."""

    def open_sessions(self) -> int:
        return sum(int(str(listener.get("sessions", 0))) for listener in self.listeners())

    def sessions(self) -> tuple[SessionView, ...]:
        """Those that are open now, the oldest first."""
        return self.inbound.sessions if self.inbound is not None else ()

    def listener_of_sessions(self) -> dict[str, str]:
        return {view.id: view.listener for view in self.sessions()}


class Selection(msgspec.Struct, forbid_unknown_fields=True):
    """Which recipients an action is about. Nothing given would mean everything: then `all` must say so."""

    messages: list[str] | None = None
    sender: str | None = None
    recipient: str | None = None
    domain: str | None = None
    state: str | None = None
    route: str | None = None
    """As `elemta status` names it: `smtp:example.org`."""
    cause: str | None = None
    """Why it waits, or is held."""
    older: float | None = None
    """Received at least so many seconds ago."""
    newer: float | None = None
    """Received at most so many seconds ago."""
    all: bool = False


class Action(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a queue action."""

    action: str
    selection: Selection
    reason: str = ""
    limit: int | None = None
    """At most so many messages, oldest first; the `next` of the answer is the `after` of the following batch.
    Without it everything that matches is changed before the answer comes, however long that takes."""
    after: str | None = None
    dry_run: bool = False
    """Only count what would be changed."""


class Flush(msgspec.Struct, forbid_unknown_fields=True):
    """Which answers of DNS to forget: of one name, or all."""

    name: str | None = None
    all: bool = False


def parse_selection(
    selection: Selection, *, now: float, test_of: Callable[[str], AddressTest]
) -> QueueFilter:
    """The filter behind a selection; `test_of` knows what a route is taken by.

    Raises:
      BadRequest: an id, address or state that cannot be.
    """
    for message in selection.messages or ():
        if not is_id(message):
            raise BadRequest(f"{message[:40]!r} is not a message id")
    state = None
    if selection.state is not None:
        try:
            state = RecipientState[selection.state.upper()]
        except KeyError:
            raise BadRequest("state is one of queued, held") from None
    which = QueueFilter(
        messages=None if selection.messages is None else tuple(MessageId(m) for m in selection.messages),
        sender=selection.sender,
        recipient=selection.recipient,
        domain=selection.domain.lower() if selection.domain else None,
        state=state,
        reason=selection.cause,
        received_before=None if selection.older is None else now - selection.older,
        received_after=None if selection.newer is None else now - selection.newer,
        test=None if selection.route is None else test_of(selection.route),
    )
    if which == QueueFilter() and not selection.all:
        raise BadRequest(
            "nothing selected: name messages, a sender, recipient, domain, route, state, cause or age, "
            "or say all"
        )
    return which


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    if not _NUMBER_OF_SECONDS.fullmatch(text):
        raise BadRequest("older and newer are numbers of seconds")
    return float(text)


class _Api:
    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    async def livez(self, _: Request) -> Response:
        return Response("alive\n", media_type="text/plain")

    async def readyz(self, _: Request) -> Response:
        facts = self._facts
        state = readiness(facts.spool, facts.drain, lambda: bool(facts.listeners()))
        text = "ready\n" if state.ready else "".join(f"{reason}\n" for reason in state.reasons)
        return Response(text, 200 if state.ready else 503, media_type="text/plain")

    async def metrics(self, _: Request) -> Response:
        totals = await self._facts.spool.totals()
        return Response(metrics.render(self._facts, totals), headers={"content-type": metrics.CONTENT_TYPE})

    async def status(self, _: Request) -> Response:
        facts = self._facts
        state = readiness(facts.spool, facts.drain, lambda: bool(facts.listeners()))
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
                "counts": {
                    "messages": facts.counts.messages,
                    "delivered": facts.counts.delivered,
                    "deferred": facts.counts.deferred.total(),
                    "failed": facts.counts.failed.total(),
                    "crashes": facts.counts.crashes,
                },
            }
        )

    async def list_queue(self, request: Request) -> Response:
        query = request.query_params
        limit = query.get("limit", "100")
        after = query.get("after")
        _check_page(int(limit) if _NUMBER.fullmatch(limit) else 0, after)
        which = self._parse(
            Selection(
                sender=query.get("sender"),
                recipient=query.get("recipient"),
                domain=query.get("domain"),
                state=query.get("state"),
                route=query.get("route"),
                cause=query.get("cause"),
                older=_seconds(query.get("older")),
                newer=_seconds(query.get("newer")),
                all=True,
            )
        )
        entries = await self._facts.spool.list(
            which, after=MessageId(after) if after else None, limit=int(limit)
        )
        following = entries[-1].id if len(entries) == int(limit) else None
        return _json({"messages": [entry_as_json(entry) for entry in entries], "next": following})

    async def show_message(self, request: Request) -> Response:
        message = request.path_params["message"]
        entry = await self._facts.spool.show(MessageId(message)) if is_id(message) else None
        if entry is None:
            return _json({"error": "no such message"}, 404)
        return _json(entry_as_json(entry))

    def _dns(self) -> DnsFace:
        if self._facts.dns is None:
            raise BadRequest("this server has no cache of DNS")
        return self._facts.dns

    async def dns_cache(self, request: Request) -> Response:
        query = request.query_params
        limit = query.get("limit", "200")
        _check_page(int(limit) if _NUMBER.fullmatch(limit) else 0, None)
        face = self._dns()
        entries = face.cached(query.get("name"), int(limit))
        return _json({"statistics": face.statistics(), "entries": entries})

    async def dns_lookup(self, request: Request) -> Response:
        name = request.query_params.get("name", "")
        if not name:
            raise BadRequest("name is missing")
        try:
            return _json(await self._dns().lookup(name, request.query_params.get("type", "MX")))
        except ValueError as error:
            raise BadRequest(str(error)) from error

    async def dns_flush(self, request: Request) -> Response:
        try:
            wish = msgspec.json.decode(await request.body(), type=Flush)
        except msgspec.DecodeError as error:
            raise BadRequest(str(error)) from error
        if (wish.name is None) is not wish.all:
            raise BadRequest("give a name, or say all")
        return _json({"forgotten": self._dns().flush(wish.name)})

    async def act(self, request: Request) -> Response:
        try:
            wish = msgspec.json.decode(await request.body(), type=Action)
        except msgspec.DecodeError as error:
            raise BadRequest(str(error)) from error
        which = self._parse(wish.selection)
        following = None
        if wish.dry_run:
            return _json(await self._count(wish, which))
        if wish.limit is not None:
            _check_page(wish.limit, wish.after)
            which, following = await self._batch(which, wish.limit, wish.after)
        answer: dict[str, object] = {"recipients": await self._change(wish, which)}
        if wish.limit is not None:
            answer |= {"messages": len(which.messages or ()), "next": following}
        return _json(answer)

    def _parse(self, selection: Selection) -> QueueFilter:
        queue = self._facts.queue
        return parse_selection(selection, now=self._facts.clock.time(), test_of=queue.operations.test_of)

    async def _count(self, wish: Action, which: QueueFilter) -> dict[str, object]:
        """What an action would do, a page at a time; all of it where no limit was given."""
        limit = MAX_PAGE if wish.limit is None else wish.limit
        _check_page(limit, wish.after)
        after = MessageId(wish.after) if wish.after else None
        counts = ActionCount()
        while True:
            entries = await self._facts.spool.list(which, after=after, limit=limit)
            for entry in entries:
                counts.add(wish.action, entry)
            after = entries[-1].id if len(entries) == limit else None
            if after is None or wish.limit is not None:
                return {"recipients": counts.recipients, "messages": counts.messages, "next": after}

    async def _batch(
        self, which: QueueFilter, limit: int, after: str | None
    ) -> tuple[QueueFilter, MessageId | None]:
        """The first messages behind `after` that match; and the last of them, where more may follow."""
        entries = await self._facts.spool.list(which, after=MessageId(after) if after else None, limit=limit)
        found = tuple(entry.id for entry in entries)
        return attrs.evolve(which, messages=found), found[-1] if len(found) == limit else None

    async def _change(self, wish: Action, which: QueueFilter) -> int:
        facts = self._facts
        now = facts.clock.time()
        match wish.action:
            case "hold":
                count = await facts.spool.hold(which, wish.reason or "held by the operator")
            case "release":
                count = await facts.spool.release(which)
            case "retry":
                count = await facts.spool.retry(which)
            case "remove":
                removal = await facts.spool.remove(which)
                count = removal.recipients
                for message in removal.messages:
                    facts.bus.publish(MessageRemoved(time=now, message=message, reason="operator"))
            case "bounce":
                count = await facts.queue.operations.bounce(which)
            case _:
                raise BadRequest("action is one of hold, release, retry, remove, bounce")
        facts.queue.wake()
        facts.bus.publish(QueueChanged(time=now, action=wish.action, recipients=count))
        return count


def _check_page(limit: int, after: str | None) -> None:
    if not 1 <= limit <= MAX_PAGE:
        raise BadRequest(f"limit is a number from 1 to {MAX_PAGE}")
    if after is not None and not is_id(after):
        raise BadRequest("after is a message id")


def build_application(facts: Facts, guard: Guard) -> Any:
    """The ASGI application, with the guard in front of it."""
    api = _Api(facts)

    # Starlette awaits a handler, and runs one that is not async in a thread.
    async def bad_request(_: Request, error: Exception) -> Response:  # noqa: ASYNC124
        return _json({"error": str(error)}, 400)

    async def storage_trouble(_: Request, error: Exception) -> Response:  # noqa: ASYNC124
        return _json({"error": str(error)}, 503)

    application = Starlette(
        routes=[
            Route("/livez", api.livez),
            Route("/readyz", api.readyz),
            Route("/metrics", api.metrics),
            Route("/api/v1/status", api.status),
            Route("/api/v1/queue", api.list_queue),
            Route("/api/v1/queue", api.act, methods=["POST"]),
            Route("/api/v1/queue/{message}", api.show_message),
            *steering_routes(facts.queue, facts.spool),
            Route("/api/v1/dns", api.dns_cache),
            Route("/api/v1/dns/lookup", api.dns_lookup),
            Route("/api/v1/dns/flush", api.dns_flush, methods=["POST"]),
        ],
        exception_handlers={BadRequest: bad_request, SpoolError: storage_trouble},
    )
    open_paths = frozenset({"/livez", "/readyz"})

    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        if not scope["elemta.trusted"]:
            refusal = guard.refusal(dict(scope["headers"]), needs_token=scope["path"] not in open_paths)
            if refusal is not None:
                status, text = refusal
                headers = {"www-authenticate": "Bearer"} if status == 401 else {}
                await Response(f"{text}\n", status, headers, media_type="text/plain")(scope, receive, send)
                return
        await application(scope, receive, send)

    return guarded
