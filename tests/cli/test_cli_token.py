"""`elemta token`: made once, shown once, listed without what it is, ended at once."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from elemta.admin import digest_of, load_tokens
from elemta.cli import main

CONFIG = 'hostname = "mx.example.org"\nstate_dir = "state"\n'
FILE = Path("state/api-tokens")


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ELEMTA_CONFIG", raising=False)
    Path("elemta.toml").write_text(CONFIG)
    Path("state").mkdir()


def run(*arguments: str) -> Result:
    group, *rest = arguments
    return CliRunner().invoke(main, ["token", group, "-c", "elemta.toml", *rest])


def test_a_token_is_shown_once_and_only_its_digest_is_kept() -> None:
    done = run("add", "grafana", "--scope", "read")
    assert done.exit_code == 0, done.output
    secret = done.output.strip()
    assert secret.startswith("elemta_")
    assert len(secret) >= 50
    assert secret not in FILE.read_text()
    assert FILE.stat().st_mode & 0o777 == 0o600
    (kept,) = load_tokens(FILE).values()
    assert (kept.name, kept.digest, kept.ends) == ("grafana", digest_of(secret), None)
    listed = run("list")
    assert "grafana" in listed.output
    assert kept.digest not in listed.output


def test_a_token_that_ends_by_itself_says_when() -> None:
    told = json.loads(
        run("add", "app", "--scope", "submit", "--scope", "read", "--days", "2", "--json").output
    )
    assert told["scopes"] == ["read", "submit"]
    (kept,) = load_tokens(FILE).values()
    assert kept.ends is not None
    assert kept.ends - kept.made == 2 * 86400
    (listed,) = json.loads(run("list", "--json").output)["tokens"]
    assert listed == {name: value for name, value in told.items() if name != "token"}


def test_a_revoked_token_is_gone_and_the_others_stay() -> None:
    for name in ("one", "two"):
        assert run("add", name, "--scope", "admin").exit_code == 0
    assert run("revoke", "one").output == "revoked one\n"
    assert list(load_tokens(FILE)) == ["two"]
    again = run("revoke", "one")
    assert (again.exit_code, again.stderr) == (1, "elemta: there is no token one\n")


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (("add", "x"), 2, "--scope"),
        (("add", "x", "--scope", "everything"), 2, "everything"),
        (("add", "a b", "--scope", "read"), 2, "letters, digits"),
        (("add", "operator", "--scope", "read"), 2, "another way in"),
        (("add", "x", "--scope", "read", "--days", "0"), 2, "0"),
    ],
)
def test_mistakes_are_told_and_nothing_is_made(arguments: tuple[str, ...], status: int, text: str) -> None:
    done = run(*arguments)
    assert done.exit_code == status
    assert text in done.stderr
    assert not FILE.exists()


def test_a_name_is_given_once() -> None:
    run("add", "one", "--scope", "read")
    again = run("add", "one", "--scope", "read")
    assert again.exit_code == 1
    assert "there is a token one already" in again.stderr


def test_a_file_that_cannot_be_used_is_named_by_line() -> None:
    FILE.write_text("# fine\none read sha256:12 2026-01-01T00:00:00Z\n")
    FILE.chmod(0o600)
    done = run("list")
    assert done.exit_code == 78
    assert "api-tokens:2: the digest is sha256: and 64" in done.stderr
    FILE.chmod(0o644)
    assert "open to others" in run("list").stderr


def test_two_changes_at_once_do_not_meet() -> None:
    lock = FILE.with_name(".api-tokens.lock")
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = run("add", "one", "--scope", "read")
    assert done.exit_code == 75
    assert "somebody else is changing it" in done.stderr
