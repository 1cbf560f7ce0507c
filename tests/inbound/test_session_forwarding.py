"""Whose session it is: the PROXY protocol, XCLIENT and XFORWARD."""

import ipaddress
import struct

import pytest
import trio
from inbound_bed import FRIEND, STRANGER, FakeSpool, make_config, open_bed
from inbound_fakes import FakeAuthenticator, FakeGate
from test_session_tls import wrap

from elemta.config import ListenerAuth, ListenerTls
from elemta.events import (
    CommandRejected,
    SessionAuthenticated,
    SessionClosed,
    SessionForwarded,
    SessionOpened,
    SessionRefused,
)
from elemta.mail import Reply

PROXY = "198.51.100.1"
NETWORKS = (ipaddress.ip_network("198.51.100.0/24"),)
BEHIND = make_config(listener={"proxy_protocol": True}, proxies={"proxy_protocol": NETWORKS})
LINE = b"PROXY TCP4 192.0.2.77 192.0.2.1 4321 25\r\n"


def version_2(address: str, port: int = 4321, *, command: int = 0x21) -> bytes:
    packed = ipaddress.ip_address(address).packed
    family = 0x11 if len(packed) == 4 else 0x21
    block = packed + packed + struct.pack("!HH", port, 25)
    return b"\r\n\r\n\0\r\nQUIT\n" + bytes([command, family]) + struct.pack("!H", len(block)) + block


# --- PROXY ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "peer"),
    [
        (LINE, "192.0.2.77"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 4321 25\r\n", "2001:db8::7"),
        (version_2("192.0.2.77"), "192.0.2.77"),
        (version_2("2001:db8::7"), "2001:db8::7"),
        (version_2("::ffff:192.0.2.77"), "192.0.2.77"),
    ],
)
@pytest.mark.parametrize("size", [1, 1000])
async def test_the_client_is_who_the_header_says(autojump_clock, header: bytes, peer: str, size: int):
    async with open_bed(BEHIND) as bed:
        client = bed.dial(PROXY)
        for start in range(0, len(header), size):
            await client.send(header[start : start + size])
        await client.hello()
        await client.begin()
        assert (await client.data())[:3] == "250"
        [(message, _)] = bed.stored()
        assert (message.origin.peer, message.origin.port) == (peer, 4321)
        [opened] = bed.seen(SessionOpened)
        assert (opened.peer, opened.port) == (peer, 4321)
        [forwarded] = bed.seen(SessionForwarded)
        assert (forwarded.by, forwarded.via, forwarded.peer) == ("proxy", PROXY, peer)
        assert bed.listeners.sessions[0].peer == peer
        assert bed.listeners.statistics().sessions.busiest[0][0].startswith(peer[:8])


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", version_2("192.0.2.77", command=0x20)])
async def test_a_proxy_that_speaks_for_itself(autojump_clock, header: bytes):
    async with open_bed(BEHIND, spool=FakeSpool()) as bed:
        client = bed.dial(PROXY)
        await client.send(header)
        await client.hello()
        assert bed.seen(SessionOpened)[0].peer == PROXY
        assert bed.seen(SessionForwarded) == []


async def test_rights_are_those_of_the_real_client(autojump_clock):
    async with open_bed(BEHIND, spool=FakeSpool()) as bed:
        for peer, code in ((FRIEND, "250"), (STRANGER, "550")):
            client = bed.dial(PROXY)
            await client.send(f"PROXY TCP4 {peer} 192.0.2.1 4321 25\r\n".encode())
            await client.hello()
            await client.say("MAIL FROM:<a@else.example>")
            assert (await client.say("RCPT TO:<v@foreign.example>"))[:3] == code


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"EHLO client.example\r\n", "PROXY header: no PROXY header"),
        (b"PROXY TCP4 1.2.3 192.0.2.1 1 2\r\n", "PROXY header: a malformed PROXY line"),
    ],
)
async def test_without_a_header_nothing_is_said(autojump_clock, data: bytes, reason: str):
    async with open_bed(BEHIND, spool=FakeSpool()) as bed:
        client = bed.dial(PROXY)
        await client.send(data)
        assert await client.rest() == []
        [refused] = bed.seen(SessionRefused)
        assert (refused.peer, refused.reason) == (PROXY, reason)
        assert bed.seen(SessionOpened) == bed.seen(SessionClosed) == []


async def test_a_header_is_only_taken_from_the_load_balancers(autojump_clock):
    async with open_bed(BEHIND, spool=FakeSpool()) as bed:
        client = bed.dial(STRANGER)
        assert await client.rest() == []
        assert bed.seen(SessionRefused)[0].reason == "PROXY header: not taken from this address"


