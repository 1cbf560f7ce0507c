"""Traces for OpenTelemetry, made of events and measured steps; the only importer of opentelemetry.

A message is one trace, from the program that handed it in (`traceparent`) to its last attempt, however long
that takes and however often the server starts meanwhile: the ids of its trace and of its first span follow
from its own id. A session is a trace of its own, which the spans of its messages link to. What is made is put
into a bounded queue of the exporter, which sends from a thread; where that is full, spans are lost.
"""

from __future__ import annotations

import hashlib
import random
import zlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import trio

import elemta
from elemta.config import Config, SettingsError
from elemta.events import (
    Event,
    EventBus,
    MessageAccepted,
    MessageRejected,
    RecipientDeferred,
    RecipientDelivered,
    RecipientFailed,
    SessionClosed,
    SessionOpened,
    Span,
)
from elemta.runtime import WallClock

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import SpanContext

MOST_WAITING = 10_000
"""Sessions and messages whose steps wait for what tells their trace."""
MOST_STEPS = 100
"""Of one of them."""
_LONGEST = 200
"""Characters of a reply."""
_FLUSH = 2.0
"""Seconds that the last spans may take at the end of the server."""

Attempted = RecipientDelivered | RecipientDeferred | RecipientFailed


@attrs.frozen
class _Place:
    """Trace and span that others belong to."""

    trace: int
    span: int
    sampled: bool


@attrs.frozen
class _Drawn:
    """What a span is to show."""

    name: str
    begun: float
    ended: float
    kind: str = "internal"
    error: str = ""
    link: _Place | None = None


