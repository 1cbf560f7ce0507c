"""What a person sees: tables, captured mail, times. rich is imported here only, when something is shown."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from elemta.runtime import escape_text

if TYPE_CHECKING:
    from elemta.app import Capture, Captured
    from elemta.config import Config
    from elemta.inbound import BoundListener

console = Console(highlight=False, soft_wrap=True)


def age(seconds: float) -> str:
    """A span of time in at most two units: `35s`, `12m`, `3h10m`, `2d4h`."""
    whole = int(abs(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s" if whole < 600 else f"{whole // 60}m"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600}h"


def size(octets: int) -> str:
    """Octets for people."""
    value = float(octets)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("unreachable")


def when(timestamp: float) -> str:
    """Local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(timestamp))


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """Print a table; every cell is a stranger's text and is escaped."""
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        shown.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(Text(escape_text(cell)) for cell in row))
    console.print(shown)


def announce(config: Config, bound: Sequence[BoundListener], capture: Capture) -> None:
    """The first words of development mode."""
    every = [str(address) for listener in bound for address in listener.addresses]
    addresses = ", ".join(every)
    console.print(
        f"[bold]elemta[/] in development mode: SMTP on [bold]{addresses}[/], any sender, any recipient"
    )
    console.print(f"mail is captured in {capture.folder}/ and shown here; nothing is sent")
    console.print(f"try:  elemta send --dev --server {every[0]} --to you@example.org      stop: Ctrl-C\n")


def show_captured(captured: Captured) -> None:
    """One captured message. Its text was escaped where it was read."""
    facts = Table.grid(padding=(0, 1))
    for name, value in (
        ("From", captured.sender),
        ("To", ", ".join(captured.recipients)),
        ("Subject", captured.subject),
    ):
        facts.add_row(Text(name, style="bold"), Text(value))
    body = Text("\n".join(captured.preview))
    console.print(
        Panel(
            Group(facts, Text(""), body),
            title=f"message {captured.message}, {size(captured.size)}",
            subtitle=Text(str(captured.path)),
            title_align="left",
            subtitle_align="right",
        )
    )
