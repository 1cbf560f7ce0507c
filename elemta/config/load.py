"""From TOML to `Config`, strictly, with everything that is wrong in one report.

The values are structured by cattrs with hooks that coerce nothing. Where some are mistaken, the
document is mended in memory (each mistaken value gives way to its default) only to find what else
is wrong: a contradiction counts if none of the values it compares was mistaken.

Pure but for reading the one file: whether certificates, folders and addresses can be used is seen
by `elemta check` and at the start.
"""

from __future__ import annotations

import difflib
import enum
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import attrs
from cattrs import (
    BaseValidationError,
    ClassValidationError,
    Converter,
    ForbiddenExtraKeysError,
    IterableValidationError,
)
from cattrs.errors import AttributeValidationNote
from cattrs.gen import make_dict_structure_fn

from .contradictions import find_contradictions
from .kinds import LEAF_TYPES, element_of, leaf_of, typed
from .positions import KeyPath, Positions, find_positions
from .problems import ConfigError, ConfigProblem, path_text
from .schema import (
    PLANNED_SECTIONS,
    Config,
    DnsListZoneConfig,
    HookConfig,
    ListenerConfig,
    PluginConfig,
    RateConfig,
    RouteConfig,
    SigningConfig,
)
from .units import BadValue, did_you_mean

T = TypeVar("T")

LARGEST_FILE = 1 << 20
"""Octets. A configuration is written by people; this is 20 000 lines."""

_TOML_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)\Z")
_STAND_INS: dict[type, dict[str, str]] = {
    Config: {"hostname": "stand-in.invalid"},
    ListenerConfig: {"name": "stand-in", "address": ":0"},
    RouteConfig: {"match": "stand-in.invalid"},
    DnsListZoneConfig: {"zone": "stand-in.invalid"},
    RateConfig: {"count": "connections", "limit": "1/1s"},
    PluginConfig: {"name": "stand-in"},
    HookConfig: {"name": "stand-in"},
    SigningConfig: {"selector": "stand-in", "key": "stand-in"},
}
"""What takes the place of a required setting while the rest of a mistaken document is examined."""

_PLANNED: dict[type, tuple[str, ...]] = {Config: PLANNED_SECTIONS}


@attrs.frozen
class _Mistake:
    """A problem whose line is not known yet."""

    path: KeyPath
    reason: str
    hint: str = ""


