"""`elemta status`: one look at the running server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .client import AdminClient, NotRunning
from .errors import NOT_DONE, Trouble
from .options import config_option, dev_option, json_option, read_for_client


@click.command()
@config_option
@dev_option
@json_option
def status(config_file: Path | None, dev: bool, as_json: bool) -> None:
    """Show whether the server runs, what it listens on, what is queued; status 1: not ready."""
    config = read_for_client(config_file, dev)
    try:
        answer = AdminClient(config.state_dir).get("/api/v1/status")
    except NotRunning:
        raise Trouble(NOT_DONE, f"no server runs on {config.state_dir}") from None
    if as_json:
        import json  # noqa: PLC0415

        click.echo(json.dumps(answer, indent=2))
    else:
        _show(answer)
    if not answer["ready"]:
        raise Trouble(NOT_DONE, *(f"not ready: {reason}" for reason in answer["reasons"]))


def _show(answer: Any) -> None:
    from elemta.runtime import escape_text  # noqa: PLC0415

    from .console import age, console, size, table  # noqa: PLC0415

    console.print(
        f"elemta {answer['version']} on {answer['hostname']}, up {age(answer['now'] - answer['started'])}, "
        f"{'ready' if answer['ready'] else 'not ready'}\n"
    )
    table(
        ("listener", "role", "address", "sessions"),
        [(x["name"], x["role"], x["address"], str(x["sessions"])) for x in answer["listeners"]],
        right=("sessions",),
    )
    spool, counts = answer["spool"], answer["counts"]
    console.print()
    table(
        ("queued", "under way", "held", "messages", "size", "oldest"),
        [
            (
                str(spool["queued"]),
                str(spool["leased"]),
                str(spool["held"]),
                str(spool["messages"]),
                size(spool["octets"]),
                age(answer["now"] - spool["oldest"]) if spool["oldest"] else "-",
            )
        ],
        right=("queued", "under way", "held", "messages", "size", "oldest"),
    )
    console.print(
        f"\nsince the start: {counts['messages']} messages accepted, "
        f"{counts['delivered']} recipients delivered, "
        f"{counts['deferred']} deferrals, {counts['failed']} failed, {counts['crashes']} contained crashes"
    )
    if rates := answer["rates"]:
        console.print()
        table(
            ("rate", "known", "allowed", "refused"),
            [(x["rate"], str(x["known"]), str(x["allowed"]), str(x["refused"])) for x in rates],
            right=("known", "allowed", "refused"),
        )
    if held := answer["held_accounts"]:
        click.echo("\nheld accounts (elemta user list|release|purge): " + ", ".join(map(escape_text, held)))
    for each in answer["limits"]:
        said = ", ".join(f"{name} {value}" for name, value in each["limits"].items())
        why = f" ({each['reason']})" if each["reason"] else ""
        click.echo(
            escape_text(f"\nlimits set for {each['route']} (elemta destinations unlimit): {said}{why}")
        )
    sites = answer["queue"]["sites"]
    if sites:
        console.print()
        table(
            ("destination", "ready", "connections", "window", "waits", "suspended", "last error"),
            [
                (
                    x["route"],
                    str(x["ready"]),
                    str(x["dispatchers"]),
                    str(x["window"]),
                    f"{age(x['waits_for'])}, {x['waits_because']}" if x["waits_for"] else "-",
                    f"{age(x['suspended_for'])}, {x['suspended_because']}" if x["suspended_for"] else "-",
                    x["last_error"],
                )
                for x in sites
            ],
            right=("ready", "connections", "window", "waits", "suspended"),
        )
