"""MTA-STS from discovery to delivery: what is fetched, remembered and enforced (RFC 8461)."""

import ssl
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio.testing
import trustme
from delivery_helpers import deliver_one, make_context
from test_tls import TlsPeer

from elemta.config import DeliveryConfig, RouteTls, TlsConfig, TransportKind
from elemta.delivery import ConnectFailed, HttpsClient, MtaSts, StsMode, make_transport
from elemta.delivery import mta_sts as module
from elemta.dns import TlsaRecord
from elemta.mail import Cause, Delivered
from elemta.routing import Route
from elemta.runtime import SystemNetwork, TrioWallClock
from elemta.testing.dns import FakeResolver
from elemta.testing.network import open_memory_network
from elemta.testing.peers import SinkPeer
from elemta.tls import TlsContexts

DOMAIN, MX, WEB = "example.org", "mx.example.org", "mta-sts.example.org"
MX_ADDRESS, WEB_ADDRESS = "203.0.113.1", "203.0.113.80"
DAY, HOUR = 86400, 3600


class FakeMemo:
    """Values in a dict, whatever their age: who reads them has to look."""

    def __init__(self):
        self.values = {}

    async def get(self, key):
        await trio.lowlevel.checkpoint()
        return self.values.get(key)

    def put(self, key, value, expires):
        self.values[key] = value

    def forget(self, key):
        self.values.pop(key, None)

    async def all(self, namespace, most):
        await trio.lowlevel.checkpoint()
        return [value for key, value in self.values.items() if key.startswith(f"{namespace}/")][:most]


def policy(mode="enforce", *, mx=MX, age=7 * DAY):
    return f"version: STSv1\r\nmode: {mode}\r\nmx: {mx}\r\nmax_age: {age}\r\n".encode()


def answer(body, status="200 OK", kind="text/plain; charset=utf-8", extra=""):
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{extra}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Web:
    """The HTTPS server of the policy; may be changed at any time."""

    def __init__(self, authority, *names):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*(names or (WEB,))).configure_cert(self.context)
        self.response: bytes | None = answer(policy())
        """None: it says nothing."""
        self.requests: list[bytes] = []

    async def serve(self, stream):
        tls = trio.SSLStream(stream, self.context, server_side=True, https_compatible=True)
        try:
            self.requests.append(bytes(await tls.receive_some()))
            if self.response is None:
                await trio.sleep_forever()
            await tls.send_all(self.response)
            await tls.aclose()
        except trio.BrokenResourceError:
            return


class World:
    """A domain with a policy, its web server, its mail host, and us."""

    def __init__(self, authority, path, network):
        self.web = Web(authority)
        self.network = network
        self.contexts = TlsContexts(TlsConfig(), authorities=path)
        self.resolver = FakeResolver(
            {
                DOMAIN: {"MX": [(10, MX)]},
                MX: {"A": [MX_ADDRESS]},
                WEB: {"A": [WEB_ADDRESS]},
                f"_mta-sts.{DOMAIN}": {"TXT": ["v=STSv1; id=1;"]},
            }
        )
        self.memo = FakeMemo()
        self.results = None
        self.peers = []
        network.listen(WEB_ADDRESS, 443, self._serve_web)
        network.listen(MX_ADDRESS, 25, self._serve_mail)
        self.sts = self.restarted()

    async def _serve_web(self, stream):
        await self.web.serve(stream)

    async def _serve_mail(self, stream):
        await self.peers.pop(0).serve(stream)

    def restarted(self):
        """The service after a restart: nothing in memory, the same memo."""
        client = HttpsClient(self.resolver, self.network, lambda: self.contexts.client(verify=True))
        self.sts = MtaSts(self.resolver, client, TrioWallClock(), self.memo)
        return self.sts

    async def deliver(self, *peers, tls=RouteTls.OPPORTUNISTIC, on=True, **envelope):
        self.peers = list(peers)
        context = make_context(
            self.network,
            self.resolver,
            tls=self.contexts,
            mta_sts=self.sts,
            tls_results=self.results,
            config=DeliveryConfig(ipv6=False, mta_sts=on),
        )
        route = Route(TransportKind.SMTP, DOMAIN, 25, use_mx=True, tls=tls)
        try:
            connection = await make_transport(route, context).connect()
        except ConnectFailed as failed:
            return failed.outcome, None
        outcome = await deliver_one(connection, **envelope)
        await connection.aclose()
        return outcome, connection.tls


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def authority_file(authority, tmp_path_factory):
    path = tmp_path_factory.mktemp("sts") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture
