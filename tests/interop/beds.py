"""What the interop tests share: one elemta with listeners of every kind, accounts and a certificate, and its mail."""

from __future__ import annotations

import contextlib
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import trustme
from ports import free_port, has_ipv6
from proofs.servers import Elemta, greets, running_elemta, wait_until

ACCOUNT, PASSWORD = "user@ours.example", "correct horse"
TEN_MEGABYTES = 10 * 1000 * 1000


@dataclass
class Bed:
    server: Elemta
    mx: int
    """Port with STARTTLS and without AUTH, as 25."""
    submission: int
    """Port with STARTTLS and AUTH, as 587."""
    implicit: int
    """Port with TLS from the begin and AUTH, as 465."""
    lmtp: int
    six: int
    """Port on [::1], as the ordinary one; 0 where there is no IPv6."""
    authority: Path
    """PEM file with the certificate of who signed the server's."""
    mail: Path

    def client_tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.authority))

    def messages(self, name: str, domain: str = "ours.example") -> list[bytes]:
        """What is in a mailbox, in the order of its file names, with CRLF."""
        folder = self.mail / domain / quote(name) / "new"
        texts = [path.read_bytes() for path in sorted(folder.glob("*"))]
        return [text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") for text in texts]

    def wait_for(self, name: str, number: int = 1, domain: str = "ours.example") -> list[bytes]:
        wait_until(
            lambda: len(self.messages(name, domain)) >= number, f"{number} messages for {name}@{domain}", 60
        )
        return self.messages(name, domain)


@contextlib.contextmanager
def running_bed(folder: Path) -> Iterator[Bed]:
    """A server that keeps all mail of ours.example and far.example in maildirs; must end without a traceback."""
    authority = trustme.CA()
    authority_file = folder / "authority.pem"
    authority.cert_pem.write_to_path(str(authority_file))
    # Programs look for the name or for the address that they were given
    issued = authority.issue_cert("mx.example.org", "localhost", "127.0.0.1", "::1")
    issued.private_key_and_cert_chain_pem.write_to_path(f"{folder}/cert.pem")
    mx, submission, implicit, lmtp = (free_port() for _ in range(4))
    six = free_port() if has_ipv6() else 0
    mail = folder / "mail"
    config = f"""
[tls]
certificate = "{folder}/cert.pem"
key = "{folder}/cert.pem"
[auth]
users = "{folder}/users"
failure_delay = "0s"
[domains]
local = ["ours.example", "xn--mller-kva.example"]
[limits]
message_size = "30MiB"
[[routes]]
match = "*"
transport = "maildir"
path = "{mail}/{{domain}}/{{local_part}}"
[[listeners]]
name = "starttls"
address = "127.0.0.1:{mx}"
tls = "starttls"
[[listeners]]
name = "submission"
address = "127.0.0.1:{submission}"
role = "submission"
tls = "starttls"
auth = "required"
[[listeners]]
name = "implicit"
address = "127.0.0.1:{implicit}"
role = "submission"
tls = "implicit"
auth = "required"
[[listeners]]
name = "lmtp"
address = "127.0.0.1:{lmtp}"
role = "lmtp"
"""
    if six:
        config += f'[[listeners]]\nname = "six"\naddress = "[::1]:{six}"\ntls = "starttls"\n'
    _make_account(folder)
    with running_elemta(folder, config) as server:
        wait_until(lambda: greets(lmtp), "the banner of the other listeners")
        yield Bed(server, mx, submission, implicit, lmtp, six, authority_file, mail)


def _make_account(folder: Path) -> None:
    """The users file, by the command that operators have."""
    path = folder / "users.toml"
    path.write_text(
        f'hostname = "mx.example.org"\nstate_dir = "{folder}/state"\n'
        f'[[listeners]]\nname = "mx"\naddress = "127.0.0.1:0"\n[auth]\nusers = "{folder}/users"\n'
    )
    subprocess.run(
        [
            sys.executable,
            "-m",
            "elemta",
            "user",
            "add",
            "-c",
            str(path),
            "--send-as",
            "*@ours.example",
            ACCOUNT,
        ],
        input=f"{PASSWORD}\n{PASSWORD}\n",
        text=True,
        check=True,
        capture_output=True,
        timeout=60,
    )
