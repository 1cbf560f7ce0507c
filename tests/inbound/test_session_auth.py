"""AUTH in a session (RFC 4954), and what an account may do."""

import pytest
import trio
from inbound_bed import FRIEND, STRANGER, Bed, Client, FakeSpool, make_config, open_bed
from inbound_fakes import PLAIN_ALICE, FakeAuthenticator, b64
from test_session_tls import starttls

from elemta.config import ListenerAuth, ListenerRole, ListenerTls
from elemta.events import CommandRejected, SessionAuthenticated, SessionClosed

OPTIONAL = make_config(listener={"auth": ListenerAuth.OPTIONAL})
REQUIRED = make_config(listener={"auth": ListenerAuth.REQUIRED})
SUBMISSION = make_config(role=ListenerRole.SUBMISSION, listener={"auth": ListenerAuth.REQUIRED})
FROM_ALICE = "MAIL FROM:<alice@ours.example>"


async def log_in(client: Client) -> None:
    assert await client.say(f"AUTH PLAIN {PLAIN_ALICE}") == "235 2.7.0 authentication succeeded"


async def test_an_account_may_send_anywhere_and_the_trace_tells_how_but_never_who(autojump_clock):
    async with open_bed(OPTIONAL, authenticator=FakeAuthenticator()) as bed:
        client = bed.dial()
        assert "250-AUTH PLAIN LOGIN" in await client.hello()
        await log_in(client)
        await client.begin("alice@ours.example", ["anybody@foreign.example"])
        assert (await client.data())[:3] == "250"
        [(message, _)] = bed.stored()
        assert message.origin.identity is not None
        assert message.origin.identity.name == "alice@ours.example"
        assert message.origin.protocol == "ESMTPA"  # RFC 3848
        assert b"with ESMTPA id" in message.prefix
        assert b"alice" not in message.prefix
        [event] = bed.seen(SessionAuthenticated)
        assert (event.account, event.mechanism, event.credential) == (
            "alice@ours.example",
            "PLAIN",
            "password",
        )
        assert bed.listeners.sessions[0].account == "alice@ours.example"


async def test_an_exchange_of_several_steps(autojump_clock):
    authenticator = FakeAuthenticator()
    async with open_bed(OPTIONAL, spool=FakeSpool(), authenticator=authenticator) as bed:
        client = bed.dial()
        await client.hello()
        assert await client.say("AUTH LOGIN") == f"334 {b64('Username:')}"
        assert await client.say(b64("alice@ours.example")) == f"334 {b64('Password:')}"
        assert (await client.say(b64("secret")))[:9] == "235 2.7.0"
        assert authenticator.responses == [None, b"alice@ours.example", b"secret"]


async def test_an_empty_initial_response_is_not_the_same_as_none(autojump_clock):
    authenticator = FakeAuthenticator()
    async with open_bed(OPTIONAL, spool=FakeSpool(), authenticator=authenticator) as bed:
        client = bed.dial()
        await client.hello()
        assert await client.say("AUTH PLAIN") == "334 "
        assert (await client.say(PLAIN_ALICE))[:3] == "235"
        client = bed.dial()
        await client.hello()
        assert (await client.say("AUTH PLAIN ="))[:9] == "501 5.5.2"
        assert authenticator.responses == [b""]


async def test_the_client_may_cancel(autojump_clock):
    async with open_bed(OPTIONAL, spool=FakeSpool(), authenticator=FakeAuthenticator()) as bed:
        client = bed.dial()
        await client.hello()
        await client.say("AUTH LOGIN")
        assert await client.say("*") == "501 5.7.0 authentication cancelled"  # RFC 4954 §4
        assert (await client.say("RCPT TO:<v@foreign.example>"))[:3] == "503"
        await log_in(client)


@pytest.mark.parametrize("line", ["not base64!", "a" * 13000])
async def test_a_line_that_is_no_response_ends_the_exchange(autojump_clock, line: str):
    async with open_bed(OPTIONAL, spool=FakeSpool(), authenticator=FakeAuthenticator()) as bed:
        client = bed.dial()
        await client.hello()
        await client.say("AUTH LOGIN")
        assert (await client.say(line))[:1] == "5"
        assert (await client.say("NOOP"))[:3] == "250"
        await log_in(client)


