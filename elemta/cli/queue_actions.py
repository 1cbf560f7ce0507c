"""`elemta queue hold|release|retry|remove|bounce|pause|resume`: steering the queue, in steps."""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from .client import AdminClient, NotRunning
from .errors import NOT_DONE, TRY_LATER, Trouble
from .options import F, config_option, dev_option, json_option, read_for_client
from .queue import PAGE, SPAN, count_messages, filters, pages, queue
from .spooled import ask, parsed, storage_trouble

if TYPE_CHECKING:
    from elemta.config import Config
    from elemta.spool import QueueFilter, Store

__all__ = ["queue"]

HELD_BY_OPERATOR = "held by the operator"
MOST_HELD = 1_000_000
FINAL = frozenset({"remove", "bounce"})
"""Actions that cannot be undone: a person at a terminal is asked first."""


class Batch(NamedTuple):
    """What one step of an action did."""

    recipients: int
    messages: int
    """Looked at; some may have had nothing to change."""


def _selection(function: F) -> F:
    """Which recipients an action is about, and how it is done."""
    for option in reversed(
        (
            click.argument("messages", nargs=-1),
            filters,
            click.option("--all", "everything", is_flag=True, help="Everything in the queue."),
            click.option("--dry-run", is_flag=True, help="Only count what would be changed."),
            click.option("--yes", is_flag=True, help="Do not ask."),
        )
    ):
        function = option(function)
    return config_option(dev_option(json_option(function)))


def _action(name: str, past: str, summary: str) -> None:
    @queue.command(name, help=summary)
    @_selection
    def command(
        messages: tuple[str, ...],
        everything: bool,
        dry_run: bool,
        yes: bool,
        config_file: Path | None,
        dev: bool,
        as_json: bool,
        **wanted: str | float | None,
    ) -> None:
        config = read_for_client(config_file, dev)
        chosen = {key: value for key, value in wanted.items() if value is not None}
        if not (messages or chosen or everything):
            raise click.UsageError(
                "select something: message ids, --sender, --recipient, --domain, --route, --state, --cause, "
                "--older, --newer or --all"
            )
        selection: dict[str, Any] = {"messages": list(messages) or None, **chosen, "all": everything}
        if dry_run:
            _show_count(_count(config, name, selection), past, as_json=as_json)
            return
        if name in FINAL and not messages and not yes and sys.stdin.isatty() and sys.stderr.isatty():
            expected = _count(config, name, selection)
            click.confirm(f"{_words(expected)} will be {past}. Go on?", abort=True, err=True)
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
_action("bounce", "returned", "Return the selected recipients to their senders, with a notice of failure.")


def _words(count: Batch) -> str:
    recipients = f"{count.recipients} recipient{'' if count.recipients == 1 else 's'}"
    return f"{recipients} of {count.messages} message{'' if count.messages == 1 else 's'}"


def _show_count(count: Batch, past: str, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"recipients": count.recipients, "messages": count.messages, "dry_run": True}))
    else:
        click.echo(f"{_words(count)} would be {past}")


def _count(config: Config, action: str, selection: dict[str, Any]) -> Batch:
    """What an action would change."""
    recipients = messages = 0
    for portion in _portions(selection):
        after: Any = None
        while True:
            batch, after = _count_page(config, action, portion, after)
            recipients, messages = recipients + batch.recipients, messages + batch.messages
            if after is None:
                break
    return Batch(recipients, messages)


def _count_page(config: Config, action: str, portion: dict[str, Any], after: Any) -> tuple[Batch, Any]:
    def online(client: AdminClient) -> tuple[Batch, Any]:
        wish = {"action": action, "selection": portion, "limit": PAGE, "after": after, "dry_run": True}
        answer = client.post("/api/v1/queue", wish)
        return Batch(answer["recipients"], answer["messages"]), answer["next"]

    def offline(reader: Any) -> tuple[Batch, Any]:
        from elemta.admin import ActionCount  # noqa: PLC0415

        count = ActionCount()
        entries = reader.list(parsed(config, portion), after=after, limit=PAGE)
        for entry in entries:
            count.add(action, entry)
        return Batch(count.recipients, count.messages), entries[-1].id if len(entries) == PAGE else None

    result: tuple[Batch, Any] = ask(config, online, offline)
    return result


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


def act_on_held(config: Config, action: str, past: str, reason: str) -> int:
    """Carry out an action for all messages whose recipients are held for a reason that begins so; how many
    recipients."""
    found = [
        message["id"]
        for page in pages(config, {"state": "held"}, MOST_HELD)
        for message in page
        if any(each["reason"].startswith(reason) for each in message["recipients"])
    ]
    selection = {"messages": found, "all": False}
    return _act(config, action, past, selection, bar=False) if found else 0


def _expected(config: Config, selection: dict[str, Any]) -> int | None:
    """How many messages an action will look at, as far as that is known."""
    if selection["messages"]:
        return len(selection["messages"])
    return count_messages(config) if selection["all"] else None


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

    from elemta.spool import open_offline  # noqa: PLC0415

    portions = [parsed(config, portion) for portion in _portions(selection)]
    with storage_trouble(config), open_offline(config.state_dir) as store:
        store.keeps_ended = config.queue.retention > 0
        for which in portions:
            after: int | None = None
            while True:
                page = store.matching(which, after=after, limit=PAGE)
                if page.messages:
                    store.begin(careful=True)
                    count = _change(config, store, action, attrs.evolve(which, messages=page.messages))
                    store.commit()
                    yield Batch(count, len(page.messages))
                if page.further is None:
                    break
                after = page.further


