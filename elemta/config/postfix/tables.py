"""Where mail goes: relayhost, transport tables, mailboxes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from .draft import Draft, domain, is_table
from .files import Setting, read_table, split_list

ReadFile = Callable[[str], str | None]
"""The text of a file by its path; None where it cannot be read."""

_TEXT_TABLES = ("hash:", "texthash:", "btree:", "lmdb:", "cdb:", "dbm:")
_BRACKETS = re.compile(r"\[([^\]]+)\](?::(\w+))?")
_PORTS = {"smtp": 25, "submission": 587, "submissions": 465, "smtps": 465, "lmtp": 24}
_TLS = {
    "none": "none",
    "may": "opportunistic",
    "encrypt": "required",
    "dane": "dane",
    "dane-only": "dane-only",
    "verify": "verified",
    "secure": "verified",
    "fingerprint": "verified",
}


def next_hop(text: str) -> tuple[str | None, int | None, bool]:
    """Host, port, and whether Postfix would ask for its MX first."""
    match = _BRACKETS.fullmatch(text)
    if match is not None:
        return match[1].removeprefix("IPv6:").removeprefix("ipv6:"), _port(match[2]), False
    host, _, port = text.partition(":")
    return (host or None), _port(port), True


def _port(text: str | None) -> int | None:
    if not text:
        return None
    return _PORTS.get(text) or (int(text) if text.isdecimal() and 0 < int(text) < 65536 else None)


def route_tls(draft: Draft) -> str | None:
    """What smtp_tls_security_level asks of next hops; None: elemta's default."""
    level = draft.values.get("smtp_tls_security_level", "")
    return _TLS.get(level)


def relayhost(draft: Draft, setting: Setting, value: str) -> None:
    """The next hop of all that no other route takes."""
    if not value:
        return
    host, port, by_mx = next_hop(value)
    if host is None:
        draft.leave(setting, f"{value!r} is no next hop", 'write a [[routes]] with match = "*"')
        return
    route: dict[str, Any] = {"match": "*", "transport": "smtp", "host": host}
    if port:
        route["port"] = port
    tls = route_tls(draft)
    if tls in ("dane", "dane-only"):
        # DANE is for hosts that MX records name; a fixed host proves itself with a certificate
        tls = "verified"
        draft.note(setting, "TLS of a fixed host is verified by its certificate, not by DANE")
    if tls is not None:
        route["tls"] = tls
    draft.routes.append(route)
    if by_mx:
        draft.note(
            setting,
            f"Postfix asks for the MX of {host}; here it is the host itself",
            "name the host that its MX records name",
        )
    if port == 465:
        draft.leave(setting, "TLS from the begin is not spoken to next hops", "use port 587 with STARTTLS")
    if draft.values.get("smtp_sasl_auth_enable") == "yes":
        draft.leave(
            setting,
            "the login of smtp_sasl_password_maps is not translated",
            "set username and password_file of this route",
        )


def transport_maps(draft: Draft, setting: Setting, value: str, read: ReadFile) -> None:
    """A table of routes, where it is in text."""
    for table in split_list(value):
        text = _text_of(table, read)
        if text is None:
            draft.leave(setting, f"{table} cannot be read as text", "write its lines as [[routes]]")
            continue
        for line, key, target in read_table(text):
            place = Setting(f"{setting.name} {key}", target, table.partition(":")[2], line)
            route = _route(draft, place, key, target)
            if route is not None:
                draft.routes.append(route)


