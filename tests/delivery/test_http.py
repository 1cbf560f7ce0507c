"""Messages posted to a web server: what it gets, how it can tell that they are ours, what its answers mean."""

import hashlib
import hmac
import json
import re
from pathlib import Path

import attrs
import pytest
import trio
from delivery_helpers import BODY, PREFIX, make_context, make_parcel, streamed

from elemta.config import RouteConfig, RouteTls, TransportKind
from elemta.config.units import parse_route_pattern
from elemta.delivery import ConnectFailed, make_transport
from elemta.delivery.http import idempotency_key, outcome_of, read_key
from elemta.mail import Cause, Deferred, Delivered, Failed
from elemta.routing import Route
from elemta.testing.network import open_memory_network

KEY = b"0123456789abcdef0123"
LOOPBACK = "127.0.0.1"
DELIVERY = Path(__file__).parents[2] / "docs/delivery.md"


@attrs.define
class WebServer:
    """Answers each request with the same bytes and remembers what it got."""

    answer: bytes = b"HTTP/1.1 204 No Content\r\n\r\n"
    early: bool = False
    """Whether it answers when it has seen the head, and closes."""
    requests: list[bytes] = attrs.field(factory=list)

    async def serve(self, stream):
        data = b""
        while b"\r\n\r\n" not in data:
            data += await stream.receive_some()
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(fields(head)["content-length"])
        while not self.early and len(body) < length:
            body += await stream.receive_some()
        self.requests.append(head + b"\r\n\r\n" + body)
        if self.answer:
            await stream.send_all(self.answer)
            await stream.aclose()
        else:
            await trio.sleep_forever()


def fields(head):
    lines = head.decode().split("\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def route_to(url=f"http://{LOOPBACK}:8080/mail?x=1", **more):
    port = 8080 if ":8080" in url else 443
    tls = RouteTls.NONE if url.startswith("http:") else RouteTls.VERIFIED
    return Route(TransportKind.HTTP, LOOPBACK, port, tls=tls, url=url, time_limit=60.0, **more)


async def post(server, *recipients, route=None, capacity=256 * 1024, **parcel):
    """The outcome of one message."""
    async with open_memory_network() as network:
        network.listen(LOOPBACK, 8080, server.serve, capacity=capacity)
        connection = await make_transport(route or route_to(), make_context(network)).connect()
        outcomes = await connection.deliver(make_parcel(*recipients, **parcel))
        assert not connection.usable
        assert not connection.dot_sent
        await connection.aclose()
    assert len(set(outcomes)) == 1
    return outcomes[0]


@pytest.mark.parametrize("content", [None, streamed(BODY[:9], BODY[9:])], ids=["in memory", "streamed"])
async def test_server_gets_the_message_and_can_check_it(content, tmp_path, autojump_clock):
    (tmp_path / "key").write_bytes(KEY + b"\n")
    server = WebServer()
    if content is not None:
        content = attrs.evolve(content, pieces=list(content.pieces))
        content = Again(content)
    outcome = await post(
        server,
        "ann@example.org",
        "grün@example.org",
        route=route_to(key_file=tmp_path / "key"),
        content=content,
    )
    assert isinstance(outcome, Delivered)
    assert outcome.relay is None
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /mail?x=1 HTTP/1.1\r\n")
    assert body == PREFIX + BODY
    sent = fields(head)
    assert sent["host"] == f"{LOOPBACK}:8080"
    assert sent["content-type"] == "message/rfc822"
    assert json.loads(sent["elemta-envelope"]) == {
        "message": "0123456789abcdef",
        "sender": "bob@example.net",
        "recipients": ["ann@example.org", "grün@example.org"],
    }
    # as docs/delivery.md tells receivers to check it
    (block,) = re.findall(r"```python\n(.*?)```", DELIVERY.read_text(), re.DOTALL)
    names = {
        "hashlib": hashlib,
        "hmac": hmac,
        "key": KEY,
        "timestamp": sent["elemta-timestamp"],
        "envelope": sent["elemta-envelope"],
        "signature": sent["elemta-signature"],
    }
    for given, good in ((body, True), (body + b"x", False)):
        seen = {**names, "body": given}
        exec(block, seen)
        assert seen["good"] is good


class Again:
    """Content that can be read as often as it takes, as that of the spool."""

    def __init__(self, content):
        self._content = content
        self.prefix, self.body, self.size = content.prefix, None, content.size

    def open(self):
        return attrs.evolve(self._content, pieces=iter(list(self._content.pieces))).open()


async def test_nothing_is_signed_without_a_key(autojump_clock):
    server = WebServer()
    await post(server, sender="<>")
    sent = fields(server.requests[0].partition(b"\r\n\r\n")[0])
    assert "elemta-signature" not in sent
    assert json.loads(sent["elemta-envelope"])["sender"] == ""


def test_repetition_is_known_by_its_key():
    one, other = make_parcel("ann@example.org"), make_parcel("eve@example.org")
    assert idempotency_key(one) == idempotency_key(make_parcel("ann@example.org"))
    assert idempotency_key(one) != idempotency_key(other)


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (200, Delivered, "2.0.0"),
        (202, Delivered, "2.0.0"),
        (299, Delivered, "2.0.0"),
        (301, Deferred, "4.3.0"),
        (308, Deferred, "4.3.0"),
        (400, Failed, "5.6.0"),
        (401, Deferred, None),
        (403, Deferred, None),
        (404, Deferred, None),
        (408, Deferred, "4.3.0"),
        (410, Failed, "5.1.1"),
        (413, Failed, "5.3.4"),
        (422, Failed, "5.6.0"),
        (425, Deferred, "4.3.0"),
        (429, Deferred, "4.3.0"),
        (500, Deferred, "4.3.0"),
        (503, Deferred, "4.3.0"),
        (599, Deferred, "4.3.0"),
    ],
)
def test_status_decides_as_a_reply_would(status, kind, code):
    outcome = outcome_of(status, b"because\x1b of\r\nthis", "app.example[192.0.2.1]:443")
    assert isinstance(outcome, kind)
    assert code in (None, outcome.reply.enhanced_text)
    if kind is Deferred:
        assert outcome.detail == f"HTTP {status}: because  of  this"


