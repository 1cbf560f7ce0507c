"""The ways out of a plugin: what is connected to, what an answer is, and what bounds both."""

from __future__ import annotations

import ssl

import pytest
import trio
import trio.testing
import trustme

from elemta.plugin.api import Context, HttpAnswer, Metrics, OutsideFailed
from elemta.plugin.outside import (
    LONGEST_CONNECT,
    LONGEST_REQUEST,
    MOST_OPEN,
    Outside,
    read_url,
    split_address,
)
from elemta.runtime import SystemNetwork, TrioWallClock, get_logger
from elemta.testing import FakeResolver, HttpPeer, MemoryNetwork, MemoryStream, open_memory_network

ZONE = {"service.example": {"A": ["192.0.2.80"], "AAAA": ["2001:db8::80"]}}


async def echo(stream: MemoryStream) -> None:
    while piece := await stream.receive_some():
        await stream.send_all(piece.upper())


def outside(network: MemoryNetwork) -> Outside:
    return Outside(network, FakeResolver(ZONE))


@pytest.mark.parametrize(
    "address", ["192.0.2.7:99", "service.example:99", "[2001:db8::80]:99", "unix:/run/x"]
)
async def test_a_service_is_connected_to_by_address_name_or_socket(address, autojump_clock):
    async with open_memory_network() as network:
        for host in ("192.0.2.7", "2001:db8::80"):
            network.listen(host, 99, echo)
        network.listen_local("/run/x", echo)
        async with outside(network).connect(address) as stream:
            await stream.send_all(b"hello")
            assert await stream.receive_some() == b"HELLO"


async def test_the_next_address_is_tried_where_one_refuses(autojump_clock):
    async with open_memory_network() as network:
        network.refuse("2001:db8::80")
        network.listen("192.0.2.80", 99, echo)
        async with outside(network).connect("service.example:99") as stream:
            await stream.send_all(b"x")
            assert await stream.receive_some() == b"X"


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("192.0.2.9:99", "cannot be reached"),
        ("gone.example:99", "has no address"),
        ("unix:/run/gone", "cannot be reached: No such file or directory"),
        ("nonsense", "is no address"),
        ("192.0.2.9:0", "is no address"),
        ("192.0.2.9:٣", "is no address"),
    ],
)
async def test_what_cannot_be_reached_is_told(address, reason, autojump_clock):
    async with open_memory_network() as network:
        with pytest.raises(OutsideFailed, match=reason):
            async with outside(network).connect(address):
                pytest.fail("connected")


async def test_connecting_is_bounded(autojump_clock):
    async with open_memory_network() as network:
        network.hang("192.0.2.9")
        began = trio.current_time()
        with pytest.raises(OutsideFailed, match="within 30 s"):
            async with outside(network).connect("192.0.2.9:99"):
                pytest.fail("connected")
        assert trio.current_time() - began == pytest.approx(LONGEST_CONNECT)


async def test_one_more_than_may_be_open_waits_for_one_to_end(autojump_clock):
    async with open_memory_network() as network, trio.open_nursery() as nursery:
        network.listen("192.0.2.7", 99, echo)
        ways = outside(network)

        async def hold(seconds: float) -> None:
            async with ways.connect("192.0.2.7:99"):
                await trio.sleep(seconds)

        for number in range(MOST_OPEN):
            nursery.start_soon(hold, 10 + number * 100)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        async with ways.connect("192.0.2.7:99"):
            assert trio.current_time() - began == pytest.approx(10)
            with pytest.raises(OutsideFailed, match="are open"):
                await hold(0)
        nursery.cancel_scope.cancel()


async def test_a_connection_that_is_lost_is_an_error_of_the_outside(autojump_clock):
    async def hang_up(stream: MemoryStream) -> None:
        stream.reset()
        await trio.lowlevel.checkpoint()

    async with open_memory_network() as network:
        network.listen("192.0.2.7", 99, hang_up)
        with pytest.raises(OutsideFailed, match=r"192\.0\.2\.7:99: the connection was lost"):
            async with outside(network).connect("192.0.2.7:99") as stream:
                await trio.sleep(1)
                await stream.receive_some()


