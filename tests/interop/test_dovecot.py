"""elemta to Dovecot's LMTP: one recipient exists, the other bounces; one connection, an answer for each."""

from __future__ import annotations

import contextlib
import os
import pwd
import smtplib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ports import free_port
from proofs.servers import end, greets, open_folder, require, running_elemta, wait_until

pytestmark = pytest.mark.interop

USER = "nobody"
"""Owns the mailboxes; Dovecot's own users come with its package."""

CONFIGURATION = """
base_dir = {folder}/run
state_dir = {folder}/run
log_path = {folder}/dovecot.log
protocols = lmtp
listen = 127.0.0.1
ssl = no
mail_location = maildir:{folder}/mail/%n
mail_uid = {user}
mail_gid = {group}
first_valid_uid = 1
first_valid_gid = 1
auth_username_format = %n
default_vsz_limit = 512M
default_client_limit = 100
default_process_limit = 20
passdb {{
  driver = passwd-file
  args = username_format=%n {folder}/users
}}
userdb {{
  driver = passwd-file
  args = username_format=%n {folder}/users
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
}}
"""


@contextlib.contextmanager
def running_dovecot(folder: Path) -> Iterator[int]:
    """A Dovecot with one user, `known`; yields its LMTP port."""
    owner = pwd.getpwnam(USER)
    port = free_port()
    mail = folder / "mail"
    mail.mkdir()
    os.chown(mail, owner.pw_uid, owner.pw_gid)
    (folder / "users").write_text(f"known:{{PLAIN}}secret:{owner.pw_uid}:{owner.pw_gid}::{mail}/known::\n")
    (folder / "users").chmod(0o644)
    path = folder / "dovecot.conf"
    path.write_text(CONFIGURATION.format(folder=folder, port=port, user=owner.pw_uid, group=owner.pw_gid))
    with (folder / "dovecot.out").open("wb") as output:
        process = subprocess.Popen(
            ["dovecot", "-F", "-c", str(path)], stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        wait_until(lambda: process.poll() is not None or greets(port), "the banner of Dovecot")
        assert process.poll() is None, (folder / "dovecot.out").read_text()
        yield port
    finally:
        end(process, 20)


def messages(folder: Path) -> list[bytes]:
    return [path.read_bytes().replace(b"\r\n", b"\n") for path in folder.glob("new/*")]


def test_one_recipient_is_delivered_and_the_other_bounces(tmp_path: Path) -> None:
    require("dovecot")
    if os.getuid() != 0:
        pytest.skip("Dovecot's processes change users: needs root")
    with open_folder() as folder, running_dovecot(folder) as port:
        config = (
            '[domains]\nlocal = ["local.example", "senders.example"]\n'
            f'[[routes]]\nmatch = "local.example"\ntransport = "lmtp"\nhost = "127.0.0.1"\nport = {port}\n'
            f'[[routes]]\nmatch = "senders.example"\ntransport = "maildir"\npath = "{tmp_path}/back"\n'
        )
        with running_elemta(tmp_path, config) as server:
            with smtplib.SMTP("127.0.0.1", server.port, timeout=30) as client:
                refused = client.sendmail(
                    "a@senders.example",
                    ["known@local.example", "unknown@local.example"],
                    b"From: <a@senders.example>\r\nSubject: for two\r\n\r\n.dot\r\nlast\r\n",
                )
                assert refused == {}
            wait_until(
                lambda: bool(messages(folder / "mail/known")) and bool(messages(tmp_path / "back")),
                "the copy and the notice",
            )
        (copy,) = messages(folder / "mail/known")
    assert b"\nSubject: for two\n" in copy
    assert copy.endswith(b"\n\n.dot\nlast\n")
    assert copy.startswith(b"Return-Path: <a@senders.example>\n")
    (notice,) = messages(tmp_path / "back")
    assert b"Final-Recipient: rfc822; unknown@local.example\n" in notice.replace(
        b"rfc822;unknown", b"rfc822; unknown"
    )
    assert b"Status: 5.1.1\n" in notice
    assert b"known@local.example" not in notice.replace(b"unknown@local.example", b"")
