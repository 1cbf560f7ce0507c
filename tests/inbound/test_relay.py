"""Never an open relay: the 26 variants of RELIABILITY 6.5, and the table of who may send where."""

import ipaddress

import attrs
import pytest
from inbound_bed import FRIEND, STRANGER, FakeSpool, make_config, open_bed
from inbound_fakes import PLAIN_ALICE, FakeAuthenticator, b64

from elemta.config import (
    DomainPattern,
    DomainsConfig,
    ListenerAuth,
    ListenerRole,
    RouteConfig,
    RoutePattern,
    TransportKind,
)
from elemta.inbound import is_trusted, may_relay, may_send
from elemta.inbound.relay import is_incomplete, is_loopback
from elemta.mail import Domain, ForwardPath, parse_domain, parse_forward_path, replies
from elemta.routing import Router

OURS, IP, V = "ours.example", "192.0.2.1", "victim@ext.test"

REFUSED = [
    # number, MAIL FROM, RCPT TO
    (1, "<>", f"<{V}>"),
    (2, "<a@ext2.test>", f"<{V}>"),
    (3, f"<user@{OURS}>", f"<{V}>"),
    (4, f"<user@mx.{OURS}>", f"<{V}>"),
    (5, f"<user@[{IP}]>", f"<{V}>"),
    (6, "<user>", f"<{V}>"),
    (8, "<a@ext2.test>", f"<victim%ext.test@[{IP}]>"),
    (9, "<a@ext2.test>", '<"victim@ext.test">'),
    (10, "<a@ext2.test>", '<"victim%ext.test">'),
    (12, "<a@ext2.test>", f'<"victim@ext.test"@[{IP}]>'),
    (13, "<a@ext2.test>", f"<victim@ext.test@{OURS}>"),
    (14, "<a@ext2.test>", f"<victim@ext.test@[{IP}]>"),
    (15, "<a@ext2.test>", f"<@{OURS}:{V}>"),
    (16, "<a@ext2.test>", f"<@[{IP}]:{V}>"),
    (17, "<a@ext2.test>", f"<@mx.{OURS},@ext3.test:{V}>"),
    (18, "<a@ext2.test>", "<ext.test!victim>"),
    (20, "<a@ext2.test>", f"<ext.test!victim@[{IP}]>"),
    (21, "<a@ext2.test>", "<victim@ext.test.>"),
    (21, "<a@ext2.test>", f"<victim@{OURS}.ext.test>"),
    (21, "<a@ext2.test>", f"<victim@not{OURS}>"),
    (21, "<a@ext2.test>", f"<victim@x.{OURS}>"),
    (22, "<a@ext2.test>", "<victim@[127.0.0.1]>"),
    (22, "<a@ext2.test>", "<victim@[IPv6:::1]>"),
    (22, "<a@ext2.test>", "<victim@localhost>"),
    (23, "<a@ext2.test>", f"<victim@ext.test\0@{OURS}>"),
    (23, "<a@ext2.test>", f"<victim@ext.test\n@{OURS}>"),
    (23, "<a@ext2.test>", f"<victim@ext.test\r@{OURS}>"),
    (24, "<a@ext2.test> SMTPUTF8", "<victim@ext。test>"),
    (24, "<a@ext2.test> SMTPUTF8", f"<victim＠ext.test@{OURS}.ext.test>"),
    (24, "<a@ext2.test> SMTPUTF8", "<victim@bac\N{KELVIN SIGN}up.example>"),
    (26, f"<a@ext2.test> AUTH=<user@{OURS}>", f"<{V}>"),
    (26, f"<a@ext2.test> XAUTH=user@{OURS}", f"<{V}>"),
]
LITERAL = [
    # Accepted as a literal local part at our own domain, which is for its delivery to refuse
    (7, f"<victim%ext.test@{OURS}>", "victim%ext.test"),
    (11, f'<"victim@ext.test"@{OURS}>', "victim@ext.test"),
    (19, f"<ext.test!victim@{OURS}>", "ext.test!victim"),
]


