"""`elemta queue …`: what is there, through the running server, or from the spool itself when none runs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import click

from .errors import NOT_DONE, Trouble
from .options import F, config_option, dev_option, json_option, read_for_client
from .spooled import ask, checked_id, parsed

if TYPE_CHECKING:
    from elemta.config import Config
    from elemta.spool import StoreReader

AUDIT_LIMIT = 20
"""Differences of one kind that are shown."""
PAGE = 500
"""Messages in one look or change: that needs little memory anywhere, and new mail does not wait for long."""


class _Span(click.ParamType):  # type: ignore[type-arg]  # no generic when it runs
    """A span of time as in the configuration."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from elemta.config import parse_duration  # noqa: PLC0415

        try:
            return value if isinstance(value, float) else parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


SPAN = _Span()


@click.group()
def queue() -> None:
    """Look at the queue and steer it, with or without a running server."""


def filters(function: F) -> F:
    """Which recipients a listing or an action is about."""
    for option in reversed(
        (
            click.option("--sender", help="Messages of this sender; <> is the null sender."),
            click.option("--recipient", help="This recipient."),
            click.option("--domain", help="Recipients in this domain."),
            click.option("--route", help="Recipients that go there, as in 'smtp:example.org'."),
            click.option("--state", type=click.Choice(["queued", "held"]), help="Recipients in this state."),
            click.option("--cause", help="What waits, or is held, for this reason: the last column of list."),
            click.option("--older", type=SPAN, help="Received at least so long ago, as in 2d or 90m."),
            click.option("--newer", type=SPAN, help="Received at most so long ago."),
        )
    ):
        function = option(function)
    return function


@queue.command("list")
@config_option
@dev_option
@json_option
@filters
@click.option(
    "--limit", type=click.IntRange(1), default=1000, show_default=True, help="At most so many messages."
)
def list_(
    config_file: Path | None,
    dev: bool,
    as_json: bool,
    limit: int,
    **wanted: str | float | None,
) -> None:
    """List the messages in the queue, oldest first."""
    config = read_for_client(config_file, dev)
    query = {name: value for name, value in wanted.items() if value is not None}
    found = pages(config, query, limit)
    if as_json:
        click.echo(json.dumps({"messages": [message for page in found for message in page]}, indent=2))
        return
    from .console import with_bar  # noqa: PLC0415

    total = None if query or limit <= PAGE else min(limit, count_messages(config))
    shown = with_bar(found, "reading the queue", total=total, amount=len)
    messages = [message for page in shown for message in page]
    if not messages:
        click.echo("the queue is empty" if not query else "nothing in the queue matches")
        return
    _show_list(messages)


@queue.command()
@config_option
@dev_option
@json_option
@click.argument("message")
def show(config_file: Path | None, dev: bool, as_json: bool, message: str) -> None:
    """Show one message: each recipient's state, attempts, next time and the last reply."""
    config = read_for_client(config_file, dev)
    entry = ask(
        config,
        lambda client: client.get(f"/api/v1/queue/{checked_id(message)}"),
        lambda store: _entry(store.show(checked_id(message))),
    )
    if entry is None:
        raise Trouble(NOT_DONE, "no such message")
    if as_json:
        click.echo(json.dumps(entry, indent=2))
    else:
        _show_entry(entry)


@queue.command()
@config_option
@dev_option
@json_option
def stats(config_file: Path | None, dev: bool, as_json: bool) -> None:
    """Count recipients by what became of them, since the spool was made."""
    config = read_for_client(config_file, dev)
    totals = ask(
        config,
        lambda client: client.get("/api/v1/status")["spool"],
        lambda store: _builtins(store.statistics()),
    )
    if as_json:
        click.echo(json.dumps(totals, indent=2))
        return
    from .console import age, size, table  # noqa: PLC0415

    oldest = age(time.time() - totals["oldest"]) if totals["oldest"] else "-"
    rows = [(name, str(totals[name])) for name in ("accepted", "delivered", "failed", "expired", "removed")]
    rows += [("held", str(totals["held"])), ("queued", str(totals["queued"]))]
    rows += [("under way", str(totals["leased"])), ("messages", str(totals["messages"]))]
    rows += [("size", size(totals["octets"])), ("oldest", oldest)]
    table(("recipients", "count"), rows, right=("count",))


