"""What a plugin of the process tier has, without its code in the server: a process looks at it, and tells.

The process is confined as a worker is, lives as long as the look takes, and is believed nothing: a
name that is no hook is dropped, and what is no answer is a mistake in the configuration.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any  # JSON

import attrs

from elemta.config import PluginConfig, SettingsError
from elemta.runtime import escape_text

from .hooks import HOOKS

_ROOT = str(Path(__file__).resolve().parents[2])
_BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from elemta.plugin.served import look; look()"
_LONGEST_LOOK = 30.0
"""Seconds for importing the plugin; as long as a worker has for its start."""


@attrs.frozen(eq=False)
class ApartPlugin:
    """One plugin that was checked by a process of its own, and is to run in such."""

    entry: PluginConfig
    hooks: dict[str, str]
    """For each hook the name of the method."""
    source: str
    """Where it was found, for people."""


def setup_of(entry: PluginConfig, file: Path, hostname: str = "") -> dict[str, object]:
    """What a process has to know for loading that plugin, as JSON can hold it.

    Raises:
      ValueError: its configuration has a value that cannot be handed over, such as a date.
    """
    setup: dict[str, object] = {
        "name": entry.name,
        "path": None if entry.module is not None else str(file.absolute()),
        "module": entry.module,
        "timeout": entry.timeout,
        "config": entry.config,
        "hostname": hostname,
    }
    try:
        json.dumps(setup)
    except TypeError as error:
        raise ValueError(f"a value cannot be handed to a process ({error}): write it as text") from error
    return setup


def look_at(entry: PluginConfig, file: Path, index: int = 0) -> ApartPlugin:
    """Have a process load the plugin with its configuration; `index` is its place in the file of settings.

    Raises:
      SettingsError: it cannot be used; says where in the configuration.
    """
    where = ("plugins", index)
    try:
        setup = setup_of(entry, file)
    except ValueError as error:
        raise SettingsError([((*where, "config"), str(error), "")]) from error
    plan = {"path": [each for each in sys.path if each], "setup": setup, "index": index}
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter, with code of ours
            [sys.executable, "-I", "-c", _BOOT, _ROOT],
            input=json.dumps(plan).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.defpath, "LANG": "C.UTF-8", "MALLOC_ARENA_MAX": "2"},
            timeout=_LONGEST_LOOK,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SettingsError([(where, f"the plugin cannot be looked at: {error}", "")]) from error
    try:
        said: dict[str, Any] = json.loads(done.stdout)
        if mistakes := said["mistakes"]:
            raise SettingsError(
                (tuple(path), escape_text(str(reason), 2_000), escape_text(str(hint), 500))
                for path, reason, hint in mistakes
            )
        hooks = {str(name): str(method) for name, method in said["hooks"].items() if name in HOOKS}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        detail = f"its process ended with status {done.returncode} and said nothing of use"
        raise SettingsError([(where, f"the plugin cannot be looked at: {detail}", "")]) from error
    return ApartPlugin(entry, hooks, entry.module or str(file))
