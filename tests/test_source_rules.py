"""What Python offers and nobody here uses: each of these reads a stranger's text as more than it is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent
SOURCES = sorted((TOP / "elemta").rglob("*.py"))

MODULES = {"marshal", "shelve", "yaml", "pickle"}
CALLS = {"eval", "exec", "__import__", "os.system", "os.popen", "parseaddr", "getaddresses"}
PROTOCOL = ("smtp", "mail", "inbound", "spool", "dns", "policy", "queue")
"""Packages in which lines end with CR LF and nowhere else."""
REVIEWED = {
    ("app/plugins.py", "pickle"): "made here, for a process of ours that reads it",
    ("plugin/served.py", "pickle"): "read in a process that the server has started, from nobody else",
    ("auth/scram.py", "b64decode"): "a pattern has matched it as base64",
    ("policy/tags.py", "b64decode"): "a pattern has matched it as base64",
    ("admin/tail.py", "urlsafe_b64decode"): "compared as a whole, whatever it is",
}
"""Uses that somebody has looked at, and why they are harmless."""


def uses(source: str, name: str) -> Iterator[str]:
    """What a source does that it should not."""
    package = name.partition("/")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [each.name for each in node.names]
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            yield from (each for each in names if each.partition(".")[0] in MODULES)
        elif isinstance(node, ast.Call):
            function = ast.unparse(node.func)
            last = function.rpartition(".")[2]
            words = {each.arg for each in node.keywords}
            if function in CALLS or last in CALLS & {"parseaddr", "getaddresses"}:
                yield last
            if "shell" in words:
                yield "shell"
            if last.endswith("b64decode") and "validate" not in words:
                yield last
            if last == "splitlines" and package in PROTOCOL:  # splits at VT, FF, NEL, U+2028 as well
                yield last
            first = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
            if last in ("encode", "decode") and first == "idna":  # IDNA 2003, and quadratic
                yield "idna"
            if function.startswith("re.") and isinstance(first, str | bytes):
                text = first if isinstance(first, str) else first.decode("latin-1")
                if re.search(r"(?<!\\)\$", re.sub(r"\[(?:\\.|[^\]\\])*\]", "", text)):
                    yield "$"  # matches before a line end, too: \Z does not


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(TOP)))
def test_nothing_dangerous_is_used(path: Path) -> None:
    name = path.relative_to(TOP / "elemta").as_posix()
    assert [each for each in uses(path.read_text(), name) if (name, each) not in REVIEWED] == []


def test_each_use_that_was_looked_at_is_still_there() -> None:
    for name, use in REVIEWED:
        assert use in set(uses((TOP / "elemta" / name).read_text(), name)), name


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import pickle", ["pickle"]),
        ("from yaml import load", ["yaml"]),
        ("eval(x)", ["eval"]),
        ("email.utils.parseaddr(x)", ["parseaddr"]),
        ("subprocess.run(x, shell=True)", ["shell"]),
        ("base64.b64decode(x)", ["b64decode"]),
        ("base64.b64decode(x, validate=True)", []),
        ("text.splitlines()", ["splitlines"]),
        ("name.encode('idna')", ["idna"]),
        ("re.compile(r'a$')", ["$"]),
        ("re.compile(r'[a$]\\$\\Z')", []),
        ("literal_eval(x)", []),
    ],
)
def test_the_search_itself(source: str, found: list[str]) -> None:
    assert list(uses(source, "smtp/x.py")) == found


def test_every_test_that_the_page_on_security_names_is_there() -> None:
    page = (TOP / "docs" / "SECURITY.md").read_text()
    named = re.findall(r"`((?:tests|plugins)/[^`]+?)`", page)
    assert len(named) > 20
    for each in named:
        path, _, test = each.partition("::")
        assert (TOP / path).exists(), each
        assert not test or f"def {test}(" in (TOP / path).read_text(), each
