"""Rates per address, network, account and role; bounded memory; who is counted by what."""

import sys
from collections import OrderedDict
from random import Random

import attrs
import pytest
import trio
from policy_bed import bed, client, config, mailbox, path

from elemta.config import ConfigError, ListenerRole
from elemta.mail import Identity
from elemta.policy import Breaker, Gate
from elemta.runtime.limits import _Bucket

ALICE = Identity("alice", "PLAIN")


def rate(count="connections", limit="3/1m", per="address", more=""):
    return f'[[policy.rates]]\ncount = "{count}"\nlimit = "{limit}"\nper = "{per}"\n{more}\n'


async def connects(gates, *peers, **fields):
    """For each peer, whether it may connect."""
    return [await gates.gate.connected(client(peer, **fields)) is None for peer in peers]


async def test_as_it_is_configured_by_default_there_are_none():
    gates = bed()
    assert all(await connects(gates, *["192.0.2.7"] * 200))
    assert gates.gate.statistics().rates == ()


async def test_connections_of_an_address_above_the_rate_are_refused_until_time_has_passed():
    gates = bed(rate())
    assert await connects(gates, *["192.0.2.7"] * 4) == [True, True, True, False]
    refusal = await gates.gate.connected(client())
    # RFC 5321 §3.8: 421 in place of the greeting
    assert str(refusal.reply) == "421 4.7.0 too many connections from you in a short time, try again later"
    assert refusal.reason == "rates: more than connections per address: 3/1m"
    gates.clock.now += 20
    assert await connects(gates, *["192.0.2.7"] * 2) == [True, False]
    assert await connects(gates, "192.0.2.8") == [True]


async def test_a_flood_of_one_address_leaves_others_alone():
    gates = bed(rate())
    await connects(gates, *["192.0.2.7"] * 100)
    assert await connects(gates, "192.0.2.8", "2001:db8::1") == [True, True]


async def test_a_burst_may_be_other_than_the_count():
    gates = bed(rate(more="burst = 1"))
    assert await connects(gates, *["192.0.2.7"] * 2) == [True, False]


@pytest.mark.parametrize(
    ("peers", "more"),
    [
        (["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"], ""),
        (["::ffff:192.0.2.1", "192.0.2.2", "::ffff:192.0.2.3", "192.0.2.4"], ""),
        (["2001:db8::1", "2001:db8::2", "2001:db8::ffff:3", "2001:db8::4"], ""),
        (["2001:db8:0:1::", "2001:db8:0:2::", "2001:db8:0:3::", "2001:db8::4"], "ipv6_network = 48"),
        (["192.0.1.1", "192.0.2.2", "192.0.3.3", "192.0.4.4"], "ipv4_network = 16"),
    ],
)
async def test_a_network_shares_its_rate(peers, more):
    gates = bed(f"[policy]\n{more}\n" + rate(per="network"))
    assert await connects(gates, *peers) == [True, True, True, False]


async def test_a_role_shares_its_rate():
    gates = bed(rate(per="role"))
    assert await connects(gates, "192.0.2.1", "192.0.3.1", "192.0.4.1", "192.0.5.1") == [
        True,
        True,
        True,
        False,
    ]
    assert await connects(gates, "192.0.2.1", role=ListenerRole.SUBMISSION) == [True]


async def test_a_rate_may_be_for_one_role_only():
    gates = bed(rate(more='role = "submission"'))
    assert all(await connects(gates, *["192.0.2.7"] * 10))
    assert await connects(gates, *["192.0.2.7"] * 4, role=ListenerRole.SUBMISSION) == [
        True,
        True,
        True,
        False,
    ]
    assert gates.gate.statistics().rates[0].name == "connections per address: 3/1m (submission)"


async def test_all_rates_must_be_kept_and_a_refusal_counts_for_none():
    gates = bed(rate(limit="2/1m") + rate(limit="4/1h", per="network"))
    assert await connects(gates, *["192.0.2.7"] * 5) == [True, True, False, False, False]
    # the network has two of its four left, whatever was refused
    assert await connects(gates, *["192.0.2.8"] * 3) == [True, True, False]
    assert await connects(gates, "192.0.2.9") == [False]


