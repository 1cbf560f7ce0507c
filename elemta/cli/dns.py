"""`elemta dns`: what the server's resolver answers, remembers and forgets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click

from .client import AdminClient, NotRunning
from .errors import NOT_DONE, TRY_LATER, Trouble
from .options import config_option, json_option, read_config

_TYPES = ("MX", "A", "AAAA", "TXT", "PTR", "CNAME", "TLSA")


@click.group()
def dns() -> None:
    """Look into the cache of DNS, ask, and forget answers."""


@dns.command()
@click.argument("name")
@click.argument("kind", metavar="[TYPE]", type=click.Choice(_TYPES, case_sensitive=False), default="MX")
@config_option
@json_option
def lookup(name: str, kind: str, config_file: Path | None, as_json: bool) -> None:
    """Ask as the server does: MX, A, AAAA, TXT, PTR, CNAME or TLSA (default MX).

    Without a running server the name servers of the configuration are asked. Status 1: there are no such
    records, 75: no answer for now.
    """
    config = read_config(config_file)
    query = urlencode({"name": name, "type": kind})
    try:
        answer = AdminClient(config.state_dir).get(f"/api/v1/dns/lookup?{query}")
    except NotRunning:
        answer = _ask_ourselves(config, name, kind)
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        note = "authenticated by DNSSEC" if answer["authentic"] else "not authenticated"
        click.echo(f"{answer['name']} {answer['type']}: {answer['status']}, for {answer['ttl']:g} s, {note}")
        if answer["canonical"] not in ("", answer["name"]):
            click.echo(f"is an alias of {answer['canonical']}")
        for record in answer["records"]:
            click.echo(f"  {record}")
    if answer["status"] == "failed":
        raise Trouble(TRY_LATER, answer["detail"] or "no answer")
    if answer["status"] != "ok":
        raise Trouble(NOT_DONE, f"there is no {answer['type']} of {answer['name']}")


def _ask_ourselves(config: Any, name: str, kind: str) -> Any:
    import trio  # noqa: PLC0415

    from elemta.app import look_up_alone  # noqa: PLC0415

    return trio.run(look_up_alone, config.dns, name, kind)


@dns.command()
@click.argument("name", required=False)
@click.option("--limit", default=200, show_default=True, help="Most answers shown.")
@config_option
@json_option
def cache(name: str | None, limit: int, config_file: Path | None, as_json: bool) -> None:
    """Show what is remembered, of NAME or of all, with age and time left; what does not exist, too."""
    query = urlencode({"limit": limit} | ({"name": name} if name else {}))
    answer = _ask_server(config_file, lambda client: client.get(f"/api/v1/dns?{query}"))
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    from .console import age, table  # noqa: PLC0415

    rows = [
        [
            each["name"],
            each["type"],
            each["status"],
            age(each["age"]),
            age(each["ttl"]),
            "yes" if each["authentic"] else "no",
            " · ".join(each["records"]) or each["detail"] or "-",
        ]
        for each in answer["entries"]
    ]
    table(("name", "type", "status", "age", "left", "DNSSEC", "records"), rows, right=("age", "left"))
    counts = answer["statistics"]
    click.echo(
        f"{counts['entries']} answers, {counts['hits']} hits, {counts['misses']} misses, "
        f"{counts['failures']} failures, {counts['in_flight']} asked now"
    )


@dns.command()
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="Forget all answers.")
@config_option
def flush(name: str | None, everything: bool, config_file: Path | None) -> None:
    """Forget the answers of NAME, or with --all of every name."""
    if (name is None) is not everything:
        raise click.UsageError("give a NAME, or --all")
    body = {"all": True} if everything else {"name": name}
    answer = _ask_server(config_file, lambda client: client.post("/api/v1/dns/flush", body))
    click.echo(f"{answer['forgotten']} forgotten")


def _ask_server(config_file: Path | None, ask: Any) -> Any:
    config = read_config(config_file)
    try:
        return ask(AdminClient(config.state_dir))
    except NotRunning:
        raise Trouble(NOT_DONE, f"no server runs on {config.state_dir}") from None
