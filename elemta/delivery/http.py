"""Post messages to a web server: RFC 5322 text in the body, the envelope in a header field, both signed.

    POST /mail HTTP/1.1
    Content-Type: message/rfc822
    Idempotency-Key: 0123456789abcdef-9f86d081884c7d65
    Elemta-Envelope: {"message":"0123456789abcdef","sender":"ann@example.net","recipients":["bob@x.example"]}
    Elemta-Timestamp: 1750000000
    Elemta-Signature: v1=8f4b…

The signature is the HMAC-SHA256, in hexadecimal, of timestamp, envelope and body with a dot between them
(`docs/delivery.md` shows how to check it). The status decides as a reply of SMTP would. Each message has a
connection of its own, so that none can be lost in a connection that was closed meanwhile; the key is the
same whenever the same recipients are tried, so that a server can tell a repetition.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from urllib.parse import urlsplit

import h11
import trio

from elemta.config import RouteTls
from elemta.mail import Cause, Deferred, Delivered, Failed, Outcome, Reply, TlsFacts, replies
from elemta.routing import Route
from elemta.tls import TlsFailed, start_tls

from .connect import Target, TargetFailed, connect_first
from .context import DeliveryContext
from .reading import open_content
from .transport import Connection, Content, Parcel, SessionLimits, Transport

RECIPIENTS = 10
"""In one message: their addresses stand in a header field, and many servers take 8 KiB of header."""
SHORTEST_KEY = 16
_MOST_HEAD = 16 * 1024
_MOST_ANSWER = 64 * 1024
_MOST_WORDS = 200
_RECEIVE = 16 * 1024
_LAST_WORD_SECONDS = 1.0
_LATER = frozenset({408, 423, 425, 429})
"""Statuses of the client's class that are about now (RFC 9110 §15.5.9, RFC 8470, RFC 6585)."""
_OURS = frozenset({401, 403, 404, 405, 407})
"""Those that say that the operator has set something up wrongly: mail waits until he has mended it."""


class HttpTransport(Transport):
    """The web server of one route."""

    def __init__(self, route: Route, context: DeliveryContext) -> None:
        self._route = route
        self._context = context

    async def connect(self) -> HttpConnection:
        return (await connect_first(self._route, self._context, self._open, course=self.course)).session

    async def _open(self, target: Target, stream: trio.abc.Stream) -> HttpConnection:
        if target.security.level is RouteTls.NONE:
            return HttpConnection(stream, str(target), self._route, self._context, None)
        try:
            if self.course is not None:
                self.course.enter("tls")
            with trio.fail_after(self._context.timeouts.starttls):
                tls, facts = await start_tls(
                    stream,
                    self._context.tls.client(True),
                    server_side=False,
                    hostname=target.security.server_name,
                )
        except (TlsFailed, trio.TooSlowError) as error:
            await trio.aclose_forcefully(stream)
            certificate = isinstance(error, TlsFailed) and error.certificate
            cause = Cause.CERTIFICATE if certificate else Cause.TLS
            detail = error.reason if isinstance(error, TlsFailed) else "no answer"
            outcome = Deferred(cause, replies.TLS_FAILED, str(target), detail=detail)
            raise TargetFailed(outcome) from error
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return HttpConnection(tls, str(target), self._route, self._context, facts)


