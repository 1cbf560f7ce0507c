"""A renewal, played as certbot and lego do it: the hook, `elemta tls check`, and a server that goes on serving."""

import grp
import os
import smtplib
import ssl
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
import trustme
from server_process import RunningServer, Setting, serving, wait_for

HOOK = Path(__file__).parents[2] / "scripts/acme-hook"
GROUP = grp.getgrgid(os.getgid()).gr_name


class Lineage:
    """A folder as certbot keeps it: names that stay, links that change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.number = 0
        folder.mkdir()
        self.renew()

    def renew(self, name: str = "mx.example.org") -> None:
        self.number += 1
        issued = self.authority.issue_cert(name)
        files = {"fullchain": issued.cert_chain_pems[0], "privkey": issued.private_key_pem}
        for kind, blob in files.items():
            path = self.folder / f"{kind}{self.number}.pem"
            blob.write_to_path(str(path))
            path.chmod(0o600)
            link = self.folder / f"{kind}.pem"
            link.unlink(missing_ok=True)
            link.symlink_to(path.name)

    @property
    def certificate(self) -> bytes:
        return ssl.PEM_cert_to_DER_cert((self.folder / "fullchain.pem").read_text())


@pytest.fixture
def lineage(tmp_path: Path) -> Lineage:
    return Lineage(tmp_path / "live")


@pytest.fixture
def setting(tmp_path: Path, lineage: Lineage) -> Setting:
    setting = Setting(tmp_path)
    (tmp_path / "tls").mkdir()
    pair = f'certificate = "{tmp_path}/tls/fullchain.pem"\nkey = "{tmp_path}/tls/privkey.pem"'
    setting.write(extra=f'[tls]\n{pair}\ncheck_interval = "1s"\n')
    text = setting.file.read_text()
    setting.file.write_text(text.replace("[[listeners]]\n", '[[listeners]]\ntls = "starttls"\n', 1))
    assert (
        hook(setting, RENEWED_LINEAGE=str(lineage.folder), RENEWED_DOMAINS="mx.example.org").returncode == 0
    )
    return setting


@pytest.fixture
def server(setting: Setting) -> Generator[RunningServer, None, None]:
    with serving(setting.folder, setting.port, "-c", setting.file) as server:
        yield server


def hook(setting: Setting, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """The hook, with the command `elemta` of these sources."""
    command = setting.folder / "bin/elemta"
    command.parent.mkdir(exist_ok=True)
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m elemta "$@"\n')
    command.chmod(0o755)
    settings = {
        "ELEMTA_TLS": str(setting.folder / "tls"),
        "ELEMTA_CONFIG": str(setting.file),
        "ELEMTA_GROUP": GROUP,
        "PATH": f"{command.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(HOOK.parents[1]),
    }
    return subprocess.run(
        [str(HOOK), *arguments], check=False, capture_output=True, text=True, timeout=60, env=settings | more
    )


def served(port: int) -> bytes | None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
        client.starttls(context=context)
        assert isinstance(client.sock, ssl.SSLSocket)
        return client.sock.getpeercert(binary_form=True)


def test_a_renewal_is_served_and_ends_no_session(
    setting: Setting, server: RunningServer, lineage: Lineage
) -> None:
    key = setting.folder / "tls/privkey.pem"
    assert key.stat().st_mode & 0o777 == 0o640
    assert served(setting.port) == lineage.certificate
    with smtplib.SMTP("127.0.0.1", setting.port, timeout=30) as session:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        session.starttls(context=context)
        lineage.renew()
        done = hook(
            setting, RENEWED_LINEAGE=str(lineage.folder), RENEWED_DOMAINS="mx.example.org www.example.org"
        )
        assert done.returncode == 0, done.stderr
        assert "mx.example.org" in done.stdout
        wait_for(lambda: served(setting.port) == lineage.certificate, "the new certificate is served")
        assert session.noop()[0] == 250
    lineage.renew()
    done = hook(
        setting,
        LEGO_CERT_PATH=str(lineage.folder / "fullchain.pem"),
        LEGO_CERT_KEY_PATH=str(lineage.folder / "privkey.pem"),
        LEGO_CERT_DOMAIN="mx.example.org",
    )
    assert done.returncode == 0, done.stderr
    wait_for(lambda: served(setting.port) == lineage.certificate, "that of lego is served")
    assert not server.events("tls.trouble")


def test_what_cannot_be_used_is_taken_back(setting: Setting, lineage: Lineage) -> None:
    folder = setting.folder / "tls"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    foreign = Lineage(setting.folder / "foreign")
    done = hook(setting, str(lineage.folder / "fullchain.pem"), str(foreign.folder / "privkey.pem"))
    assert done.returncode == 1
    assert "is not used; the one before is in its place" in done.stderr
    done = hook(setting, str(lineage.folder / "absent.pem"), str(lineage.folder / "privkey.pem"))
    assert done.returncode != 0
    done = hook(setting, RENEWED_LINEAGE=str(foreign.folder), ELEMTA_GROUP="no such group")
    assert done.returncode == 1
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_another_certificate_of_the_machine_is_none_of_its_business(setting: Setting) -> None:
    before = (setting.folder / "tls/fullchain.pem").read_bytes()
    foreign = Lineage(setting.folder / "foreign")
    for names in ("www.example.org", "mx.example.org.evil.example"):
        done = hook(
            setting,
            RENEWED_LINEAGE=str(foreign.folder), RENEWED_DOMAINS=names, ELEMTA_DOMAIN="mx.example.org",
        )  # fmt: skip
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (setting.folder / "tls/fullchain.pem").read_bytes() == before
    assert hook(setting).returncode == 2