async def test_a_request_brings_the_answer_whatever_its_status(autojump_clock):
    peer = HttpPeer(lambda request: HttpAnswer(404, (("x-kind", "odd"),), request.body[::-1]))
    async with open_memory_network() as network:
        network.listen("2001:db8::80", 8080, peer.serve)
        http = outside(network).http
        answer = await http.request(
            "POST", "http://service.example:8080/a/b?c=d", headers=[("X-A", "1")], body=b"x" * 200_000 + b"y"
        )
        assert (answer.status, answer.header("X-Kind"), answer.body) == (404, "odd", b"y" + b"x" * 200_000)
        (request,) = peer.requests
        assert (request.method, request.target) == ("POST", "/a/b?c=d")
        assert (request.header("host"), request.header("x-a")) == ("service.example:8080", "1")
        network.listen_local("/run/http", peer.serve)
        assert (await http.request("GET", "http://localhost/", through="unix:/run/http")).status == 404


async def test_an_answer_that_is_too_large_or_none_is_refused(autojump_clock):
    async def nonsense(stream: MemoryStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"SSH-2.0-OpenSSH\r\n\r\n")

    async def short(stream: MemoryStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")

    async with open_memory_network() as network:
        http = outside(network).http
        for port, handler, reason in (
            (1, HttpPeer(lambda request: HttpAnswer(200, (), b"x" * 101)).serve, "more than 100 octets"),
            (2, nonsense, "no HTTP"),
            (3, short, "no HTTP"),
        ):
            network.listen("192.0.2.7", port, handler)
            with pytest.raises(OutsideFailed, match=reason):
                await http.request("GET", f"http://192.0.2.7:{port}/", most=100)


async def test_a_server_that_says_nothing_does_not_hold_for_ever(autojump_clock):
    async with open_memory_network() as network:
        network.listen("192.0.2.7", 80, HttpPeer(lambda request: None).serve)
        began = trio.current_time()
        with pytest.raises(OutsideFailed, match="no answer within"):
            await outside(network).http.request("GET", "http://192.0.2.7/")
        assert trio.current_time() - began == pytest.approx(LONGEST_REQUEST)


async def test_https_checks_the_certificate(autojump_clock):
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    ours, theirs = ssl.create_default_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.configure_trust(ours)
    authority.issue_cert("service.example").configure_cert(theirs)
    peer = HttpPeer()

    async def serve(stream: MemoryStream) -> None:
        try:
            await peer.serve(trio.SSLStream(stream, theirs, server_side=True))
        except trio.BrokenResourceError:
            pass  # the client did not like the certificate

    async with open_memory_network() as network:
        network.listen("2001:db8::80", 443, serve)
        network.listen("192.0.2.7", 443, serve)
        http = outside(network).http
        assert (await http.request("GET", "https://service.example/", tls=ours)).status == 200
        for url, trust in (("https://192.0.2.7/", ours), ("https://service.example/", None)):
            with pytest.raises(OutsideFailed, match="no TLS"):
                await http.request("GET", url, tls=trust)
        assert len(peer.requests) == 1


@pytest.mark.parametrize(
    "url", ["ftp://a/", "http:///x", "http://a:99999/", "http://u:p@a/", "http://a/b c", "http://ä/", "a/b"]
)
def test_what_is_no_url_is_refused(url):
    with pytest.raises(ValueError):
        read_url(url)


def test_urls_and_addresses_in_parts():
    assert (read_url("https://a.example/").address, read_url("https://a.example").path) == (
        "a.example:443",
        "/",
    )
    assert read_url("http://[2001:db8::1]:81/?q").host == "[2001:db8::1]:81"
    assert split_address("[2001:db8::1]:81") == ("2001:db8::1", 81)


async def test_real_sockets_are_connected_to(tmp_path):
    async def answer(stream: trio.SocketStream) -> None:
        await stream.send_all(b"hello")

    sock = trio.socket.socket(trio.socket.AF_UNIX)
    await sock.bind(str(tmp_path / "s"))
    sock.listen()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            tcp = await nursery.start(trio.serve_tcp, answer, 0)
            nursery.start_soon(trio.serve_listeners, answer, [trio.SocketListener(sock)])
            port = next(each.socket.getsockname()[1] for each in tcp)
            ways = Outside(SystemNetwork(), FakeResolver({}))
            for address in (f"unix:{tmp_path}/s", f"localhost:{port}"):
                async with ways.connect(address) as stream:
                    assert await stream.receive_some() == b"hello"
            nursery.cancel_scope.cancel()


def test_a_context_without_network_says_so():
    context = Context("p", get_logger("p"), TrioWallClock(), Metrics(), None)  # type: ignore[arg-type]
    for name in ("http", "connect"):
        with pytest.raises(OutsideFailed, match="no network here"):
            getattr(context, name)
