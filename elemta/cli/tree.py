"""`elemta tree`, `elemta session`, `elemta attempt`: what runs now, and the end of one of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from .client import AdminClient, NotRunning
from .errors import NOT_DONE, Trouble
from .options import config_option, dev_option, json_option, read_for_client

if TYPE_CHECKING:
    from elemta.config import Config


def _ask(config: Config, path: str, body: object = None) -> Any:
    client = AdminClient(config.state_dir)
    try:
        return client.get(path) if body is None else client.post(path, body)
    except NotRunning:
        raise Trouble(NOT_DONE, f"no server runs on {config.state_dir}") from None


@click.command()
@config_option
@dev_option
@json_option
@click.option("--cancel", "ended", metavar="ID", help="End this session or attempt, by its id in the tree.")
@click.option("--even-after-dot", is_flag=True, help="With --cancel: as `elemta attempt cancel` has it.")
def tree(config_file: Path | None, dev: bool, as_json: bool, ended: str | None, even_after_dot: bool) -> None:
    """Show all tasks of the server: what runs inside what, since when, how long it may still take, and
    what it waits for."""
    config = read_for_client(config_file, dev)
    if ended is not None:
        if "." in ended:  # attempts have numbers, as in 12.3
            _cancel_attempt(config, ended, even_after_dot)
        else:
            _close_session(config, ended)
        return
    answer = _ask(config, "/api/v1/tree")
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    from .console import table  # noqa: PLC0415

    table(("task", "id", "phase", "age", "left", "waits for"), list(_rows(answer["tree"], "", "")))


def _rows(task: Any, head: str, lead: str) -> Iterator[tuple[str, ...]]:
    from .console import age  # noqa: PLC0415

    title = task["name"] if not task["text"] else f"{task['kind']} {task['text']}"
    yield (
        head + title,
        task["id"],
        task["phase"],
        "-" if task["seconds"] is None else age(task["seconds"]),
        "-" if task["seconds_left"] is None else age(task["seconds_left"]),
        task["waits_for"] + (f" ({task['place']})" if task["place"] else ""),
    )
    children = task["children"]
    for place, child in enumerate(children):
        last = place == len(children) - 1 and not task["hidden"]
        yield from _rows(child, lead + ("└ " if last else "├ "), lead + ("  " if last else "│ "))
    if task["hidden"]:
        yield (f"{lead}└ {task['hidden']} more", "", "", "", "", "")


@click.group()
def session() -> None:
    """Look at the sessions of the running server, and end one."""


@session.command("list")
@config_option
@dev_option
@json_option
def list_sessions(config_file: Path | None, dev: bool, as_json: bool) -> None:
    """List the sessions that are open, the oldest first."""
    answer = _ask(read_for_client(config_file, dev), "/api/v1/sessions")
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    from .console import age, table  # noqa: PLC0415

    if not answer["sessions"]:
        click.echo("no session is open")
        return
    table(
        ("id", "listener", "client", "account", "phase", "age", "left", "tls", "commands", "messages"),
        [
            (
                each["id"],
                each["listener"],
                each["peer"],
                each["account"],
                each["phase"],
                age(each["seconds"]),
                "-" if each["seconds_left"] is None else age(each["seconds_left"]),
                "yes" if each["tls"] else "no",
                str(each["commands"]),
                str(each["messages"]),
            )
            for each in answer["sessions"]
        ],
        right=("age", "left", "commands", "messages"),
    )
    hidden = answer["total"] - len(answer["sessions"])
    if hidden:
        click.echo(f"and {hidden} more")


@session.command("show")
@config_option
@dev_option
@json_option
@click.argument("id")
def show_session(config_file: Path | None, dev: bool, as_json: bool, id: str) -> None:
    """Show one session."""
    answer = _ask(read_for_client(config_file, dev), f"/api/v1/sessions/{quote(id, safe='')}")
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    from .console import table  # noqa: PLC0415

    table(("", ""), [(name.replace("_", " "), _word(value)) for name, value in answer.items()])


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.1f}"
    return "-" if value in (None, "") else str(value)


@session.command("close")
@config_option
@dev_option
@click.argument("id")
def close_session(config_file: Path | None, dev: bool, id: str) -> None:
    """End a session; its client is told 421. A message that was taken already is stored and acknowledged
    first."""
    _close_session(read_for_client(config_file, dev), id)


def _close_session(config: Config, id: str) -> None:
    _ask(config, f"/api/v1/sessions/{quote(id, safe='')}", {"action": "close"})
    click.echo(f"session {id} ends")


@click.group()
def attempt() -> None:
    """Look at the deliveries that are under way, and end one."""


@attempt.command("list")
@config_option
@dev_option
@json_option
def list_attempts(config_file: Path | None, dev: bool, as_json: bool) -> None:
    """List the attempts that are under way, the oldest first."""
    answer = _ask(read_for_client(config_file, dev), "/api/v1/attempts")
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    from .console import age, table  # noqa: PLC0415

    if not answer["attempts"]:
        click.echo("no attempt is under way")
        return
    table(
        ("id", "message", "recipients", "destination", "remote", "phase", "age", "left"),
        [
            (
                each["id"],
                each["message"],
                ", ".join(each["recipients"][:3]) + (" …" if len(each["recipients"]) > 3 else ""),
                each["route"],
                each["remote"],
                each["phase"],
                age(each["seconds"]),
                "-" if each["seconds_left"] is None else age(each["seconds_left"]),
            )
            for each in answer["attempts"]
        ],
        right=("age", "left"),
    )
    hidden = answer["total"] - len(answer["attempts"])
    if hidden:
        click.echo(f"and {hidden} more")


@attempt.command("cancel")
@config_option
@dev_option
@click.argument("id")
@click.option(
    "--even-after-dot",
    is_flag=True,
    help="Also where the final dot was sent: it may have been delivered, and a second copy may follow.",
)
def cancel_attempt(config_file: Path | None, dev: bool, id: str, even_after_dot: bool) -> None:
    """End an attempt; its recipients are deferred and tried again later."""
    _cancel_attempt(read_for_client(config_file, dev), id, even_after_dot)


def _cancel_attempt(config: Config, id: str, even_after_dot: bool) -> None:
    body = {"action": "cancel", "even_after_dot": even_after_dot}
    _ask(config, f"/api/v1/attempts/{quote(id, safe='')}", body)
    click.echo(f"attempt {id} ends")
