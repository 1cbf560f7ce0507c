"""From TOML to the configuration, and everything that can be wrong on the way."""

# tables with one case on each line

import errno
import os
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elemta.config import (
    Config,
    ConfigError,
    ConfigProblem,
    HostPort,
    LineEndPolicy,
    ListenerRole,
    NulPolicy,
    TransportKind,
    example_config,
    load_config,
    parse_config,
)
from elemta.mail import Domain

MINIMAL = 'hostname = "mx.example.org"\n'


def problems(text: str) -> list[ConfigProblem]:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "f")
    return list(caught.value.problems)


def problems_if_any(text: str) -> tuple[ConfigProblem, ...]:
    try:
        parse_config(text, "f")
    except ConfigError as error:
        return error.problems
    return ()


def said(text: str) -> list[str]:
    return [str(problem) for problem in problems(text)]


def test_everything_but_the_host_name_has_a_default() -> None:
    assert parse_config(MINIMAL, "f") == Config(hostname="mx.example.org")


def test_settings_become_values() -> None:
    config = parse_config(
        MINIMAL
        + """
        state_dir = "/var/lib/elemta"
        postmaster = "Me@example.org"
        [[listeners]]
        name = "a"
        address = "[::1]:24"
        role = "lmtp"
        [domains]
        local = ["Example.ORG"]
        [[routes]]
        match = "example.org"
        transport = "lmtp"
        host = "127.0.0.1"
        [queue]
        retry = ["1s", "2m"]
        retry_jitter = 0
        [limits]
        message_size = "1MiB"
        header_size = 5000
        line_ends = "repair"
        nul = "repair"
        [timeouts]
        session = "1h30m"
        """,
        "f",
    )
    assert config.state_dir == Path("/var/lib/elemta")
    assert config.postmaster == "Me@example.org"
    assert config.listeners[0].address == HostPort("::1", 24)
    assert config.listeners[0].role is ListenerRole.LMTP
    assert config.domains.local == (Domain("example.org"),)
    assert config.routes[0].transport is TransportKind.LMTP
    assert config.queue.retry == (1.0, 120.0)
    assert config.queue.retry_jitter == 0.0
    assert type(config.queue.retry_jitter) is float
    assert (config.limits.message_size, config.limits.header_size) == (1 << 20, 5000)
    assert config.limits.line_ends is LineEndPolicy.REPAIR
    assert config.limits.nul is NulPolicy.REPAIR
    assert config.timeouts.session == 5400.0