async def test_messages_and_recipients_have_rates_of_their_own():
    gates = bed(rate("messages", "2/1m") + rate("recipients", "3/1m"))
    dossier = client()
    assert await gates.send(dossier) is None
    assert await gates.gate.sender(dossier, path()) is None
    refusal = await gates.gate.sender(dossier, path())
    assert str(refusal.reply).startswith("450 4.7.0 too much mail ")
    assert [await gates.gate.recipient(dossier, path(), mailbox()) for _ in range(2)] == [None, None]
    refusal = await gates.gate.recipient(dossier, path(), mailbox())
    assert str(refusal.reply).startswith("450 4.7.0 too many recipients ")
    refusal = await gates.gate.recipient(dossier, path(), None)  # for the postmaster, too
    assert refusal is not None
    assert gates.gate.statistics().refused == {"rates": 3}
    assert dossier.notes["rates"].startswith("more than recipients per address")


async def test_an_account_is_counted_wherever_it_comes_from():
    gates = bed(rate("messages", per="account"))
    for number in range(3):
        dossier = client(f"192.0.{number}.1", identity=ALICE, role=ListenerRole.SUBMISSION)
        assert await gates.gate.sender(dossier, path()) is None
    dossier = client("198.51.100.1", identity=ALICE, role=ListenerRole.SUBMISSION)
    assert await gates.gate.sender(dossier, path()) is not None
    dossier.identity = Identity("bob", "PLAIN")
    assert await gates.gate.sender(dossier, path()) is None
    assert all([await gates.gate.sender(client(), path()) is None for _ in range(10)])


@pytest.mark.parametrize("per", ["address", "network"])
async def test_the_authenticated_are_not_counted_by_where_they_are(per):
    gates = bed(rate("messages", per=per))
    dossier = client(identity=ALICE)
    assert all([await gates.gate.sender(dossier, path()) is None for _ in range(10)])
    gates = bed(rate("messages", per="role"))
    assert not all([await gates.gate.sender(dossier, path()) is None for _ in range(10)])


async def test_who_is_exempt_from_all_of_them():
    text = '[policy]\nexempt = ["198.51.100.0/24"]\n' + rate() + rate(per="role")
    gates = bed(text)
    assert all(await connects(gates, *["192.0.2.7"] * 10, trusted=True))
    assert all(await connects(gates, *["198.51.100.7"] * 10))
    assert all(await connects(gates, *["local"] * 10))


async def test_memory_is_bounded_however_many_come():
    gates = bed("[policy]\nrate_keys = 100\n" + rate(per="network"))
    for number in range(3000):
        await gates.gate.connected(client(f"2001:db8:{number:x}::1"))
    (found,) = gates.gate.statistics().rates
    assert found.limiter.keys == 100
    assert found.limiter.forgotten == 2900


def test_a_key_takes_about_what_the_configuration_says():
    kept = OrderedDict()
    for number in range(1000):
        kept[f"2001:db8:{number:x}::/64"] = _Bucket(float(number), float(number) + 0.5)
    each = sys.getsizeof(kept) / 1000 + sum(
        sys.getsizeof(part) for part in ("2001:db8:1234::/64", _Bucket(1.0, 2.0), 1.0, 2.0)
    )
    assert each < 350


async def test_a_reload_keeps_the_counts_of_rates_that_stay():
    gates = bed(rate())
    await connects(gates, *["192.0.2.7"] * 3)
    gates.gate.replace(config(rate() + rate(limit="100/1h", per="network")))
    assert await connects(gates, "192.0.2.7") == [False]
    gates.gate.replace(config(rate(limit="5/1m")))
    assert await connects(gates, "192.0.2.7") == [True]
    gates.gate.replace(config("[policy]\nipv4_network = 16\n" + rate(limit="5/1m")))
    assert await connects(gates, *["192.0.2.7"] * 6) == [True] * 5 + [False]


