"""Handshakes of both sides over memory streams and loopback, good and bad."""

import ssl

import pytest
import trio
import trio.testing
import trustme

from elemta.config import TlsConfig
from elemta.runtime import is_cut_off
from elemta.tls import TlsContexts, TlsFailed, start_tls


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def contexts(authority, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    certificate = authority.issue_cert("mx.local.test", "192.0.2.1", "2001:db8::1")
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    authority.cert_pem.write_to_path(folder / "authority.pem")
    return TlsContexts(TlsConfig(folder / "server.pem"), authorities=folder / "authority.pem")


@pytest.fixture(scope="module")
def strangers():
    """Contexts of somebody who trusts other authorities."""
    return TlsContexts(TlsConfig())


async def handshake(server_context, client_context, hostname, pair=None):
    """What each side got: a stream and facts, or the TlsFailed."""
    client, server = pair or trio.testing.memory_stream_pair()
    results = {}

    async def side(name, stream, context, **more):
        try:
            results[name] = await start_tls(stream, context, **more)
        except TlsFailed as failure:
            results[name] = failure
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: side("server", server, server_context, server_side=True))
        nursery.start_soon(
            lambda: side("client", client, client_context, server_side=False, hostname=hostname)
        )
    return results["server"], results["client"]


@pytest.mark.parametrize(
    "hostname",
    ["mx.local.test", "MX.Local.Test.", "192.0.2.1", "[192.0.2.1]", "2001:db8::1"],
)
async def test_verified_handshake(contexts, hostname):
    server, client = await handshake(contexts.server, contexts.client(True), hostname)
    for _, facts in (server, client):
        assert facts.version == "TLSv1.3"
        assert facts.cipher.startswith("TLS_")
    assert client[1].verified
    assert not server[1].verified


async def test_octets_pass_both_ways(contexts):
    (server, _), (client, _) = await handshake(contexts.server, contexts.client(True), "mx.local.test")
    for sender, receiver in ((server, client), (client, server)):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sender.send_all, b"EHLO us.test\r\n")
            assert await receiver.receive_some() == b"EHLO us.test\r\n"


async def test_peer_that_just_hangs_up_is_told_from_one_that_ends_tls(contexts):
    """RFC 8446 §6.1"""
    (server, _), (client, _) = await handshake(contexts.server, contexts.client(True), "mx.local.test")
    await client.transport_stream.aclose()
    with pytest.raises(trio.BrokenResourceError) as caught:
        await server.receive_some()
    assert is_cut_off(caught.value.__cause__)
    assert not is_cut_off(ssl.SSLError(1, "something else"))
    assert not is_cut_off(None)


async def test_closing_ends_tls_before_the_connection(contexts):
    (server, _), (client, _) = await handshake(contexts.server, contexts.client(True), "mx.local.test")
    await server.aclose()
    assert await client.receive_some() == b"", "and no error of a stream that was cut off"


@pytest.mark.parametrize(
    "hostname", ["other.test", "192.0.2.9", None, "a..b", "x" * 100 + ".test", "under_score.test"]
)
async def test_opportunistic_handshake_asks_for_no_proof(contexts, strangers, hostname):
    server, client = await handshake(contexts.server, strangers.client(False), hostname)
    assert not isinstance(client, TlsFailed), client
    assert not client[1].verified
    assert client[1].version == "TLSv1.3"
    assert server[1].version == "TLSv1.3"


@pytest.mark.parametrize(
    ("hostname", "reason"),
    [
        ("other.test", "Hostname mismatch"),
        ("notmx.local.test", "Hostname mismatch"),
        ("192.0.2.9", "IP address mismatch"),
    ],
)
async def test_wrong_name_fails_with_openssls_reason(contexts, hostname, reason):
    server, client = await handshake(contexts.server, contexts.client(True), hostname)
    assert isinstance(client, TlsFailed)
    assert client.certificate
    assert client.reason.startswith(f"certificate: {reason}")
    assert isinstance(server, TlsFailed) or server[1].version == "TLSv1.3"


async def test_unknown_authority_fails(contexts, strangers):
    _, client = await handshake(contexts.server, strangers.client(True), "mx.local.test")
    assert isinstance(client, TlsFailed)
    assert client.certificate
    assert client.reason == "certificate: unable to get local issuer certificate"


