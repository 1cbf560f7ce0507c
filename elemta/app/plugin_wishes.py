"""Which plugins an operator switched on or off, in a small file, so that a restart does not undo it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import attrs

from elemta.config import PluginConfig
from elemta.runtime import write_private

FILE = "plugins.json"


class WishesDamaged(Exception):
    """The file is there, and is none of ours."""


@attrs.frozen
class Wishes:
    """By name, whether a plugin is to be in service, whatever the configuration says of `enabled`."""

    enabled: dict[str, bool] = attrs.field(factory=dict)

    def applied(self, entries: Iterable[PluginConfig]) -> tuple[PluginConfig, ...]:
        """The plugins of the configuration, as operators want them."""
        return tuple(
            attrs.evolve(each, enabled=self.enabled.get(each.name, each.enabled)) for each in entries
        )

    def with_wish(self, name: str, enabled: bool) -> Wishes:
        return Wishes({**self.enabled, name: enabled})


def read_wishes(state_dir: Path) -> Wishes:
    """What was written; nothing where there is no file. Blocking.

    Raises:
      WishesDamaged: to be looked at by somebody: else what was switched off would be on again.
    """
    file = state_dir / FILE
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
        enabled = {str(name): bool(value) for name, value in read["enabled"].items()}
    except (FileNotFoundError, NotADirectoryError):  # what is wrong with the folder, the spool will say
        return Wishes()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WishesDamaged(
            f"{file} cannot be read: {error}; remove it to go by the configuration"
        ) from error
    return Wishes(enabled)


def write_wishes(state_dir: Path, wishes: Wishes) -> None:
    """Write them durably, or leave what was there. Blocking.

    Raises:
      OSError: nothing has changed.
    """
    text = json.dumps({"enabled": wishes.enabled}, indent=1, sort_keys=True) + "\n"
    write_private(state_dir / FILE, text)
