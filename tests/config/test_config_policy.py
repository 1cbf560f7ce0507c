"""The settings of [policy]: nested sections, rates, answers of DNS lists, contradictions."""

import ipaddress

import pytest
from jsonschema import Draft202012Validator
from test_config_load import said

from elemta.config import (
    AnswerRange,
    BadValue,
    CheckAction,
    Config,
    GreylistAction,
    ListenerRole,
    Rate,
    RateOf,
    RatePer,
    RefuseAt,
    ReverseDnsNeed,
    json_schema,
    parse_config,
    render_config,
)
from elemta.config.load import read_toml
from elemta.config.units import parse_answers, parse_rate
from elemta.mail import Domain

FULL = """
hostname = "mx.example.org"
[policy]
refuse_at = "once"
exempt = ["198.51.100.0/24"]
early_talkers = "refuse"
greeting_delay = "3s"
ipv4_network = 16
[policy.dns_lists]
action = "refuse"
threshold = 3
[[policy.dns_lists.zones]]
zone = "bl.example"
weight = 3
answers = ["127.0.0.2", "127.0.0.4-127.0.0.11", "127.0.2.0/24"]
[[policy.dns_lists.zones]]
zone = "good.example"
name = "good"
weight = -2
[policy.reverse_dns]
action = "defer"
require = "name"
[policy.hello]
unresolvable = "refuse"
[policy.greylist]
action = "defer"
delay = "1m"
[[policy.rates]]
count = "connections"
limit = "60/1m"
[[policy.rates]]
count = "recipients"
limit = "1000/1h30m"
per = "account"
burst = 50
role = "submission"
"""


def test_everything_is_read():
    policy = parse_config(FULL, "f").policy
    assert policy.refuse_at is RefuseAt.ONCE
    assert policy.early_talkers is CheckAction.REFUSE
    first, second = policy.dns_lists.zones
    assert first.zone == Domain("bl.example")
    assert [str(answers) for answers in first.answers] == [
        "127.0.0.2",
        "127.0.0.4-127.0.0.11",
        "127.0.2.0-127.0.2.255",
    ]
    assert (second.name, second.weight, second.answers) == ("good", -2, ())
    assert policy.reverse_dns.require is ReverseDnsNeed.NAME
    assert policy.greylist.action is GreylistAction.DEFER
    one, two = policy.rates
    assert (one.count, one.limit, one.per, one.burst, one.role) == (
        RateOf.CONNECTIONS,
        Rate(60, 60.0),
        RatePer.ADDRESS,
        0,
        None,
    )
    assert (two.limit, two.per, two.burst, two.role) == (
        Rate(1000, 5400.0),
        RatePer.ACCOUNT,
        50,
        ListenerRole.SUBMISSION,
    )


def test_it_is_written_so_that_it_reads_back():
    config = parse_config(FULL, "f")
    text = render_config(config)
    assert parse_config(text, "g") == config
    assert "[[policy.dns_lists.zones]]" in text
    assert "[policy.reverse_dns]" in text
    default = Config("mx.example.org")
    assert parse_config(render_config(default), "h") == default


def test_the_json_schema_knows_the_nested_sections():
    validator = Draft202012Validator(json_schema())
    assert list(validator.iter_errors(read_toml(FULL))) == []
    wrong = read_toml(FULL)
    wrong["policy"]["dns_lists"]["zones"][0]["answers"] = ["everything"]
    assert len(list(validator.iter_errors(wrong))) == 1


def test_by_default_no_check_asks_the_network_refuses_or_delays():
    policy = Config("mx.example.org").policy
    actions = [
        policy.early_talkers, policy.dns_lists.action, policy.domain_lists.action, policy.reverse_dns.action,
        policy.hello.own_name, policy.hello.address_literal, policy.hello.unqualified, policy.hello.unresolvable,
    ]  # fmt: skip
    assert set(actions) <= {CheckAction.OFF, CheckAction.NOTE}
    assert policy.hello.unresolvable is CheckAction.OFF
    assert policy.greylist.action is GreylistAction.OFF
    assert policy.greeting_delay == 0
    assert policy.rates == ()


@pytest.mark.parametrize(
    ("text", "rate"),
    [("60/1m", Rate(60, 60)), ("1/1s", Rate(1, 1)), ("5 / 500ms", Rate(5, 0.5)), ("9/1h30m", Rate(9, 5400))],
)
def test_rates(text, rate):
    assert parse_rate(text) == rate
    assert parse_rate(str(rate)) == rate


@pytest.mark.parametrize(
    "text", ["", "60", "60/", "/1m", "60/60", "60/1y", "0/1m", "60/0s", "-1/1m", "1.5/1m", "60/1m/2", "٣/1m"]
)
def test_what_is_no_rate(text):
    with pytest.raises(BadValue):
        parse_rate(text)


