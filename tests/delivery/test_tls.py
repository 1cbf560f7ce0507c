"""STARTTLS as the route wants it, and what becomes of it when it fails."""

import ssl

import attrs
import pytest
import trio
import trustme
from delivery_helpers import TIMEOUTS, connected, deliver_one, make_context

from elemta.config import RouteTls, TlsConfig, TransportKind
from elemta.delivery import ConnectFailed, make_transport
from elemta.mail import Cause, Deferred, Delivered
from elemta.routing import Route
from elemta.smtp import Capabilities
from elemta.testing.network import open_memory_network
from elemta.testing.peers import GREETING, LOCKSTEP_HELLO, Expect, Fault, ScriptedPeer, SinkPeer
from elemta.tls import TlsContexts

HELLO = (b"EHLO ", b"250-peer.example\r\n250-PIPELINING\r\n250 STARTTLS\r\n")
READY = (b"STARTTLS", b"220 go\r\n")
STRICT = [RouteTls.REQUIRED, RouteTls.VERIFIED]


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def server_context(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("peer.example").configure_cert(context)
    return context


@pytest.fixture(scope="module")
def contexts(authority, tmp_path_factory):
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return TlsContexts(TlsConfig(), authorities=path)


class TlsPeer:
    """Speaks the script as far as STARTTLS, then behaves behind the handshake."""

    def __init__(self, context, *, require_tls=False):
        self.context = context
        self.sink = SinkPeer(capabilities=Capabilities(pipelining=True, require_tls=require_tls))
        self.before = ""

    async def serve(self, stream):
        await stream.send_all(GREETING[1])
        self.before += (await stream.receive_some()).decode()
        await stream.send_all(HELLO[1])
        self.before += (await stream.receive_some()).decode()
        await stream.send_all(READY[1])
        tls = trio.SSLStream(stream, self.context, server_side=True, https_compatible=True)
        try:
            await tls.do_handshake()
        except trio.BrokenResourceError:
            return
        await serve_without_greeting(self.sink, tls)


async def serve_without_greeting(sink, stream):
    class Quiet:
        """Swallows the first write, which is the greeting."""

        def __init__(self):
            self.greeted = False

        async def send_all(self, data):
            if self.greeted:
                await stream.send_all(data)
            self.greeted = True

        async def receive_some(self, max_bytes=None):
            return await stream.receive_some(max_bytes)

        async def aclose(self):
            await stream.aclose()

    await sink.serve(Quiet())


def route(tls, host="peer.example"):
    return Route(TransportKind.SMTP, host, 25, tls=tls)


async def connect(peers, contexts, tls, host="peer.example"):
    """Connect and deliver; the outcome, the connection's TLS facts, and how often was dialled."""
    waiting = list(peers)
    async with open_memory_network() as network:

        async def serve(stream):
            await waiting.pop(0).serve(stream)

        network.listen("192.0.2.1", 25, serve)
        zone = {host: {"A": ["192.0.2.1"]}}
        context = make_context(network, zone, tls=contexts)
        try:
            connection = await make_transport(route(tls, host), context).connect()
        except ConnectFailed as failed:
            return failed.outcome, None, len(network.attempts)
        try:
            outcome = await deliver_one(connection)
            assert connection.usable
        finally:
            await connection.aclose()
        return outcome, connection.tls, len(network.attempts)


@pytest.mark.parametrize("tls", [RouteTls.OPPORTUNISTIC, *STRICT])
async def test_message_goes_over_tls_where_it_is_offered(tls, contexts, server_context, autojump_clock):
    peer = TlsPeer(server_context)
    outcome, facts, dialled = await connect([peer], contexts, tls)
    assert isinstance(outcome, Delivered)
    assert facts.version.startswith("TLSv1.")
    assert facts.verified == (tls is RouteTls.VERIFIED)
    assert dialled == 1
    assert peer.sink.commands == ["EHLO", "MAIL", "RCPT", "DATA", "QUIT"]
    assert peer.before == "EHLO mx.example\r\nSTARTTLS\r\n"


async def test_route_without_tls_does_not_ask_for_it(contexts, autojump_clock):
    sink = SinkPeer(capabilities=Capabilities(starttls=True))
    outcome, facts, _ = await connect([sink], contexts, RouteTls.NONE)
    assert isinstance(outcome, Delivered)
    assert facts is None
    assert "STARTTLS" not in sink.commands


async def test_opportunistic_goes_on_without_tls_that_is_not_offered_or_refused(contexts, autojump_clock):
    outcome, facts, dialled = await connect([SinkPeer()], contexts, RouteTls.OPPORTUNISTIC)
    assert (type(outcome), facts, dialled) == (Delivered, None, 1)
    peer = ScriptedPeer(GREETING, HELLO, (b"STARTTLS", b"454 4.7.0 not now\r\n"))
    async with connected(peer, tls=RouteTls.OPPORTUNISTIC) as connection:
        assert connection.usable
        assert connection.tls is None


@pytest.mark.parametrize(
    "broken",
    [
        ((b"STARTTLS", b"220 go\r\nnot a handshake\r\n"),),
        (READY, (Expect.NOTHING, Fault.GARBAGE)),
        (READY, (Expect.NOTHING, Fault.STALL)),
        ((b"STARTTLS", Fault.DROP),),
        ((b"STARTTLS", Fault.STALL),),
        ((b"STARTTLS", b"421 4.3.2 bye\r\n"),),
        None,
    ],
)
async def test_opportunistic_reconnects_in_plain_text_when_tls_breaks(broken, contexts, autojump_clock):
    first = Drops() if broken is None else ScriptedPeer(GREETING, HELLO, *broken)
    outcome, facts, dialled = await connect([first, SinkPeer()], contexts, RouteTls.OPPORTUNISTIC)
    assert (type(outcome), facts, dialled) == (Delivered, None, 2)


class Drops:
    """Answers 220 to STARTTLS and hangs up in the middle of the handshake."""

    async def serve(self, stream):
        for answer in (GREETING[1], HELLO[1], READY[1]):
            await stream.send_all(answer)
            await stream.receive_some()


@pytest.mark.parametrize("tls", STRICT)
async def test_strict_route_defers_without_tls(tls, contexts, autojump_clock):
    for peer, cause in (
        (ScriptedPeer(GREETING, LOCKSTEP_HELLO), Cause.TLS_NOT_OFFERED),
        (ScriptedPeer(GREETING, HELLO, (b"STARTTLS", b"454 4.7.0 not now\r\n")), Cause.TLS_NOT_OFFERED),
        (ScriptedPeer(GREETING, HELLO, READY, (Expect.NOTHING, Fault.GARBAGE)), Cause.TLS),
        (Drops(), Cause.TLS),
    ):
        outcome, _, dialled = await connect([peer], contexts, tls)
        assert isinstance(outcome, Deferred)
        assert outcome.cause is cause
        assert outcome.reply.enhanced_text == "4.7.5"
        assert dialled == 1


async def test_verified_route_wants_the_right_name_and_a_known_authority(
    contexts, server_context, autojump_clock
):
    outcome, _, _ = await connect([TlsPeer(server_context)], contexts, RouteTls.VERIFIED, "other.example")
    assert outcome.cause is Cause.CERTIFICATE
    assert "certificate" in outcome.detail
    unknown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("peer.example").configure_cert(unknown)
    outcome, _, _ = await connect([TlsPeer(unknown)], contexts, RouteTls.VERIFIED)
    assert outcome.cause is Cause.CERTIFICATE
    assert "certificate" in outcome.detail
    # Opportunistic asks for no proof
    outcome, facts, _ = await connect([TlsPeer(unknown)], contexts, RouteTls.OPPORTUNISTIC)
    assert isinstance(outcome, Delivered)
    assert not facts.verified


async def test_handshake_has_a_deadline(contexts, autojump_clock):
    peer = ScriptedPeer(GREETING, HELLO, READY, (Expect.NOTHING, Fault.STALL))
    start = trio.current_time()
    outcome, _, _ = await connect([peer], contexts, RouteTls.REQUIRED)
    assert trio.current_time() - start == TIMEOUTS.starttls
    assert outcome.cause is Cause.TLS
    assert "no answer in starttls" in outcome.detail


async def test_requiretls_goes_over_a_verified_session_that_announces_it(
    contexts, server_context, autojump_clock
):
    peer = TlsPeer(server_context, require_tls=True)
    async with open_memory_network() as network:
        network.listen("192.0.2.1", 25, peer.serve)
        context = make_context(network, {"peer.example": {"A": ["192.0.2.1"]}}, tls=contexts)
        connection = await make_transport(route(RouteTls.VERIFIED), context).connect()
        assert isinstance(await deliver_one(connection, require_tls=True), Delivered)
        # The same without a proof of who it is
        connection.tls = attrs.evolve(connection.tls, verified=False)
        outcome = await deliver_one(connection, require_tls=True)
        await connection.aclose()
    assert outcome.reply.enhanced_text == "5.7.30"
    assert peer.sink.messages[0].mail.params.require_tls


async def test_hello_behind_tls_that_is_refused_fails_the_host(contexts, server_context, autojump_clock):
    class Refuses(TlsPeer):
        async def serve(self, stream):
            await stream.send_all(GREETING[1])
            for answer in (HELLO[1], READY[1]):
                await stream.receive_some()
                await stream.send_all(answer)
            tls = trio.SSLStream(stream, self.context, server_side=True, https_compatible=True)
            await tls.receive_some()
            await tls.send_all(b"451 4.3.0 no\r\n")
            await tls.receive_some()

    outcome, _, dialled = await connect([Refuses(server_context)], contexts, RouteTls.OPPORTUNISTIC)
    assert (outcome.cause, outcome.reply.code, dialled) == (Cause.REMOTE_REPLY, 451, 1)


class EndsAfterHandshake(TlsPeer):
    """Is content with the handshake at first, and gone when EHLO comes."""

    async def serve(self, stream):
        await stream.send_all(GREETING[1])
        for answer in (HELLO[1], READY[1]):
            await stream.receive_some()
            await stream.send_all(answer)
        tls = trio.SSLStream(stream, self.context, server_side=True, https_compatible=True)
        try:
            await tls.do_handshake()
        except trio.BrokenResourceError:
            pass
        await trio.aclose_forcefully(stream)


@pytest.mark.parametrize("wants_certificate", [False, True])
async def test_session_that_ends_with_the_handshake_counts_as_a_failed_one(
    wants_certificate, authority, contexts, autojump_clock
):
    """With TLS 1.3 the alert of a server that wants a certificate comes when our side is finished."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("peer.example").configure_cert(context)
    if wants_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
        authority.configure_trust(context)
    first = EndsAfterHandshake(context)
    outcome, facts, dialled = await connect([first, SinkPeer()], contexts, RouteTls.OPPORTUNISTIC)
    assert (type(outcome), facts, dialled) == (Delivered, None, 2)
    for tls in STRICT:
        outcome, _, dialled = await connect([EndsAfterHandshake(context)], contexts, tls)
        assert isinstance(outcome, Deferred)
        assert (outcome.cause, dialled) == (Cause.CONNECTION_LOST, 1)
