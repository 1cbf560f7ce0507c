"""OpenLDAP's slapd as the place of the accounts: found, bound, refused, gone, and under TLS only."""

from __future__ import annotations

import base64
import contextlib
import os
import smtplib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from ports import free_port
from proofs.servers import Elemta, end, require, running_elemta, wait_until

pytestmark = [pytest.mark.interop, pytest.mark.deadline(90)]

BASE = "dc=ours,dc=example"
PEOPLE = f"ou=people,{BASE}"
ANNA, ANNAS = "anna@ours.example", "correct hörse"

CONFIGURATION = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {folder}/slapd.pid
TLSCertificateFile {folder}/ldap.pem
TLSCertificateKeyFile {folder}/ldap.key
TLSCACertificateFile {folder}/authority.pem
# a password in the clear is refused by the server, too
security simple_bind=128
disallow bind_anon
database mdb
suffix "{base}"
rootdn "cn=root,{base}"
directory {folder}/data
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="cn=elemta,{base}" read by * none
"""

ENTRIES = f"""
dn: {BASE}
objectClass: dcObject
objectClass: organization
dc: ours
o: ours

dn: cn=elemta,{BASE}
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: elemta
userPassword: searcher

dn: {PEOPLE}
objectClass: organizationalUnit
ou: people

dn: uid=anna,{PEOPLE}
objectClass: inetOrgPerson
uid: anna
cn: Anna
sn: A
mail: {ANNA}
labeledURI: sales@ours.example
labeledURI: no address
userPassword:: {base64.b64encode(ANNAS.encode()).decode()}

dn: uid=twin1,{PEOPLE}
objectClass: inetOrgPerson
uid: twin1
cn: T
sn: T
mail: twin@ours.example
userPassword: one

dn: uid=twin2,{PEOPLE}
objectClass: inetOrgPerson
uid: twin2
cn: T
sn: T
mail: twin@ours.example
userPassword: one