# Each: what follows the host name (line 1, so this begins at line 2), and the one problem it makes.
SINGLE_MISTAKES = [
    # unknown
    ('statedir = "x"', "f:2: statedir: unknown setting; did you mean 'state_dir'?"),
    ("zzzzzz = 1", "f:2: zzzzzz: unknown setting"),
    ("[limit]\nx = 1", "f:2: limit: unknown setting; did you mean 'limits'?"),
    ("[limits]\nrecipient = 1", "f:3: limits.recipient: unknown setting; did you mean 'recipients'?"),
    ("limits.recipient = 1", "f:2: limits.recipient: unknown setting; did you mean 'recipients'?"),
    ("[limits]\nRecipients = 1", "f:3: limits.Recipients: unknown setting; did you mean 'recipients'?"),
    ('[limits]\n"a b" = 1', "f:3: limits.'a b': unknown setting"),
    (
        '[limits]\nstate_dir = "x"',
        "f:3: limits.state_dir: unknown setting here; it belongs at the top, above the first [section]",
    ),
    ("message_size = 1", "f:2: message_size: unknown setting here; it belongs in [[listeners]] or in [limits]"),
    ("limits = {dns = {}}", "f:2: limits.dns: unknown setting here; it belongs at the first level, as [dns]"),
    ('[domains]\nmatch = "x"', "f:3: domains.match: unknown setting here; it belongs in [[routes]]"),
    # wrong types
    ("state_dir = 5", 'f:2: state_dir: expected a path, not the integer 5; write "5" in quotes'),
    ("state_dir = 1979-05-27", "f:2: state_dir: expected a path, not a date or time"),
    ("state_dir = {}", "f:2: state_dir: expected a path, not a table"),
    ("state_dir = []", "f:2: state_dir: expected a path, not an array"),
    (
        '[limits]\nrecipients = "700"',
        "f:3: limits.recipients: expected an integer, not the string '700'; write 700 without quotes",
    ),
    ('[limits]\nrecipients = "many"', "f:3: limits.recipients: expected an integer, not the string 'many'"),
    ('[limits]\nrecipients = "7.5"', "f:3: limits.recipients: expected an integer, not the string '7.5'"),
    ('[queue]\nretry_jitter = "0.2"', "f:3: queue.retry_jitter: expected a number, not the string '0.2'; write 0.2 without quotes"),
    ("[limits]\nrecipients = true", "f:3: limits.recipients: expected an integer, not the boolean true"),
    ("[limits]\nrecipients = 700.0", "f:3: limits.recipients: expected an integer, not the number 700.0"),
    ("[limits]\nmessage_size = 1e6", 'f:3: limits.message_size: expected a size such as "50MiB", not the number'),
    ("[limits]\nline_ends = 1", "f:3: limits.line_ends: expected one of reject, repair, not the integer 1"),
    ("[delivery]\nipv6 = 1", "f:3: delivery.ipv6: expected true or false, not the integer 1; write true or false"),
    ('[delivery]\nipv6 = "True"', "f:3: delivery.ipv6: expected true or false, not the string 'True'; write true wit"),
    ("[delivery]\nipv6 = 1.5", "f:3: delivery.ipv6: expected true or false, not the number 1.5"),
    ("[queue]\nlifetime = 300", 'f:3: queue.lifetime: expected a duration such as "5m", not the integer 300; write "300s" for seconds'),
    ("[queue]\nlifetime = 1.5", 'f:3: queue.lifetime: expected a duration such as "5m", not the number 1.5; write "1s500ms"'),
    ("[queue]\nlifetime = -3", 'f:3: queue.lifetime: expected a duration such as "5m", not the integer -3; write it like'),
    ('[queue]\nlifetime = "300"', "f:3: queue.lifetime: '300' has no unit; write \"300s\" for seconds"),
    ('[relay]\nnetworks = "10.0.0.0/8"', "f:3: relay.networks: expected an array, not the string '10.0.0.0/8'; write [\"10.0.0.0/8\"]"),
    ("limits = 5", "f:2: limits: expected a table, not the integer 5"),
    ('[[tls]]\nkey = "x"', "f:2: tls: expected a table, not an array; write its header with single brackets"),
    ("tls = []", "f:2: tls: expected a table, not an array"),
    ('[routes]\nmatch = "*"', "f:2: routes: expected an array, not a table; write its header with double brackets"),
    ("routes = 5", "f:2: routes: expected an array, not the integer 5"),
    ("routes = [\n5]", "f:3: routes[0]: expected a table, not the integer 5"),
    # values
    ('[[listeners]]\nname = "a"\naddress = ":25"\nrole = "submision"', "f:5: listeners[0].role: 'submision' is not one of mx, submission, lmtp; did you mean 'submission'?"),
    ('[[listeners]]\nname = "a"\naddress = ":25"\nrole = "MX"', "f:5: listeners[0].role: 'MX' is not one of mx, submission, lmtp; did you mean 'mx'?"),
    ('[[listeners]]\nname = "a"\naddress = "localhost:25"', "f:4: listeners[0].address: 'localhost:25' is not an address with a port; names are not looked up"),
    ('[[listeners]]\nname = "a b"\naddress = ":25"', "f:3: listeners[0].name: 'a b' is not a name"),
    ('listeners = [{name = "a", address = ":0"},\n{name = "b", address = 5}]', "f:3: listeners[1].address: expected an address"),
    ('[relay]\nnetworks = [\n  "10.0.0.0/8",\n  # here\n  "10.0.0.1/8",\n]', "f:6: relay.networks[1]: '10.0.0.1/8' has bits set behind its prefix; write \"10.0.0.0/8\""),
    ('[domains]\nrelay = [\n"*"]', "f:4: domains.relay[0]: '*' would take every domain"),
    ('[dns]\nnameservers = [":53"]', "f:3: dns.nameservers[0]: ':53' cannot be asked; write an address and its port"),
    ('[dns]\nnameservers = ["127.0.0.1:0"]', "f:3: dns.nameservers[0]: '127.0.0.1:0' cannot be asked"),
    ('postmaster = "me"', "f:2: postmaster: 'me' is not an address: no domain in the address"),
    ("[queue]\nretry_jitter = nan", "f:3: queue.retry_jitter: nan is not a number one can use"),
    # missing
    ('[[listeners]]\nname = "a"', "f:2: listeners[0].address: is required"),
    ('[[routes]]\nhost = "a.example"', "f:2: routes[0].match: is required"),
    # ranges
    ("[limits]\nrecipients = 99", "f:3: limits.recipients: 99 is less than 100 (RFC 5321 4.5.3.1.8)"),
    ("[limits]\ncommand_line = 511", "f:3: limits.command_line: 511 is less than 512 (RFC 5321 4.5.3.1.4)"),
    ("[limits]\ncommand_line = 65537", "f:3: limits.command_line: 65537 is more than 65536"),
    ("[limits]\nmessage_size = 1024", "f:3: limits.message_size: 1KiB is less than 64KiB (RFC 5321 4.5.3.1.7)"),
    ("[limits]\nmessage_size = -1", "f:3: limits.message_size: -1 is not a size; it cannot be negative"),
    ("[limits]\nmessage_size = 0x7fffffffffffffff", "f:3: limits.message_size: 9223372036854775807 is larger than 1024TiB"),
    ("[limits]\ntext_line = 998", "f:3: limits.text_line: 998 is less than 1000 or 0 (RFC 5321 4.5.3.1.6)"),
    ("[limits]\nsessions = 0", "f:3: limits.sessions: 0 is less than 1"),
    (f"[limits]\nsessions = 0x{'f' * 5000}", "f:3: limits.sessions: a number beyond 64 bits is too large"),
    ("[queue]\nactive_messages = 0", "f:3: queue.active_messages: 0 is less than 1"),
    ("[queue]\nactive_bytes = 0", "f:3: queue.active_bytes: 0 is less than 1"),
    ("[queue]\nretry_jitter = 0.6", "f:3: queue.retry_jitter: 0.6 is more than 0.5"),
    ("[queue]\nretry_jitter = -0.1", "f:3: queue.retry_jitter: -0.1 is less than 0"),
    ('[queue]\nretry = [\n"5m",\n"0s"]', "f:5: queue.retry[1]: 0s is less than 1s"),
    ('[timeouts]\ncommand = "-5s"', "f:3: timeouts.command: '-5s' is not a duration; it cannot be negative"),
    ('[timeouts]\ncommand = "0s"', "f:3: timeouts.command: 0s is less than 1ms"),
    ("[delivery]\nport = 65536", "f:3: delivery.port: 65536 is more than 65535"),
    ("[delivery]\nmax_hops = 1", "f:3: delivery.max_hops: 1 is less than 10"),
    # open relay
    ('[relay]\nnetworks = ["::1/128", "0.0.0.0/0"]', "f:3: relay.networks[1]: 0.0.0.0/0 would make this an open relay"),
    ('[relay]\nnetworks = ["::/0"]', "f:3: relay.networks[0]: ::/0 would make this an open relay"),
    ('[relay]\nnetworks = ["128.0.0.0/1"]', "f:3: relay.networks[0]: 128.0.0.0/1 would make this an open relay"),
    ('[relay]\nnetworks = ["2000::/3"]', "f:3: relay.networks[0]: 2000::/3 would make this an open relay"),
    # not in this version
    ('[[listeners]]\nname = "a"\naddress = ":25"\nauth = "required"', "f:5: listeners[0].auth: 'required' needs accounts, and there is no users file"),
    ('[[listeners]]\nname = "a"\naddress = ":25"\nmessage_size = "100MiB"', "f:5: listeners[0].message_size: 100MiB is more than limits.message_size (50MiB)"),
    ('[[listeners]]\nname = "a"\naddress = ":25"\nproxy_protocol = true\n[proxies]\nproxy_protocol = []', "f:5: listeners[0].proxy_protocol: no network may send a PROXY header; name the load balancers in proxies.proxy_protocol"),
    ('[proxies]\nxclient = ["0.0.0.0/0"]', "f:3: proxies.xclient[0]: 0.0.0.0/0 would make this an open relay"),
    ('[[routes]]\nmatch = "*"\ntransport = "pipe"', 'f:2: routes[0]: a pipe route needs a command; add command = ["/usr/local/bin/program", "{recipient}"]'),
    ('[[routes]]\nmatch = "*"\ntransport = "pipe"\ncommand = ["cat"]', "f:5: routes[0].command: 'cat' is no whole path of a program; no search path is looked at, and no shell"),
    ('[[routes]]\nmatch = "*"\ntransport = "pipe"\ncommand = ["/bin/x", "{user}"]', "f:5: routes[0].command[1]: '{user}' is not known; did you mean 'sender'?"),
    ('[[routes]]\nmatch = "*"\ntransport = "http"', 'f:2: routes[0]: an http route needs a url; add url = "https://app.example.org/mail"'),
    ('[[routes]]\nmatch = "*"\ntransport = "http"\nurl = "http://app.example.org/"', "f:5: routes[0].url: 'http://app.example.org/' shows secrets on the way; use https; http is for this machine only"),
    ('[[routes]]\nmatch = "*"\ntransport = "discard"\nkey_file = "k"', "f:5: routes[0].key_file: means nothing to the transport discard; it belongs to http: remove it"),
    ('\n[auth]\nmechanisms = ["PLAIN", "PLAN"]', "f:4: auth.mechanisms[1]: 'PLAN' is not one of SCRAM-SHA-256-PLUS, SCRAM-SHA-256, PLAIN, LOGIN, EXTERNAL, OAUTHBEARER, XOAUTH2, CRAM-MD5; did you mean 'PLAIN'?"),
    ('[policy.spf]\naction = "reject"', "f:3: policy.spf.action: 'reject' is not one of off, note, quarantine, defer, refuse"),
    ("[[plugins]]\nname = 'a'\nx = 1", "f:4: plugins[0].x: unknown setting"),
    ("[[plugins]]\nname = 'a'\nconfig = 1", "f:4: plugins[0].config: expected a table, not the integer 1"),
    ("[[plugins]]\nname = 'a'\nconfig = { since = 2026-01-01 }", "f:4: plugins[0].config: dates and times are no settings; write it as a string"),
    ("[[plugins]]\nname = 'a'\n[[plugins]]\nname = 'a'", "f:5: plugins[1].name: 'a' is already the name of plugins[0]; give each plugin its own"),
    ("[[plugins]]\nname = 'a'\npath = 'p'\nmodule = 'm'", "f:5: plugins[0].module: a plugin has a path or a module, not both"),
    ("[[plugins]]\nname = 'a'\nafter = ['a']", "f:4: plugins[0].after: there is no other plugin 'a'"),
    ("[[plugins]]\nname = 'a'\nlisteners = ['b']", "f:4: plugins[0].listeners: there is no listener 'b'"),
    # contradictions
    ('[[listeners]]\nname = "a"\naddress = ":25"\n[[listeners]]\nname = "a"\naddress = ":26"', "f:6: listeners[1].name: 'a' is already the name of listeners[0]"),
    ('[[listeners]]\nname = "a"\naddress = "[::1]:25"\n[[listeners]]\nname = "b"\naddress = "[0::1]:25"', "f:7: listeners[1].address: [::1]:25 is already the address of listeners[0]"),
    ('[[listeners]]\nname = "a"\naddress = ":25"\n[[listeners]]\nname = "b"\naddress = "127.0.0.1:25"', "f:7: listeners[1].address: 127.0.0.1:25 overlaps with :25 of listeners[0]"),
    ('[[listeners]]\nname = "a"\naddress = "127.0.0.1:25"\n[[listeners]]\nname = "b"\naddress = "0.0.0.0:25"', "f:7: listeners[1].address: 0.0.0.0:25 overlaps with 127.0.0.1:25 of listeners[0]"),
    ('[[listeners]]\nname = "a"\naddress = "127.0.0.1:25"\n[admin]\naddress = "127.0.0.1:25"', "f:6: admin.address: 127.0.0.1:25 is already the address of listeners[0]"),
    ('[[listeners]]\nname = "a"\naddress = ":25"\ntls = "starttls"', "f:5: listeners[0].tls: 'starttls' needs a certificate and a key; set both in [tls]"),
    ('[[listeners]]\nname = "a"\naddress = ":25"\ntls = "implicit"\n[tls]', "f:5: listeners[0].tls: 'implicit' needs a certificate and a key"),
    ('[tls]\n[[tls.certificates]]\ncertificate = "c"\nkey = "k"', "f:3: tls.certificates: clients that ask for none of these names need a certificate too; set tls.certificate and tls.key"),
    ('[[listeners]]\nname = "a"\naddress = ":25"\nclient_certificates = true\n[tls]\nclient_authorities = "ca"', 'f:5: listeners[0].client_certificates: certificates are shown over TLS; set tls = "starttls"'),
    ('[[listeners]]\nname = "a"\naddress = ":25"\nclient_certificates = true\ntls = "starttls"\n[tls]\ncertificate = "c"\nkey = "k"', "f:5: listeners[0].client_certificates: nothing says which certificates of clients are good; set tls.client_authorities"),
    ('[tls]\nminimum_version = "1.1"', "f:3: tls.minimum_version: '1.1' is not one of 1.2, 1.3"),
    ('[delivery]\nprohibited_networks = ["10.0.0.1/8"]', "f:3: delivery.prohibited_networks[0]: "),
    ('[tls]\ncertificate = "x"', "f:3: tls.certificate: a certificate needs its key; set tls.key"),
    ('[tls]\nkey = "x"', "f:3: tls.key: a key needs its certificate; set tls.certificate"),
    ('[domains]\nlocal = ["a.example"]', "f:3: domains.local[0]: no route takes a.example: its mail would be sent to its MX, which is this server; add [[routes]] with match = \"a.example\""),
    ('[verification]\ndomains = ["a.example"]', "f:3: verification.domains[0]: a.example is neither in domains.local nor in domains.relay; name domains of ours"),
    ('[srs]\nsecrets = "x"', "f:3: srs.secrets: secrets for senders that are not rewritten; set srs.domain"),
    ('[domains]\nlocal = ["a.example"]\n[[routes]]\nmatch = "*"\ntransport = "discard"\n[srs]\ndomain = "a.example"', "f:8: srs.domain: there is no secret to prove senders by"),
    ('[srs]\ndomain = "a.example"\nsecrets = "x"', "f:3: srs.domain: a.example is not in domains.local"),
    ('[domains]\nlocal = ["a.example"]\n[[routes]]\nmatch = "*.a.example"\ntransport = "discard"', "f:3: domains.local[0]: no route takes a.example"),
    ('[domains]\nlocal = ["a.example"]\n[[routes]]\nmatch = "me@a.example"\ntransport = "discard"', "f:3: domains.local[0]: no route takes a.example"),
    ('[domains]\nlocal = ["a.example"]\n[[routes]]\nmatch = "*"\ntls = "required"', "f:3: domains.local[0]: the route '*' sends a.example to its MX, which is this server"),
    ('[domains]\nlocal = ["a.example"]\n[[routes]]\nmatch = "me@a.example"\n[[routes]]\nmatch = "*"\ntransport = "discard"', "f:5: routes[0].match: sends a local address to the MX of a.example, which is this server"),
    ('[domains]\nlocal = ["a.example",\n"A.example"]\n[[routes]]\nmatch = "*"\ntransport = "discard"', "f:4: domains.local[1]: a.example is listed twice"),
    ('[domains]\nlocal = ["a.example"]\nrelay = ["a.example"]\n[[routes]]\nmatch = "*"\ntransport = "discard"', "f:4: domains.relay[0]: a.example is already in domains.local; a domain is one or the other"),
    ('[[routes]]\nmatch = "*"\ntransport = "maildir"', "f:2: routes[0]: a maildir route needs a path"),
    (
        '[[routes]]\nmatch = "*"\nhost = "relay.example"\nusername = "u"',
        "f:5: routes[0].username: means nothing without password_file",
    ),
    (
        '[[routes]]\nmatch = "*"\nhost = "relay.example"\npassword_file = "secret"',
        "f:5: routes[0].password_file: means nothing without username",
    ),
    (
        '[[routes]]\nmatch = "*"\nusername = "u"\npassword_file = "secret"',
        "f:4: routes[0].username: every mail host of the world would be given that account",
    ),
    (
        '[[routes]]\nmatch = "*"\ntransport = "discard"\nusername = "u"',
        "f:5: routes[0].username: means nothing to the transport discard",
    ),
    ('[[routes]]\nmatch = "*"\ntransport = "lmtp"', "f:2: routes[0]: an lmtp route needs a host"),
    ('[[routes]]\nmatch = "*"\ntransport = "maildir"\npath = "x"\nhost = "a.example"', "f:6: routes[0].host: means nothing to the transport maildir; it belongs to smtp and lmtp: remove it"),
    ('[[routes]]\nmatch = "*"\ntransport = "maildir"\npath = "x"\nport = 24', "f:6: routes[0].port: means nothing to the transport maildir"),
    ('[[routes]]\nmatch = "*"\ntransport = "maildir"\npath = "x"\ntls = "none"', "f:6: routes[0].tls: means nothing to the transport maildir"),
    ('[[routes]]\nmatch = "*"\npath = "x"', "f:4: routes[0].path: means nothing to the transport smtp; it belongs to maildir: remove it"),
    ('[[routes]]\nmatch = "*"\ntransport = "discard"\npath = "x"', "f:5: routes[0].path: means nothing to the transport discard"),
    ('[[routes]]\nmatch = "*"\ntransport = "discard"\n[[routes]]\nmatch = "a.example"', "f:6: routes[1].match: never used: routes[0] (*) takes all of it first"),
    ('[[routes]]\nmatch = "*.example"\n[[routes]]\nmatch = "*.a.example"', "f:5: routes[1].match: never used: routes[0] (*.example) takes all of it first"),
    ('[[routes]]\nmatch = "a.example"\n[[routes]]\nmatch = "me@a.example"', "f:5: routes[1].match: never used: routes[0] (a.example) takes all of it first"),
    ('[domains]\nlocal = ["a.example"]\n[[routes]]\nmatch = "local"\ntransport = "discard"\n[[routes]]\nmatch = "a.example"', "f:8: routes[1].match: never used: routes[0] (local) takes all of it first"),
    ('[domains]\nlocal = ["a.example"]\n[[routes]]\nmatch = "*.example"\ntransport = "discard"\n[[routes]]\nmatch = "local"\ntransport = "discard"', "f:8: routes[1].match: never used: routes[0] (*.example) takes all of it first"),
    ('[domains]\nlocal = ["a.example"]\n[[routes]]\nmatch = "local"', "f:3: domains.local[0]: the route 'local' sends a.example to its MX, which is this server"),
    ('[[routes]]\nmatch = "quarantine"', "f:3: routes[0].match: sends what is quarantined on to the MX of its recipients; give the route a host, or another transport"),
    ('[[routes]]\nmatch = "quarantine"\nhost = "q.example"\n[[routes]]\nmatch = "quarantine"\nhost = "q.example"', "f:6: routes[1].match: never used: routes[0] (quarantine) takes all of it first"),
    ("[queue]\nretry = []", "f:3: queue.retry: is empty"),
    ('[queue]\nlifetime = "4m"', "f:3: queue.lifetime: 4m is shorter than the first wait of queue.retry (5m)"),
    ('[timeouts]\ndrain = "5s"', "f:3: timeouts.drain: 5s leaves no time to finish before timeouts.hard_cancel (5s)"),
    ('[dns]\nmin_ttl = "1h"\nmax_ttl = "1m"', "f:3: dns.min_ttl: 1h is more than dns.max_ttl (1m)"),
    ('[dns]\nquery_timeout = "20s"', "f:3: dns.query_timeout: 20s is more than dns.timeout (15s)"),
    ("[delivery]\nconcurrency = 2\ninitial_concurrency = 3", "f:4: delivery.initial_concurrency: 3 is more than delivery.concurrency (2)"),
    ('[delivery]\nsource_ipv6 = "::1"\nipv6 = false', "f:3: delivery.source_ipv6: is never used while delivery.ipv6 is false"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), SINGLE_MISTAKES)
