"""From `[[plugins]]` to classes: found, safe, of this version, with settings that fit."""

import importlib
import os
import textwrap
import zipfile
from pathlib import Path

import pytest

from elemta.config import PluginConfig, SettingsError, locate, parse_config
from elemta.plugin import load_plugin, load_plugins

SOUND = """
import attrs
from elemta.plugin.api import Plugin, Reject, hook

@attrs.frozen
class Settings:
    word: str
    most: int = 3

class Sound(Plugin):
    Config = Settings

    @hook("rcpt", "mail")
    async def check(self, envelope):
        return None
"""


def write(path: Path, text: str) -> Path:
    path.write_text(textwrap.dedent(text))
    path.chmod(0o600)
    return path


def reason(error: SettingsError) -> str:
    ((_, text, _),) = error.mistakes
    return text


def test_a_plugin_is_loaded_with_its_settings(tmp_path):
    file = write(tmp_path / "sound.py", SOUND)
    found = load_plugin(PluginConfig("sound", path=file, config={"word": "x"}))
    assert found.settings.word == "x"
    assert found.settings.most == 3
    assert found.hooks == {"rcpt": "check", "mail": "check"}


def test_a_folder_stands_for_its_plugin_py(tmp_path):
    write(tmp_path / "plugin.py", SOUND)
    assert load_plugin(PluginConfig("sound", path=tmp_path, config={"word": "x"})).source.endswith(
        "plugin.py"
    )


def test_mistaken_settings_are_told_with_file_line_and_path(tmp_path):
    plugin = write(tmp_path / "sound.py", SOUND)
    text = f"""
    hostname = "mx.example.org"
    [[plugins]]
    name = "sound"
    path = "{plugin}"
    [plugins.config]
    most = "many"
    wrod = "x"
    """
    file = write(tmp_path / "elemta.toml", text)
    with pytest.raises(SettingsError) as caught:
        load_plugins(parse_config(file.read_text(), str(file)).plugins)
    said = str(locate(caught.value, file))
    assert f"{file}:7: plugins[0].config.most: expected an integer" in said
    assert f"{file}:8: plugins[0].config.wrod: unknown setting; did you mean" in said
    assert f"{file}:6: plugins[0].config.word: is required" in said


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_file_that_others_can_write_is_refused(tmp_path, mode):
    file = write(tmp_path / "sound.py", SOUND)
    file.chmod(mode)
    with pytest.raises(SettingsError, match="can be written by others") as caught:
        load_plugin(PluginConfig("sound", path=file, config={"word": "x"}))
    ((path, _, hint),) = caught.value.mistakes
    assert path == ("plugins", 0, "path")
    assert "chmod go-w" in hint


def test_a_file_in_a_folder_that_others_can_write_is_refused(tmp_path):
    folder = tmp_path / "open"
    folder.mkdir()
    file = write(folder / "sound.py", SOUND)
    folder.chmod(0o777)
    with pytest.raises(SettingsError, match="can be written by others"):
        load_plugin(PluginConfig("sound", path=file, config={"word": "x"}))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nothing_of_that_name", "cannot be imported: ModuleNotFoundError"),
        ("raise SystemExit(3)", "cannot be imported: SystemExit"),
        ("x = (", "cannot be imported: SyntaxError"),
        ("x = 1", "one class derived from Plugin; here are none"),
        (
            "from elemta.plugin.api import Plugin\nclass A(Plugin): ...\nclass B(Plugin): ...",
            "here are A, B",
        ),
        (
            "from elemta.plugin.api import Plugin\nclass A(Plugin):\n    api_version = 2",
            "version 2 of the API",
        ),
        (
            "from elemta.plugin.api import Plugin, hook\nclass A(Plugin):\n    @hook('rcpt')\n    async def f(self, foo): ...",
            "hook 'rcpt' has no argument 'foo'; it has session, envelope, recipient, notes",
        ),
        (
            "from elemta.plugin.api import Plugin, hook\nclass A(Plugin):\n    @hook('rcpt')\n    def f(self): ...",
            "f of A has to be an async method",
        ),
        (
            "from elemta.plugin.api import Plugin, hook\nclass A(Plugin):\n    @hook('rctp')\n    async def f(self): ...",
            "there is no hook 'rctp'",
        ),
    ],
)
def test_what_cannot_be_a_plugin_is_refused_with_the_reason(tmp_path, text, said):
    file = write(tmp_path / "bad.py", text)
    with pytest.raises(SettingsError) as caught:
        load_plugin(PluginConfig("bad", path=file))
    assert said in reason(caught.value)


def test_a_missing_file_is_told_with_a_remedy(tmp_path):
    with pytest.raises(SettingsError, match="there is no"):
        load_plugin(PluginConfig("gone", path=tmp_path / "gone.py"))


