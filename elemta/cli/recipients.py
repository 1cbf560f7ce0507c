"""`elemta recipients set|remove|list`: the table of recipients, whether a server runs or not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .errors import BAD_CONFIG, NOT_DONE, TRY_LATER, Trouble
from .options import config_option, json_option, read_config

if TYPE_CHECKING:
    from elemta.routing import RecipientsChange


@click.group()
def recipients() -> None:
    """Who exists in our domains, and aliases: the table that `table` in [domains] names.

    A running server sees changes at the next RCPT.
    """


@recipients.command("set")
@config_option
@click.argument("address")
@click.argument("targets", nargs=-1)
def set_(config_file: Path | None, address: str, targets: tuple[str, ...]) -> None:
    """Let ADDRESS be a mailbox, or with TARGETS an alias for these; @domain is everybody else there."""
    with _editing(config_file, make=True) as change:
        try:
            change.put(address, ", ".join(targets))
        except ValueError as error:
            raise Trouble(NOT_DONE, f"{address}: {error}") from error
    click.echo(f"{address}: {', '.join(targets)}" if targets else address)


@recipients.command()
@config_option
@click.argument("address")
def remove(config_file: Path | None, address: str) -> None:
    """Forget ADDRESS."""
    with _editing(config_file) as change:
        try:
            found = change.remove(address)
        except ValueError as error:
            raise Trouble(NOT_DONE, f"{address}: {error}") from error
        if not found:
            raise Trouble(NOT_DONE, f"{address} is not in the table")


@recipients.command("list")
@config_option
@json_option
def list_(config_file: Path | None, as_json: bool) -> None:
    """Print all that is in the table, as lines of a recipients file."""
    with _editing(config_file) as change:
        found = list(change.all())
    if as_json:
        click.echo(json.dumps([{"address": address, "targets": targets} for address, targets in found]))
        return
    for address, targets in found:
        click.echo(f"{address}: {targets}" if targets else address)


@contextmanager
def _editing(config_file: Path | None, *, make: bool = False) -> Iterator[RecipientsChange]:
    from elemta.routing import RecipientsFileError, RecipientsUnavailable, edit_recipients  # noqa: PLC0415

    domains = read_config(config_file).domains
    if domains.table is None:
        raise Trouble(BAD_CONFIG, "there is no table: name one as 'table' in [domains]")
    if not make and not domains.table.exists():
        raise Trouble(NOT_DONE, f"{domains.table}: is not there; 'elemta recipients set' makes it")
    try:
        with edit_recipients(domains.table, domains.delimiter) as change:
            yield change
    except RecipientsFileError as error:
        raise Trouble(BAD_CONFIG, *str(error).splitlines()) from error
    except RecipientsUnavailable as error:
        raise Trouble(TRY_LATER, str(error)) from error
