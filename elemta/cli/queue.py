"""`elemta queue …`: through the running server, or on the spool itself when none runs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

import click

from .client import AdminClient, NotRunning
from .errors import NOT_DONE, STORAGE, TRY_LATER, Trouble
from .options import F, config_option, dev_option, json_option, read_for_client

if TYPE_CHECKING:
    from elemta.config import Config
    from elemta.mail import MessageId
    from elemta.spool import QueueFilter, Store, StoreReader

PAGE = 500
"""Messages in one look or change: that needs little memory anywhere, and new mail does not wait for long."""
HELD_BY_OPERATOR = "held by the operator"


class Batch(NamedTuple):
    """What one step of an action did."""

    recipients: int
    messages: int
    """Looked at; some may have had nothing to change."""


@click.group()
def queue() -> None:
    """Look at the queue and steer it, with or without a running server."""


def _selection(function: F) -> F:
    """Which recipients an action is about."""
    for option in reversed(
        (
            click.argument("messages", nargs=-1),
            click.option("--sender", help="Messages of this sender; <> is the null sender."),
            click.option("--recipient", help="This recipient."),
            click.option("--domain", help="Recipients in this domain."),
            click.option("--all", "everything", is_flag=True, help="Everything in the queue."),
        )
    ):
        function = option(function)
    return config_option(dev_option(json_option(function)))


def _action(name: str, past: str, summary: str) -> None:
    @queue.command(name, help=summary)
    @_selection
    def command(
        messages: tuple[str, ...],
        sender: str | None,
        recipient: str | None,
        domain: str | None,
        everything: bool,
        config_file: Path | None,
        dev: bool,
        as_json: bool,
    ) -> None:
        config = read_for_client(config_file, dev)
        selection: dict[str, Any] = {
            "messages": list(messages) or None,
            "sender": sender,
            "recipient": recipient,
            "domain": domain,
            "all": everything,
        }
        if not (messages or sender or recipient or domain or everything):
            raise click.UsageError("select something: message ids, --sender, --recipient, --domain or --all")
        count = _act(config, name, past, selection, bar=not as_json)
        if as_json:
            click.echo(json.dumps({"recipients": count}))
        else:
            click.echo(f"{count} recipient{'' if count == 1 else 's'} {past}")
        if not count:
            raise Trouble(NOT_DONE, "nothing in the queue matches")


_action("retry", "due now", "Try the selected queued recipients now.")
_action("hold", "held", "Hold the selected recipients until they are released.")
_action("release", "released", "Release the selected held recipients; they are tried at once.")
_action("remove", "removed", "Remove the selected recipients without a notice to anybody.")


@queue.command("list")
@config_option
@dev_option
@json_option
@click.option("--sender", help="Only messages of this sender.")
@click.option("--recipient", help="Only this recipient.")
@click.option("--domain", help="Only recipients in this domain.")
@click.option("--state", type=click.Choice(["queued", "held"]), help="Only this state.")
@click.option(
    "--limit", type=click.IntRange(1), default=1000, show_default=True, help="At most so many messages."
)
def list_(
    config_file: Path | None,
    dev: bool,
    as_json: bool,
    sender: str | None,
    recipient: str | None,
    domain: str | None,
    state: str | None,
    limit: int,
) -> None:
    """List the messages in the queue, oldest first."""
    config = read_for_client(config_file, dev)
    wanted = {"sender": sender, "recipient": recipient, "domain": domain, "state": state}
    query = {name: value for name, value in wanted.items() if value}
    pages = _pages(config, query, limit)
    if as_json:
        click.echo(json.dumps({"messages": [message for page in pages for message in page]}, indent=2))
        return
    from .console import with_bar  # noqa: PLC0415

    total = None if query or limit <= PAGE else min(limit, _messages(config))
    shown = with_bar(pages, "reading the queue", total=total, amount=len)
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
    entry = _ask(
        config,
        lambda client: client.get(f"/api/v1/queue/{_checked(message)}"),
        lambda store: _entry(store.show(_checked(message))),
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
    totals = _ask(
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


def _checked(message: str) -> MessageId:
    from elemta.mail import MessageId, is_id  # noqa: PLC0415

    if not is_id(message):
        raise Trouble(NOT_DONE, "that is no message id: ids have 16 letters and digits, as in 'queued as ID'")
    return MessageId(message)


def _ask(config: Config, online: Callable[[AdminClient], Any], offline: Callable[[StoreReader], Any]) -> Any:
    """From the server where one runs, else from the spool itself."""
    from elemta.spool import open_readonly_spool  # noqa: PLC0415

    try:
        return online(AdminClient(config.state_dir))
    except NotRunning:
        with _storage_trouble(config), open_readonly_spool(config.state_dir) as reader:
            return offline(reader)


@contextmanager
def _storage_trouble(config: Config) -> Generator[None, None, None]:
    """What the spool cannot do, as the end of the command."""
    from elemta.spool import SpoolError, SpoolForeign, SpoolInUse  # noqa: PLC0415

    try:
        yield
    except SpoolInUse as error:
        raise Trouble(TRY_LATER, str(error)) from error
    except SpoolForeign as error:
        raise Trouble(STORAGE, str(error)) from error
    except SpoolError as error:
        raise Trouble(STORAGE, f"{config.state_dir}: {error}") from error


def _act(config: Config, action: str, past: str, selection: dict[str, Any], *, bar: bool) -> int:
    """Carry out an action in batches; each is done or not, whatever becomes of the next."""
    done = 0
    with closing(_batches(config, action, selection)) as batches:
        steps: Iterator[Batch] = batches
        if bar:
            from .console import with_bar  # noqa: PLC0415

            total = _expected(config, selection)
            steps = with_bar(batches, f"{action}:", total=total, amount=lambda batch: batch.messages)
        try:
            for batch in steps:
                done += batch.recipients
        except (Trouble, KeyboardInterrupt):
            if done:
                click.echo(f"elemta: {done} recipient{'' if done == 1 else 's'} {past} before this", err=True)
            raise
    return done


def _expected(config: Config, selection: dict[str, Any]) -> int | None:
    """How many messages an action will look at, as far as that is known."""
    if selection["messages"]:
        return len(selection["messages"])
    return _messages(config) if selection["all"] else None


def _messages(config: Config) -> int:
    return int(
        _ask(
            config,
            lambda client: client.get("/api/v1/status")["spool"]["messages"],
            lambda reader: reader.statistics().messages,
        )
    )


def _batches(config: Config, action: str, selection: dict[str, Any]) -> Generator[Batch, None, None]:
    client = AdminClient(config.state_dir)
    begun = False
    try:
        for batch in _through_server(client, action, selection):
            begun = True
            yield batch
    except NotRunning:
        if begun:
            raise Trouble(TRY_LATER, "the server has stopped; run the command again for the rest") from None
        yield from _on_the_spool(config, action, selection)


def _portions(selection: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The same selection, with at most `PAGE` message ids at a time."""
    messages = selection["messages"]
    if not messages:
        yield selection
        return
    for start in range(0, len(messages), PAGE):
        yield {**selection, "messages": messages[start : start + PAGE]}