def test_plugins_are_asked_in_the_order_they_want(tmp_path):
    file = write(tmp_path / "sound.py", SOUND)
    entries = [
        PluginConfig("a", path=file, config={"word": "x"}, after=("c",)),
        PluginConfig("b", path=file, config={"word": "x"}),
        PluginConfig("c", path=file, config={"word": "x"}),
        PluginConfig("d", path=file, config={"word": "x"}, before=("b",)),
        PluginConfig("off", path=tmp_path / "gone", enabled=False),
    ]
    assert [each.entry.name for each in load_plugins(entries)] == ["c", "a", "d", "b"]


def test_a_circle_of_orders_is_refused(tmp_path):
    file = write(tmp_path / "sound.py", SOUND)
    entries = [
        PluginConfig("a", path=file, config={"word": "x"}, after=("b",)),
        PluginConfig("b", path=file, config={"word": "x"}, after=("a",)),
    ]
    with pytest.raises(SettingsError, match="form a circle"):
        load_plugins(entries)


def test_a_plugin_of_several_files_is_loaded_anew_as_a_whole(tmp_path):
    write(tmp_path / "words.py", "WORD = 'one'")
    write(tmp_path / "plugin.py", SOUND + "\nfrom .words import WORD\nSound.said = WORD\n")
    entry = PluginConfig("several", path=tmp_path, config={"word": "x"})
    first = load_plugin(entry).plugin
    assert first.said == "one"
    write(tmp_path / "words.py", "WORD = 'another'")
    assert load_plugin(entry).plugin.said == "another"
    assert first.said == "one"
    write(tmp_path / "words.py", "WORD = 1 / 0")
    with pytest.raises(SettingsError, match="ZeroDivisionError"):
        load_plugin(entry)
    assert importlib.import_module("elemta_plugin_several.words").WORD == "another"


@pytest.mark.parametrize("changed", ["plugin.py", "words.py"])
def test_a_change_of_the_same_second_and_size_is_seen(tmp_path, monkeypatch, changed):
    monkeypatch.setattr("sys.dont_write_bytecode", False)
    write(tmp_path / "words.py", "WORD = 'one'")
    write(tmp_path / "plugin.py", SOUND + "\nfrom .words import WORD\nSound.said = WORD, 'one'\n")
    entry = PluginConfig("same", path=tmp_path, config={"word": "x"})
    file = tmp_path / changed
    os.utime(file, (1e9, 1e9))
    assert load_plugin(entry).plugin.said == ("one", "one")
    write(file, file.read_text().replace("'one'", "'two'"))
    os.utime(file, (1e9, 1e9))
    assert "two" in load_plugin(entry).plugin.said


def test_a_file_beside_the_plugin_that_others_can_write_is_refused(tmp_path):
    write(tmp_path / "plugin.py", SOUND)
    write(tmp_path / "words.py", "").chmod(0o622)
    with pytest.raises(SettingsError, match=r"words\.py can be written by others"):
        load_plugin(PluginConfig("several", path=tmp_path, config={"word": "x"}))


@pytest.mark.parametrize("unsafe", ["__init__.py", "inner/__init__.py", "inner/sound.py", "inner/beside.py"])
def test_a_module_that_others_can_write_is_refused_before_any_of_it_runs(tmp_path, monkeypatch, unsafe):
    package = "unsafe_" + unsafe.removesuffix(".py").replace("/", "_")
    (tmp_path / package / "inner").mkdir(parents=True)
    ran = tmp_path / "ran"
    for name in ("__init__.py", "inner/__init__.py", "inner/sound.py", "inner/beside.py"):
        says = f"import pathlib; pathlib.Path({str(ran)!r}).touch()" if name == unsafe else ""
        write(tmp_path / package / name, says + (SOUND if name.endswith("sound.py") else ""))
    monkeypatch.syspath_prepend(str(tmp_path))
    entry = PluginConfig("sound", module=f"{package}.inner.sound", config={"word": "x"})
    (tmp_path / package / unsafe).chmod(0o666)
    with pytest.raises(SettingsError, match="can be written by others") as caught:
        load_plugin(entry)
    ((path, _, hint),) = caught.value.mistakes
    assert (path, "chmod go-w" in hint) == (("plugins", 0, "module"), True)
    assert not ran.exists()
    (tmp_path / package / unsafe).chmod(0o644)
    assert load_plugin(entry).plugin.__name__ == "Sound"


def test_a_module_in_an_archive_is_as_safe_as_the_archive(tmp_path, monkeypatch):
    archive = tmp_path / "plugins.zip"
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("zipped_sound.py", SOUND)
    archive.chmod(0o644)
    monkeypatch.syspath_prepend(str(archive))
    entry = PluginConfig("sound", module="zipped_sound", config={"word": "x"})
    assert load_plugin(entry).plugin.__name__ == "Sound"
    archive.chmod(0o666)
    with pytest.raises(SettingsError, match=r"plugins\.zip can be written by others"):
        load_plugin(entry)
