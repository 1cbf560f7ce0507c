"""`elemta config init|show|schema`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from .errors import NOT_DONE, Trouble
from .options import config_option, read_config


@click.group()
def config() -> None:
    """Make, show and describe configurations."""


@config.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
def init(file: Path | None) -> None:
    """Write an annotated configuration to FILE (never over an existing one), or to standard output."""
    from elemta.config import example_config  # noqa: PLC0415

    if file is None:
        click.echo(example_config(), nl=False)
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        raise Trouble(NOT_DONE, f"{file} exists; it was left as it is") from None
    except OSError as error:
        raise Trouble(NOT_DONE, f"{file}: {error.strerror}") from error
    with os.fdopen(descriptor, "w") as out:
        out.write(example_config())
    click.echo(f"wrote {file}: change the name and the addresses, then run 'elemta check -c {file}'")


@config.command()
@config_option
def show(config_file: Path | None) -> None:
    """Print every setting in effect, defaults included, with what it means."""
    from elemta.config import render_config  # noqa: PLC0415

    click.echo(render_config(read_config(config_file)), nl=False)


@config.command()
def schema() -> None:
    """Print the JSON Schema of the configuration, for editors."""
    from elemta.config import json_schema  # noqa: PLC0415

    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
