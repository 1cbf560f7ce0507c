"""What a configuration amounts to."""

from pathlib import Path

import attrs
import pytest

from elemta.config import (
    Config,
    RouteConfig,
    RoutePattern,
    TransportKind,
    attempt_deadline,
    describe,
    example_config,
    parse_config,
)
from elemta.config.describe import Phase

BASE = 'hostname = "mx.example.org"\npostmaster = "me@example.org"\n'


def test_the_attempt_is_bounded_by_the_sum_of_its_phases_or_the_cap() -> None:
    text = BASE + (
        'limits.message_size = "128KiB"\n'
        "[delivery]\nmx_hosts = 2\nrecipients_per_transaction = 3\nipv6 = false\n"
        '[dns]\ntimeout = "5s"\n[timeouts]\n'
        'connect = "1s"\ngreeting = "2s"\nhello = "3s"\nstarttls = "4s"\nmail = "5s"\nrcpt = "6s"\n'
        'data = "7s"\nblock = "8s"\nfinal_dot = "9s"\n'
    )
    config = parse_config(text, "f")
    deadline = attempt_deadline(config)
    assert {phase.name: (phase.seconds, phase.times) for phase in deadline.phases} == {
        "dns": (5.0, 7),
        "connect": (1.0, 2),
        "greeting": (2.0, 2),
        "hello": (3.0, 4),
        "starttls": (4.0, 2),
        "mail": (5.0, 1),
        "rcpt": (6.0, 3),
        "data": (7.0, 1),
        "block": (8.0, 2),
        "final dot": (9.0, 1),
    }
    assert deadline.total == 35 + 2 + 4 + 12 + 8 + 5 + 18 + 7 + 16 + 9
    assert deadline.bound == deadline.total
    capped = attempt_deadline(attrs.evolve(config, timeouts=attrs.evolve(config.timeouts, attempt=60.0)))
    assert capped.bound == 60.0


def test_a_phase_lasts_its_wait_as_often_as_it_comes() -> None:
    assert Phase("connect", 30.0, 5).total == 150.0


def test_the_sample_is_described_without_remarks() -> None:
    description = describe(parse_config(example_config(), "elemta.toml"))
    assert description.notes == ()
    assert description.session == 7200.0
    assert [(fact.name, fact.text) for fact in description.listeners] == [
        ("mx", "127.0.0.1:2525, mx, no TLS"),
        ("mx6", "[::1]:2525, mx, no TLS"),
    ]
    text = str(description)
    assert "  folder       var" in text.split("\n")
    assert "A session ends after 2h at the latest." in text
    assert "An attempt ends after 1h at the latest:" in text
    assert "Notes:" not in text
    assert text.isascii() or "×" in text


def test_routes_and_domains_are_told_in_words() -> None:
    text = BASE + (
        '[domains]\nlocal = ["a.example"]\nrelay = ["*.b.example"]\n[relay]\nnetworks = ["10.0.0.0/8"]\n'
        '[[routes]]\nmatch = "a.example"\ntransport = "maildir"\npath = "mail"\n'
        '[[routes]]\nmatch = "b.example"\ntransport = "discard"\n'
        '[[routes]]\nmatch = "c.example"\ntransport = "lmtp"\nhost = "::1"\ntls = "none"\n'
        '[[routes]]\nmatch = "d.example"\nhost = "d.example"\nport = 26\n'
        '[[routes]]\nmatch = "e.example"\ntls = "required"\n'
        '[[routes]]\nmatch = "f.example"\nport = 2525\n'
    )
    description = describe(parse_config(text, "f"))
    assert [(fact.name, fact.text) for fact in description.routes] == [
        ("a.example", "maildir mail"),
        ("b.example", "discard"),
        ("c.example", "lmtp to [::1]:24, TLS none"),
        ("d.example", "smtp to d.example:26, TLS opportunistic"),
        ("e.example", "smtp to the MX, port 25, TLS required"),
        ("f.example", "smtp to the MX, port 2525, TLS opportunistic"),
        ("others", "smtp to the MX, port 25, TLS opportunistic"),
    ]
    assert [(fact.name, fact.text) for fact in description.domains] == [
        ("local", "a.example"),
        ("relay", "*.b.example"),
        ("may send anywhere", "10.0.0.0/8"),
    ]


