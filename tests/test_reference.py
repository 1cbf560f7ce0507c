"""scripts/reference: every setting and command is there, and what they say does no harm to the page."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import attrs
import pytest

from elemta.config import Config

SCRIPT = Path(__file__).parent.parent / "scripts" / "reference"


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("reference", str(SCRIPT))
    spec = importlib.util.spec_from_loader("reference", loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    sys.modules["reference"] = module  # its dataclasses look there
    loader.exec_module(module)
    return module


def test_every_setting_has_a_sentence(reference: ModuleType) -> None:
    settings = [(section.header, each) for section in reference.sections() for each in section.settings]
    assert len(settings) > 100
    assert [(header, each.name) for header, each in settings if not each.text] == []


def test_the_first_level_is_complete(reference: ModuleType) -> None:
    sections = reference.sections()
    found = {each.name for each in sections[0].settings}
    found |= {section.header.strip("[]").split(".")[0] for section in sections[1:]}
    expected = {field.name for field in attrs.fields(Config)} - {"signing"}  # refused in files as yet
    assert expected <= found


def test_kinds_and_defaults_are_written_as_in_a_file(reference: ModuleType) -> None:
    by_name = {
        (section.header, each.name): each for section in reference.sections() for each in section.settings
    }
    assert by_name["[queue]", "lifetime"].kind == "duration"
    assert by_name["[queue]", "lifetime"].default == '"5d"'
    assert by_name["[limits]", "message_size"].kind == "size"
    assert by_name["[[listeners]]", "vrfy"].default == "false"
    assert by_name["[[listeners]]", "name"].required
    assert by_name["[[listeners]]", "tls"].kind == 'one of "off", "starttls", "implicit"'
    assert by_name["[dns]", "nameservers"].kind == "list: text"


@pytest.mark.parametrize(
    ("text", "page"),
    [
        (".TH is no request here", "\\&.TH is no request here"),
        ("'nor this", "\\(aqnor this"),
        ("`code` and --option", "\\fBcode\\fR and \\-\\-option"),
        ("C:\\path", "C:\\epath"),
    ],
)
def test_text_is_no_request_of_a_manual_page(reference: ModuleType, text: str, page: str) -> None:
    assert reference.roff(text) == page


def test_text_is_no_markup(reference: ModuleType) -> None:
    page = reference.markdown()
    assert "`<postmaster>`" in page  # code stays
    assert "need \\[tls\\]" in page


def test_manual_pages_name_every_command(reference: ModuleType) -> None:
    page = reference.commands_page()
    for command in ("elemta run", "elemta check", "elemta queue list", "elemta user add", "elemta tls check"):
        assert f'.SS "{command}' in page
    assert ".SS" in page


@pytest.mark.skipif(
    shutil.which("man") is None or shutil.which("groff") is None, reason="man is not installed"
)
@pytest.mark.parametrize("name", ["elemta.8", "elemta.toml.5"])
def test_manual_pages_have_no_warnings(reference: ModuleType, tmp_path: Path, name: str) -> None:
    text = reference.commands_page() if name == "elemta.8" else reference.settings_page()
    (tmp_path / name).write_text(text)
    shown = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(tmp_path / name)],
        env={"LC_ALL": "C.UTF-8", "MANWIDTH": "80", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (shown.returncode, shown.stderr) == (0, "")
