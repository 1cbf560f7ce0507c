"""STARTTLS and implicit TLS."""

import ssl
from types import SimpleNamespace

import pytest
import trio
from inbound_bed import Bed, Client, FakeSpool, make_config, open_bed

from elemta.config import ListenerTls
from elemta.events import MessageAccepted, SessionClosed, SessionTls


def wrap(client: Client, context: ssl.SSLContext) -> Client:
    return Client(
        trio.SSLStream(client.stream, context, server_hostname="mx.ours.example", https_compatible=True)
    )


async def starttls(bed: Bed, context: ssl.SSLContext) -> Client:
    client = bed.dial()
    assert "STARTTLS" in await client.hello()
    assert await client.say("STARTTLS") == "220 2.0.0 ready to start TLS"
    return wrap(client, context)


STARTTLS = make_config(tls=ListenerTls.STARTTLS)


async def test_starttls_makes_the_session_private_and_begins_it_anew(server_tls, client_tls):
    async with open_bed(STARTTLS, tls=server_tls) as bed:
        client = await starttls(bed, client_tls)
        assert await client.say("MAIL FROM:<a@else.example>") == "503 5.5.1 say hello first"
        assert "STARTTLS" not in await client.say("EHLO private.example")
        assert await client.say("STARTTLS") == "503 5.5.1 TLS is active already"
        await client.begin()
        assert (await client.data())[:3] == "250"
        [accepted] = bed.seen(MessageAccepted)
        assert accepted.protocol == "ESMTPS"  # RFC 3848
        [(message, _)] = bed.stored()
        assert message.origin.hello == "private.example"
        assert message.origin.tls is not None
        assert message.origin.tls.version == "TLSv1.3"
        assert b"with ESMTPS id" in message.prefix
        assert b"TLSv1.3" in message.prefix
        [facts] = bed.seen(SessionTls)
        assert facts.version == "TLSv1.3"
        assert bed.listeners.sessions[0].tls
        assert await client.say("QUIT") == "221 2.0.0 mx.ours.example closing connection"
        assert await client.line() == ""
        assert bed.seen(SessionClosed)[0].cause == "quit"


@pytest.mark.parametrize("polite", [True, False])
async def test_either_way_of_ending_tls_is_an_end(server_tls, client_tls, polite):
    """RFC 8446 §6.1: with a closing alert; but many just hang up."""
    async with open_bed(STARTTLS, tls=server_tls, spool=FakeSpool()) as bed:
        client = await starttls(bed, client_tls)
        await client.say("EHLO private.example")
        tls = client.stream
        assert isinstance(tls, trio.SSLStream)
        await (tls if polite else tls.transport_stream).aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert bed.seen(SessionClosed)[0].cause == "eof"


async def test_session_ends_with_a_closing_alert(server_tls, client_tls):
    """RFC 8446 §6.1"""
    async with open_bed(STARTTLS, tls=server_tls, spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        await client.say("STARTTLS")
        strict = Client(trio.SSLStream(client.stream, client_tls, server_hostname="mx.ours.example"))
        assert await strict.say("QUIT") == "221 2.0.0 mx.ours.example closing connection"
        assert await strict.line() == "", "and no error of a stream that was cut off"


async def test_commands_behind_starttls_in_clear_text_are_never_obeyed(server_tls):
    async with open_bed(STARTTLS, tls=server_tls, spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        await client.send(b"STARTTLS\r\nMAIL FROM:<a@else.example>\r\n")
        assert [line[:9] for line in await client.rest()] == ["421 4.5.0"]
        assert bed.seen(SessionClosed)[0].cause == "protocol"


async def test_a_transaction_keeps_starttls_out(server_tls):
    async with open_bed(STARTTLS, tls=server_tls, spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        assert (await client.say("STARTTLS"))[:3] == "503"
        assert (await client.data())[:3] == "250"


async def test_a_failed_handshake_ends_the_session_without_a_word(server_tls):
    async with open_bed(STARTTLS, tls=server_tls, spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        assert (await client.say("STARTTLS"))[:3] == "220"
        await client.send(b"EHLO x\r\n" * 10)
        while data := await client.stream.receive_some(1000):
            assert b"421" not in data
        assert bed.seen(SessionClosed)[0].cause == "tls"


@pytest.mark.parametrize("tls", [None, SimpleNamespace(server=None)])
async def test_without_a_certificate_starttls_is_not_offered(tls):
    async with open_bed(STARTTLS, tls=tls, spool=FakeSpool()) as bed:
        client = bed.dial()
        assert "STARTTLS" not in await client.hello()
        assert (await client.say("STARTTLS"))[:3] == "502"


async def test_a_certificate_that_went_away_meanwhile_is_a_temporary_failure(server_tls):
    contexts = SimpleNamespace(server=server_tls.server)
    async with open_bed(STARTTLS, tls=contexts, spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        contexts.server = None
        assert (await client.say("STARTTLS"))[:9] == "454 4.7.0"
        await client.begin()
        assert (await client.data())[:3] == "250"


async def test_implicit_tls_comes_before_the_greeting(server_tls, client_tls):
    config = make_config(tls=ListenerTls.IMPLICIT)
    async with open_bed(config, tls=server_tls, spool=FakeSpool()) as bed:
        client = wrap(bed.dial(), client_tls)
        assert "STARTTLS" not in await client.hello()
        assert (await client.say("STARTTLS"))[:3] in ("502", "503")
        await client.begin()
        assert (await client.data())[:3] == "250"
        await client.quit()
        [(_, origin, *_)] = bed.spool.stored.values()
        assert origin.protocol == "ESMTPS"


async def test_implicit_tls_without_a_certificate_takes_no_session():
    config = make_config(tls=ListenerTls.IMPLICIT)
    async with open_bed(config, tls=SimpleNamespace(server=None), spool=FakeSpool()) as bed:
        assert await bed.dial().line() == ""
        assert bed.seen(SessionClosed)[0].cause == "tls"


async def test_a_stop_reaches_private_sessions_too(server_tls, client_tls):
    async with open_bed(STARTTLS, tls=server_tls, spool=FakeSpool()) as bed:
        client = await starttls(bed, client_tls)
        await client.say("EHLO x")
        bed.drain.begin("test", 25, 5)
        assert (await client.reply())[:9] == "421 4.3.2"


async def test_hello_without_extensions_is_smtp_even_over_tls(server_tls, client_tls):
    async with open_bed(STARTTLS, tls=server_tls, spool=FakeSpool()) as bed:
        client = await starttls(bed, client_tls)
        await client.say("HELO x")
        await client.begin()
        await client.data()
        [(_, origin, *_)] = bed.spool.stored.values()
        assert origin.protocol == "SMTP"
