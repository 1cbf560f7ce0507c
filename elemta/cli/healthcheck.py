"""`elemta healthcheck`: one look for containers and supervisors, as an exit status."""

from __future__ import annotations

from pathlib import Path

import click

from .client import AdminClient, NotRunning
from .errors import NOT_DONE, Trouble
from .options import config_option, dev_option, read_for_client

_PATHS = {"live": "/livez", "start": "/startupz", "ready": "/readyz"}


@click.command()
@config_option
@dev_option
@click.option("--live", "probe", flag_value="live", help="Only whether the server answers at all.")
@click.option("--start", "probe", flag_value="start", help="Whether it has started.")
@click.option("--ready", "probe", flag_value="ready", default=True, help="Whether it accepts mail. [default]")
def healthcheck(config_file: Path | None, dev: bool, probe: str) -> None:
    """Ask the running server how it is; status 1 and the reasons where it is not well.

    It asks over the socket in the state folder, so it needs no port and no token.
    """
    config = read_for_client(config_file, dev)
    try:
        status, text = AdminClient(config.state_dir).look(_PATHS[probe])
    except NotRunning:
        raise Trouble(NOT_DONE, f"no server runs on {config.state_dir}") from None
    if status != 200:
        raise Trouble(NOT_DONE, *(text.splitlines() or [f"status {status}"]))
    click.echo(text, nl=False)