dn: uid=star,{PEOPLE}
objectClass: inetOrgPerson
uid: star
cn: S
sn: S
mail: *
userPassword: star
"""


def run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def running_slapd(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A directory that takes passwords under TLS only; its certificate is for `localhost`."""
    with (folder / "slapd.out").open("ab") as output:
        process = subprocess.Popen(
            ["slapd", "-d", "0", "-f", f"{folder}/slapd.conf", "-h", f"ldap://127.0.0.1:{port}/"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )

    def listens() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
            return True
        return False

    try:
        wait_until(lambda: process.poll() is not None or listens(), "slapd listens")
        assert process.poll() is None, (folder / "slapd.out").read_text()
        yield process
    finally:
        if process.poll() is None:
            end(process, 20)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:/usr/sbin")
    require("slapd", "slapadd")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(f"{tmp_path}/authority.pem")
    for name in ("ldap", "cert"):
        issued = authority.issue_cert("localhost")
        issued.cert_chain_pems[0].write_to_path(f"{tmp_path}/{name}.pem")
        issued.private_key_pem.write_to_path(f"{tmp_path}/{name}.key")
    (tmp_path / "data").mkdir()
    (tmp_path / "slapd.conf").write_text(CONFIGURATION.format(folder=tmp_path, base=BASE))
    (tmp_path / "entries.ldif").write_text(ENTRIES)
    run("slapadd", "-f", f"{tmp_path}/slapd.conf", "-l", f"{tmp_path}/entries.ldif")
    secret = tmp_path / "searcher"
    secret.write_text("searcher\n")
    secret.chmod(0o600)
    return tmp_path


def configuration(folder: Path, submission: int, ldap: int, more: str = "") -> str:
    return f"""
[tls]
certificate = "{folder}/cert.pem"
key = "{folder}/cert.key"
[auth]
failure_delay = "0s"
free_failures = 100
[auth.ldap]
server = "ldap://localhost:{ldap}"
authorities = "{folder}/authority.pem"
base = "{PEOPLE}"
bind_name = "cn=elemta,{BASE}"
bind_secret = "{folder}/searcher"
filter = "(&(objectClass=inetOrgPerson)(mail={{name}}))"
send_as = "labeledURI"
{more}
[domains]
local = ["ours.example"]
[[routes]]
match = "*"
transport = "discard"
[[listeners]]
name = "submission"
address = "127.0.0.1:{submission}"
role = "submission"
tls = "off"
auth = "required"
"""


@contextlib.contextmanager
def client(port: int) -> Iterator[smtplib.SMTP]:
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as connection:
        connection.ehlo()
        yield connection


def say_plain(connection: smtplib.SMTP, name: str, password: str) -> int:
    words = base64.b64encode(f"\0{name}\0{password}".encode()).decode()  # smtplib's own takes ASCII alone
    return connection.docmd("AUTH", f"PLAIN {words}")[0]


def log_in(port: int, name: str, password: str) -> int:
    with client(port) as connection:
        return say_plain(connection, name, password)


@contextlib.contextmanager
def serving(folder: Path, ldap: int, more: str = "") -> Iterator[tuple[Elemta, int]]:
    port = free_port()
    text = configuration(folder, port, ldap, more)
    text = text.replace('tls = "off"', 'tls = "off"').replace(
        "[auth]\n", "[auth]\nloopback_without_tls = true\n", 1
    )
    with running_elemta(folder, text) as server:
        yield server, port


def test_accounts_of_slapd_log_in_and_send_as_themselves(folder: Path) -> None:
    ldap = free_port()
    with running_slapd(folder, ldap), serving(folder, ldap) as (_, port):
        assert log_in(port, ANNA, ANNAS) == 235
        assert log_in(port, "ANNA@ours.example", ANNAS) == 235
        for name, password in (
            (ANNA, "wrong"), (ANNA, "x" * 1000), ("nobody@ours.example", ANNAS), ("*", ANNAS), ("a*@ours.example", ANNAS),
            ("anna@ours.example)(uid=*", ANNAS), ("\\2a", "star"), (f"uid=anna,{PEOPLE}", ANNAS),
        ):  # fmt: skip
            assert log_in(port, name, password) == 535, name
        assert log_in(port, "*", "star") == 235  # whose address is really that
        assert log_in(port, "twin@ours.example", "one") == 454
        with client(port) as connection:
            assert say_plain(connection, ANNA, ANNAS) == 235
            assert connection.mail("sales@ours.example")[0] == 250
            connection.rset()
            assert connection.mail("boss@ours.example")[0] == 553


def test_a_slapd_that_goes_and_comes_back_costs_logins_for_so_long(folder: Path) -> None:
    ldap = free_port()
    with serving(folder, ldap) as (server, port):
        assert log_in(port, ANNA, ANNAS) == 454
        with running_slapd(folder, ldap):
            assert log_in(port, ANNA, ANNAS) == 235
        assert log_in(port, ANNA, ANNAS) == 235  # known for a while
        assert log_in(port, ANNA, "other") == 454
        with running_slapd(folder, ldap):
            assert log_in(port, ANNA, "other") == 535
        log = server.log.read_text()
        assert "auth.ldap: cannot be reached" in log
        assert ANNAS not in log


def test_a_wrong_secret_or_authority_is_told_to_the_operator(folder: Path) -> None:
    ldap = free_port()
    (folder / "searcher").write_text("wrong\n")
    with running_slapd(folder, ldap):
        for authorities, said in (
            ("authority.pem", "our own name and secret are refused"),
            ("", "cannot be reached"),
        ):
            text = configuration(folder, 2525, ldap).replace(
                "[auth]\n", "[auth]\nloopback_without_tls = true\n", 1
            )
            if not authorities:
                text = text.replace(f'authorities = "{folder}/authority.pem"\n', "")
            path = folder / "check.toml"
            path.write_text(f'hostname = "mx.example.org"\nstate_dir = "{folder}/state"\n{text}')
            done = subprocess.run(
                [sys.executable, "-m", "elemta", "check", "-c", str(path)],
                check=False, capture_output=True, text=True, timeout=30,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            assert f"auth.ldap: {said}" in done.stderr
