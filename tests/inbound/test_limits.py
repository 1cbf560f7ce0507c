"""How many sessions there may be."""

import ipaddress

import pytest
from inbound_bed import FRIEND, FakeSpool, make_config, open_bed

from elemta.config import LimitsConfig, ListenerTls
from elemta.events import SessionRefused
from elemta.inbound import ClientLimits
from elemta.inbound.limits import Admission, block_text
from elemta.mail import replies


def roomy(**settings: int) -> LimitsConfig:
    return LimitsConfig(
        **({"sessions": 1000, "sessions_per_client": 1000, "sessions_per_network": 1000} | settings)
    )


@pytest.mark.parametrize(
    ("peer", "blocks"),
    [
        ("192.0.2.1", ["192.0.2.1", "192.0.2.0/24"]),
        ("::ffff:192.0.2.1", ["192.0.2.1", "192.0.2.0/24"]),
        ("2001:db8:1:2:3:4:5:6", ["2001:db8:1:2::/64", "2001:db8:1::/48", "2001:db8::/32"]),
        ("2001:db8:1:2::1%eth0", ["2001:db8:1:2::/64", "2001:db8:1::/48", "2001:db8::/32"]),
        ("unix", ["unix"]),
    ],
)
def test_what_a_session_counts_for(peer: str, blocks: list[str]):
    admission = ClientLimits(roomy()).admit(peer)
    assert isinstance(admission, Admission)
    assert [block_text(block) for block in admission.blocks] == blocks


@pytest.mark.parametrize(
    ("others", "within", "outside"),
    [
        ([f"192.0.2.{last}" for last in range(10)], "192.0.2.77", "192.0.3.77"),
        ([f"2001:db8:1:{part}::1" for part in range(10)], "2001:db8:1:77::1", "2001:db8:2::1"),
        ([f"2001:db8:{part}::1" for part in range(40)], "2001:db8:77::1", "2001:db9::1"),
    ],
)
def test_a_network_has_a_limit_of_its_own(others: list[str], within: str, outside: str):
    limits = ClientLimits(roomy(sessions_per_network=10))
    held = [limits.admit(peer) for peer in others]
    assert all(isinstance(each, Admission) for each in held)
    assert limits.admit(within) == replies.TOO_MANY_FROM_NETWORK
    assert isinstance(limits.admit(outside), Admission)
    limits.release(held[0])
    assert isinstance(limits.admit(within), Admission)


def test_a_refusal_by_one_step_takes_nothing_from_the_others():
    limits = ClientLimits(roomy(sessions_per_client=5, sessions_per_network=2))
    held = [limits.admit("192.0.2.1"), limits.admit("192.0.2.2")]
    for _ in range(10):
        assert limits.admit("192.0.2.1") == replies.TOO_MANY_FROM_NETWORK
    for admission in held:
        limits.release(admission)
    for _ in range(2):
        assert isinstance(limits.admit("192.0.2.1"), Admission)
    assert limits.statistics().sessions == 2


def test_a_client_behind_a_proxy_counts_once_it_is_known():
    limits = ClientLimits(roomy(sessions_per_client=1))
    proxied = [limits.admit("10.0.0.1", forwarded=True) for _ in range(3)]
    first, second, third = proxied
    assert limits.identify(first, "192.0.2.1") is None
    assert limits.identify(second, "192.0.2.1") == replies.TOO_MANY_CONNECTIONS
    assert limits.identify(third, "192.0.2.2") is None
    for admission in proxied:
        limits.release(admission)
    assert limits.statistics().busiest == ()
    assert isinstance(limits.admit("192.0.2.1"), Admission)


def test_the_system_may_allow_less_than_the_configuration():
    limits = ClientLimits(roomy(), most=1)
    assert isinstance(limits.admit("192.0.2.1"), Admission)
    assert limits.admit("192.0.2.2") == replies.SERVER_BUSY
    assert limits.statistics().limit == 1


