"""What each shipped plugin has: an entry to copy that can be loaded, and words on every setting."""

from __future__ import annotations

import attrs
import pytest
from shipped_bed import ROOT, entry_of

from elemta.config import Isolation
from elemta.plugin import load_one, load_plugin

SHIPPED = sorted(path.parent.name for path in ROOT.glob("plugins/*/plugin.toml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_it_can_be_loaded_as_it_comes(name: str) -> None:
    entry = entry_of(name)
    assert load_plugin(entry).hooks
    declared = (ROOT / "plugins" / name / "plugin.toml").read_text()
    for word in ("isolation", "timeout", "on_error", "on_timeout", "on_crash"):
        assert f"\n{word} = " in declared


@pytest.mark.parametrize("name", SHIPPED)
def test_its_readme_names_every_setting(name: str) -> None:
    readme = (ROOT / "plugins" / name / "README.md").read_text()
    for field in attrs.fields(load_plugin(entry_of(name)).plugin.Config):
        assert f"`{field.name}" in readme or f", {field.name}" in readme, field.name


def test_one_of_several_files_runs_in_a_process_as_well() -> None:
    entry = entry_of("rspamd", isolation=Isolation.PROCESS)
    assert load_one(entry).hooks == load_plugin(entry).hooks
