"""swaks and msmtp log in to a running server, each with every mechanism that it knows.

GNU SASL's own client sends STARTTLS before EHLO, which is out of sequence here; it speaks all mechanisms, with
channel binding, in tests/auth/test_auth_interop.py.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs

import pytest
import trustme
from ports import free_port
from proofs.servers import greets, require, running_elemta, wait_until

pytestmark = [pytest.mark.interop, pytest.mark.deadline(120)]

ACCOUNT, PASSWORD, TOKEN = "anna@ours.example", "pencil = 4 + x", "mF_9.B5f-4.1JqM"
MECHANISMS = [
    "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN", "CRAM-MD5", "EXTERNAL", "OAUTHBEARER", "XOAUTH2",
]  # fmt: skip


@dataclass
class Bed:
    folder: Path
    starttls: int
    implicit: int

    @property
    def mail(self) -> list[bytes]:
        return [path.read_bytes() for path in sorted((self.folder / "mail/new").glob("*"))]

    def log(self) -> str:
        return (self.folder / "elemta.log").read_text()


class Introspector(http.server.BaseHTTPRequestHandler):
    """Knows one token (RFC 7662)."""

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        right = form["token"] == [TOKEN]
        body = json.dumps({"active": True, "username": ACCOUNT} if right else {"active": False}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def introspecting() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Introspector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    folder = tmp_path_factory.mktemp("clients")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(f"{folder}/authority.pem")
    for name, identity in (("cert", "localhost"), ("anna", ACCOUNT), ("bob", "bob@ours.example")):
        issued = authority.issue_cert(identity)
        issued.cert_chain_pems[0].write_to_path(f"{folder}/{name}.pem")
        issued.private_key_pem.write_to_path(f"{folder}/{name}.key")
    starttls, implicit = free_port(), free_port()
    with introspecting() as introspection:
        config = f"""
[tls]
certificate = "{folder}/cert.pem"
key = "{folder}/cert.key"
client_authorities = "{folder}/authority.pem"
[auth]
users = "{folder}/users"
mechanisms = {json.dumps(MECHANISMS)}
recovery_key = "{folder}/recovery.key"
introspection = "http://127.0.0.1:{introspection}/"
failure_delay = "0s"
free_failures = 1000
[[routes]]
match = "*"
transport = "maildir"
path = "{folder}/mail"
"""
        for name, port, tls in (("starttls", starttls, "starttls"), ("implicit", implicit, "implicit")):
            config += f"""
[[listeners]]
name = "{name}"
address = "127.0.0.1:{port}"
role = "submission"
auth = "required"
client_certificates = true
tls = "{tls}"
"""
        add_account(folder, config)
        with running_elemta(folder, config):
            wait_until(lambda: greets(starttls), "the banner of the other listener")
            yield Bed(folder, starttls, implicit)


def add_account(folder: Path, config: str) -> None:
    path = folder / "users.toml"
    path.write_text(f'hostname = "mx.example.org"\nstate_dir = "{folder}/state"\n{config}')
    subprocess.run(
        [sys.executable, "-m", "elemta", "user", "add", "-c", str(path), ACCOUNT],
        input=f"{PASSWORD}\n{PASSWORD}\n", text=True, check=True, capture_output=True, timeout=60,
    )  # fmt: skip


def run(*command: str, said: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=60, input=said,
        env={**os.environ, **environment},
    )  # fmt: skip


def logged_in(bed: Bed, mechanism: str) -> bool:
    """Whether the log has such a login last."""
    found = re.findall(r'"type": ?"session.authenticated".*?"mechanism": ?"([^"]+)"', bed.log())
    return bool(found) and found[-1] == mechanism


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
@pytest.mark.parametrize("tls", ["--tls", "--tls-on-connect"])
def test_swaks(bed: Bed, mechanism: str, tls: str) -> None:
    require("swaks")
    port = bed.starttls if tls == "--tls" else bed.implicit
    for password, code in ((PASSWORD, "235 2.7.0"), (PASSWORD + "x", "535 5.7.8")):
        done = run(
            "swaks", "--server", "127.0.0.1", "--port", str(port), tls, "--helo", "client.example",
            "--auth", mechanism, "--auth-user", ACCOUNT, "--auth-password", password, "--from", ACCOUNT,
            "--to", "v@far.example",
        )  # fmt: skip
        assert "not available: requires" not in done.stderr, done.stderr
        assert code in done.stdout, done.stdout
        assert (done.returncode == 0) is (password == PASSWORD)


MSMTP = {
    "plain": PASSWORD, "login": PASSWORD, "cram-md5": PASSWORD, "scram-sha-256": PASSWORD, "oauthbearer": TOKEN,
    "xoauth2": TOKEN, "external": "",
}  # fmt: skip


@pytest.mark.parametrize("mechanism", list(MSMTP))
@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_msmtp(bed: Bed, tmp_path: Path, mechanism: str, tls: str) -> None:
    require("msmtp")
    port = bed.starttls if tls == "starttls" else bed.implicit
    for right in (True, False):
        text = f"""
defaults
tls on
tls_starttls {"on" if tls == "starttls" else "off"}
tls_trust_file {bed.folder}/authority.pem
account test
host localhost
port {port}
auth {mechanism}
user {ACCOUNT}
from {ACCOUNT}
"""
        if mechanism == "external":
            name = "anna" if right else "bob"
            text += f"tls_cert_file {bed.folder}/{name}.pem\ntls_key_file {bed.folder}/{name}.key\n"
        else:
            text += f'passwordeval "cat {tmp_path}/secret"\n'
            (tmp_path / "secret").write_text(MSMTP[mechanism] + ("" if right else "x") + "\n")
        (tmp_path / "msmtprc").write_text(text)
        (tmp_path / "msmtprc").chmod(0o600)
        before = len(bed.mail)
        done = run(
            "msmtp", "-C", f"{tmp_path}/msmtprc", "-a", "test", "--", "v@far.example",
            said="Subject: by msmtp\n\n.hello\n",
        )  # fmt: skip
        if not right:
            assert done.returncode != 0
            assert "535 5.7.8" in done.stderr, done.stderr
            continue
        assert done.returncode == 0, done.stderr
        wait_until(lambda before=before: len(bed.mail) > before, "the message")  # type: ignore[misc]
        wait_until(lambda: logged_in(bed, mechanism.upper()), "the login in the log")


def test_nothing_of_it_is_in_the_log(bed: Bed) -> None:
    for secret in (PASSWORD, TOKEN):
        assert secret not in bed.log()