def test_a_mistake_is_named_with_its_line_path_and_remedy(text: str, message: str) -> None:
    (problem,) = said(MINIMAL + text)
    assert problem.startswith(message)


ALLOWED = [
    # an open submission listener relays nothing: without authentication only relay.networks may
    '[[listeners]]\nname = "a"\naddress = ":587"\nrole = "submission"',
    '[[listeners]]\nname = "a"\naddress = ":0"\n[[listeners]]\nname = "b"\naddress = ":0"',
    '[[listeners]]\nname = "a"\naddress = "0.0.0.0:25"\n[[listeners]]\nname = "b"\naddress = "[::]:25"',
    '[[listeners]]\nname = "a"\naddress = "127.0.0.1:25"\n[[listeners]]\nname = "b"\naddress = "127.0.0.2:25"',
    '[[listeners]]\nname = "a"\naddress = ":25"\ntls = "starttls"\n[tls]\ncertificate = "c"\nkey = "k"',
    '[[listeners]]\nname = "a"\naddress = ":25"\nauth = "off"\nproxy_protocol = false',
    '[domains]\nlocal = ["a.b.example"]\n[[routes]]\nmatch = "*.example"\ntransport = "discard"',
    '[domains]\nlocal = ["a.example"]\n[[routes]]\nmatch = "*"\nhost = "smarthost.example"',
    '[domains]\nlocal = ["a.example"]\nrelay = ["*.a.example"]\n[[routes]]\nmatch = "a.example"\ntransport = "discard"',
    '[[routes]]\nmatch = "me@a.example"\n[[routes]]\nmatch = "a.example"\n[[routes]]\nmatch = "*.a.example"\n[[routes]]\nmatch = "*"',
    '[[routes]]\nmatch = "me@[192.0.2.1]"\n[[routes]]\nmatch = "you@[192.0.2.1]"',
    '[[routes]]\nmatch = "a.example"\nport = 2525',
    '[[routes]]\nmatch = "*"\ntransport = "maildir"\npath = "x"\ntls = "opportunistic"',
    '[relay]\nnetworks = ["10.0.0.0/8", "fc00::/7", "192.0.2.1", "2001:db8::/32"]',
    "[limits]\ntext_line = 0",
    '[queue]\ndelay_notice = "0s"',
    "[spool]\nmin_free = 0\nballast = 0",
]  # fmt: skip


