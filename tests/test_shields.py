"""A shield without a deadline holds its task past any stop (no linter knows this rule): walk the sources for it."""

import ast
from pathlib import Path

import pytest

SOURCES = sorted((Path(__file__).parent.parent / "elemta").rglob("*.py"))

WAIVED = "shield without a deadline:"
"""A comment with these words and a reason, in the line of the call or the one above."""

BOUNDED = {"move_on_after", "move_on_at", "fail_after", "fail_at"}


def unbounded_shields(source: str) -> list[int]:
    """Lines with `shield=True` (or a shield set later) that no deadline in the same call bounds."""
    lines = source.splitlines()
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            shielded = any(
                word.arg == "shield"
                and not (isinstance(word.value, ast.Constant) and word.value.value is False)
                for word in node.keywords
            )
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            bounded = name in BOUNDED or any(
                word.arg in ("deadline", "relative_deadline") for word in node.keywords
            )
            if shielded and not bounded:
                found.append(node.lineno)
        elif isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Attribute) and target.attr == "shield" for target in node.targets
        ):
            found.append(node.lineno)
    return [line for line in found if not any(WAIVED in text for text in lines[max(0, line - 3) : line])]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(path.parents[2])))
def test_every_shield_has_a_deadline(path: Path) -> None:
    assert unbounded_shields(path.read_text()) == []


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("trio.CancelScope(shield=True)", [1]),
        ("scope.shield = True", [1]),
        ("trio.CancelScope(shield=True, deadline=9)", []),
        ("trio.move_on_after(5, shield=True)", []),
        ("trio.fail_after(5, shield=True)", []),
        ("# shield without a deadline: the writer always answers\ntrio.CancelScope(shield=True)", []),
        ("trio.CancelScope(shield=False)", []),
    ],
)
def test_the_search_itself(source: str, lines: list[int]) -> None:
    assert unbounded_shields(source) == lines