def world(authority, authority_file):
    @asynccontextmanager
    async def open_world():
        async with open_memory_network() as network:
            yield World(authority, authority_file, network)

    return open_world


def mail_host(authority, *names, **options):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return TlsPeer(context, **options)


async def test_policy_is_fetched_once_and_remembered(world, autojump_clock):
    async with world() as w:
        found = await w.sts.policy(DOMAIN)
        assert (found.mode, found.mx) == (StsMode.ENFORCE, (MX,))
        assert await w.sts.policy(DOMAIN) == found
        assert len(w.web.requests) == 1
        assert w.web.requests[0].startswith(
            b"GET /.well-known/mta-sts.txt HTTP/1.1\r\nHost: mta-sts.example.org"
        )


async def test_policy_survives_a_restart_and_the_loss_of_everything_else(world, autojump_clock):
    async with world() as w:
        found = await w.sts.policy(DOMAIN)
        w.web.response = answer(b"", "503 Unavailable")
        del w.resolver.zone[f"_mta-sts.{DOMAIN}"]
        assert await w.restarted().policy(DOMAIN) == found  # §5.1
        await trio.sleep(7 * DAY)
        assert await w.restarted().policy(DOMAIN) is None
        assert await w.sts.policy(DOMAIN) is None


async def test_policy_is_fetched_anew_when_its_id_changes_and_before_it_ends(world, autojump_clock):
    async with world() as w:
        await w.sts.policy(DOMAIN)
        w.web.response = answer(policy("testing"))
        w.resolver.add(f"_mta-sts.{DOMAIN}", "TXT", "v=STSv1; id=2;")
        assert (await w.sts.policy(DOMAIN)).mode is StsMode.TESTING
        await trio.sleep(module.RENEW + 1)
        w.web.response = answer(policy(age=100))
        assert (await w.sts.policy(DOMAIN)).max_age == 100
        await trio.sleep(51)  # half of its max_age
        await w.sts.policy(DOMAIN)
        assert len(w.web.requests) == 4


@asynccontextmanager
async def renewing(sts, **options):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: sts.run(**options))
        yield
        nursery.cancel_scope.cancel()


async def test_policy_is_renewed_in_the_background_without_any_mail(world, autojump_clock):
    async with world() as w, renewing(w.sts):
        await w.sts.policy(DOMAIN)
        await trio.sleep(10.5 * module.RENEW)
        assert len(w.web.requests) == 11
        # who hides record and file from now on has to do so until the end of max_age
        w.web.response, w.resolver.failing = answer(b"", "503 Busy"), {f"_mta-sts.{DOMAIN}"}
        await trio.sleep(6 * module.RENEW)
        assert (await w.sts.policy(DOMAIN)).mode is StsMode.ENFORCE


async def test_policy_is_renewed_in_the_background_also_after_a_restart(world, autojump_clock):
    async with world() as w:
        await w.sts.policy(DOMAIN)
        w.memo.put("mta-sts/x", b"{", 0.0)
        w.memo.put("mta-sts/y", b'{"id":"1","fetched":0,"mode":"enforce","max_age":864000,"mx":[]}', 0.0)
        for _ in range(10):  # without any mail
            async with renewing(w.restarted(), stored=w.memo.all):
                await trio.sleep(module.RENEW + 10)
        assert len(w.web.requests) == 11
        assert (await w.sts.policy(DOMAIN)).mode is StsMode.ENFORCE


async def test_policy_with_a_new_id_is_fetched_in_the_background(world, autojump_clock):
    async with world() as w, renewing(w.sts):
        await w.sts.policy(DOMAIN)
        w.web.response = answer(policy("testing"))
        w.resolver.add(f"_mta-sts.{DOMAIN}", "TXT", "v=STSv1; id=2;")
        await trio.sleep(module.RENEW + 1)
        assert len(w.web.requests) == 2
        assert (await w.sts.policy(DOMAIN)).mode is StsMode.TESTING
        assert len(w.web.requests) == 2


