"""Rates per address, network, account and role; bounded memory; who is counted by what."""

import sys
from collections import OrderedDict

import pytest
from policy_bed import bed, client, config, mailbox, path

from elemta.config import ListenerRole
from elemta.mail import Identity
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
