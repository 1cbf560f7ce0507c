"""`elemta destinations`: where mail goes, how that does, left alone and taken up again."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import click

from .client import AdminClient, NotRunning
from .errors import NOT_DONE, STORAGE, Trouble
from .explain import make_router, route_facts
from .options import config_option, dev_option, json_option, read_for_client
from .queue import SPAN
from .queue_actions import pause_offline, resume_offline, who
from .spooled import ask

if TYPE_CHECKING:
    from elemta.config import Config

MOST_DOMAINS = 1000
"""Domains with waiting mail that are looked at without a server: those with the most."""


@click.group()
def destinations() -> None:
    """Look at destinations, leave them alone, take them up again.

    NAME is a route such as smtp:example.org, a domain or an address.
    """


@destinations.command("list")
@click.option("--limit", default=100, show_default=True, help="At most so many, those with the most mail.")
@config_option
@dev_option
@json_option
def show_all(limit: int, config_file: Path | None, dev: bool, as_json: bool) -> None:
    """List where mail goes now or waits to go. Without a server: what waits, and what is paused."""
    config = read_for_client(config_file, dev)
    answer = ask(
        config,
        lambda client: client.get(f"/api/v1/destinations?{urlencode({'limit': limit})}"),
        lambda reader: _offline(config, reader, limit),
    )
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    from .console import table  # noqa: PLC0415

    table(
        ("destination", "waiting", "ready", "connections", "window", "state", "last error"),
        [
            (
                each["route"],
                str(each["waiting"]),
                *_numbers(each["now"]),
                _state(each),
                each["now"]["last_error"] if each["now"] else "",
            )
            for each in answer["destinations"]
        ],
        right=("waiting", "ready", "connections", "window"),
    )
    if answer["more"]:
        click.echo(f"and {answer['more']} more")


@destinations.command()
@click.argument("name")
@config_option
@dev_option
@json_option
def show(name: str, config_file: Path | None, dev: bool, as_json: bool) -> None:
    """Show one destination: what waits, its connections, why it rests or is paused, its hosts."""
    config = read_for_client(config_file, dev)
    route = _route(config, name)
    answer = ask(
        config,
        lambda client: client.get(f"/api/v1/destinations/one?{urlencode({'name': route})}"),
        lambda reader: _one_offline(config, reader, route),
    )
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    now = answer["now"]
    rows = [("destination", answer["route"]), ("waiting", str(answer["waiting"])), ("state", _state(answer))]
    if now:
        rows += [
            ("ready", str(now["ready"])),
            ("connections", f"{now['dispatchers']} of {now['window']}"),
            ("results", f"{now['delivered']} delivered, {now['deferred']} put off, {now['failed']} failed"),
            ("last error", now["last_error"] or "-"),
        ]
    rows += [
        (name, value)
        for name, value in (
            ("hosts", ", ".join(answer["hosts"])),
            ("shares with", ", ".join(answer["shares_with"])),
            ("shaping", "; ".join(answer["shaping"])),
            ("limits", ", ".join(f"{key} {value}" for key, value in answer["limits"].items())),
        )
        if value
    ]
    _show_rows(rows)


@destinations.command()
@click.argument("name")
@config_option
@dev_option
@json_option
def limits(name: str, config_file: Path | None, dev: bool, as_json: bool) -> None:
    """Show the limits for a domain or address by the configuration and DNS, and what is used of them now."""
    from elemta.mail import MailSyntaxError, parse_mailbox  # noqa: PLC0415

    config = read_for_client(config_file, dev)
    domain = name.removeprefix("smtp:")
    if "[" in domain:
        raise Trouble(NOT_DONE, "this is no route by MX; name a domain or address whose mail goes there")
    try:
        mailbox = parse_mailbox(domain if "@" in domain else f"postmaster@{domain}", utf8=True)
    except MailSyntaxError as error:
        raise Trouble(NOT_DONE, f"{name} is no route by MX, domain or address: {error}") from error
    facts = route_facts(config, make_router(config), mailbox)
    now: Any = None
    try:
        query = urlencode({"name": facts["route"]})
        now = AdminClient(config.state_dir).get(f"/api/v1/destinations/one?{query}")["now"]
    except NotRunning:
        pass
    chosen = {key: facts[key] for key in ("route", "hosts", "tls", "source", "shaping", "limits")}
    if as_json:
        click.echo(json.dumps({**chosen, "now": now}, indent=2))
        return
    rows = [
        ("destination", chosen["route"]),
        ("hosts", ", ".join(chosen["hosts"])),
        ("TLS", chosen["tls"]),
        ("source", chosen["source"] or "-"),
        ("shaping", "; ".join(chosen["shaping"]) or "-"),
        *((key, str(value)) for key, value in chosen["limits"].items()),
        ("used now", f"{now['dispatchers']} of {now['window']} connections" if now else "-"),
    ]
    _show_rows(rows)


@destinations.command()
@click.argument("name")
@click.option("--reason", default="", help="Why, for those who look at it later.")
@click.option("--for", "span", type=SPAN, help="It ends by itself after this, as in 2h.")
@config_option
@dev_option
@json_option
def pause(
    name: str, reason: str, span: float | None, config_file: Path | None, dev: bool, as_json: bool
) -> None:
    """Send nothing there until it is resumed. Mail is accepted and waits."""
    config = read_for_client(config_file, dev)
    route = _route(config, name)
    said = f"{reason or 'no reason given'} ({who()})"
    try:
        wish = {"action": "pause", "name": route, "reason": said, "seconds": span}
        AdminClient(config.state_dir).post("/api/v1/destinations", wish)
    except NotRunning:
        pause_offline(config, "route", route, said, span)
    click.echo(json.dumps({"route": route}) if as_json else f"{_safe(route)} is paused")


@destinations.command()
@click.argument("name")
@config_option
@dev_option
@json_option
def resume(name: str, config_file: Path | None, dev: bool, as_json: bool) -> None:
    """End a pause, and the rest after failures as well; what waits for that is due now."""
    config = read_for_client(config_file, dev)
    route = _route(config, name)
    try:
        wish = {"action": "resume", "name": route}
        count = AdminClient(config.state_dir).post("/api/v1/destinations", wish)["recipients"]
    except NotRunning:
        count = resume_offline(config, "route", route)
    text = f"{_safe(route)} is resumed, {count} recipient{'' if count == 1 else 's'} due now"
    click.echo(json.dumps({"route": route, "recipients": count}) if as_json else text)


@destinations.command()
@click.argument("name")
@click.option("--concurrency", type=int, metavar="N", help="Most connections at once.")
@click.option("--recipients-per-transaction", type=int, metavar="N", help="Most recipients in a transaction.")
@click.option("--messages-per-connection", type=int, metavar="N", help="Most messages over a connection.")
@click.option("--connection-rate", metavar="RATE", help="Connections in a time, as in 10/1m.")
@click.option("--message-rate", metavar="RATE", help="Messages in a time, as in 600/1h.")
@click.option("--byte-rate", metavar="RATE", help="Octets in a time, as in 100MiB/1h.")
@click.option("--reason", default="", help="Why, for those who look at it later.")
@config_option
@dev_option
@json_option
def limit(
    name: str, reason: str, config_file: Path | None, dev: bool, as_json: bool, **given: int | str | None
) -> None:
    """Set limits for one destination: at once, before all [[shaping]], until they are cleared.

    They take the place of what was set for it before, and outlive restarts.
    """
    config = read_for_client(config_file, dev)
    route = _route(config, name)
    chosen = {key: value for key, value in given.items() if value is not None}
    if not chosen:
        raise click.UsageError("say what: --concurrency, --message-rate, ...; 'unlimit' clears what is set")
    _set_limits(config, route, chosen, f"{reason or 'no reason given'} ({who()})")
    said = ", ".join(f"{key} {value}" for key, value in chosen.items())
    click.echo(json.dumps({"route": route, "limits": chosen}) if as_json else f"{_safe(route)}: {said}")


@destinations.command()
@click.argument("name")
@config_option
@dev_option
@json_option
def unlimit(name: str, config_file: Path | None, dev: bool, as_json: bool) -> None:
    """Clear the limits that were set for a destination: it goes by the configuration again."""
    config = read_for_client(config_file, dev)
    route = _route(config, name)
    _set_limits(config, route, {}, "")
    text = f"{_safe(route)} goes by the configuration again"
    click.echo(json.dumps({"route": route, "limits": {}}) if as_json else text)


def _set_limits(config: Config, route: str, chosen: dict[str, Any], reason: str) -> None:
    """Set them, or clear them where there are none: by the server, or in the file where none runs."""
    from elemta.config import BadValue  # noqa: PLC0415
    from elemta.delivery import (  # noqa: PLC0415
        Override,
        OverridesDamaged,
        may_have_limits,
        parse_override,
        read_overrides,
        write_overrides,
    )

    try:
        wish = {"name": route, "limits": chosen, "reason": reason}
        AdminClient(config.state_dir).post("/api/v1/destinations/limits", wish)
        return
    except NotRunning:
        pass
    try:
        overrides = read_overrides(config.state_dir)
        if not chosen and overrides.pop(route, None) is None:
            raise Trouble(NOT_DONE, f"no limits are set for {route}")
        if chosen and not may_have_limits(route):
            raise Trouble(NOT_DONE, f"{route} has no limits: only smtp and lmtp have")
        if chosen:
            overrides[route] = Override(parse_override(chosen), time.time(), reason)
        write_overrides(config.state_dir, overrides)
    except BadValue as error:
        raise Trouble(NOT_DONE, str(error)) from error
    except OverridesDamaged as error:
        raise Trouble(STORAGE, str(error)) from error
    except OSError as error:
        raise Trouble(STORAGE, f"{config.state_dir}: {error.strerror or error}") from error


def _route(config: Config, name: str) -> str:
    from elemta.mail import MailSyntaxError  # noqa: PLC0415
    from elemta.queue import route_named  # noqa: PLC0415

    try:
        return route_named(make_router(config), name)
    except MailSyntaxError as error:
        raise Trouble(NOT_DONE, f"{name} is no route, domain or address: {error}") from error


def _offline(config: Config, reader: Any, limit: int) -> dict[str, Any]:
    """What can be known without a server: what waits in the spool, and what is paused."""
    from elemta.queue import route_named  # noqa: PLC0415
    from elemta.spool import PauseKind, ShareKey  # noqa: PLC0415

    router = make_router(config)
    waiting: Counter[str] = Counter()
    for share in reader.shares(ShareKey.DOMAIN, MOST_DOMAINS):
        waiting[route_named(router, share.value)] += share.recipients
    paused = {
        pause.value: pause.reason
        for pause in reader.pauses()
        if pause.kind is PauseKind.ROUTE and (pause.until is None or pause.until > time.time())
    }
    found: list[dict[str, Any]] = [
        {"route": route, "waiting": waiting[route], "paused": paused.get(route), "now": None}
        for route in dict.fromkeys((*waiting, *paused))
    ]
    found.sort(key=lambda each: (-each["waiting"], each["route"]))
    return {"destinations": found[:limit], "more": max(0, len(found) - limit)}


def _one_offline(config: Config, reader: Any, route: str) -> dict[str, Any]:
    known = _offline(config, reader, MOST_DOMAINS)["destinations"]
    shown = next((each for each in known if each["route"] == route), None)
    shown = shown or {"route": route, "waiting": 0, "paused": None, "now": None}
    return {**shown, "hosts": [], "shaping": [], "limits": {}, "limits_set": None, "shares_with": []}


def _numbers(now: Any) -> tuple[str, str, str]:
    if now is None:
        return ("-", "-", "-")
    return (str(now["ready"]), str(now["dispatchers"]), str(now["window"]))


def _state(shown: Any) -> str:
    from .console import age  # noqa: PLC0415

    now, states = shown["now"], []
    if shown["paused"] is not None:
        states.append(f"paused: {shown['paused']}")
    if now and now["suspended_for"]:
        states.append(f"rests for {age(now['suspended_for'])}, {now['suspended_because']}")
    if now and now["waits_for"]:
        states.append(f"next in {age(now['waits_for'])}, {now['waits_because']}")
    return "; ".join(states) or ("active" if now else "idle")


def _show_rows(rows: list[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{name:{width}}  {_safe(value)}")


def _safe(text: str) -> str:
    from elemta.runtime import escape_text  # noqa: PLC0415

    return escape_text(text)
