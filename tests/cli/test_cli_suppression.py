"""`elemta suppression` without a server: on the file itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from elemta.cli import main


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ELEMTA_CONFIG", "elemta.toml")
    Path("elemta.toml").write_text('hostname = "mx.example.org"\nstate_dir = "state"\n')
    Path("state").mkdir()


def run(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(main, ["suppression", *arguments], input=text)


def test_addresses_come_and_go() -> None:
    assert json.loads(run("list", "--json").output) == {"entries": [], "more": False}
    assert list(Path("state").iterdir()) == []
    done = run("add", "Bob@far.example", "eve@far.example", "--why", "asked us", "--for", "90d")
    assert (done.exit_code, done.output) == (0, "2 addresses on the list\n")
    shown = json.loads(run("list", "--json").output)["entries"]
    assert [each["address"] for each in shown] == ["bob@far.example", "eve@far.example"]
    assert shown[0]["until"] - shown[0]["since"] == pytest.approx(90 * 86400, abs=5)
    assert "asked us" in run("search", "EVE@").output
    assert run("search", "nowhere").exit_code == 1
    assert json.loads(run("list", "--limit", "1", "--json").output)["more"] is True
    assert run("remove", "bob@far.example").output == "1 address taken off the list\n"
    assert run("remove", "bob@far.example").exit_code == 1


def test_what_is_exported_is_imported_again() -> None:
    given = "# ours\nBob@far.example  # asked us\n\n! vip@far.example\nplain@far.example\n"
    assert run("import", "-", text=given).output == "3 addresses on the list\n"
    text = run("export").output
    assert text == "bob@far.example  # asked us\nplain@far.example\n!vip@far.example\n"
    lines = run("export", "--json").output
    everything = json.loads(run("list", "--json").output)
    for form in (text, lines):
        run("remove", "bob@far.example", "plain@far.example", "vip@far.example")
        Path("saved").write_text(form)
        assert run("import", "saved").exit_code == 0
        assert run("export").output == text
    assert json.loads(run("list", "--json").output) == everything  # times and sources, too


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a@x.example\nnonsense\n", "line 2: nonsense is no address"),
        ('{"address": "a@x.example"\n', "line 1"),
        ('{"address": "a@x.example", "why": 3}\n', "line 1"),
        ('{"address": "a@x.example", "until": 1}\n', "over"),
    ],
)
def test_a_line_that_is_wrong_is_named(text: str, complaint: str) -> None:
    done = run("import", "-", text=text)
    assert done.exit_code == 1
    assert complaint in done.output
    assert json.loads(run("list", "--json").output)["entries"] == []


def test_a_file_of_another_program_is_left_alone() -> None:
    Path("state/suppression.sqlite").write_bytes(b"x" * 5000)
    for arguments in (("list",), ("add", "a@x.example"), ("remove", "a@x.example"), ("export",)):
        assert run(*arguments).exit_code == 74
    assert Path("state/suppression.sqlite").read_bytes() == b"x" * 5000
