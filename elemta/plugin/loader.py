"""From `[[plugins]]` to classes that can be called: find, check the file, import, check the class.

A file is refused if another user could write it, for whoever writes it has the rights of the server.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import stat
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    SourceFileLoader,
)
from importlib.metadata import entry_points
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import attrs

from elemta.config import Isolation, PluginConfig, SettingsError, did_you_mean, read_settings

from .apart import ApartPlugin, look_at
from .api import API_VERSION, Plugin, hook_methods, task_methods
from .hooks import HOOKS
from .order import Circle, arrange
from .settings import settings_of

ENTRY_POINTS = "elemta.plugins"
FOLDER = Path("plugins")
MAIN = "plugin.py"
"""The file of a plugin that is a folder. It may import what is beside it: `from .wire import Reader`."""


@attrs.frozen(eq=False)
class LoadedPlugin:
    """One plugin that was checked."""

    entry: PluginConfig
    plugin: type[Plugin[Any]]
    settings: Any
    """The instance of its `Config`."""
    hooks: dict[str, str]
    """For each hook the name of the method."""
    tasks: dict[str, float | None]
    source: str
    """Where it was found, for people."""


def load_plugins(entries: Sequence[PluginConfig]) -> tuple[LoadedPlugin | ApartPlugin, ...]:
    """Load all that are enabled, in the order in which they are to be asked.

    Those that are to run in processes are not imported here: a process looks at each, and tells its hooks.

    Raises:
      SettingsError: with everything that is wrong with any of them.
    """
    mistakes: list[tuple[tuple[str | int, ...], str, str]] = []
    loaded: list[LoadedPlugin | ApartPlugin] = []
    for index, entry in enumerate(entries):
        if not entry.enabled:
            continue
        try:
            loaded.append(load_one(entry, index))
        except SettingsError as error:
            mistakes += error.mistakes
    if mistakes:
        raise SettingsError(mistakes)
    return in_order(loaded)


def load_one(entry: PluginConfig, index: int = 0) -> LoadedPlugin | ApartPlugin:
    """Load one where it is to run, its file anew even if that is loaded already. Blocking.

    Raises:
      SettingsError: as `load_plugin`.
    """
    loaded = (
        look_at(entry, find_file(entry), index)
        if entry.isolation is Isolation.PROCESS
        else load_plugin(entry, index)
    )
    check_hooks(entry, loaded.hooks, index)
    return loaded


def load_plugin(entry: PluginConfig, index: int = 0) -> LoadedPlugin:
    """Load one; `index` is its place in the file.

    Raises:
      SettingsError: it cannot be used; says where in the configuration.
    """
    where = ("plugins", index)
    field = "module" if entry.module is not None else "path" if entry.path is not None else "name"
    try:
        module, source = _import(entry)
        plugin = _plugin_of(module)
        if plugin.api_version != API_VERSION:
            raise _Unusable(f"is for version {plugin.api_version} of the API; this is version {API_VERSION}")
        hooks, tasks = hook_methods(plugin), task_methods(plugin)
    except _Unusable as error:
        raise SettingsError([((*where, field), str(error), error.hint)]) from error
    except ValueError as error:  # of a method
        raise SettingsError([((*where, field), str(error), "")]) from error
    settings: Any = read_settings(plugin.Config, entry.config, (*where, "config"))
    return LoadedPlugin(entry, plugin, settings, hooks, tasks, source)


def in_order(plugins: Iterable[LoadedPlugin | ApartPlugin]) -> tuple[LoadedPlugin | ApartPlugin, ...]:
    """By `before` and `after`, and else as they stand.

    Raises:
      SettingsError: they want to be asked in a circle, if only at one hook.
    """
    items = {each.entry.name: each for each in plugins}
    try:
        ordered = arrange(items, lambda each: (each.entry.before, each.entry.after))
    except Circle as error:
        raise SettingsError([(("plugins",), f"before and after of {error} form a circle", "")]) from error
    for hook in {hook.name for each in ordered for hook in each.entry.hooks if hook.before or hook.after}:
        there = {each.entry.name: each for each in ordered if hook in each.hooks}
        try:
            arrange(there, partial(_wishes_at, hook))
        except Circle as error:
            reason = f"before and after of {error} form a circle at the hook {hook!r}"
            raise SettingsError([(("plugins",), reason, "")]) from error
    return tuple(ordered)


def _wishes_at(hook: str, plugin: LoadedPlugin | ApartPlugin) -> tuple[tuple[str, ...], tuple[str, ...]]:
    settings = settings_of(plugin.entry, hook)
    return settings.before, settings.after


def check_hooks(entry: PluginConfig, hooks: Iterable[str], index: int) -> None:
    """Refuse settings of hooks that the plugin does not have: else a mistyped verdict would never count.

    Raises:
      SettingsError: says where.
    """
    for place, each in enumerate(entry.hooks):
        if each.name in hooks:
            continue
        where = ("plugins", index, "hooks", place, "name")
        if each.name not in HOOKS:
            raise SettingsError([(where, f"there is no hook {each.name!r}", did_you_mean(each.name, HOOKS))])
        raise SettingsError([(where, f"the plugin has no hook {each.name!r}", f"it has {', '.join(hooks)}")])


class _Unusable(Exception):
    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.hint = hint


def find_file(entry: PluginConfig) -> Path:
    """The file of a plugin that has no module. It may be missing."""
    path = entry.path if entry.path is not None else FOLDER / entry.name
    return path / MAIN if path.is_dir() else path


def check_safe(file: Path) -> None:
    """Refuse a file that others than we and root could have written, or replaced.

    Raises:
      PermissionError: says which path and why.
      OSError: it cannot be looked at.
    """
    resolved = file.resolve(strict=True)
    for path in (resolved, resolved.parent):
        facts = path.stat()
        sticky = path != resolved and facts.st_mode & stat.S_ISVTX
        if facts.st_uid not in (0, os.geteuid()):
            raise PermissionError(f"{path} belongs to another user (uid {facts.st_uid})")
        if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not sticky:
            raise PermissionError(f"{path} can be written by others")


def _import(entry: PluginConfig) -> tuple[ModuleType, str]:
    if entry.module is not None:
        return _import_module(entry.module)
    file = find_file(entry)
    if not file.is_file():
        raise _Unusable(f"there is no {file}", "say where the plugin is with path or module")
    _refuse_unsafe(file)
    name = f"elemta_plugin_{entry.name.replace('-', '_').replace('.', '_')}"
    written = str(file.resolve())
    folder: list[str] | None = None
    if file.name == MAIN:
        folder = [str(file.resolve().parent)]
        kinds = ((_AsWritten, SOURCE_SUFFIXES), (ExtensionFileLoader, EXTENSION_SUFFIXES))
        sys.path_importer_cache[folder[0]] = FileFinder(folder[0], *kinds)
    loader = _AsWritten(name, written) if file.suffix in SOURCE_SUFFIXES else None
    spec = importlib.util.spec_from_file_location(
        name, written, loader=loader, submodule_search_locations=folder
    )
    if spec is None:
        raise _Unusable(f"{file} is no Python file")
    return _execute(spec, name, str(file)), str(file)


class _AsWritten(SourceFileLoader):
    """Compiles what the file says now. What Python keeps compiled is told from it by size and second only."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def _import_module(name: str) -> tuple[ModuleType, str]:
    for point in entry_points(group=ENTRY_POINTS, name=name):
        name = point.module
    parts = name.split(".")
    spec: ModuleSpec | None = None
    # from the outermost package on: to find what is in a package runs the package
    for count in range(1, len(parts) + 1):
        spec = _find_module(".".join(parts[:count]))
        if spec is None:
            break
        if spec.has_location and spec.origin is not None:
            _refuse_unsafe(_on_disk(Path(spec.origin)))
    return _execute(spec, name, name), name


