"""How TLS went, counted by day and policy: what is told apart, what is bounded, what survives."""

import pytest
import trio
import trio.testing
import trustme
from delivery_helpers import make_context
from test_mta_sts import MX, World, answer, mail_host, policy
from test_tls import TlsPeer
from test_tls_policy import MX as DOMAIN
from test_tls_policy import ONE, UNUSABLE, WRONG, Host, zone

from elemta.config import DeliveryConfig, RouteTls, TransportKind
from elemta.delivery import (
    ConnectFailed,
    Failure,
    PolicyUsed,
    TlsResult,
    TlsResults,
    make_transport,
    tls_results,
)
from elemta.mail import Delivered
from elemta.routing import Route
from elemta.runtime import TrioWallClock
from elemta.testing.network import open_memory_network
from elemta.testing.peers import SinkPeer

NOTHING = PolicyUsed("example.org")
NO_STARTTLS = Failure(TlsResult.STARTTLS_NOT_SUPPORTED, "mx.example.org", "192.0.2.1")


def collector(path=None):
    troubles = []
    results = TlsResults(path, TrioWallClock(), lambda *what: troubles.append(what))
    return results, troubles


def only(results):
    """The policy, the successes and the kinds of failure of the one entry there is."""
    (day,) = results.days()
    (found,) = results.of_day(day)
    return found.policy.kind, found.successes, [(each.failure.result, each.count) for each in found.failures]


async def test_sessions_of_a_policy_are_counted_together_and_failures_by_kind(autojump_clock):  # noqa: ASYNC124 - Trio's clock
    results, _ = collector()
    for _ in range(3):
        results.success(NOTHING)
        results.failure(NOTHING, NO_STARTTLS)
    results.failure(NOTHING, Failure(TlsResult.EXPIRED, "mx.example.org", "192.0.2.1", "expired"))
    kinds = [(TlsResult.STARTTLS_NOT_SUPPORTED, 3), (TlsResult.EXPIRED, 1)]
    assert only(results) == ("no-policy-found", 3, kinds)
    (found,) = results.of_day(results.days()[0])
    assert found.failed == 4


async def test_days_are_kept_apart_and_only_a_few(autojump_clock):
    results, _ = collector()
    for _ in range(5):
        results.success(NOTHING)
        await trio.sleep(tls_results.DAY)
    assert len(results.days()) == tls_results.DAYS
    first = results.days()[0]
    results.forget(first)
    assert first not in results.days()


async def test_there_is_room_for_so_many_policies_and_failures(autojump_clock, monkeypatch):  # noqa: ASYNC124 - Trio's clock
    monkeypatch.setattr(tls_results, "MAX_POLICIES", 2)
    monkeypatch.setattr(tls_results, "MAX_FAILURES", 1)
    results, _ = collector()
    for number in range(4):
        results.failure(PolicyUsed(f"d{number}.example"), NO_STARTTLS)
    results.failure(PolicyUsed("d0.example"), Failure(TlsResult.EXPIRED, "other"))
    assert len(results.of_day(results.days()[0])) == 2
    assert results.dropped == 3


async def test_results_survive_a_restart(tmp_path, mock_clock):
    path = tmp_path / "results.json"
    results, _ = collector(path)
    used = PolicyUsed("example.org", "sts", ("version: STSv1",), ("mx.example.org",))
    results.success(used)
    results.failure(used, NO_STARTTLS)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(results.run)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    again, troubles = collector(path)
    assert (again.of_day(again.days()[0]), troubles) == (results.of_day(results.days()[0]), [])


async def test_file_that_is_damaged_is_told_and_begun_anew(tmp_path, autojump_clock):  # noqa: ASYNC124 - Trio's clock
    path = tmp_path / "results.json"
    path.write_bytes(b'{"days": {"x"')
    results, troubles = collector(path)
    assert results.days() == ()
    assert troubles[0][0] == "tls-results-damaged"


async def attempt(resolver, *peers, tls=RouteTls.OPPORTUNISTIC):
    waiting = list(peers)
    results, _ = collector()
    async with open_memory_network() as network:

        async def serve(stream):
            await waiting.pop(0).serve(stream)

        network.listen("203.0.113.1", 25, serve)
        config = DeliveryConfig(ipv6=False)
        context = make_context(network, resolver, config=config, tls_results=results)
        route = Route(TransportKind.SMTP, DOMAIN, 25, use_mx=True, tls=tls)
        try:
            connection = await make_transport(route, context).connect()
            await connection.aclose()
        except ConnectFailed:
            pass
    return only(results)


