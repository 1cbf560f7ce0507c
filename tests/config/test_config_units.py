"""How the small values of the configuration are written."""

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elemta.config import BadValue, DomainPattern, HostPort, RoutePattern, units
from elemta.mail import Domain, Mailbox

UNHURRIED = settings(deadline=None)
"""Property tests are not timed: the machine may be busy."""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("5d", 432000.0),
        ("500ms", 0.5),
        ("1d2h3m4s5ms", 93784.005),
        ("0s", 0.0),
        ("5ms", 0.005),
        ("007s", 7.0),
        ("3650d", 315360000.0),
    ],
)
def test_durations_are_read_in_seconds(text: str, seconds: float) -> None:
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("300", 'write "300s" for seconds, or use m, h, d'),
        ("-5s", "it cannot be negative"),
        ("", 'write it like "90s", "5m", "1h30m", "5d" or "500ms"'),
        ("5 m", 'write it like "90s", "5m", "1h30m", "5d" or "500ms"'),
        ("5M", 'write it like "90s", "5m", "1h30m", "5d" or "500ms"'),
        ("30m1h", 'write it like "90s", "5m", "1h30m", "5d" or "500ms"'),
        ("1m1m", 'write it like "90s", "5m", "1h30m", "5d" or "500ms"'),
        ("1.5h", 'write it like "90s", "5m", "1h30m", "5d" or "500ms"'),
        ("5m\n", 'write it like "90s", "5m", "1h30m", "5d" or "500ms"'),
        ("٣s", 'write it like "90s", "5m", "1h30m", "5d" or "500ms"'),
        ("3651d", ""),
        ("9" * 5000 + "s", 'write it like "90s", "5m", "1h30m", "5d" or "500ms"'),
    ],
)
def test_what_is_no_duration_says_how_to_write_one(text: str, hint: str) -> None:
    with pytest.raises(BadValue) as caught:
        units.parse_duration(text)
    assert caught.value.hint == hint
    assert len(caught.value.reason) < 120


@UNHURRIED
@given(st.integers(0, units.LONGEST_DURATION * 1000))
def test_durations_survive_writing_and_reading(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert units.parse_duration(units.format_duration(seconds)) == seconds


@pytest.mark.parametrize("seconds", [-1.0, float("inf"), float("nan")])
def test_what_cannot_be_waited_for_is_not_written(seconds: float) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        units.format_duration(seconds)


@pytest.mark.parametrize(
    ("text", "octets"),
    [("256KiB", 262144), ("50MiB", 52428800), ("1GiB", 1 << 30), ("2TiB", 2 << 40), ("0KiB", 0)],
)
def test_sizes_are_read_in_octets(text: str, octets: int) -> None:
    assert units.parse_size(text) == octets


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("4096", "write 4096 without quotes for octets"),
        ("50MB", 'write "50MiB" (powers of 1024), or 50000000 for octets'),
        ("50mib", 'write "50MiB" (powers of 1024), or 50000000 for octets'),
        ("1 K", 'write "1KiB" (powers of 1024), or 1000 for octets'),
        ("big", 'write octets as a number, or "256KiB", "50MiB", "1GiB"'),
        ("9999TiB", ""),
    ],
)
def test_what_is_no_size_says_how_to_write_one(text: str, hint: str) -> None:
    with pytest.raises(BadValue) as caught:
        units.parse_size(text)
    assert caught.value.hint == hint


