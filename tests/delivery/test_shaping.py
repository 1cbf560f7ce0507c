"""Which tables hold for a next hop, and what they make of the settings."""

import attrs

from elemta.config import Config, DeliveryConfig, TransportKind, parse_config
from elemta.delivery import Allowance, Shaping
from elemta.routing import Route

DOMAIN = Route(TransportKind.SMTP, "a.example", 25, use_mx=True)


def shaping(text: str) -> Shaping:
    return Shaping(parse_config('hostname = "mx.example.org"\n' + text, "f"))


def test_without_tables_all_is_as_delivery_says() -> None:
    delivery = DeliveryConfig(concurrency=7, idle=3.0)
    shape = Shaping(Config(hostname="mx.example.org", delivery=delivery)).of(DOMAIN)
    assert (shape.concurrency, shape.idle, shape.messages, shape.tables) == (7, 3.0, None, ())


def test_the_most_specific_table_that_has_a_setting_counts() -> None:
    found = shaping(
        '[[shaping]]\nconcurrency = 1\nidle = "1s"\nmessage_rate = "1/1s"\n'
        '[[shaping]]\nmatch = "*.example"\nconcurrency = 2\nidle = "2s"\n'
        '[[shaping]]\nmatch = "a.example"\nconcurrency = 3\n'
        '[[shaping]]\nmatch = "b.example"\nconcurrency = 4\n'
    ).of(DOMAIN)
    assert (found.concurrency, found.idle, found.messages) == (3, 2.0, Allowance(1, 1, 1))
    assert found.tables == ("match a.example", "match *.example", "all")


def test_a_table_for_hosts_holds_where_one_of_them_fits() -> None:
    tables = shaping('[[shaping]]\nmx = ".big.example"\nconcurrency = 2\n')
    assert tables.of(DOMAIN).concurrency == 20
    assert tables.of(DOMAIN, {"mx1.big.example", "backup.example"}).concurrency == 2
    assert tables.of(DOMAIN, {"big.example"}).concurrency == 20
    fixed = Route(TransportKind.SMTP, "relay.big.example", 587)
    assert tables.of(fixed).concurrency == 2


def test_the_domain_counts_before_its_hosts_and_both_together_before_either() -> None:
    tables = shaping(
        '[[shaping]]\nmx = "mx.big.example"\nconcurrency = 2\n'
        '[[shaping]]\nmatch = "a.example"\nconcurrency = 3\n'
        '[[shaping]]\nmatch = "a.example"\nmx = "*"\nconcurrency = 4\n'
    )
    assert tables.of(DOMAIN, {"mx.big.example"}).concurrency == 4
    assert tables.of(DOMAIN).concurrency == 3
    other = attrs.evolve(DOMAIN, next_hop="b.example")
    assert tables.of(other, {"mx.big.example"}).concurrency == 2


def test_a_rate_and_its_burst_come_from_the_same_table() -> None:
    found = shaping(
        '[[shaping]]\nmessage_rate = "100/1m"\nmessage_burst = 5\nbyte_rate = "1MiB/1s"\nbyte_burst = "3MiB"\n'
        '[[shaping]]\nmatch = "a.example"\nmessage_rate = "10/1m"\n'
    ).of(DOMAIN)
    assert found.messages == Allowance(10, 60, 10)
    assert found.octets == Allowance(1 << 20, 1, 3 << 20)


def test_folders_have_no_shape_of_their_own() -> None:
    tables = shaping('[[shaping]]\nmatch = "*"\nconcurrency = 1\n')
    assert tables.of(Route(TransportKind.MAILDIR, "/var/mail/a")).concurrency == 20
