"""Source distribution and wheel: built, checked, installed into a fresh environment, and used from there."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from .machine import ROOT, run_script

pytestmark = pytest.mark.deploy


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run_script("bash", "scripts/package.sh", str(folder))
    return folder


def test_the_wheel_has_what_an_administrator_needs(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    for end in ("elemta/config/elemta.toml", "elemta/py.typed", "share/elemta/elemta.server.toml"):
        assert any(name.endswith(end) for name in names), end
    units = {name.rsplit("/")[-1] for name in names if "share/elemta/systemd" in name}
    assert units == {file.name for file in (ROOT / "systemd").iterdir()}
    assert not [name for name in names if name.startswith(("tests/", "var/"))]


def test_the_source_distribution_can_be_tested_and_packaged(built: Path) -> None:
    (source,) = built.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    wanted = (
        "scripts/stage.sh",
        "packaging/nfpm.yaml",
        "Dockerfile",
        "conftest.py",
        "tests/conftest.py",
        "conf/elemta.toml",
        "systemd/elemta.service",
        "LICENSE",
    )
    assert set(wanted) <= names
    assert not [name for name in names if name.startswith(("var/", ".venv"))]


def test_the_installed_wheel_works_outside_the_repository(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    run_script(sys.executable, "-m", "venv", str(tmp_path / "venv"))
    run_script(str(tmp_path / "venv/bin/pip"), "install", "--quiet", str(wheel))
    elemta = str(tmp_path / "venv/bin/elemta")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [elemta, *arguments],
            cwd=tmp_path,
            env={},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    assert run("--version").stdout.startswith("elemta, version ")
    assert run("config", "init", "my.toml").returncode == 0
    checked = run("check", "-c", "my.toml")
    assert (checked.returncode, "127.0.0.1:2525" in checked.stdout) == (0, True)
    assert '"hostname"' in run("config", "schema").stdout
