"""The TLS of submission ports as openssl and testssl.sh see it: 587 with STARTTLS, 465 with TLS from the begin."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from proofs.servers import require

from .beds import Bed, running_bed

pytestmark = [pytest.mark.interop, pytest.mark.deadline(300)]

SEVERITIES = {"LOW", "MEDIUM", "HIGH", "CRITICAL", "FATAL"}
EXPECTED = {
    # The certificate is of the test's own authority, and there is nobody to ask whether it is revoked
    "cert_chain_of_trust",
    "cert_trust",
    "cert_crlDistributionPoints",
    "cert_ocspURL",
    "cert_revocation",
    "cert_caIssuers",
    "cert_mustStapleExtension",
    "cert_ocspStapling",
    "OCSP_stapling",
    "DNS_CAArecord",
    "certificate_transparency",
    "cert_notAfter",
    "cert_extlifeSpan",
    "cert_validityPeriod",
}
"""Findings about what only a test has."""


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    require("openssl")
    with running_bed(tmp_path_factory.mktemp("tls")) as bed:
        yield bed


def s_client(port: int, *options: str, said: str = "QUIT\r\n") -> tuple[int, str]:
    result = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-crlf", "-ign_eof", *options],
        input=said.replace("\r\n", "\n"),
        capture_output=True,
        text=True,
        errors="replace",
        timeout=60,
        check=False,
    )
    return result.returncode, result.stdout + result.stderr


def starttls(port: int, *options: str, said: str = "QUIT\r\n") -> tuple[int, str]:
    return s_client(port, "-starttls", "smtp", *options, said=said)


def test_openssl_over_starttls(bed: Bed) -> None:
    _, text = starttls(
        bed.submission, "-CAfile", str(bed.authority), "-verify_return_error", said="EHLO x\r\nQUIT\r\n"
    )
    assert "Verify return code: 0 (ok)" in text
    assert "TLSv1.3" in text
    assert "250-PIPELINING" in text
    assert "\n221 2.0.0" in text.replace("\r", "")


def test_openssl_over_implicit_tls(bed: Bed) -> None:
    _, text = s_client(
        bed.implicit, "-CAfile", str(bed.authority), "-verify_return_error", said="EHLO x\r\nQUIT\r\n"
    )
    assert "Verify return code: 0 (ok)" in text
    assert "220 mx.example.org" in text
    assert "250-AUTH" in text
    assert "250-STARTTLS" not in text
    assert "\n221 2.0.0" in text.replace("\r", "")


@pytest.mark.parametrize("kind", ["starttls", "implicit"])
def test_the_session_ends_with_a_closing_alert(bed: Bed, kind: str) -> None:
    status, text = starttls(bed.submission) if kind == "starttls" else s_client(bed.implicit)
    assert "unexpected eof" not in text
    assert status == 0, text


def test_tls_1_2_is_spoken(bed: Bed) -> None:
    _, text = starttls(bed.submission, "-tls1_2")
    assert "Protocol  : TLSv1.2" in text
    assert "\n221 2.0.0" in text.replace("\r", "")


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_older_versions_are_refused(bed: Bed, version: str) -> None:
    # RFC 8996 §4, §5. The client is told to allow them, else it would refuse by itself
    status, text = starttls(bed.submission, version, "-cipher", "ALL:@SECLEVEL=0")
    assert status != 0, text
    assert "no peer certificate available" in text
    assert "221" not in text


@pytest.mark.parametrize("ciphers", ["aNULL:eNULL", "RC4:3DES", "kRSA"])
def test_weak_ciphers_are_refused(bed: Bed, ciphers: str) -> None:
    status, text = starttls(bed.submission, "-tls1_2", "-cipher", f"{ciphers}:@SECLEVEL=0")
    assert status != 0, text


def test_a_session_can_be_resumed(bed: Bed, tmp_path: Path) -> None:
    saved = tmp_path / "session"
    _, text = s_client(bed.implicit, "-sess_out", str(saved), said="EHLO x\r\nQUIT\r\n")
    assert saved.exists(), text
    _, text = s_client(bed.implicit, "-sess_in", str(saved), said="EHLO x\r\nQUIT\r\n")
    assert "Reused, TLSv1.3" in text, text


def test_commands_in_clear_text_before_starttls_are_not_obeyed_after_it(bed: Bed) -> None:
    with socket.create_connection(("127.0.0.1", bed.submission), timeout=10) as sock:
        sock.recv(1000)
        sock.sendall(b"EHLO x\r\n")
        sock.recv(4000)
        sock.sendall(b"STARTTLS\r\nEHLO evil\r\n")
        text = b""
        while piece := sock.recv(4000):
            text += piece
    assert text[:3] in (b"421", b"554"), text
    assert b"250" not in text


@pytest.mark.proof
@pytest.mark.parametrize("kind", ["starttls", "implicit"])
def test_testssl_has_no_finding_of_weight(bed: Bed, tmp_path: Path, kind: str) -> None:
    require("testssl")
    report = tmp_path / "report.json"
    port = bed.submission if kind == "starttls" else bed.implicit
    result = subprocess.run(
        ["testssl", *(["--starttls", "smtp"] if kind == "starttls" else []), "--add-ca", str(bed.authority),
         "--quiet", "--color", "0", "--warnings", "batch", "--nodns", "none", "--jsonfile", str(report),
         "--protocols", "--std", "--server-preference", "--server-defaults", "--vulnerable", "--fs",
         f"127.0.0.1:{port}"],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=280,
        check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert report.exists(), result.stdout[-3000:] + result.stderr[-1000:]
    findings = json.loads(report.read_text())
    assert any(finding["id"] == "TLS1_3" and "offered" in finding["finding"] for finding in findings), (
        findings
    )
    bad = [
        (finding["severity"], finding["id"], finding["finding"])
        for finding in findings
        if finding["severity"] in SEVERITIES and finding["id"].split(" ")[0] not in EXPECTED
    ]
    assert bad == []