async def test_a_header_has_to_come_soon(autojump_clock):
    async with open_bed(BEHIND, spool=FakeSpool()) as bed:
        client = bed.dial(PROXY)
        await trio.sleep(1)
        assert bed.listeners.sessions[0].phase == "proxy"
        await client.send(b"PROXY ")
        assert await client.rest() == []
        assert trio.current_time() == 10
        assert bed.seen(SessionRefused)[0].reason == "PROXY header: timeout"


async def test_a_proxy_that_leaves_before_its_header(autojump_clock):
    async with open_bed(BEHIND, spool=FakeSpool()) as bed:
        client = bed.dial(PROXY)
        await client.send(b"PROX")
        await client.stream.aclose()
        await trio.sleep(1)
        assert bed.seen(SessionRefused)[0].reason in ("PROXY header: eof", "PROXY header: reset")


async def test_a_client_with_too_many_sessions_is_known_behind_the_proxy(autojump_clock):
    config = make_config(
        listener={"proxy_protocol": True},
        proxies={"proxy_protocol": NETWORKS},
        limits={"sessions_per_client": 2},
    )
    async with open_bed(config, spool=FakeSpool()) as bed:
        for _ in range(2):
            client = bed.dial(PROXY)
            await client.send(LINE)
            await client.hello()
        other = bed.dial(PROXY)
        await other.send(LINE.replace(b".77", b".78"))
        await other.hello()
        third = bed.dial(PROXY)
        await third.send(LINE)
        assert await third.rest() == ["421 mx.ours.example too many connections from your address"]
        assert bed.seen(SessionClosed)[0].cause == "limit"
        assert bed.seen(CommandRejected)[0].verb == "CONNECT"
        await client.quit()
        await trio.testing.wait_all_tasks_blocked()
        fourth = bed.dial(PROXY)
        await fourth.send(LINE)
        await fourth.hello()


async def test_behind_implicit_tls_too_many_sessions_end_without_a_word(server_tls):
    config = make_config(
        tls=ListenerTls.IMPLICIT,
        listener={"proxy_protocol": True},
        proxies={"proxy_protocol": NETWORKS},
        limits={"sessions_per_client": 1},
    )
    async with open_bed(config, tls=server_tls, spool=FakeSpool()) as bed:
        first, second = bed.dial(PROXY), bed.dial(PROXY)
        await first.send(LINE)
        await trio.testing.wait_all_tasks_blocked()
        await second.send(LINE)
        assert await second.rest() == []
        assert bed.seen(SessionClosed)[0].cause == "limit"


@pytest.mark.parametrize("together", [False, True])
async def test_implicit_tls_comes_behind_the_header(server_tls, client_tls, together: bool):
    config = make_config(
        tls=ListenerTls.IMPLICIT,
        listener={"proxy_protocol": True},
        proxies={"proxy_protocol": NETWORKS},
    )
    async with open_bed(config, tls=server_tls, spool=FakeSpool()) as bed:
        client = bed.dial(PROXY)
        if together:
            send_all = client.stream.send_all
            header = [LINE]

            async def send(data: bytes) -> None:
                await send_all((header.pop() if header else b"") + data)

            client.stream.send_all = send  # type: ignore[method-assign]
        else:
            await client.send(LINE)
        private = wrap(client, client_tls)
        await private.hello()
        assert bed.seen(SessionOpened)[0].peer == "192.0.2.77"


async def test_tls_that_ended_at_the_proxy_counts(autojump_clock):
    block = ipaddress.ip_address("192.0.2.77").packed * 2 + struct.pack("!HH", 1, 2)
    version, cipher = b"\x21\0\x07TLSv1.3", b"\x23\0\x16TLS_AES_128_GCM_SHA256"
    ssl = b"\x01\0\0\0\0" + version + cipher
    block += b"\x20" + struct.pack("!H", len(ssl)) + ssl
    header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack("!H", len(block)) + block
    async with open_bed(BEHIND, spool=FakeSpool()) as bed:
        client = bed.dial(PROXY)
        await client.send(header)
        assert "REQUIRETLS" in await client.hello()
        await client.begin()
        await client.data()
        [(_, origin, *_)] = bed.spool.stored.values()
        assert origin.protocol == "ESMTPS"
        assert (origin.tls.version, origin.tls.cipher) == ("TLSv1.3", "TLS_AES_128_GCM_SHA256")