async def test_a_refused_connection_asks_dns_nothing():
    gates = bed(rate() + '[policy.reverse_dns]\naction = "note"\n')
    await connects(gates, *["192.0.2.7"] * 3)
    asked = len(gates.resolver.queries)
    assert await connects(gates, "192.0.2.7") == [False]
    assert len(gates.resolver.queries) == asked


# --- by the addresses of the mail, and by its route ----------------------------------------------------------------


async def asks(gates, dossier, sender="<s@sender.example>", *recipients, route="smtp:example.org"):
    """For each recipient, whether it may be one; None where MAIL is refused."""
    if await gates.gate.sender(dossier, path(sender)) is not None:
        return None
    answers = [await gates.gate.recipient(dossier, path(sender), mailbox(each), route) for each in recipients]
    return [answer is None for answer in answers]


async def test_a_sender_shares_its_rate_wherever_it_comes_from():
    gates = bed(rate("messages", "2/1m", per="sender"))
    assert await asks(gates, client("192.0.2.1"), "<a@sender.example>") == []
    assert await asks(gates, client("192.0.2.2"), "<A@Sender.example>") == []
    assert await asks(gates, client("192.0.2.3"), "<a@sender.example>") is None
    assert await asks(gates, client("192.0.2.3"), "<b@sender.example>") == []


async def test_notices_have_no_sender_that_is_counted():
    gates = bed(rate("messages", "1/1m", per="sender"))
    assert [await asks(gates, client(), "<>") for _ in range(3)] == [[], [], []]


async def test_a_recipient_a_domain_and_a_route_have_rates():
    gates = bed(rate("recipients", "1/1m", per="recipient"))
    to = ("a@example.org", "A@example.org", "b@example.org")
    assert await asks(gates, client(), "<s@sender.example>", *to) == [True, False, True]
    gates = bed(rate("recipients", "2/1m", per="domain"))
    to = ("a@example.org", "b@EXAMPLE.org", "c@example.org", "d@else.example")
    assert await asks(gates, client(), "<s@sender.example>", *to) == [True, True, False, True]
    gates = bed(rate("recipients", "2/1m", per="route"))
    assert gates.gate.by_route
    to = ("a@one.example", "b@two.example", "c@three.example")
    assert await asks(gates, client(), "<s@sender.example>", *to, route="smtp:[hub]:25") == [
        True,
        True,
        False,
    ]
    assert await asks(gates, client(), "<s@sender.example>", to[0], route="lmtp:[hub]:24") == [True]
    assert not bed().gate.by_route


@pytest.mark.parametrize(
    ("count", "per", "said"),
    [
        ("messages", "recipient", "messages have no recipient"),
        ("connections", "route", "connections have no route"),
        ("messages", "domain", "messages have no domain"),
        ("connections", "sender", "its sender is not known"),
    ],
)
def test_a_rate_that_could_count_nothing_is_a_mistake(count, per, said):
    with pytest.raises(ConfigError, match=said):
        config(rate(count, per=per))


# --- relay networks -----------------------------------------------------------------------------------------------

RELAY = '[relay]\nnetworks = ["10.0.0.0/8"]\n'
HOST = "10.1.2.3"


async def test_trusted_clients_have_rates_of_their_own():
    gates = bed(RELAY + rate(limit="1/1m") + rate(limit="2/1m", more="trusted = true"))
    assert await connects(gates, *[HOST] * 4, trusted=True) == [True, True, False, False]
    assert await connects(gates, "10.9.9.9", trusted=True) == [True]
    assert await connects(gates, *["192.0.2.7"] * 2) == [True, False]
    assert [each.name for each in gates.gate.statistics().rates] == [
        "connections per address: 1/1m",
        "connections per address: 2/1m (trusted)",
    ]


async def test_a_trusted_client_that_logs_in_is_counted_where_it_is():
    gates = bed(RELAY + rate("messages", "1/1m", more="trusted = true"))
    dossier = client(HOST, trusted=True, identity=ALICE)
    assert await asks(gates, dossier) == []
    assert await asks(gates, dossier) is None


def test_a_rate_for_trusted_clients_needs_some():
    with pytest.raises(ConfigError, match="there are none"):
        config(rate(more="trusted = true"))


