"""scripts/rfc-index: every form of citation is understood, and told by symbol, so that lines may move."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "rfc-index"


@pytest.fixture(scope="module")
def index() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("rfc_index", str(SCRIPT))
    spec = importlib.util.spec_from_loader("rfc_index", loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    sys.modules["rfc_index"] = module  # its dataclasses look there
    loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("RFC 5321 §4.1.4", ["5321 4.1.4"]),
        ("RFC 3207 4.2", ["3207 4.2"]),
        ("(RFC 5321 4.5.3.1.4, and more)", ["5321 4.5.3.1.4"]),
        ("RFC 5321 §4.1.1.4, §4.1.1.5, §4.1.1.10; RFC 3207 §4", ["5321 4.1.1.4", "5321 4.1.1.5", "5321 4.1.1.10", "3207 4"]),
        ("RFC 5321 2.3.5, 4.1.1.1", ["5321 2.3.5", "5321 4.1.1.1"]),
        ("RFC 5321 §3.3 and §4.1.4", ["5321 3.3", "5321 4.1.4"]),
        ("RFC 5321 §4.5.3.1.1 to §4.5.3.1.3", ["5321 4.5.3.1.1", "5321 4.5.3.1.3"]),
        ("RFC 8996 §4, §5, and then", ["8996 4", "8996 5"]),
        ("RFC 848, RFC 2033", ["848", "2033"]),
        ("(RFC 3848)", ["3848"]),
        ("RFC 6409 8.", ["6409 8"]),
        ("RFC 7677 4)", ["7677 4"]),
        ("RFC 5321 §4.1.1.3, appendix C", ["5321 4.1.1.3", "5321 appendix C"]),
        ("RFC 4960, appendix B", ["4960 appendix B"]),
        ("RFC 2033 4 times", ["2033"]),
        ("RFC 9422: one to six digits, 1 to 6", ["9422"]),
        ("RFC\n  5321 §4.1.4", ["5321 4.1.4"]),
        ("RFC 5321 §4.1.1.4,\n  §4.1.1.5", ["5321 4.1.1.4", "5321 4.1.1.5"]),
        ("RFC 1870 §6.1 at MAIL, §6.3 after the body", ["1870 6.1", "1870 6.3"]),
        ("RFCs: 5321, 1870 (SIZE), 2033 (LMTP),\n6531 (SMTPUTF8).", ["5321", "1870", "2033", "6531"]),
        ("nothing of the kind, 4.1.4 included", []),
    ],
)  # fmt: skip
def test_the_forms_of_citations(index: ModuleType, text: str, found: list[str]) -> None:
    assert [f"{rfc} {section}".strip() for rfc, section, _ in index.citations_of(text, None)] == found


def test_a_lone_section_is_of_the_rfc_that_the_modules_docstring_names(index: ModuleType) -> None:
    said = '"""Replies.\n\nSection numbers without an RFC are of RFC 5321; RFC 2034 says the rest.\n"""\nX = 1\n"""§4.2."""\n'
    only = '"""SASL (RFC 4954)."""\nX = 1  # §6\n'
    other = '"""Another protocol (RFC 1034, RFC 1035)."""\nX = 1  # §2.1 of its specification\n'
    assert ("5321", "4.2", "X") in {
        (str(each.rfc), each.section, each.symbol) for each in index.citations_in(said, "a.py")
    }
    assert (4954, "6") in {(each.rfc, each.section) for each in index.citations_in(only, "a.py")}
    assert {each.section for each in index.citations_in(other, "a.py")} == {""}


SOURCE = '''"""A module."""

LIMIT = 512
"""Octets, RFC 5321 §4.5.3.1.4."""

# RFC 5321 §4.2: above a function
# that comes after it
def reply() -> None:
    """RFC 5321 §4.2.1."""
    x = 1  # RFC 5321 §4.2.2
    # RFC 5321 §4.2.3
    # and RFC 2034 §4, in two lines
    return x


class Machine:
    """RFC 5321 §3.1."""

    state: int = 0
    """RFC 5321 §3.2."""
    # RFC 5321 §3.3: above a field
    other: int = Range(because="RFC 5321 §3.4")

    @property
    async def run(self) -> None:
        """RFC 5321 §3.5."""

    text = "RFC 5321 §9.9 in a string is none"
'''


def test_each_citation_has_its_line_and_symbol(index: ModuleType) -> None:
    found = {(each.section, each.symbol): each.line for each in index.citations_in(SOURCE, "elemta/a.py")}
    assert found == {
        ("4.5.3.1.4", "LIMIT"): 4,
        ("4.2", "reply"): 6,
        ("4.2.1", "reply"): 9,
        ("4.2.2", "reply"): 10,
        ("4.2.3", "reply"): 11,
        ("4", "reply"): 12,
        ("3.1", "Machine"): 17,
        ("3.2", "Machine.state"): 20,
        ("3.3", "Machine.other"): 21,
        ("3.4", "Machine.other"): 22,
        ("3.5", "Machine.run"): 26,
    }


def test_dialogues_are_tests(index: ModuleType) -> None:
    source = "== one\nrfc: 5321 4.1.4, 2920 3.1\nC: NOOP\n\n== two\nrfc: 5321 appendix C\n"
    assert [
        (each.rfc, each.section, each.symbol, each.line) for each in index.dialogues_in(source, "x.dialogue")
    ] == [
        (5321, "4.1.4", "one", 2),
        (2920, "3.1", "one", 2),
        (5321, "appendix C", "two", 6),
    ]


def test_the_page_sorts_sections_by_number_and_shows_what_is_not_tested(index: ModuleType) -> None:
    code = index.citations_in(
        "# RFC 5321 §4.1.10\nA = 1\n\n\n\n\n\n\n\n\n# RFC 5321 §4.1.2\nB = 1\n", "elemta/a.py"
    )
    tests = index.dialogues_in("== t\nrfc: 5321 4.1.2\n== u\nrfc: 5321 4.1.2", "tests/d.dialogue")
    rows = [line for line in index.render(code, tests).splitlines() if line.startswith("| 4")]
    assert rows == [
        "| 4.1.2 | `elemta/a.py:11` `B` | `tests/d.dialogue:2` 2 dialogues |",
        "| 4.1.10 | `elemta/a.py:1` `A` | – |",
    ]


def test_an_rfc_without_a_title_is_named_by_its_number(index: ModuleType) -> None:
    page = index.render(
        [index.Citation(99999, "1", "a.py", 1, ""), index.Citation(5321, "1", "a.py", 1, "")], []
    )
    assert [line for line in page.splitlines() if line.startswith("##")] == [
        "## RFC 5321: Simple Mail Transfer Protocol",
        "## RFC 99999",
    ]


def test_line_numbers_do_not_count_in_the_comparison(index: ModuleType) -> None:
    assert index.without_line_numbers("`a.py:1` `X` `t.dialogue:2` 3") == index.without_line_numbers(
        "`a.py:100` `X` `t.dialogue:7` 3"
    )
    assert index.without_line_numbers("`a.py:1` `X`") != index.without_line_numbers("`a.py:1` `Y`")


@pytest.mark.deadline(60)
def test_the_whole_tree_can_be_read() -> None:
    # Whether the page is current is for scripts/check.sh; here only that no citation stops it
    result = subprocess.run(
        [sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True, check=False, timeout=60
    )
    assert result.returncode in (0, 1), result.stderr
    assert "Traceback" not in result.stderr, result.stderr
