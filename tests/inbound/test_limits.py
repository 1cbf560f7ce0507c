"""How many sessions there may be."""

import ipaddress

import pytest
from inbound_bed import FRIEND, FakeSpool, make_config, open_bed

from elemta.config import LimitsConfig, ListenerTls
from elemta.events import SessionRefused
from elemta.inbound import ClientLimits
from elemta.inbound.limits import Admission, client_of
from elemta.mail import replies


@pytest.mark.parametrize(
    ("peer", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1%eth0", "2001:db8:1:2::/64"),
        ("unix", "unix"),
    ],
)
def test_what_counts_as_one_client(peer: str, client: str):
    assert client_of(peer) == client


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
        assert first[-1] == "421 4.7.0 too many connections from your address"
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
        assert await late.line() == "421 4.3.2 too busy, try again later"
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
