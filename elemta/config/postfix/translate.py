"""From Postfix's main.cf and master.cf to elemta.toml, with a remark for whatever has no counterpart."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

import attrs

from ..load import parse_config
from ..problems import ConfigError
from ..units import BadValue
from ..write import format_value
from .draft import Draft, Remark, domain
from .files import Setting, expand, read_main, read_master
from .parameters import PARAMETERS
from .services import listeners_of
from .tables import ReadFile, deliver, domains_of, in_order, relayhost, route_tls, transport_maps

MAILDIRS = "/var/mail/{domain}/{local_part}"
"""Where mail of our domains goes if Postfix has put it into mailboxes of its own kind."""

_DEFAULTS = {
    "mydestination": "$myhostname, localhost.$mydomain, localhost",
    "myorigin": "$myhostname",
    "inet_interfaces": "all",
    "inet_protocols": "all",
    "mail_name": "Postfix",
    "recipient_delimiter": "",
}

_NAMED = re.compile(r"\$[{(]?([A-Za-z0-9_]+)")


@attrs.frozen
class Translation:
    """What came of it."""

    text: str
    """elemta.toml."""
    remarks: tuple[Remark, ...]
    """In the order of the files."""
    problems: tuple[str, ...]
    """What `elemta check` would say against it: nothing, unless the values in main.cf are strange."""


def translate(
    main: str, master: str | None, *, main_file: str, master_file: str, host: str, read: ReadFile
) -> Translation:
    """Translate the texts of the two files. `host` is this machine's name, for a main.cf without one.

    Raises:
      PostfixSyntaxError: a line that Postfix would not take either.
    """
    settings = read_main(main, main_file)
    services = read_master(master, master_file) if master is not None else []
    draft = Draft(_values(settings, host, read))
    written = [*settings.values(), *(option for service in services for option in service.options)]
    named = {name for setting in written for name in _NAMED.findall(setting.value)}
    for setting in settings.values():
        _one(draft, setting, named)
    _networks(draft, settings)
    _domains(draft, settings, read)
    _next_hops(draft, settings, read)
    _identity(draft, settings, host)
    draft.listeners = listeners_of(draft, settings, services)
    _accounts(draft)
    draft.routes = in_order(draft.routes)
    text = _render(draft, main_file)
    return Translation(text, _sorted(draft.remarks), _problems(text))


def _values(settings: Mapping[str, Setting], host: str, read: ReadFile) -> dict[str, str]:
    raw = {**_DEFAULTS, **{name: setting.value for name, setting in settings.items()}}
    raw.setdefault("myhostname", host)
    name = expand(raw["myhostname"], raw)
    raw.setdefault("mydomain", name.partition(".")[2] or "localdomain")
    values = {key: expand(value, raw) for key, value in raw.items()}
    if values["myorigin"].startswith("/"):
        values["myorigin"] = (read(values["myorigin"]) or "").strip()
    return values


def _one(draft: Draft, setting: Setting, named: set[str]) -> None:
    """Translate one parameter, or say why not. `named`: those whose values are filled in elsewhere."""
    parameter = PARAMETERS.get(setting.name)
    value = draft.values[setting.name]
    if parameter is None:
        if setting.name not in named:
            draft.leave(setting, "is not translated", "see docs/migration-postfix.md")
    elif parameter.translate is not None:
        try:
            parameter.translate(draft, setting, value)
        except BadValue as error:
            draft.leave(setting, str(error), f"set {parameter.into}")
    elif parameter.remedy and value:
        draft.leave(setting, "is not translated", parameter.remedy)


def _domains(draft: Draft, settings: Mapping[str, Setting], read: ReadFile) -> None:
    values = draft.values
    place = settings.get("mydestination") or Setting("mydestination", "", "defaults", 0)
    local = [name for name in domains_of(draft, place, values["mydestination"], read) if "." in name]
    folder = _folder(values)
    transport = values.get("mailbox_transport") or values.get("local_transport", "")
    draft.append("domains.local", *local)
    if local and not transport:
        draft.note(
            place, f"mailboxes became maildirs below {folder}", "change path of the routes, or use LMTP"
        )
    virtual: list[str] = []
    for name in ("virtual_mailbox_domains", "virtual_alias_domains"):
        if name in settings:
            virtual += domains_of(draft, settings[name], values[name], read)
    draft.append("domains.local", *virtual)
    if "relay_domains" in settings:
        draft.append(
            "domains.relay", *domains_of(draft, settings["relay_domains"], values["relay_domains"], read)
        )
    if "transport_maps" in settings:
        transport_maps(draft, settings["transport_maps"], values["transport_maps"], read)
    deliver(draft, place, local, transport, folder)
    carrier = settings.get("virtual_transport") or settings.get("virtual_mailbox_domains") or place
    base = values.get("virtual_mailbox_base", "").rstrip("/")
    below = f"{base}/{{domain}}/{{local_part}}" if base else MAILDIRS
    deliver(draft, carrier, virtual, values.get("virtual_transport", ""), below)


def _folder(values: Mapping[str, str]) -> str:
    home = values.get("home_mailbox", "").strip("/")
    return f"/home/{{local_part}}/{home}" if home and ".." not in home else MAILDIRS


def _next_hops(draft: Draft, settings: Mapping[str, Setting], read: ReadFile) -> None:
    if "relayhost" in settings and any(route["match"] == "*" for route in draft.routes):
        text = "is never used: transport_maps has a line for all"
        draft.leave(settings["relayhost"], text, "keep one of the two")
        return
    if "relayhost" in settings and draft.values["relayhost"]:
        relayhost(draft, settings["relayhost"], draft.values["relayhost"])
        return
    tls = route_tls(draft)
    if tls is not None and tls != "opportunistic":
        draft.routes.append({"match": "*", "transport": "smtp", "tls": tls})


def _networks(draft: Draft, settings: Mapping[str, Setting]) -> None:
    """Without mynetworks Postfix trusts this machine, and with mynetworks_style its neighbours."""
    if "mynetworks" not in settings:
        draft.append("relay.networks", "127.0.0.0/8", "::1/128")
    style = settings.get("mynetworks_style")
    if style is not None and style.value != "host" and "mynetworks" not in settings:
        draft.leave(style, f"{style.value!r} is not translated", "list the networks in relay.networks")


def _identity(draft: Draft, settings: Mapping[str, Setting], host: str) -> None:
    if draft.get("hostname") is None:
        place = settings.get("myhostname") or Setting("myhostname", "", "defaults", 0)
        name = host if domain(host) and "." in host else "mx.example.org"
        draft.set("hostname", name)
        draft.note(place, f"hostname became {name}", "set it to the name that the PTR of your address has")
    origin = domain(draft.values["myorigin"])
    if origin is not None and "." in origin and not origin.startswith("*"):
        draft.set("submission.domain", origin)


def _accounts(draft: Draft) -> None:
    """Listeners that ask for a login need somebody to ask, and those with TLS a certificate."""
    if any(listener["auth"] != "off" for listener in draft.listeners):
        draft.set("auth.users", "/etc/elemta/users")
    if not (draft.get("tls.certificate") and draft.get("tls.key")):
        draft.settings.pop("tls", None)
        for listener in draft.listeners:
            if listener["tls"] != "off":
                listener["tls"] = "off"
                listener["auth"] = "off"
        if not any(listener["auth"] != "off" for listener in draft.listeners):
            draft.settings.pop("auth", None)


def _render(draft: Draft, main_file: str) -> str:
    lines = [f"# Translated from {PurePath(main_file).name} of Postfix by 'elemta config from-postfix'.", ""]
    for remark in _sorted(draft.remarks):
        lines.append(f"# {'changed' if remark.translated else 'MISSING'}: {remark}".translate(_ONE_LINE))
    if draft.remarks:
        lines.append("")
    lines += _section(draft.settings.get("", {}))
    lines.append('state_dir = "/var/lib/elemta"')
    for listener in draft.listeners:
        lines += ["", "[[listeners]]", *_section(listener)]
    for name in sorted(name for name in draft.settings if name):
        plain, tables = _apart(draft.settings[name])
        if plain:
            lines += ["", f"[{name}]", *_section(plain)]
        for key, rows in tables.items():
            for row in rows:
                lines += ["", f"[[{name}.{key}]]", *_section(row)]
    for route in draft.routes:
        lines += ["", "[[routes]]", *_section(route)]
    return "\n".join(lines) + "\n"


def _sorted(remarks: list[Remark]) -> tuple[Remark, ...]:
    """Each once, in the order of the lines."""

    def place(remark: Remark) -> tuple[str, int]:
        file, _, line = remark.place.rpartition(":")
        return file, int(line)

    return tuple(sorted(dict.fromkeys(remarks), key=place))


def _problems(text: str) -> tuple[str, ...]:
    try:
        parse_config(text, "elemta.toml")
    except ConfigError as error:
        return tuple(str(error).splitlines())
    return ()


_ONE_LINE = dict.fromkeys([*range(32), 127], " ")


def _apart(section: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    tables = {
        key: value
        for key, value in section.items()
        if isinstance(value, list) and value and isinstance(value[0], dict)
    }
    return {key: value for key, value in section.items() if key not in tables}, tables


def _section(section: Mapping[str, Any]) -> Iterator[str]:
    for key, value in section.items():
        yield f"{key} = {format_value(value)}"
