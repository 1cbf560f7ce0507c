"""Postfix as the sender: STARTTLS with a certificate that is checked, SMTPUTF8, large messages, AUTH, LMTP.

It has a configuration and a queue of its own; nothing is shared with the machine's.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from proofs.servers import open_folder, require, wait_until

from .beds import ACCOUNT, PASSWORD, TEN_MEGABYTES, Bed, running_bed

pytestmark = [pytest.mark.interop, pytest.mark.deadline(240)]

DAEMONS = "/usr/lib/postfix/sbin"
MAIN = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = {daemons}
mail_owner = postfix
setgid_group = postdrop
myhostname = postfix.example
mydestination =
inet_protocols = all
inet_interfaces = loopback-only
alias_maps =
local_recipient_maps =
default_transport = {transport}:[{host}]:{port}
maillog_file = {folder}/postfix.log
maillog_file_prefixes = {folder}
message_size_limit = 30000000
smtputf8_enable = yes
smtputf8_autodetect_classes = all
smtp_tls_CAfile = {authority}
smtp_tls_loglevel = 1
{options}
"""
MASTER = """
pickup unix n - n 1 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
smtps unix - - n - - smtp -o smtp_tls_wrappermode=yes
lmtp unix - - n - - lmtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    require("postfix", "sendmail")
    if os.getuid() != 0:
        pytest.skip("Postfix's processes change users: needs root")
    with running_bed(tmp_path_factory.mktemp("postfix")) as bed:
        yield bed


class Postfix:
    """A running Postfix that sends everything to one next hop."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def send(self, message: bytes, *recipients: str, sender: str = "a@postfix.example") -> None:
        subprocess.run(
            ["sendmail", "-C", str(self._folder / "etc"), "-i", "-f", sender, "--", *recipients],
            input=message,
            check=True,
            capture_output=True,
            timeout=60,
        )

    def log(self) -> str:
        path = self._folder / "postfix.log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def wait_for_status(self, number: int = 1) -> list[str]:
        """What became of recipients, as `to=<…>, … status=…`."""
        wait_until(lambda: len(re.findall(r" status=", self.log())) >= number, "Postfix's report", 90)
        return [line for line in self.log().splitlines() if " status=" in line]


@contextlib.contextmanager
def running_postfix(
    bed: Bed, port: int, *options: str, transport: str = "smtp", host: str = "127.0.0.1"
) -> Iterator[Postfix]:
    with open_folder() as folder:
        etc = folder / "etc"
        for name in ("etc", "queue", "data"):
            (folder / name).mkdir()
        shutil.chown(folder / "data", "postfix")
        authority = etc / "authority.pem"
        authority.write_bytes(bed.authority.read_bytes())
        (etc / "passwords").write_text(f"[{host}]:{port} {ACCOUNT}:{PASSWORD}\n")
        (etc / "main.cf").write_text(
            MAIN.format(
                folder=folder, daemons=DAEMONS, transport=transport, host=host, port=port, authority=authority,
                options="\n".join(options).replace("ETC", str(etc)),
            )
        )  # fmt: skip
        (etc / "master.cf").write_text(MASTER)
        command = ["postfix", "-c", str(etc)]
        subprocess.run([*command, "start"], check=True, capture_output=True, timeout=60)
        try:
            yield Postfix(folder)
        finally:
            subprocess.run([*command, "stop"], check=False, capture_output=True, timeout=60)


def test_starttls_with_a_checked_certificate(bed: Bed) -> None:
    with running_postfix(
        bed, bed.mx, "smtp_tls_security_level = verify", "smtp_tls_verify_cert_match = mx.example.org"
    ) as postfix:
        postfix.send(
            b"From: a@postfix.example\nSubject: x\n\n.\n..\n.dot\nlast\n",
            "tls1@ours.example",
            "tls2@ours.example",
        )
        lines = postfix.wait_for_status(2)
        assert all("status=sent (250 2.0.0 queued as" in line for line in lines), postfix.log()
        assert "Verified TLS connection established" in postfix.log()
    for number in (1, 2):
        (content,) = bed.wait_for(f"tls{number}")
        assert content.partition(b"\r\n\r\n")[2] == b".\r\n..\r\n.dot\r\nlast\r\n"
        assert b"with ESMTPS id" in content


