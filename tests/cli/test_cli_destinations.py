"""`elemta destinations` without a server: on the spool itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_spool import fill
from click.testing import CliRunner, Result

from elemta.cli import main

SETTINGS = """hostname = "mx.example.org"
state_dir = "state"
[[routes]]
match = "near.example"
host = "hub.example"
[[shaping]]
match = "hub.example"
concurrency = 3
"""


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ELEMTA_CONFIG", "elemta.toml")
    Path("elemta.toml").write_text(SETTINGS)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["destinations", *arguments])


def test_what_waits_is_listed_by_destination() -> None:
    fill(Path("state"), 3, recipients=2)
    (only,) = json.loads(run("list", "--json").output)["destinations"]
    assert (only["route"], only["waiting"], only["now"]) == ("smtp:far.example", 6, None)
    assert "smtp:far.example" in run("list").output
    assert json.loads(run("show", "--json", "far.example").output)["waiting"] == 6
    assert "idle" in run("show", "someone@elsewhere.example").output


def test_a_destination_is_paused_and_resumed() -> None:
    fill(Path("state"), 1)
    assert run("pause", "someone@near.example", "--reason", "they move").output == (
        "smtp:[hub.example]:25 is paused\n"
    )
    assert "paused: they move" in run("show", "near.example").output
    done = run("resume", "smtp:[hub.example]:25")
    assert done.output == "smtp:[hub.example]:25 is resumed, 0 recipients due now\n"
    again = run("resume", "smtp:[hub.example]:25")
    assert again.exit_code == 1


def test_the_limits_are_those_of_the_tables() -> None:
    shown = json.loads(run("limits", "--json", "near.example").output)
    assert shown["route"] == "smtp:[hub.example]:25"
    assert (shown["limits"]["connections"], shown["shaping"]) == (3, ["match hub.example"])
    assert "connections" in run("limits", "near.example").output


def test_what_is_no_destination_is_an_error() -> None:
    for command in ("show", "pause", "resume", "limits"):
        done = run(command, "a b")
        assert done.exit_code == 1
        assert "no route" in done.output


def test_limits_are_set_and_cleared_without_a_server() -> None:
    Path("state").mkdir()
    done = run("limit", "near.example", "--concurrency", "2", "--message-rate", "10/1m", "--reason", "slow")
    assert done.output == "smtp:[hub.example]:25: concurrency 2, message_rate 10/1m\n"
    shown = json.loads(run("limits", "--json", "near.example").output)
    assert (shown["limits"]["connections"], shown["shaping"][0]) == (2, "set for smtp:[hub.example]:25")
    explained = CliRunner().invoke(main, ["explain", "route", "anna@near.example"])
    assert "set for smtp:[hub.example]:25; match hub.example" in explained.output
    assert run("unlimit", "near.example").exit_code == 0
    assert json.loads(run("limits", "--json", "near.example").output)["limits"]["connections"] == 3
    assert run("unlimit", "near.example").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ((), 2),
        (("--concurrency", "0"), 1),
        (("--message-rate", "often"), 1),
        (("--concurrency", "many"), 2),
    ],
)
def test_limits_that_can_be_none_change_nothing(arguments: tuple[str, ...], status: int) -> None:
    Path("state").mkdir()
    assert run("limit", "near.example", *arguments).exit_code == status
    assert list(Path("state").iterdir()) == []