@pytest.mark.parametrize(("number", "sender", "recipient"), REFUSED)
async def test_a_stranger_cannot_relay(autojump_clock, number: int, sender: str, recipient: str):
    async with open_bed(spool=FakeSpool()) as bed:
        client = bed.dial(STRANGER)
        await client.hello()
        await client.send(f"MAIL FROM:{sender}\r\n".encode())
        await client.reply()
        await client.send(f"RCPT TO:{recipient}\r\n".encode())
        assert (await client.reply())[0] == "5"
        await client.send(b"DATA\r\n")
        assert (await client.reply())[0] == "5"


SERVERS = [
    (ListenerRole.MX, ListenerAuth.OPTIONAL),
    (ListenerRole.MX, ListenerAuth.REQUIRED),
    (ListenerRole.SUBMISSION, ListenerAuth.OFF),
    (ListenerRole.SUBMISSION, ListenerAuth.OPTIONAL),
    (ListenerRole.SUBMISSION, ListenerAuth.REQUIRED),
    (ListenerRole.LMTP, ListenerAuth.OFF),
]


@pytest.mark.parametrize(("role", "auth"), SERVERS)
async def test_nor_on_listeners_of_other_roles_with_or_without_accounts(
    autojump_clock, role: ListenerRole, auth: ListenerAuth
):
    """Each variant in a session of its own, once as it comes and once after a login that failed."""
    config = make_config(role=role, listener={"auth": auth}, limits={"errors": 100, "error_delay": 0})
    authenticator = None if auth is ListenerAuth.OFF else FakeAuthenticator()
    literal = [(number, "<a@ext2.test>", recipient) for number, recipient, _ in LITERAL]
    variants = REFUSED if role is not ListenerRole.SUBMISSION else REFUSED + literal
    async with open_bed(config, spool=FakeSpool(), authenticator=authenticator) as bed:
        for number, sender, recipient in variants:
            for login in (False, True):
                client = bed.dial(STRANGER)
                await client.hello("LHLO" if role is ListenerRole.LMTP else "EHLO")
                if login:
                    assert (await client.say(f"AUTH PLAIN {b64(chr(0) + 'user' + chr(0) + 'wrong')}"))[
                        0
                    ] == "5"
                for line in (f"MAIL FROM:{sender}", f"RCPT TO:{recipient}"):
                    await client.send(f"{line}\r\n".encode())
                    said = await client.reply()
                assert said[0] == "5", (number, said)
                assert (await client.say("DATA"))[0] == "5"
                await client.quit()
        assert not bed.spool.stored


@pytest.mark.parametrize(("number", "recipient", "local_part"), LITERAL)
async def test_what_looks_like_a_route_is_a_name_at_our_domain(
    autojump_clock, number: int, recipient: str, local_part: str
):
    async with open_bed(spool=FakeSpool()) as bed:
        client = bed.dial(STRANGER)
        await client.hello()
        await client.say("MAIL FROM:<a@ext2.test>")
        assert (await client.say(f"RCPT TO:{recipient}"))[:3] == "250"
        await client.data()
        [(envelope, *_)] = bed.spool.stored.values()
        [kept] = envelope.recipients
        assert (kept.mailbox.local_part, kept.mailbox.domain) == (local_part, Domain(OURS))


@pytest.mark.parametrize("hello", ["mx.ours.example", "localhost", "[127.0.0.1]", "[10.0.0.1]"])
async def test_25_a_hello_with_our_own_name_gives_nothing(autojump_clock, hello: str):
    async with open_bed(spool=FakeSpool()) as bed:
        client = bed.dial(STRANGER)
        await client.reply()
        await client.say(f"EHLO {hello}")
        await client.say("MAIL FROM:<a@ours.example>")
        assert await client.say(f"RCPT TO:<{V}>") == "550 5.7.1 relaying denied"


@pytest.mark.parametrize(
    "line",
    ["XCLIENT ADDR=10.0.0.1", "XFORWARD ADDR=10.0.0.1", "PROXY TCP4 10.0.0.1 10.0.0.2 1 25", "XAUTH user"],
)
async def test_26_what_a_client_says_of_its_address_gives_nothing(autojump_clock, line: str):
    async with open_bed(spool=FakeSpool()) as bed:
        client = bed.dial(STRANGER)
        await client.hello()
        assert (await client.say(line))[0] == "5"
        await client.say("MAIL FROM:<a@ours.example>")
        assert await client.say(f"RCPT TO:<{V}>") == "550 5.7.1 relaying denied"