async def test_an_address_that_may_relay_has_a_quota():
    gates = bed(RELAY + "[policy.relay_quota]\nhourly_messages = 2\ndaily_recipients = 3\n")
    dossier = client(HOST, trusted=True)
    to = ("a@example.org", "b@example.org", "c@example.org", "d@example.org")
    assert await asks(gates, dossier, "<s@sender.example>", *to) == [True, True, True, False]
    assert await asks(gates, dossier) == []
    assert await asks(gates, dossier) is None
    assert dossier.notes["quota"] == "messages of this hour used up, 60 minutes left"
    assert await asks(gates, client("10.9.9.9", trusted=True)) == []
    assert [await asks(gates, client()) for _ in range(5)] == [[]] * 5
    assert [await asks(gates, client(HOST, trusted=True, identity=ALICE)) for _ in range(5)] == [[]] * 5


async def test_the_breaker_watches_an_address_that_may_relay_if_it_is_told_to():
    text = '[policy.breaker]\naction = "hold"\nrecipients = 10\n'
    for trusted in (True, False):
        settings = config(RELAY + text + f"trusted = {str(trusted).lower()}\n")
        gates, told = bed(), []
        breaker = Breaker(
            settings.policy.breaker,
            gates.memo,
            gates.clock,
            None,
            lambda account, _, told=told: told.append(account),
        )
        gate = Gate(settings, gates.resolver, gates.clock, Random(1), gates.memo, breaker)
        dossier = client(HOST, trusted=True)
        assert await gate.sender(dossier, path()) is None
        held = gate.hold(dossier, "m1", 11)
        assert (held is not None) is trusted
        assert told == ([f"[{HOST}]"] if trusted else [])
        if trusted:
            assert str(held).startswith(f"account [{HOST}]: 11 recipients")
        assert gate.hold(client("192.0.2.7"), "m2", 100) is None


# --- restarts -----------------------------------------------------------------------------------------------------


def again(gates, text):
    """A gate of a server that was started again: with the same memo and clock."""
    return attrs.evolve(gates, gate=Gate(config(text), gates.resolver, gates.clock, Random(1), gates.memo))


async def test_what_a_rate_of_an_hour_has_counted_outlives_a_restart():
    text = rate(limit="3/1h")
    gates = bed(text)
    assert await connects(gates, *["192.0.2.7"] * 2) == [True, True]
    gates.clock.now += 60
    gates = again(gates, text)
    assert await connects(gates, *["192.0.2.7"] * 2) == [True, False]
    assert await connects(gates, "192.0.2.8") == [True]
    gates.clock.now += 1200
    gates = again(gates, text)
    assert await connects(gates, *["192.0.2.7"] * 2) == [True, False]
    assert "192.0.2.7" not in str(gates.memo.entries)
    assert all(key.startswith("rate/") for key in gates.memo.entries)


async def test_a_bucket_that_is_full_again_is_not_kept():
    gates = bed(rate(limit="3/1h"))
    await connects(gates, "192.0.2.7")
    [(_, expires)] = gates.memo.entries.values()
    assert expires == gates.clock.now + 1200


async def test_a_short_rate_asks_the_memo_nothing():
    gates = bed(rate(limit="3/1m"))
    await connects(gates, *["192.0.2.7"] * 4)
    assert gates.memo.entries == {}


@pytest.mark.parametrize("value", [b"", b"x" * 16, b"\x7f\xf8" + bytes(14), b"x" * 100])
async def test_a_memo_with_something_else_in_it_is_no_memory(value):
    gates = bed(rate(limit="3/1h"))
    await connects(gates, "192.0.2.7")
    for key in gates.memo.entries:
        gates.memo.entries[key] = (value, gates.clock.now + 1000)
    gates = again(gates, rate(limit="3/1h"))
    assert await connects(gates, "192.0.2.7") == [True]


async def test_a_memo_that_does_not_answer_holds_nobody_up(autojump_clock):
    gates = bed(rate(limit="3/1h"))
    gates.memo.delay = 3600.0
    start = trio.current_time()
    assert await connects(gates, "192.0.2.7") == [True]
    assert trio.current_time() - start == pytest.approx(2)
