"""Every block of code in the documentation is checked: configuration loads, commands parse, Python runs.

What cannot be checked has `<!-- not run: REASON -->` on the line before it. The tutorial is run as a whole in
tests/scenarios/test_tutorial.py.
"""

from __future__ import annotations

import configparser
import itertools
import json
import re
import shlex
import sqlite3
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import click
import pytest
import toml
import yaml

from elemta.cli import main
from elemta.config import ConfigError, parse_config
from elemta.plugin import load_plugins
from elemta.plugin.api import Plugin
from elemta.testing import open_mta

TOP = Path(__file__).parents[2]
PAGES = sorted(
    [
        TOP / "README.md",
        TOP / "SECURITY.md",
        *TOP.glob("docs/*.md"),
        *TOP.glob("docs/decisions/*.md"),
        *TOP.glob("plugins/*/README.md"),
    ]
)
HEAD = 'hostname = "mx.example.org"\n'
FENCE = re.compile(r"( *)```(\w*)(?: title=\"[^\"]*\")?$")
EXCUSE = re.compile(r" *<!-- not run: (\S.*\S) -->")
SPAN = re.compile(r"(?<!`)`(elemta [a-z][^`\n]*)`(?!`)")
ELLIPSES = ("…", "...", "NAME...")
OUTPUT = "text"
"""What a command prints, and drawings."""


@attrs.frozen
class Block:
    """One block of one page."""

    page: Path
    line: int
    language: str
    text: str
    excuse: str = ""
    """Why it is not run."""

    def __str__(self) -> str:
        return f"{self.page.relative_to(TOP)}:{self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    lines = page.read_text().splitlines()
    inside: Block | None = None
    content: list[str] = []
    indent = ""
    for number, line in enumerate(lines, 1):
        fence = FENCE.match(line)
        if inside is None and fence:
            excuse = EXCUSE.match(lines[number - 2]) if number > 1 else None
            inside = Block(page, number, fence[2], "", excuse[1] if excuse else "")
            indent, content = fence[1], []
        elif inside is not None and line.strip() == "```":
            yield attrs.evolve(inside, text="\n".join(content) + "\n")
            inside = None
        elif inside is not None:
            content.append(line.removeprefix(indent))
        else:
            assert "```" not in line, f"{page}:{number}: a fence that is not understood"
    assert inside is None, f"{inside} has no end"


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


# --- What commands of elemta there are ----------------------------------------------------------------------


def parse_command(words: list[str]) -> None:
    """Raises click.UsageError where the command line is none."""
    command: click.Command = main
    context = click.Context(main, info_name="elemta")
    rest = list(words)
    while isinstance(command, click.Group) and rest:
        name = rest.pop(0)
        if name in ("--help", "-h", "--version"):
            return
        found = command.get_command(context, name)
        if found is None:
            raise click.UsageError(f"no command {name!r} in {context.command_path}")
        command = found
        if isinstance(command, click.Group):
            context = click.Context(command, context, info_name=name)
        else:
            command.make_context(name, rest, context)


def variants(words: list[str]) -> Iterator[list[str]]:
    """`pause|resume` is two commands. Without ellipses, and without the brackets of what may be left out."""
    choices = [
        [part.strip("[]") for part in word.split("|") if part.strip("[]")]
        for word in words
        if word not in ELLIPSES
    ]
    return (list(each) for each in itertools.product(*choices))


def read_line(line: str) -> list[list[str]]:
    """The commands of elemta in one line of shell, each as its words without the first."""
    found = []
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&;()>")
    lexer.whitespace_split = True
    words: list[str] = []
    for token in [*lexer, ";"]:
        if set(token) <= set("&;()>"):
            while words and (words[0] == "sudo" or re.fullmatch(r"\w+=\$?", words[0])):
                words = words[1:]
            if words[:2] == ["docker", "exec"]:
                words = words[3:]
            if words and re.fullmatch(r"(.*/)?elemta(\.pyz)?", words[0]):
                found.append(words[1:])
            words = []
        else:
            words.append(token)
    return found


def commands_of(text: str) -> Iterator[list[str]]:
    for line in text.replace("\\\n", " ").splitlines():
        for words in read_line(line):
            yield from variants(words)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("elemta check && systemctl start x", [["check"]]),
        ("TOKEN=$(elemta token add me)", [["token", "add", "me"]]),
        ("docker exec elemta elemta status", [["status"]]),
        (".venv/bin/elemta top  # live", [["top"]]),
        ("apt install ./elemta.deb", []),
    ],
)
def test_commands_are_found_in_lines(line: str, expected: list[list[str]]) -> None:
    assert read_line(line) == expected


@pytest.mark.parametrize("words", [["quue"], ["queue", "lst"], ["status", "--jsn"], ["plugin", "reload"]])
def test_what_is_no_command_is_noticed(words: list[str]) -> None:
    with pytest.raises(click.UsageError):
        parse_command(words)


# --- What is done with each language ------------------------------------------------------------------------


NEEDED = """
hostname = "mx.example.org"
[tls]
certificate = "/etc/elemta/fullchain.pem"
key = "/etc/elemta/privkey.pem"
[relay]
networks = ["127.0.0.0/8"]
"""
LOCAL = """
[domains]
local = ["example.org"]
relay = ["relayed.example"]
[[routes]]
match = "local"
transport = "discard"
"""
"""What may stand around the parts of a configuration that pages show."""


