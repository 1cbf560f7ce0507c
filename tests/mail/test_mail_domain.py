"""Domains and address literals: what is one, what is not, and what is never mapped."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elemta.mail import AddressLiteral, Domain, MailSyntaxError, PathTooLong, parse_domain

LONGEST = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 63])
assert len(LONGEST) == 255


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("example.org", "example.org"),
        ("EXAMPLE.Org", "example.org"),
        ("localhost", "localhost"),
        ("a", "a"),
        ("1.example", "1.example"),
        ("a-b.example", "a-b.example"),
        ("a--b.example", "a--b.example"),
        ("ab--cd.example", "ab--cd.example"),
        ("_dmarc.example", "_dmarc.example"),
        ("my_host.example", "my_host.example"),
        ("1.2.3.4.5", "1.2.3.4.5"),
        ("1.2.3", "1.2.3"),
        ("a" * 63 + ".example", "a" * 63 + ".example"),
        (LONGEST, LONGEST),
        ("xn--mller-kva.example", "xn--mller-kva.example"),
        ("XN--MLLER-KVA.example", "xn--mller-kva.example"),
    ],
)
@pytest.mark.parametrize("utf8", [False, True])
def test_a_domain_name_is_kept_in_lower_case(text, expected, utf8):
    assert parse_domain(text, utf8=utf8) == Domain(expected)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "example.org.",
        ".example.org",
        "example..org",
        "-a.example",
        "a-.example",
        "a.-",
        "exa mple.org",
        " example.org",
        "example.org ",
        "example.org\n",
        "example.org\r\n",
        "\nexample.org",
        "example\0.org",
        "example.org\0",
        "ex,ample",
        "ex/ample",
        "ex:ample",
        "ex@ample",
        "ex'ample",
        "a" * 64 + ".example",
        LONGEST + "e",
        LONGEST[:-1] + "é",
        "192.0.2.1",
        "999.999.999.999",
        "١٢.example",
    ],
)
@pytest.mark.parametrize("utf8", [False, True])
def test_what_is_no_domain_is_refused(text, utf8):
    with pytest.raises(MailSyntaxError):
        parse_domain(text, utf8=utf8)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("müller.example", "xn--mller-kva.example"),
        ("faß.example", "xn--fa-hia.example"),
        ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
        ("MAIL.müller.Example", "mail.xn--mller-kva.example"),
        ("Müller.example", "xn--mller-kva.example"),
        ("_dmarc.müller.example", "_dmarc.xn--mller-kva.example"),
        ("xn--zzzzzzzz.müller.example", "xn--zzzzzzzz.xn--mller-kva.example"),
    ],
)
def test_u_labels_become_a_labels(text, expected):
    domain = parse_domain(text, utf8=True)
    assert domain == Domain(expected)
    assert parse_domain(domain.unicode, utf8=True) == domain


def test_u_labels_need_smtputf8():
    with pytest.raises(MailSyntaxError):
        parse_domain("müller.example")


@pytest.mark.parametrize(
    "text",
    [
        "\u212aelvin.example",  # the Kelvin sign is no k
        "\u212a.\u212a",
        "ext。test",  # U+3002
        "ext．test",  # U+FF0E
        "ext｡test",  # U+FF61
        "müller。test",
        "ｅｘａｍｐｌｅ.org",  # full width
        "MÜLLER.example",  # a capital beyond ASCII
        "mu\u0308ller.example",  # not NFC
        "İstanbul.example",
        "ﬁsh.example",
        "a\u200db.example",  # a joiner out of its context
        "\u202eexample.org",
        "a\u00adb.example",
        "-ü.example",
        "ü-.example",
        "üü--ü.example",
        "\ud800.example",
        "ü..example",
        "ü.",
        "ü" * 64 + ".example",
        "ü" * 128,
        "💩.la",  # IDNA2008 has no emoji
        "ü b.example",
        "ü\0.example",
        "ü\n",
    ],
)
def test_nothing_is_mapped(text):
    with pytest.raises(MailSyntaxError):
        parse_domain(text, utf8=True)


def test_a_long_name_is_refused_before_it_is_converted():
    with pytest.raises(MailSyntaxError, match="too long"):
        parse_domain("ü" * 1_000_000, utf8=True)
    with pytest.raises(PathTooLong, match="too long"):
        parse_domain("a." * 1_000_000)


def test_a_name_whose_a_labels_are_too_long_is_refused():
    with pytest.raises(MailSyntaxError):
        parse_domain(".".join(["é" * 20] * 12), utf8=True)


def test_an_a_label_that_does_not_decode_is_plain_ldh():
    for text in ("xn--ls8h.la", "xn--zzzzzzzz.example", "xn--a.example"):
        domain = parse_domain(text)
        assert domain == Domain(text)
        assert domain.unicode == text


def test_the_unicode_form_shows_u_labels():
    assert Domain("xn--mller-kva.example").unicode == "müller.example"
    assert Domain("example.org").unicode == "example.org"
    assert str(Domain("xn--mller-kva.example")) == "xn--mller-kva.example"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("[192.0.2.1]", "192.0.2.1"),
        ("[0.0.0.0]", "0.0.0.0"),
        ("[192.000.002.010]", "192.0.2.10"),  # decimal (RFC 5321 §4.1.3)
        ("[IPv6:2001:db8::1]", "2001:db8::1"),
        ("[ipv6:2001:DB8:0:0:0:0:0:1]", "2001:db8::1"),
        ("[IPv6:::]", "::"),
        ("[IPv6:::1]", "::1"),
        ("[IPv6:::ffff:192.0.2.1]", "::ffff:192.0.2.1"),
        ("[IPv6:1:2:3:4:5:6:7:8]", "1:2:3:4:5:6:7:8"),
        ("[IPv6:1:2:3:4:5:6:192.0.2.1]", "1:2:3:4:5:6:192.0.2.1"),
        ("[IPv6:1:2:3:4:5:6::]", "1:2:3:4:5:6::"),
        ("[IPv6:1:2:3:4::192.0.2.1]", "1:2:3:4::192.0.2.1"),
    ],
)
def test_an_address_literal_has_its_address(text, address):
    literal = parse_domain(text)
    assert literal == AddressLiteral(ipaddress.ip_address(address))
    assert parse_domain(str(literal)) == literal
    assert literal.text == literal.unicode == str(literal)


def test_an_ipv6_literal_is_written_with_its_tag():
    assert str(parse_domain("[IPV6:2001:DB8:0::1]")) == "[IPv6:2001:db8::1]"


def test_a_tagged_literal_keeps_tag_and_content():
    literal = parse_domain("[x400:c=de;a=x]")
    assert literal == AddressLiteral(None, "x400", "c=de;a=x")
    assert str(literal) == "[x400:c=de;a=x]"


@pytest.mark.parametrize(
    "text",
    [
        "[",
        "[]",
        "[192.0.2.1",
        "192.0.2.1]",
        "[192.0.2]",
        "[192.0.2.256]",
        "[192.0.2.0001]",
        "[192.0.2.1.1]",
        "[ 192.0.2.1]",
        "[192.0.2.1 ]",
        "[192.0.2.1]\n",
        "[192.0.2.1\n]",
        "[192.0.2.1\0]",
        "[١٩٢.0.2.1]",
        "[::1]",
        "[2001:db8::1]",
        "[1:2:3:4:5:6:7:8]",
        "[IPv6:]",
        "[IPv6:192.0.2.1]",
        "[IPv6:fe80::1%eth0]",
        "[IPv6:2001:db8::g]",
        "[IPv6:1::2::3]",
        "[IPv6:1:2:3:4:5:6:7::]",  # "::" is two groups at least (RFC 5321 §4.1.3)
        "[IPv6:1:2:3:4:5::192.0.2.1]",
        "[IPv6:1:2:3:4:5:6:7:8:9]",
        "[[192.0.2.1]]",
        "[tag:]",
        "[tag:a b]",
        "[tag:a[b]",
        "[tag:a\\b]",
        "[tag-:x]",
        "[:x]",
        "[täg:x]",
        "[example.org]",
        "[tag:" + "x" * 255 + "]",
    ],
)
@pytest.mark.parametrize("utf8", [False, True])
def test_what_is_no_literal_is_refused(text, utf8):
    with pytest.raises(MailSyntaxError):
        parse_domain(text, utf8=utf8)


@given(st.text(), st.booleans())
def test_any_text_gives_a_domain_or_a_syntax_error(text, utf8):
    try:
        domain = parse_domain(text, utf8=utf8)
    except MailSyntaxError:
        return
    assert domain.text.isascii()
    assert parse_domain(domain.text) == domain
    assert domain.unicode


@given(st.from_regex(r"(xn--)?[a-z0-9-]{1,20}\.example", fullmatch=True))
def test_the_unicode_form_of_any_ascii_name_can_be_had(text):
    try:
        domain = parse_domain(text)
    except MailSyntaxError:
        return
    assert isinstance(domain.unicode, str)


def test_the_error_does_not_quote_the_text():
    with pytest.raises(MailSyntaxError) as caught:
        parse_domain("\x1b[2J")
    assert "\x1b" not in str(caught.value)