@pytest.mark.parametrize("text", ALLOWED)
def test_what_is_sound_is_accepted(text: str) -> None:
    assert parse_config(MINIMAL + text, "f").hostname == "mx.example.org"


def test_all_mistakes_are_reported_at_once_in_order_of_lines() -> None:
    text = """\
hostnam = "mx.example.org"
[limits]
recipients = 5
command_line = "512"
[[listeners]]
name = "a"
adress = ":25"
tls = "starttls"
[timeouts]
drain = "1s"
[relay]
networks = ["0.0.0.0/0", "10.0.0.1/8"]
"""
    assert [(problem.line, problem.path) for problem in problems(text)] == [
        (1, "hostnam"),
        (1, "hostname"),
        (3, "limits.recipients"),
        (4, "limits.command_line"),
        (5, "listeners[0].address"),
        (7, "listeners[0].adress"),
        (8, "listeners[0].tls"),
        (10, "timeouts.drain"),
        (12, "relay.networks[0]"),
        (12, "relay.networks[1]"),
    ]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        # what a mistaken value would have said is not known, so nothing is held against it
        ('[tls]\ncertificate = 5\nkey = "x"', "tls.certificate"),
        ('[domains]\nlocal = ["a.example"]\n[[routes]]\nmatch = 5\ntransport = "discard"', "routes[0].match"),
        ('[domains]\nlocal = ["a.example", 5]', "domains.local[1]"),
        ('[[routes]]\nmatch = "*"\ntransport = "maildr"\npath = "x"', "routes[0].transport"),
        ('[[routes]]\nmatch = "*"\ntransport = "maildir"\nfolder = "x"', "routes[0].folder"),
        ('[queue]\nretry = ["10d", "x"]', "queue.retry[1]"),
        ('[timeouts]\ndrain = "1s"\nhard_cancel = 1', "timeouts.hard_cancel"),
        ("queue = 5", "queue"),
        ("routes = 5\ndomains.local = ['a.example']", "routes"),
    ],
)
def test_a_mistaken_value_causes_no_second_problem(text: str, path: str) -> None:
    assert [problem.path for problem in problems(MINIMAL + text)] == [path]


