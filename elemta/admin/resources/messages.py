"""Messages as a resource: handed in by programs, in JSON or as they are, and what becomes of them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import attrs
import trio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from elemta.inbound import CommitFailed, Injection, NotTaken, Wishes
from elemta.mail import Mailbox, MessageId, ReversePath, is_id
from elemta.runtime import ThreadPool, run_in_thread
from elemta.spool import SpoolUnavailable

from .. import shapes
from ..api import Facts
from ..compose import NewMessage, address_of, compose
from ..idempotency import Keys, check_same, fingerprint
from ..operations import Operation, Parameter, Raw, access_of, read_json, tell_audit
from ..problems import BadRequest, NotFound, Problem
from ..steering import history_as_json
from ..steering import json_response as _json
from ..tokens import Scope
from ..traceparent import parse_traceparent

MOST_RECIPIENTS = 1000
SLOWEST = 50_000.0
"""Octets per second at which a message may come, beside the time of any request."""
_AT_ONCE = 4
"""Messages in JSON that are in memory at the same time."""
_QUICK = 256 * 1024
"""Octets of content up to which a message is made in the loop."""
_EPOCH_END = 253402300799.0
_Write: TypeAlias = Callable[[Injection], Awaitable[str]]
"""Gives the message its content, and tells what tells its request from others."""


@attrs.define(eq=False)
class _Messages:
    _facts: Facts
    _limiter: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(_AT_ONCE))
    _pool: ThreadPool = attrs.field(factory=lambda: ThreadPool("compose", 2))
    _keys: Keys | None = None

    # --- In JSON ----------------------------------------------------------------------------------------

    async def send(self, request: Request) -> Response:
        _allow(request, _most(self._facts) * 2)
        async with self._limiter:
            body = await read_json(request, NewMessage)
            asked = fingerprint(await request.body())
            recipients = _recipients("to", [*body.to, *body.cc, *body.bcc])
            notices_to = body.sender if body.envelope_from is None else body.envelope_from
            wishes = self._wishes(
                request,
                ReversePath(address_of(notices_to, "from") if notices_to else None),
                recipients,
                priority=_priority(body.priority),
                release_at=_moment(body.not_before, "not_before"),
                deliver_by=_moment(body.deliver_by, "deliver_by"),
                envelope_id=_envelope_id(body.envelope_id),
                require_tls=body.require_tls,
            )
            address_of(body.sender, "from")
            large = sum(len(each.content) for each in body.attachments) > _QUICK
            content = await run_in_thread(self._pool, compose, body) if large else compose(body)

            async def write(injection: Injection) -> str:
                await injection.write(content)
                return asked

            return await self._once(request, wishes, len(content), write, asked)

    # --- As it is ---------------------------------------------------------------------------------------

    async def send_raw(self, request: Request) -> Response:
        media_type = request.headers.get("content-type", "message/rfc822").partition(";")[0].strip().lower()
        if media_type != "message/rfc822":
            raise Problem(415, "the body must be message/rfc822", {"Accept": "message/rfc822"})
        most = _most(self._facts)
        _allow(request, most + 65536)
        query = request.query_params
        sender = query["from"]
        wishes = self._wishes(
            request,
            ReversePath(address_of(sender, "from") if sender else None),
            _recipients("to", query["to"].split(",")),
        )
        length = request.headers.get("content-length", "")
        size = int(length) if length.isdecimal() else 0

        async def write(injection: Injection) -> str:
            digest = hashlib.sha256(f"{sender}\n{query['to']}\n".encode())
            async for piece in request.stream():
                digest.update(piece)
                await injection.write(piece)
            return digest.hexdigest()

        return await self._once(request, wishes, size, write, None)

    # --- Both -------------------------------------------------------------------------------------------

    def _wishes(
        self, request: Request, sender: ReversePath, recipients: list[Mailbox], **more: object
    ) -> Wishes:
        peer = request.client.host if request.client is not None else "unix"
        return Wishes(
            sender=sender,
            recipients=recipients,
            actor=access_of(request).name,
            peer="local" if peer == "unix" else peer,
            traceparent=parse_traceparent(request.headers.get("traceparent")),
            **more,  # type: ignore[arg-type]  # names and types are those of the two callers
        )

    async def _once(
        self, request: Request, wishes: Wishes, size: int, write: _Write, asked: str | None
    ) -> Response:
        """Hand it in, or say again what became of it where its key is known."""
        key, memo = request.headers.get("idempotency-key"), self._facts.memo
        if key is None:
            message, _ = await self._hand_in(request, wishes, size, write)
            return _made(message, replayed=False)
        if memo is None:
            raise BadRequest("this server remembers no Idempotency-Key")
        keys = self._keys = self._keys or Keys(memo, self._facts.clock)
        with keys.running(wishes.actor, key) as name:
            known = await keys.find(name)
            if known is not None:
                check_same(known, asked or await _digest(request, wishes))
                tell_audit(request, f"{known.message}, once more")
                return _made(known.message, replayed=True)
            message, asked = await self._hand_in(request, wishes, size, write)
            keys.remember(name, asked, message)
            return _made(message, replayed=False)

    async def _hand_in(
        self, request: Request, wishes: Wishes, size: int, write: _Write
    ) -> tuple[MessageId, str]:
        inbound, drain = self._facts.inbound, self._facts.drain
        if inbound is None or drain.draining:
            raise Problem(503, "the server starts or stops", {"Retry-After": "30"})
        injection = None
        try:
            injection = inbound.begin_injection(wishes, size)
            if self._facts.verifier is not None:
                request.scope["elemta.deadline"].deadline += self._facts.verifier.timeout
            await injection.verify()
            asked = await write(injection)
            message = await injection.finish()
        except NotTaken as refusal:
            raise _refused(refusal) from refusal
        except SpoolUnavailable as error:
            raise Problem(503, "storage is not available; nothing is stored") from error
        except CommitFailed as error:
            raise Problem(500, "it is not known whether the message was stored") from error
        except ClientDisconnect as error:
            raise BadRequest("the message ended too early") from error
        finally:
            if injection is not None:
                injection.discard("the program did not finish")
        tell_audit(request, f"{message} for {len(wishes.recipients)} recipients")
        return message, asked

    async def show(self, request: Request) -> Response:
        """Everything for those who may look at everything, else only one's own."""
        message, access = request.path_params["message"], access_of(request)
        history = await self._facts.spool.history(MessageId(message)) if is_id(message) else None
        if history is not None and Scope.READ not in access.scopes:
            identity = history.origin.identity
            if identity is None or (identity.name, identity.mechanism) != (access.name, "token"):
                history = None
        if history is None:
            raise NotFound("no such message, or it is too long gone")
        return _json(history_as_json(history))


