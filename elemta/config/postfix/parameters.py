"""The parameters of main.cf: what becomes of each, as one table that docs/migration-postfix.md shows, too."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import attrs

from ..units import BadValue, format_duration, parse_hostname, parse_mailbox_text
from .draft import Draft, duration, network, seconds
from .files import Setting, split_list
from .restrictions import LISTS, translate_restrictions

Translator: TypeAlias = Callable[[Draft, Setting, str], None]
"""Takes the setting and its value with everything filled in. Raises BadValue for what makes no sense."""


@attrs.frozen
class Parameter:
    """What becomes of a parameter."""

    into: str
    """Where it goes, or what stands in its place, for the documentation."""
    translate: Translator | None = None
    """None: with others, or not at all."""
    remedy: str = ""
    """What to do about one that is not translated."""


def _plain(path: str) -> Parameter:
    return Parameter(path, lambda draft, setting, value: draft.set(path, _number(value)))


def _at_least(path: str, least: int) -> Parameter:
    def translate(draft: Draft, setting: Setting, value: str) -> None:
        number = _number(value)
        if number < least:
            draft.note(setting, f"{number} became {least}, the least that {path} takes")
        draft.set(path, max(least, number))

    return Parameter(path, translate)


def _time(path: str, unit: str = "s") -> Parameter:
    def translate(draft: Draft, setting: Setting, value: str) -> None:
        if seconds(setting, value, unit) == 0 and path.startswith("timeouts."):
            draft.leave(setting, "0 is no time limit", f"set {path}: every wait has one")
            return
        draft.set(path, duration(setting, value, unit))

    return Parameter(path, translate)


def _size(path: str, least: int = 0) -> Parameter:
    def translate(draft: Draft, setting: Setting, value: str) -> None:
        number = _number(value)
        if number == 0:
            draft.leave(setting, "0 is no limit", f"set {path} to what you would take at most")
            return
        if number < least:
            draft.note(setting, f"{number} became {least}, the least that {path} takes")
        draft.set(path, max(number, least))

    return Parameter(path, translate)


def _file(path: str) -> Parameter:
    return Parameter(path, lambda draft, setting, value: _set_file(draft, path, value))


def _left(remedy: str, into: str = "–") -> Parameter:
    return Parameter(into, None, remedy)


def _nothing(why: str) -> Parameter:
    return Parameter(why, lambda draft, setting, value: None)


def _rate(count: str) -> Parameter:
    def translate(draft: Draft, setting: Setting, value: str) -> None:
        if number := _number(value):
            period = duration(setting, draft.values.get("anvil_rate_time_unit") or "60s")
            draft.append("policy.rates", {"count": count, "limit": f"{number}/{period}"})

    return Parameter(f'[[policy.rates]] count = "{count}"', translate)


def _set_file(draft: Draft, path: str, value: str) -> None:
    if value and value != "none":
        draft.set(path, value)


def _number(value: str) -> int:
    if not value.isdecimal():
        raise BadValue(f"{value!r} is no number")
    return int(value)


def _hostname(draft: Draft, setting: Setting, value: str) -> None:
    draft.set("hostname", parse_hostname(value))


def _networks(draft: Draft, setting: Setting, value: str) -> None:
    for word in split_list(value):
        found = network(word)
        if found is None:
            if "::ffff:" not in word.lower():  # IPv4 in IPv6: such clients are seen as what they are
                draft.leave(
                    setting, f"{word!r} is no network", "list the networks themselves in relay.networks"
                )
            continue
        parsed = ipaddress.ip_network(found)
        if parsed.prefixlen < (8 if parsed.version == 4 else 16):
            draft.leave(setting, f"{word} would make an open relay", "name only the networks of your clients")
            continue
        draft.append("relay.networks", found)


def _delimiter(draft: Draft, setting: Setting, value: str) -> None:
    if len(value) > 1:
        draft.note(setting, f"of {value!r} the first character is used")
    draft.set("domains.delimiter", value[:1])


def _back_off(draft: Draft, setting: Setting, value: str) -> None:
    """minimal_backoff_time and maximal_backoff_time, doubling between them as Postfix does."""
    least = seconds(setting, draft.values.get("minimal_backoff_time") or "300s")
    most = seconds(setting, draft.values.get("maximal_backoff_time") or "4000s")
    waits: list[str] = []
    wait = max(1.0, least)
    while wait < most and len(waits) < 20:
        waits.append(format_duration(wait))
        wait *= 2
    draft.set("queue.retry", [*waits, format_duration(max(1.0, most))])


def _address(path: str) -> Parameter:
    def translate(draft: Draft, setting: Setting, value: str) -> None:
        if value and value not in ("0.0.0.0", "::"):  # noqa: S104 - any
            draft.set(path, value.strip("[]"))

    return Parameter(path, translate)


def _protocols(draft: Draft, setting: Setting, value: str) -> None:
    if "ipv6" not in value and "all" not in value:
        draft.set("delivery.ipv6", False)


def _tls_versions(draft: Draft, setting: Setting, value: str) -> None:
    allowed = value.lower()
    if allowed.startswith(">=tlsv1.3") or (
        "!tlsv1.2" in allowed and "tlsv1.3" not in allowed.replace("!", "")
    ):
        draft.set("tls.minimum_version", "1.3")
    elif ">=tlsv1.2" not in allowed and "!tlsv1.1" not in allowed:
        draft.note(setting, "TLS before 1.2 is not spoken")


def _key_and_chain(draft: Draft, setting: Setting, value: str) -> None:
    files = split_list(value)
    if len(files) == 1:
        draft.set("tls.certificate", files[0])
        draft.set("tls.key", files[0])
    elif files:
        draft.set("tls.key", files[0])
        draft.set("tls.certificate", files[1])
    if len(files) > 2:
        draft.leave(
            setting, f"{len(files) - 2} further files", "name further certificates in [[tls.certificates]]"
        )


def _notify(draft: Draft, setting: Setting, value: str) -> None:
    try:
        draft.set("postmaster", str(parse_mailbox_text(value)))
    except BadValue:
        draft.leave(setting, f"{value!r} has no domain", "name a whole address as postmaster")


def _milters(draft: Draft, setting: Setting, value: str) -> None:
    if not value:
        return
    draft.leave(
        setting,
        f"{value} is not asked",
        "SPF, DKIM, DMARC and ARC are built in (OpenDKIM's keys: [[signing]]); others need a plugin",
    )


def _vrfy(draft: Draft, setting: Setting, value: str) -> None:
    if value == "no":
        draft.values["_vrfy"] = "yes"


def _dns_support(draft: Draft, setting: Setting, value: str) -> None:
    if value == "dnssec":
        draft.note(setting, "DANE is on by itself", "dns.trust_ad must name the validating name server")


_PLUGIN = "a plugin can do that: see docs/plugins.md"
_LATER = "write the addresses into the file of domains.recipients"

PARAMETERS: Mapping[str, Parameter] = MappingProxyType(
    {
        "myhostname": Parameter("hostname", _hostname),
        "mydomain": _nothing("only where others name it"),
        "myorigin": Parameter("submission.domain"),
        "mydestination": Parameter("domains.local, [[routes]]"),
        "virtual_mailbox_domains": Parameter("domains.local, [[routes]]"),
        "virtual_alias_domains": Parameter("domains.local"),
        "relay_domains": Parameter("domains.relay"),
        "mynetworks": Parameter("relay.networks", _networks),
        "mynetworks_style": Parameter("relay.networks"),
        "relayhost": Parameter('[[routes]] match = "*"'),
        "transport_maps": Parameter("[[routes]]"),
        "virtual_transport": Parameter("[[routes]]"),
        "mailbox_transport": Parameter("[[routes]]"),
        "local_transport": Parameter("[[routes]]"),
        "home_mailbox": Parameter("[[routes]] path"),
        "virtual_mailbox_base": Parameter("[[routes]] path"),
        "recipient_delimiter": Parameter("domains.delimiter", _delimiter),
        "notify_classes": _left("events and alarms tell of what goes wrong: see docs/OVERVIEW.md"),
        "error_notice_recipient": Parameter("postmaster", _notify),
        # listeners
        "inet_interfaces": Parameter("[[listeners]] address"),
        "inet_protocols": Parameter("[[listeners]] address, delivery.ipv6", _protocols),
        "smtpd_sasl_auth_enable": Parameter("[[listeners]] auth"),
        "smtpd_sasl_type": _left("accounts are in [auth]: a file, a table, a web service or LDAP"),
        "smtpd_sasl_path": _left("accounts are in [auth]: a file, a table, a web service or LDAP"),
        "smtpd_sasl_security_options": _nothing("PLAIN and LOGIN are offered under TLS only"),
        "smtpd_sasl_tls_security_options": _nothing("PLAIN and LOGIN are offered under TLS only"),
        "smtpd_sasl_local_domain": _left("the name of an account is what the client says, with its domain"),
        "smtpd_sender_login_maps": _left(
            "'elemta user set NAME --send-as …' says which addresses are an account's"
        ),
        "broken_sasl_auth_clients": _nothing("not needed by programs of this century"),
        "smtpd_tls_auth_only": _nothing("PLAIN and LOGIN are offered under TLS only"),
        "disable_vrfy_command": Parameter("[[listeners]] vrfy", _vrfy),
        "smtpd_helo_required": _nothing("always so"),
        "strict_rfc821_envelopes": _nothing("always so (limits.blank_before_path)"),
        "smtpd_delay_reject": Parameter(
            "policy.refuse_at",
            lambda draft, setting, value: draft.set("policy.refuse_at", "once") if value == "no" else None,
        ),
        "smtpd_forbid_bare_newline": _nothing("always so (limits.line_ends)"),
        "smtpd_forbid_bare_newline_exclusions": _nothing("no exceptions"),
        "smtpd_forbid_unauth_pipelining": _nothing("limits.pipelining_errors"),
        "smtpd_discard_ehlo_keywords": _left("what is offered cannot be hidden"),
        "smtpd_reject_unlisted_recipient": _nothing("always so where domains.recipients has the domain"),
        # TLS
        "smtpd_tls_cert_file": _file("tls.certificate"),
        "smtpd_tls_key_file": _file("tls.key"),
        "smtpd_tls_chain_files": Parameter("tls.certificate, tls.key", _key_and_chain),
        "smtpd_tls_CAfile": _file("tls.client_authorities"),
        "smtpd_tls_security_level": Parameter("[[listeners]] tls"),
        "smtpd_use_tls": Parameter("[[listeners]] tls"),
        "smtpd_tls_ask_ccert": _left("set client_certificates of a listener"),
        "smtpd_tls_protocols": Parameter("tls.minimum_version", _tls_versions),
        "smtpd_tls_mandatory_protocols": Parameter("tls.minimum_version", _tls_versions),
        "smtpd_tls_ciphers": _nothing("modern suites only"),
        "smtpd_tls_mandatory_ciphers": _nothing("modern suites only"),
        "smtpd_tls_exclude_ciphers": _nothing("modern suites only"),
        "smtpd_tls_mandatory_exclude_ciphers": _nothing("modern suites only"),
        "tls_preempt_cipherlist": _nothing("modern suites only"),
        "tls_ssl_options": _nothing("modern suites only"),
        "smtpd_tls_dh1024_param_file": _nothing("no finite-field groups"),
        "smtpd_tls_dh512_param_file": _nothing("no finite-field groups"),
        "smtpd_tls_eecdh_grade": _nothing("chosen by the library"),
        "smtpd_tls_loglevel": _nothing("each session's TLS is in its events"),
        "smtpd_tls_received_header": _nothing("always so"),
        "smtpd_tls_session_cache_database": _nothing("tickets, with keys that are replaced"),
        "smtpd_tls_session_cache_timeout": _time("tls.ticket_lifetime"),
        "tls_server_sni_maps": _left("name each certificate in [[tls.certificates]]"),
        "smtp_tls_security_level": Parameter("[[routes]] tls"),
        "smtp_use_tls": Parameter("[[routes]] tls"),
        "smtp_tls_policy_maps": _left("a [[routes]] for each domain, with tls"),
        "smtp_tls_session_cache_database": _nothing("connections are kept instead"),
        "smtp_tls_loglevel": _nothing("each attempt's TLS is in its events"),
        "smtp_tls_note_starttls_offer": _nothing("TLS is used where it is offered"),
        "smtp_tls_CAfile": _left("the authorities of the system are trusted"),
        "smtp_tls_CApath": _left("the authorities of the system are trusted"),
        "smtp_tls_protocols": _nothing("1.2 or newer"),
        "smtp_tls_mandatory_protocols": _nothing("1.2 or newer"),
        "smtp_tls_ciphers": _nothing("modern suites only"),
        "smtp_tls_mandatory_ciphers": _nothing("modern suites only"),
        "smtp_dns_support_level": Parameter("dns.trust_ad, delivery.dane", _dns_support),
        # limits
        "message_size_limit": _size("limits.message_size", 65536),
        "header_size_limit": _size("limits.header_size", 4096),
        "line_length_limit": _nothing("limits.command_line, limits.text_line"),
        "smtpd_recipient_limit": _at_least("limits.recipients", 100),
        "smtpd_client_connection_count_limit": _at_least("limits.sessions_per_client", 1),
        "default_process_limit": _nothing("limits.sessions: sessions are no processes"),
        "smtpd_client_connection_rate_limit": _rate("connections"),
        "smtpd_client_message_rate_limit": _rate("messages"),
        "smtpd_client_recipient_rate_limit": _rate("recipients"),
        "anvil_rate_time_unit": _nothing("the time of the rates above"),
        "smtpd_soft_error_limit": _plain("limits.soft_errors"),
        "smtpd_hard_error_limit": _at_least("limits.errors", 1),
        "smtpd_error_sleep_time": _time("limits.error_delay"),
        "smtpd_junk_command_limit": _at_least("limits.junk_commands", 1),
        "hopcount_limit": _at_least("delivery.max_hops", 10),
        "queue_minfree": _left("spool.reserve says how much stays free"),
        "mailbox_size_limit": _nothing("whoever keeps the mailboxes has quotas"),
        "virtual_mailbox_limit": _nothing("whoever keeps the mailboxes has quotas"),
        # time limits
        "smtpd_timeout": _time("timeouts.command"),
        "smtpd_starttls_timeout": _time("timeouts.tls_handshake"),
        "smtp_connect_timeout": _time("timeouts.connect"),
        "smtp_helo_timeout": _time("timeouts.hello"),
        "smtp_starttls_timeout": _time("timeouts.starttls"),
        "smtp_mail_timeout": _time("timeouts.mail"),
        "smtp_rcpt_timeout": _time("timeouts.rcpt"),
        "smtp_data_init_timeout": _time("timeouts.data"),
        "smtp_data_xfer_timeout": _time("timeouts.block"),
        "smtp_data_done_timeout": _time("timeouts.final_dot"),
        "smtp_rset_timeout": _time("timeouts.rset"),
        "smtp_quit_timeout": _time("timeouts.quit"),
        # the queue
        "maximal_queue_lifetime": _time("queue.lifetime", "d"),
        "bounce_queue_lifetime": _time("queue.bounce_lifetime", "d"),
        "delay_warning_time": _time("queue.delay_notice", "h"),
        "minimal_backoff_time": Parameter("queue.retry", _back_off),
        "maximal_backoff_time": Parameter("queue.retry", _back_off),
        "queue_run_delay": _nothing("each recipient is due by itself"),
        "qmgr_message_active_limit": _at_least("queue.active_messages", 1),
        "default_destination_concurrency_limit": _at_least("delivery.concurrency", 1),
        "smtp_destination_concurrency_limit": _at_least("delivery.concurrency", 1),
        "initial_destination_concurrency": _at_least("delivery.initial_concurrency", 1),
        "default_destination_recipient_limit": _at_least("delivery.recipients_per_transaction", 1),
        "smtp_destination_recipient_limit": _at_least("delivery.recipients_per_transaction", 1),
        "smtp_destination_rate_delay": _left("'elemta destination limit' slows a destination down"),
        "default_destination_rate_delay": _left("'elemta destination limit' slows a destination down"),
        "smtp_connection_cache_on_demand": _nothing("connections are kept for delivery.idle"),
        "smtp_connection_cache_destinations": _nothing("connections are kept for delivery.idle"),
        "smtp_bind_address": _address("delivery.source_ipv4"),
        "smtp_bind_address6": _address("delivery.source_ipv6"),
        "smtp_mx_address_limit": _at_least("delivery.mx_hosts", 1),
        "smtp_address_preference": _nothing("addresses are tried side by side (RFC 8305)"),
        "smtp_helo_name": _left("hostname is what we say in EHLO"),
        "smtp_sasl_auth_enable": _nothing("with relayhost"),
        "smtp_sasl_password_maps": _left("set username and password_file of the route"),
        "smtp_sasl_security_options": _nothing("the best mechanism that both can do"),
        "smtp_sasl_tls_security_options": _nothing("the best mechanism that both can do"),
        "smtp_sasl_mechanism_filter": _nothing("the best mechanism that both can do"),
        "fallback_relay": _left("a further host of the route is not known"),
        "smtp_fallback_relay": _left("a further host of the route is not known"),
        "soft_bounce": _left("'elemta queue hold' keeps mail while you try something"),
        # addresses
        "alias_maps": _left(_LATER, "domains.recipients"),
        "alias_database": _nothing("the file of domains.recipients needs no index"),
        "virtual_alias_maps": _left(_LATER, "domains.recipients"),
        "virtual_mailbox_maps": _left(_LATER, "domains.recipients"),
        "local_recipient_maps": _left(_LATER, "domains.recipients"),
        "relay_recipient_maps": _left(_LATER, "domains.recipients"),
        "luser_relay": _left("a line '@domain: target' in the file of domains.recipients"),
        "canonical_maps": _left(_PLUGIN),
        "sender_canonical_maps": _left(_PLUGIN),
        "recipient_canonical_maps": _left(_PLUGIN),
        "smtp_generic_maps": _left(_PLUGIN),
        "masquerade_domains": _left(_PLUGIN),
        "always_bcc": _left(_PLUGIN),
        "sender_bcc_maps": _left(_PLUGIN),
        "recipient_bcc_maps": _left(_PLUGIN),
        "sender_dependent_relayhost_maps": _left(_PLUGIN),
        "sender_dependent_default_transport_maps": _left(_PLUGIN),
        "append_dot_mydomain": _nothing("submission.domain completes addresses"),
        "append_at_myorigin": _nothing("submission.domain completes addresses"),
        "swap_bangpath": _nothing("no"),
        # content
        "content_filter": _left(_PLUGIN),
        "header_checks": _left(_PLUGIN),
        "mime_header_checks": _left(_PLUGIN),
        "nested_header_checks": _left(_PLUGIN),
        "body_checks": _left(_PLUGIN),
        "smtp_header_checks": _left(_PLUGIN),
        "smtpd_milters": Parameter("built-in checks, plugins", _milters),
        "non_smtpd_milters": Parameter("built-in checks, plugins", _milters),
        "milter_default_action": _nothing("on_error of a plugin"),
        "milter_protocol": _nothing("no milters"),
        "milter_mail_macros": _nothing("no milters"),
        "policyd-spf_time_limit": _nothing("policy.spf.timeout"),
        "postgrey_time_limit": _nothing("greylisting is built in"),
        "smtpd_restriction_classes": _left(_PLUGIN),
        "mailbox_command": _left("deliver by LMTP or into maildirs"),
        # what has no counterpart
        "compatibility_level": _nothing("no"),
        "biff": _nothing("no"),
        "readme_directory": _nothing("no"),
        "html_directory": _nothing("no"),
        "manpage_directory": _nothing("no"),
        "sample_directory": _nothing("no"),
        "command_directory": _nothing("no"),
        "daemon_directory": _nothing("no"),
        "data_directory": _nothing("state_dir"),
        "queue_directory": _nothing("state_dir; Postfix's queue is not read: let it run dry"),
        "meta_directory": _nothing("no"),
        "shlib_directory": _nothing("no"),
        "mail_owner": _nothing("the user of the systemd unit"),
        "setgid_group": _nothing("no"),
        "default_privs": _nothing("no"),
        "mail_spool_directory": _nothing("mailboxes are maildirs, or somebody else's"),
        "sendmail_path": _nothing("'elemta send'"),
        "newaliases_path": _nothing("no"),
        "mailq_path": _nothing("'elemta queue list'"),
        "debug_peer_level": _nothing("no"),
        "debugger_command": _nothing("no"),
        "unknown_local_recipient_reject_code": _nothing("550 5.1.1"),
        "smtpd_banner": _nothing("220 with hostname"),
        "mail_name": _nothing("no"),
        "syslog_name": _nothing("[logging]"),
        "maillog_file": _nothing("[logging]: to standard error, which systemd keeps"),
        "enable_original_recipient": _nothing("no"),
        "address_verify_negative_cache": _nothing("addresses are not verified by probes"),
        **{name: Parameter("[policy]", translate_restrictions) for name in LISTS},
    }
)
"""By name. What is not in it is named as unknown."""
