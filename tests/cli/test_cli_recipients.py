"""`elemta recipients`: the table is made and changed, `elemta check` and `elemta explain` use it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from elemta.cli import main

CONFIG = """
hostname = "mx.example.org"
state_dir = "state"
[[listeners]]
name = "mx"
address = "127.0.0.1:2525"
[domains]
local = ["example.org"]
table = "table"
[[routes]]
match = "example.org"
transport = "discard"
"""
SRS = """
[srs]
domain = "example.org"
secrets = "srs"
"""


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ELEMTA_CONFIG", raising=False)
    Path("elemta.toml").write_text(CONFIG)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments[:2], "-c", "elemta.toml", *arguments[2:]])


def check() -> Result:
    return CliRunner().invoke(main, ["check", "-c", "elemta.toml"])


def test_the_table_is_made_changed_and_listed():
    assert run("recipients", "list").exit_code == 1
    assert run("recipients", "set", "Alice@Example.org").exit_code == 0
    assert run("recipients", "set", "info@example.org", "alice", "b@example.net").exit_code == 0
    assert run("recipients", "set", "@example.org", "alice").exit_code == 0
    assert run("recipients", "list").output.splitlines() == [
        "@example.org: alice",
        "alice@example.org",
        "info@example.org: alice, b@example.net",
    ]
    assert json.loads(run("recipients", "list", "--json").output)[1] == {
        "address": "alice@example.org",
        "targets": "",
    }
    assert run("recipients", "remove", "@example.org").exit_code == 0
    assert run("recipients", "remove", "@example.org").exit_code == 1
    refused = run("recipients", "set", "x@example.org", "x y")
    assert (refused.exit_code, "is no address" in refused.output) == (1, True)


def test_without_a_setting_there_is_no_table():
    Path("elemta.toml").write_text(CONFIG.replace('table = "table"', ""))
    assert run("recipients", "list").exit_code == 78


def test_check_finds_a_missing_table_and_what_is_none():
    missing = check()
    assert (missing.exit_code, "table: No such file" in missing.output) == (78, True)
    Path("table").write_text("garbage")
    assert check().exit_code == 78
    Path("table").unlink()
    run("recipients", "set", "alice@example.org")
    assert check().exit_code == 0


def test_explain_says_who_is_behind_an_address_of_the_table():
    run("recipients", "set", "info@example.org", "b@example.org")
    run("recipients", "set", "b@example.org")
    assert "stands for b@example.org" in run("explain", "route", "info@example.org").output
    assert "refused with 550 5.1.1" in run("explain", "route", "nobody@example.org").output


def test_check_finds_a_missing_secret_of_rewritten_senders():
    run("recipients", "set", "alice@example.org")
    Path("elemta.toml").write_text(CONFIG + SRS)
    missing = check()
    assert (missing.exit_code, "srs.secrets: srs: cannot be read" in missing.output) == (78, True)
    Path("srs").write_text("# none\n")
    Path("srs").chmod(0o600)
    assert "there is no secret in it" in check().output
    Path("srs").write_text("a-secret-of-some-length\n")
    assert check().exit_code == 0
