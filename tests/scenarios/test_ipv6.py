"""The server over IPv6: mail comes in, limits and trace fields know the address, and mail goes out again."""

from __future__ import annotations

import re
import shutil
import smtplib
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest
from ports import free_port, has_ipv6
from server_process import RunningServer, Setting, elemta, serving, wait_for

pytestmark = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    setting = Setting(tmp_path)
    setting.write(
        extra=f'[[listeners]]\nname = "six"\naddress = "[::1]:{free_port()}"\n',
    )
    return setting


@pytest.fixture
def port(setting: Setting) -> int:
    found = re.search(r"\[::1\]:(\d+)", setting.file.read_text())
    assert found
    return int(found[1])


@pytest.fixture
def server(setting: Setting) -> Generator[RunningServer, None, None]:
    with serving(setting.folder, setting.port, "-c", setting.file) as server:
        yield server


def delivered(setting: Setting, name: str) -> list[Path]:
    folder = setting.mail / "example.org" / name / "new"
    return list(folder.glob("*")) if folder.exists() else []


def client(port: int) -> smtplib.SMTP:
    return smtplib.SMTP("::1", port, local_hostname="[IPv6:::1]", timeout=10)


@pytest.mark.usefixtures("server")
def test_smtplib_delivers_over_ipv6_and_the_address_is_a_literal_in_received(
    setting: Setting, port: int
) -> None:
    with client(port) as session:
        assert (
            session.sendmail("anna@client.example", ["bob@example.org"], b"Subject: six\r\n\r\nhi\r\n") == {}
        )
    wait_for(lambda: delivered(setting, "bob"), "the message is in new/")
    (path,) = delivered(setting, "bob")
    # RFC 5321 §4.1.3: IPv6 literals carry their tag, as the client's hello did
    assert b"\nReceived: from [IPv6:::1] ([IPv6:::1]) by mx.example.org" in path.read_bytes()


@pytest.mark.usefixtures("server")
def test_a_stranger_over_ipv6_may_not_relay(port: int) -> None:
    with client(port) as session:
        session.ehlo()
        assert session.mail("anna@[IPv6:::1]")[0] == 250
        code, text = session.rcpt("victim@elsewhere.example")
        assert (code, text[:5]) == (550, b"5.7.1")
        assert session.rcpt("victim@[IPv6:::1]")[0] == 550


def test_a_network_of_ipv6_addresses_may_relay(setting: Setting, port: int) -> None:
    text = setting.file.read_text().replace("networks = []", 'networks = ["::1/128"]')
    setting.file.write_text(text)
    with serving(setting.folder, setting.port, "-c", setting.file) as server:
        with client(port) as session:
            session.ehlo()
            assert session.mail("anna@client.example")[0] == 250
            assert session.rcpt("carl@elsewhere.example")[0] == 250
            session.rset()
        with server.client() as session:  # over IPv4 it is not in the network
            session.ehlo()
            assert session.mail("anna@client.example")[0] == 250
            assert session.rcpt("carl@elsewhere.example")[0] == 550


def test_mail_goes_out_to_a_next_hop_on_ipv6(
    setting: Setting, server: RunningServer, port: int, tmp_path: Path
) -> None:
    assert server.process.poll() is None
    front = Setting(tmp_path / "front")
    front.folder.mkdir()
    front.file.write_text(
        f"""
hostname = "front.example.org"
state_dir = "{front.state}"
[[listeners]]
name = "mx"
address = "127.0.0.1:{front.port}"
[domains]
relay = ["example.org"]
[[routes]]
match = "example.org"
transport = "smtp"
host = "::1"
port = {port}
tls = "none"
"""
    )
    with serving(front.folder, front.port, "-c", front.file) as relay:
        with relay.client() as session:
            session.sendmail("anna@client.example", ["bob@example.org"], b"Subject: out\r\n\r\nhi\r\n")
        wait_for(lambda: delivered(setting, "bob"), "the message came over IPv6")
    (path,) = delivered(setting, "bob")
    assert b"from front.example.org ([IPv6:::1]) by mx.example.org" in path.read_bytes()


@pytest.mark.usefixtures("server")
def test_elemta_send_takes_an_ipv6_address_in_brackets(setting: Setting, port: int) -> None:
    done = elemta("send", "--server", f"[::1]:{port}", "--to", "bob@example.org")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("250 2.0.0 queued as ")
    wait_for(lambda: delivered(setting, "bob"), "the message is in new/")


def _require_swaks() -> None:
    if shutil.which("swaks") is None:
        pytest.skip("not installed: swaks")
    # Without it swaks ends with status 10 and one line on standard error.
    support = subprocess.run(["swaks", "--support"], capture_output=True, text=True, timeout=30, check=False)
    if "IPv6 supported" not in support.stdout:
        pytest.skip("swaks lacks the Perl module IO::Socket::INET6 (Debian: libio-socket-inet6-perl)")


@pytest.mark.interop
@pytest.mark.usefixtures("server")
def test_swaks_delivers_over_ipv6(setting: Setting, port: int) -> None:
    _require_swaks()
    done = subprocess.run(
        ["swaks", "--server", "[::1]", "--port", str(port), "--helo", "client.example",
         "--from", "a@client.example", "--to", "bob@example.org"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 250 2.0.0 queued as " in done.stdout
    wait_for(lambda: delivered(setting, "bob"), "the message is in new/")
