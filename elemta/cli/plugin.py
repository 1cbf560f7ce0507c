"""`elemta plugin …`: how plugins do, in service and out of it, where shadows differ, how a new one begins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .client import AdminClient, NotRunning
from .errors import BAD_CONFIG, NOT_DONE, Trouble
from .options import config_option, dev_option, find_config, json_option, read_config, read_for_client

if TYPE_CHECKING:
    from elemta.app import Wishes
    from elemta.config import Config

_NEW = '''"""Refuses recipients whose name is `nobody`."""

from elemta.plugin.api import NoConfig, Plugin, Reject, hook


class {name}(Plugin[NoConfig]):
    @hook("rcpt")
    async def check(self, recipient: str) -> Reject | None:
        return Reject("Nobody reads this") if recipient.startswith("nobody@") else None
'''

_NEW_TEST = '''"""The plugin in a whole server: `pytest plugins/{folder}`."""

from elemta.testing import Mta


async def test_mail_to_nobody_is_rejected(mta: Mta) -> None:
    sent = await mta.send("nobody@example.org")
    sent.assert_rejected("Nobody reads this")


async def test_mail_to_others_is_delivered(mta: Mta) -> None:
    await mta.send("bob@example.org")
    assert mta.letter().recipients == ("bob@example.org",)
'''


@click.group()
def plugin() -> None:
    """Policy in Python."""


@plugin.command("list")
@config_option
@dev_option
@json_option
def list_plugins(config_file: Path | None, dev: bool, as_json: bool) -> None:
    """Show the plugins of the running server and how they do; without one, those of the configuration."""
    config = read_for_client(config_file, dev)
    try:
        found = AdminClient(config.state_dir).get("/api/v1/plugins")["plugins"]
    except NotRunning:
        found = _without_server(config)
    if as_json:
        click.echo(json.dumps(found))
    elif found:
        _show(found)


def _without_server(config: Config) -> list[Any]:
    entries = _wishes(config).applied(config.plugins)
    return [
        {
            "name": each.name,
            "standing": "not running" if each.enabled else "disabled",
            "isolation": each.isolation.value,
            "shadow": each.shadow,
            "hooks": [],
        }
        for each in entries
    ]


def _wishes(config: Config) -> Wishes:
    from elemta.app import WishesDamaged, read_wishes  # noqa: PLC0415 - keeps `--help` quick

    try:
        return read_wishes(config.state_dir)
    except WishesDamaged as error:
        raise Trouble(NOT_DONE, str(error)) from error


def _show(found: list[Any]) -> None:
    from .console import table  # noqa: PLC0415

    rows = []
    for each in found:
        calls = each.get("calls", 0)
        mean = f"{each['seconds'] / calls * 1000:.1f} ms" if calls else "-"
        failures = ", ".join(f"{count} {kind}" for kind, count in each.get("failures", {}).items())
        standing = each["standing"] + (" (shadow)" if each["shadow"] else "")
        hooks = ", ".join(each["hooks"])
        rows.append((each["name"], standing, each["isolation"], str(calls), mean, failures or "-", hooks))
    table(
        ("plugin", "standing", "isolation", "calls", "mean", "failures", "hooks"),
        rows,
        right=("calls", "mean"),
    )


def _change(config_file: Path | None, dev: bool, action: str, name: str) -> None:
    config = read_for_client(config_file, dev)
    try:
        AdminClient(config.state_dir).post("/api/v1/plugins", {"action": action, "name": name})
        return
    except NotRunning as error:
        if action == "reload":
            raise Trouble(NOT_DONE, "no server runs: it loads the file when it starts") from error
    if name not in {each.name for each in config.plugins}:
        raise Trouble(NOT_DONE, f"the configuration has no plugin {name}")
    from elemta.app import write_wishes  # noqa: PLC0415 - keeps `--help` quick

    try:
        config.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_wishes(config.state_dir, _wishes(config).with_wish(name, action == "enable"))
    except OSError as error:
        raise Trouble(NOT_DONE, f"{error.filename or config.state_dir}: {error.strerror}") from error
    click.echo("no server runs: it is so from its next start on", err=True)


@plugin.command()
@config_option
@dev_option
@click.argument("name")
def enable(config_file: Path | None, dev: bool, name: str) -> None:
    """Take a plugin of the configuration into service, whatever it says of `enabled`."""
    _change(config_file, dev, "enable", name)


@plugin.command()
@config_option
@dev_option
@click.argument("name")
def disable(config_file: Path | None, dev: bool, name: str) -> None:
    """Take a plugin out of service, until it is enabled again; calls under way are finished."""
    _change(config_file, dev, "disable", name)


@plugin.command()
@config_option
@dev_option
@click.argument("name")
def reload(config_file: Path | None, dev: bool, name: str) -> None:
    """Load the file of a plugin again. What cannot be loaded or started leaves the old version in service."""
    _change(config_file, dev, "reload", name)


@plugin.command()
@config_option
@dev_option
@json_option
@click.argument("name", required=False)
def diff(config_file: Path | None, dev: bool, as_json: bool, name: str | None) -> None:
    """Show where plugins in shadow mode would have decided otherwise, the last thousand times."""
    from urllib.parse import urlencode  # noqa: PLC0415 - keeps `--help` quick

    config = read_for_client(config_file, dev)
    query = "?" + urlencode({"name": name}) if name else ""
    try:
        found = AdminClient(config.state_dir).get(f"/api/v1/plugins/differences{query}")["differences"]
    except NotRunning as error:
        raise Trouble(
            NOT_DONE, "no server runs, and what shadows would have decided is kept in memory"
        ) from error
    if as_json:
        click.echo(json.dumps(found))
        return
    from .console import table, when  # noqa: PLC0415

    if found:
        table(
            ("time", "plugin", "hook", "would", "did", "sender", "recipients", "message"),
            [
                (
                    when(each["time"]),
                    each["plugin"],
                    each["hook"],
                    each["would"],
                    each["did"],
                    each["sender"] or "<>",
                    " ".join(each["recipients"]),
                    each["message"] or each["session"],
                )
                for each in found
            ],
        )


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
    """Make plugins/NAME to begin from, with a test; a file that is there is never overwritten."""
    from elemta.config import BadValue  # noqa: PLC0415 - keeps `--help` quick
    from elemta.config.units import parse_name  # noqa: PLC0415

    try:
        parse_name(name)
    except BadValue as error:
        raise click.UsageError(str(error)) from error
    folder = Path("plugins") / name
    file = folder / "plugin.py"
    # pytest wants names of test files that differ
    test = folder / f"test_plugin_{name.replace('-', '_').replace('.', '_')}.py"
    words = "".join(character if character.isalnum() else " " for character in name).split()
    class_name = "".join(word.capitalize() for word in words)
    if not class_name.isidentifier():
        class_name = f"Plugin{class_name}"
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        for each, text in ((file, _NEW.format(name=class_name)), (test, _NEW_TEST.format(folder=name))):
            with each.open("x", encoding="utf-8") as output:
                output.write(text)
            each.chmod(0o644)
    except OSError as error:
        raise Trouble(NOT_DONE, f"{error.filename}: {error.strerror}") from error
    click.echo(
        f"{file} is there, and its test, for: pytest {folder}\n"
        f'To use it, write into the configuration:\n\n[[plugins]]\nname = "{name}"'
    )
