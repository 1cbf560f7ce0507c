"""What several of these tests install, built once; or, with ELEMTA_PACKAGES=FOLDER, what is in there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from .engine import Engine, docker_engine
from .machine import require, run_script


def _build(folder: Path, *kinds: str) -> dict[str, Path]:
    if "ELEMTA_PACKAGES" in os.environ:
        folder = Path(os.environ["ELEMTA_PACKAGES"])
    else:
        require()
        run_script("bash", "scripts/packages.sh", str(folder), *kinds, seconds=560)
    ends = {"deb": ".deb", "rpm": ".rpm", "archlinux": ".pkg.tar.zst", "apk": ".apk"}
    found = {}
    for kind in kinds:
        (found[kind],) = (file for file in folder.iterdir() if file.name.endswith(ends[kind]))
    return found


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """`deb` and `rpm`, for the Python of Debian's machine."""
    return _build(tmp_path_factory.mktemp("packages"), "deb", "rpm")


@pytest.fixture(scope="session")
def other_packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """`archlinux` and `apk`, for Pythons and a C library that are not here."""
    return _build(tmp_path_factory.mktemp("other-packages"), "archlinux", "apk")


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    with docker_engine() as engine:
        yield engine
