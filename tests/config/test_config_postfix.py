"""Postfix's files become ours: what is translated is taken by our parser, what is not is named with its line."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elemta.config import Config, ListenerAuth, ListenerRole, ListenerTls, RouteTls, parse_config
from elemta.config.postfix import PARAMETERS, PostfixSyntaxError, Translation, translate
from elemta.config.postfix.files import expand, logical_lines, read_main, read_master, split_list
from elemta.config.postfix.restrictions import LISTS

HERE = Path(__file__).parent / "postfix"
DOCS = Path(__file__).parents[2] / "docs" / "migration-postfix.md"
TABLES = {
    "/etc/mailname": "example.org\n",
    "/etc/postfix/relay_domains": "# ours\nexample.net OK\n.example.net OK\n",
    "/etc/postfix/transport": """
*                 discard:
.example.net      smtp:[10.0.0.2]:2525
boss@example.com  lmtp:inet:10.0.0.3:24
example.com       smtp:inner.example.com
fax.example.com   fax:
gone.example.com  error:no longer here
old.example.com   :
@bad              smtp:[10.0.0.9]
""",
}


def translated(main: str, master: str | None = None, host: str = "host.example.org") -> Translation:
    return translate(main, master, main_file="main.cf", master_file="master.cf", host=host, read=TABLES.get)


def read(name: str, master: str | None = None) -> tuple[Translation, Config]:
    made = translated((HERE / name).read_text(), (HERE / master).read_text() if master is not None else None)
    assert made.problems == ()
    return made, parse_config(made.text, "elemta.toml")


def remarks(made: Translation, name: str) -> list[str]:
    return [str(each) for each in made.remarks if each.name == name]


def test_a_mailbox_server() -> None:
    _made, config = read("mailbox.main.cf", "mailbox.master.cf")
    assert config.hostname == "mail.example.org"
    assert [str(each) for each in config.domains.local] == ["mail.example.org", "example.org", "example.net"]
    assert [str(each) for each in config.relay.networks] == ["127.0.0.0/8", "::1/128", "192.0.2.10/32"]
    assert [(each.name, str(each.address), each.role, each.tls, each.auth) for each in config.listeners] == [
        ("mx", ":25", ListenerRole.MX, ListenerTls.STARTTLS, ListenerAuth.OFF),
        ("submission", ":587", ListenerRole.SUBMISSION, ListenerTls.STARTTLS, ListenerAuth.REQUIRED),
        ("submissions", ":465", ListenerRole.SUBMISSION, ListenerTls.IMPLICIT, ListenerAuth.REQUIRED),
        ("port-10025", "127.0.0.1:10025", ListenerRole.MX, ListenerTls.STARTTLS, ListenerAuth.OPTIONAL),
    ]
    assert str(config.tls.certificate) == "/etc/letsencrypt/live/mail.example.org/fullchain.pem"
    assert str(config.submission.domain) == "example.org"
    assert config.domains.delimiter == "+"
    limits = config.limits
    assert (limits.message_size, limits.recipients, limits.errors) == (52428800, 100, 10)
    assert (limits.soft_errors, limits.sessions_per_client) == (5, 20)
    queue = config.queue
    assert (queue.lifetime, queue.bounce_lifetime, queue.delay_notice) == (3 * 86400, 86400, 4 * 3600)
    assert queue.retry == (600.0, 1200.0, 2400.0, 4800.0, 7200.0)
    assert config.timeouts.connect == 20.0
    by_match = {str(each.match): each for each in config.routes}
    assert (by_match["example.org"].host, by_match["example.org"].port) == ("127.0.0.1", 24)
    assert by_match["mail.example.org"].path == "/var/mail/{domain}/{local_part}"
    assert by_match["*"].tls is RouteTls.DANE
    policy = config.policy
    assert [str(each.zone) for each in policy.dns_lists.zones] == ["zen.spamhaus.org", "bl.example.net"]
    assert (policy.dns_lists.action, policy.domain_lists.action) == ("refuse", "refuse")
    assert (policy.reverse_dns.action, policy.reverse_dns.require) == ("refuse", "name")
    assert (policy.hello.unqualified, policy.greylist.action) == ("note", "defer")
    assert (policy.early_talkers, policy.greeting_delay) == ("refuse", 3.0)
    assert [(each.count, str(each.limit)) for each in policy.rates] == [("messages", "100/1m")]
    assert config.auth.stores == ("users",)


def test_what_a_mailbox_server_has_to_do_by_hand_is_named_with_its_line() -> None:
    made, _ = read("mailbox.main.cf", "mailbox.master.cf")
    assert remarks(made, "virtual_alias_maps") == [
        (
            "main.cf:31: virtual_alias_maps: is not translated; "
            "write the addresses into the file of domains.recipients"
        )
    ]
    assert not any("localhost" in each for each in remarks(made, "mydestination"))
    [milters] = remarks(made, "smtpd_milters")
    assert milters.startswith("main.cf:54: smtpd_milters: inet:localhost:8891 is not asked; SPF, DKIM")
    [access] = [each for each in remarks(made, "smtpd_recipient_restrictions") if "access" in each]
    assert access.startswith("main.cf:45: smtpd_recipient_restrictions: check_recipient_access hash:")
    assert any("greylisting is built in" in each for each in remarks(made, "smtpd_recipient_restrictions"))
    assert any("socket private/dovecot-lmtp" in each for each in remarks(made, "virtual_transport"))
    assert remarks(made, "archive") == [
        "master.cf:23: archive: pipes are not translated; deliver by LMTP, or write a plugin"
    ]
    assert remarks(made, "maildrop") == []
    assert next(each for each in made.remarks if each.name == "content_filter").place == "master.cf:14"
    for remark in made.remarks:
        assert f": {remark}" in made.text


def test_a_gateway() -> None:
    _made, config = read("gateway.main.cf")
    assert [str(each) for each in config.domains.relay] == ["example.com", "example.net", "*.example.net"]
    assert config.domains.local == ()
    assert [str(each) for each in config.relay.networks] == ["10.0.0.0/8"]
    assert [(str(each.match), str(each.transport), each.host, each.port) for each in config.routes] == [
        ("boss@example.com", "lmtp", "10.0.0.3", 24),
        ("example.com", "smtp", "inner.example.com", None),
        ("old.example.com", "smtp", None, None),
        ("*.example.net", "smtp", "10.0.0.2", 2525),
        ("*", "discard", None, None),
    ]
    assert [str(each.address) for each in config.listeners] == ["192.0.2.25:25", "127.0.0.1:25"]
    assert config.tls.minimum_version == "1.3"
    assert (str(config.tls.key), str(config.tls.certificate)) == ("/etc/tls/key.pem", "/etc/tls/chain.pem")
    assert (config.delivery.ipv6, config.delivery.source_ipv4) == (False, "192.0.2.25")
    assert config.delivery.concurrency == 40


def test_nothing_dangerous_or_senseless_is_taken_over() -> None:
    made, _ = read("gateway.main.cf")
    assert "main.cf:4: mynetworks: 0.0.0.0/0 would make an open relay; " in "\n".join(
        remarks(made, "mynetworks")
    )
    assert "'cidr:/etc/postfix/clients' is no network" in "\n".join(remarks(made, "mynetworks"))
    assert "0 is no limit" in remarks(made, "message_size_limit")[0]
    assert "'many' is no number" in remarks(made, "hopcount_limit")[0]
    assert "ldap:/etc/postfix/ldap.cf cannot be read as text" in "\n".join(remarks(made, "transport_maps"))
    assert "'fax' is not translated" in remarks(made, "transport_maps fax.example.com")[0]
    assert "/etc/postfix/transport:6: " in remarks(made, "transport_maps fax.example.com")[0]
    assert "transport_maps has a line for all" in remarks(made, "relayhost")[0]
    assert remarks(made, "smtp-amavis_destination_recipient_limit")
    assert not remarks(made, "site"), "it was filled in where it is named"


@pytest.mark.parametrize(
    ("main", "said"),
    [
        ("relayhost = [a.example]:465", "TLS from the begin is not spoken"),
        ("relayhost = a.example", "Postfix asks for the MX of a.example"),
        ("relay_domains = !a.example", "exceptions are not translated"),
        ("mynetworks_style = subnet", "'subnet' is not translated"),
        ("smtpd_recipient_restrictions = reject_unknown_sender_domain", "a plugin can ask"),
        ("smtpd_recipient_restrictions = what_is_this", "what_is_this is not known"),
        ("smtpd_client_restrictions = check_client_access cidr:/x", "check_client_access cidr:/x"),
        ("smtpd_client_restrictions = reject_rbl_client a..b", "is no zone"),
        ("queue_lifetime = 3", "is not translated; see docs/migration-postfix.md"),
        ("maximal_queue_lifetime = soon", "'soon' is no time"),
        ("smtp_quit_timeout = 0", "0 is no time limit"),
        ("smtpd_tls_protocols = !SSLv2, !SSLv3", "TLS before 1.2 is not spoken"),
        ("error_notice_recipient = postmaster", "name a whole address"),
    ],
)
def test_each_remark_names_the_line_and_what_to_do(main: str, said: str) -> None:
    made = translated(f"# a comment\nmyhostname = a.example.org\n{main}\n")
    assert made.problems == ()
    assert any(said in str(each) and each.place == "main.cf:3" for each in made.remarks), made.remarks


def test_a_relay_host_takes_what_nothing_else_does() -> None:
    made = translated(
        "relayhost = [smtp.provider.example]:587\nsmtp_sasl_auth_enable = yes\n"
        "smtp_tls_security_level = encrypt\n"
    )
    [route] = [each for each in parse_config(made.text, "f").routes if str(each.match) == "*"]
    assert (route.host, route.port, route.tls) == ("smtp.provider.example", 587, RouteTls.REQUIRED)
    assert any("login of smtp_sasl_password_maps" in each for each in remarks(made, "relayhost"))


def test_without_a_certificate_nobody_logs_in_in_the_clear() -> None:
    made = translated("myhostname = a.example.org\nsmtpd_sasl_auth_enable = yes\n")
    config = parse_config(made.text, "f")
    assert {(each.tls, each.auth) for each in config.listeners} == {(ListenerTls.OFF, ListenerAuth.OFF)}
    assert any("no certificate is named" in str(each) for each in made.remarks)


def test_a_name_that_is_none_is_asked_for() -> None:
    for main, host in (("", "vm"), ("myhostname = vm\n", "vm")):
        made = translated(main, host=host)
        assert parse_config(made.text, "f").hostname == "mx.example.org"
        assert any("set it to the name" in str(each) for each in made.remarks)
    assert parse_config(translated("").text, "f").hostname == "host.example.org"


def test_strange_values_are_told_and_not_hidden() -> None:
    made = translated("myhostname = a.example.org\nsmtpd_tls_cert_file = /a\nrelayhost = [a b]\n")
    assert made.problems
    assert "elemta.toml:" in made.problems[0]


@pytest.mark.parametrize("text", ["nonsense\n", "= x\n", "a b = c\n"])
def test_what_is_no_setting_is_an_error_with_its_line(text: str) -> None:
    with pytest.raises(PostfixSyntaxError, match=r"^main\.cf:2: "):
        translated("a = b\n" + text)
    with pytest.raises(PostfixSyntaxError, match=r"^master\.cf:1: "):
        translated("", "smtp inet n\n")


def test_lines_go_on_and_comments_stand_between() -> None:
    text = "a = 1,\n# no\n  2,\n\n\t3\nb=\n  #no\n c = 4\nd = 5"
    assert list(logical_lines(text)) == [(1, "a = 1, 2, 3"), (6, "b= c = 4"), (9, "d = 5")]
    found = read_main("x = 1\r\nx = 2\r\n", "f")
    assert (found["x"].value, found["x"].line) == ("2", 2)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("$a-${b}-$(c)", "1-two-"),
        ("$$a", "$a"),
        ("${a?yes}${z?no}${z:else}${a:not}", "yeselse"),
        ("${a?{yes}}", "yes"),
        ("$deep", "1!"),
        ("$none", ""),
    ],
)
def test_values_are_filled_in(value: str, expected: str) -> None:
    assert expand(value, {"a": "1", "b": "two", "deep": "$a!"}) == expected


def test_a_value_that_names_itself_ends() -> None:
    assert isinstance(expand("$a", {"a": "$a $a"}), str)


def test_options_of_a_service() -> None:
    [service] = read_master(
        "587 inet n - y - - smtpd\n  -o a=b\n  -o { c = d, e }\n  -of=g -v\n", "master.cf"
    )
    assert [(each.name, each.value) for each in service.options] == [("a", "b"), ("c", "d, e"), ("f", "g")]
    assert service.arguments == ("-v",)
    assert split_list("a, b {c, d} e") == ["a", "b", "c d", "e"]


@given(st.text(max_size=200), st.text(max_size=200))
@settings(deadline=None, max_examples=100)
def test_any_text_is_translated_or_refused(main: str, master: str) -> None:
    try:
        made = translated(main, master)
    except PostfixSyntaxError:
        return
    if not made.problems:
        parse_config(made.text, "f")


@given(st.dictionaries(st.sampled_from(sorted(PARAMETERS)), st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)))  # fmt: skip
@settings(deadline=None, max_examples=150)
def test_any_values_of_known_parameters_make_toml(values: dict[str, str]) -> None:
    made = translated("".join(f"{name} = {value}\n" for name, value in values.items()))
    if not made.problems:
        parse_config(made.text, "f")


@pytest.mark.parametrize("name", ["main.cf.debian", "main.cf.dist", "main.cf.tls"])
def test_the_files_of_the_package_are_translated(name: str) -> None:
    path = Path("/usr/share/postfix") / name
    if not path.exists():
        assert not Path("/usr/share/postfix").exists(), f"postfix without {name}"
        return  # the shape of these files is in the folder beside; this is for the real ones
    assert translated(path.read_text()).problems == ()


def test_what_postconf_prints_is_translated() -> None:
    if shutil.which("postconf") is None:
        assert not Path("/etc/postfix/main.cf").exists()
        return
    done = subprocess.run(["postconf", "-n"], check=True, capture_output=True, text=True, timeout=20)
    master = Path("/etc/postfix/master.cf")
    made = translated(done.stdout, master.read_text() if master.exists() else None)
    assert made.problems == ()
    assert 'role = "mx"' in made.text


def parameter_table() -> str:
    """The table of the documentation."""
    rows = ["| parameter | becomes | by hand |", "| --- | --- | --- |"]
    for name, each in sorted(PARAMETERS.items(), key=lambda item: item[0].lower()):
        into = "see below" if name in LISTS else each.into
        rows.append(f"| `{name}` | {into} | {each.remedy or '–'} |")
    return "\n".join(rows)


def test_the_documentation_has_each_parameter() -> None:
    text = DOCS.read_text()
    assert parameter_table() in text, "write the table of parameter_table() into docs/migration-postfix.md"
    assert not re.search(r"\bTODO\b", text)