@pytest.mark.parametrize("variant", REFUSED[:5])
async def test_a_trusted_network_may_send_anywhere(autojump_clock, variant: tuple[int, str, str]):
    _, sender, recipient = variant
    async with open_bed(spool=FakeSpool()) as bed:
        client = bed.dial(FRIEND)
        await client.hello()
        await client.say(f"MAIL FROM:{sender}")
        assert (await client.say(f"RCPT TO:{recipient}"))[:3] == "250"


NETWORKS = tuple(
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "fd00::/8", "::ffff:198.51.100.0/120", "2001:db8::/120")
)


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("::FFFF:0a01:0203", True),
        ("11.0.0.1", False),
        ("::ffff:11.0.0.1", False),
        ("fd00::1", True),
        ("fd00::1%eth0", True),
        ("fe00::1", False),
        ("198.51.100.7", True),
        ("198.51.101.7", False),
        ("::10.1.2.3", False),
        ("64:ff9b::10.1.2.3", False),
        ("2001:db8::7", True),
        ("2001:db8::1:7", False),
        ("unix", False),
        ("", False),
        ("10.1.2.3.4", False),
        ("010.1.2.3", False),
    ],
)
def test_who_is_in_a_trusted_network(peer: str, trusted: bool):
    assert is_trusted(peer, NETWORKS) is trusted
    assert not is_trusted(peer, ())


@pytest.fixture
def router() -> Router:
    config = make_config()
    inner = RouteConfig(
        RoutePattern(domain=DomainPattern(Domain("inner.example"))), TransportKind.SMTP, host="10.9.9.9"
    )
    return Router(
        attrs.evolve(
            config,
            domains=DomainsConfig(
                local=(*config.domains.local, Domain("inner.example")), relay=config.domains.relay
            ),
            routes=(*config.routes, inner),
        )
    )


DENIED, NOT_OURS, AUTH, OK = (
    replies.RELAY_DENIED,
    replies.DOMAIN_NOT_OURS,
    replies.AUTH_REQUIRED,
    replies.RECIPIENT_OK,
)


@pytest.mark.parametrize(
    ("role", "trusted", "path", "reply"),
    [
        (ListenerRole.MX, False, "<a@ours.example>", OK),
        (ListenerRole.MX, False, "<a@backup.example>", OK),
        (ListenerRole.MX, False, "<a@foreign.example>", DENIED),
        (ListenerRole.MX, True, "<a@foreign.example>", OK),
        (ListenerRole.SUBMISSION, False, "<a@ours.example>", AUTH),
        (ListenerRole.SUBMISSION, False, "<a@foreign.example>", AUTH),
        (ListenerRole.SUBMISSION, True, "<a@foreign.example>", OK),
        (ListenerRole.LMTP, False, "<a@ours.example>", OK),
        (ListenerRole.LMTP, False, "<a@backup.example>", NOT_OURS),
        (ListenerRole.LMTP, False, "<a@foreign.example>", NOT_OURS),
        (ListenerRole.LMTP, True, "<a@foreign.example>", OK),
        # A next hop that trusts us must not be made a relay through us
        (ListenerRole.MX, False, "<a%ext.test@backup.example>", DENIED),
        (ListenerRole.MX, False, "<ext.test!a@inner.example>", DENIED),
        (ListenerRole.MX, False, '<"a@ext.test"@inner.example>', DENIED),
        (ListenerRole.MX, False, "<a@inner.example>", OK),
        (ListenerRole.MX, True, "<a%ext.test@inner.example>", OK),
        (ListenerRole.MX, False, "<postmaster>", OK),
        (ListenerRole.LMTP, False, "<postmaster>", OK),
        (ListenerRole.MX, False, "<Postmaster@mx.ours.example>", OK),
    ],
)
def test_who_may_send_where(router: Router, role: ListenerRole, trusted: bool, path: str, reply: object):
    forward_path = parse_forward_path(path)
    decision = may_relay(router, forward_path, trusted=trusted, role=role)
    assert decision.reply == reply
    assert decision.accepted is (reply is OK)
    assert (decision.mailbox is None) is not decision.accepted


def test_the_bare_postmaster_is_always_taken(router: Router):
    decision = may_relay(router, ForwardPath(None), trusted=False, role=ListenerRole.SUBMISSION)
    assert decision.mailbox == router.postmaster


