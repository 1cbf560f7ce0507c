"""Access restrictions (smtpd_*_restrictions): what elemta always does, what its checks do, what is left."""

from __future__ import annotations

from ..units import BadValue, parse_domain_name
from .draft import Draft
from .files import Setting, split_list

LISTS = (
    "smtpd_client_restrictions",
    "smtpd_helo_restrictions",
    "smtpd_sender_restrictions",
    "smtpd_relay_restrictions",
    "smtpd_recipient_restrictions",
    "smtpd_data_restrictions",
    "smtpd_end_of_data_restrictions",
    "smtpd_etrn_restrictions",
)

ALWAYS = frozenset(
    {
        "permit",
        "reject",
        "defer",
        "permit_mynetworks",
        "permit_sasl_authenticated",
        "permit_auth_destination",
        "reject_unauth_destination",
        "defer_unauth_destination",
        "reject_unlisted_recipient",
        "reject_unlisted_sender",
        "reject_non_fqdn_recipient",
        "reject_non_fqdn_sender",
        "reject_unauth_pipelining",
        "reject_invalid_helo_hostname",
        "reject_invalid_hostname",
        "reject_multi_recipient_bounce",
        "reject_sender_login_mismatch",
        "reject_authenticated_sender_login_mismatch",
        "permit_tls_clientcerts",
        "warn_if_reject",
        "sleep",
    }
)
"""Means nothing here, for it is how elemta works, or nothing that one sets."""


def translate_restrictions(draft: Draft, setting: Setting, value: str) -> None:
    """One list of restrictions, in their order."""
    words = iter(split_list(value))
    noting = False
    for word in words:
        name, action = word.lower(), "note" if noting else "refuse"
        noting = name == "warn_if_reject"
        if name in ("reject_rbl_client", "reject_rhsbl_sender", "reject_rhsbl_client", "permit_dnswl_client"):
            _list(draft, setting, name, next(words, ""), action)
        elif name in ("reject_unknown_client_hostname", "reject_unknown_client"):
            draft.set("policy.reverse_dns.action", action)
        elif name == "reject_unknown_reverse_client_hostname":
            draft.set("policy.reverse_dns.action", action)
            draft.set("policy.reverse_dns.require", "name")
        elif name in _HELLO:
            draft.set(f"policy.hello.{_HELLO[name]}", action)
        elif name == "check_policy_service":
            _policy_service(draft, setting, next(words, ""))
        elif name.startswith("check_"):
            table = next(words, "")
            remedy = (
                "domains and addresses that are refused belong in a plugin's hook, networks in policy.exempt"
            )
            draft.leave(setting, f"{word} {table} is not translated", remedy)
        elif name in ("reject_unknown_sender_domain", "reject_unknown_recipient_domain"):
            draft.leave(setting, f"{word} is not translated", "a plugin can ask for the sender's domain")
        elif name in ("reject_unverified_recipient", "reject_unverified_sender"):
            draft.leave(setting, f"{word} is not translated", "list recipients in domains.recipients")
        elif name not in ALWAYS and not word.isdecimal():
            draft.leave(setting, f"{word} is not known", "see docs/migration-postfix.md")


_HELLO = {
    "reject_non_fqdn_helo_hostname": "unqualified",
    "reject_non_fqdn_hostname": "unqualified",
    "reject_unknown_helo_hostname": "unresolvable",
    "reject_unknown_hostname": "unresolvable",
}


def _list(draft: Draft, setting: Setting, name: str, zone: str, action: str) -> None:
    host, _, answers = zone.partition("=")
    try:
        parse_domain_name(host)
    except BadValue:
        draft.leave(setting, f"{name} {zone}: is no zone", "name it in policy.dns_lists")
        return
    if answers:
        draft.note(setting, f"{name} {host}: which answers count ({answers}) is not translated")
    if name == "permit_dnswl_client":
        draft.append("policy.dns_lists.zones", {"zone": host, "weight": -1})
        return
    section = "domain_lists" if name == "reject_rhsbl_sender" else "dns_lists"
    if name == "reject_rhsbl_client":
        draft.leave(setting, f"{name} {host} is not translated", "use a list of addresses")
        return
    draft.append(f"policy.{section}.zones", {"zone": host})
    if draft.get(f"policy.{section}.action") != "refuse":
        draft.set(f"policy.{section}.action", action)


def _policy_service(draft: Draft, setting: Setting, service: str) -> None:
    service = service.split(" ", maxsplit=1)[0]
    if "postgrey" in service or service.endswith(":10023"):
        draft.set("policy.greylist.action", "defer")
        draft.note(setting, f"greylisting is built in, {service} is not asked")
    elif "spf" in service:
        draft.note(setting, f"SPF is built in, {service} is not asked", "see [policy.spf]")
    else:
        draft.leave(setting, f"{service} is not asked", "write a plugin with the hook recipient")
