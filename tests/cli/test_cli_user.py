"""`elemta user`: accounts come, change and go; passwords are read, never shown; every error is a line and a status."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from elemta.auth import load_users
from elemta.auth.passwords import find_match
from elemta.auth.usertable import load_table
from elemta.cli import main

CONFIG = """
hostname = "mx.example.org"
state_dir = "state"
[auth]
users = "users"
hash_memory = "8MiB"
hash_passes = 1
scram_iterations = 4096
"""
PASSWORD = "correct horse"


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ELEMTA_CONFIG", raising=False)
    Path("elemta.toml").write_text(CONFIG)
    Path("state").mkdir()


def run(*arguments: str, stdin: str | bytes = "") -> Result:
    group, *rest = arguments
    return CliRunner().invoke(main, ["user", group, "-c", "elemta.toml", *rest], input=stdin)


def added(*arguments: str, password: str = PASSWORD) -> None:
    done = run("add", *arguments, stdin=f"{password}\n")
    assert done.exit_code == 0, done.output


def credential_of(name: str, password: str) -> str | None:
    return find_match(password, load_users(Path("users")).records[name].hashes())


def test_an_account_is_added_with_the_password_of_standard_input() -> None:
    done = run(
        "add", "Alice@Example.org", "--send-as", "*@lists.example.org", stdin=f"{PASSWORD}\nnot this\n"
    )
    assert done.exit_code == 0
    assert done.output == "added alice@example.org\n"
    assert credential_of("alice@example.org", PASSWORD) == "password"
    assert Path("users").stat().st_mode & 0o777 == 0o600
    assert PASSWORD not in Path("users").read_text()
    record = load_users(Path("users")).records["alice@example.org"]
    assert [str(pattern) for pattern in record.account.send_as] == ["*@lists.example.org"]
    scram = record.scram()
    assert scram is not None
    assert scram.iterations == 4096


def test_an_account_is_not_added_twice_and_its_password_not_set_by_accident() -> None:
    added("alice@example.org")
    again = run("add", "ALICE@example.org", stdin="other\n")
    assert again.exit_code == 1
    assert "is there already" in again.stderr
    assert credential_of("alice@example.org", PASSWORD) == "password"


def test_a_password_is_changed_and_the_rest_of_the_account_kept() -> None:
    added("alice@example.org", "--send-as", "*@example.org")
    assert run("passwd", "alice@example.org", stdin="new one\n").exit_code == 0
    assert credential_of("alice@example.org", PASSWORD) is None
    assert credential_of("alice@example.org", "new one") == "password"
    assert len(load_users(Path("users")).records["alice@example.org"].account.send_as) == 1


def test_app_passwords_stand_beside_each_other_and_are_removed_singly() -> None:
    added("alice@example.org")
    added("alice@example.org", "--app", "phone", password="one")
    added("alice@example.org", "--app", "laptop", password="two")
    assert run("add", "alice@example.org", "--app", "phone", stdin="x\n").exit_code == 1
    assert run("passwd", "alice@example.org", "--app", "phone", stdin="three\n").exit_code == 0
    assert credential_of("alice@example.org", "three") == "app:phone"
    assert credential_of("alice@example.org", "two") == "app:laptop"
    done = run("remove", "alice@example.org", "--app", "phone")
    assert (done.exit_code, done.output) == (0, "removed app password phone of alice@example.org\n")
    assert credential_of("alice@example.org", "three") is None
    assert credential_of("alice@example.org", PASSWORD) == "password"
    assert run("remove", "alice@example.org", "--app", "phone").exit_code == 1


def test_an_account_may_have_app_passwords_only() -> None:
    added("printer", "--app", "scan", "--send-as", "printer@example.org", password="one")
    assert credential_of("printer", "one") == "app:scan"


def test_sender_addresses_of_an_account_that_is_there_are_set_by_set() -> None:
    added("alice@example.org")
    assert run("add", "alice@example.org", "--app", "a", "--send-as", "*", stdin="x\n").exit_code == 1
    done = run("set", "alice@example.org", "--send-as", "*@a.example", "--send-as", "*@b.example", "--json")
    assert json.loads(done.output)["send_as"] == ["*@a.example", "*@b.example"]
    assert run("set", "alice@example.org", "--no-send-as").output == "changed alice@example.org\n"
    assert load_users(Path("users")).records["alice@example.org"].account.send_as == ()


def test_an_account_is_disabled_and_enabled() -> None:
    added("alice@example.org")
    assert run("set", "alice@example.org", "--disable").exit_code == 0
    assert load_users(Path("users")).records["alice@example.org"].disabled
    assert "disabled" in run("list").output
    assert run("set", "alice@example.org", "--enable").exit_code == 0
    assert not load_users(Path("users")).records["alice@example.org"].disabled


def test_an_account_is_removed_and_comments_are_kept() -> None:
    Path("users").write_text("# mine\nbob\n# end\n")
    Path("users").chmod(0o640)
    added("alice@example.org")
    assert run("remove", "alice@example.org").output == "removed alice@example.org\n"
    assert Path("users").read_text() == "# mine\nbob\n# end\n"
    assert Path("users").stat().st_mode & 0o777 == 0o640


def test_a_generated_password_is_strong_and_shown_once() -> None:
    done = run("add", "alice@example.org", "--generate")
    first, password = done.output.splitlines()
    assert first == "added alice@example.org"
    assert len(set(password)) > 8
    assert len(password) == 29
    assert credential_of("alice@example.org", password) == "password"
    done = run("passwd", "alice@example.org", "--generate", "--json")
    said = json.loads(done.output)
    assert said["action"] == "set"
    assert said["account"] == "alice@example.org"
    assert said["credential"] == "password"
    assert credential_of("alice@example.org", said["password"]) == "password"
    assert said["password"] != password


def test_lists_are_for_people_and_for_programs_and_have_no_secret() -> None:
    Path("users").touch(0o600)
    assert run("list").output == "there are no accounts\n"
    added("bob")
    added("alice@example.org", "--send-as", "*")
    added("alice@example.org", "--app", "phone", password="x")
    shown = run("list").output
    lines = shown.splitlines()
    assert lines[0].split() == ["account", "state", "may", "also", "send", "as", "passwords", "SCRAM"]
    assert lines[1].split() == ["alice@example.org", "enabled", "*", "password,", "app:phone", "yes"]
    assert lines[2].split() == ["bob", "enabled", "-", "password", "yes"]
    as_json = run("list", "--json").output
    assert json.loads(as_json)["accounts"][0] == {
        "account": "alice@example.org",
        "enabled": True,
        "send_as": ["*"],
        "credentials": ["password", "app:phone"],
        "scram": True,
        "held": None,
    }
    for text in (shown, as_json):
        assert "argon2" not in text
        assert "$" not in text


def test_actions_as_json() -> None:
    done = run("add", "alice@example.org", "--json", stdin="x\n")
    assert json.loads(done.output) == {
        "action": "added",
        "account": "alice@example.org",
        "credential": "password",
    }
    done = run("remove", "alice@example.org", "--json")
    assert json.loads(done.output) == {"action": "removed", "account": "alice@example.org"}


def test_secrets_that_can_be_read_back_are_kept_only_for_cram_md5() -> None:
    added("bob")
    assert "AES" not in Path("users").read_text()
    mechanisms = 'mechanisms = ["CRAM-MD5"]\nrecovery_key = "recovery.key"\n'
    Path("elemta.toml").write_text(CONFIG + mechanisms)
    added("alice@example.org")
    assert "AES-256-GCM$" in Path("users").read_text()
    assert "SCRAM" not in Path("users").read_text().splitlines()[-1]
    assert Path("recovery.key").stat().st_mode & 0o777 == 0o600


# Errors


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("passwd", "nobody"), 1, "there is no account nobody"),
        (("remove", "nobody"), 1, "there is no account nobody"),
        (("set", "nobody", "--disable"), 1, "there is no account nobody"),
        (("add", "alice"), 1, "no password: it is read from the first line of standard input"),
        (("set", "alice"), 2, "say what to change"),
        (("set", "alice", "--no-send-as", "--send-as", "*"), 2, "do not go together"),
        (("add", "a b"), 2, "not the name of an account"),
        (("add", "#alice"), 2, "it begins like a comment"),
        (("add", "alice", "--send-as", "x"), 2, "'x' is not an address"),
        (("add", "alice", "--app", "a b"), 2, "an app password is named with"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(arguments: tuple[str, ...], status: int, said: str) -> None:
    done = run(*arguments)
    assert done.exit_code == status
    assert said in done.stderr
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("password", "said"),
    [
        (b"\xff\n", "is not UTF-8"),
        (b"a\0b\n", "cannot be used"),
        (b"x" * 2000 + b"\n", "cannot be used: it is too long"),
    ],
)
def test_a_password_that_cannot_be_used_is_refused_and_not_repeated(password: bytes, said: str) -> None:
    done = run("add", "alice", stdin=password)
    assert done.exit_code == 1
    assert said in done.stderr
    assert "xxxx" not in done.output
    assert load_users(Path("users")).records == {}


def test_a_table_takes_what_a_file_does() -> None:
    Path("elemta.toml").write_text(CONFIG.replace('users = "users"', 'database = "accounts"'))
    added("alice@example.org", "--send-as", "*@example.org")
    added("alice@example.org", "--app", "phone", password="one")
    added("bob@example.org")
    assert Path("accounts").stat().st_mode & 0o777 == 0o600
    assert PASSWORD.encode() not in Path("accounts").read_bytes()
    assert run("add", "alice@example.org", stdin="x\n").exit_code == 1
    assert run("passwd", "bob@example.org", stdin="new\n").exit_code == 0
    assert run("set", "bob@example.org", "--disable").exit_code == 0
    assert run("remove", "alice@example.org", "--app", "tablet").exit_code == 1
    listed = json.loads(run("list", "--json").output)["accounts"]
    assert [(each["account"], each["enabled"], each["credentials"]) for each in listed] == [
        ("alice@example.org", True, ["password", "app:phone"]),
        ("bob@example.org", False, ["password"]),
    ]
    records = load_table(Path("accounts")).records
    assert find_match("new", records["bob@example.org"].hashes()) == "password"
    assert find_match("one", records["alice@example.org"].hashes()) == "app:phone"
    assert run("remove", "alice@example.org").exit_code == 0
    assert set(load_table(Path("accounts")).records) == {"bob@example.org"}


def test_accounts_that_are_elsewhere_are_not_ours_to_change() -> None:
    Path("elemta.toml").write_text(
        'hostname = "mx.example.org"\n[auth.http]\nurl = "https://accounts.example.org/"\n'
    )
    for arguments in (("list",), ("add", "alice"), ("remove", "alice")):
        done = run(*arguments)
        assert done.exit_code == 78
        assert "the accounts are at https://accounts.example.org/, and are changed there" in done.stderr


def test_without_a_users_file_in_the_configuration_nothing_is_done() -> None:
    Path("elemta.toml").write_text('hostname = "mx.example.org"\n')
    for arguments in (("list",), ("add", "alice")):
        done = run(*arguments)
        assert done.exit_code == 78
        assert "set users or database in [auth]" in done.stderr


def test_a_users_file_with_mistakes_is_not_touched_and_each_line_is_named() -> None:
    Path("users").write_text("alice x\nbob\ncarol y\n")
    Path("users").chmod(0o600)
    for arguments in (("list",), ("remove", "bob")):
        done = run(*arguments)
        assert done.exit_code == 78
        first, second = done.stderr.splitlines()
        assert first.startswith("elemta: ")
        assert "users:1: field 2" in first
        assert "users:3: field 2" in second
    assert Path("users").read_text() == "alice x\nbob\ncarol y\n"


def test_a_missing_file_cannot_be_listed() -> None:
    done = run("list")
    assert done.exit_code == 78
    assert "users: cannot be read: No such file or directory" in done.stderr


def test_somebody_else_at_work_means_try_later() -> None:
    Path("users").touch(0o600)
    with Path("users").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        done = run("add", "alice", stdin="x\n")
    assert done.exit_code == 75
    assert "somebody else is changing it" in done.stderr


def test_a_folder_that_is_not_there_is_a_storage_error() -> None:
    Path("elemta.toml").write_text(CONFIG.replace('"users"', '"no/users"'))
    done = run("add", "alice", stdin="x\n")
    assert done.exit_code == 74
    assert "No such file or directory" in done.stderr


def test_no_command_takes_a_password_as_argument() -> None:
    group = main.commands["user"]
    assert isinstance(group, click.Group)
    for name, command in group.commands.items():
        options = {option for each in command.params for option in each.opts}
        assert not {option for option in options if "password" in option or option == "-p"}, name
        assert len([each for each in command.params if isinstance(each, click.Argument)]) <= 1


@pytest.mark.deadline(20)
def test_at_a_terminal_the_password_is_asked_for_twice_and_not_echoed() -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "elemta", "user", "add", "-c", "elemta.toml", "alice"]
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as process:
        os.close(theirs)
        said = b""
        for prompt in (b"Password: ", b"Again: "):
            while not said.endswith(prompt):
                said += os.read(ours, 1024)
            os.write(ours, PASSWORD.encode() + b"\n")
        while b"added alice" not in said:
            said += os.read(ours, 1024)
        assert process.wait(10) == 0
    os.close(ours)
    assert PASSWORD.encode() not in said
    assert credential_of("alice", PASSWORD) == "password"