@UNHURRIED
@given(st.integers(0, units.LARGEST_SIZE))
def test_sizes_survive_writing_and_reading(octets: int) -> None:
    text = units.format_size(octets)
    assert (int(text) if text.isdecimal() else units.parse_size(text)) == octets


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:2525", HostPort("127.0.0.1", 2525)),
        ("[::1]:25", HostPort("::1", 25)),
        ("[2001:DB8:0::1]:25", HostPort("2001:db8::1", 25)),
        (":25", HostPort("", 25)),
        ("0.0.0.0:0", HostPort("0.0.0.0", 0)),
        ("[::]:65535", HostPort("::", 65535)),
    ],
)
def test_addresses_with_ports_are_read(text: str, address: HostPort) -> None:
    assert units.parse_host_port(text) == address


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("localhost:25", 'write "127.0.0.1:25" or "[::1]:25"'),
        ("mx.example.org:25", "names are not looked up; write the address"),
        ("*:25", 'write ":25" for every address'),
        ("25", 'write ":25" for every address'),
        ("127.0.0.1", 'add the port: "127.0.0.1:25"'),
        ("::1", 'add the port: "[::1]:25"'),
        ("fe80:0:0:0:0:0:0:1:2525", 'write "[fe80:0:0:0:0:0:0:1]:2525"'),
        ("nonsense", 'write it like "127.0.0.1:2525", "[::1]:2525", or ":25" for every address'),
        ("127.0.0.1:65536", "port 65536 is above 65535"),
        ("127.0.0.256:25", "127.0.0.256 is not an IPv4 address"),
        ("[::1::]:25", "::1:: is not an IPv6 address"),
        ("[fe80::1%eth0]:25", "not an address with a port"),
        ("127.0.0.1:²5", "not an address with a port"),
    ],
)
def test_what_cannot_be_bound_says_how_to_write_it(text: str, said: str) -> None:
    with pytest.raises(BadValue) as caught:
        units.parse_host_port(text)
    assert said in str(caught.value)


@UNHURRIED
@given(st.ip_addresses(), st.integers(0, 65535))
def test_addresses_survive_writing_and_reading(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int
) -> None:
    value = HostPort(str(address), port)
    assert units.parse_host_port(str(value)) == value


@pytest.mark.parametrize("text", ["10.0.0.0/8", "::1/128", "2001:db8::/32", "192.0.2.1"])
def test_networks_are_read(text: str) -> None:
    assert units.parse_network(text) == ipaddress.ip_network(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("10.0.0.1/8", 'write "10.0.0.0/8"'),
        ("2001:db8::1/32", 'write "2001:db8::/32"'),
        ("::ffff:10.0.0.0/104", 'write "10.0.0.0/8"'),
        ("10.0.0.0/33", "is not a network"),
        ("10.0.0.0/255.0.0.0", "is not a network"),
        ("10.0.0", "is not a network"),
        ("local", 'write it like "10.0.0.0/8"'),
    ],
)
def test_what_is_no_network_says_the_right_form(text: str, said: str) -> None:
    with pytest.raises(BadValue) as caught:
        units.parse_network(text)
    assert said in str(caught.value)


@UNHURRIED
@given(
    st.one_of(
        st.tuples(st.ip_addresses(v=4), st.integers(0, 32)),
        # IPv4 inside IPv6 is refused, see above
        st.tuples(st.ip_addresses(v=6).filter(lambda address: not address.ipv4_mapped), st.integers(97, 128)),
    )
)
def test_networks_survive_writing_and_reading(
    parts: tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int],
) -> None:
    network = ipaddress.ip_network(parts, strict=False)
    assert units.parse_network(str(network)) == network


def test_domains_become_a_labels_in_lower_case() -> None:
    assert units.parse_domain_name("Example.ORG") == Domain("example.org")
    assert units.parse_domain_name("bücher.example") == Domain("xn--bcher-kva.example")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("example.org.", "leave out the final dot"),
        ("me@example.org", "write what stands behind the @"),
        ("*.example.org", "list each domain"),
        ("[192.0.2.1]", "is an address literal"),
        ("a b", "is not a domain"),
        ("", "is not a domain"),
    ],
)
def test_what_is_no_domain_says_why(text: str, said: str) -> None:
    with pytest.raises(BadValue) as caught:
        units.parse_domain_name(text)
    assert said in str(caught.value)