class Tracing:
    """Watches a bus and hands spans to a processor of OpenTelemetry. Sync; nothing here waits."""

    def __init__(self, processor: SpanProcessor, *, service: str, hostname: str, sample: float = 1.0) -> None:
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415

        self._processor = processor
        self._sample = sample
        self._resource = Resource.create({
            "service.name": service, "service.version": elemta.__version__, "host.name": hostname,
        })  # fmt: skip
        self._scope = InstrumentationScope("elemta", elemta.__version__)
        self._steps: OrderedDict[str, list[Span]] = OrderedDict()
        self._sessions: OrderedDict[str, SessionOpened] = OrderedDict()

    def watch(self, bus: EventBus, clock: WallClock) -> None:
        """Begin."""
        bus.observe("tracing", self.observe)
        bus.spans.take(self.take, clock)

    def take(self, span: Span) -> None:
        """A step has ended; what it belongs to is known when more is."""
        key = span.message or span.session
        steps = self._steps.setdefault(key, [])
        if len(steps) < MOST_STEPS:
            steps.append(span)
        if len(self._steps) > MOST_WAITING:
            self._steps.popitem(last=False)

    def observe(self, event: Event) -> None:
        """Something happened that ends a span."""
        match event:
            case RecipientDelivered() | RecipientDeferred() | RecipientFailed():
                self._attempted(event)
            case MessageAccepted():
                self._accepted(event)
            case MessageRejected():
                self._rejected(event)
            case SessionOpened():
                self._sessions[event.session] = event
                if len(self._sessions) > MOST_WAITING:
                    self._sessions.popitem(last=False)
            case SessionClosed():
                self._closed(event)

    # --- What becomes of events ---------------------------------------------------------------------------

    def _accepted(self, event: MessageAccepted) -> None:
        steps = self._steps.pop(event.session, [])
        place, parent = self._message(event.message, event.traceparent)
        link = self._session(event.session) if event.session in self._sessions else None
        begun = min([each.begun for each in steps], default=event.time)
        self._put(
            _Drawn("message", begun, event.time, "server", link=link),
            place,
            parent,
            message=event.message,
            session=event.session,
            size=event.size,
            recipients=len(event.recipients),
            peer=event.peer,
        )
        self._put_steps(steps, place)

    def _rejected(self, event: MessageRejected) -> None:
        steps = self._steps.pop(event.session, [])
        if event.session in self._sessions:
            session = self._session(event.session)
            place = self._child(session)
            begun = min([each.begun for each in steps], default=event.time)
            self._put(_Drawn("message", begun, event.time, error=event.reply or event.reason), place, session)
            self._put_steps(steps, place)

    def _closed(self, event: SessionClosed) -> None:
        steps = self._steps.pop(event.session, [])
        opened = self._sessions.pop(event.session, None)
        if opened is None:
            return
        place = self._session(event.session)
        self._put(
            _Drawn("session", opened.time, event.time, "server"),
            place,
            None,
            session=event.session,
            listener=opened.listener,
            peer=opened.peer,
            cause=event.cause,
            commands=event.commands,
            messages=event.messages,
        )
        self._put_steps(steps, place)

    def _attempted(self, event: Attempted) -> None:
        steps = self._steps.pop(event.message, [])
        message, _ = self._message(event.message, event.traceparent)
        place = self._child(message)
        _, _, connect, transmit = event.delays or (0.0, 0.0, 0.0, 0.0)
        connected, ended = event.time - transmit, event.time
        begun = min([connected - connect, *(each.begun for each in steps)])
        error = "" if isinstance(event, RecipientDelivered) else event.reply
        self._put(
            _Drawn("attempt", begun, ended, "client", error),
            place,
            message,
            message=event.message,
            route=event.route,
            remote=event.remote,
            attempts=event.attempts,
            result=event.type.partition(".")[2],
            reply=event.reply[:_LONGEST],
        )
        if connect:
            self._put(_Drawn("connect", connected - connect, connected), self._child(place), place)
        if transmit:
            self._put(_Drawn("transmit", connected, ended), self._child(place), place)
        self._put_steps(steps, place)

    def _put_steps(self, steps: Iterable[Span], parent: _Place) -> None:
        for each in steps:
            drawn = _Drawn(each.name, each.begun, each.ended, error=each.error)
            self._put(drawn, self._child(parent), parent, **each.attributes)

    # --- Ids ------------------------------------------------------------------------------------------------

    def _message(self, message: str, traceparent: str) -> tuple[_Place, _Place | None]:
        """The span of a message, and what it belongs to: the same at each start of the server."""
        trace, span = _ids("message", message)
        if not traceparent:
            return _Place(trace, span, self._taken(message)), None
        # W3C Trace Context 3.2: version, trace, parent, flags of which the lowest says "sampled"
        _, trace_text, parent, flags = traceparent.split("-")[:4]
        sampled = bool(int(flags, 16) & 1)
        above = _Place(int(trace_text, 16), int(parent, 16), sampled)
        return _Place(above.trace, span, sampled), above

    def _session(self, session: str) -> _Place:
        return _Place(*_ids("session", session), self._taken(session))

    def _child(self, parent: _Place) -> _Place:
        return _Place(parent.trace, random.getrandbits(64) or 1, parent.sampled)

    def _taken(self, key: str) -> bool:
        return zlib.crc32(key.encode()) < self._sample * 2**32

    # --- To OpenTelemetry -----------------------------------------------------------------------------------

    def _put(
        self,
        drawn: _Drawn,
        place: _Place,
        parent: _Place | None,
        **attributes: str | int,
    ) -> None:
        if not place.sampled:
            return
        from opentelemetry.sdk.trace import ReadableSpan  # noqa: PLC0415 - an extra
        from opentelemetry.trace import Link, SpanKind, Status, StatusCode  # noqa: PLC0415

        kinds = {"server": SpanKind.SERVER, "client": SpanKind.CLIENT}
        self._processor.on_end(
            ReadableSpan(
                drawn.name,
                context=_context(place),
                parent=None if parent is None else _context(parent),
                resource=self._resource,
                attributes={f"elemta.{name}": value for name, value in attributes.items()},
                links=() if drawn.link is None else (Link(_context(drawn.link)),),
                kind=kinds.get(drawn.kind, SpanKind.INTERNAL),
                status=Status(StatusCode.ERROR, drawn.error[:_LONGEST]) if drawn.error else Status(),
                start_time=int(drawn.begun * 1e9),
                end_time=int(max(drawn.begun, drawn.ended) * 1e9),
                instrumentation_scope=self._scope,
            )
        )


def _ids(kind: str, key: str) -> tuple[int, int]:
    digest = hashlib.sha256(f"elemta {kind} {key}".encode()).digest()
    return int.from_bytes(digest[:16]) or 1, int.from_bytes(digest[16:24]) or 1


def _context(place: _Place) -> SpanContext:
    from opentelemetry.trace import SpanContext, TraceFlags  # noqa: PLC0415 - an extra

    return SpanContext(place.trace, place.span, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


@asynccontextmanager
async def open_tracing(config: Config, bus: EventBus, clock: WallClock) -> AsyncGenerator[None, None]:
    """Send traces in the block, where the configuration says where to.

    Raises:
      SettingsError: what it takes is not installed.
    """
    settings = config.tracing
    if settings.endpoint is None:
        yield
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        reason, hint = f"needs what is not installed ({error.name})", "pip install 'elemta[otel]'"
        raise SettingsError([(("tracing", "endpoint"), reason, hint)]) from error
    processor = BatchSpanProcessor(OTLPSpanExporter(settings.endpoint, timeout=5))
    Tracing(
        processor, service=settings.service, hostname=config.hostname, sample=settings.sample
    ).watch(bus, clock)  # fmt: skip
    try:
        yield
    finally:
        # Whoever does not answer keeps the thread, which ends with the process, and nobody else
        with trio.move_on_after(_FLUSH, shield=True):
            await trio.to_thread.run_sync(processor.shutdown, abandon_on_cancel=True)
