"""Listeners: the smtpd services of master.cf, or without it those that a usual one has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from .draft import Draft
from .files import Service, Setting, expand, split_list
from .restrictions import translate_restrictions

_PORTS = {"smtp": 25, "submission": 587, "submissions": 465, "smtps": 465, "urd": 465, "ssmtp": 465}
_NAMES = {25: "mx", 587: "submission", 465: "submissions"}
_LOOPBACK = {"loopback-only": ["127.0.0.1", "[::1]"], "localhost": ["127.0.0.1", "[::1]"]}
_ANY = {"ipv4": "0.0.0.0", "ipv6": "[::]"}  # noqa: S104 - as Postfix does
_SILENT = frozenset({"syslog_name", "cleanup_service_name", "smtpd_upstream_proxy_timeout"})


def listeners_of(
    draft: Draft, settings: Mapping[str, Setting], services: list[Service]
) -> list[dict[str, Any]]:
    """Tables for [[listeners]], with names and addresses of their own."""
    found: list[dict[str, Any]] = []
    sees_all = "smtpd_sasl_auth_enable" in settings and draft.values["smtpd_sasl_auth_enable"] == "yes"
    served = [
        each for each in services if each.kind in ("inet", "pass") and each.command in ("smtpd", "postscreen")
    ]
    for service in served:
        if service.command == "postscreen":
            draft.set("policy.early_talkers", "refuse")
            draft.set("policy.greeting_delay", "3s")
            text = "its waiting for early talkers is policy.early_talkers"
            draft.remark(service.place, "postscreen", text, "its lists belong in policy.dns_lists")
        if service.kind == "pass":
            continue
        found += _listener(draft, service, sees_all)
    for service in services:
        if service.kind in ("unix", "inet") and service.command == "pipe" and not _is_usual(service):
            remedy = "deliver by LMTP, or write a plugin"
            draft.remark(service.place, service.name, "pipes are not translated", remedy)
    if not services:
        usual = Service("smtp", "inet", "smtpd", (), (), "defaults", 0)
        found = _listener(draft, usual, sees_all)
        if sees_all:
            found += _listener(draft, attrs.evolve(usual, name="submission"), sees_all)
    return _apart(found)


def _apart(listeners: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without those that would listen where another does already, and each with a name of its own."""
    kept: dict[str, dict[str, Any]] = {}
    names: set[str] = set()
    for listener in listeners:
        host, _, port = str(listener["address"]).rpartition(":")
        if any(address in kept for address in (f"{host}:{port}", f":{port}")):
            continue
        base, number = str(listener["name"]), 1
        while listener["name"] in names:
            number += 1
            listener["name"] = f"{base}-{number}"
        names.add(str(listener["name"]))
        kept[str(listener["address"])] = listener
    return list(kept.values())


def _listener(draft: Draft, service: Service, everywhere: bool) -> list[dict[str, Any]]:
    options = {each.name: expand(each.value, draft.values) for each in service.options}
    host, _, port_text = service.name.rpartition(":")
    port = _PORTS.get(port_text) or (int(port_text) if port_text.isdecimal() else 0)
    if not 0 < port < 65536:
        draft.remark(service.place, service.name, "is no port that is known", "write a [[listeners]]")
        return []

    def said(name: str) -> str:
        return options.get(name, draft.values.get(name, ""))

    implicit = said("smtpd_tls_wrappermode") == "yes"
    level = said("smtpd_tls_security_level") or ("may" if said("smtpd_use_tls") == "yes" else "")
    submission = options.get("smtpd_sasl_auth_enable") == "yes" or port in (587, 465)
    auth = "required" if submission else "optional" if everywhere and port != 25 else "off"
    tls = (
        "implicit"
        if implicit or port == 465
        else "starttls"
        if submission or level in ("may", "encrypt")
        else "off"
    )
    listener: dict[str, Any] = {"name": _NAMES.get(port, f"port-{port}"), "address": ""}
    listener["role"] = "submission" if submission else "mx"
    listener |= {"tls": tls, "auth": auth}
    if draft.values.get("_vrfy") == "yes":
        listener["vrfy"] = True
    if not submission and port == 25 and everywhere:
        place = Setting("smtpd_sasl_auth_enable", "yes", service.file, service.line)
        draft.note(place, "port 25 asks nobody to log in", "users send by port 587 or 465")
    if tls != "off" and not (draft.get("tls.certificate") and draft.get("tls.key")):
        remedy = "set certificate and key in [tls], then tls and auth of this listener"
        draft.remark(service.place, service.name, "has no TLS and no login: no certificate is named", remedy)
    for option in service.options:
        if option.name.endswith("_restrictions"):
            translate_restrictions(draft, option, expand(option.value, {**draft.values, **options}))
        elif option.name not in _SILENT and not option.name.startswith(
            ("smtpd_tls_", "smtpd_sasl_", "milter_")
        ):
            draft.leave(option, f"of {service.name} is not translated", "see docs/migration-postfix.md")
    addresses = _addresses(draft, host)
    return [{**listener, "address": f"{address}:{port}"} for address in addresses]


def _addresses(draft: Draft, host: str) -> list[str]:
    """Where to listen; empty text for both families."""
    if host:
        return (
            ["127.0.0.1"]
            if host == "localhost"
            else [host if not (":" in host and host[0] != "[") else f"[{host}]"]
        )
    protocols = draft.values["inet_protocols"]
    found: list[str] = []
    for word in split_list(draft.values["inet_interfaces"]):
        if word == "all":
            found.append(_ANY.get(protocols.strip(), ""))
        elif word in _LOOPBACK:
            found += _LOOPBACK[word]
        elif word.replace(".", "").isdigit() or ":" in word:
            found.append(word if not (":" in word and word[0] != "[") else f"[{word}]")
    if "ipv6" not in protocols and "all" not in protocols:
        found = [each for each in found if not each.startswith("[")]
    return list(dict.fromkeys(found)) or [""]


def _is_usual(service: Service) -> bool:
    """One of those that every master.cf of Debian has, whether used or not."""
    return service.name in (
        "maildrop",
        "uucp",
        "ifmail",
        "bsmtp",
        "scalemail-backend",
        "mailman",
        "cyrus",
        "old-cyrus",
    )