class HttpConnection(Connection):
    """Takes one message. Cancelled once all of it was sent, nobody knows what became of it."""

    limits = SessionLimits(recipients=RECIPIENTS)

    def __init__(
        self,
        stream: trio.abc.Stream,
        remote: str,
        route: Route,
        context: DeliveryContext,
        tls: TlsFacts | None,
    ) -> None:
        self.remote = remote
        self.tls = tls
        self._stream = stream
        self._route = route
        self._context = context
        self._machine = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MOST_HEAD)
        self._phase = "idle"
        self._progress = 0
        self._used = False
        self._dot_sent = False

    @property
    def usable(self) -> bool:
        return not self._used

    @property
    def phase(self) -> str:
        return self._phase

    @property
    def progress(self) -> int:
        return self._progress

    @property
    def dot_sent(self) -> bool:
        """Whether all of the message was sent and no answer has come."""
        return self._dot_sent

    async def deliver(self, parcel: Parcel) -> list[Outcome]:
        self._used = True
        outcome = await self._post(parcel)
        self._enter("")
        self._dot_sent = False
        self._phase = "idle"
        return [outcome] * len(parcel.recipients)

    def _enter(self, phase: str) -> None:
        if self.course is not None:
            self.course.enter(phase)

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self._stream)

    async def _post(self, parcel: Parcel) -> Outcome:
        try:
            key = read_key(self._route.key_file)
        except ValueError as error:
            return Deferred(Cause.LOCAL, replies.LOCAL_ERROR, self.remote, detail=str(error))
        request = await self._request(parcel, key)
        with trio.move_on_after(self._route.time_limit):
            try:
                await self._send(request, parcel.content)
                return await self._answer()
            except h11.RemoteProtocolError as error:
                return self._lost(Cause.PROTOCOL, replies.REMOTE_PROTOCOL, f"no HTTP: {error}")
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            return await self._last_word()
        return self._lost(Cause.TIMEOUT, replies.REMOTE_TIMEOUT, f"no progress in {self._phase}")

    async def _request(self, parcel: Parcel, key: bytes | None) -> h11.Request:
        envelope = envelope_of(parcel)
        timestamp = str(int(self._context.clock.time()))
        parts = urlsplit(self._route.url)
        fields = [
            ("Host", parts.netloc.rpartition("@")[2]),
            ("User-Agent", "elemta"),
            ("Connection", "close"),
            ("Content-Type", "message/rfc822"),
            ("Content-Length", str(parcel.content.size)),
            ("Idempotency-Key", idempotency_key(parcel)),
            ("Elemta-Envelope", envelope),
            ("Elemta-Timestamp", timestamp),
        ]
        if key is not None:
            self._phase = "signing"
            signature = hmac.new(key, f"{timestamp}.{envelope}.".encode(), hashlib.sha256)
            signature.update(parcel.content.prefix)
            async with open_content(parcel.content) as reader:
                while piece := await reader.read():
                    signature.update(piece)
                    self._progress += 1
            fields.append(("Elemta-Signature", f"v1={signature.hexdigest()}"))
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return h11.Request(method="POST", target=target, headers=fields)

    async def _send(self, request: h11.Request, content: Content) -> None:
        machine = self._machine
        self._phase = "body"
        self._enter("data")
        held = (machine.send(request) or b"") + (machine.send(h11.Data(data=content.prefix)) or b"")
        async with open_content(content) as reader:
            while piece := await reader.read():
                await self._stream.send_all(held)
                self._progress += 1
                held = machine.send(h11.Data(data=piece)) or b""
        held += machine.send(h11.EndOfMessage()) or b""
        self._phase = "final-dot"
        self._enter("reply")
        self._dot_sent = True
        await self._stream.send_all(held)

    async def _answer(self) -> Outcome:
        response: h11.Response | None = None
        body = bytearray()
        while True:
            event = self._machine.next_event()
            match event:
                case h11.NEED_DATA:
                    self._machine.receive_data(bytes(await self._stream.receive_some(_RECEIVE)))
                    self._progress += 1
                case h11.Response():
                    response = event
                case h11.Data():
                    body += event.data[: _MOST_ANSWER - len(body)]
                case h11.EndOfMessage() if response is not None:
                    return outcome_of(response.status_code, bytes(body), self.remote)
                case h11.ConnectionClosed() | h11.PAUSED:
                    return self._lost(Cause.CONNECTION_LOST, replies.CONNECTION_LOST, "closed by the peer")

    async def _last_word(self) -> Outcome:
        """A server that takes no more may have said why."""
        with trio.move_on_after(_LAST_WORD_SECONDS):
            try:
                return await self._answer()
            except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
                pass
        return self._lost(Cause.CONNECTION_LOST, replies.CONNECTION_LOST, f"connection lost in {self._phase}")

    def _lost(self, cause: Cause, reply: Reply, detail: str) -> Deferred:
        if self._dot_sent:
            cause, reply = Cause.UNKNOWN_AFTER_DOT, replies.UNKNOWN_AFTER_DOT
        return Deferred(cause, reply, self.remote, detail=detail)


def envelope_of(parcel: Parcel) -> str:
    """The envelope as JSON in ASCII, always in the same form."""
    sender = parcel.envelope.reverse_path.mailbox
    facts = {
        "message": parcel.message,
        "sender": "" if sender is None else str(sender),
        "recipients": [str(recipient.mailbox) for recipient in parcel.recipients],
    }
    return json.dumps(facts, separators=(",", ":"))


def idempotency_key(parcel: Parcel) -> str:
    """The same for the same message to the same recipients, whenever it is tried."""
    recipients = "\n".join(str(recipient.mailbox) for recipient in parcel.recipients)
    return f"{parcel.message}-{hashlib.sha256(recipients.encode()).hexdigest()[:16]}"


def read_key(path: Path | None) -> bytes | None:
    """The secret, without the line end behind it; read each time, so that a changed one needs no restart.

    Raises:
      ValueError: it cannot be read, or is too short to be one.
    """
    if path is None:
        return None
    try:
        key = path.read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    if len(key) < SHORTEST_KEY:
        raise ValueError(f"{path}: a key has at least {SHORTEST_KEY} octets")
    return key


def outcome_of(status: int, body: bytes, remote: str) -> Outcome:
    """What the answer means (RFC 9110 §15)."""
    words = _words(body)
    detail = f"HTTP {status}: {words}" if words else f"HTTP {status}"
    if 200 <= status < 300:
        return Delivered(Reply.of(250, "2.0.0", f"taken with status {status}"), remote)
    if status in _OURS:
        return Deferred(Cause.LOCAL, replies.LOCAL_ERROR, remote, detail=detail)
    if status == 410:
        return Failed(Cause.REMOTE_REPLY, Reply.of(550, "5.1.1", "there is no such recipient"), remote)
    if status == 413:
        reply = Reply.of(552, "5.3.4", "the message is larger than the server takes")
        return Failed(Cause.REMOTE_REPLY, reply, remote, detail=detail)
    if 400 <= status < 500 and status not in _LATER:
        reply = Reply.of(554, "5.6.0", f"the server refused the message with status {status}")
        return Failed(Cause.REMOTE_REPLY, reply, remote, detail=detail)
    reply = Reply.of(451, "4.3.0", f"the server did not take the message: status {status}")
    return Deferred(Cause.REMOTE_REPLY, reply, remote, detail=detail)


def _words(body: bytes) -> str:
    text = body[:_MOST_WORDS].decode("utf-8", "replace")
    return "".join(each if each.isprintable() else " " for each in text).strip()
