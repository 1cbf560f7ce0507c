"""The RPM: checked, installed by dnf into an empty root, and its scripts run by rpm in a real machine."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .machine import ROOT, Machine, booted, debian_tree, overlay, require, run_script, smtp

pytestmark = pytest.mark.deploy

STAND_IN = """\
# What elemta asks of a distribution, empty: only whether the names fit is tried here.
Name: stand-in
Version: 1
Release: 1
Summary: What a real system would have
License: MIT
BuildArch: noarch
Provides: /usr/bin/python3, /bin/sh, systemd, logrotate, python(abi) = {python}
%description
What a real system would have.
%files
"""


def _query(package: Path, *what: str) -> list[str]:
    return run_script("rpm", "--query", "--package", *what, str(package)).splitlines()


def test_rpmlint_finds_no_error(packages: dict[str, Path]) -> None:
    require("rpmlint")
    config = str(ROOT / "packaging/rpmlint.toml")
    done = subprocess.run(
        ["rpmlint", "--config", config, str(packages["rpm"])],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    errors = [line for line in done.stdout.splitlines() if ": E: " in line]
    assert (done.returncode, errors) == (0, []), done.stdout + done.stderr


def test_files_are_marked_for_what_they_are(packages: dict[str, Path]) -> None:
    require("rpm")
    package = packages["rpm"]
    assert set(_query(package, "--configfiles")) == {"/etc/elemta/elemta.toml", "/etc/logrotate.d/elemta"}
    assert set(_query(package, "--docfiles")) == {
        "/usr/share/doc/elemta/README.md",
        "/usr/share/doc/elemta/sbom.cdx.json",
        "/usr/share/man/man5/elemta.toml.5.gz",
        "/usr/share/man/man8/elemta.8.gz",
    }
    assert _query(package, "--licensefiles") == ["/usr/share/licenses/elemta/LICENSE"]
    names = _query(package, "--list")
    assert not [name for name in names if "/tests/" in name or name.endswith(".pyc") or "lintian" in name]
    assert any("elemta" in line for line in _query(package, "--changelog"))


def test_dnf_installs_it_into_an_empty_root(packages: dict[str, Path], tmp_path: Path) -> None:
    require("rpm", "rpmbuild", "dnf", "createrepo_c")
    repository, root = tmp_path / "repository", tmp_path / "root"
    repository.mkdir()
    shutil.copy(packages["rpm"], repository)
    (python,) = (
        line.rpartition(" ")[2]
        for line in _query(packages["rpm"], "--requires")
        if line.startswith("python(abi)")
    )
    spec = tmp_path / "stand-in.spec"
    spec.write_text(STAND_IN.format(python=python))
    run_script("rpmbuild", "-bb", "--quiet", f"--define=_rpmdir {repository}", str(spec))
    run_script("createrepo_c", "--quiet", str(repository))
    run_script(
        *("dnf", "--assumeyes", "--quiet", f"--installroot={root}", "--releasever=1"),
        *("--setopt=reposdir=/nonexistent", "--setopt=gpgcheck=0", "--setopt=tsflags=noscripts"),
        *(
            f"--setopt=cachedir={tmp_path}/cache",
            f"--setopt=logdir={tmp_path}",
            "--setopt=persistdir=/persist",
        ),
        *(f"--repofrompath=elemta,file://{repository}", "--repo=elemta", "install", "elemta"),
    )
    run_script("rpm", "--root", str(root), "--verify", "elemta")
    assert (root / "etc/elemta/credentials").stat().st_mode & 0o777 == 0o700


@pytest.fixture(scope="module")
def machine(packages: dict[str, Path]) -> Iterator[Machine]:
    """A machine with rpm beside its own packages; its Python and systemd are the real ones."""
    require("systemd-nspawn", "nsenter", "rpm")
    with overlay(debian_tree()) as root, booted(root) as machine:
        shutil.copy(packages["rpm"], root / "root/elemta.rpm")
        yield machine


def rpm(machine: Machine, *arguments: str) -> str:
    # the machine's dependencies are known to dpkg, not to rpm
    return machine.run("rpm", "--force-debian", "--nodeps", *arguments, seconds=200)


def test_scripts_make_the_user_the_keys_and_start_nothing(machine: Machine) -> None:
    said = rpm(machine, "--install", "/root/elemta.rpm")
    assert "change the lines (1) to (3)" in said
    assert machine.show("elemta.socket", "ActiveState") == "inactive"
    assert "elemta" in machine.run("getent", "passwd", "elemta")
    assert machine.run("stat", "-c", "%a %U %G", "/etc/elemta/privkey.pem").split() == [
        "640",
        "root",
        "elemta",
    ]
    config = "/etc/elemta/elemta.toml"
    machine.edit(config, 'hostname = "mx.example.org"', 'hostname = "mx.mail.test"')
    machine.edit(config, 'postmaster = "postmaster@example.org"', 'postmaster = "alice@mail.test"')
    machine.edit(config, 'local = ["example.org"]', 'local = ["mail.test"]')
    machine.run("elemta", "check")
    machine.run("systemctl", "enable", "--now", "elemta", seconds=120)
    assert "250 mx.mail.test" in machine.python(smtp(25, "EHLO client.example"))


def test_a_new_release_restarts_the_server_and_keeps_the_configuration(machine: Machine) -> None:
    before = int(machine.show("elemta.service", "MainPID"))
    rpm(machine, "--upgrade", "--replacepkgs", "/root/elemta.rpm")
    assert machine.show("elemta.service", "ActiveState") == "active"
    assert int(machine.show("elemta.service", "MainPID")) != before
    assert 'local = ["mail.test"]' in (machine.root / "etc/elemta/elemta.toml").read_text()
    assert machine.run("systemctl", "is-enabled", "elemta.socket").strip() == "enabled"
    assert "250 mx.mail.test" in machine.python(smtp(25, "EHLO client.example"))


def test_erasing_stops_the_server_and_keeps_queue_and_changed_configuration(machine: Machine) -> None:
    rpm(machine, "--erase", "elemta")
    for unit in ("elemta.socket", "elemta.service"):
        assert machine.call("systemctl", "is-active", unit).stdout.strip() == "inactive"
    assert not (machine.root / "usr/lib/elemta").exists()
    assert not (machine.root / "usr/bin/elemta").exists()
    assert 'local = ["mail.test"]' in (machine.root / "etc/elemta/elemta.toml.rpmsave").read_text()
    assert list((machine.root / "var/lib/elemta").rglob("spool.db"))