def test_a_route_for_everything_leaves_no_others() -> None:
    description = describe(parse_config(BASE + '[[routes]]\nmatch = "*"\nhost = "smarthost"\n', "f"))
    assert [fact.name for fact in description.routes] == ["*"]


LISTENER = '[[listeners]]\nname = "a"\n'


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("", "no [[listeners]]: without one there is nothing to run"),
        (
            LISTENER + 'address = "127.0.0.1:587"\nrole = "submission"',
            "listener a: without authentication it serves nobody: relay.networks is empty",
        ),
        (
            LISTENER + 'address = "127.0.0.1:587"\nrole = "submission"\n[relay]\nnetworks = ["::1"]',
            "listener a: without authentication it serves those in relay.networks",
        ),
        (LISTENER + 'address = ":24"\nrole = "lmtp"', "listener a: LMTP is not for the open internet"),
        (
            LISTENER + 'address = "[::1]:25"\n[admin]\naddress = ":8025"',
            "the admin port :8025 can be reached from other machines, without TLS",
        ),
        (
            LISTENER + 'address = "[::1]:25"\n[queue]\nlifetime = "1h"',
            "queue.delay_notice is not before queue.lifetime: no sender is told of a delay",
        ),
        (
            LISTENER + 'address = "[::1]:25"\n[timeouts]\nfinal_dot = "1m"',
            "timeouts.final_dot is below the 10 minutes of RFC 5321 4.5.3.2.6: expect duplicates",
        ),
    ],
)
def test_what_is_allowed_but_perhaps_not_meant_is_noted(text: str, note: str) -> None:
    description = describe(parse_config(BASE + text, "f"))
    assert description.notes == (note,)
    assert str(description).endswith(f"Notes:\n  - {note}")


def test_users_without_tls_are_noted() -> None:
    text = BASE + LISTENER + 'address = ":587"\nrole = "submission"\n[relay]\nnetworks = ["10.0.0.0/8"]'
    assert describe(parse_config(text, "f")).notes == (
        "listener a: without authentication it serves those in relay.networks",
        "listener a: users would send their mail in the clear",
    )


def test_users_with_tls_are_not() -> None:
    text = (
        BASE
        + LISTENER
        + (
            'address = ":465"\nrole = "submission"\ntls = "implicit"\n'
            '[tls]\ncertificate = "c"\nkey = "k"\n[relay]\nnetworks = ["10.0.0.0/8"]'
        )
    )
    description = describe(parse_config(text, "f"))
    assert description.listeners[0].text == ":465 (every address), submission, TLS from the start"
    assert len(description.notes) == 1


def test_a_postmaster_that_nobody_would_get_is_noted() -> None:
    description = describe(Config(hostname="mx.example.org"))
    assert (
        description.notes[-1]
        == "postmaster is not set, and mx.example.org is not a local domain: name a mailbox"
    )


def test_empty_parts_say_none() -> None:
    text = str(describe(Config(hostname="mx.example.org")))
    assert "Listeners:\n  none" in text
    assert "may send anywhere  nobody" in text
    assert "only the socket in the folder" in text


def test_login_at_a_next_hop_counts_where_there_is_one() -> None:
    route = RouteConfig(
        RoutePattern(), TransportKind.SMTP, host="relay.example", username="u", password_file=Path("secret")
    )
    phases = attempt_deadline(Config(hostname="mx.example.org", routes=(route,))).phases
    assert [phase.name for phase in phases].index("login") == 5


def test_checks_and_signatures_are_told() -> None:
    text = str(
        describe(
            parse_config(
                'hostname = "mx.example.org"\n[policy]\nauthserv_id = "results.example.org"\n'
                '[policy.dmarc]\naction = "refuse"\n[policy.arc]\ntrusted = ["lists.example.net"]\n'
                'seal_domain = "example.org"\nseal_selector = "arc"\nseal_key = "arc.pem"\n'
                '[[signing]]\ndomain = "*.example.org"\nselector = "mail"\nkey = "mail.pem"\n',
                "f",
            )
        )
    )
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "dmarc at most refuse, without a readable author note" in lines
    assert "arc note, trusted lists.example.net" in lines
    assert "shown as results.example.org" in lines
    assert "*.example.org signed by mail._domainkey.example.org, key mail.pem" in lines
    assert "from outside sealed as arc._domainkey.example.org" in lines