@pytest.mark.parametrize("hostname", [None, "", "."])
async def test_no_name_to_verify_fails_before_anything_is_sent(contexts, hostname):
    client, server = trio.testing.memory_stream_pair()
    with pytest.raises(TlsFailed, match="no host name to verify"):
        await start_tls(client, contexts.client(True), server_side=False, hostname=hostname)
    await client.aclose()
    assert await server.receive_some() == b""


@pytest.mark.parametrize("hostname", [".dot.test", "\u00e4.test", "nul\0.test"])
async def test_unusable_name_fails_before_anything_is_sent(contexts, hostname):
    client, _ = trio.testing.memory_stream_pair()
    with pytest.raises(TlsFailed, match="unusable host name"):
        await start_tls(client, contexts.client(False), server_side=False, hostname=hostname)


async def test_peer_without_tls_fails_on_both_sides(contexts):
    for server_side, context in ((False, contexts.client(False)), (True, contexts.server)):
        ours, theirs = trio.testing.memory_stream_pair()
        await theirs.send_all(b"500 5.5.1 What?\r\n")
        with pytest.raises(TlsFailed) as caught:
            await start_tls(ours, context, server_side=server_side)
        assert caught.value.reason in ("wrong version number", "http request", "unsupported protocol")
        assert not caught.value.certificate


@pytest.mark.parametrize("server_side", [True, False])
async def test_peer_that_hangs_up_in_the_handshake_fails(contexts, server_side):
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.aclose()
    context = contexts.server if server_side else contexts.client(False)
    with pytest.raises(TlsFailed):
        await start_tls(ours, context, server_side=server_side)


async def test_connection_that_breaks_in_the_handshake_fails(contexts):
    async def break_off():
        await trio.lowlevel.checkpoint()
        raise trio.BrokenResourceError

    stream, _ = trio.testing.memory_stream_pair()
    stream.send_stream.send_all_hook = break_off
    with pytest.raises(TlsFailed, match="connection lost during the handshake"):
        await start_tls(stream, contexts.client(False), server_side=False)


async def test_old_protocol_is_refused(contexts):
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname = False
    old.verify_mode = ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    server, client = await handshake(contexts.server, old, "mx.local.test")
    assert isinstance(server, TlsFailed)
    assert server.reason == "unsupported protocol"
    assert isinstance(client, TlsFailed)


async def test_tls_1_2_is_spoken(contexts):
    older = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    older.check_hostname = False
    older.verify_mode = ssl.CERT_NONE
    older.maximum_version = ssl.TLSVersion.TLSv1_2
    (_, facts), _ = await handshake(contexts.server, older, "mx.local.test")
    assert facts.version == "TLSv1.2"
    assert facts.cipher.startswith("ECDHE-")


async def test_certificate_of_a_client_is_verified_where_it_is_asked_for(contexts, authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("mx.local.test").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_OPTIONAL
    anonymous = contexts.client(True)
    named = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(named)
    authority.issue_cert("client.test").configure_cert(named)
    (_, with_name), _ = await handshake(context, named, "mx.local.test")
    (_, without), _ = await handshake(context, anonymous, "mx.local.test")
    assert with_name.verified
    assert not without.verified


async def test_silent_peer_is_left_at_the_callers_deadline(contexts, autojump_clock):
    ours, _ = trio.testing.memory_stream_pair()
    with trio.move_on_after(30) as scope:
        await start_tls(ours, contexts.server, server_side=True)
    assert scope.cancelled_caught


async def test_handshake_over_loopback(contexts):
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        client = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        server = await listener.accept()
        (server_tls, _), (client_tls, facts) = await handshake(
            contexts.server, contexts.client(True), "mx.local.test", (client, server)
        )
    assert facts.verified
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client_tls.send_all, b"x" * 100_000)
        received = 0
        while received < 100_000:
            received += len(await server_tls.receive_some())
    await client_tls.aclose()
    assert await server_tls.receive_some() == b""
    await server_tls.aclose()


async def test_reload_does_not_touch_those_who_are_connected(authority, tmp_path):
    path = tmp_path / "server.pem"
    authority.issue_cert("mx.local.test").private_key_and_cert_chain_pem.write_to_path(path)
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    own = TlsContexts(TlsConfig(path), authorities=tmp_path / "authority.pem")
    (server, _), (client, _) = await handshake(own.server, own.client(True), "mx.local.test")
    authority.issue_cert("new.test").private_key_and_cert_chain_pem.write_to_path(path)
    own.reload()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, b"still here")
        assert await server.receive_some() == b"still here"
    _, facts = (await handshake(own.server, own.client(True), "new.test"))[1]
    assert facts.verified
