"""The pages about the plugin API: they have every hook and name, and are as the code says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from elemta.plugin import DECISIONS, HOOKS, api

TOP = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def made() -> ModuleType:
    spec = importlib.util.spec_from_file_location("plugin_pages", TOP / "scripts" / "plugin_pages.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_are_up_to_date(made: ModuleType) -> None:
    stale = [str(path) for path, page in made.pages().items() if (TOP / path).read_text() != page]
    assert stale == [], "run scripts/reference"
    present = {path.relative_to(TOP) for path in (TOP / made.FOLDER).glob("*.md")}
    assert present == set(made.pages())


def test_every_hook_has_its_sentence_and_its_section(made: ModuleType) -> None:
    assert list(made.WHEN) == list(HOOKS)
    page = made.pages()[made.FOLDER / "hooks.md"]
    assert [name for name in re.findall(r"^## `(\w+)`$", page, re.MULTILINE) if name in HOOKS] == list(HOOKS)
    for point in HOOKS.values():
        section = page.split(f"\n## `{point.name}`\n")[1].split("\n## ")[0]
        for word in (*point.arguments, *point.changes):
            assert f"`{word}`" in section


def test_every_name_of_the_api_is_on_a_page(made: ModuleType) -> None:
    whole = "\n".join(made.pages().values())
    for_tools = {
        "API_VERSION",
        "NoConfig",
        "NoteValue",
        "Returned",
        "bind",
        "hook_methods",
        "task_methods",
        "to_answer",
    }
    missing = [name for name in api.__all__ if name not in for_tools and f"`{name}" not in whole]
    assert missing == []
    decisions = made.pages()[made.FOLDER / "decisions.md"]
    assert all(f"\n## `{each.__name__}`\n" in decisions for each in DECISIONS)


def test_links_lead_to_sections_and_the_navigation_has_every_page(made: ModuleType) -> None:
    pages = made.pages()
    for path, page in pages.items():
        for target, anchor in re.findall(r"\]\(([\w./-]+)(?:#([\w-]+))?\)", page):
            file = (TOP / path).parent / target
            text = file.resolve().read_text()
            titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
            slugs = {re.sub(r"[^\w]+", "-", title.lower()).strip("-") for title in titles}
            assert not anchor or anchor in slugs, (path, target, anchor)
    navigation = (TOP / "mkdocs.yml").read_text()
    assert yaml.safe_load(navigation)["nav"]
    for path in pages:
        assert f"- {path.relative_to('docs')}\n" in navigation


def test_strange_text_is_no_markup(made: ModuleType) -> None:
    assert made._inline("a <b> | [c] `<d> | e`") == r"a \<b> \| \[c\] `<d> \| e`"