async def test_a_wrong_secret_is_refused_told_and_counted(autojump_clock):
    config = make_config(listener={"auth": ListenerAuth.OPTIONAL}, limits={"errors": 2})
    async with open_bed(config, spool=FakeSpool(), authenticator=FakeAuthenticator()) as bed:
        client = bed.dial()
        await client.hello()
        wrong = b64("\0alice\0wrong")
        for _ in range(2):
            assert await client.say(f"AUTH PLAIN {wrong}") == "535 5.7.8 authentication credentials invalid"
        assert (await client.say(f"AUTH PLAIN {wrong}"))[:9] == "421 4.7.0"
        rejected = bed.seen(CommandRejected)
        assert (rejected[0].verb, rejected[0].reason) == ("AUTH", "wrong secret (alice)")
        assert bed.seen(SessionAuthenticated) == []
        assert bed.seen(SessionClosed)[0].cause == "errors"


async def test_who_has_not_authenticated_may_still_only_send_to_us(autojump_clock):
    async with open_bed(OPTIONAL, spool=FakeSpool(), authenticator=FakeAuthenticator()) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        assert (await client.say("RCPT TO:<v@foreign.example>"))[:9] == "550 5.7.1"


@pytest.mark.parametrize("peer", [STRANGER, FRIEND])
async def test_where_it_is_required_nobody_sends_without(autojump_clock, peer: str):
    async with open_bed(REQUIRED, spool=FakeSpool(), authenticator=FakeAuthenticator()) as bed:
        client = bed.dial(peer)
        await client.hello()
        assert await client.say(FROM_ALICE) == "530 5.7.0 authentication required"  # RFC 4954 §6
        for line in ("NOOP", "RSET", "EHLO again.example"):
            assert (await client.say(line))[:3] == "250"
        await log_in(client)
        await client.begin("alice@ours.example")


async def test_a_second_auth_and_one_within_a_transaction_are_out_of_sequence(autojump_clock):
    async with open_bed(OPTIONAL, spool=FakeSpool(), authenticator=FakeAuthenticator()) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        assert (await client.say(f"AUTH PLAIN {PLAIN_ALICE}"))[:9] == "503 5.5.1"  # RFC 4954 §4
        await client.say("RSET")
        await log_in(client)
        assert (await client.say(f"AUTH PLAIN {PLAIN_ALICE}"))[:9] == "503 5.5.1"
        assert "AUTH PLAIN" in await client.say("EHLO again.example")
        assert (await client.say(f"{FROM_ALICE} AUTH=<>"))[:3] == "250"


async def test_auth_as_of_a_message_is_a_claim_that_changes_nothing(autojump_clock):
    async with open_bed(OPTIONAL, spool=FakeSpool(), authenticator=FakeAuthenticator()) as bed:
        client = bed.dial()
        await client.hello()
        assert (await client.say(f"{FROM_ALICE} AUTH=alice@ours.example"))[:3] == "250"  # RFC 4954 §5
        assert (await client.say("RCPT TO:<v@foreign.example>"))[:9] == "550 5.7.1"


async def test_an_account_sends_in_its_own_name_only(autojump_clock):
    async with open_bed(SUBMISSION, spool=FakeSpool(), authenticator=FakeAuthenticator()) as bed:
        client = bed.dial()
        await client.hello()
        await log_in(client)
        assert (await client.say("MAIL FROM:<bob@ours.example>"))[:9] == "553 5.7.1"
        assert (await client.say("MAIL FROM:<>"))[:3] == "250"
        await client.say("RSET")
        await client.begin("alice@ours.example", ["anybody@foreign.example"])
        assert (await client.data())[:3] == "250"


async def test_without_tls_it_is_said_that_tls_comes_first(server_tls, client_tls):
    config = make_config(
        role=ListenerRole.SUBMISSION, tls=ListenerTls.STARTTLS, listener={"auth": ListenerAuth.REQUIRED}
    )
    authenticator = FakeAuthenticator(in_clear=())
    async with open_bed(config, spool=FakeSpool(), tls=server_tls, authenticator=authenticator) as bed:
        client = bed.dial()
        assert "AUTH" not in await client.hello()
        assert (await client.say(FROM_ALICE)) == "530 5.7.0 must issue STARTTLS first"  # RFC 3207 §4
        assert (await client.say(f"AUTH PLAIN {PLAIN_ALICE}"))[:10] == "538 5.7.11"
        assert authenticator.clients == []
        client = await starttls(bed, client_tls)
        assert "AUTH PLAIN LOGIN" in await client.say("EHLO client.example")
        await log_in(client)
        assert authenticator.clients[0].tls
        await client.begin("alice@ours.example", ["anybody@foreign.example"])
        assert (await client.data())[:3] == "250"
        [(_, origin, *_)] = bed.spool.stored.values()
        assert origin.protocol == "ESMTPSA"  # RFC 3848