def test_a_contradiction_is_found_beside_a_mistake_elsewhere_in_the_same_section() -> None:
    found = problems(MINIMAL + '[dns]\nmin_ttl = "1h"\nmax_ttl = "1m"\ncache_entries = "x"')
    assert [problem.path for problem in found] == ["dns.min_ttl", "dns.cache_entries"]


def test_the_places_of_array_elements_stay_theirs_beside_elements_without_sense() -> None:
    text = 'listeners = [\n5,\n{},\n{name = "a", address = ":1"},\n{name = "a", address = ":2"}]\n'
    assert [(problem.line, problem.path) for problem in problems(MINIMAL + text)] == [
        (3, "listeners[0]"),
        (4, "listeners[1].address"),
        (4, "listeners[1].name"),
        (6, "listeners[3].name"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = ", "f:1: not TOML at the end: Invalid value"),
        ("a = \nb = 1", "f:1: not TOML at column 5: Invalid value"),
        ("a = 1\na = 2\n", "f:2: not TOML at column 6: Cannot overwrite a value"),
        ("[x]\n[x]", "f:2: not TOML at column 3: Cannot declare ('x',) twice"),
        ("a = [1,\n2,,]", "f:2: not TOML at column 3: Invalid value"),
        ("a = [1,\n\n", "f:1: not TOML at the end: Invalid value"),
        ("a = 1 b = 2", "f:1: not TOML at column 7: Expected newline or end of document after a statement"),
        ("a = 1\rb = 2", "f:1: not TOML at column 6: Expected newline or end of document after a statement"),
        ("\0", "f:1: not TOML at column 1: Invalid statement"),
        ("a = " + "9" * 5000, "f: is not TOML: a number has too many digits"),
        ("a = " + "[" * 5000 + "]" * 5000, "f: is nested too deeply"),
        ("\ufeffa = 1", "f:1: begins with a byte order mark; save it as UTF-8 without BOM"),
    ],
)
def test_what_is_no_toml_is_one_problem_with_its_place(text: str, message: str) -> None:
    assert said(text) == [message]