def load_config(path: Path) -> Config:
    """Read a configuration file.

    Raises:
      ConfigError: it cannot be read or used; holds every problem.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as cause:
        raise _whole_file(str(path), f"cannot be read: {cause.strerror or cause}") from cause
    except ValueError as cause:  # a NUL in the name
        raise _whole_file(str(path), f"cannot be read: {cause}") from cause
    if len(data) > LARGEST_FILE:
        raise _whole_file(str(path), "is larger than 1 MiB: this is not a configuration")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _whole_file(str(path), "is UTF-16", "save it as UTF-8")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as cause:
        line = data.count(b"\n", 0, cause.start) + 1
        problem = ConfigProblem(str(path), line, "", "is not UTF-8", "save the file as UTF-8")
        raise ConfigError((problem,)) from cause
    return parse_config(text, str(path))


def parse_config(text: str, name: str) -> Config:
    """Read a configuration from text; `name` stands for the file in problems.

    Raises:
      ConfigError: it cannot be used; holds every problem.
    """
    document, positions = _read_toml(text, name)
    config: Config
    mistakes: list[_Mistake] = []
    try:
        config = _CONVERTER.structure(document, Config)
    except BaseValidationError as error:
        mistakes.extend(_mistakes(error, ()))
        config = _CONVERTER.structure(
            _mended(document, Config, {mistake.path for mistake in mistakes}), Config
        )
    broken = [mistake.path for mistake in mistakes]
    for found in find_contradictions(config):
        if not any(_related(path, bad) for path in (found.path, *found.others) for bad in broken):
            mistakes.append(_Mistake(found.path, found.reason, found.hint))
    if mistakes:
        raise ConfigError(tuple(_problems(mistakes, positions, name)))
    return config


class SettingsError(Exception):
    """The settings of a part that this package does not know, such as a plugin, are mistaken.

    `locate` turns it into a `ConfigError` with file and line.
    """

    def __init__(self, mistakes: Iterable[tuple[KeyPath, str, str]]) -> None:
        self.mistakes = tuple(mistakes)
        """Each with its path in the file, the reason and a hint that may be empty."""
        super().__init__(
            "; ".join(": ".join(filter(None, (path_text(path), reason))) for path, reason, _ in self.mistakes)
        )


def read_settings(section: type[T], table: dict[str, Any], path: KeyPath) -> T:
    """Read a table of the file, which stands at `path`, into an attrs class of somebody else's.

    Its fields may have all types that those of the schema may have.

    Raises:
      SettingsError: it cannot be; holds everything that is wrong with it.
    """
    try:
        attrs.resolve_types(section)  # type: ignore[type-var]  # attrs types it for its own classes only
        made: T = _CONVERTER.structure(table, section)
    except BaseValidationError as error:
        raise SettingsError((each.path, each.reason, each.hint) for each in _mistakes(error, path)) from error
    except (ValueError, TypeError) as error:  # from a validator of the class itself
        raise SettingsError([(path, str(error), "")]) from error
    return made


def locate(error: SettingsError, file: Path) -> ConfigError:
    """The same with the lines in the configuration file, which is read again for them."""
    try:
        positions = find_positions(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        problems = [ConfigProblem(str(file), 0, path_text(path), *rest) for path, *rest in error.mistakes]
        return ConfigError(tuple(problems))
    return ConfigError(tuple(_problems((_Mistake(*each) for each in error.mistakes), positions, str(file))))


def _whole_file(name: str, reason: str, hint: str = "") -> ConfigError:
    return ConfigError((ConfigProblem(name, 0, "", reason, hint),))


def _problems(mistakes: Iterable[_Mistake], positions: Positions, name: str) -> list[ConfigProblem]:
    problems = [
        ConfigProblem(
            name, positions.line(mistake.path), path_text(mistake.path), mistake.reason, mistake.hint
        )
        for mistake in mistakes
    ]
    return sorted(problems, key=lambda problem: (problem.line, problem.path))


def read_toml(text: str) -> dict[str, Any]:
    """The document as plain values, for those who check what they wrote themselves.

    Raises:
      tomllib.TOMLDecodeError: it is not TOML.
    """
    return tomllib.loads(text)


def _read_toml(text: str, name: str) -> tuple[dict[str, Any], Positions]:
    if text.startswith("\ufeff"):
        problem = ConfigProblem(name, 1, "", "begins with a byte order mark", "save it as UTF-8 without BOM")
        raise ConfigError((problem,))
    try:
        return read_toml(text), find_positions(text)
    except RecursionError:
        raise _whole_file(name, "is nested too deeply") from None
    except ValueError as cause:  # besides TOMLDecodeError: a number with more than 4300 digits
        place = _TOML_PLACE.search(str(cause))
        if place is None:
            raise _whole_file(name, "is not TOML: a number has too many digits") from None
        at = f"at column {place[2]}" if place[2] else "at the end"
        line = int(place[1]) if place[1] else text.rstrip("\n").count("\n") + 1
        reason = f"not TOML {at}: {str(cause)[: place.start()]}"
        raise ConfigError((ConfigProblem(name, line, "", reason),)) from cause


def _mistakes(error: BaseException, path: KeyPath) -> Iterator[_Mistake]:
    """The leaves of what cattrs raised, with their paths."""
    if isinstance(error, ClassValidationError | IterableValidationError):
        noted, bare = error.group_exceptions()
        for inner, note in noted:
            step = note.name if isinstance(note, AttributeValidationNote) else note.index
            yield from _mistakes(inner, (*path, step))
        for inner in bare:
            yield from _mistakes(inner, path)
    elif isinstance(error, ForbiddenExtraKeysError):
        for key in error.extra_fields:
            yield _unknown(error.cl, (*path, key))
    elif isinstance(error, KeyError):  # from cattrs itself: our hooks look nothing up by user-given keys
        yield _Mistake(path, "is required")
    elif isinstance(error, BadValue):
        yield _Mistake(path, error.reason, error.hint)
    elif isinstance(error, ValueError | TypeError) and path and path[0] == "plugins":
        yield _Mistake(path, str(error))  # a validator of somebody else's class
    else:
        raise error


def _unknown(section: type, path: KeyPath) -> _Mistake:
    """A name that the schema does not have there: of a later version, misplaced, or mistyped."""
    name = str(path[-1])
    if name in _PLANNED.get(section, ()):
        return _Mistake(path, "not available in this version")
    known = [field.name for field in attrs.fields(section)]
    places = _PLACES.get(name, ())
    if places and not difflib.get_close_matches(name, known, n=1, cutoff=0.85):
        return _Mistake(path, "unknown setting here", f"it belongs {' or '.join(places)}")
    return _Mistake(path, "unknown setting", did_you_mean(name, known))


def _section_of(annotation: Any) -> type | None:
    """The section class that a field's type stands for, alone or as an array of them."""
    inner = element_of(annotation) or annotation
    return inner if isinstance(inner, type) and attrs.has(inner) and leaf_of(inner) is None else None


