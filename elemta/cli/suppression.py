"""`elemta suppression list|search|add|remove|import|export`: addresses to which nothing is to be sent."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlencode

import click

from .client import AdminClient, NotRunning
from .errors import NOT_DONE, STORAGE, Trouble
from .options import config_option, dev_option, json_option, read_for_client
from .queue import SPAN
from .queue_actions import who

if TYPE_CHECKING:
    from elemta.config import Config
    from elemta.spool import SuppressionFile

PAGE = 1000
"""Addresses that are asked for, or changed, at a time."""


@click.group()
def suppression() -> None:
    """Addresses to which nothing is to be sent.

    Plugins use the list: the shipped one of the same name puts on it what bounces, and refuses mail to what
    is on it. Works with and without a running server.
    """


@suppression.command("list")
@click.option("--limit", type=click.IntRange(min=1), default=1000, show_default=True, help="At most so many.")
@config_option
@dev_option
@json_option
def list_(limit: int, config_file: Path | None, dev: bool, as_json: bool) -> None:
    """List addresses in their order."""
    _show(read_for_client(config_file, dev), "", limit, as_json=as_json)


@suppression.command()
@click.argument("text")
@click.option("--limit", type=click.IntRange(min=1), default=1000, show_default=True, help="At most so many.")
@config_option
@dev_option
@json_option
def search(text: str, limit: int, config_file: Path | None, dev: bool, as_json: bool) -> None:
    """List addresses that have TEXT in them, such as @example.com."""
    if not _show(read_for_client(config_file, dev), text, limit, as_json=as_json):
        raise Trouble(NOT_DONE, "no address on the list has that in it")


@suppression.command()
@click.argument("addresses", nargs=-1, required=True)
@click.option("--why", default="", help="What clients read as the reason.")
@click.option("--for", "span", type=SPAN, help="Off the list by itself after this, as in 90d.")
@click.option("--never", is_flag=True, help="The other way round: plugins may never put it on the list.")
@config_option
@dev_option
@json_option
def add(
    addresses: tuple[str, ...],
    why: str,
    span: float | None,
    never: bool,
    config_file: Path | None,
    dev: bool,
    as_json: bool,
) -> None:
    """Put ADDRESSES on the list, in the place of what it says of them now."""
    config = read_for_client(config_file, dev)
    until = None if span is None else time.time() + span
    wishes: list[dict[str, Any]] = [
        {"address": each, "why": why, "until": until, "never": never, "source": f"operator {who()}"}
        for each in addresses
    ]
    count = _put(config, wishes)
    _tell(as_json, count, "may not be on the list any more" if never else "on the list")


@suppression.command()
@click.argument("addresses", nargs=-1, required=True)
@config_option
@dev_option
@json_option
def remove(addresses: tuple[str, ...], config_file: Path | None, dev: bool, as_json: bool) -> None:
    """Take ADDRESSES off the list. What bounces again comes on it again."""
    config = read_for_client(config_file, dev)
    count = sum(_remove(config, batch) for batch in _batches(iter(addresses)))
    _tell(as_json, count, "taken off the list")
    if not count:
        raise Trouble(NOT_DONE, "none of them is on the list")


@suppression.command("import")
@click.argument("file", type=click.File("r", encoding="utf-8"))
@config_option
@dev_option
@json_option
def import_(file: IO[str], config_file: Path | None, dev: bool, as_json: bool) -> None:
    """Put the addresses of FILE (- for standard input) on the list.

    A line has an address and, behind #, why; with ! before it the address may never be on the list. Or it is
    JSON of `export --json`. A thousand lines at a time are done or not; one that is wrong ends it.
    """
    config = read_for_client(config_file, dev)
    count = 0
    try:
        for batch in _batches(_wishes(file)):
            count += _put(config, batch)
    except (Trouble, UnicodeDecodeError) as error:
        if count:
            click.echo(f"elemta: {count} addresses are on the list before this", err=True)
        if isinstance(error, UnicodeDecodeError):
            raise Trouble(NOT_DONE, "the file is no UTF-8") from error
        raise
    _tell(as_json, count, "on the list")


@suppression.command()
@click.argument("file", type=click.File("w", encoding="utf-8", atomic=True), default="-")
@config_option
@dev_option
@json_option
def export(file: IO[str], config_file: Path | None, dev: bool, as_json: bool) -> None:
    """Write the whole list to FILE, or standard output, as import reads it; with --json all that is known."""
    for entry in _entries(read_for_client(config_file, dev), ""):
        if as_json:
            file.write(json.dumps(entry) + "\n")
        else:
            file.write(f"{'!' if entry['never'] else ''}{entry['address']}{_behind(entry['why'])}\n")


def _behind(why: str) -> str:
    return f"  # {why}" if why else ""


def _wishes(file: IO[str]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(file, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if text.startswith("{"):
            try:
                wish = json.loads(text)
            except ValueError as error:
                raise Trouble(NOT_DONE, f"line {number}: {error}") from error
        else:
            address, _, why = text.partition(" #")
            wish = {
                "address": address.removeprefix("!").strip(),
                "why": why.strip(),
                "never": address.startswith("!"),
                "source": "import",
            }
        try:
            _checked([wish])
        except Trouble as trouble:
            raise Trouble(NOT_DONE, *(f"line {number}: {each}" for each in trouble.lines)) from trouble
        yield wish


def _batches(items: Iterator[Any]) -> Iterator[list[Any]]:
    while batch := list(islice(items, PAGE)):
        yield batch


def _checked(wishes: list[dict[str, Any]]) -> list[Any]:
    """The entries that these wishes are."""
    import msgspec  # noqa: PLC0415 - keeps `--help` quick

    from elemta.admin import BadRequest, SuppressedWish, list_entry  # noqa: PLC0415

    try:
        now = time.time()
        return [list_entry(each, now) for each in msgspec.convert(wishes, list[SuppressedWish])]
    except (BadRequest, msgspec.ValidationError) as error:
        raise Trouble(NOT_DONE, str(error)) from error


def _put(config: Config, wishes: list[dict[str, Any]]) -> int:
    entries = _checked(wishes)
    try:
        answer = AdminClient(config.state_dir).post("/api/v1/suppression", {"entries": wishes})
        return int(answer["addresses"])
    except NotRunning:
        with _offline(config) as file:
            file.put(entries, time.time())
        return len(entries)


def _remove(config: Config, addresses: list[str]) -> int:
    from elemta.admin import BadRequest, list_address  # noqa: PLC0415

    try:
        checked = [list_address(each) for each in addresses]
    except BadRequest as error:
        raise Trouble(NOT_DONE, str(error)) from error
    try:
        wish = {"addresses": checked}
        return int(AdminClient(config.state_dir).post("/api/v1/suppression/remove", wish)["addresses"])
    except NotRunning:
        with _offline(config) as file:
            return file.remove(checked, time.time())


def _entries(config: Config, text: str) -> Iterator[dict[str, Any]]:
    """All that have this in them, a page at a time."""
    after: str | None = ""
    while after is not None:
        entries, after = _page(config, text, after)
        yield from entries


def _page(config: Config, text: str, after: str) -> tuple[list[dict[str, Any]], str | None]:
    try:
        query = urlencode({"limit": PAGE, "after": after, "search": text})
        answer = AdminClient(config.state_dir).get(f"/api/v1/suppression?{query}")
        return answer["entries"], answer["next"]
    except NotRunning:
        from elemta.admin import as_builtins  # noqa: PLC0415

        with _offline(config) as file:
            found = file.page(time.time(), after=after, limit=PAGE, search=text)
        entries = [as_builtins(each) for each in found]
        return entries, entries[-1]["address"] if len(entries) == PAGE else None


@contextmanager
def _offline(config: Config) -> Iterator[SuppressionFile]:
    from elemta.spool import SUPPRESSION_FILE, SuppressionFile, SuppressionUnavailable  # noqa: PLC0415

    file = SuppressionFile(config.state_dir / SUPPRESSION_FILE)
    try:
        yield file
    except SuppressionUnavailable as error:
        raise Trouble(STORAGE, str(error)) from error
    finally:
        file.close()


def _show(config: Config, text: str, limit: int, *, as_json: bool) -> int:
    """Show entries; how many there were."""
    entries = _entries(config, text)
    shown = list(islice(entries, limit))
    more = next(entries, None) is not None
    if as_json:
        click.echo(json.dumps({"entries": shown, "more": more}, indent=2))
        return len(shown)
    from .console import table, when  # noqa: PLC0415

    table(
        ("address", "why", "by", "since", "until"),
        [
            (
                f"{'! ' if each['never'] else ''}{each['address']}",
                each["why"] or "-",
                each["source"],
                when(each["since"]),
                when(each["until"]) if each["until"] else "-",
            )
            for each in shown
        ],
    )
    if more:
        click.echo("and more: --limit, or search for a part of the address")
    return len(shown)


def _tell(as_json: bool, count: int, what: str) -> None:
    if as_json:
        click.echo(json.dumps({"addresses": count}))
    else:
        click.echo(f"{count} address{'' if count == 1 else 'es'} {what}")
