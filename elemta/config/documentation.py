"""The sentences under the fields of the schema, read from its source: they stand in one place."""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Mapping

from . import schema


@functools.cache
def _documented() -> Mapping[str, Mapping[str, str]]:
    """For each class of the schema, the string that follows each of its fields."""
    documented: dict[str, dict[str, str]] = {}
    for node in ast.parse(inspect.getsource(schema)).body:
        if not isinstance(node, ast.ClassDef):
            continue
        fields = documented.setdefault(node.name, {})
        for field, after in zip(node.body, node.body[1:], strict=False):
            if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
                continue
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                fields[field.target.id] = " ".join(str(after.value.value).split())
    return documented


def field_sentence(section: type, name: str) -> str:
    """The documentation of one setting, as one line; empty where there is none."""
    return _documented().get(section.__name__, {}).get(name, "")
