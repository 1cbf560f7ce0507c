"""`elemta flights`: what was said in sessions and attempts that failed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import click

from .client import AdminClient, NotRunning
from .errors import NOT_DONE, Trouble
from .options import config_option, dev_option, json_option, read_for_client


def _ask(config_file: Path | None, dev: bool, path: str) -> Any:
    config = read_for_client(config_file, dev)
    try:
        return AdminClient(config.state_dir).get(path)
    except NotRunning:
        raise Trouble(NOT_DONE, f"no server runs on {config.state_dir}") from None


@click.group()
def flights() -> None:
    """Show what was said in the last sessions and attempts that failed, without secrets and messages."""


@flights.command("list")
@config_option
@dev_option
@json_option
@click.option("--kind", type=click.Choice(["attempt", "session"]), help="Only of this kind.")
@click.option("--message", metavar="ID", help="Only of this message.")
@click.option("--about", metavar="ID", help="Only of this session or attempt.")
@click.option("--peer", help="Only with this client, or this host as the listing shows it.")
@click.option("--limit", default=100, show_default=True, help="Most shown.")
def list_flights(
    config_file: Path | None, dev: bool, as_json: bool, limit: int, **wanted: str | None
) -> None:
    """List them, the newest first."""
    query = urlencode({"limit": limit} | {name: text for name, text in wanted.items() if text})
    answer = _ask(config_file, dev, f"/api/v1/flights?{query}")
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    from .console import table, when  # noqa: PLC0415

    table(
        ("id", "when", "kind", "about", "peer", "message", "cause"),
        [
            (
                each["id"],
                when(each["time"]),
                each["kind"],
                each["about"],
                each["peer"],
                each["message"] or "-",
                each["cause"],
            )
            for each in answer["flights"]
        ],
    )
    if answer["total"] > len(answer["flights"]):
        click.echo(f"{answer['total'] - len(answer['flights'])} older ones are not shown: --limit")


@flights.command()
@click.argument("flight")
@config_option
@dev_option
@json_option
def show(flight: str, config_file: Path | None, dev: bool, as_json: bool) -> None:
    """Show what was said: C is the client, S the server, * something that happened."""
    answer = _ask(config_file, dev, f"/api/v1/flights/{quote(flight, safe='')}")
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    from .console import when  # noqa: PLC0415

    about = f", message {answer['message']}" if answer["message"] else ""
    click.echo(f"{answer['kind']} {answer['about']} with {answer['peer']}{about}")
    click.echo(f"over {when(answer['time'])}: {answer['cause']}\n")
    for line in answer["said"]:
        click.echo(f"{line['seconds']:9.3f} {line['side']} {line['text']}")
    if answer["dropped"]:
        click.echo(f"\n{answer['dropped']} lines of the middle were too many to keep")
