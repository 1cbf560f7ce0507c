"""Options that several commands share, and the configuration they lead to."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .errors import BAD_CONFIG, Trouble

if TYPE_CHECKING:
    from elemta.config import Config

F = TypeVar("F", bound=Callable[..., Any])

PLACES = (Path("conf/elemta.toml"), Path("/etc/elemta/elemta.toml"))
"""Where a configuration is looked for without -c and ELEMTA_CONFIG."""


def config_option(function: F) -> F:
    """`-c FILE`."""
    return click.option(
        "-c",
        "--config",
        "config_file",
        type=click.Path(path_type=Path),
        envvar="ELEMTA_CONFIG",
        help="Configuration file. [default: conf/elemta.toml, /etc/elemta/elemta.toml]",
    )(function)


def dev_option(function: F) -> F:
    """`--dev`: the state of development mode rather than a configuration's."""
    return click.option("--dev", is_flag=True, help="The server started with `elemta run --dev`.")(function)


def json_option(function: F) -> F:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="JSON for programs.")(function)


def find_config(config_file: Path | None) -> Path:
    """The file to read."""
    if config_file is not None:
        return config_file
    for place in PLACES:
        if os.access(place, os.F_OK):
            return place
    raise Trouble(
        BAD_CONFIG,
        f"no configuration: give one with -c FILE, or make one with 'elemta config init {PLACES[0]}'",
    )


def read_config(config_file: Path | None) -> Config:
    """The configuration, or every mistake in it as a line."""
    from elemta.config import ConfigError, load_config  # noqa: PLC0415 - keeps `--help` quick

    try:
        return load_config(find_config(config_file))
    except ConfigError as error:
        raise Trouble(BAD_CONFIG, *str(error).splitlines()) from error


def read_for_client(config_file: Path | None, dev: bool) -> Config:
    """The configuration of the server that a command is about."""
    if not dev:
        return read_config(config_file)
    from elemta.app import default_config  # noqa: PLC0415

    return default_config(2525) if config_file is None else read_config(config_file)
