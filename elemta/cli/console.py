"""What a person sees: tables, bars, captured mail. rich is imported here only, when something is shown."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

import click
from rich.cells import cell_len
from rich.console import Console, Group
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from elemta.runtime import escape_text

if TYPE_CHECKING:
    from elemta.app import Capture, Captured
    from elemta.config import Config
    from elemta.inbound import BoundListener

T = TypeVar("T")

console = Console(highlight=False, soft_wrap=True)

MOST_FOLDED = 1000
"""Rows up to which a table is fitted into the terminal; rich takes half a millisecond for each."""
LONG_WORK = 0.5
"""Seconds after which work shows how far it is."""


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
    """Print a table; every cell is a stranger's text and is escaped.

    In a terminal cells are folded to its width. In a pipe each row is one line, for grep and its kind.
    """
    cells = [[escape_text(cell) for cell in row] for row in rows]
    if not console.is_terminal or len(cells) > MOST_FOLDED:
        _plain_table(columns, cells, right)
        return
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        shown.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in cells:
        shown.add_row(*map(Text, row))
    console.print(shown)


def _plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> None:
    lines = [columns, *rows]
    widths = [max(map(cell_len, cells)) for cells in zip(*lines, strict=True)]
    for line in lines:
        padded = []
        for column, width, cell in zip(columns, widths, line, strict=True):
            blank = " " * (width - cell_len(cell))
            padded.append(blank + cell if column in right else cell + blank)
        click.echo("  ".join(padded).rstrip())


def with_bar(
    batches: Iterable[T],
    description: str,
    *,
    total: int | None,
    amount: Callable[[T], int],
    monotonic: Callable[[], float] = time.monotonic,
    bars: Console | None = None,
) -> Iterator[T]:
    """Pass the batches on; when that takes long, with a bar on standard error that goes away in the end.

    `amount` says how much of `total` a batch is; a total of None: nobody knows. Where standard error is no
    terminal, nothing is shown.
    """
    if bars is None:
        if not sys.stderr.isatty():
            yield from batches
            return
        bars = Console(stderr=True)
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=bars,
        transient=True,
    )
    task = progress.add_task(description, total=total)
    begun, shown = monotonic(), False
    try:
        for batch in batches:
            progress.advance(task, amount(batch))
            if not shown and monotonic() - begun >= LONG_WORK:
                shown = True
                progress.start()
            yield batch
    finally:
        if shown:
            progress.stop()


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
