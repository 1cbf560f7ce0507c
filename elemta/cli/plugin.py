"""`elemta plugin list|check|new`: the plugins of the configuration, and the first lines of a new one."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .errors import BAD_CONFIG, NOT_DONE, Trouble
from .options import config_option, find_config, json_option, read_config

_NEW = '''"""Refuses recipients whose name is `nobody`."""

from elemta.plugin.api import NoConfig, Plugin, Reject, hook


class {name}(Plugin[NoConfig]):
    @hook("rcpt")
    async def check(self, recipient: str) -> Reject | None:
        return Reject("Nobody reads this") if recipient.startswith("nobody@") else None
'''


@click.group()
def plugin() -> None:
    """Policy in Python."""


@plugin.command("list")
@config_option
@json_option
def list_plugins(config_file: Path | None, as_json: bool) -> None:
    """Show the plugins of the configuration, without loading them."""
    entries = read_config(config_file).plugins
    if as_json:
        found = [
            {
                "name": each.name,
                "enabled": each.enabled,
                "isolation": each.isolation.value,
                "shadow": each.shadow,
            }
            for each in entries
        ]
        click.echo(json.dumps(found))
        return
    for each in entries:
        words = [each.isolation.value, "enabled" if each.enabled else "disabled"]
        click.echo(f"{each.name}  {', '.join([*words, 'shadow'] if each.shadow else words)}")


@plugin.command()
@config_option
def check(config_file: Path | None) -> None:
    """Load all plugins that are enabled, and show in which order and where they are asked."""
    from elemta.config import SettingsError, locate  # noqa: PLC0415 - keeps `--help` quick
    from elemta.plugin import load_plugins  # noqa: PLC0415

    path = find_config(config_file)
    try:
        loaded = load_plugins(read_config(path).plugins)
    except SettingsError as error:
        raise Trouble(BAD_CONFIG, str(locate(error, path))) from error
    for each in loaded:
        click.echo(f"{each.entry.name}  {each.source}: {', '.join(sorted(each.hooks)) or 'no hooks'}")


@plugin.command()
@click.argument("name")
def new(name: str) -> None:
    """Make plugins/NAME/plugin.py to begin from; a file that is there is never overwritten."""
    from elemta.config import BadValue  # noqa: PLC0415 - keeps `--help` quick
    from elemta.config.units import parse_name  # noqa: PLC0415

    try:
        parse_name(name)
    except BadValue as error:
        raise click.UsageError(str(error)) from error
    file = Path("plugins") / name / "plugin.py"
    words = "".join(character if character.isalnum() else " " for character in name).split()
    class_name = "".join(word.capitalize() for word in words)
    if not class_name.isidentifier():
        class_name = f"Plugin{class_name}"
    try:
        file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as output:
            output.write(_NEW.format(name=class_name))
        file.chmod(0o644)
    except OSError as error:
        raise Trouble(NOT_DONE, f"{error.filename}: {error.strerror}") from error
    click.echo(f'{file} is there. To use it, write into the configuration:\n\n[[plugins]]\nname = "{name}"')
