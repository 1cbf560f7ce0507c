"""A release: what is in each artefact is listed, checksums hold, and who builds it again gets the same bytes."""

from __future__ import annotations

import json
import shutil
import subprocess
import tomllib
import zipfile
from collections.abc import Iterable
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from .machine import ROOT, require, run_script

pytestmark = pytest.mark.deploy

VENV = ROOT / "var/release"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
NOT_SOURCE = shutil.ignore_patterns(".git", ".venv", "var", "dist", "__pycache__", ".hypothesis", ".*_cache")


def build(source: Path, copy: Path, out: Path, **environment: str) -> Path:
    """A release of one moment of 2023, made in a copy of the source."""
    shutil.copytree(source, copy, ignore=NOT_SOURCE, copy_function=shutil.copy)  # with new times
    run_script(
        "bash", str(copy / "scripts/release.sh"), f"v{VERSION}", str(out), "deb",
        seconds=1200,
        environment={"ELEMTA_VENV": str(VENV), "SOURCE_DATE_EPOCH": "1700000000", "PYTHONPATH": "", **environment},
    )  # fmt: skip
    return out


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(ROOT, tmp_path_factory.mktemp("source") / "elemta", ignore=NOT_SOURCE))


@pytest.fixture(scope="module")
def release(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    require("dpkg-deb")
    run_script(
        "bash", "-c", ". scripts/setup-venv.sh", environment={"ELEMTA_VENV": str(VENV), "groups": "release"}
    )
    return build(source, tmp_path_factory.mktemp("one") / "elemta", tmp_path_factory.mktemp("release"))


def listed(sbom: Path) -> dict[str, str]:
    """Names and versions, that of the whole among them."""
    document = json.loads(sbom.read_text())
    parts: list[dict[str, Any]] = [document["metadata"]["component"], *document["components"]]
    return {canonicalize_name(part["name"]): part["version"] for part in parts}


def named(metadata: Iterable[Message]) -> dict[str, str]:
    return {canonicalize_name(each["Name"]): each["Version"] for each in metadata}


def metadata_in_zip(file: Path) -> list[Message]:
    with zipfile.ZipFile(file) as archive:
        found = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return [message_from_bytes(archive.read(name)) for name in found]


def metadata_below(folder: Path) -> list[Message]:
    return [message_from_bytes(file.read_bytes()) for file in folder.glob("*.dist-info/METADATA")]


def test_the_wheels_list_has_it_and_all_that_it_requires_in_versions_that_fit(release: Path) -> None:
    (wheel,) = metadata_in_zip(next(release.glob("*.whl")))
    parts = listed(release / "sbom-whl.cdx.json")
    assert parts["elemta"] == VERSION == wheel["Version"]
    required = [Requirement(text) for text in wheel.get_all("Requires-Dist", [])]
    required = [each for each in required if each.marker is None or each.marker.evaluate({"extra": ""})]
    assert len(required) > 10
    for each in required:
        assert parts[canonicalize_name(each.name)] in each.specifier, each
    edges = {
        each["ref"]: each.get("dependsOn", [])
        for each in json.loads((release / "sbom-whl.cdx.json").read_text())["dependencies"]
    }
    reached: set[str] = set()
    waiting = ["root-component"]
    while waiting:
        reached.add(ref := waiting.pop())
        waiting.extend(set(edges[ref]) - reached)
    assert reached == edges.keys(), "the list says for everything what requires it"


def test_the_zipapps_list_is_what_is_in_it(release: Path) -> None:
    assert listed(release / "sbom-pyz.cdx.json") == named(metadata_in_zip(release / "elemta.pyz"))


def test_the_debian_packages_list_is_what_is_in_it_and_comes_with_it(release: Path, tmp_path: Path) -> None:
    (package,) = release.glob("*.deb")
    run_script("dpkg-deb", "-x", str(package), str(tmp_path))
    inside = named(metadata_below(tmp_path / "usr/lib/elemta"))
    assert inside["elemta"] == VERSION
    assert listed(release / "sbom-deb.cdx.json") == inside
    own = tmp_path / "usr/share/doc/elemta/sbom.cdx.json"
    assert own.read_bytes() == (release / "sbom-deb.cdx.json").read_bytes()
    run_script("bash", "scripts/sbom.sh", str(package), str(tmp_path / "again.json"))
    assert (tmp_path / "again.json").read_bytes() == (release / "sbom-deb.cdx.json").read_bytes()


def test_the_lists_are_valid_cyclonedx(release: Path, tmp_path: Path) -> None:
    lists = sorted(release.glob("sbom-*.cdx.json"))
    assert [file.name for file in lists] == [f"sbom-{kind}.cdx.json" for kind in ("deb", "pyz", "whl")]
    broken = json.loads(lists[0].read_text())
    del broken["components"][0]["name"]
    (tmp_path / "broken.json").write_text(json.dumps(broken))
    program = """
import pathlib, sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

validator = JsonStrictValidator(SchemaVersion.V1_6)
for file in map(pathlib.Path, sys.argv[1:]):
    if validator.validate_str(file.read_text()) is not None:
        print(file.name)
"""
    once = {file.read_bytes(): file for file in lists}  # it takes its time
    files = [*map(str, once.values()), str(tmp_path / "broken.json")]
    assert run_script(str(VENV / "bin/python"), "-c", program, *files).split() == ["broken.json"]


def test_every_file_has_its_checksum(release: Path) -> None:
    checked = run_script("bash", "-c", f"cd {release} && sha256sum --check --strict SHA256SUMS")
    names = {line.removesuffix(": OK") for line in checked.splitlines()}
    assert names == {file.name for file in release.iterdir()} - {"SHA256SUMS"}
    assert len(names) == 7


def test_a_tag_that_is_not_the_version_makes_nothing(release: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "scripts/release.sh", "v9.9.9", tmp_path / "out"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"the tag says 9.9.9, pyproject.toml {VERSION}" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_second_build_elsewhere_makes_the_same_bytes(source: Path, release: Path, tmp_path: Path) -> None:
    again = build(source, tmp_path / "another-folder", tmp_path / "out", TZ="Pacific/Kiritimati", LC_ALL="C")
    assert (again / "SHA256SUMS").read_text() == (release / "SHA256SUMS").read_text()