def _change(config: Config, store: Store, action: str, which: QueueFilter) -> int:
    match action:
        case "hold":
            return store.hold(which, HELD_BY_OPERATOR)
        case "release":
            return store.release(which, time.time())
        case "retry":
            return store.retry(which, time.time())
        case "bounce":
            from elemta.queue import bounce_offline  # noqa: PLC0415

            return bounce_offline(store, which, config, now=time.time(), random=random.SystemRandom())
        case _:
            return store.remove(which, time.time()).recipients


@queue.command()
@config_option
@dev_option
@json_option
@click.argument("kind", type=click.Choice(["sender", "domain", "route"]), required=False)
@click.argument("value", required=False)
@click.option("--reason", default="", help="Why, for those who look at it later.")
@click.option("--for", "span", type=SPAN, help="It ends by itself after this, as in 2h.")
def pause(
    config_file: Path | None,
    dev: bool,
    as_json: bool,
    kind: str | None,
    value: str | None,
    reason: str,
    span: float | None,
) -> None:
    """Try nothing for a sender, domain or route until it is resumed. Alone: list what is paused."""
    config = read_for_client(config_file, dev)
    if kind is None:
        _show_pauses(config, as_json=as_json)
        return
    if value is None:
        raise click.UsageError(f"say which {kind}")
    said = f"{reason or 'no reason given'} ({who()})"
    wish = {"action": "pause", "kind": kind, "value": value, "reason": said, "seconds": span}
    try:
        shown = AdminClient(config.state_dir).post("/api/v1/pauses", wish)["value"]
    except NotRunning:
        shown = pause_offline(config, kind, value, said, span)
    click.echo(json.dumps({"kind": kind, "value": shown}) if as_json else f"{kind} {shown} is paused")


@queue.command()
@config_option
@dev_option
@json_option
@click.argument("kind", type=click.Choice(["sender", "domain", "route"]))
@click.argument("value")
def resume(config_file: Path | None, dev: bool, as_json: bool, kind: str, value: str) -> None:
    """End a pause; what waited for that is due now."""
    config = read_for_client(config_file, dev)
    try:
        wish = {"action": "resume", "kind": kind, "value": value}
        count = AdminClient(config.state_dir).post("/api/v1/pauses", wish)["recipients"]
    except NotRunning:
        count = resume_offline(config, kind, value)
    text = f"{kind} {value} is resumed, {count} recipient{'' if count == 1 else 's'} due now"
    click.echo(json.dumps({"recipients": count}) if as_json else text)


def who() -> str:
    """The user who gives the command, for those who look at a pause later."""
    import getpass  # noqa: PLC0415

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown user"


def _show_pauses(config: Config, *, as_json: bool) -> None:
    from elemta.admin import as_builtins  # noqa: PLC0415

    pauses = ask(
        config,
        lambda client: client.get("/api/v1/pauses")["pauses"],
        lambda reader: [as_builtins(pause) for pause in reader.pauses()],
    )
    if as_json:
        click.echo(json.dumps({"pauses": pauses}, indent=2))
        return
    if not pauses:
        click.echo("nothing is paused")
        return
    from .console import table, when  # noqa: PLC0415

    table(
        ("kind", "value", "since", "until", "reason"),
        [
            (
                each["kind"],
                each["value"],
                when(each["since"]),
                when(each["until"]) if each["until"] else "resumed",
                each["reason"],
            )
            for each in pauses
        ],
    )


def _checked_pause(kind: str, value: str) -> tuple[Any, str]:
    from elemta.admin import BadRequest, parse_pause_value  # noqa: PLC0415

    try:
        return parse_pause_value(kind, value)
    except BadRequest as error:
        raise Trouble(NOT_DONE, str(error)) from error


def pause_offline(config: Config, kind: str, value: str, reason: str, span: float | None) -> str:
    """Pause on the spool itself; returns the value in the form in which mail has it."""
    from elemta.spool import Pause, open_offline  # noqa: PLC0415

    chosen, text = _checked_pause(kind, value)
    now = time.time()
    with storage_trouble(config), open_offline(config.state_dir) as store:
        store.begin(careful=True)
        store.set_pause(Pause(chosen, text, now, None if span is None else now + span, reason))
        store.commit()
    return text


def resume_offline(config: Config, kind: str, value: str) -> int:
    """Resume on the spool itself; returns how many recipients are due now."""
    from elemta.queue import holds_quarantined  # noqa: PLC0415
    from elemta.spool import QueueFilter, open_offline  # noqa: PLC0415

    from .explain import make_router  # noqa: PLC0415

    chosen, text = _checked_pause(kind, value)
    with storage_trouble(config), open_offline(config.state_dir) as store:
        store.begin(careful=True)
        known = store.end_pause(chosen, text)
        # In one step: it is the only writer, and nobody waits.
        all_paused = holds_quarantined(make_router(config), chosen, text)
        which = QueueFilter() if all_paused else parsed(config, {chosen.value: text})
        count = store.resume(which, time.time()) if known else 0
        store.commit()
    if not known:
        raise Trouble(NOT_DONE, f"this {kind} is not paused")
    return count