@pytest.fixture(scope="module")
def host():
    return Host(ONE)


async def test_every_kind_of_session_is_counted_under_its_policy(host, autojump_clock):
    failing = {(f"_25._tcp.{ONE}", "TLSA")}
    peer = TlsPeer(host.context)
    no_starttls, failed = TlsResult.STARTTLS_NOT_SUPPORTED, TlsResult.VALIDATION_FAILURE
    for resolver, peers, expected in (
        (zone({}), [peer], ("no-policy-found", 1, [])),
        (zone({}), [SinkPeer()], ("no-policy-found", 0, [(no_starttls, 1)])),
        (zone({ONE: [host.own]}), [peer], ("tlsa", 1, [])),
        (zone({ONE: [WRONG]}), [peer], ("tlsa", 0, [(failed, 1)])),
        (zone({ONE: [WRONG]}), [SinkPeer()], ("tlsa", 0, [(no_starttls, 1)])),
        (zone({}, failing=failing), [], ("tlsa", 0, [(TlsResult.DNSSEC_INVALID, 1)])),
        (zone({ONE: [UNUSABLE]}), [peer], ("no-policy-found", 1, [])),
    ):
        assert await attempt(resolver, *peers) == expected


async def test_certificates_are_counted_by_what_is_wrong_with_them(host, autojump_clock):
    resolver = zone({}, authentic=())
    found = await attempt(resolver, TlsPeer(host.context), tls=RouteTls.VERIFIED)
    assert found == ("no-policy-found", 0, [(TlsResult.NOT_TRUSTED, 1)])


async def test_sessions_under_an_mta_sts_policy_name_it(tmp_path, autojump_clock):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    async with open_memory_network() as network:
        world = World(authority, tmp_path / "ca.pem", network)
        world.results, _ = collector()
        await world.deliver(mail_host(authority, MX))
        await world.deliver(mail_host(authority, "other.example"))
        day = world.results.days()[0]
        (found,) = world.results.of_day(day)
        assert (found.policy.kind, found.policy.hosts, found.successes) == ("sts", (MX,), 1)
        assert "mode: enforce" in found.policy.lines
        assert [each.failure.result for each in found.failures] == [TlsResult.HOST_MISMATCH]
        # A policy that cannot be renewed holds on, and the domain learns of it
        world.resolver.add(f"_mta-sts.{DOMAIN}", "TXT", "v=STSv1; id=3;")
        world.web.response = answer(b"", "404 Not Found")
        await world.deliver(mail_host(authority, MX))
        assert found.successes == 2
        last = found.failures[-1].failure
        assert (last.result, last.reason) == (TlsResult.POLICY_FETCH_ERROR, "HTTP status 404")
        await trio.sleep(300)
        # In testing the mail goes, and the domain learns that it would not have gone
        world.resolver.add(f"_mta-sts.{DOMAIN}", "TXT", "v=STSv1; id=2;")
        world.web.response = answer(policy("testing", mx="*.example.net"))
        await world.deliver(SinkPeer())
        testing = next(each for each in world.results.of_day(day) if "mode: testing" in each.policy.lines)
        kinds = {each.failure.result for each in testing.failures}
        assert kinds == {TlsResult.VALIDATION_FAILURE, TlsResult.STARTTLS_NOT_SUPPORTED}


@pytest.mark.parametrize("tls", [RouteTls.OPPORTUNISTIC, RouteTls.REQUIRED])
async def test_certificates_are_checked_for_reports_under_a_policy_in_testing(tmp_path, tls, autojump_clock):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    async with open_memory_network() as network:
        world = World(authority, tmp_path / "ca.pem", network)
        world.results, _ = collector()
        world.web.response = answer(policy("testing"))
        outcome, facts = await world.deliver(mail_host(authority, MX), tls=tls)
        assert (type(outcome), facts.verified) == (Delivered, True)
        peers = [mail_host(authority, "other.example"), mail_host(authority, "other.example")]
        outcome, facts = await world.deliver(*peers, tls=tls)
        assert (type(outcome), facts.verified, world.peers) == (Delivered, False, [])
        assert only(world.results) == ("sts", 1, [(TlsResult.HOST_MISMATCH, 1)])