def test_other_limits_hold_for_those_who_come_later():
    limits = ClientLimits(roomy())
    held = [limits.admit("192.0.2.1") for _ in range(3)]
    limits.replace(roomy(sessions_per_client=2), ())
    assert limits.admit("192.0.2.1") == replies.TOO_MANY_CONNECTIONS
    limits.release(held[0])
    assert limits.admit("192.0.2.1") == replies.TOO_MANY_CONNECTIONS
    limits.release(held[1])
    assert isinstance(limits.admit("192.0.2.1"), Admission)
    limits.replace(roomy(sessions=2), [ipaddress.ip_network("192.0.2.0/24")])
    assert limits.admit("192.0.2.1") == replies.SERVER_BUSY


def test_limits_hold_per_client_and_in_total_and_places_come_back():
    limits = ClientLimits(
        LimitsConfig(sessions=4, sessions_per_client=2), [ipaddress.ip_network("10.0.0.0/8")]
    )
    held = [limits.admit("192.0.2.1"), limits.admit("192.0.2.1")]
    assert limits.admit("192.0.2.1") == replies.TOO_MANY_CONNECTIONS
    held += [limits.admit("10.0.0.1"), limits.admit("10.0.0.1")]
    assert limits.admit("198.51.100.1") == replies.SERVER_BUSY
    assert limits.admit("10.0.0.1") == replies.SERVER_BUSY  # exempt per client, not in total
    statistics = limits.statistics()
    assert (statistics.sessions, statistics.refused_busy, statistics.refused_client) == (4, 2, 1)
    assert statistics.busiest == (("192.0.2.1", 2),)
    for admission in held:
        assert isinstance(admission, Admission)
        limits.release(admission)
    statistics = limits.statistics()
    assert (statistics.sessions, statistics.busiest) == (0, ())


def test_a_trusted_client_is_not_limited_by_itself():
    limits = ClientLimits(
        LimitsConfig(sessions=100, sessions_per_client=1), [ipaddress.ip_network("10.0.0.0/8")]
    )
    assert all(isinstance(limits.admit("::ffff:10.0.0.1"), Admission) for _ in range(50))


async def test_too_many_of_one_client_are_told_421_and_others_are_served(autojump_clock):
    config = make_config(limits={"sessions_per_client": 2})
    async with open_bed(config, spool=FakeSpool()) as bed:
        attacker = [bed.dial("192.0.2.66") for _ in range(5)]
        first = [await client.reply() for client in attacker]
        assert [line[:3] for line in first] == ["220", "220", "421", "421", "421"]
        assert first[-1] == "421 4.7.0 mx.ours.example too many connections from your address"
        assert await attacker[-1].line() == ""
        victim = bed.dial("192.0.2.67")
        await victim.hello()
        refused = bed.seen(SessionRefused)
        assert len(refused) == 3
        assert refused[0].peer == "192.0.2.66"
        assert refused[0].reason.startswith("421 4.7.0")
        await attacker[0].say("QUIT")
        assert await attacker[0].line() == ""
        again = bed.dial("192.0.2.66")
        assert (await again.reply())[:3] == "220"


async def test_too_many_in_total(autojump_clock):
    async with open_bed(make_config(limits={"sessions": 2}), spool=FakeSpool()) as bed:
        held = [bed.dial(FRIEND), bed.dial("192.0.2.9")]
        for client in held:
            await client.hello()
        late = bed.dial("192.0.2.10")
        assert await late.line() == "421 4.3.2 mx.ours.example too busy, try again later"
        assert await late.line() == ""
        statistics = bed.listeners.statistics()
        assert (statistics.accepted, statistics.sessions.sessions, statistics.sessions.refused_busy) == (
            2,
            2,
            1,
        )


async def test_a_client_that_expects_tls_is_turned_away_without_words(autojump_clock, server_tls):
    config = make_config(tls=ListenerTls.IMPLICIT, limits={"sessions": 0})
    async with open_bed(config, spool=FakeSpool(), tls=server_tls) as bed:
        assert await bed.dial().line() == ""


async def test_a_client_that_is_turned_away_and_has_gone_or_reads_nothing_holds_nobody_up(autojump_clock):
    async with open_bed(make_config(limits={"sessions": 1}), spool=FakeSpool()) as bed:
        held = bed.dial()
        await held.hello()
        gone = bed.dial()
        gone.stream.close()
        bed.dial(capacity=1)
        late = bed.dial()
        assert (await late.reply())[:3] == "421"
        assert bed.listeners.statistics().sessions.refused_busy == 3