def test_answers_contain_what_lies_between():
    answers = parse_answers("127.0.0.4-127.0.0.11")
    inside = [number for number in range(256) if ipaddress.IPv4Address(f"127.0.0.{number}") in answers]
    assert inside == list(range(4, 12))
    assert parse_answers("127.0.0.0/8") == AnswerRange(
        ipaddress.IPv4Address("127.0.0.0"), ipaddress.IPv4Address("127.255.255.255")
    )
    assert parse_answers(str(answers)) == answers


@pytest.mark.parametrize(
    "text",
    [
        "", "127.0.0", "127.0.0.256", "127.0.0.2-", "127.0.0.9-127.0.0.2", "127.0.0.2/24", "127.0.0.0/33",
        "128.0.0.2", "127.0.0.2-128.0.0.0", "10.0.0.0/8", "::1", "127.255.255.254", "127.255.255.0/24", "localhost",
    ],
)  # fmt: skip
def test_what_are_no_answers(text):
    with pytest.raises(BadValue):
        parse_answers(text)


LISTS = "[policy.dns_lists]\n"
ZONE = '[[policy.dns_lists.zones]]\nzone = "bl.example"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[policy]\nzone = 1",
            "f:3: policy.zone: unknown setting here; it belongs in [[policy.dns_lists.zones]]",
        ),
        ("[policy]\nthreshhold = 1", "f:3: policy.threshhold: unknown setting"),
        (
            '[policy.greylist]\nacton = "off"',
            "f:3: policy.greylist.acton: unknown setting; did you mean 'action'?",
        ),
        (
            '[policy.greylist]\naction = "refuse"',
            "f:3: policy.greylist.action: 'refuse' is not one of off, note, defer",
        ),
        ('[policy]\ngreeting_delay = "2m"', "f:3: policy.greeting_delay: 2m is more than 1m"),
        ("[policy.dmarc]\ndomains = 100", "f:3: policy.dmarc.domains: 100 is more than 20"),
        ('[policy.spf]\ntimeout = "5m"', "f:3: policy.spf.timeout: 5m is more than 1m"),
        ("[[policy.rates]]\nlimit = 5", "f:2: policy.rates[0].count: is required"),
        (
            '[[policy.rates]]\ncount = "messages"\nlimit = 5',
            'f:4: policy.rates[0].limit: expected a rate such as "60/1m", not the integer 5',
        ),
        (
            LISTS + 'action = "note"',
            "f:3: policy.dns_lists.action: 'note' needs a list to ask; add [[policy.dns_lists.zones]]",
        ),
        (
            LISTS + 'action = "refuse"\nthreshold = 3\n' + ZONE + "weight = 2",
            "f:4: policy.dns_lists.threshold: 3 is never reached: all weights together are 2",
        ),
        (
            LISTS + 'action = "refuse"\n' + ZONE + "weight = -2",
            "f:2: policy.dns_lists.threshold: 1 is never reached: all weights together are 0",
        ),
        (
            LISTS + 'lookup_timeout = "9s"',
            "f:3: policy.dns_lists.lookup_timeout: 9s is more than policy.dns_lists.timeout (5s)",
        ),
        (
            ZONE + 'answers = ["127.255.255.254"]',
            "f:4: policy.dns_lists.zones[0].answers[0]: '127.255.255.254' is how a list says that it does not answer; it never counts",
        ),
        (
            '[policy.greylist]\naction = "defer"\nwindow = "5m"',
            "f:4: policy.greylist.window: 5m leaves no time to come again after policy.greylist.delay (5m)",
        ),
        (
            '[[policy.rates]]\ncount = "connections"\nlimit = "1/1s"\nper = "account"',
            "f:5: policy.rates[0].per: counts nothing: when a client connects its account is not known",
        ),
        (
            '[[policy.rates]]\ncount = "messages"\nlimit = "1/1s"\n[[policy.rates]]\ncount = "messages"\nlimit = "2/1s"',
            "f:7: policy.rates[1].limit: policy.rates[0] is for the same, over the same time",
        ),
        (
            '[policy]\nearly_talkers = "off"\ngreeting_delay = "1s"',
            "f:4: policy.greeting_delay: delays everybody for nothing while policy.early_talkers is off",
        ),
    ],
)
def test_mistakes(text, message):
    found = said(f'hostname = "mx.example.org"\n{text}')
    assert any(line.startswith(message) for line in found), found


def test_what_does_not_contradict():
    for text in (
        LISTS + 'action = "note"\nthreshold = 9\n' + ZONE,  # noted is whatever is listed
        LISTS + "threshold = 9\n" + ZONE,
        '[policy.greylist]\nwindow = "5m"',
        '[[policy.rates]]\ncount = "messages"\nlimit = "1/1s"\n[[policy.rates]]\ncount = "messages"\nlimit = "20/1h"',
    ):
        assert parse_config(f'hostname = "mx.example.org"\n{text}', "f").hostname == "mx.example.org"