def _made(message: str, *, replayed: bool) -> Response:
    answer = _json({"id": message}, 201)
    answer.headers["Location"] = f"/api/v1/messages/{message}"
    if replayed:
        answer.headers["Idempotency-Replayed"] = "true"
    return answer


def _refused(refusal: NotTaken) -> Problem:
    """The reply that a session would have given, as a problem: 4yz may go later."""
    about = f"{refusal.recipient}: " if refusal.recipient else ""
    detail = f"{about}{refusal.reply}"
    if refusal.reply.code < 500:
        return Problem(503, detail, {"Retry-After": "60"})
    return Problem(413 if refusal.reply.code == 552 else 422, detail)


async def _digest(request: Request, wishes: Wishes) -> str:
    """That of a message that is not to be stored again."""
    query = request.query_params
    digest = hashlib.sha256(f"{query['from']}\n{query['to']}\n".encode())
    async for piece in request.stream():
        digest.update(piece)
    return digest.hexdigest()


def _most(facts: Facts) -> int:
    return facts.config().limits.message_size if facts.config is not None else 1 << 20


def _allow(request: Request, octets: int) -> None:
    """Take a body of that size, and the time that it takes."""
    request.scope["elemta.max_body"] = octets
    length = request.headers.get("content-length", "")
    expected = min(octets, int(length)) if length.isdecimal() else octets
    request.scope["elemta.deadline"].deadline += expected / SLOWEST


def _recipients(name: str, texts: list[str]) -> list[Mailbox]:
    if not texts or len(texts) > MOST_RECIPIENTS:
        raise BadRequest(f"1 to {MOST_RECIPIENTS} recipients")
    return [address_of(text, name) for text in texts]


def _priority(value: int) -> int:
    if not -9 <= value <= 9:
        raise BadRequest("priority is -9 to 9")
    return value


def _moment(value: float | None, name: str) -> float | None:
    if value is not None and not (math.isfinite(value) and 0 < value < _EPOCH_END):
        raise BadRequest(f"{name} is seconds since the epoch")
    return value


def _envelope_id(text: str | None) -> str | None:
    if text is not None and not (0 < len(text) <= 100 and text.isascii() and text.isprintable()):
        raise BadRequest("envelope_id has 1 to 100 printable characters of ASCII")
    return text


_HEADERS = (
    Parameter("Idempotency-Key", "The same request with the same key, within a day, makes no second message"),
    Parameter("traceparent", "W3C Trace Context: goes with the message to its events and attempts"),
)


def message_operations(facts: Facts) -> list[Operation]:
    """The paths of this module."""
    messages = _Messages(facts)
    return [
        Operation(
            id="sendMessage",
            method="POST",
            path="/api/v1/messages",
            handler=messages.send,
            scope=Scope.SUBMIT,
            summary="Hand in a message in JSON, with attachments",
            description="201 means that it is on stable storage.",
            body=NewMessage,
            answer=shapes.MessageMade,
            status=201,
            headers=_HEADERS,
            problems=(409, 422),
            tag="messages",
        ),
        Operation(
            id="sendRawMessage",
            method="POST",
            path="/api/v1/messages/raw",
            handler=messages.send_raw,
            scope=Scope.SUBMIT,
            summary="Hand in a message that is MIME already",
            description="Line ends may be those of any machine; Date and Message-ID are added where missing.",
            body=Raw("message/rfc822"),
            answer=shapes.MessageMade,
            status=201,
            query=(
                Parameter("from", "Where notices go; empty: nowhere", required=True),
                Parameter("to", "Who gets it: addresses joined by commas", required=True),
            ),
            headers=_HEADERS,
            problems=(409, 422),
            tag="messages",
        ),
        Operation(
            id="showFate",
            method="GET",
            path="/api/v1/messages/{message}",
            handler=messages.show,
            scope=Scope.SUBMIT,
            summary="What became of a message: of one's own with the scope submit, of any with read",
            answer=shapes.MessageLife,
            problems=(404,),
            tag="messages",
        ),
    ]
