"""`elemta explain`: where mail goes and what it waits for, without a server and without sending."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio
from cli_spool import fill
from click.testing import CliRunner, Result

from elemta.cli import main
from elemta.cli.explain import hosts, reasons
from elemta.config import Config, load_config
from elemta.mail import parse_mailbox
from elemta.routing import Router
from elemta.testing import FakeResolver

SETTINGS = """hostname = "mx.example.org"
state_dir = "state"
[domains]
local = ["near.example"]
[[routes]]
match = "near.example"
transport = "lmtp"
host = "127.0.0.1"
port = 2400
tls = "none"
[[routes]]
match = "far.example"
host = "hub.example"
port = 587
tls = "verified"
"""
NOW = 1_750_000_000.0


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ELEMTA_CONFIG", "elemta.toml")
    monkeypatch.setenv("TZ", "UTC")
    Path("elemta.toml").write_text(SETTINGS)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ("explain", *arguments))


def test_a_fixed_route_is_told_with_its_reason() -> None:
    done = run("route", "anna@near.example")
    assert done.exit_code == 0
    assert "anna@near.example (local)" in done.output
    assert "lmtp:[127.0.0.1]:2400: route near.example" in done.output
    (facts,) = json.loads(run("route", "--json", "carl@far.example").output)["routes"]
    assert (facts["hosts"], facts["tls"], facts["whose"]) == (["hub.example:587"], "verified", "foreign")
    assert facts["limits"]["connections"] == 20
    assert facts["now"] == "no server runs"


def test_the_tables_that_fit_are_told_with_what_they_make_of_the_limits() -> None:
    with Path("elemta.toml").open("a") as file:
        file.write('[[shaping]]\nmatch = "hub.example"\nconcurrency = 2\nmessage_rate = "60/1h"\n')
    done = run("route", "carl@far.example")
    assert "shaping  match hub.example" in done.output
    assert "connections 2" in done.output
    (facts,) = json.loads(run("route", "--json", "carl@far.example").output)["routes"]
    assert facts["shaping"] == ["match hub.example"]
    assert facts["limits"]["messages in a time"] == "60/1h, 60 at once"


@pytest.mark.parametrize("address", ["nobody", "a@b@c", "\x1b[31m@x.example"])
def test_what_is_no_address_is_refused(address: str) -> None:
    done = run("route", address)
    assert done.exit_code == 1
    assert "\x1b" not in done.output


async def told(address: str, resolver: FakeResolver, config: Config) -> list[str]:
    with trio.fail_after(5):
        found = await hosts(Router(config).route(parse_mailbox(address)), config, resolver)
        return found.lines


async def test_hosts_are_told_in_the_order_of_trying_or_why_there_are_none(autojump_clock: object) -> None:
    config = load_config(Path("elemta.toml"))
    resolver = FakeResolver(
        {
            "x.example": {"MX": [(10, "one.x.example"), (20, "two.x.example")]},
            "one.x.example": {"A": ["198.51.100.1"]},
            "two.x.example": {"A": ["198.51.100.2"]},
            "plain.example": {"A": ["198.51.100.3"]},
            "null.example": {"MX": [(0, ".")]},
        },
        failing=["broken.example"],
    )
    assert await told("a@x.example", resolver, config) == ["one.x.example:25", "two.x.example:25"]
    assert await told("a@plain.example", resolver, config) == ["plain.example:25 (no MX: the domain itself)"]
    assert "556" in (await told("a@null.example", resolver, config))[0]
    assert "4.4.3" in (await told("a@broken.example", resolver, config))[0]


def test_a_message_is_explained_with_its_route() -> None:
    (message,) = fill(Path("state"), 1)
    CliRunner().invoke(main, ("queue", "pause", "domain", "far.example", "--reason", "they move"))
    done = run("message", message)
    assert done.exit_code == 0
    assert "r0@far.example by smtp:[hub.example]:587" in done.output
    assert "it is due since" in done.output
    assert "domain far.example is paused since" in done.output
    assert "they move" in done.output
    assert "hub.example:587" in done.output
    shown = json.loads(run("message", "--json", message).output)
    assert [each["recipient"] for each in shown["recipients"]] == ["r0@far.example"]


def test_a_message_that_is_not_there_is_said_so() -> None:
    fill(Path("state"), 1)
    done = run("message", "0123456789abcdef")
    assert done.exit_code == 1
    assert "elemta trace" in done.output


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"leased": True}, "an attempt is under way"),
        ({"state": "held", "reason": "odd"}, "it is held (odd), until it is released"),
        ({"state": "held", "reason": "paused"}, "put aside for a pause"),
        ({"due": NOW + 600}, "in 10m, because of: connect"),
        ({"state": "failed", "reply": "550 5.1.1 no"}, "it is failed: 550 5.1.1 no"),
    ],
)
def test_each_state_has_its_reason(changes: dict[str, object], expected: str) -> None:
    recipient = {
        "address": "a@x.example",
        "state": "queued",
        "leased": False,
        "due": NOW - 5,
        "reason": "connect",
        "reply": "",
        "remote": "",
        "attempts": 1,
        "last_attempt": None,
    }
    entry = {"sender": "s@client.example", "received": NOW - 60}
    lines = reasons(Config(hostname="mx.example.org"), entry, recipient | changes, "smtp:x.example", [], NOW)
    assert expected in lines[0]


def test_notices_are_given_up_silently_and_earlier() -> None:
    recipient = {
        "address": "a@x.example",
        "state": "queued",
        "leased": False,
        "due": NOW,
        "reason": "new",
        "reply": "451 4.3.0 later",
        "remote": "mx.x.example",
        "attempts": 2,
        "last_attempt": NOW,
    }
    config = Config(hostname="mx.example.org")
    lines = reasons(config, {"sender": "<>", "received": NOW}, recipient, "smtp:x.example", [], NOW)
    assert lines[-1].endswith("nobody is told")
    assert "by mx.x.example: 451 4.3.0 later" in lines[-2]


def test_an_alias_is_explained_by_who_stands_behind_it_and_who_is_not_listed_is_refused() -> None:
    Path("recipients").write_text("anna@near.example\ninfo@near.example: anna, carl@far.example\n")
    settings = SETTINGS.replace("[[routes]]", 'recipients = "recipients"\n[[routes]]', 1)
    Path("elemta.toml").write_text(settings)
    done = run("route", "info@near.example")
    assert done.exit_code == 0
    assert "info@near.example stands for anna@near.example, carl@far.example" in done.output
    assert "lmtp:[127.0.0.1]:2400" in done.output
    assert "hub.example:587" in done.output
    refused = run("route", "nobody@near.example")
    assert refused.exit_code == 1
    assert "nobody@near.example is not in recipients: refused with 550 5.1.1" in refused.output
    answer = json.loads(run("route", "--json", "nobody@near.example").stdout)
    assert (answer["refused"], answer["routes"]) == ("550 5.1.1", [])
    Path("recipients").write_text("nonsense\n")
    broken = run("route", "anna@near.example")
    assert broken.exit_code == 78
    assert "recipients:1: 'nonsense' is no address" in broken.output


def test_in_development_mode_it_is_said_that_nothing_is_sent() -> None:
    done = run("route", "--dev", "anna@[192.0.2.1]")
    assert done.exit_code == 0
    assert done.output.startswith("in development mode nothing is sent: mail is captured.")
