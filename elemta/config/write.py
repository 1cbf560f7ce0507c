"""From `Config` back to text: the effective settings as TOML, the JSON Schema, the sample file."""

from __future__ import annotations

import inspect
import textwrap
from importlib import resources
from typing import Any

import attrs
import toml

from .documentation import field_sentence
from .kinds import Plain, element_of, leaf_of, without_none
from .load import read_toml
from .schema import Config

WIDTH = 100
"""Columns that comments are folded to."""

_ESCAPES = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


class _Encoder(toml.TomlEncoder):  # type: ignore[type-arg]  # generic only in its stubs
    """Values in TOML. The package's own strings are wrong for some backslashes and control characters."""

    def __init__(self) -> None:
        super().__init__()
        self.dump_funcs[str] = _basic_string
        self.dump_funcs[dict] = self._inline_table

    def _inline_table(self, table: dict[str, Any]) -> str:
        inner = ", ".join(f"{_basic_string(key)} = {self.dump_value(value)}" for key, value in table.items())
        return f"{{ {inner} }}" if inner else "{}"

    def dump_list(self, v: Any) -> str:
        inner = ", ".join(str(self.dump_value(element)) for element in v)
        if len(inner) <= WIDTH - 20:
            return f"[{inner}]"
        return "[\n" + "".join(f"    {self.dump_value(element)},\n" for element in v) + "]"


def _basic_string(text: str) -> str:
    return '"' + "".join(_ESCAPES.get(c) or (f"\\u{ord(c):04x}" if _is_control(c) else c) for c in text) + '"'


def _is_control(character: str) -> bool:
    return character < " " or character == "\x7f"


def render_config(config: Config) -> str:
    """All settings with their present values and what they mean, as TOML that reads back as `config`.

    Raises:
      ValueError: a value made in code has no text form that reads back.
    """
    expected: dict[str, Any] = {}
    blocks = _render_section(config, expected)
    text = "\n".join(blocks) + "\n"
    try:  # also for what is no UTF-8: a path can hold any octets
        same = read_toml(text.encode().decode()) == expected
    except ValueError as cause:
        raise ValueError("a setting cannot be written as TOML") from cause
    if not same:
        raise ValueError("a setting would read back as another value")
    return text


def config_as_plain(config: Config) -> dict[str, Any]:
    """All settings with their present values as JSON has them; None: not set."""
    return _plain_section(config)


def _plain_section(section: Any) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for field in attrs.fields(type(section)):
        value = getattr(section, field.name)
        element = element_of(field.type)
        if value is None:
            shown[field.name] = None
        elif attrs.has(type(value)) and leaf_of(without_none(field.type)) is None:
            shown[field.name] = _plain_section(value)
        elif element is not None and attrs.has(element) and not leaf_of(element):
            shown[field.name] = [_plain_section(each) for each in value]
        else:
            shown[field.name] = plain(value, field.type)
    return shown


def _render_section(
    section: Any, expected: dict[str, Any], path: str = "", *, array: bool = False
) -> list[str]:
    """Lines of one section; the plain values that they stand for go to `expected`."""
    encoder = _Encoder()
    header = f"[[{path}]]" if array else f"[{path}]"
    lines = [header] if path else []
    prefix = f"{path}." if path else ""
    below: list[str] = []
    for field in attrs.fields(type(section)):
        value = getattr(section, field.name)
        if attrs.has(type(value)) and leaf_of(without_none(field.type)) is None:
            inner: dict[str, Any] = {}
            below += ["", *_comment(type(section), field.name)]
            below += _render_section(value, inner, prefix + field.name)
            expected[field.name] = inner
        elif (
            value
            and (element := element_of(field.type)) is not None
            and attrs.has(element)
            and not leaf_of(element)
        ):
            tables: list[dict[str, Any]] = [{} for _ in value]
            below += ["", *_comment(type(section), field.name)]
            for index, (item, table) in enumerate(zip(value, tables, strict=True)):
                below += [""] if index else []
                below += _render_section(item, table, prefix + field.name, array=True)
            expected[field.name] = tables
        else:
            lines += _comment(type(section), field.name)
            if value is None:
                lines.append(f"# {field.name} is not set")
                continue
            expected[field.name] = plain(value, field.type)
            lines.append(f"{field.name} = {encoder.dump_value(expected[field.name])}")
    return lines + below


def _comment(section: type, name: str) -> list[str]:
    return textwrap.wrap(
        field_sentence(section, name),
        WIDTH,
        initial_indent="# ",
        subsequent_indent="# ",
        break_on_hyphens=False,
    )


def format_value(value: Plain | list[Plain]) -> str:
    """One plain value in TOML."""
    return str(_Encoder().dump_value(value))


def plain(value: Any, annotation: Any) -> Plain | list[Plain]:
    """The TOML value of a setting that is no section."""
    leaf = leaf_of(without_none(annotation))
    if leaf is not None:
        return leaf.kind.write(value)
    element = leaf_of(element_of(annotation))
    return [element.kind.write(item) for item in value] if element else []


def json_schema() -> dict[str, Any]:
    """The shape of the file as a JSON Schema (2020-12), for editors and other tools.

    It cannot say everything: what contradicts what, and the order of durations, is only in `parse_config`.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "elemta.toml",
        **_section_schema(Config),
    }


def _section_schema(section: type) -> dict[str, Any]:
    properties = {field.name: _field_schema(section, field) for field in attrs.fields(section)}
    schema: dict[str, Any] = {
        "type": "object",
        "description": inspect.cleandoc(section.__doc__ or ""),
        "properties": properties,
        "additionalProperties": False,
    }
    required = [field.name for field in attrs.fields(section) if field.default is attrs.NOTHING]
    return {**schema, "required": required} if required else schema


def _field_schema(section: type, field: attrs.Attribute[Any]) -> dict[str, Any]:
    annotation = without_none(field.type)
    sentence = field_sentence(section, field.name)
    leaf = leaf_of(annotation)
    if leaf is None and attrs.has(annotation):
        return {**_section_schema(annotation), "description": sentence}
    schema: dict[str, Any]
    if leaf is not None:
        schema = leaf.json_schema()
        sentence = " ".join([sentence, *leaf.sentences()])
    else:
        element: Any = element_of(annotation)
        item = leaf_of(element)
        schema = {"type": "array", "items": item.json_schema() if item else _section_schema(element)}
    schema["description"] = sentence
    if field.default not in (attrs.NOTHING, None) and not isinstance(field.default, attrs.Factory):  # type: ignore[arg-type]  # its stub is a function
        schema["default"] = plain(field.default, annotation)
    return schema


def example_config() -> str:
    """The annotated sample, for `elemta config init`; `conf/elemta.toml` is the same text."""
    return resources.files(__package__ or "elemta.config").joinpath("elemta.toml").read_text(encoding="utf-8")