def check_toml(block: Block) -> None:
    """Strictly. A part of a file may need what it leaves to the rest."""
    shown = tomllib.loads(block.text)
    problems = []
    for rest in (HEAD, NEEDED, NEEDED + LOCAL):
        document = tomllib.loads(rest)
        for name, value in shown.items():
            document[name] = {**document.get(name, {}), **value} if isinstance(value, dict) else value
        try:
            parse_config(toml.dumps(document), str(block))
            return
        except ConfigError as error:
            problems.append(error)
    raise problems[-1]


def check_shell(block: Block) -> None:
    for words in commands_of(block.text):
        try:
            parse_command(words)
        except click.MissingParameter:
            assert any(each in block.text for each in ELLIPSES), words
    syntax = re.sub(r"[…|]", "_", re.sub(r"\[[^]\n]*\]", "", block.text))
    done = subprocess.run(["bash", "-n"], input=syntax, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def check_ini(block: Block) -> None:
    parser = configparser.ConfigParser(interpolation=None, strict=False, allow_no_value=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(block.text)
    assert parser.sections()


def check_sql(block: Block) -> None:
    database = sqlite3.connect(":memory:")
    if block.text.upper().startswith("CREATE"):
        database.executescript(block.text)
    else:  # tables as pages about them write them
        for line in block.text.splitlines():
            database.execute(f"CREATE TABLE {line}")
    database.close()


CHECKS: dict[str, Callable[[Block], Any]] = {
    "toml": check_toml,
    "sh": check_shell,
    "ini": check_ini,
    "sql": check_sql,
    "json": lambda block: json.loads(block.text),
    "yaml": lambda block: list(yaml.safe_load_all(block.text)),
    "python": lambda block: compile(block.text, str(block), "exec"),
}


def test_there_are_blocks_of_all_kinds() -> None:
    assert {"toml", "sh", "python", OUTPUT} <= {block.language for block in BLOCKS}


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_the_block_holds(block: Block) -> None:
    if block.excuse:
        return
    assert block.language in (*CHECKS, OUTPUT), f"{block}: of what language? or <!-- not run: REASON -->"
    if block.language == OUTPUT:
        assert not list(commands_of(re.sub(r"[\"'`]", "", block.text))), f"{block}: commands are sh, not text"
        return
    try:
        CHECKS[block.language](block)
    except Exception as error:
        raise AssertionError(f"{block}: {type(error).__name__}: {error}") from error


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_commands_that_the_text_names_are_there(page: Path) -> None:
    for span in SPAN.findall(page.read_text()):
        for words in commands_of(span):
            try:
                parse_command(words)
            except (click.BadParameter, click.BadOptionUsage):  # named without values, or with words for them
                continue
            except click.UsageError as error:
                raise AssertionError(f"{page.name}: `{span}`: {error.message}") from error


# --- Python -------------------------------------------------------------------------------------------------

RUN_BY = {
    "docs/delivery.md": "tests/delivery/test_http.py",
    "docs/plugins.md": "tests/docs/test_docs_blocks.py",
    "docs/tutorial.md": "tests/scenarios/test_tutorial.py",
}
"""For each page with Python, the test that runs all of it."""


def test_python_of_each_page_is_run_by_a_test() -> None:
    pages = {str(block.page.relative_to(TOP)) for block in BLOCKS if block.language == "python"}
    assert pages == set(RUN_BY)
    for page, test in RUN_BY.items():
        assert page.removeprefix("docs/") in (TOP / test).read_text()


def blocks_about(page: str, language: str) -> list[Block]:
    return [each for each in BLOCKS if each.page == TOP / page and each.language == language]


async def test_plugins_of_the_page_about_plugins_are_loaded_and_its_tests_hold(
    tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    loaded, tested = [], []
    entries = [
        parse_config(HEAD + each.text, str(each)).plugins for each in blocks_about("docs/plugins.md", "toml")
    ]
    configured = {entry.path: entry for found in entries for entry in found if entry.path is not None}
    for block in blocks_about("docs/plugins.md", "python"):
        names: dict[str, Any] = {"__name__": "block"}
        exec(compile(block.text, str(block), "exec"), names)
        for name, value in names.items():
            if name.startswith("test_"):
                async with open_mta(TOP / "plugins/hello") as mta:
                    await value(mta)
                tested.append(name)
            elif isinstance(value, type) and issubclass(value, Plugin) and value is not Plugin:
                # the entry on the page that names such a file
                (file,) = [path for path in configured if snake(name) == path.stem]
                Path(file).write_text(block.text)
                Path(file).chmod(0o600)
                (found,) = load_plugins([configured[file]])
                loaded.append(found.entry.name)
                async with open_mta({"path": str(tmp_path / file), "config": configured[file].config}) as mta:
                    sent = await mta.send(["admin@example.org", "bob@example.org"])
                    assert str(sent.refused["admin@example.org"]) == "550 5.7.1 Nobody reads this"
                    assert mta.letter().recipients == ("bob@example.org",)
    assert (loaded, tested) == (["no-root"], ["test_nobody_gets_no_mail"])


def snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def test_entries_that_plugins_come_with_load_together() -> None:
    files = sorted(TOP.glob("plugins/*/plugin.toml"))
    entries = parse_config(HEAD + "".join(each.read_text() for each in files), "plugin.toml").plugins
    assert [entry.path for entry in entries] == [each.parent.relative_to(TOP) for each in files]