def _through_server(client: AdminClient, action: str, selection: dict[str, Any]) -> Iterator[Batch]:
    for portion in _portions(selection):
        wish: dict[str, Any] = {"action": action, "selection": portion, "limit": PAGE}
        while True:
            answer = client.post("/api/v1/queue", wish)
            yield Batch(answer["recipients"], answer["messages"])
            if answer["next"] is None:
                break
            wish["after"] = answer["next"]


def _on_the_spool(config: Config, action: str, selection: dict[str, Any]) -> Iterator[Batch]:
    import attrs  # noqa: PLC0415

    from elemta.admin import BadRequest, Selection, parse_selection  # noqa: PLC0415
    from elemta.spool import open_offline  # noqa: PLC0415

    try:
        portions = [parse_selection(Selection(**portion)) for portion in _portions(selection)]
    except BadRequest as error:
        raise Trouble(NOT_DONE, str(error)) from error
    with _storage_trouble(config), open_offline(config.state_dir) as store:
        store.keeps_ended = config.queue.retention > 0
        for which in portions:
            after: int | None = None
            while True:
                page = store.matching(which, after=after, limit=PAGE)
                if page.messages:
                    store.begin(careful=True)
                    count = _change(store, action, attrs.evolve(which, messages=page.messages))
                    store.commit()
                    yield Batch(count, len(page.messages))
                if page.further is None:
                    break
                after = page.further


def _change(store: Store, action: str, which: QueueFilter) -> int:
    match action:
        case "hold":
            return store.hold(which, HELD_BY_OPERATOR)
        case "release":
            return store.release(which, time.time())
        case "retry":
            return store.retry(which, time.time())
        case _:
            return store.remove(which, time.time()).recipients


def _pages(config: Config, query: dict[str, str], limit: int) -> Iterator[list[Any]]:
    """Messages page by page, so that a long queue needs little memory anywhere."""
    after: str | None = None
    while limit > 0:
        wanted = min(limit, PAGE)
        page: list[Any] = _ask(
            config,
            lambda client, after=after, wanted=wanted: client.get(  # type: ignore[misc]
                "/api/v1/queue?"
                + urlencode({**query, "limit": wanted, **({"after": after} if after else {})})
            )["messages"],
            lambda reader, after=after, wanted=wanted: _list_offline(reader, query, after, wanted),  # type: ignore[misc]
        )
        yield page
        if len(page) < wanted:
            return
        after = page[-1]["id"]
        limit -= len(page)


def _list_offline(reader: StoreReader, query: dict[str, str], after: str | None, limit: int) -> list[Any]:
    from elemta.admin import Selection, parse_selection  # noqa: PLC0415
    from elemta.mail import MessageId  # noqa: PLC0415

    which = parse_selection(Selection(**query, all=True))  # type: ignore[arg-type]
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
