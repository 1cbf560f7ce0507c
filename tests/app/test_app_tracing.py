"""Traces: a message is one, from the program that hands it in to its last attempt; nothing waits for who takes them."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio.testing

pytest.importorskip("opentelemetry.sdk", reason="the extra otel is not installed")

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from elemta.app.tracing import MOST_STEPS, MOST_WAITING, Tracing, open_tracing
from elemta.config import Config, SettingsError, TracingConfig
from elemta.events import (
    EventBus,
    MessageAccepted,
    MessageRejected,
    RecipientDeferred,
    RecipientDelivered,
    SessionClosed,
    SessionOpened,
    Span,
)
from elemta.runtime import TrioWallClock

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
MESSAGE = "06f9zj1q8n3k2m4p"


class Bench:
    """A bus that is traced, and what was exported."""

    def __init__(self, sample: float = 1.0) -> None:
        self.bus = EventBus()
        self.exporter = InMemorySpanExporter()
        self.tracing = Tracing(
            SimpleSpanProcessor(self.exporter), service="mail", hostname="mx", sample=sample
        )
        self.tracing.watch(self.bus, TrioWallClock())

    def opened(self) -> None:
        self.bus.publish(SessionOpened(time=100.0, session="s", listener="mx", peer="192.0.2.1", port=1))

    def step(self, name: str, begun: float, ended: float, **of: str) -> None:
        self.tracing.take(
            Span(
                name,
                begun,
                ended,
                of.get("session", ""),
                of.get("message", ""),
                {"plugin": "p"},
                of.get("error", ""),
            )
        )

    def accepted(self, traceparent: str = "", message: str = MESSAGE) -> None:
        self.bus.publish(
            MessageAccepted(
                time=102.0,
                session="s",
                message=message,
                sender="a@b.example",
                recipients=("c@d.example",),
                size=9,
                peer="192.0.2.1",
                protocol="ESMTP",
                traceparent=traceparent,
            )
        )

    def delivered(self, traceparent: str = "", when: float = 103.0) -> None:
        self.bus.publish(
            RecipientDelivered(
                time=when,
                message=MESSAGE,
                recipient="c@d.example",
                route="smtp:d.example",
                remote="d[192.0.2.2]:25",
                reply="250 ok",
                attempts=2,
                seconds=1.0,
                delays=(0.2, 0.1, 0.3, 0.4),
                traceparent=traceparent,
            )
        )

    def deferred(self, traceparent: str = "") -> None:
        self.bus.publish(
            RecipientDeferred(
                time=102.5,
                message=MESSAGE,
                recipient="c@d.example",
                route="smtp:d.example",
                remote="",
                cause="connect",
                reply="451 4.4.1 no answer",
                detail="",
                attempts=1,
                due=200.0,
                delays=(0.2, 0.1, 0.2, 0.0),
                traceparent=traceparent,
            )
        )

    def closed(self) -> None:
        self.bus.publish(
            SessionClosed(
                time=104.0,
                session="s",
                cause="quit",
                seconds=4.0,
                commands=5,
                messages=1,
                errors=0,
                octets_in=9,
            )
        )

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def span(self, name: str) -> ReadableSpan:
        (span,) = self.spans(name)
        return span


def ids(span: ReadableSpan) -> tuple[str, str, str]:
    """Trace, span and parent."""
    assert span.context
    return (
        f"{span.context.trace_id:032x}",
        f"{span.context.span_id:016x}",
        "" if span.parent is None else f"{span.parent.span_id:016x}",
    )


def test_one_trace_from_the_application_to_the_last_attempt() -> None:
    bench = Bench()
    bench.step("commit", 101.5, 101.9, session="s")
    bench.accepted(TRACEPARENT)
    bench.deferred(TRACEPARENT)
    # the server starts again in between: another one makes the next attempt
    other = Bench()
    other.delivered(TRACEPARENT)
    message = bench.span("message")
    assert ids(message)[::2] == (TRACE, PARENT)
    first, second = bench.span("attempt"), other.span("attempt")
    assert {ids(each)[0] for each in (bench.span("commit"), first, second)} == {TRACE}
    assert ids(first)[2] == ids(second)[2] == ids(bench.span("commit"))[2] == ids(message)[1]
    assert first.status.status_code is StatusCode.ERROR
    assert second.status.status_code is StatusCode.UNSET
    assert second.kind is SpanKind.CLIENT
    assert second.attributes
    assert (second.attributes["elemta.result"], second.attributes["elemta.attempts"]) == ("delivered", 2)


def test_spans_have_the_times_of_what_they_show() -> None:
    bench = Bench()
    bench.step("hook message", 101.0, 101.2, session="s")
    bench.accepted()
    bench.step("hook before_attempt", 102.2, 102.25, message=MESSAGE)
    bench.delivered()
    times = {
        span.name: (span.start_time / 1e9, span.end_time / 1e9)
        for span in bench.exporter.get_finished_spans()
    }  # type: ignore[operator]
    assert times["message"] == pytest.approx((101.0, 102.0))
    assert times["hook message"] == pytest.approx((101.0, 101.2))
    assert times["attempt"] == pytest.approx((102.2, 103.0))
    assert times["connect"] == pytest.approx((102.3, 102.6))
    assert times["transmit"] == pytest.approx((102.6, 103.0))
    assert ids(bench.span("hook before_attempt"))[2] == ids(bench.span("attempt"))[1]


def test_a_session_is_a_trace_that_its_messages_link_to() -> None:
    bench = Bench()
    bench.opened()
    bench.accepted()
    bench.step("hook disconnect", 103.5, 103.6, session="s")
    bench.closed()
    session, message = bench.span("session"), bench.span("message")
    assert ids(session)[0] != ids(message)[0]
    assert message.links[0].context == session.context
    assert ids(bench.span("hook disconnect"))[2] == ids(session)[1]
    assert session.attributes
    assert session.attributes["elemta.peer"] == "192.0.2.1"
    assert session.resource.attributes["service.name"] == "mail"


def test_a_message_that_is_refused_is_part_of_its_session() -> None:
    bench = Bench()
    bench.opened()
    bench.step("checks", 101.0, 101.4, session="s")
    bench.bus.publish(
        MessageRejected(
            time=101.5,
            session="s",
            sender="a@b.example",
            recipients=("c@d.example",),
            reply="550 5.7.1 no",
            reason="dmarc",
        )
    )
    bench.closed()
    refused = bench.span("message")
    assert refused.status.description == "550 5.7.1 no"
    assert ids(refused)[2] == ids(bench.span("session"))[1]
    assert ids(bench.span("checks"))[2] == ids(refused)[1]


def test_the_program_decides_whether_its_message_is_traced() -> None:
    bench = Bench(sample=0.0)
    bench.accepted(TRACEPARENT)
    bench.accepted(message="other")
    assert len(bench.spans("message")) == 1
    whole = Bench()
    whole.accepted(TRACEPARENT[:-1] + "0")
    whole.delivered(TRACEPARENT[:-1] + "0")
    assert whole.exporter.get_finished_spans() == ()


def test_a_share_of_all_is_traced_and_the_same_in_each_part() -> None:
    bench = Bench(sample=0.3)
    for number in range(300):
        bench.accepted(message=f"m{number}")
    assert 50 <= len(bench.spans("message")) <= 130


def test_what_waits_for_its_trace_is_bounded() -> None:
    bench = Bench()
    for number in range(MOST_WAITING + 50):
        bench.step("commit", 1.0, 2.0, session=f"s{number}")
    for _ in range(MOST_STEPS + 50):
        bench.step("hook body", 1.0, 2.0, session="one")
    assert len(bench.tracing._steps) == MOST_WAITING
    assert len(bench.tracing._steps["one"]) == MOST_STEPS


def test_a_step_that_raises_says_so_and_nobody_pays_where_nobody_watches() -> None:
    bus = EventBus()
    assert bus.spans.measure("commit", session="s") is bus.spans.measure("other", session="t")
    taken: list[Span] = []
    bus.spans.take(taken.append, _Still())
    with pytest.raises(ValueError, match="x"), bus.spans.measure("hook rcpt", session="s", plugin="p"):
        raise ValueError("x")
    assert taken == [Span("hook rcpt", 5.0, 5.0, "s", "", {"plugin": "p"}, "ValueError")]


class _Still:
    def time(self) -> float:
        return 5.0


@asynccontextmanager
async def collector(*, answers: bool) -> AsyncGenerator[tuple[str, list[bytes]], None]:
    """An HTTP server that takes spans, or a socket that never answers."""
    bodies: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        data = b""
        while True:
            piece = await stream.receive_some()
            if not piece:
                return
            data += piece
            head, found, body = data.partition(b"\r\n\r\n")
            lengths = [
                int(line.split(b":")[1])
                for line in head.lower().split(b"\r\n")
                if line.startswith(b"content-length:")
            ]
            if answers and found and lengths and len(body) >= lengths[0]:
                bodies.append(body)
                await stream.send_all(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"
                )
                data = b""

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        port = listeners[0].socket.getsockname()[1]
        yield f"http://127.0.0.1:{port}/v1/traces", bodies
        nursery.cancel_scope.cancel()


def configured(endpoint: str) -> Config:
    return Config(hostname="mx.example.org", tracing=TracingConfig(endpoint=endpoint))


async def test_a_collector_gets_the_spans_by_the_end_of_the_server() -> None:
    async with collector(answers=True) as (endpoint, bodies):
        bus = EventBus()
        async with open_tracing(configured(endpoint), bus, _Still()):
            bench = Bench()
            bench.bus = bus
            bench.accepted(TRACEPARENT)
        assert bytes.fromhex(TRACE) in b"".join(bodies)


@pytest.mark.deadline(20)
async def test_a_collector_that_does_not_answer_holds_up_neither_the_loop_nor_the_end() -> None:
    async with collector(answers=False) as (endpoint, _):
        bus = EventBus()
        bench = Bench()
        begun = time.monotonic()
        async with open_tracing(configured(endpoint), bus, _Still()):
            bench.bus = bus
            longest = 0.0
            for _ in range(5000):
                before = time.monotonic()
                bench.accepted(TRACEPARENT)
                longest = max(longest, time.monotonic() - before)
            await trio.sleep(0.1)
            assert longest < 0.5
        assert time.monotonic() - begun < 10


async def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(SettingsError) as caught:
        async with open_tracing(configured("http://127.0.0.1:4318/v1/traces"), EventBus(), _Still()):
            pass
    ((path, _, hint),) = caught.value.mistakes
    assert path == ("tracing", "endpoint")
    assert "elemta[otel]" in hint
