"""`elemta top`: a live console: rates, the queue by destination, the slowest plugins, the oldest message."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .client import AdminClient, NotRunning
from .errors import NOT_DONE, Trouble
from .options import config_option, dev_option, json_option, read_for_client

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

MOST_ROWS = 15
_BARS = "▁▂▃▄▅▆▇█"
_SHOWN_STEPS = 60
_NUMBERS = frozenset(
    {
        "now",
        "ready",
        "connections",
        "window",
        "delivered",
        "deferred",
        "failed",
        "calls",
        "active",
        "mean",
        "failures",
    }
)
"""Columns of numbers."""


@click.command()
@config_option
@dev_option
@json_option
@click.option("--once", is_flag=True, help="Show it once and end; so it is where this is no terminal.")
@click.option(
    "--interval",
    type=click.FloatRange(0.2, 3600),
    default=2.0,
    show_default=True,
    help="Seconds between looks.",
)
def top(config_file: Path | None, dev: bool, as_json: bool, once: bool, interval: float) -> None:
    """Show what the server does, again and again, until Ctrl-C."""
    config = read_for_client(config_file, dev)
    client = AdminClient(config.state_dir)

    def look() -> Any:
        try:
            return client.get("/api/v1/overview")
        except NotRunning:
            raise Trouble(NOT_DONE, f"no server runs on {config.state_dir}") from None

    if as_json:
        click.echo(json.dumps(look(), indent=2))
        return
    from rich.live import Live  # noqa: PLC0415

    from .console import console  # noqa: PLC0415

    first = draw(look())
    if once or not console.is_terminal:
        console.print(first)
        return
    with Live(first, console=console, screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(interval)
            live.update(draw(look()), refresh=True)


def draw(seen: Any) -> RenderableType:
    """One look. Every text of a stranger is escaped, and nothing is taken for markup."""
    from rich.console import Group  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from .console import age, size  # noqa: PLC0415

    queue, rates, delay = seen["queue"], seen["rates"], seen["delay"]
    head = Text.assemble(
        (f"elemta {seen['version']} on {_plain(seen['hostname'])}", "bold"),
        f"  up {age(seen['now'] - seen['started'])}",
        f"  {seen['sessions']} sessions, {seen['attempts']} attempts",
        ("  stopping" if seen["draining"] else "", "bold yellow"),
    )
    counts = Text(
        f"queued {queue['queued']}  under way {queue['leased']}  held {queue['held']}  "
        f"{queue['messages']} messages, {size(queue['octets'])}  "
        f"oldest {'-' if seen['oldest_seconds'] is None else age(seen['oldest_seconds'])}  "
        f"delivered within {_seconds(delay['half'])} (half), {_seconds(delay['most'])} (95 %)"
    )
    parts: list[RenderableType] = [head, counts]
    for each in seen["attention"][:5]:
        parts.append(Text(f"! {_plain(each['text'])}", "red" if each["level"] == "error" else "yellow"))
    parts += [Text(""), _rates(seen, rates), Text(""), _destinations(seen)]
    if seen["plugins"]:
        parts += [Text(""), _plugins(seen)]
    return Group(*parts)


def _rates(seen: Any, rates: Any) -> RenderableType:
    shown = _table("each second", "now", f"the last {_SHOWN_STEPS * seen['step'] / 60:.0f} minutes")
    series = seen["series"]
    for name in ("sessions", "accepted", "rejected", "delivered", "deferred", "failed"):
        shown.add_row(name, f"{rates[name]:.1f}", bars(series[name][-_SHOWN_STEPS:]))
    shown.add_row("queued", "", bars(series["queued"][-_SHOWN_STEPS:]))
    return shown


def bars(values: list[float | None]) -> str:
    """A line of bars; a blank where nothing is known."""
    most = max((value for value in values if value), default=0)
    line = []
    for value in values:
        if value is None:
            line.append(" ")
        elif not most:
            line.append(_BARS[0])
        else:
            line.append(_BARS[min(7, int(value * 7.999 / most))])
    return "".join(line)


def _destinations(seen: Any) -> RenderableType:
    from .console import age  # noqa: PLC0415

    shown = _table(
        "destination",
        "ready",
        "connections",
        "window",
        "delivered",
        "deferred",
        "failed",
        "suspended",
        "last",
    )
    for site in seen["destinations"][:MOST_ROWS]:
        suspended = f"{age(site['suspended_for'])}, {site['suspended_because']}"
        shown.add_row(
            _plain(site["route"]),
            *(
                str(site[name])
                for name in ("ready", "dispatchers", "window", "delivered", "deferred", "failed")
            ),
            _plain(suspended) if site["suspended_for"] else "-",
            _plain(site["last_error"]),
        )
    more = len(seen["destinations"][MOST_ROWS:]) + seen["more_destinations"]
    if more:
        shown.add_row(f"and {more} more")
    return shown


def _plugins(seen: Any) -> RenderableType:
    shown = _table("plugin", "standing", "calls", "active", "mean", "failures")
    for plugin in seen["plugins"][:MOST_ROWS]:
        shown.add_row(
            _plain(plugin["name"]),
            plugin["standing"],
            str(plugin["calls"]),
            str(plugin["active"]),
            _seconds(plugin["mean_seconds"]),
            str(sum(plugin["failures"].values())),
        )
    return shown


def _table(*columns: str) -> Table:
    from rich.table import Table  # noqa: PLC0415

    shown = Table(box=None, header_style="bold", pad_edge=False)
    for place, column in enumerate(columns):
        numeric = column in _NUMBERS
        shown.add_column(
            column, justify="right" if numeric else "left", no_wrap=place == 0 or numeric, overflow="ellipsis"
        )
    return shown


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.0f} s"


def _plain(text: str) -> Text:
    from rich.text import Text  # noqa: PLC0415

    from elemta.runtime import escape_text  # noqa: PLC0415

    return Text(escape_text(text))