def test_ten_megabytes_over_starttls(bed: Bed) -> None:
    body = (b"x" * 70 + b"\n" + b"." + b"y" * 9 + b"\n") * (TEN_MEGABYTES // 82)
    with running_postfix(bed, bed.mx, "smtp_tls_security_level = encrypt") as postfix:
        postfix.send(b"From: a@postfix.example\nSubject: ten\n\n" + body, "ten@ours.example")
        (line,) = postfix.wait_for_status()
        assert "status=sent" in line, postfix.log()
    (content,) = bed.wait_for("ten")
    text = content.partition(b"\r\n\r\n")[2].replace(b"\r\n", b"\n")
    assert hashlib.sha256(text).digest() == hashlib.sha256(body).digest()


def test_smtputf8(bed: Bed) -> None:
    with running_postfix(bed, bed.mx) as postfix:
        postfix.send(
            "From: jürgen@postfix.example\nSubject: Grüße\n\nGrüße\n".encode(),
            "b@müller.example",
            sender="jürgen@postfix.example",
        )
        (line,) = postfix.wait_for_status()
        assert "status=sent" in line, postfix.log()
    (content,) = bed.wait_for("b", domain="xn--mller-kva.example")
    assert "Subject: Grüße".encode() in content
    assert b"with UTF8SMTP id" in content
    assert "Return-Path: <jürgen@postfix.example>".encode() in content


def test_auth_over_starttls(bed: Bed) -> None:
    with running_postfix(
        bed,
        bed.submission,
        "smtp_tls_security_level = encrypt",
        "smtp_sasl_auth_enable = yes",
        "smtp_sasl_password_maps = texthash:ETC/passwords",
        "smtp_sasl_security_options = noanonymous",
        "smtp_sasl_mechanism_filter = plain, login",
    ) as postfix:
        postfix.send(b"From: user@ours.example\nSubject: x\n\nhello\n", "auth@far.example", sender=ACCOUNT)
        (line,) = postfix.wait_for_status()
        if "no mechanism available" in postfix.log():
            pytest.skip("Cyrus SASL has no PLAIN here: libsasl2-modules is not installed")
        assert "status=sent" in line, postfix.log()
    (content,) = bed.wait_for("auth", domain="far.example")
    assert b"with ESMTPSA id" in content


def test_auth_over_implicit_tls(bed: Bed) -> None:
    with running_postfix(
        bed,
        bed.implicit,
        "smtp_tls_security_level = encrypt",
        "smtp_sasl_auth_enable = yes",
        "smtp_sasl_password_maps = texthash:ETC/passwords",
        "smtp_sasl_security_options = noanonymous",
        "smtp_sasl_mechanism_filter = plain, login",
        transport="smtps",
    ) as postfix:
        postfix.send(
            b"From: user@ours.example\nSubject: x\n\nhello\n", "implicit@far.example", sender=ACCOUNT
        )
        (line,) = postfix.wait_for_status()
        if "no mechanism available" in postfix.log():
            pytest.skip("Cyrus SASL has no PLAIN here: libsasl2-modules is not installed")
        assert "status=sent" in line, postfix.log()
    assert bed.wait_for("implicit", domain="far.example")


def test_over_lmtp_each_recipient_has_its_reply(bed: Bed) -> None:
    with running_postfix(bed, bed.lmtp, transport="lmtp:inet") as postfix:
        postfix.send(b"From: a@postfix.example\nSubject: x\n\nhello\n", "l1@ours.example", "l2@ours.example")
        lines = postfix.wait_for_status(2)
        assert all("status=sent (250 2.1.5 queued as" in line for line in lines), postfix.log()
    assert bed.wait_for("l1")
    assert bed.wait_for("l2")


def test_over_ipv6(bed: Bed) -> None:
    if not bed.six:
        pytest.skip("this machine has no IPv6 loopback")
    with running_postfix(bed, bed.six, "smtp_tls_security_level = may", host="::1") as postfix:
        postfix.send(b"From: a@postfix.example\nSubject: x\n\nhello\n", "six@ours.example")
        (line,) = postfix.wait_for_status()
        assert "status=sent" in line, postfix.log()
    (content,) = bed.wait_for("six")
    assert b"[IPv6:::1]" in content


def test_a_burst_over_kept_connections(bed: Bed) -> None:
    with running_postfix(
        bed, bed.mx, "smtp_tls_security_level = may", "smtp_connection_cache_destinations = 127.0.0.1"
    ) as postfix:
        for number in range(30):
            postfix.send(
                f"From: a@postfix.example\nSubject: {number}\n\nhello\n".encode(), "burst@ours.example"
            )
        lines = postfix.wait_for_status(30)
        assert all("status=sent" in line for line in lines), postfix.log()
    assert len(bed.wait_for("burst", 30)) == 30