@queue.command()
@config_option
@dev_option
@json_option
def audit(config_file: Path | None, dev: bool, as_json: bool) -> None:
    """Check that nothing is lost: counts, owners, bodies. Exit status 1 where something does not agree."""
    config = read_for_client(config_file, dev)
    found = ask(
        config,
        lambda client: client.get("/api/v1/audit")["differences"],
        lambda reader: _audit_offline(config, reader),
    )
    if as_json:
        click.echo(json.dumps({"differences": found}, indent=2))
    elif found:
        from .console import table  # noqa: PLC0415

        table(
            ("kind", "message", "difference"),
            [(each["kind"], each["message"] or "-", each["detail"]) for each in found],
        )
    else:
        click.echo(
            "accepted = delivered + failed + expired + removed + held + queued, and each body is there"
        )
    if found:
        raise Trouble(NOT_DONE, f"{len(found)} differences" if len(found) > 1 else "one difference")


def _audit_offline(config: Config, reader: StoreReader) -> list[Any]:
    from elemta.spool import audit_folder  # noqa: PLC0415

    found = [*reader.audit(AUDIT_LIMIT), *audit_folder(config.state_dir, reader.body_files(), AUDIT_LIMIT)]
    return [_builtins(difference) for difference in found]


def count_messages(config: Config) -> int:
    """All that are in the spool."""
    return int(
        ask(
            config,
            lambda client: client.get("/api/v1/status")["spool"]["messages"],
            lambda reader: reader.statistics().messages,
        )
    )


def pages(config: Config, query: dict[str, Any], limit: int) -> Iterator[list[Any]]:
    """Messages page by page, so that a long queue needs little memory anywhere."""
    after: str | None = None
    while limit > 0:
        wanted = min(limit, PAGE)
        page: list[Any] = ask(
            config,
            lambda client, after=after, wanted=wanted: client.get(  # type: ignore[misc]
                "/api/v1/queue?"
                + urlencode({**_for_url(query), "limit": wanted, **({"after": after} if after else {})})
            )["messages"],
            lambda reader, after=after, wanted=wanted: _list_offline(config, reader, query, after, wanted),  # type: ignore[misc]
        )
        yield page
        if len(page) < wanted:
            return
        after = page[-1]["id"]
        limit -= len(page)


def _for_url(query: dict[str, Any]) -> dict[str, Any]:
    """Seconds are whole numbers there."""
    return {name: int(value) if isinstance(value, float) else value for name, value in query.items()}


def _list_offline(
    config: Config, reader: StoreReader, query: dict[str, Any], after: str | None, limit: int
) -> list[Any]:
    from elemta.mail import MessageId  # noqa: PLC0415

    which = parsed(config, {**query, "all": True})
    entries = reader.list(which, after=MessageId(after) if after else None, limit=limit)
    return [_entry(entry) for entry in entries]


def _entry(entry: Any) -> Any:
    from elemta.admin import entry_as_json  # noqa: PLC0415

    return None if entry is None else entry_as_json(entry)


def _builtins(value: object) -> Any:
    from elemta.admin import as_builtins  # noqa: PLC0415

    return as_builtins(value)


def _show_list(messages: list[Any]) -> None:
    from .console import age, size, table  # noqa: PLC0415

    now = time.time()
    rows = []
    for message in messages:
        for number, recipient in enumerate(message["recipients"]):
            first = number == 0
            rows.append(
                (
                    message["id"] if first else "",
                    age(now - message["received"]) if first else "",
                    size(message["size"]) if first else "",
                    (message["sender"] or "<>") if first else "",
                    recipient["address"],
                    _state(recipient, now),
                    recipient["reason"],
                )
            )
    table(("id", "age", "size", "sender", "recipient", "state", "reason"), rows, right=("age", "size"))
    click.echo(f"\n{len(messages)} message{'' if len(messages) == 1 else 's'}")


def _state(recipient: Any, now: float) -> str:
    from .console import age  # noqa: PLC0415

    if recipient["state"] != "queued":
        return str(recipient["state"])
    if recipient["leased"]:
        return "under way"
    due = recipient["due"] or now
    return f"in {age(due - now)}" if due > now else "due"


def _show_entry(entry: Any) -> None:
    from rich.text import Text  # noqa: PLC0415

    from elemta.runtime import escape_text  # noqa: PLC0415

    from .console import console, size, table, when  # noqa: PLC0415

    now = time.time()
    console.print(Text(f"message {entry['id']}", style="bold"))
    console.print(Text(escape_text(f"sender {entry['sender'] or '<>'} from {entry['peer']}")))
    console.print(f"received {when(entry['received'])}, {size(entry['size'])}\n")
    table(
        ("recipient", "state", "attempts", "next", "reason", "remote", "last reply"),
        [
            (
                recipient["address"],
                _state(recipient, now),
                str(recipient["attempts"]),
                when(recipient["due"]) if recipient["due"] and recipient["state"] == "queued" else "-",
                recipient["reason"],
                recipient["remote"],
                recipient["reply"],
            )
            for recipient in entry["recipients"]
        ],
        right=("attempts",),
    )