def _route(draft: Draft, place: Setting, key: str, target: str) -> dict[str, Any] | None:
    match = key if key == "*" or ("@" in key and not key.startswith("@")) else domain(key)
    if match is None:
        draft.leave(place, "is no domain or address", "write a [[routes]] for what is meant")
        return None
    transport, _, hop = target.partition(":")
    if transport == "discard":
        return {"match": match, "transport": "discard"}
    if transport in ("local", "virtual") or (not transport and not hop):
        # what it would be without the table: of our domains the routes below, of others their MX
        return None if match in draft.get("domains.local") else {"match": match, "transport": "smtp"}
    if transport not in ("", "smtp", "relay", "lmtp"):
        remedy = 'use "smtp", "lmtp", "maildir" or "discard"'
        draft.leave(place, f"the transport {transport!r} is not translated", remedy)
        return None
    kind = "lmtp" if transport == "lmtp" else "smtp"
    host, port, by_mx = _hop(draft, place, hop) if hop else (None, None, False)
    route: dict[str, Any] = {"match": match, "transport": kind}
    if host is not None:
        route["host"] = host
        if by_mx and kind == "smtp":
            draft.note(place, f"Postfix asks for the MX of {host}; here it is the host itself")
    elif kind == "lmtp":
        draft.leave(place, "lmtp without a host", "name host and port")
        return None
    if port:
        route["port"] = port
    return route


def in_order(routes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As Postfix looks them up: addresses, domains, what is below a domain (the longest first), the rest."""

    def rank(route: dict[str, Any]) -> tuple[int, int]:
        match = route["match"]
        if match == "*":
            return 3, 0
        return (0, 0) if "@" in match else (2, -len(match)) if match.startswith("*.") else (1, 0)

    return sorted(routes, key=rank)


def _hop(draft: Draft, place: Setting, hop: str) -> tuple[str | None, int | None, bool]:
    if hop.startswith("unix:"):
        draft.note(
            place,
            f"the socket {hop.removeprefix('unix:')} became 127.0.0.1, port 24",
            "let the LMTP server (Dovecot: inet_listener) listen there",
        )
        return "127.0.0.1", 24, False
    return next_hop(hop.removeprefix("inet:"))


def deliver(draft: Draft, setting: Setting, domains: list[str], transport: str, folder: str) -> None:
    """Routes for domains whose mail stays here: to an LMTP server, or into maildirs."""
    for name in domains:
        if any(route["match"] == name for route in draft.routes):
            continue  # transport_maps says where
        if transport.startswith(("lmtp:", "dovecot")):
            hop = transport.removeprefix("lmtp:") if transport.startswith("lmtp:") else "unix:dovecot"
            host, port, _ = _hop(draft, setting, hop)
            draft.routes.append({"match": name, "transport": "lmtp", "host": host, "port": port or 24})
        elif transport.startswith(("smtp:", "relay:")):
            host, port, _ = next_hop(transport.partition(":")[2])
            route = {"match": name, "transport": "smtp", "host": host or name}
            draft.routes.append(route | ({"port": port} if port else {}))
        else:
            draft.routes.append({"match": name, "transport": "maildir", "path": folder})


def domains_of(draft: Draft, setting: Setting, value: str, read: ReadFile) -> list[str]:
    """The domains of a list; tables in text are read, others are remarks."""
    found: list[str] = []
    for word in split_list(value):
        if word.startswith("!"):
            draft.leave(
                setting, f"{word!r}: exceptions are not translated", "leave the domain out of the list"
            )
        elif is_table(word):
            text = _text_of(word, read)
            if text is None:
                draft.leave(setting, f"{word} cannot be read as text", "list its domains in [domains]")
                continue
            found += [key for _, key, _ in read_table(text)]
        else:
            found.append(word)
    names: list[str] = []
    for word in found:
        name = domain(word)
        if word == "localhost" or word.startswith("localhost.") or word == draft.values["myhostname"] == name:
            if name is not None and "." in name and not name.startswith("localhost."):
                names.append(name)
            continue  # nobody else can name this machine so
        if name is None or "." not in name:
            draft.leave(
                setting, f"{word!r} is no domain of the internet", "nobody there gets mail from others"
            )
        elif name not in names:
            names.append(name)
    return names


def _text_of(table: str, read: ReadFile) -> str | None:
    path = table
    for prefix in _TEXT_TABLES:
        path = path.removeprefix(prefix)
    return read(path) if path.startswith("/") else None