def test_only_strangers_at_submission_may_not_begin():
    assert [may_send(trusted=trusted, role=role) for role in ListenerRole for trusted in (False, True)] == [
        None,
        None,
        AUTH,
        None,
        None,
        None,
    ]
    required = ListenerAuth.REQUIRED
    assert may_send(trusted=False, role=ListenerRole.MX, auth=required) == AUTH
    assert may_send(trusted=True, role=ListenerRole.MX, auth=required) == AUTH  # an address is no account
    for role in ListenerRole:
        assert may_send(trusted=False, authenticated=True, role=role, auth=required) is None


@pytest.mark.parametrize(
    ("address", "incomplete"),
    [
        ("<a@sales>", True),
        ("<a@sales.example>", False),
        ("<a@[192.0.2.9]>", False),
        ("<a@ours.example>", False),
    ],
)
def test_a_domain_of_one_label_that_is_none_of_ours_is_incomplete(
    router: Router, address: str, incomplete: bool
):
    # RFC 6409 §4.2
    mailbox = parse_forward_path(address).mailbox
    assert mailbox is not None
    assert is_incomplete(mailbox, router) is incomplete


def test_loopback():
    assert [is_loopback(peer) for peer in ("127.1.2.3", "::1", "::ffff:127.0.0.1")] == [True] * 3
    assert not any(is_loopback(peer) for peer in ("192.0.2.1", "fe80::1%lo", "unix", "unknown"))


HIDDEN = [
    f"<victim%ext.test@{OURS}>",
    f"<victim%ext.test@[{IP}]>",
    '<"victim%ext.test">',
    f'<"victim@ext.test"@{OURS}>',
    f"<victim@ext.test@{OURS}>",
    "<ext.test!victim>",
    f"<ext.test!victim@{OURS}>",
    f"<victim@ext.test\0@{OURS}>",
]


@pytest.mark.parametrize("role", [ListenerRole.MX, ListenerRole.SUBMISSION])
@pytest.mark.parametrize("recipient", HIDDEN)
async def test_nor_does_a_login_open_a_way_that_is_hidden_in_a_name(
    autojump_clock, role: ListenerRole, recipient: str
):
    config = make_config(role=role, listener={"auth": ListenerAuth.OPTIONAL})
    async with open_bed(config, spool=FakeSpool(), authenticator=FakeAuthenticator()) as bed:
        client = bed.dial(STRANGER)
        await client.hello()
        assert (await client.say(f"AUTH PLAIN {PLAIN_ALICE}"))[:3] == "235"
        await client.say(f"MAIL FROM:<alice@{OURS}>")
        await client.send(f"RCPT TO:{recipient}\r\n".encode())
        if (await client.reply())[0] == "2":
            await client.data()
        for envelope, *_ in bed.spool.stored.values():
            [kept] = envelope.recipients  # as it was named: nothing in front of the sign becomes an address
            assert kept.mailbox.domain in (Domain(OURS), parse_domain(f"[{IP}]"))


@pytest.mark.parametrize(("number", "sender", "recipient"), REFUSED[1:5])
async def test_an_account_is_no_relay_for_other_senders(
    autojump_clock, number: int, sender: str, recipient: str
):
    config = make_config(role=ListenerRole.SUBMISSION, listener={"auth": ListenerAuth.REQUIRED})
    async with open_bed(config, spool=FakeSpool(), authenticator=FakeAuthenticator()) as bed:
        client = bed.dial(STRANGER)
        await client.hello()
        await client.say(f"AUTH PLAIN {PLAIN_ALICE}")
        said = [await client.say(f"MAIL FROM:{sender}"), await client.say(f"RCPT TO:{recipient}")]
        assert said[-1][0] == "5", number


@pytest.mark.parametrize(
    "line", ["ETRN ext.test", "TURN", "ATRN ext.test", "SEND FROM:<a@b.test>", "SOML FROM:<a@b.test>"]
)
async def test_nobody_fetches_the_mail_of_others(autojump_clock, line: str):
    async with open_bed(spool=FakeSpool()) as bed:
        for peer in (STRANGER, FRIEND):
            client = bed.dial(peer)
            await client.hello()
            assert (await client.say(line))[:3] in ("500", "502")
