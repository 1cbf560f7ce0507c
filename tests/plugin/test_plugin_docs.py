"""The blocks of docs/plugins.md are what they seem: a plugin that loads and answers; so is a new one."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from elemta.cli import main
from elemta.config import parse_config
from elemta.plugin import HOOKS, HookArguments, Reject, load_plugins
from elemta.plugin.api import bind
from elemta.testing import open_mta

DOCS = Path(__file__).parents[2] / "docs" / "plugins.md"
HEAD = 'hostname = "mx.example.org"\n'


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ELEMTA_CONFIG", raising=False)
    return tmp_path


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCS.read_text(), re.DOTALL)


async def test_the_plugin_of_the_documentation_loads_and_answers(folder):
    toml, python = blocks("toml")[0], blocks("python")[0]
    (folder / "no_root.py").write_text(python)
    (folder / "no_root.py").chmod(0o600)
    (found,) = load_plugins(parse_config(HEAD + toml, "docs").plugins)
    assert found.settings.names == ("root", "admin")
    method = bind(found.plugin(found.settings, None), found.hooks["rcpt"])
    assert await method(HookArguments(recipient="admin@example.org")) == Reject("Nobody reads this")
    assert await method(HookArguments(recipient="a@example.org")) is None


async def test_the_test_of_the_documentation_holds(folder, autojump_clock):
    names: dict[str, Any] = {}
    exec(blocks("python")[1], names)
    async with open_mta(DOCS.parents[1] / "plugins/hello") as mta:
        await names["test_nobody_gets_no_mail"](mta)


def test_the_documentation_names_every_hook():
    text = DOCS.read_text()
    assert [name for name in HOOKS if f"`{name}`" not in text] == []


def test_a_new_plugin_is_made_listed_and_checked(folder):
    runner = CliRunner()
    made = runner.invoke(main, ["plugin", "new", "my-first"])
    assert made.exit_code == 0
    config = folder / "elemta.toml"
    config.write_text(HEAD + made.output.partition("\n\n")[2])  # the entry, as it is told
    listed = runner.invoke(main, ["plugin", "list", "-c", str(config), "--json"])
    assert json.loads(listed.output) == [
        {
            "name": "my-first",
            "standing": "not running",
            "isolation": "task",
            "shadow": False,
            "hooks": [],
        }
    ]
    checked = runner.invoke(main, ["plugin", "check", "-c", str(config)])
    assert checked.exit_code == 0
    assert checked.output == "my-first  plugins/my-first/plugin.py: rcpt\n"
    assert runner.invoke(main, ["plugin", "new", "my-first"]).exit_code == 1


async def test_what_is_in_a_new_plugin_holds(folder, autojump_clock):
    assert CliRunner().invoke(main, ["plugin", "new", "my-first"]).exit_code == 0
    made = folder / "plugins/my-first"
    names: dict[str, Any] = {"__name__": "made"}
    exec((made / "test_plugin_my_first.py").read_text(), names)
    tests = [value for name, value in names.items() if name.startswith("test_")]
    for test in tests:
        async with open_mta(made) as mta:
            await test(mta)
    assert len(tests) == 2


def test_what_is_wrong_with_a_plugin_is_told_with_file_and_line(folder):
    config = folder / "elemta.toml"
    config.write_text(HEAD + '[[plugins]]\nname = "gone"\n')
    for command in (["plugin", "check"], ["check"]):
        checked = CliRunner().invoke(main, [*command, "-c", str(config)])
        assert checked.exit_code == 78
        assert f"{config}:3: plugins[0].name: there is no plugins/gone" in checked.output
