"""Notices on demand (RFC 3461), by a real server: from the parameters of MAIL and RCPT to the report in a mailbox."""

from __future__ import annotations

import email.policy
from collections.abc import Generator
from email.message import EmailMessage
from pathlib import Path

import pytest
from server_process import RunningServer, Setting, serving, wait_for

MESSAGE = b"From: Anna <anna@client.example>\r\nSubject: a receipt, please\r\n\r\nhello\r\n"


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    setting = Setting(tmp_path_factory.mktemp("notices"))
    setting.write()
    return setting


@pytest.fixture(scope="module")
def server(setting: Setting) -> Generator[RunningServer, None, None]:
    with serving(setting.folder, setting.port, "-c", setting.file) as running:
        yield running


def letters(folder: Path) -> list[EmailMessage]:
    if not (folder / "new").exists():
        return []
    found = [
        email.message_from_bytes(raw, policy=email.policy.default)
        for raw in (path.read_bytes() for path in sorted((folder / "new").iterdir()))
    ]
    return [letter for letter in found if isinstance(letter, EmailMessage)]


def send(server: RunningServer, sender: str, notify: str) -> None:
    with server.client() as client:
        refused = client.sendmail(
            sender,
            ["bob@example.org"],
            MESSAGE,
            ["RET=HDRS", "ENVID=order+2B7"],
            [f"NOTIFY={notify}", "ORCPT=rfc822;bob+2Bx@example.org"],
        )
    assert refused == {}


def test_a_delivery_is_confirmed_to_one_who_asked(setting: Setting, server: RunningServer) -> None:
    send(server, "anna@client.example", "SUCCESS,FAILURE")
    folder = setting.mail / "client.example" / "anna"
    (notice,) = wait_for(lambda: letters(folder), "the notice is in the sender's mailbox")
    assert notice["Return-Path"] == "<>"
    _, status, header = notice.iter_parts()
    about, recipient = status.get_payload()
    assert str(about["Original-Envelope-Id"]) == "order+7"
    assert str(recipient["Original-Recipient"]) == "rfc822; bob+x@example.org"
    assert (str(recipient["Action"]), str(recipient["Status"])[0]) == ("delivered", "2")
    assert "a receipt, please" in header.as_string()
    assert "hello" not in header.as_string()


def test_who_did_not_ask_is_not_bothered(setting: Setting, server: RunningServer) -> None:
    send(server, "quiet@client.example", "NEVER")
    send(server, "", "SUCCESS")
    send(server, "last@client.example", "SUCCESS")
    wait_for(lambda: letters(setting.mail / "client.example" / "last"), "the last notice has come")
    assert not (setting.mail / "client.example" / "quiet").exists()
    assert len(letters(setting.mail / "example.org" / "bob")) >= 3
