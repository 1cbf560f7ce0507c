"""The queue as a resource: listed by pages, shown, and changed in bulk with a dry run before."""

from __future__ import annotations

import re
from collections.abc import Callable

import attrs
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from elemta.events import MessageRemoved, QueueChanged
from elemta.mail import MessageId, is_id
from elemta.spool import AddressTest, QueueFilter, RecipientState

from .. import shapes
from ..api import Facts
from ..operations import Operation, Parameter, read_json, spare_audit, tell_audit
from ..paging import AFTER, LIMIT, MAX_PAGE, check_page, read_limit
from ..problems import BadRequest, NotFound
from ..shapes import Action, Selection
from ..steering import ActionCount, entry_as_json
from ..steering import json_response as _json
from ..tokens import Scope

_NUMBER_OF_SECONDS = re.compile(r"[0-9]{1,10}")
_SECONDS = {"type": "integer", "minimum": 0, "maximum": 9_999_999_999}
_FILTERS = (
    Parameter("sender", "Only from this address; empty: the null sender"),
    Parameter("recipient", "Only with this recipient"),
    Parameter("domain", "Only with a recipient in this domain"),
    Parameter("state", "Only with a recipient in this state", {"enum": ["queued", "held"]}),
    Parameter("route", "Only with a recipient of this route, as the status names it: `smtp:example.org`"),
    Parameter("cause", "Only with a recipient that waits, or is held, for this reason"),
    Parameter("older", "Received at least so many seconds ago", _SECONDS),
    Parameter("newer", "Received at most so many seconds ago", _SECONDS),
)


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


@attrs.frozen(eq=False)
class _Queue:
    _facts: Facts

    async def list_queue(self, request: Request) -> Response:
        query = request.query_params
        limit = read_limit(query.get("limit", "100"))
        after = query.get("after")
        check_page(limit, after)
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
        entries = await self._facts.spool.list(which, after=MessageId(after) if after else None, limit=limit)
        following = entries[-1].id if len(entries) == limit else None
        return _json({"messages": [entry_as_json(entry) for entry in entries], "next": following})

    async def show_message(self, request: Request) -> Response:
        message = request.path_params["message"]
        entry = await self._facts.spool.show(MessageId(message)) if is_id(message) else None
        if entry is None:
            raise NotFound("no such message in the queue")
        return _json(entry_as_json(entry))

    async def act(self, request: Request) -> Response:
        wish = await read_json(request, Action)
        which = self._parse(wish.selection)
        following = None
        if wish.dry_run:
            spare_audit(request)
            return _json(await self._count(wish, which))
        if wish.limit is not None:
            check_page(wish.limit, wish.after)
            which, following = await self._batch(which, wish.limit, wish.after)
        wanted = msgspec.json.encode(_given(wish.selection)).decode()
        tell_audit(request, f"{wish.action} {wanted}")
        count = await carry_out(self._facts, wish.action, which, wish.reason)
        tell_audit(request, f"{wish.action} of {count} recipients: {wanted}")
        answer: dict[str, object] = {"recipients": count}
        if wish.limit is not None:
            answer |= {"messages": len(which.messages or ()), "next": following}
        return _json(answer)

    def _parse(self, selection: Selection) -> QueueFilter:
        queue = self._facts.queue
        return parse_selection(selection, now=self._facts.clock.time(), test_of=queue.operations.test_of)

    async def _count(self, wish: Action, which: QueueFilter) -> dict[str, object]:
        """What an action would do, a page at a time; all of it where no limit was given."""
        limit = MAX_PAGE if wish.limit is None else wish.limit
        check_page(limit, wish.after)
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


async def carry_out(facts: Facts, action: str, which: QueueFilter, reason: str | None = None) -> int:
    """Do it to what matches, and tell who watches; how many recipients.

    Raises:
      BadRequest: there is no such action.
    """
    now = facts.clock.time()
    match action:
        case "hold":
            count = await facts.spool.hold(which, reason or "held by the operator")
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
    facts.bus.publish(QueueChanged(time=now, action=action, recipients=count))
    return count


def _given(selection: Selection) -> dict[str, object]:
    """What a selection says, without what it does not."""
    return {
        name: value for name, value in msgspec.structs.asdict(selection).items() if value not in (None, False)
    }


def queue_operations(facts: Facts) -> list[Operation]:
    """The paths of this module."""
    queue = _Queue(facts)
    return [
        Operation(
            id="listQueue",
            method="GET",
            path="/api/v1/queue",
            handler=queue.list_queue,
            scope=Scope.READ,
            summary="Messages in the queue, a page at a time",
            answer=shapes.QueuePage,
            query=(*_FILTERS, LIMIT, AFTER),
            tag="queue",
        ),
        Operation(
            id="changeQueue",
            method="POST",
            path="/api/v1/queue",
            handler=queue.act,
            scope=Scope.OPERATE,
            summary="Hold, release, retry, remove or bounce what matches, or count it first",
            body=Action,
            answer=shapes.ActionResult,
            tag="queue",
        ),
        Operation(
            id="showMessage",
            method="GET",
            path="/api/v1/queue/{message}",
            handler=queue.show_message,
            scope=Scope.READ,
            summary="One message in the queue",
            answer=shapes.QueueEntry,
            problems=(404,),
            tag="queue",
        ),
    ]