async def test_server_without_an_answer_is_given_its_time(autojump_clock):
    start = trio.current_time()
    outcome = await post(WebServer(answer=b""))
    assert trio.current_time() - start == 60
    assert isinstance(outcome, Deferred)
    assert outcome.cause is Cause.UNKNOWN_AFTER_DOT


@pytest.mark.parametrize("answer", [b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab"])
async def test_answer_that_is_none_leaves_it_unknown(answer, autojump_clock):
    outcome = await post(WebServer(answer=answer))
    assert isinstance(outcome, Deferred)
    assert outcome.cause is Cause.UNKNOWN_AFTER_DOT


async def test_answer_before_all_was_sent_counts(autojump_clock):
    server = WebServer(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n", early=True)
    body = b"Subject: x\r\n\r\n" + b"x" * 100_000
    outcome = await post(server, content=Again(streamed(body[:50_000], body[50_000:])), capacity=10_000)
    assert isinstance(outcome, Failed)
    assert outcome.reply.enhanced_text == "5.3.4"


async def test_endless_answer_is_not_kept(autojump_clock):
    server = WebServer(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000)
    assert isinstance(await post(server), Delivered)


@pytest.mark.parametrize("content", [None, b"short"])
async def test_key_that_cannot_be_used_lets_mail_wait(content, tmp_path, autojump_clock):
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match="key"):
        read_key(path)
    server = WebServer()
    outcome = await post(server, route=route_to(key_file=path))
    assert isinstance(outcome, Deferred)
    assert outcome.cause is Cause.LOCAL
    assert server.requests == []


async def test_server_without_tls_gets_nothing_from_https(autojump_clock):
    async def serve(stream):
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with open_memory_network() as network:
        network.listen(LOOPBACK, 443, serve)
        transport = make_transport(route_to("https://app.example/"), make_context(network))
        with pytest.raises(ConnectFailed) as caught:
            await transport.connect()
    assert isinstance(caught.value.outcome, Deferred)
    assert caught.value.outcome.cause is Cause.TLS


def test_route_of_the_configuration():
    from elemta.config import Config
    from elemta.mail import parse_mailbox
    from elemta.routing import Router

    route = RouteConfig(
        parse_route_pattern("*"), transport=TransportKind.HTTP, url="https://app.example.org/mail"
    )
    found = Router(Config(hostname="mx.example", routes=(route,))).route(parse_mailbox("a@example.org"))
    assert str(found) == "http:https://app.example.org/mail"
    assert (found.next_hop, found.port, found.tls) == ("app.example.org", 443, RouteTls.VERIFIED)