def _find_module(name: str) -> ModuleSpec | None:
    found: list[ModuleSpec | None] = []
    _run(lambda: found.append(importlib.util.find_spec(name)), name)
    return found[0]


def _on_disk(origin: Path) -> Path:
    """The file itself, or the archive that it is in."""
    return next((path for path in (origin, *origin.parents) if path.exists()), origin)


def _refuse_unsafe(file: Path) -> None:
    """Check the file, and those beside it where it stands for its folder."""
    try:
        for each in sorted(file.parent.glob("*.py")) if file.name in (MAIN, "__init__.py") else (file,):
            check_safe(each)
    except PermissionError as error:
        raise _Unusable(str(error), f"chmod go-w, or chown to uid {os.geteuid()} or root") from error
    except OSError as error:
        raise _Unusable(f"{file} cannot be read: {error.strerror}") from error


def _execute(spec: ModuleSpec | None, name: str, what: str) -> ModuleType:
    """Run the module anew, beside one of that name that is in use. A mistake leaves that one in its place."""
    if spec is None or spec.loader is None:
        raise _Unusable(f"there is no module {what}")
    module = importlib.util.module_from_spec(spec)
    before = _forget(name)
    sys.modules[name] = module  # attrs and typing look a class's module up
    try:
        _run(lambda: spec.loader.exec_module(module) if spec.loader else None, what)
    except _Unusable:
        _forget(name)
        sys.modules.update(before)
        raise
    return module


def _forget(name: str) -> dict[str, ModuleType]:
    """Take a module, and those in it, out of those that are loaded."""
    names = [each for each in sys.modules if each == name or each.startswith(f"{name}.")]
    return {each: sys.modules.pop(each) for each in names}


def _run(load: Any, what: str) -> None:  # Any: a callable whose result does not matter
    """Run code of a stranger; whatever it raises says only that it cannot be used."""
    try:
        load()
    except (Exception, SystemExit) as error:
        raise _Unusable(f"{what} cannot be imported: {type(error).__name__}: {error}") from error


def _plugin_of(module: ModuleType) -> type[Plugin[Any]]:
    found = [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, Plugin)
        and value is not Plugin
        and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        names = ", ".join(each.__name__ for each in found) or "none"
        raise _Unusable(f"a plugin's file has one class derived from Plugin; here are {names}")
    return found[0]
