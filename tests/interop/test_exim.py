"""Exim as the sender: with and without BDAT, STARTTLS, AUTH, large and 8-bit messages.

Its Debian package conflicts with Postfix's, so .ci/run only unpacks it, into var/interop/exim. It wants a user
that is not there: each run has its own /etc/passwd in a mount namespace, which takes root.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from proofs.servers import open_folder, require

from .beds import ACCOUNT, PASSWORD, TEN_MEGABYTES, Bed, running_bed

pytestmark = [pytest.mark.interop, pytest.mark.deadline(180)]

UNPACKED = Path(__file__).parents[2] / "var" / "interop" / "exim" / "usr" / "sbin" / "exim4"
USER = "Debian-exim"
UID = 48211

CONFIGURATION = """
primary_hostname = exim.example
exim_path = {exim}
spool_directory = {folder}/spool
log_file_path = {folder}/log/%slog
keep_environment =
add_environment =
begin routers
all:
  driver = manualroute
  transport = out
  route_list = * 127.0.0.1
  self = send
begin transports
out:
  driver = smtp
  port = {port}
  allow_localhost
{options}
begin retry
* * F,1h,1m
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  client_send = ^{account}^{password}
"""


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    with running_bed(tmp_path_factory.mktemp("exim")) as bed:
        yield bed


def exim_binary() -> str:
    found = (
        os.environ.get("ELEMTA_EXIM") or shutil.which("exim4") or (str(UNPACKED) if UNPACKED.exists() else "")
    )
    if not found:
        pytest.skip("no Exim: .ci/run unpacks one into var/interop/exim")
    if os.getuid() != 0:
        pytest.skip("Exim wants a user of its own: needs root")
    require("unshare")
    return found


def send(
    port: int, message: bytes, recipients: list[str], *options: str, sender: str = "a@exim.example"
) -> str:
    """Have Exim deliver a message now; its log."""
    exim = exim_binary()
    with open_folder() as folder:
        for name in ("spool", "log"):
            (folder / name).mkdir()
            os.chown(folder / name, UID, UID)
        (folder / "passwd").write_text(
            Path("/etc/passwd").read_text() + f"{USER}:x:{UID}:{UID}::/nonexistent:/usr/sbin/nologin\n"
        )
        (folder / "group").write_text(Path("/etc/group").read_text() + f"{USER}:x:{UID}:\n")
        (folder / "exim.conf").write_text(
            CONFIGURATION.format(
                exim=exim,
                folder=folder,
                port=port,
                account=ACCOUNT,
                password=PASSWORD,
                options="\n".join(f"  {option}" for option in options),
            )
        )
        (folder / "exim.conf").chmod(0o644)
        own = 'mount --bind {0}/passwd /etc/passwd && mount --bind {0}/group /etc/group && shift && exec "$@"'
        result = subprocess.run(
            ["unshare", "--mount", "sh", "-c", own.format(folder), "sh", "-", exim, "-C", f"{folder}/exim.conf",
             "-odi", "-i", "-f", sender, *recipients],
            input=message,
            capture_output=True,
            timeout=120,
            check=False,
        )  # fmt: skip
        log = "".join(path.read_text("utf-8", "replace") for path in (folder / "log").iterdir())
        if b"unshare" in result.stderr or b"mount:" in result.stderr:
            pytest.skip(f"no mount namespace here: {result.stderr.decode()!r}")
        assert result.returncode == 0, (result.stderr, log)
        return log


def delivered(log: str) -> list[str]:
    return re.findall(r" [=-]> .*", log)


@pytest.mark.parametrize("chunking", [True, False], ids=["BDAT", "DATA"])
def test_several_recipients(bed: Bed, chunking: bool) -> None:
    name = "bdat" if chunking else "data"
    options = [] if chunking else ["hosts_try_chunking ="]
    log = send(
        bed.mx,
        b"From: a@exim.example\nSubject: x\n\n.\n..\n.dot\nlast\n",
        [f"{name}1@ours.example", f"{name}2@ours.example"],
        *options,
    )
    lines = delivered(log)
    assert len(lines) == 2, log
    # Exim writes K for CHUNKING
    assert all((" K " in line) is chunking for line in lines), log
    for number in (1, 2):
        (content,) = bed.wait_for(f"{name}{number}")
        assert content.partition(b"\r\n\r\n")[2] == b".\r\n..\r\n.dot\r\nlast\r\n"


@pytest.mark.parametrize("chunking", [True, False], ids=["BDAT", "DATA"])
def test_ten_megabytes_over_starttls(bed: Bed, chunking: bool) -> None:
    name = "tenbdat" if chunking else "tendata"
    body = (b"x" * 70 + b"\n" + b"." + b"y" * 9 + b"\n") * (TEN_MEGABYTES // 82)
    log = send(
        bed.mx,
        b"From: a@exim.example\nSubject: ten\n\n" + body,
        [f"{name}@ours.example"],
        "hosts_require_tls = *",
        *([] if chunking else ["hosts_try_chunking ="]),
    )
    (line,) = delivered(log)
    assert "X=TLS" in line, log
    (content,) = bed.wait_for(name)
    text = content.partition(b"\r\n\r\n")[2].replace(b"\r\n", b"\n")
    assert hashlib.sha256(text).digest() == hashlib.sha256(body).digest()
    assert b"with ESMTPS id" in content


def test_auth_over_starttls(bed: Bed) -> None:
    log = send(
        bed.submission,
        b"From: user@ours.example\nSubject: x\n\nhello\n",
        ["auth@far.example"],
        "hosts_require_tls = *",
        "hosts_require_auth = *",
        sender=ACCOUNT,
    )
    (line,) = delivered(log)
    assert " A=plain" in line, log
    (content,) = bed.wait_for("auth", domain="far.example")
    assert b"with ESMTPSA id" in content


def test_auth_over_implicit_tls(bed: Bed) -> None:
    log = send(
        bed.implicit,
        b"From: user@ours.example\nSubject: x\n\nhello\n",
        ["implicit@far.example"],
        "protocol = smtps",
        "hosts_require_auth = *",
        sender=ACCOUNT,
    )
    assert len(delivered(log)) == 1, log
    assert bed.wait_for("implicit", domain="far.example")


def test_eight_bits_pass_as_they_are(bed: Bed) -> None:
    text = bytes(range(128, 256)) + b"\n"
    send(bed.mx, b"From: a@exim.example\nSubject: x\n\n" + text, ["eight@ours.example"])
    (content,) = bed.wait_for("eight")
    assert content.endswith(bytes(range(128, 256)) + b"\r\n")


def test_over_lmtp_with_bdat_each_recipient_has_its_reply(bed: Bed) -> None:
    log = send(
        bed.lmtp,
        b"From: a@exim.example\nSubject: x\n\nhello\n",
        ["lmtp1@ours.example", "lmtp2@ours.example"],
        "protocol = lmtp",
    )
    lines = delivered(log)
    assert len(lines) == 2, log
    assert all(" K " in line and "250 2.1.5 queued as" in line for line in lines), log
    for number in (1, 2):
        (content,) = bed.wait_for(f"lmtp{number}")
        assert b"with LMTP id" in content
