"""A stolen password: the account's mail is held, postmaster is told, and a command decides what becomes of it."""

import json
import smtplib
import ssl
from collections.abc import Generator
from pathlib import Path

import pytest
import trustme
from ports import free_port
from server_process import RunningServer, Setting, elemta, serving, wait_for

ACCOUNT = "anna@example.org"


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def setting(tmp_path: Path, port: int) -> Setting:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "cert.pem")
    setting = Setting(tmp_path)
    setting.write(
        extra=f"""
[[listeners]]
name = "submission"
address = "127.0.0.1:{port}"
role = "submission"
tls = "implicit"
auth = "required"
[tls]
certificate = "{tmp_path}/cert.pem"
key = "{tmp_path}/cert.pem"
[auth]
users = "{tmp_path}/users"
[policy.breaker]
action = "hold"
recipients = 2
"""
    )
    return setting


@pytest.fixture
def password(setting: Setting) -> str:
    made = elemta("user", "add", "-c", setting.file, "--generate", "--json", ACCOUNT)
    return str(json.loads(made.stdout)["password"])


@pytest.fixture
def server(setting: Setting, password: str) -> Generator[RunningServer, None, None]:
    with serving(setting.folder, setting.port, "-c", setting.file) as server:
        yield server


def send(setting: Setting, port: int, password: str, *users: str) -> None:
    trust = ssl.create_default_context(cafile=str(setting.folder / "authority.pem"))
    with smtplib.SMTP_SSL("localhost", port, context=trust) as client:
        client.login(ACCOUNT, password)
        client.sendmail(ACCOUNT, [f"{user}@example.org" for user in users], b"Subject: x\r\n\r\nhello\r\n")


def letters(setting: Setting, user: str, host: str = "example.org") -> list[str]:
    folder = setting.mail / host / user / "new"
    return [path.read_text() for path in folder.iterdir()] if folder.is_dir() else []


def test_mail_of_a_suspicious_account_waits_for_an_operator(
    setting: Setting, server: RunningServer, port: int, password: str
) -> None:
    send(setting, port, password, "bob", "carl")
    wait_for(lambda: letters(setting, "carl"), "as usual")
    send(setting, port, password, "dora")
    [event] = wait_for(lambda: server.events("account.suspicious"), "the log tells of it")
    assert (event["account"], event["finding"], event["held"]) == (
        ACCOUNT,
        "3 recipients in this hour, usual are 0",
        True,
    )
    [notice] = wait_for(lambda: letters(setting, "postmaster", "mx.example.org"), "postmaster is told")
    assert f"elemta user release {ACCOUNT}" in notice
    listed = json.loads(elemta("queue", "list", "--json", "-c", setting.file, "--state", "held").stdout)
    [held] = [each for message in listed["messages"] for each in message["recipients"]]
    assert held["reason"] == f"account {ACCOUNT}: 3 recipients in this hour, usual are 0"
    assert not letters(setting, "dora")
    finding = "3 recipients in this hour, usual are 0"
    [account] = json.loads(elemta("user", "list", "-c", setting.file, "--json").stdout)["accounts"]
    assert account["held"] == finding
    assert f"mail of {ACCOUNT} is held: {finding}" in elemta("user", "list", "-c", setting.file).stdout
    assert json.loads(elemta("status", "-c", setting.file, "--json").stdout)["held_accounts"] == [ACCOUNT]
    assert ACCOUNT in elemta("status", "-c", setting.file).stdout

    done = elemta("user", "release", "-c", setting.file, "--json", ACCOUNT)
    assert json.loads(done.stdout) == {"account": ACCOUNT, "held": True, "recipients": 1}
    assert json.loads(elemta("status", "-c", setting.file, "--json").stdout)["held_accounts"] == []
    wait_for(lambda: letters(setting, "dora"), "it goes")
    send(setting, port, password, "emil")
    wait_for(lambda: letters(setting, "emil"), "the account sends as before")
    again = elemta("user", "release", "-c", setting.file, ACCOUNT)
    assert again.returncode == 1
    assert "is not held" in again.stderr


def test_held_mail_is_removed_while_no_server_runs(
    setting: Setting, server: RunningServer, port: int, password: str
) -> None:
    send(setting, port, password, "bob", "carl", "dora")
    wait_for(lambda: server.events("account.suspicious"), "the log tells of it")
    assert server.stop() == 0
    done = elemta("user", "purge", "-c", setting.file, ACCOUNT)
    assert done.stdout == f"{ACCOUNT}: 3 recipients removed\n", done.stderr
    left = json.loads(elemta("queue", "list", "--json", "-c", setting.file, "--state", "held").stdout)
    assert left["messages"] == []
