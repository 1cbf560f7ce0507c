"""`elemta trace ID`: the whole life of a message, also when it is gone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import click

from .client import AdminClient, NotRunning
from .errors import NOT_DONE, Trouble
from .options import config_option, dev_option, json_option, read_for_client
from .spooled import ask, checked_id

if TYPE_CHECKING:
    from elemta.config import Config
    from elemta.spool import StoreReader


@click.command()
@config_option
@dev_option
@json_option
@click.argument("message", required=False)
@click.option("--sender", help="Search: messages of this sender.")
@click.option("--recipient", help="Search: messages to this recipient.")
@click.option("--message-id", help="Search: messages with this Message-ID.")
@click.option("--subject", help="Search: messages with exactly this subject.")
@click.option(
    "--remote-id", help="Search: messages of which a reply of another server had these whole words."
)
def trace(
    config_file: Path | None,
    dev: bool,
    as_json: bool,
    message: str | None,
    sender: str | None,
    recipient: str | None,
    message_id: str | None,
    subject: str | None,
    remote_id: str | None,
) -> None:
    """Tell the life of a message: where it came from, each attempt with its reply, what became of it.

    What is gone is known for `queue.retention`. Without an id: search by what you know of it.
    """
    config = read_for_client(config_file, dev)
    if message is None:
        wanted = {
            "sender": sender,
            "recipient": recipient,
            "message_id": message_id,
            "subject": subject,
            "remote_id": remote_id,
        }
        if not any(wanted.values()):
            raise click.UsageError(
                "give a message id, or search: --sender, --recipient, --message-id, --subject, --remote-id"
            )
        _search(config, wanted, as_json=as_json)
        return
    id = checked_id(message)
    life = ask(
        config,
        lambda client: client.get(f"/api/v1/trace/{id}"),
        lambda reader: _history(reader.history(id)),
    )
    if life is None:
        raise Trouble(NOT_DONE, "no such message, or it is too long gone")
    if as_json:
        click.echo(json.dumps(life, indent=2))
    else:
        _show(life)
        _tell_flights(config, id)


def _tell_flights(config: Config, message: str) -> None:
    """Where to read what was said, as far as a running server has kept it."""
    try:
        kept = AdminClient(config.state_dir).get(f"/api/v1/flights?{urlencode({'message': message})}")
    except NotRunning:
        return
    for flight in reversed(kept["flights"]):
        click.echo(f"what was said in {flight['kind']} {flight['about']}: elemta flights show {flight['id']}")


def _search(config: Config, wanted: dict[str, str | None], *, as_json: bool) -> None:
    query = urlencode({name: text for name, text in wanted.items() if text})
    found = ask(
        config,
        lambda client: client.get(f"/api/v1/trace?{query}")["messages"],
        lambda reader: _search_offline(reader, wanted),
    )
    if as_json:
        click.echo(json.dumps({"messages": found}, indent=2))
    elif found:
        from .console import table, when  # noqa: PLC0415

        table(
            ("id", "received", "ended", "sender", "recipient", "state", "last reply"),
            [
                (
                    life["id"],
                    when(life["received"]),
                    when(life["ended"]) if life["ended"] else "-",
                    life["sender"] or "<>",
                    recipient["address"],
                    recipient["state"],
                    recipient["reply"],
                )
                for life in found
                for recipient in life["recipients"]
            ],
        )
    if not found:
        raise Trouble(NOT_DONE, "no such message, or it is too long gone")


def _search_offline(reader: StoreReader, wanted: dict[str, str | None]) -> list[Any]:
    from elemta.admin import MOST_FOUND, BadRequest, history_as_json, parse_wanted  # noqa: PLC0415
    from elemta.spool import find_lives  # noqa: PLC0415

    try:
        parsed = parse_wanted({name: text for name, text in wanted.items() if text})
    except BadRequest as error:
        raise Trouble(NOT_DONE, str(error)) from error
    lives = find_lives(reader, parsed, limit=MOST_FOUND)
    return [history_as_json(life) for life in lives]


def _history(history: Any) -> Any:
    from elemta.admin import history_as_json  # noqa: PLC0415

    return None if history is None else history_as_json(history)


def _show(life: Any) -> None:
    from elemta.runtime import escape_text  # noqa: PLC0415

    from .console import age, size, table, when  # noqa: PLC0415

    origin = life["origin"]
    came = f"from {origin['peer']}" + (f" ({origin['hello']})" if origin["hello"] else "")
    secured = f", {origin['tls']}" if origin["tls"] else ""
    session = f", session {origin['session']}" if origin["session"] else ""
    for line in (
        f"message {life['id']}, {size(life['size'])}, sender {life['sender'] or '<>'}",
        f"{when(life['received'])}  accepted {came} with {origin['protocol']}{secured}{session}",
    ):
        click.echo(escape_text(line))
    for deed in life.get("plugins", ()):
        click.echo(
            escape_text(
                f"{when(life['received'])}  plugin {deed['plugin']} at {deed['hook']}: {deed['what']}"
            )
        )
    for attempt in life["attempts"]:
        click.echo(escape_text(_attempt(attempt, when(attempt["last"]))))
    if life["ended"] is None:
        click.echo("it is in the queue\n")
    else:
        lasted = age(life["ended"] - life["received"])
        click.echo(f"{when(life['ended'])}  gone after {lasted}\n")
    table(
        ("recipient", "state", "attempts", "last", "reason", "remote", "last reply"),
        [
            (
                recipient["address"],
                recipient["state"],
                str(recipient["attempts"]),
                when(recipient["last_attempt"]) if recipient["last_attempt"] else "-",
                recipient["reason"],
                recipient["remote"],
                recipient["reply"],
            )
            for recipient in life["recipients"]
        ],
        right=("attempts",),
    )


def _attempt(attempt: Any, moment: str) -> str:
    words = [moment, "", attempt["recipient"], _became(attempt)]
    if attempt["remote"]:
        words.append(f"by {attempt['remote']}")
    if attempt["tls"]:
        words.append(f"over {attempt['tls']}")
    if attempt["seconds"]:
        words.append(f"in {attempt['seconds']:.3f} s")
    if attempt["times"] > 1:
        words.append(f"({attempt['times']} times alike)")
    if attempt["phases"]:
        words.append(
            "(" + ", ".join(f"{name} {seconds:.3f}" for name, seconds in attempt["phases"].items()) + ")"
        )
    line = " ".join(words)
    return line + f": {attempt['reply']}" + (f" [{attempt['detail']}]" if attempt["detail"] else "")


def _became(attempt: Any) -> str:
    return "deferred" if attempt["state"] == "queued" else str(attempt["state"])