def test_an_empty_document_lacks_the_host_name() -> None:
    assert said("") == ["f:1: hostname: is required"]


def test_lines_may_end_in_carriage_returns() -> None:
    assert parse_config('hostname = "mx.example.org"\r\n[limits]\r\n', "f").hostname == "mx.example.org"
    assert problems('hostname = "mx.example.org"\r\n\r\n[limits]\r\nrecipients = 1\r\n')[0].line == 4


def test_control_characters_from_the_file_do_not_reach_the_terminal() -> None:
    text = '"\\u001b[31m" = 1\nhostname = "\\u001b]0;x\\u0007"\npostmaster = "\\u009b"\n'
    for line in said(text):
        assert line.isprintable()


def test_a_problem_escapes_what_is_in_its_file_name() -> None:
    assert str(ConfigProblem("a\x1bb", 0, "", "is bad")) == "a\\x1bb: is bad"


class TestFiles:
    def test_a_file_is_read(self, tmp_path: Path) -> None:
        path = tmp_path / "elemta.toml"
        path.write_bytes(MINIMAL.encode())
        assert load_config(path) == Config(hostname="mx.example.org")

    def test_problems_name_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / "elemta.toml"
        path.write_text("x = 1")
        with pytest.raises(ConfigError, match=f"{path}:1: x: unknown setting"):
            load_config(path)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b'\xef\xbb\xbfhostname = "mx.example.org"', ":1: begins with a byte order mark"),
            (b"\xff\xfeh\0", ": is UTF-16; save it as UTF-8"),
            (b"# one\n# caf\xe9\n", ":2: is not UTF-8; save the file as UTF-8"),
            (b"#" * ((1 << 20) + 1), ": is larger than 1 MiB"),
        ],
    )
    def test_a_file_that_is_no_utf8_text_is_one_problem(
        self, tmp_path: Path, content: bytes, message: str
    ) -> None:
        path = tmp_path / "elemta.toml"
        path.write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            load_config(path)
        (problem,) = caught.value.problems
        assert str(problem).startswith(f"{path}{message}")

    def test_a_missing_file_is_one_problem(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"missing.toml: cannot be read: No such file or directory"):
            load_config(tmp_path / "missing.toml")

    def test_a_folder_is_one_problem(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
            load_config(tmp_path)

    def test_a_name_with_a_nul_is_one_problem(self) -> None:
        with pytest.raises(ConfigError, match=r"a\\x00b: cannot be read: embedded null byte"):
            load_config(Path("a\0b"))

    def test_a_forbidden_file_is_one_problem(self) -> None:
        with pytest.raises(ConfigError, match=r"elemta.toml: cannot be read: Permission denied"):
            load_config(ForbiddenPath("elemta.toml"))


class ForbiddenPath(type(Path())):  # type: ignore[misc]  # the concrete class depends on the system
    """A file that may not be opened; a real one would not stop root."""

    def open(self, *args: Any, **kwargs: Any) -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


PIECES = [
    '"', "'", "[", "]", "[[", "]]", "{", "}", "=", ".", ",", "#", "\n", "\r\n", "\\", "5", "-1", "1.5", "true", "nan", '"x"',
    "[]", "{}", "[5]", '["x"]', "[{}]", "1979-05-27", '"""', "'''", "[limits]", "[[listeners]]", "[[routes]]", "\0", "\x1b", "é", "\ufeff",
]  # fmt: skip


def mutated(chance: random.Random) -> str:
    """The sample with a few pieces of it removed, doubled, replaced or swapped."""
    text = example_config()
    if chance.random() < 0.7:  # comments make most of it: without them more changes hit something
        text = "\n".join(line for line in text.split("\n") if not line.startswith("#"))
    for _ in range(chance.randint(1, 4)):
        lines = text.split("\n")
        one, two = chance.randrange(len(lines)), chance.randrange(len(lines))
        at = chance.randrange(len(text) + 1)
        match chance.randrange(6):
            case 0:
                lines[one], lines[two] = lines[two], lines[one]
                text = "\n".join(lines)
            case 1:
                text = "\n".join([*lines[:one], *lines[one + 1 :]])
            case 2:
                text = "\n".join([*lines[:one], lines[two], *lines[one:]])
            case 3:
                text = text[:at] + chance.choice(PIECES) + text[at:]
            case 4:
                text = text[:at] + text[at + chance.randint(1, 8) :]
            case _:
                name, equals, _ = lines[one].partition("=")
                lines[one] = f"{name}{equals} {chance.choice(PIECES)}"
                text = "\n".join(lines)
    return text


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 1 << 64))
def test_no_change_to_a_document_makes_reading_fail_with_anything_else(seed: int) -> None:
    text = mutated(random.Random(seed))
    lines = text.count("\n") + 1
    for problem in problems_if_any(text):
        assert 0 <= problem.line <= lines
        assert str(problem).isprintable()


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["hostname", "listeners", "routes", "tls", "domains", "queue", "timeouts", "zzz"]),
        st.sampled_from(
            [
                "5",
                '"x"',
                "[]",
                "{}",
                "[5]",
                "[{}]",
                "[{}, 5]",
                '{local = ["a.example"]}',
                "{local = [5]}",
                "{retry = []}",
            ]
        ),
    )
)
def test_any_shape_is_either_read_or_explained(values: dict[str, str]) -> None:
    text = "\n".join(f"{name} = {value}" for name, value in values.items())
    assert all(problem.line >= 1 for problem in problems_if_any(text))


def test_tls_reports_need_something_that_is_counted() -> None:
    head = 'hostname = "mx.example.org"\n[tls_reports]\nsend = true\n'
    with pytest.raises(ConfigError, match=r"f:3: tls_reports.send: nothing is counted to report"):
        parse_config(head, "f")
    assert parse_config(head + "collect = true\n", "f").tls_reports.send
