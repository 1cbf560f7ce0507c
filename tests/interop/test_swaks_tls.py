"""swaks over TLS, with AUTH, over IPv6 and LMTP.

swaks needs Perl's Net::SSLeay for TLS and IO::Socket::INET6 for IPv6; without them it ends with status 10 and
says so on its standard error only.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from proofs.servers import require

from .beds import ACCOUNT, PASSWORD, Bed, running_bed

pytestmark = [pytest.mark.interop, pytest.mark.deadline(120)]


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    require("swaks")
    with running_bed(tmp_path_factory.mktemp("swaks")) as bed:
        yield bed


def swaks(*options: str) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        ["swaks", "--helo", "client.example", "--from", ACCOUNT, *options],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    if "not available: requires" in result.stderr:
        pytest.skip(result.stderr.strip())
    return result


def test_starttls(bed: Bed) -> None:
    result = swaks("--server", "127.0.0.1", "--port", str(bed.mx), "--tls", "--to", "tls@ours.example")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "TLS started with cipher TLSv1.3" in result.stdout
    (content,) = bed.wait_for("tls")
    assert b"with ESMTPS id" in content


def test_implicit_tls_with_auth(bed: Bed) -> None:
    result = swaks(
        "--server", "127.0.0.1", "--port", str(bed.implicit), "--tls-on-connect", "--auth", "PLAIN",
        "--auth-user", ACCOUNT, "--auth-password", PASSWORD, "--to", "implicit@far.example",
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    (content,) = bed.wait_for("implicit", domain="far.example")
    assert b"with ESMTPSA id" in content


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_auth_over_starttls(bed: Bed, mechanism: str) -> None:
    name = f"auth{mechanism.lower()}"
    result = swaks(
        "--server", "127.0.0.1", "--port", str(bed.submission), "--tls", "--auth", mechanism,
        "--auth-user", ACCOUNT, "--auth-password", PASSWORD, "--to", f"{name}@far.example",
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert "235 2.7.0" in result.stdout
    assert bed.wait_for(name, domain="far.example")


def test_a_wrong_password(bed: Bed) -> None:
    result = swaks(
        "--server", "127.0.0.1", "--port", str(bed.submission), "--tls", "--auth", "PLAIN",
        "--auth-user", ACCOUNT, "--auth-password", "wrong", "--to", "x@far.example",
    )  # fmt: skip
    assert result.returncode != 0
    assert "535 5.7.8" in result.stdout, result.stdout


def test_auth_in_clear_text_is_not_offered(bed: Bed) -> None:
    result = swaks(
        "--server", "127.0.0.1", "--port", str(bed.submission), "--auth", "PLAIN",
        "--auth-user", ACCOUNT, "--auth-password", PASSWORD, "--to", "x@far.example",
    )  # fmt: skip
    assert result.returncode != 0
    assert " PLAIN" not in result.stdout, result.stdout
    assert "AUTH PLAIN" not in result.stdout


def test_pipelined_over_starttls(bed: Bed) -> None:
    result = swaks(
        "--server", "127.0.0.1", "--port", str(bed.mx), "--tls", "--pipeline",
        "--to", "pipe1@ours.example,pipe2@ours.example", "--body", ".\n..\n.dot",
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    for name in ("pipe1", "pipe2"):
        (content,) = bed.wait_for(name)
        assert content.partition(b"\r\n\r\n")[2].rstrip() == b".\r\n..\r\n.dot"


def test_ipv6(bed: Bed) -> None:
    if not bed.six:
        pytest.skip("this machine has no IPv6 loopback")
    result = swaks("--server", f"[::1]:{bed.six}", "--tls", "--to", "six@ours.example")
    assert result.returncode == 0, result.stdout + result.stderr
    (content,) = bed.wait_for("six")
    assert b"[IPv6:::1]" in content


def test_lmtp(bed: Bed) -> None:
    result = swaks(
        "--protocol",
        "LMTP",
        "--server",
        "127.0.0.1",
        "--port",
        str(bed.lmtp),
        "--to",
        "l1@ours.example,l2@ours.example",
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("queued as") == 2, result.stdout
    assert bed.wait_for("l1")
    assert bed.wait_for("l2")


def test_xclient_is_refused_to_strangers(bed: Bed) -> None:
    result = swaks(
        "--server", "127.0.0.1", "--port", str(bed.mx), "--xclient-addr", "10.9.8.7", "--xclient-no-verify",
        "--to", "x@ours.example",
    )  # fmt: skip
    assert result.returncode != 0
