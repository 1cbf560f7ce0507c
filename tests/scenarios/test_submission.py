"""A mail program hands in mail, a load balancer and a development server: the whole server, over TCP."""

import json
import mailbox
import smtplib
import socket
import ssl
from collections.abc import Generator
from pathlib import Path

import pytest
import trustme
from ports import free_port
from server_process import RunningServer, Setting, elemta, serving, wait_for

ACCOUNT = "anna@example.org"


@pytest.fixture
def ports() -> dict[str, int]:
    return {name: free_port() for name in ("submission", "submissions", "balanced")}


@pytest.fixture
def setting(tmp_path: Path, ports: dict[str, int]) -> Setting:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "cert.pem")
    setting = Setting(tmp_path)
    setting.write(
        extra=f"""
[[listeners]]
name = "submission"
address = "127.0.0.1:{ports["submission"]}"
role = "submission"
tls = "starttls"
auth = "required"
[[listeners]]
name = "submissions"
address = "127.0.0.1:{ports["submissions"]}"
role = "submission"
tls = "implicit"
auth = "required"
[[listeners]]
name = "balanced"
address = "127.0.0.1:{ports["balanced"]}"
proxy_protocol = true
[tls]
certificate = "{tmp_path}/cert.pem"
key = "{tmp_path}/cert.pem"
[auth]
users = "{tmp_path}/users"
failure_delay = "0s"
"""
    )
    return setting


@pytest.fixture
def password(setting: Setting) -> str:
    made = elemta("user", "add", "-c", setting.file, "--generate", "--json", ACCOUNT)
    assert made.returncode == 0, made.stderr
    return str(json.loads(made.stdout)["password"])


@pytest.fixture
def server(setting: Setting, password: str) -> Generator[RunningServer, None, None]:
    with serving(setting.folder, setting.port, "-c", setting.file) as server:
        yield server


@pytest.fixture
def trust(setting: Setting) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(setting.folder / "authority.pem"))


def the_mail(setting: Setting, user: str) -> mailbox.MaildirMessage:
    folder = setting.mail / "example.org" / user
    wait_for(lambda: (folder / "new").is_dir() and any((folder / "new").iterdir()), "the mail is there")
    [message] = mailbox.Maildir(folder)
    return message


def test_a_mail_program_logs_in_under_tls_and_sends_in_chunks(
    setting: Setting, server: RunningServer, ports: dict[str, int], password: str, trust: ssl.SSLContext
):
    with smtplib.SMTP("localhost", ports["submission"], local_hostname="laptop.example") as client:
        assert client.docmd("EHLO", "laptop.example")[0] == 250
        assert client.docmd("MAIL", f"FROM:<{ACCOUNT}>")[0] == 530
        client.starttls(context=trust)
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login(ACCOUNT, "wrong")
        client.login(ACCOUNT, password)
        assert client.docmd("MAIL", "FROM:<bob@example.org>")[0] == 553
        assert client.docmd("MAIL", f"FROM:<{ACCOUNT}>")[0] == 250
        assert client.docmd("RCPT", "TO:<bob@example.org>")[0] == 250
        chunk = b"From: anna\r\nSubject: chunks\r\n\r\nfirst\r\n"
        client.send(b"BDAT %d\r\n%b" % (len(chunk), chunk))
        assert client.getreply()[0] == 250
        client.send(b"BDAT 8 LAST\r\nsecond\r\n")
        assert client.getreply()[0] == 250
    message = the_mail(setting, "bob")
    assert message["From"] == "anna@example.org"  # RFC 6409 §8
    assert message["Date"]
    assert message["Message-ID"].endswith("@mx.example.org>")
    assert "with ESMTPSA id" in message["Received"]
    assert "anna" not in message["Received"]
    assert message.get_payload() == "first\nsecond\n"
    [authenticated] = wait_for(lambda: server.events("session.authenticated"), "the log tells of it")
    assert authenticated["account"] == ACCOUNT
    assert password not in server.log.read_text()


def test_a_mail_program_sends_over_tls_from_the_first_octet(
    setting: Setting, server: RunningServer, ports: dict[str, int], password: str, trust: ssl.SSLContext
):
    with smtplib.SMTP_SSL("localhost", ports["submissions"], context=trust) as client:
        client.login(ACCOUNT, password)
        client.sendmail(ACCOUNT, ["carl@example.org"], b"Subject: x\r\n\r\nhello\r\n")
    assert the_mail(setting, "carl").get_payload() == "hello\n"


def test_behind_a_load_balancer_the_real_client_is_seen(
    setting: Setting, server: RunningServer, ports: dict[str, int]
):
    with socket.create_connection(("127.0.0.1", ports["balanced"]), timeout=10) as sock:
        sock.sendall(b"PROXY TCP4 192.0.2.77 192.0.2.1 4321 25\r\n")
        reader = sock.makefile("rb")
        assert reader.readline()[:3] == b"220"
        sock.sendall(
            b"HELO client.example\r\nMAIL FROM:<a@else.example>\r\nRCPT TO:<dora@example.org>\r\nDATA\r\n"
            b"Subject: x\r\n\r\nhello\r\n.\r\nQUIT\r\n"
        )
        assert [line[:3] for line in reader] == [b"250", b"250", b"250", b"354", b"250", b"221"]
    assert "([192.0.2.77])" in the_mail(setting, "dora")["Received"]
    [forwarded] = wait_for(lambda: server.events("session.forwarded"), "the log tells of it")
    assert forwarded["via"] == "127.0.0.1"


def test_without_accounts_needed_a_program_on_this_machine_just_sends(
    setting: Setting, ports: dict[str, int]
):
    with serving(setting.folder, setting.port, "-c", setting.file, "--no-auth-required") as server:
        with smtplib.SMTP("localhost", ports["submission"], local_hostname="laptop.example") as client:
            client.sendmail(ACCOUNT, ["emil@example.org"], b"Subject: x\r\n\r\nhello\r\n")
        assert the_mail(setting, "emil").get_payload() == "hello\n"
        assert server.stop() == 0