@pytest.mark.parametrize("trouble", ["no record", "503", "no answer", "another certificate"])
async def test_policy_that_cannot_be_renewed_holds_until_its_end(world, authority, trouble, autojump_clock):
    async with world() as w, renewing(w.sts):
        w.web.response = answer(policy(age=6 * HOUR))
        await w.sts.policy(DOMAIN)
        match trouble:
            case "no record":
                w.resolver.add(f"_mta-sts.{DOMAIN}", "TXT", "nothing")
            case "503":
                w.web.response = answer(b"", "503 Busy")
            case "no answer":
                w.web.response = None
            case _:
                w.web.context = Web(trustme.CA()).context
        await trio.sleep(6 * HOUR - 300)
        asked = len(w.web.requests)
        assert asked <= 12  # once an hour; more often only at the end
        assert (await w.sts.policy(DOMAIN)).mode is StsMode.ENFORCE
        await trio.sleep(310)
        assert await w.sts.policy(DOMAIN) is None
        await trio.sleep(10 * HOUR)
        assert len(w.web.requests) <= asked + 4  # what is over is not asked for without mail


async def test_short_policy_is_renewed_before_it_ends(world, autojump_clock):
    async with world() as w, renewing(w.sts):
        w.web.response = answer(policy(age=600))
        await w.sts.policy(DOMAIN)
        await trio.sleep(3000)
        w.resolver.add(f"_mta-sts.{DOMAIN}", "TXT", "nothing")
        assert (await w.sts.policy(DOMAIN)).mode is StsMode.ENFORCE
        assert 9 <= len(w.web.requests) <= 11


async def test_policies_that_are_not_used_or_say_nothing_are_not_renewed(world, autojump_clock):
    async with world() as w, renewing(w.sts, wanted=lambda: False):
        await w.sts.policy(DOMAIN)
        await trio.sleep(3 * module.RENEW)
        assert len(w.web.requests) == 1
    async with world() as w, renewing(w.sts):
        w.web.response = answer(b"version: STSv1\nmode: none\nmax_age: 864000\n")
        await w.sts.policy(DOMAIN)
        await trio.sleep(3 * module.RENEW)
        assert len(w.web.requests) == 1


async def test_policy_of_mode_none_is_none_but_is_remembered(world, autojump_clock):
    async with world() as w:
        w.web.response = answer(b"version: STSv1\nmode: none\nmax_age: 86400\n")
        assert await w.sts.policy(DOMAIN) is None
        assert await w.sts.policy(DOMAIN) is None
        assert len(w.web.requests) == 1


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (answer(b"", "301 Moved", extra="Location: https://mta-sts.example.org/x\r\n"), "HTTP status 301"),
        (answer(policy(), "404 Not Found"), "HTTP status 404"),
        (answer(policy(), kind="text/html"), "not text/plain"),
        (answer(policy("strange")), "no mode"),
        (answer(b"x" * 70_000), "more than 65536 octets"),
        (b"not HTTP\r\n\r\n", "no HTTP"),
        (answer(policy())[:-5], "connection lost"),
        (b"", "connection lost"),
        (None, "no answer in time"),
    ],
)
async def test_policy_that_cannot_be_had_is_none_and_is_not_asked_for_at_once(
    world, autojump_clock, response, reason
):
    async with world() as w:
        w.web.response = response
        start = trio.current_time()
        assert await w.sts.policy(DOMAIN) is None
        assert trio.current_time() - start == (60 if response is None else 0)
        assert reason in w.sts.trouble(DOMAIN)
        await w.sts.policy(DOMAIN)
        assert len(w.web.requests) == 1
        await trio.sleep(module.PAUSE)
        w.web.response = answer(policy())
        assert await w.sts.policy(DOMAIN) is not None
        assert w.sts.trouble(DOMAIN) == ""
        assert (w.sts.statistics().fetched, w.sts.statistics().failed) == (1, 1)