def _find_places() -> dict[str, list[str]]:
    """For each name in the schema, where it belongs, in words."""
    places: dict[str, list[str]] = {}
    for field in attrs.fields(Config):
        section = _section_of(field.type)
        if section is None:
            places.setdefault(field.name, []).append("at the top, above the first [section]")
            continue
        header = f"[[{field.name}]]" if element_of(field.type) else f"[{field.name}]"
        places.setdefault(field.name, []).append(f"at the first level, as {header}")
        _add_places(places, section, field.name, header)
    return places


def _add_places(places: dict[str, list[str]], section: type, path: str, header: str) -> None:
    for field in attrs.fields(section):
        places.setdefault(field.name, []).append(f"in {header}")
        inner = _section_of(field.type)
        if inner is not None:
            below = f"{path}.{field.name}"
            _add_places(places, inner, below, f"[[{below}]]" if element_of(field.type) else f"[{below}]")


def _related(one: KeyPath, two: KeyPath) -> bool:
    """Whether one path is the other, or around it."""
    length = min(len(one), len(two))
    return one[:length] == two[:length]


def _mended(value: Any, section: type, broken: set[KeyPath], path: KeyPath = ()) -> dict[str, Any]:
    """The table without what is mistaken in it, and with all that is required."""
    table = value if isinstance(value, dict) else {}
    mended: dict[str, Any] = dict(_STAND_INS.get(section, {}))
    for field in attrs.fields(section):
        here = (*path, field.name)
        if field.name not in table or here in broken:
            continue
        inner = table[field.name]
        inner_section = _section_of(field.type)
        if inner_section is None:
            # an array with one mistaken element goes as a whole: indexes must stay what they are
            if not any(bad[: len(here)] == here for bad in broken):
                mended[field.name] = inner
        elif isinstance(inner, list):
            mended[field.name] = [
                _mended(element, inner_section, broken, (*here, index)) for index, element in enumerate(inner)
            ]
        else:
            mended[field.name] = _mended(inner, inner_section, broken, here)
    return mended


def _structure_leaf(annotation: Any) -> Callable[[Any, Any], Any]:
    leaf = leaf_of(annotation)
    assert leaf is not None, "the predicate of the hook"
    return lambda raw, _: leaf.read(raw)


def _structure_section(section: type, converter: Converter) -> Callable[[Any, Any], Any]:
    structure: Callable[[Any, Any], Any] = make_dict_structure_fn(
        section, converter, _cattrs_forbid_extra_keys=True, _cattrs_detailed_validation=True
    )

    def hook(raw: Any, of: Any) -> Any:
        if not isinstance(raw, dict):
            hint = ""
            if isinstance(raw, list) and raw and isinstance(raw[0], dict):
                hint = "write its header with single brackets"
            raise BadValue(f"expected a table, not {typed(raw)}", hint)
        return structure(raw, of)

    return hook


def _structure_array(annotation: Any, converter: Converter) -> Callable[[Any, Any], Any]:
    element = element_of(annotation)

    def hook(raw: Any, _: Any) -> Any:
        if not isinstance(raw, list):
            hint = f'write ["{raw}"]' if isinstance(raw, str) and len(raw) <= 60 else ""
            if isinstance(raw, dict):
                hint = "write its header with double brackets: [[…]]"
            raise BadValue(f"expected an array, not {typed(raw)}", hint)
        return tuple(converter.structure(raw, list[element]))  # type: ignore[valid-type]  # made at run time

    return hook


def _make_converter() -> Converter:
    converter = Converter(detailed_validation=True)
    converter.register_structure_hook_factory(attrs.has, _structure_section)
    converter.register_structure_hook_factory(lambda kind: element_of(kind) is not None, _structure_array)
    converter.register_structure_hook_factory(lambda kind: leaf_of(kind) is not None, _structure_leaf)
    for leaf_type in LEAF_TYPES:  # cattrs has hooks of its own for some, which coerce and come first
        converter.register_structure_hook(leaf_type, _structure_leaf(leaf_type))
    # an enum is a str: without this, the hook for str would take it
    converter.register_structure_hook(
        enum.StrEnum, lambda raw, choices: _structure_leaf(choices)(raw, choices)
    )
    return converter


_CONVERTER = _make_converter()
_PLACES = _find_places()
