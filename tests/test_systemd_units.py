"""The shipped units: what systemd itself says about them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from elemta.config import load_config

ROOT = Path(__file__).parent.parent
UNITS = ROOT / "systemd"
MAX_EXPOSURE = 12
"""Tenths of a point: 1.2."""

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


@needs_systemd
def test_units_are_valid(tmp_path: Path) -> None:
    """`verify` exits 0 also for keys it does not know, so any word it says is a failure."""
    tree = tmp_path / "etc/systemd/system"
    tree.mkdir(parents=True)
    names = sorted(unit.name for unit in UNITS.iterdir() if unit.suffix in (".service", ".socket"))
    for name in names:
        shutil.copy(UNITS / name, tree)
    binary = tmp_path / "usr/bin/elemta"
    binary.parent.mkdir(parents=True)
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    kill = tmp_path / "bin/kill"
    kill.parent.mkdir()
    shutil.copy("/bin/kill", kill)
    # The targets of the machine's own systemd, which the units are ordered against.
    shutil.copytree("/usr/lib/systemd/system", tmp_path / "usr/lib/systemd/system", symlinks=True)
    found = subprocess.run(
        ["systemd-analyze", f"--root={tmp_path}", "--man=no", "verify", *names],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    ours = [line for line in (found.stdout + found.stderr).splitlines() if "elemta" in line]
    assert (found.returncode, ours) == (0, [])


@needs_systemd
def test_the_service_exposes_little() -> None:
    found = subprocess.run(
        [
            "systemd-analyze",
            "security",
            "--offline=yes",
            f"--threshold={MAX_EXPOSURE}",
            str(UNITS / "elemta.service"),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert found.returncode == 0, found.stdout[-200:]


def test_the_service_is_watched_and_notifies() -> None:
    text = (UNITS / "elemta.service").read_text()
    for setting in ("Type=notify", "WatchdogSec=", "Restart=on-failure", "RestartPreventExitStatus=78"):
        assert setting in text


def test_the_configuration_for_packages_is_right_but_for_three_lines(tmp_path: Path) -> None:
    """The name of the machine, who reads postmaster's mail, the domains: nothing else names an example."""
    text = (ROOT / "conf/elemta.server.toml").read_text()
    settings = [line for line in text.splitlines() if not line.startswith("#")]
    assert sum("example.org" in line for line in settings) == 3
    file = tmp_path / "elemta.toml"
    file.write_text(text.replace("example.org", "mail.test"))
    config = load_config(file)
    assert config.state_dir == Path("/var/lib/elemta")  # StateDirectory= of the unit
    opened = re.findall(r"^ListenStream=(\d+)$", _units("*.socket"), re.MULTILINE)
    assert {listener.address.port for listener in config.listeners} == set(map(int, opened))
    (signing,) = config.signing
    assert [str(pattern) for pattern in signing.patterns(config.domains.local)] == ["mail.test"]


def _units(pattern: str) -> str:
    return "".join(unit.read_text() for unit in UNITS.glob(pattern))