EXAMPLE = Domain("example.org")


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("*", RoutePattern()),
        ("local", RoutePattern(local=True)),
        ("quarantine", RoutePattern(quarantine=True)),
        ("example.org", RoutePattern(domain=DomainPattern(EXAMPLE))),
        ("*.example.org", RoutePattern(domain=DomainPattern(EXAMPLE, subdomains=True))),
        ("Me@example.org", RoutePattern(mailbox=Mailbox("Me", EXAMPLE))),
        ('"a b"@example.org', RoutePattern(mailbox=Mailbox("a b", EXAMPLE))),
    ],
)
def test_route_patterns_survive_reading_and_writing(text: str, pattern: RoutePattern) -> None:
    assert units.parse_route_pattern(text) == pattern
    assert str(pattern) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("@example.org", 'write "example.org"'),
        ("<a@b.c>", "without angle brackets"),
        ("a b@c", "is not an address"),
    ],
)
def test_what_is_no_route_pattern_says_why(text: str, said: str) -> None:
    with pytest.raises(BadValue) as caught:
        units.parse_route_pattern(text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [("*", "list the domains"), (".example.org", 'write "*.example.org"'), ("*.", "is not a domain")],
)
def test_what_is_no_domain_pattern_says_why(text: str, said: str) -> None:
    with pytest.raises(BadValue) as caught:
        units.parse_domain_pattern(text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("localhost", "has no dot"),
        ("mx_1.example.org", "is not the name of a host"),
        ("a..b", "is not a domain"),
    ],
)
def test_what_is_no_full_host_name_says_why(text: str, said: str) -> None:
    with pytest.raises(BadValue) as caught:
        units.parse_hostname(text)
    assert said in str(caught.value)


def test_a_host_name_is_kept_in_lower_case() -> None:
    assert units.parse_hostname("MX.Example.ORG") == "mx.example.org"


@pytest.mark.parametrize(
    ("text", "host"),
    [("127.0.0.1", "127.0.0.1"), ("0::1", "::1"), ("Mail.example", "mail.example"), ("mail", "mail")],
)
def test_next_hops_are_names_or_addresses(text: str, host: str) -> None:
    assert units.parse_next_hop(text) == host


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[::1]", 'write "::1" without brackets'),
        ("mail.example:26", 'write host = "mail.example" and port = 26'),
        ("[::1]:26", 'write host = "::1" and port = 26'),
        ("mail.example:x", "is not a domain"),
    ],
)
def test_what_is_no_next_hop_says_why(text: str, said: str) -> None:
    with pytest.raises(BadValue) as caught:
        units.parse_next_hop(text)
    assert said in str(caught.value)


def test_source_addresses_are_of_their_family() -> None:
    assert units.parse_ipv4("192.0.2.1") == "192.0.2.1"
    assert units.parse_ipv6("2001:DB8::1") == "2001:db8::1"
    for parse, text in (
        (units.parse_ipv4, "::1"),
        (units.parse_ipv6, "192.0.2.1"),
        (units.parse_ipv6, "fe80::1%lo"),
    ):
        with pytest.raises(BadValue):
            parse(text)


@pytest.mark.parametrize(
    ("text", "said"), [("", "is empty"), ("a\0b", "holds a NUL"), ("~/x", "is not expanded")]
)
def test_what_is_no_path_says_why(text: str, said: str) -> None:
    with pytest.raises(BadValue) as caught:
        units.parse_path(text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mail/{locl_part}", "did you mean 'local_part'?"),
        ("mail/{}", "only {domain} and {local_part} are filled in"),
        ("mail/{domain", "a brace without its partner"),
        ("", "is empty"),
    ],
)
def test_maildir_paths_take_only_known_fields(text: str, said: str) -> None:
    assert units.parse_maildir_path("a/{domain}/{local_part}") == "a/{domain}/{local_part}"
    with pytest.raises(BadValue) as caught:
        units.parse_maildir_path(text)
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["", "a b", "-a", "a" * 64, "a\n", "ä"])
def test_names_are_fit_for_logs_and_metrics(text: str) -> None:
    assert units.parse_name("mx-1.example_a") == "mx-1.example_a"
    with pytest.raises(BadValue):
        units.parse_name(text)


READERS = [value for name, value in vars(units).items() if name.startswith("parse_")]


@UNHURRIED
@given(st.text(), st.sampled_from(READERS))
def test_no_text_makes_a_reader_fail_with_anything_else(text: str, reader: object) -> None:
    try:
        value = reader(text)  # type: ignore[operator]
    except (BadValue, units.MailSyntaxError):  # the latter only from elemta.mail's own readers
        return
    assert value is not None


def test_values_are_shown_in_one_short_printable_line() -> None:
    assert units.shown("a\x1b[31m\n") == r"'a\x1b[31m\n'"
    assert len(units.shown("x" * 1000)) < 70
    assert units.shown(1 << 70) == "a number beyond 64 bits"
    assert units.shown(True) == "true"