async def test_server_must_prove_its_name(world, authority, autojump_clock):
    async with world() as w:
        for web in (Web(authority, "other.example"), Web(trustme.CA())):
            w.web = web
            assert await w.restarted().policy(DOMAIN) is None
            assert "certificate" in w.sts.trouble(DOMAIN)
            assert not any(web.requests)


async def test_server_in_our_own_networks_is_not_asked(world, autojump_clock):
    async with world() as w:
        client = HttpsClient(
            w.resolver, w.network, lambda: w.contexts.client(verify=True), lambda: {WEB_ADDRESS}
        )
        sts = MtaSts(w.resolver, client, TrioWallClock(), w.memo)
        assert await sts.policy(DOMAIN) is None
        assert "not to be connected to" in sts.trouble(DOMAIN)


async def test_many_who_ask_at_once_fetch_once(world, autojump_clock):
    async with world() as w, trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(w.sts.policy, DOMAIN)
        await trio.testing.wait_all_tasks_blocked()
    assert len(w.web.requests) == 1


async def test_domain_without_a_record_costs_one_question(world, autojump_clock):
    async with world() as w:
        assert await w.sts.policy("other.example") is None
        assert w.resolver.queries == [("_mta-sts.other.example", "TXT")]


async def test_enforced_policy_wants_a_named_host_with_a_known_certificate(world, authority, autojump_clock):
    async with world() as w:
        outcome, facts = await w.deliver(mail_host(authority, MX))
        assert (type(outcome), facts.verified) == (Delivered, True)
        for peer, cause in (
            (mail_host(authority, "other.example"), Cause.CERTIFICATE),
            (mail_host(trustme.CA(), MX), Cause.CERTIFICATE),
            (SinkPeer(), Cause.TLS_NOT_OFFERED),
        ):
            outcome, _ = await w.deliver(peer, SinkPeer())
            assert (outcome.cause, len(w.peers)) == (cause, 1)
        outcome, _ = await w.deliver(mail_host(authority, MX, require_tls=True), require_tls=True)
        assert isinstance(outcome, Delivered)  # RFC 8689 §4.2.1: the policy vouches for the host


async def test_host_that_an_enforced_policy_does_not_name_is_not_dialled(world, authority, autojump_clock):
    async with world() as w:
        w.web.response = answer(policy(mx="*.example.net"))
        outcome, _ = await w.deliver(mail_host(authority, MX))
        assert (outcome.cause, len(w.peers)) == (Cause.CERTIFICATE, 1)
        assert "MTA-STS" in outcome.detail


@pytest.mark.parametrize(("mode", "on"), [("testing", True), ("none", True), ("enforce", False)])
async def test_policy_that_is_not_enforced_keeps_no_mail_here(world, mode, on, autojump_clock):
    async with world() as w:
        w.web.response = answer(policy(mode, mx="*.example.net"))
        outcome, facts = await w.deliver(SinkPeer(), on=on)
        assert (type(outcome), facts) == (Delivered, None)
        assert bool(w.web.requests) == on


async def test_dane_goes_before_the_policy(world, authority, autojump_clock):
    async with world() as w:
        tlsa = f"_25._tcp.{MX}"
        w.resolver.add(tlsa, "TLSA", TlsaRecord(3, 1, 1, bytes(32)))
        w.resolver.authentic = {DOMAIN, MX, tlsa}
        outcome, _ = await w.deliver(mail_host(authority, MX))
        assert outcome.cause is Cause.CERTIFICATE
        assert "DANE" in outcome.detail


async def test_policy_comes_from_a_real_server(authority, authority_file):
    web = Web(authority)
    contexts = TlsContexts(TlsConfig(), authorities=authority_file)
    resolver = FakeResolver({WEB: {"A": ["127.0.0.1"]}, f"_mta-sts.{DOMAIN}": {"TXT": ["v=STSv1; id=1;"]}})
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(partial(trio.serve_tcp, web.serve, 0, host="127.0.0.1"))
            port = listeners[0].socket.getsockname()[1]
            client = HttpsClient(resolver, SystemNetwork(), lambda: contexts.client(verify=True), port=port)
            found = await MtaSts(resolver, client, TrioWallClock(), FakeMemo()).policy(DOMAIN)
            nursery.cancel_scope.cancel()
    assert found.allows(MX)
