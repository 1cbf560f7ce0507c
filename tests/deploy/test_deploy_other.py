"""Packages for Arch and Alpine, and the single file: installed or unpacked with what there is of those systems here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .machine import require, run_script

pytestmark = pytest.mark.deploy

PACMAN = """\
[options]
Architecture = auto
SigLevel = Never
LocalFileSigLevel = Never
"""


def _compiled(library: Path) -> set[str]:
    """What the names of compiled modules say that they are made for."""
    return {file.name.split(".", 1)[1] for file in library.rglob("*.so") if "abi3" not in file.name}


def test_pacman_installs_the_package_for_arch(other_packages: dict[str, Path], tmp_path: Path) -> None:
    require("pacman")
    root, config = tmp_path / "root", tmp_path / "pacman.conf"
    (root / "var/lib/pacman").mkdir(parents=True)
    config.write_text(PACMAN)
    pacman = ("pacman", "--config", str(config), "--root", str(root), "--noconfirm")
    package = str(other_packages["archlinux"])
    run_script(*pacman, "--noscriptlet", "-dd", "--upgrade", package)
    assert "0 missing files" in run_script(*pacman, "--query", "--check", "elemta")
    information = run_script(*pacman, "--query", "--info", "elemta")
    assert "python>=3.14" in information
    assert (root / "usr/lib/systemd/system/elemta.service").is_file()
    assert (root / "usr/share/licenses/elemta/LICENSE").is_file()
    assert all("cpython-314-" in end and "-linux-gnu" in end for end in _compiled(root / "usr/lib/elemta"))


def test_the_package_for_alpine_has_an_openrc_service_and_fits_its_c_library(
    other_packages: dict[str, Path], tmp_path: Path
) -> None:
    # an apk is three gzip streams, one after the other: signature, control, data
    run_script(
        *("tar", "--extract", "--gzip", "--ignore-zeros", "--file", str(other_packages["apk"])),
        *("--warning=no-unknown-keyword", f"--directory={tmp_path}"),
    )
    information = (tmp_path / ".PKGINFO").read_text()
    assert "depend = python3~3.12" in information
    assert (tmp_path / "etc/init.d/elemta").stat().st_mode & 0o777 == 0o755
    run_script("sh", "-n", str(tmp_path / "etc/init.d/elemta"))
    for name in (".post-install", ".pre-deinstall", ".post-upgrade"):
        run_script("sh", "-n", str(tmp_path / name))
    assert not (tmp_path / "usr/lib/systemd").exists()
    compiled = _compiled(tmp_path / "usr/lib/elemta")
    assert compiled
    assert all("cpython-312-" in end and "-linux-musl" in end for end in compiled)


def test_the_single_file_runs(tmp_path: Path) -> None:
    require()
    made = tmp_path / "elemta.pyz"
    run_script("bash", "scripts/zipapp.sh", str(made))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-I", str(made), *arguments],
            cwd=tmp_path,
            env={"SHIV_ROOT": str(tmp_path / "unpacked"), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    first = run("--version")
    assert first.stdout.startswith("elemta, version "), first.stderr
    assert run("config", "init", "my.toml").returncode == 0
    checked = run("check", "-c", "my.toml")
    assert (checked.returncode, "127.0.0.1:2525" in checked.stdout) == (0, True), checked.stderr
