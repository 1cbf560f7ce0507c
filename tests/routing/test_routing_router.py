"""Whose a recipient is and where it goes: tables only, no DNS."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elemta.config import (
    Config,
    DeliveryConfig,
    DomainPattern,
    DomainsConfig,
    HostPort,
    ListenerConfig,
    RouteConfig,
    RoutePattern,
    RouteTls,
    TransportKind,
)
from elemta.mail import AddressLiteral, Domain, ForwardPath, Mailbox, parse_forward_path, parse_mailbox
from elemta.routing import Destination, Route, Router
from elemta.routing.folders import MAX_COMPONENT, fill_folder, safe_component
from elemta.routing.tables import fold_local_part


def pattern(text: str) -> RoutePattern:
    if text == "*":
        return RoutePattern()
    if text in ("local", "quarantine"):
        return RoutePattern(**{text: True})
    if "@" in text:
        return RoutePattern(mailbox=parse_mailbox(text, utf8=True))
    return RoutePattern(domain=domains(text))


def domains(text: str) -> DomainPattern:
    return DomainPattern(Domain(text.removeprefix("*.")), subdomains=text.startswith("*."))


def make_config(*routes: RouteConfig, local=("local.test",), relay=(), **more) -> Config:
    return Config(
        hostname=more.pop("hostname", "mx.local.test"),
        domains=DomainsConfig(
            local=tuple(Domain(name) for name in local), relay=tuple(domains(name) for name in relay)
        ),
        routes=routes,
        **more,
    )


def discard(match: str) -> RouteConfig:
    return RouteConfig(pattern(match), TransportKind.DISCARD)


def lmtp(match: str, host: str) -> RouteConfig:
    return RouteConfig(pattern(match), TransportKind.LMTP, host=host)


def destination(text: str, router: Router) -> Destination:
    return router.destination(parse_mailbox(text, utf8=True))


# Destination


@pytest.mark.parametrize(
    ("recipient", "expected"),
    [
        ("user@local.test", Destination.LOCAL),
        ("user@LOCAL.TEST", Destination.LOCAL),
        ("user@sub.local.test", Destination.FOREIGN),
        ("user@relayed.test", Destination.RELAY),
        ("user@a.wild.test", Destination.RELAY),
        ("user@a.b.wild.test", Destination.RELAY),
        ("user@wild.test", Destination.FOREIGN),
        ("victim@ext.test", Destination.FOREIGN),
        # RELIABILITY 6.5 no. 21: suffix traps
        ("victim@notlocal.test", Destination.FOREIGN),
        ("victim@local.test.ext.test", Destination.FOREIGN),
        ("victim@notwild.test", Destination.FOREIGN),
        ("victim@a.notwild.test", Destination.FOREIGN),
        ("victim@test", Destination.FOREIGN),
        # no. 7, 11, 19: routing in the local part of a local domain is just a name there
        ("victim%ext.test@local.test", Destination.LOCAL),
        ("ext.test!victim@local.test", Destination.LOCAL),
        ('"victim@ext.test"@local.test', Destination.LOCAL),
        # ... and no way through a next hop that trusts us
        ("victim%ext.test@relayed.test", Destination.FOREIGN),
        ("ext.test!victim@relayed.test", Destination.FOREIGN),
        ('"victim@ext.test"@a.wild.test', Destination.FOREIGN),
        # no. 8, 12, 14, 20, 22: literals and localhost
        ("victim@[192.0.2.1]", Destination.FOREIGN),
        ("victim%ext.test@[192.0.2.1]", Destination.FOREIGN),
        ('"victim@ext.test"@[192.0.2.1]', Destination.FOREIGN),
        ("victim@[127.0.0.1]", Destination.FOREIGN),
        ("victim@[IPv6:::1]", Destination.FOREIGN),
        ("victim@localhost", Destination.FOREIGN),
    ],
)
def test_destination_follows_the_whole_domain_only(recipient, expected):
    config = make_config(relay=("relayed.test", "*.wild.test"))
    assert destination(recipient, Router(config, local_addresses=["192.0.2.1"])) is expected


@pytest.mark.parametrize(
    ("recipient", "expected"),
    [
        ("postmaster@[192.0.2.1]", Destination.LOCAL),
        ("POSTmaster@[192.0.2.1]", Destination.LOCAL),
        ("postmaster@[IPv6:::ffff:192.0.2.1]", Destination.LOCAL),
        ("postmaster@[IPv6:2001:db8::1]", Destination.LOCAL),
        ("postmaster@[192.0.2.2]", Destination.FOREIGN),
        ("postmaster@[x400:abc]", Destination.FOREIGN),
        ("postmaster@mx.local.test", Destination.LOCAL),
        ("postmaster@ext.test", Destination.FOREIGN),
        ("other@mx.local.test", Destination.FOREIGN),
    ],
)
def test_postmaster_is_taken_wherever_we_take_mail(recipient, expected):
    router = Router(make_config(), local_addresses=["::ffff:192.0.2.1", ipaddress.ip_address("2001:db8::1")])
    assert destination(recipient, router) is expected


def test_a_listener_at_every_address_makes_postmaster_known_at_all_of_the_machines():
    # RFC 5321 §4.5.1
    router = Router(make_config(), is_our_address=lambda address: address == "192.0.2.1")
    assert destination("postmaster@[192.0.2.1]", router) is Destination.LOCAL
    assert destination("postmaster@[IPv6:::ffff:192.0.2.1]", router) is Destination.LOCAL
    assert destination("postmaster@[192.0.2.2]", router) is Destination.FOREIGN
    assert destination("other@[192.0.2.1]", router) is Destination.FOREIGN


def test_addresses_of_listeners_are_ours():
    addresses = [
        HostPort("127.0.0.9", 25),
        HostPort("", 25),
        HostPort("0.0.0.0", 26),
        HostPort("host.test", 1),
    ]
    listeners = tuple(ListenerConfig(f"l{at}", address) for at, address in enumerate(addresses))
    router = Router(make_config(listeners=listeners))
    assert destination("postmaster@[127.0.0.9]", router) is Destination.LOCAL
    assert destination("postmaster@[0.0.0.0]", router) is Destination.FOREIGN


def test_configured_postmaster_is_always_accepted_and_nobody_else_there():
    router = Router(make_config(postmaster="Admin@elsewhere.test"))
    assert destination("admin@elsewhere.test", router) is Destination.LOCAL
    assert destination("victim@elsewhere.test", router) is Destination.FOREIGN


@pytest.mark.parametrize("path", ["<postmaster>", "<PostMaster>", "<postmaster@mx.local.test>"])
def test_paths_that_mean_our_postmaster_become_the_configured_one(path):
    router = Router(make_config(postmaster="admin@local.test"))
    assert str(router.mailbox_of(parse_forward_path(path))) == "admin@local.test"


def test_postmaster_defaults_to_the_host_name():
    assert Router(make_config()).mailbox_of(ForwardPath(None)) == Mailbox(
        "postmaster", Domain("mx.local.test")
    )


@pytest.mark.parametrize("path", ["<Postmaster@local.test>", "<postmaster@ext.test>", "<User@local.test>"])
def test_other_paths_stay_as_they_were(path):
    router = Router(make_config(postmaster="admin@local.test"))
    assert str(router.mailbox_of(parse_forward_path(path))) == path[1:-1]


def test_postmaster_at_a_host_name_that_is_local_stays():
    router = Router(make_config(local=("mx.local.test",), postmaster="admin@other.test"))
    path = parse_forward_path("<postmaster@mx.local.test>")
    assert router.mailbox_of(path) == path.mailbox


# Routes


def test_without_a_route_the_mx_is_asked():
    router = Router(make_config(delivery=DeliveryConfig(port=2525)))
    expected = Route(TransportKind.SMTP, "ext.test", 2525, use_mx=True)
    assert router.route(parse_mailbox("a@EXT.test")) == expected


def test_address_literal_without_a_route_is_its_own_next_hop():
    route = Router(make_config()).route(parse_mailbox("a@[192.0.2.7]"))
    assert (route.next_hop, route.use_mx) == ("[192.0.2.7]", True)


@pytest.mark.parametrize(
    ("recipient", "host"),
    [
        ("info@local.test", "one"),
        ("INFO@Local.test", "one"),
        ("other@local.test", "two"),
        ("a@b.local.test", "three"),
        ("a@special.local.test", "three"),
        ("a@notlocal.test", "last"),
        ("a@[192.0.2.1]", "last"),
    ],
)
def test_first_match_wins(recipient, host):
    router = Router(
        make_config(
            lmtp("info@local.test", "one"),
            lmtp("local.test", "two"),
            lmtp("*.local.test", "three"),
            lmtp("special.local.test", "never"),
            lmtp("other@local.test", "never"),
            lmtp("local.test", "never"),
            lmtp("*", "last"),
            lmtp("*", "never"),
            lmtp("late.test", "never"),
        )
    )
    assert router.route(parse_mailbox(recipient)).next_hop == host


def test_match_all_before_others_takes_everything():
    router = Router(make_config(discard("*"), lmtp("local.test", "never")))
    assert router.route(parse_mailbox("a@local.test")).transport is TransportKind.DISCARD


def test_local_part_of_a_pattern_is_not_folded_beyond_ascii():
    assert fold_local_part("K\u212aÄ") == "k\u212aÄ"  # KELVIN SIGN is no k


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            RouteConfig(pattern("*"), TransportKind.SMTP, host="Smart.Host.test."),
            Route(TransportKind.SMTP, "smart.host.test", 25),
        ),
        (
            RouteConfig(
                pattern("*"), TransportKind.SMTP, host="[2001:db8::1]", port=587, tls=RouteTls.VERIFIED
            ),
            Route(TransportKind.SMTP, "2001:db8::1", 587, tls=RouteTls.VERIFIED),
        ),
        (
            RouteConfig(pattern("*"), TransportKind.LMTP, host="127.0.0.1"),
            Route(TransportKind.LMTP, "127.0.0.1", 24),
        ),
        (
            RouteConfig(pattern("*"), TransportKind.SMTP, port=26, tls=RouteTls.REQUIRED),
            Route(TransportKind.SMTP, "local.test", 26, use_mx=True, tls=RouteTls.REQUIRED),
        ),
        (
            RouteConfig(pattern("*"), TransportKind.DISCARD),
            Route(TransportKind.DISCARD, "", tls=RouteTls.NONE),
        ),
        (
            RouteConfig(pattern("*"), TransportKind.MAILDIR, path="mail/{domain}/{local_part}"),
            Route(TransportKind.MAILDIR, "mail/local.test/user", tls=RouteTls.NONE),
        ),
    ],
)
def test_route_of_each_transport(config, expected):
    assert Router(make_config(config)).route(parse_mailbox("User@local.test")) == expected


def test_routes_name_themselves_for_people():
    assert str(Route(TransportKind.SMTP, "ext.test", 25, use_mx=True)) == "smtp:ext.test"
    assert str(Route(TransportKind.LMTP, "127.0.0.1", 24)) == "lmtp:[127.0.0.1]:24"
    assert str(Route(TransportKind.MAILDIR, "mail/a")) == "maildir:mail/a"
    assert str(Route(TransportKind.DISCARD, "")) == "discard"


def test_postmaster_at_our_address_takes_the_route_of_the_configured_postmaster():
    config = make_config(lmtp("admin@local.test", "there"), postmaster="admin@local.test")
    router = Router(config, local_addresses=["192.0.2.1"])
    assert router.route(parse_mailbox("postmaster@[192.0.2.1]")).next_hop == "there"


@pytest.mark.parametrize(
    "route",
    [RouteConfig(pattern("*"), TransportKind.LMTP), RouteConfig(pattern("*"), TransportKind.MAILDIR)],
)
def test_route_without_what_its_transport_needs_is_an_error_and_changes_nothing(route):
    with pytest.raises(ValueError, match="needs a"):
        Router(make_config(route))
    router = Router(make_config())
    with pytest.raises(ValueError, match="needs a"):
        router.replace(make_config(route, local=("new.test",)))
    assert destination("a@new.test", router) is Destination.FOREIGN


def test_replace_swaps_everything():
    router = Router(make_config(), local_addresses=["192.0.2.1"])
    router.replace(make_config(discard("*"), local=("new.test",), postmaster="p@new.test"))
    assert destination("a@new.test", router) is Destination.LOCAL
    assert destination("a@local.test", router) is Destination.FOREIGN
    assert destination("postmaster@[192.0.2.1]", router) is Destination.LOCAL
    assert str(router.postmaster) == "p@new.test"


# Folders


@pytest.mark.parametrize(
    ("local_part", "expected"),
    [
        ("user", "user"),
        ("User.Name+tag", "user.name+tag"),
        ("..", "%2E."),
        (".hidden", "%2Ehidden"),
        ("../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd"),
        ("/etc/passwd", "%2Fetc%2Fpasswd"),
        ("a\0b\n", "a%00b%0A"),
        ("100%", "100%25"),
        ("%2F", "%252f"),
        ("a\\b", "a%5Cb"),
        ("ä", "%C3%A4"),
        ("{domain}", "%7Bdomain%7D"),
        ("a b", "a%20b"),
        ("victim@ext.test", "victim@ext.test"),
    ],
)
def test_local_parts_become_one_safe_component(local_part, expected):
    assert fill_folder("m/{local_part}", Mailbox(local_part, Domain("x.test"))) == f"m/{expected}"


def test_template_is_filled_in_one_pass_and_keeps_what_it_does_not_know():
    mailbox = Mailbox("{local_part}", Domain("x.test"))
    assert fill_folder("{other}/{domain}/{local_part}/{0}", mailbox) == "{other}/x.test/%7Blocal_part%7D/{0}"


def test_address_literals_are_safe_folders_too():
    literal = AddressLiteral(None, "tag", "../..")
    assert "/" not in safe_component(literal.text)


def test_too_long_names_stay_apart():
    long_one, long_other = "ä" * 300 + "a", "ä" * 300 + "b"
    assert len(safe_component(long_one)) == MAX_COMPONENT
    assert safe_component(long_one) != safe_component(long_other)


def test_empty_name_is_still_a_component():
    assert safe_component("") == "%"


@given(st.text(max_size=80))
def test_no_name_ever_leaves_its_folder(name):
    component = safe_component(name)
    assert component not in ("", ".", "..")
    assert not component.startswith(".")
    assert component.isascii()
    assert not set(component) & {"/", "\\", "\0", "\n"}
    assert len(component) <= 255


@given(st.text(max_size=40), st.text(max_size=40))
def test_different_names_have_different_folders(one, other):
    assert (safe_component(one) == safe_component(other)) == (one == other)


def test_local_stands_for_each_domain_of_ours_where_it_is_written() -> None:
    routes = (lmtp("b.test", "special"), lmtp("local", "ours"), lmtp("*", "rest"))
    router = Router(make_config(*routes, local=("a.test", "b.test")))
    hosts = [
        router.route(parse_mailbox(f"x@{name}")).next_hop
        for name in ("a.test", "b.test", "sub.a.test", "local")
    ]
    assert hosts == ["ours", "special", "rest", "rest"]


def test_what_is_quarantined_takes_the_route_for_it_whoever_it_is_for():
    router = Router(make_config(discard("me@x.test"), lmtp("quarantine", "q.test"), lmtp("*", "all.test")))
    for text in ("me@x.test", "you@x.test", "postmaster@mx.local.test"):
        mailbox = parse_mailbox(text)
        assert str(router.route(mailbox, quarantined=True)) == router.quarantine_name == "lmtp:[q.test]:24"
        assert str(router.route(mailbox)) != "lmtp:[q.test]:24"


def test_without_such_a_route_it_takes_that_of_its_recipients():
    router = Router(make_config(lmtp("*", "all.test")))
    assert router.quarantine_name is None
    assert str(router.route(parse_mailbox("me@x.test"), quarantined=True)) == "lmtp:[all.test]:24"
