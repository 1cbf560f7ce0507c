"""`elemta explain route|message`: where mail goes, under which limits, when next and why. Sends nothing."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from .client import AdminClient, NotRunning
from .errors import BAD_CONFIG, NOT_DONE, STORAGE, TRY_LATER, Trouble
from .options import config_option, dev_option, json_option, read_for_client
from .spooled import ask, checked_id

if TYPE_CHECKING:
    from elemta.config import Config
    from elemta.delivery import Override
    from elemta.dns import Resolver
    from elemta.mail import Mailbox
    from elemta.routing import Route, Router

DNS_SECONDS = 30.0
"""How long the answers about one address may take; then that is what is said."""


@click.group()
def explain() -> None:
    """Say where mail goes and why, without sending anything."""


@explain.command()
@config_option
@dev_option
@json_option
@click.argument("address")
def route(config_file: Path | None, dev: bool, as_json: bool, address: str) -> None:
    """Say how mail to ADDRESS goes: the route, the hosts, TLS, limits, and how the destination is now."""
    from elemta.mail import MailSyntaxError, parse_mailbox  # noqa: PLC0415
    from elemta.routing import RecipientsUnavailable  # noqa: PLC0415

    config = read_for_client(config_file, dev)
    try:
        mailbox = parse_mailbox(address, utf8=True)
    except MailSyntaxError as error:
        raise Trouble(NOT_DONE, f"that is no address: {error}") from error
    router = make_router(config)
    try:
        found = router.find_blocking(mailbox)
    except RecipientsUnavailable as error:
        raise Trouble(TRY_LATER, str(error)) from error
    if not found.exists:
        if as_json:
            click.echo(json.dumps({"address": str(mailbox), "refused": "550 5.1.1", "routes": []}, indent=2))
        where = " or ".join(str(each) for each in (config.domains.recipients, config.domains.table) if each)
        raise Trouble(NOT_DONE, f"{mailbox} is not in {where}: refused with 550 5.1.1")
    behind = found.behind
    routes = [route_facts(config, router, each) | _live(config, str(router.route(each))) for each in behind]
    if as_json:
        click.echo(json.dumps({"address": str(mailbox), "refused": None, "routes": routes}, indent=2))
        return
    if dev:
        _say("in development mode nothing is sent: mail is captured. With this configuration it would go so:")
    if behind != (mailbox,):
        _say(f"{mailbox} stands for {', '.join(map(str, behind))}")
    for facts in routes:
        _show_facts(facts)


@explain.command()
@config_option
@dev_option
@json_option
@click.argument("message")
def message(config_file: Path | None, dev: bool, as_json: bool, message: str) -> None:
    """Say for each recipient of a message in the queue what it waits for, until when, and where it goes."""
    from elemta.mail import parse_mailbox  # noqa: PLC0415

    config = read_for_client(config_file, dev)
    id = checked_id(message)
    entry = ask(
        config,
        lambda client: client.get(f"/api/v1/queue/{id}"),
        lambda reader: _entry(reader.show(id)),
    )
    if entry is None:
        raise Trouble(NOT_DONE, f"no such message in the queue; if it is gone: elemta trace {id}")
    pauses = _pauses(config)
    router = make_router(config)
    now = time.time()
    explained = []
    seen: dict[str, dict[str, Any]] = {}
    for recipient in entry["recipients"]:
        mailbox = parse_mailbox(recipient["address"], utf8=True)
        name = str(router.next_route(mailbox, recipient["attempts"], recipient["reason"]))
        if name not in seen:
            seen[name] = route_facts(config, router, mailbox) | _live(config, name)
        why = reasons(config, entry, recipient, name, pauses, now)
        explained.append({"recipient": recipient["address"], "route": name, "why": why})
    if as_json:
        shown = {"message": id, "recipients": explained, "routes": list(seen.values())}
        click.echo(json.dumps(shown, indent=2))
        return
    _show_reasons(explained)
    for facts in seen.values():
        click.echo()
        _show_facts(facts)


def make_router(config: Config) -> Router:
    """The routes of the configuration; a bad file of theirs ends the command."""
    from elemta.routing import RecipientsFileError, Router, SrsSecretsError  # noqa: PLC0415

    try:
        return Router(config)
    except (RecipientsFileError, SrsSecretsError) as error:
        raise Trouble(BAD_CONFIG, *str(error).splitlines()) from error


def route_facts(config: Config, router: Router, mailbox: Mailbox) -> dict[str, Any]:
    """What the configuration and DNS say of an address."""
    import trio  # noqa: PLC0415

    from elemta.delivery import Shaping  # noqa: PLC0415
    from elemta.dns import open_resolver  # noqa: PLC0415

    chosen = router.route(mailbox)
    rule = router.rule(mailbox)

    async def look() -> Hosts:
        with trio.move_on_after(DNS_SECONDS):
            async with open_resolver(config.dns) as resolver:
                return await hosts(chosen, config, resolver)
        return Hosts((), ["DNS gave no answer in time"])

    found = trio.run(look) if chosen.use_mx else Hosts((), _fixed(chosen))
    shape = Shaping(config, _overrides(config)).of(chosen, found.names)
    taken = shape.applied(chosen)
    return {
        "address": str(mailbox),
        "whose": router.destination(mailbox).value,
        "route": str(chosen),
        "because": "no route matches, so the MX of the domain" if rule is None else f"route {rule}",
        "hosts": found.lines,
        "tls": str(taken.tls),
        "source": _source(config, taken),
        "login": chosen.username or "",
        "fallback": _fallback(router, mailbox),
        "shaping": list(shape.tables),
        "limits": shape.limits(),
    }


def _overrides(config: Config) -> dict[str, Override]:
    """What operators set for destinations, whether a server runs or not."""
    from elemta.delivery import OverridesDamaged, read_overrides  # noqa: PLC0415

    try:
        return read_overrides(config.state_dir)
    except OverridesDamaged as error:
        raise Trouble(STORAGE, str(error)) from error


class Hosts(NamedTuple):
    """Where the MX leads to."""

    names: tuple[str, ...]
    lines: list[str]
    """For people; why there are none, where that is so."""


async def hosts(chosen: Route, config: Config, resolver: Resolver) -> Hosts:
    """The hosts that a delivery would try, best first, or why there are none."""
    from random import SystemRandom  # noqa: PLC0415

    from elemta.mail import parse_domain  # noqa: PLC0415
    from elemta.routing import MxPlan, ProhibitedNetworks, plan_mx  # noqa: PLC0415

    plan = await plan_mx(
        parse_domain(chosen.next_hop),
        resolver,
        hostname=config.hostname,
        random=SystemRandom(),
        prohibited=ProhibitedNetworks.of(config.delivery, chosen.port),
        ipv6=config.delivery.ipv6,
    )
    if not isinstance(plan, MxPlan):
        return Hosts((), [f"none: {plan.reply}"])
    note = " (no MX: the domain itself)" if plan.implicit else ""
    return Hosts(plan.hosts, [f"{host}:{chosen.port}{note}" for host in plan.hosts])


def _source(config: Config, taken: Route) -> str:
    """Which of our addresses connections come from; empty: the system chooses."""
    from elemta.delivery import Sources  # noqa: PLC0415

    if taken.source is None:
        return ", ".join(filter(None, (config.delivery.source_ipv4, config.delivery.source_ipv6)))
    members = Sources(config.sources).members(taken.source)
    names = [f"{each.name} [{', '.join(filter(None, (each.ipv4, each.ipv6)))}]" for each in members]
    return f"{taken.source}: {', '.join(names)}"


def _fallback(router: Router, mailbox: Mailbox) -> str:
    """Where mail goes when the route does not serve, and when that is; empty: nowhere else."""
    fallback = router.fallback(mailbox)
    if fallback is None:
        return ""
    terms = [f"after {fallback.after} attempts"] if fallback.after else []
    if fallback.causes:
        terms.append(f"at once for {', '.join(sorted(fallback.causes))}")
    return f"{fallback.route} {' or '.join(terms)}"


def _fixed(chosen: Route) -> list[str]:
    return [f"{chosen.next_hop}:{chosen.port}" if chosen.port else chosen.next_hop] if chosen.next_hop else []


def reasons(
    config: Config,
    entry: dict[str, Any],
    recipient: dict[str, Any],
    route: str,
    pauses: list[Any],
    now: float,
) -> list[str]:
    """What a recipient waits for, until when, and what happened last."""
    from elemta.mail import Cause  # noqa: PLC0415

    from .console import age, when  # noqa: PLC0415

    if recipient["state"] not in ("queued", "held"):
        return [f"it is {recipient['state']}: {recipient['reply'] or recipient['reason']}"]
    lines = []
    if recipient["leased"]:
        lines.append("an attempt is under way")
    elif recipient["state"] == "held" and recipient["reason"] == Cause.PAUSED:
        lines.append("it was put aside for a pause, until that is resumed")
    elif recipient["state"] == "held":
        lines.append(f"it is held ({recipient['reason']}), until it is released")
    elif recipient["due"] > now:
        next_try = f"{when(recipient['due'])}, in {age(recipient['due'] - now)}"
        lines.append(f"the next attempt is at {next_try}, because of: {recipient['reason']}")
    else:
        lines.append(
            f"it is due since {when(recipient['due'])} and waits for its turn: {recipient['reason']}"
        )
    lines += [
        f"{pause['kind']} {pause['value']} is paused since {when(pause['since'])}: {pause['reason']}"
        for pause in pauses
        if _concerns(pause, entry, recipient, route)
    ]
    if recipient["reply"]:
        at = f" at {when(recipient['last_attempt'])}" if recipient["last_attempt"] else ""
        by = f" by {recipient['remote']}" if recipient["remote"] else ""
        lines.append(f"attempt {recipient['attempts']}{at}{by}: {recipient['reply']}")
    null = entry["sender"] in ("", "<>")
    end = entry["received"] + (config.queue.bounce_lifetime if null else config.queue.lifetime)
    told = "and nobody is told" if null else "and the sender is told"
    lines.append(f"it is given up after {when(end)} {told}")
    return lines


def _concerns(pause: Any, entry: Any, recipient: Any, route: str) -> bool:
    return bool(
        pause["value"]
        == {
            "domain": recipient["address"].rpartition("@")[2],
            "sender": entry["sender"] or "<>",
            "route": route,
        }[pause["kind"]]
    )


def _entry(entry: Any) -> Any:
    from elemta.admin import entry_as_json  # noqa: PLC0415

    return None if entry is None else entry_as_json(entry)


def _pauses(config: Config) -> list[Any]:
    from elemta.admin import as_builtins  # noqa: PLC0415

    pauses: list[Any] = ask(
        config,
        lambda client: client.get("/api/v1/pauses")["pauses"],
        lambda reader: [as_builtins(pause) for pause in reader.pauses()],
    )
    return pauses


def _live(config: Config, route: str) -> dict[str, Any]:
    """How the destination is now, where a server runs."""
    try:
        sites = AdminClient(config.state_dir).get("/api/v1/status")["queue"]["sites"]
    except NotRunning:
        return {"now": "no server runs"}
    for site in sites:
        if site["route"] == route:
            return {"now": site}
    return {"now": "nothing is under way there"}


def _say(text: str) -> None:
    from elemta.runtime import escape_text  # noqa: PLC0415

    click.echo(escape_text(text))


def _show_facts(facts: dict[str, Any]) -> None:
    live = facts["now"]
    if not isinstance(live, str):
        suspended = f", left alone for {live['suspended_for']:.0f} s" if live["suspended_for"] else ""
        error = f", last error: {live['last_error']}" if live["last_error"] else ""
        paced = f", next in {live['waits_for']:.1f} s ({live['waits_because']})" if live["waits_for"] else ""
        connections = f"{live['dispatchers']} of {live['window']} connections"
        live = f"{live['ready']} ready, {connections}{paced}{suspended}{error}"
    limits = ", ".join(f"{name} {value}" for name, value in facts["limits"].items())
    for name, value in (
        ("address", f"{facts['address']} ({facts['whose']})"),
        ("route", f"{facts['route']}: {facts['because']}"),
        ("hosts", ", ".join(facts["hosts"]) or "-"),
        ("TLS", facts["tls"]),
        *((("source", facts["source"]),) if facts["source"] else ()),
        *((("login", facts["login"]),) if facts["login"] else ()),
        *((("fallback", facts["fallback"]),) if facts["fallback"] else ()),
        *((("shaping", "; ".join(facts["shaping"])),) if facts["shaping"] else ()),
        ("limits", limits),
        ("now", live),
    ):
        _say(f"{name:8} {value}")


def _show_reasons(explained: list[Any]) -> None:
    for each in explained:
        _say(f"{each['recipient']} by {each['route']}")
        for line in each["why"]:
            _say(f"  {line}")
