"""Each target under atheris for a bounded time: ELEMTA_FUZZ_SECONDS each, 10 by default."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .targets import TARGETS

pytestmark = [pytest.mark.fuzz, pytest.mark.deadline(3600)]

SECONDS = int(os.environ.get("ELEMTA_FUZZ_SECONDS", "10"))
ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_coverage_guided(name: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip(
            "atheris is not installed (dependency group `fuzz`; it has wheels for Linux and some Pythons)"
        )
    result = subprocess.run(
        [sys.executable, "-m", "fuzz.run_atheris", name, f"-max_total_time={SECONDS}", "-timeout=10", "-rss_limit_mb=1024",
         "-print_final_stats=1", f"-artifact_prefix={tmp_path}/"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=SECONDS + 120,
        check=False,
    )  # fmt: skip
    saved = [path.read_bytes() for path in tmp_path.iterdir() if path.is_file()]
    assert result.returncode == 0, f"{saved!r}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    runs = re.search(r"number_of_executed_units: ([0-9]+)", result.stderr)
    assert runs, result.stderr[-1000:]
    assert int(runs[1]) > 100, "it hardly ran"
