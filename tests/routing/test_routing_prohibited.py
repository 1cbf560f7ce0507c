"""No record of a stranger leads into our own networks."""

import ipaddress
import random

import pytest

from elemta.config import DeliveryConfig
from elemta.mail import Cause, Failed, parse_domain
from elemta.routing import MxPlan, ProhibitedNetworks, plan_mx
from elemta.testing.dns import FakeResolver

DEFAULT = ProhibitedNetworks(DeliveryConfig().prohibited_networks)


async def plan(zone, domain="ext.test", **more):
    return await plan_mx(
        parse_domain(domain),
        FakeResolver(zone),
        hostname="us.test",
        random=random.Random(1),
        prohibited=DEFAULT,
        **more,
    )


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "::1",
        "fe80::1",
        "fd00::1",
        "::ffff:127.0.0.1",
        "64:ff9b::10.0.0.1",  # NAT64 (RFC 6052)
        "2002:7f00:1::1",  # 6to4 (RFC 3056) of 127.0.0.1
        "2001:0:a00:1::",  # Teredo (RFC 4380), server 10.0.0.1
    ],
)
def test_private_and_local_addresses_are_prohibited_by_default(address):
    assert address in DEFAULT


@pytest.mark.parametrize(
    "address",
    [
        "192.0.2.1",
        "8.8.8.8",
        "172.32.0.1",
        "2001:db8::1",
        "2a00:1450::1",
        "64:ff9b::808:808",
        "2002:808:808::1",
    ],
)
def test_others_are_not(address):
    assert address not in DEFAULT


def test_the_networks_are_those_of_the_configuration():
    assert "127.0.0.1" not in ProhibitedNetworks(())
    assert "192.0.2.1" in ProhibitedNetworks((ipaddress.ip_network("192.0.2.0/24"),))


def test_the_default_holds_for_port_25_and_what_was_configured_for_all():
    assert "127.0.0.1" in ProhibitedNetworks.of(DeliveryConfig(), 25)
    assert "127.0.0.1" not in ProhibitedNetworks.of(DeliveryConfig(), 2525)
    chosen = DeliveryConfig(prohibited_networks=(ipaddress.ip_network("127.0.0.0/8"),))
    assert "127.0.0.1" in ProhibitedNetworks.of(chosen, 2525)


@pytest.mark.parametrize(
    "zone",
    [
        {"ext.test": {"MX": [(10, "a.test")]}, "a.test": {"A": ["127.0.0.1"], "AAAA": ["::1"]}},
        {
            "ext.test": {"MX": [(1, "a.test"), (2, "b.test")]},
            "a.test": {"A": ["10.0.0.1"]},
            "b.test": {"A": ["10.0.0.2"]},
        },
        {"ext.test": {"A": ["192.168.0.1"]}},  # no MX: RFC 5321 §5.1
    ],
)
async def test_a_domain_whose_hosts_are_all_within_fails_and_says_why(zone):
    outcome = await plan(zone)
    assert isinstance(outcome, Failed)
    assert outcome.cause is Cause.DNS
    assert str(outcome.reply).startswith("550 5.4.4 The mail host of the recipient's domain has an address")


async def test_an_address_literal_within_fails():
    assert isinstance(await plan({}, "[127.0.0.1]"), Failed)
    assert await plan({}, "[192.0.2.1]") == MxPlan(("192.0.2.1",))


async def test_a_host_within_gives_way_to_others():
    zone = {
        "ext.test": {"MX": [(1, "a.test"), (2, "b.test")]},
        "a.test": {"A": ["10.0.0.1"]},
        "b.test": {"A": ["10.0.0.2", "192.0.2.2"]},
    }
    assert await plan(zone) == MxPlan(("b.test",))


async def test_ourselves_is_still_a_loop_and_not_merely_prohibited():
    zone = {"ext.test": {"MX": [(1, "a.test")]}, "a.test": {"A": ["127.0.0.1"]}}
    outcome = await plan(zone, is_ourselves=lambda address: address == "127.0.0.1")
    assert isinstance(outcome, Failed)
    assert outcome.cause is Cause.LOOP
