"""Pauses, traces, the audit and explanations over HTTP, and what the queue's values are in JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from elemta.delivery import Override
from elemta.mail import (
    LONGEST_MESSAGE_ID,
    Mailbox,
    MailSyntaxError,
    MessageId,
    bare_message_id,
    is_id,
    parse_domain,
    parse_mailbox,
    subject_mark,
)
from elemta.queue import QueueManager
from elemta.runtime import escape_text
from elemta.spool import History, PauseKind, QueueEntry, RecipientState, Spool, Wanted

from . import shapes
from .operations import Operation, Parameter, read_json, tell_audit
from .problems import BadRequest, NotFound
from .shapes import PauseWish
from .tokens import Scope

LONGEST_REASON = 200
SHORTEST_REMOTE_ID = 4
LONGEST_VALUE = 500
MOST_FOUND = 50
"""Messages that a search tells of, the last ones of those that are gone."""


@attrs.define
class ActionCount:
    """What an action would change."""

    recipients: int = 0
    messages: int = 0

    def add(self, action: str, entry: QueueEntry) -> None:
        """Count the recipients of an entry that the action is for."""
        queued, held = RecipientState.QUEUED, RecipientState.HELD
        chosen = 0
        for recipient in entry.recipients:
            match action:
                case "hold":
                    chosen += recipient.state is queued
                case "release":
                    chosen += recipient.state is held
                case "retry":
                    chosen += recipient.state is queued and not recipient.leased
                case "remove" | "bounce":
                    chosen += recipient.state in (queued, held) and not recipient.leased
                case _:
                    raise BadRequest("action is one of hold, release, retry, remove, bounce")
        self.recipients += chosen
        self.messages += chosen > 0


def as_builtins(value: object) -> Any:
    """attrs values to what JSON has; enums by name, lower case."""
    return msgspec.to_builtins(value, enc_hook=str)


def entry_as_json(entry: Any) -> Any:
    """A `QueueEntry` with its states by name."""
    result = as_builtins(entry)
    for shown, recipient in zip(result["recipients"], entry.recipients, strict=True):
        shown["state"] = recipient.state.name.lower()
    return result


def history_as_json(history: History) -> Any:
    """The life of a message; nothing of its content."""
    origin = history.origin
    tls = origin.tls
    return {
        "id": history.id,
        "received": history.received,
        "ended": history.ended,
        "size": history.size,
        "sender": str(history.envelope.reverse_path.mailbox or ""),
        "origin": {
            "session": origin.session,
            "peer": origin.peer,
            "hello": origin.hello,
            "protocol": origin.protocol,
            "tls": "" if tls is None else f"{tls.version} {tls.cipher}",
        },
        "message_id": history.marks.message_id,
        "tags": list(history.envelope.tags),
        "plugins": [as_builtins(deed) for deed in history.envelope.deeds],
        "recipients": [
            as_builtins(recipient) | {"state": recipient.state.name.lower()}
            for recipient in history.recipients
        ],
        "attempts": [
            as_builtins(attempt)
            | {
                "state": attempt.state.name.lower(),
                "phases": attempt.phases.named(),
                "recipient": str(history.envelope.recipients[attempt.index].mailbox),
            }
            for attempt in history.attempts
        ],
    }


def parse_pause_value(kind: str, value: str) -> tuple[PauseKind, str]:
    """What a pause is about, in the form in which mail has it.

    Raises:
      BadRequest: it can be none.
    """
    try:
        chosen = PauseKind(kind)
    except ValueError:
        raise BadRequest("kind is one of sender, domain, route") from None
    if not value or len(value) > LONGEST_VALUE:
        raise BadRequest(f"the {kind} has 1 to {LONGEST_VALUE} characters")
    try:
        if chosen is PauseKind.DOMAIN:
            return chosen, parse_domain(value).text
        if chosen is PauseKind.SENDER and value != "<>":
            return chosen, str(parse_mailbox(value, utf8=True))
    except MailSyntaxError as error:
        raise BadRequest(f"{escape_text(value[:80])} is no {kind}: {error}") from None
    return chosen, value


def parse_address(text: str | None, name: str) -> Mailbox | None:
    """An address to search for.

    Raises:
      BadRequest: it can be none.
    """
    if text is None:
        return None
    try:
        return parse_mailbox(text, utf8=True)
    except MailSyntaxError as error:
        raise BadRequest(f"{name}: {error}") from None


def parse_wanted(given: Mapping[str, str | None]) -> Wanted:
    """What is searched for: `sender`, `recipient`, `message_id`, `subject`, `remote_id`.

    Raises:
      BadRequest: one of them is nothing that could be found.
    """
    for name in ("message_id", "subject", "remote_id"):
        text, most = given.get(name), LONGEST_MESSAGE_ID if name == "message_id" else LONGEST_VALUE
        if text is not None and not (text.strip() and len(text) <= most + 2):
            raise BadRequest(f"{name} has 1 to {most} characters")
    message_id, subject, remote_id = (given.get(name) for name in ("message_id", "subject", "remote_id"))
    if remote_id is not None and len(remote_id.strip()) < SHORTEST_REMOTE_ID:
        raise BadRequest(f"remote_id has at least {SHORTEST_REMOTE_ID} characters")
    wanted = Wanted(
        parse_address(given.get("sender"), "sender"),
        parse_address(given.get("recipient"), "recipient"),
        None if message_id is None else bare_message_id(message_id),
        None if subject is None else subject_mark(subject),
        None if remote_id is None else remote_id.strip(),
    )
    for name, mark in (("message_id", wanted.message_id), ("subject", wanted.subject)):
        if mark == "":  # all messages without one have the same
            raise BadRequest(f"{name} says nothing")
    return wanted


def json_response(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def limits_as_json(overrides: Mapping[str, Override]) -> list[dict[str, Any]]:
    """Limits that operators set, by the name of the route."""
    return [
        {"route": route, "limits": each.shown(), "since": each.since, "reason": each.reason}
        for route, each in sorted(overrides.items())
    ]


class _Steering:
    def __init__(self, queue: QueueManager, spool: Spool) -> None:
        self._queue = queue
        self._spool = spool

    async def pauses(self, _: Request) -> Response:
        return json_response({"pauses": [as_builtins(pause) for pause in await self._spool.pauses()]})

    async def change_pause(self, request: Request) -> Response:
        wish = await read_json(request, PauseWish)
        kind, value = parse_pause_value(wish.kind, wish.value)
        operations = self._queue.operations
        if wish.action == "resume":
            count = await operations.resume(kind, value)
            if count is None:
                raise NotFound(f"this {kind} is not paused")
            tell_audit(request, f"resume {kind} {value}")
            return json_response({"recipients": count})
        if wish.action != "pause":
            raise BadRequest("action is one of pause, resume")
        if wish.seconds is not None and not 0 < wish.seconds < 10**9:
            raise BadRequest("seconds is above 0")
        tell_audit(request, f"pause {kind} {value}")
        until = None if wish.seconds is None else self._queue.context.clock.time() + wish.seconds
        await operations.pause(kind, value, reason=wish.reason[:LONGEST_REASON], until=until)
        return json_response({"kind": kind, "value": value})

    async def trace(self, request: Request) -> Response:
        message = request.path_params["message"]
        history = await self._spool.history(MessageId(message)) if is_id(message) else None
        if history is None:
            raise NotFound("no such message, or it is too long gone")
        return json_response(history_as_json(history))

    async def find(self, request: Request) -> Response:
        found = await self._spool.find(parse_wanted(request.query_params), limit=MOST_FOUND)
        return json_response({"messages": [history_as_json(history) for history in found]})

    async def audit(self, _: Request) -> Response:
        found = await self._spool.audit()
        return json_response({"differences": [as_builtins(difference) for difference in found]})


def steering_operations(queue: QueueManager, spool: Spool) -> list[Operation]:
    """The paths of this module."""
    steering = _Steering(queue, spool)
    return [
        Operation(
            id="listPauses",
            method="GET",
            path="/api/v1/pauses",
            handler=steering.pauses,
            scope=Scope.READ,
            summary="What is not to be tried for now",
            answer=shapes.PauseList,
            tag="queue",
        ),
        Operation(
            id="changePause",
            method="POST",
            path="/api/v1/pauses",
            handler=steering.change_pause,
            scope=Scope.OPERATE,
            summary="Let the mail of a sender, domain or route wait, or go on",
            body=PauseWish,
            answer=shapes.PauseResult,
            problems=(404,),
            tag="queue",
        ),
        Operation(
            id="findLives",
            method="GET",
            path="/api/v1/trace",
            handler=steering.find,
            scope=Scope.READ,
            summary=f"What became of messages, also of those that are gone: the last {MOST_FOUND}",
            answer=shapes.MessageLives,
            query=(
                Parameter("sender", "Only from this address"),
                Parameter("recipient", "Only with this recipient"),
                Parameter("message_id", "Only with this Message-ID, with or without its brackets"),
                Parameter("subject", "Only with this subject; only a hash of it is kept"),
                Parameter("remote_id", "Only where a reply had these words, such as the id of the next hop"),
            ),
            problems=(400,),
            tag="trace",
        ),
        Operation(
            id="showLife",
            method="GET",
            path="/api/v1/trace/{message}",
            handler=steering.trace,
            scope=Scope.READ,
            summary="What became of one message, with each attempt",
            answer=shapes.MessageLife,
            problems=(404,),
            tag="trace",
        ),
        Operation(
            id="auditSpool",
            method="GET",
            path="/api/v1/audit",
            handler=steering.audit,
            scope=Scope.READ,
            summary="Look for anything in the spool that should not be",
            answer=shapes.AuditResult,
            tag="queue",
        ),
    ]
