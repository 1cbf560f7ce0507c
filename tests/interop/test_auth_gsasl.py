"""GNU SASL logs in with SCRAM-SHA-256-PLUS over a TLS connection of its own to a running server.

Its program cannot be the whole client: it sends STARTTLS before EHLO. So the connection is the standard library's,
and every answer in AUTH is gsasl's, bound to this connection by `tls-unique`.
"""

from __future__ import annotations

import base64
import os
import select
import smtplib
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from proofs.servers import free_port, require, running_elemta, wait_until

from interop.test_auth_clients import ACCOUNT, PASSWORD, add_account, logged_in

pytestmark = [pytest.mark.interop, pytest.mark.deadline(120)]


class Bed:
    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port

    def log(self) -> str:
        return (self.folder / "elemta.log").read_text()


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    require("gsasl")
    folder, port = tmp_path_factory.mktemp("gsasl"), free_port()
    authority = trustme.CA()
    authority.cert_pem.write_to_path(f"{folder}/authority.pem")
    issued = authority.issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(f"{folder}/cert.pem")
    issued.private_key_pem.write_to_path(f"{folder}/cert.key")
    config = f"""
[tls]
certificate = "{folder}/cert.pem"
key = "{folder}/cert.key"
[auth]
users = "{folder}/users"
failure_delay = "0s"
free_failures = 1000
[[routes]]
match = "*"
transport = "maildir"
path = "{folder}/mail"
[[listeners]]
name = "submission"
address = "127.0.0.1:{port}"
role = "submission"
auth = "required"
tls = "starttls"
"""
    add_account(folder, config)
    with running_elemta(folder, config):
        yield Bed(folder, port)


def connect(bed: Bed, version: ssl.TLSVersion) -> smtplib.SMTP:
    context = ssl.create_default_context(cafile=f"{bed.folder}/authority.pem")
    context.maximum_version = version
    client = smtplib.SMTP("localhost", bed.port, local_hostname="client.example", timeout=20)
    client.starttls(context=context)
    client.ehlo()
    return client


def log_in(client: smtplib.SMTP, password: str, binding: bytes) -> tuple[int, bytes]:
    """The last reply to an exchange of which each answer is gsasl's."""
    command = ["gsasl", "--client", "--quiet", "--no-client-first", "--mechanism=SCRAM-SHA-256-PLUS"]
    command += [f"--authentication-id={ACCOUNT}", f"--password={password}"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
    ) as gsasl:
        assert gsasl.stdin is not None
        assert gsasl.stdout is not None
        output = gsasl.stdout

        def read() -> bytes:
            ready, _, _ = select.select([output], [], [], 10)
            return os.read(output.fileno(), 65536) if ready else b""

        def answer(challenge: bytes) -> bytes:
            assert gsasl.stdin is not None
            gsasl.stdin.write(challenge + b"\n")
            said = read()
            while b"channel binding" in said:  # it has no connection of its own, and asks what binds this one
                wanted = b"tls-unique" in said
                gsasl.stdin.write((base64.b64encode(binding) if wanted else b"") + b"\n")
                said = read()
            return said.strip().rpartition(b"\n")[2]

        try:
            assert read().startswith(b"SCRAM-SHA-256-PLUS")
            code, text = client.docmd("AUTH", "SCRAM-SHA-256-PLUS")
            while code == 334:
                code, text = client.docmd(answer(text).decode())
            return code, text
        finally:
            gsasl.kill()


def test_a_connection_of_tls_1_2(bed: Bed) -> None:
    for password, code in ((PASSWORD, 235), (PASSWORD + "x", 535)):
        with connect(bed, ssl.TLSVersion.TLSv1_2) as client:
            assert isinstance(client.sock, ssl.SSLSocket)
            binding = client.sock.get_channel_binding("tls-unique")
            assert binding
            assert log_in(client, password, binding)[0] == code
    wait_until(lambda: logged_in(bed, "SCRAM-SHA-256-PLUS"), "the login in the log")  # type: ignore[arg-type]


def test_the_binding_of_another_connection_is_refused(bed: Bed) -> None:
    with connect(bed, ssl.TLSVersion.TLSv1_2) as other, connect(bed, ssl.TLSVersion.TLSv1_2) as client:
        assert isinstance(other.sock, ssl.SSLSocket)
        binding = other.sock.get_channel_binding("tls-unique")
        assert binding
        assert log_in(client, PASSWORD, binding)[0] == 535


def test_tls_1_3_has_no_such_binding(bed: Bed) -> None:
    with connect(bed, ssl.TLSVersion.TLSv1_3) as client:
        assert "SCRAM-SHA-256-PLUS" in client.esmtp_features["auth"]  # by the certificate, which gsasl cannot
        assert log_in(client, PASSWORD, b"what there is not")[0] == 535