async def test_who_talks_behind_the_header_without_waiting_is_an_early_talker(autojump_clock):
    gate = FakeGate()
    gate.refuse("early_talker", Reply.of(554, "5.5.1", "wait"))
    async with open_bed(BEHIND, spool=FakeSpool(), gate=gate) as bed:
        client = bed.dial(PROXY)
        await client.send(LINE + b"EHLO client.example\r\n")
        assert await client.reply() == "554 mx.ours.example wait"
        assert gate.asked[0] == ("connected", "192.0.2.77")


# --- XCLIENT ----------------------------------------------------------------------------------------

FILTER = "10.9.9.9"
TRUSTED = (ipaddress.ip_network("10.9.0.0/16"),)
FILTERED = make_config(proxies={"xclient": TRUSTED, "xforward": TRUSTED})


async def test_only_trusted_peers_are_offered_xclient_and_xforward(autojump_clock):
    async with open_bed(FILTERED, spool=FakeSpool()) as bed:
        client = bed.dial(FILTER)
        answer = await client.hello()
        assert "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT" in answer
        assert "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE" in answer
        client = bed.dial(FRIEND)
        assert "XCLIENT" not in await client.hello()
        assert (await client.say("XCLIENT ADDR=192.0.2.7"))[:3] in ("502", "550")
        assert (await client.say("XFORWARD ADDR=192.0.2.7"))[:3] in ("502", "550")


async def test_xclient_begins_the_session_of_another_client(autojump_clock):
    async with open_bed(FILTERED) as bed:
        client = bed.dial(FILTER)
        await client.hello()
        answer = await client.say("XCLIENT NAME=spam.example ADDR=192.0.2.7 PORT=1234 HELO=spam PROTO=ESMTP")
        assert answer == "220 mx.ours.example ESMTP elemta"
        assert (await client.say("MAIL FROM:<a@else.example>"))[:3] == "503"  # hello first
        await client.say("EHLO filter.example")
        await client.say("MAIL FROM:<a@else.example>")
        assert (await client.say("RCPT TO:<v@foreign.example>"))[:3] == "550"  # trusted no longer
        assert (await client.say("RCPT TO:<b@ours.example>"))[:3] == "250"
        await client.data()
        [(message, _)] = bed.stored()
        origin = message.origin
        assert (origin.peer, origin.port, origin.hello) == ("192.0.2.7", 1234, "spam")
        assert message.prefix.startswith(b"Received: from spam ([192.0.2.7])")
        [event] = bed.seen(SessionForwarded)
        assert (event.by, event.via, event.peer, event.port) == ("xclient", FILTER, "192.0.2.7", 1234)
        assert (event.name, event.hello) == ("spam.example", "spam")
        assert bed.listeners.sessions[0].peer == "192.0.2.7"
        assert await client.say(f"XCLIENT ADDR={FRIEND}") == "220 mx.ours.example ESMTP elemta"
        await client.say("EHLO filter.example")
        await client.begin(recipients=["v@foreign.example"])


async def test_xclient_within_a_transaction_is_out_of_sequence(autojump_clock):
    async with open_bed(FILTERED, spool=FakeSpool()) as bed:
        client = bed.dial(FILTER)
        await client.hello()
        await client.begin()
        assert (await client.say("XCLIENT ADDR=192.0.2.7"))[:3] == "503"
        assert (await client.data())[:3] == "250"


@pytest.mark.parametrize("arguments", ["ADDR=nonsense", "PORT=99999", "ADDR", "COLOUR=red", ""])
async def test_attributes_that_make_no_sense_change_nothing(autojump_clock, arguments: str):
    async with open_bed(FILTERED, spool=FakeSpool()) as bed:
        client = bed.dial(FILTER)
        await client.hello()
        assert (await client.say(f"XCLIENT {arguments}"))[:3] == "501"
        assert (await client.say("MAIL FROM:<a@else.example>"))[:3] == "250"
        assert bed.seen(SessionForwarded) == []


async def test_an_account_that_the_filter_vouches_for(autojump_clock):
    config = make_config(
        listener={"auth": ListenerAuth.REQUIRED}, proxies={"xclient": TRUSTED, "xforward": TRUSTED}
    )
    accounts = FakeAuthenticator()
    async with open_bed(config, spool=FakeSpool(), authenticator=accounts) as bed:
        client = bed.dial(FILTER)
        await client.hello()
        await client.say("XCLIENT ADDR=192.0.2.7 LOGIN=Alice@Ours.example")
        assert accounts.looked_up == ["alice@ours.example"]  # wherever it is kept, it is known from now on
        await client.say("EHLO filter.example")
        assert (await client.say("MAIL FROM:<bob@ours.example>"))[:3] == "553"
        await client.begin("alice@ours.example", ["v@foreign.example"])
        await client.data()
        [(_, origin, *_)] = bed.spool.stored.values()
        assert origin.identity.name == "alice@ours.example"
        assert origin.protocol == "ESMTPA"
        assert bed.seen(SessionAuthenticated)[0].credential == "xclient"
        await client.say("XCLIENT LOGIN=[UNAVAILABLE]")
        await client.say("EHLO filter.example")
        assert (await client.say("MAIL FROM:<alice@ours.example>"))[:3] == "530"


