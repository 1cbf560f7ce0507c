"""A whole server that is traced: what a collector gets of a message that a program handed in over HTTP."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from ports import free_port
from server_process import Setting, serving, wait_for

trace_pb2 = pytest.importorskip(
    "opentelemetry.proto.trace.v1.trace_pb2", reason="the extra otel is not installed"
)

HELLO = Path(__file__).parents[2] / "plugins" / "hello" / "plugin.py"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@contextmanager
def collecting() -> Iterator[tuple[str, list[bytes]]]:
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/traces", bodies
        finally:
            server.shutdown()
            thread.join(10)


def test_a_message_is_one_trace_from_the_program_to_its_delivery(tmp_path: Path) -> None:
    with collecting() as (endpoint, bodies):
        admin = free_port()
        setting = Setting(tmp_path)
        plugin = tmp_path / "plugin.py"
        plugin.write_text(
            HELLO.read_text()
            .replace('@hook("rcpt")', '@hook("message")')
            .replace("recipient: str", "envelope")
            .replace("recipient.startswith", "str(envelope.sender).startswith")
        )
        plugin.chmod(0o644)
        config = setting.write(
            networks=("127.0.0.1/32",),
            extra=f'[tracing]\nendpoint = "{endpoint}"\n[admin]\naddress = "127.0.0.1:{admin}"\n[[plugins]]\nname = "hello"\npath = "{plugin}"\n',
        )
        with serving(tmp_path, setting.port, "-c", config) as server:
            request = urllib.request.Request(
                f"http://127.0.0.1:{admin}/api/v1/messages",
                json.dumps(
                    {"from": "a@client.example", "to": ["b@example.org", "c@far.example"], "text": "x"}
                ).encode(),
                {
                    "Authorization": "Bearer " + (setting.state / "admin.token").read_text().strip(),
                    "Content-Type": "application/json",
                    "traceparent": f"00-{TRACE}-{PARENT}-01",
                },
            )
            with urllib.request.urlopen(request, timeout=10) as response:
                assert response.status == 201
            with server.client("127.0.0.2") as client:
                client.sendmail("a@client.example", ["b@example.org"], b"Subject: x\r\n\r\nx\r\n")
            wait_for(
                lambda: (
                    server.events("recipient.deferred") and len(server.events("recipient.delivered")) == 2
                ),
                "the attempts",
            )
            assert server.stop() == 0
    spans = []
    for body in bodies:
        data = trace_pb2.TracesData.FromString(body)
        spans += [
            span for resource in data.resource_spans for scope in resource.scope_spans for span in scope.spans
        ]
    ours = {span.name: span for span in spans if span.trace_id.hex() == TRACE}
    attempts = [span for span in spans if span.name == "attempt" and span.trace_id.hex() == TRACE]
    message = ours["message"]
    assert message.parent_span_id.hex() == PARENT
    assert len(attempts) == 2
    assert {span.parent_span_id for span in (*attempts, ours["commit"], ours["hook message"])} == {
        message.span_id
    }
    assert (
        message.start_time_unix_nano
        <= ours["hook message"].start_time_unix_nano
        <= ours["commit"].start_time_unix_nano
    )
    assert ours["transmit"].parent_span_id in {span.span_id for span in attempts}
    sessions = {span.span_id for span in spans if span.name == "session"}
    theirs = next(span for span in spans if span.name == "message" and span.trace_id.hex() != TRACE)
    assert theirs.links[0].span_id in sessions
    assert {"checks", "commit", "hook message"} <= {
        span.name for span in spans if span.trace_id == theirs.trace_id
    }
