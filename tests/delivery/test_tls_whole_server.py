"""DANE, MTA-STS and the counts of both in a whole server: what is configured is what happens."""

import ipaddress

import attrs
import trio
from test_tls import TlsPeer
from test_tls_policy import MX, ONE, WRONG, Host

from elemta.config import DeliveryConfig, RelayConfig, TlsReportsConfig
from elemta.events import RecipientDeferred, RecipientDelivered
from elemta.testing.peers import SinkPeer
from elemta.testing.server import DEFAULT, open_test_server

CLIENT = "192.0.2.200"
CONFIG = attrs.evolve(
    DEFAULT,
    relay=RelayConfig((ipaddress.ip_network(f"{CLIENT}/32"),)),
    delivery=DeliveryConfig(mta_sts=True),
    tls_reports=TlsReportsConfig(collect=True, send=True),
)
ZONE = {MX: {"MX": [(10, ONE)]}, ONE: {"A": ["203.0.113.1"]}}
TLSA = f"_25._tcp.{ONE}"


async def submit(running):
    stream = running.connect(peer=CLIENT)
    for line in (
        b"EHLO client.example\r\n",
        b"MAIL FROM:<anna@client.example>\r\n",
        b"RCPT TO:<bob@example.org>\r\n",
        b"DATA\r\n",
        b"Subject: x\r\n\r\nhello\r\n.\r\n",
        b"QUIT\r\n",
    ):
        await stream.receive_some()
        await stream.send_all(line)
    await stream.receive_some()
    await stream.aclose()


async def test_host_that_meets_its_records_gets_the_mail(autojump_clock):
    host = Host(ONE)
    async with open_test_server(CONFIG, zone={**ZONE, TLSA: {"TLSA": [host.own]}}) as running:
        running.resolver.authentic = {MX, ONE, TLSA}
        running.network.listen("203.0.113.1", 25, TlsPeer(host.context).serve)
        await submit(running)
        with trio.fail_after(600):
            await running.wait_for(RecipientDelivered)
        assert (f"_mta-sts.{MX}", "TXT") in running.resolver.queries


async def test_host_that_fails_them_does_not(autojump_clock):
    sink = SinkPeer()
    async with open_test_server(CONFIG, zone={**ZONE, TLSA: {"TLSA": [WRONG]}}) as running:
        running.resolver.authentic = {MX, ONE, TLSA}
        running.network.listen("203.0.113.1", 25, sink.serve)
        await submit(running)
        with trio.fail_after(600):
            deferred = await running.wait_for(RecipientDeferred)
        assert deferred.cause == "tls-not-offered"
        assert sink.messages == []