async def test_a_mechanism_that_needs_tls_says_so_where_another_does_not(server_tls):
    config = make_config(
        role=ListenerRole.SUBMISSION, tls=ListenerTls.STARTTLS, listener={"auth": ListenerAuth.OPTIONAL}
    )
    authenticator = FakeAuthenticator(in_clear=("SCRAM-SHA-256",), under_tls=("SCRAM-SHA-256", "PLAIN"))
    async with open_bed(config, spool=FakeSpool(), tls=server_tls, authenticator=authenticator) as bed:
        client = bed.dial()
        assert "250-AUTH SCRAM-SHA-256" in await client.hello()
        assert (await client.say(f"AUTH PLAIN {PLAIN_ALICE}"))[:10] == "538 5.7.11"  # RFC 4954 §6
        assert (await client.say("AUTH GSSAPI"))[:9] == "504 5.5.4"  # RFC 4954 §4
        assert authenticator.clients == []


async def test_tls_makes_forget_who_has_authenticated(server_tls, client_tls):
    config = make_config(tls=ListenerTls.STARTTLS, listener={"auth": ListenerAuth.REQUIRED})
    async with open_bed(config, spool=FakeSpool(), tls=server_tls, authenticator=FakeAuthenticator()) as bed:
        client = bed.dial()
        await client.hello()
        await log_in(client)
        assert (await client.say("STARTTLS"))[:3] == "220"
        from test_session_tls import wrap

        client = wrap(client, client_tls)
        await client.say("EHLO client.example")
        assert (await client.say(FROM_ALICE))[:3] == "530"
        await log_in(client)


async def test_accounts_have_smtputf8_and_lmtp_variants_of_the_protocol(autojump_clock):
    async with open_bed(OPTIONAL, spool=FakeSpool(), authenticator=FakeAuthenticator()) as bed:
        client = bed.dial()
        await client.hello()
        await log_in(client)
        assert (await client.say(f"{FROM_ALICE} SMTPUTF8"))[:3] == "250"
        assert (await client.say("RCPT TO:<ö@ours.example>"))[:3] == "250"
        await client.data()
        [(_, origin, *_)] = bed.spool.stored.values()
        assert origin.protocol == "UTF8SMTPA"  # RFC 6531 §4.3


async def test_the_client_that_takes_its_time_meets_the_command_timeout(autojump_clock):
    async with open_bed(OPTIONAL, spool=FakeSpool(), authenticator=FakeAuthenticator()) as bed:
        client = bed.dial()
        await client.hello()
        await client.say("AUTH LOGIN")
        begun = trio.current_time()
        assert (await client.reply())[:9] == "421 4.4.2"
        assert trio.current_time() - begun == pytest.approx(300)
        assert bed.seen(SessionClosed)[0].cause == "timeout"


async def test_a_check_that_hangs_has_an_end(autojump_clock):
    async with open_bed(OPTIONAL, spool=FakeSpool(), authenticator=FakeAuthenticator(seconds=1000)) as bed:
        client = bed.dial()
        await client.hello()
        begun = trio.current_time()
        assert (await client.say(f"AUTH PLAIN {PLAIN_ALICE}"))[:9] == "421 4.4.2"
        assert trio.current_time() - begun == pytest.approx(60)


async def phase_of(bed: Bed) -> str:
    await trio.testing.wait_all_tasks_blocked()
    return bed.listeners.sessions[0].phase


async def test_a_check_is_a_phase_of_its_own_and_a_drain_waits_for_it(autojump_clock):
    async with open_bed(OPTIONAL, spool=FakeSpool(), authenticator=FakeAuthenticator(seconds=5)) as bed:
        client = bed.dial()
        await client.hello()
        await client.send(f"AUTH PLAIN {PLAIN_ALICE}\r\n".encode())
        assert await phase_of(bed) == "auth"
        bed.drain.begin("test", 25, 5)
        assert (await client.reply())[:3] == "235"
        assert (await client.reply())[:9] == "421 4.3.2"


async def test_without_auth_on_the_listener_there_is_none(autojump_clock):
    async with open_bed(spool=FakeSpool(), authenticator=FakeAuthenticator()) as bed:
        client = bed.dial()
        assert "AUTH" not in await client.hello()
        assert (await client.say(f"AUTH PLAIN {PLAIN_ALICE}"))[:9] == "502 5.5.1"