async def test_an_account_that_cannot_be_looked_up_is_told_to_come_again(autojump_clock):
    accounts = FakeAuthenticator(down=True)
    config = make_config(listener={"auth": ListenerAuth.REQUIRED}, proxies={"xclient": TRUSTED})
    async with open_bed(config, spool=FakeSpool(), authenticator=accounts) as bed:
        client = bed.dial(FILTER)
        await client.hello()
        assert (await client.say("XCLIENT LOGIN=alice@ours.example"))[:9] == "421 4.3.0"
        assert await client.line() == ""
        assert bed.seen(CommandRejected)[0].reason == "auth.ldap: no answer in time"


async def test_a_client_of_unknown_address_is_trusted_with_nothing(autojump_clock):
    async with open_bed(FILTERED, spool=FakeSpool()) as bed:
        client = bed.dial(FILTER)
        await client.hello()
        await client.say("XCLIENT ADDR=[UNAVAILABLE]")
        await client.say("EHLO filter.example")
        await client.say("MAIL FROM:<a@else.example>")
        assert (await client.say("RCPT TO:<v@foreign.example>"))[:3] == "550"


@pytest.mark.parametrize("peer", [FRIEND, "192.0.2.7"])
async def test_the_policy_is_asked_about_the_other_client(autojump_clock, peer: str):
    gate = FakeGate()
    gate.refuse("connected", Reply.of(554, "5.7.1", "not you"))
    async with open_bed(FILTERED, spool=FakeSpool(), gate=gate) as bed:
        client = bed.dial(FILTER)  # of a relay network, so not asked about itself
        await client.hello()
        answer = await client.say(f"XCLIENT ADDR={peer}")
        if peer == FRIEND:
            assert answer[:3] == "220"
            return
        assert answer == "421 4.7.1 mx.ours.example not you"
        assert await client.line() == ""
        assert bed.seen(CommandRejected)[0].reason == "test: connected"
        assert bed.seen(SessionClosed)[0].cause == "policy"


async def test_a_client_that_is_welcome_behind_a_filter_goes_on(autojump_clock):
    gate = FakeGate()
    async with open_bed(FILTERED, spool=FakeSpool(), gate=gate) as bed:
        client = bed.dial(FILTER)
        await client.hello()
        assert (await client.say("XCLIENT ADDR=192.0.2.7"))[:3] == "220"
        await client.say("EHLO filter.example")
        await client.begin()
        await client.data()
        await client.quit()
        assert gate.asked[0] == ("connected", "192.0.2.7")
        assert bed.seen(SessionClosed)[0].cause == "quit"


async def test_the_limits_count_the_other_client(autojump_clock):
    config = make_config(proxies={"xclient": TRUSTED}, limits={"sessions_per_client": 1})
    async with open_bed(config, spool=FakeSpool()) as bed:
        await bed.dial("192.0.2.7").hello()
        client = bed.dial(FILTER)
        await client.hello()
        assert (
            await client.say("XCLIENT ADDR=192.0.2.7")
        ) == "421 4.7.0 mx.ours.example too many connections from your address"
        assert bed.seen(SessionClosed)[0].cause == "limit"


# --- XFORWARD ---------------------------------------------------------------------------------------


async def test_xforward_is_for_the_log_only(autojump_clock):
    async with open_bed(FILTERED, spool=FakeSpool()) as bed:
        client = bed.dial(FILTER)
        await client.hello()
        assert await client.say("XFORWARD NAME=spam.example ADDR=192.0.2.7 IDENT=4F2A") == "250 2.0.0 noted"
        assert (await client.say("XFORWARD PORT=x"))[:3] == "501"
        await client.begin(recipients=["v@foreign.example"])
        await client.data()
        [(_, origin, *_)] = bed.spool.stored.values()
        assert origin.peer == FILTER
        [event] = bed.seen(SessionForwarded)
        assert (event.by, event.peer, event.name, event.ident) == (
            "xforward",
            "192.0.2.7",
            "spam.example",
            "4F2A",
        )
