"""`elemta config init|show|schema|from-postfix`."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import click

from .errors import BAD_CONFIG, NOT_DONE, Trouble
from .options import config_option, read_config

_LARGEST_TABLE = 16 << 20
"""Octets of a table that are read."""


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
    _write(file, example_config())
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


@config.command("from-postfix")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), help="Write to this file (never over an existing one)."
)
@click.argument("main", type=click.Path(path_type=Path))
@click.argument("master", type=click.Path(path_type=Path), required=False)
def from_postfix(output: Path | None, main: Path, master: Path | None) -> None:
    """Translate MAIN (main.cf, or what `postconf -n` prints) and MASTER (master.cf) of Postfix.

    What has no counterpart is named on standard error, and as a comment in the result, with its line and what
    to do about it. Tables are read where they are text; nothing of Postfix is changed.
    """
    from elemta.config.postfix import PostfixSyntaxError, translate  # noqa: PLC0415
    from elemta.runtime import escape_text  # noqa: PLC0415

    main_text, master_text = _read(main), None if master is None else _read(master)
    try:
        made = translate(
            main_text,
            master_text,
            main_file=str(main),
            master_file=str(master),
            host=socket.getfqdn(),
            read=_read_table,
        )
    except PostfixSyntaxError as error:
        raise Trouble(BAD_CONFIG, escape_text(str(error))) from error
    if output is None:
        click.echo(made.text, nl=False)
    else:
        _write(output, made.text)
    for remark in made.remarks:
        click.echo(escape_text(str(remark)), err=True)
    if made.problems:
        raise Trouble(NOT_DONE, *map(escape_text, made.problems))
    if output is not None:
        click.echo(f"wrote {output}: look at its first lines, then run 'elemta check -c {output}'")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise Trouble(NOT_DONE, f"{path}: {error.strerror}") from error


def _read_table(path: str) -> str | None:
    """The text of a table, if it is text."""
    try:
        data = Path(path).read_bytes()[:_LARGEST_TABLE]
    except (OSError, ValueError):
        return None
    return None if b"\0" in data else data.decode("utf-8", "replace")


def _write(file: Path, text: str) -> None:
    """Make the file, never over an existing one."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        raise Trouble(NOT_DONE, f"{file} exists; it was left as it is") from None
    except OSError as error:
        raise Trouble(NOT_DONE, f"{file}: {error.strerror}") from error
    with os.fdopen(descriptor, "w") as out:
        out.write(text)
