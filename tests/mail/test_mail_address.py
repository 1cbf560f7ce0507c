"""Mailboxes and paths: the grammar of RFC 5321 §4.1.2, and what relays were opened with."""

import ipaddress
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from elemta.mail import (
    NULL_PATH,
    AddressLiteral,
    Domain,
    ForwardPath,
    Mailbox,
    MailSyntaxError,
    PathTooLong,
    ReversePath,
    parse_forward_path,
    parse_mailbox,
    parse_reverse_path,
    quote_local_part,
)

ORG = Domain("example.org")
V = Domain("ext.test")
L = Domain("local.test")
IP = AddressLiteral(ipaddress.ip_address("192.0.2.25"))


@pytest.mark.parametrize(
    ("text", "local_part"),
    [
        ("user@example.org", "user"),
        ("User@EXAMPLE.org", "User"),  # RFC 5321 §2.4: the local part keeps its case
        ("a@example.org", "a"),
        ("first.last@example.org", "first.last"),
        ("user+tag@example.org", "user+tag"),
        ("!#$%&'*+-/=?^_`{|}~@example.org", "!#$%&'*+-/=?^_`{|}~"),
        ("a.b.c.d@example.org", "a.b.c.d"),
        ("1@example.org", "1"),
        ("-@example.org", "-"),
        ('"user"@example.org', "user"),
        ('"first last"@example.org', "first last"),
        ('" "@example.org', " "),
        ('".."@example.org', ".."),
        ('"a@b"@example.org', "a@b"),
        (r'"a\"b"@example.org', 'a"b'),
        (r'"a\\b"@example.org', "a\\b"),
        (r'"\a\b"@example.org', "ab"),
        (r'"\ "@example.org', " "),
        ('"<>[]:;,()"@example.org', "<>[]:;,()"),
        ('""@example.org', ""),  # RFC 5321 §4.1.2: *QcontentSMTP
        ("a" * 64 + "@example.org", "a" * 64),
        ('"' + "a" * 62 + '"@example.org', "a" * 62),
    ],
)
@pytest.mark.parametrize("utf8", [False, True])
def test_a_mailbox_has_its_local_part_decoded(text, local_part, utf8):
    mailbox = parse_mailbox(text, utf8=utf8)
    assert mailbox == Mailbox(local_part, ORG)
    assert mailbox.is_ascii
    assert parse_mailbox(str(mailbox), utf8=utf8) == mailbox


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@",
        "user",
        "user@",
        "@example.org",
        ".user@example.org",
        "user.@example.org",
        "us..er@example.org",
        "us er@example.org",
        " user@example.org",
        "user @example.org",
        "user@ example.org",
        "user@example.org ",
        "us\ter@example.org",
        "us(comment)er@example.org",
        "us,er@example.org",
        "us;er@example.org",
        "us:er@example.org",
        "us<er@example.org",
        "us>er@example.org",
        "us[er@example.org",
        "us\\er@example.org",
        'us"er@example.org',
        '"user@example.org',
        'user"@example.org',
        '"us"er"@example.org',
        '"user"x@example.org',
        'x."user"@example.org',
        '"user\\"@example.org',
        '"us\ter"@example.org',
        '"us\\\ter"@example.org',
        "user@example.org.",
        "user@-example.org",
        "user@[192.0.2.1",
        "user@[192.0.2.300]",
        "user@192.0.2.1",
        "a" * 65 + "@example.org",
        '"' + "a" * 63 + '"@example.org',
        "user@" + ".".join(["a" * 63] * 4) + ".b",
        "us\0er@example.org",
        "user\0@example.org",
        "user@example.org\0",
        "us\ner@example.org",
        "user\n@example.org",
        "user@example.org\n",
        "user@example.org\r\n",
        "us\rer@example.org",
        '"us\ner"@example.org',
        '"us\\\ner"@example.org',
        '"us\0er"@example.org',
        "us\x7fer@example.org",
        '"us\x7fer"@example.org',
        "us\x80er@example.org",
        '"us\x9ber"@example.org',
        "us\ud800er@example.org",
        '"us\udfffer"@example.org',
        "user\uff20example.org",
        "<user@example.org>",
    ],
)
@pytest.mark.parametrize("utf8", [False, True])
def test_what_is_no_mailbox_is_refused(text, utf8):
    with pytest.raises(MailSyntaxError):
        parse_mailbox(text, utf8=utf8)


@pytest.mark.parametrize("local_part", ["用户", "δοκιμή", "jörg", "jörg.müller", "a\uff20b", "\u212a"])
def test_a_local_part_beyond_ascii_needs_smtputf8(local_part):
    text = f"{local_part}@example.org"
    with pytest.raises(MailSyntaxError):
        parse_mailbox(text)
    mailbox = parse_mailbox(text, utf8=True)
    assert mailbox == Mailbox(local_part, ORG)
    assert not mailbox.is_ascii
    assert str(mailbox) == text


def test_a_quoted_local_part_may_be_beyond_ascii():
    mailbox = parse_mailbox('"jörg müller"@müller.example', utf8=True)
    assert mailbox == Mailbox("jörg müller", Domain("xn--mller-kva.example"))
    with pytest.raises(MailSyntaxError):
        parse_mailbox('"jörg müller"@example.org')


def test_a_domain_beyond_ascii_does_not_make_the_mailbox_so():
    assert parse_mailbox("user@müller.example", utf8=True).is_ascii


@pytest.mark.parametrize(
    ("text", "local_part"), [("<user>", "user"), ('<"a@b">', "a@b"), ("<@relay.example:user>", "user")]
)
def test_a_default_domain_stands_in_for_the_one_that_is_missing(text, local_part):
    # RFC 6409 §4.2
    for parse in (parse_reverse_path, parse_forward_path):
        assert parse(text, default_domain=ORG).mailbox == Mailbox(local_part, ORG)
        with pytest.raises(MailSyntaxError):
            parse(text)


def test_a_default_domain_changes_nothing_else():
    assert parse_reverse_path("<>", default_domain=ORG) == NULL_PATH
    assert parse_forward_path("<postmaster>", default_domain=ORG) == ForwardPath(None)
    assert parse_mailbox("user@ext.test", default_domain=ORG) == Mailbox("user", V)
    for text in ("", "user@", "@", "us er", "a" * 65, ".user"):
        with pytest.raises(MailSyntaxError):
            parse_mailbox(text, default_domain=ORG)


def test_the_length_of_the_local_part_is_in_octets():
    assert parse_mailbox("é" * 32 + "@example.org", utf8=True).local_part == "é" * 32
    with pytest.raises(PathTooLong, match="too long"):
        parse_mailbox("é" * 33 + "@example.org", utf8=True)


@pytest.mark.parametrize(
    ("local_part", "text"),
    [
        ("user", "user"),
        ("a.b", "a.b"),
        ("a b", '"a b"'),
        (".a", '".a"'),
        ("a..b", '"a..b"'),
        ('a"b', r'"a\"b"'),
        ("a\\b", r'"a\\b"'),
        ("用户", "用户"),
        ("用 户", '"用 户"'),
    ],
)
def test_quoting_is_used_only_where_it_is_needed(local_part, text):
    assert quote_local_part(local_part) == text


def test_the_null_path_is_nobody():
    assert parse_reverse_path("<>") == NULL_PATH
    assert NULL_PATH.is_null
    assert str(NULL_PATH) == "<>"


def test_a_reverse_path_has_a_mailbox():
    path = parse_reverse_path("<user@example.org>")
    assert path == ReversePath(Mailbox("user", ORG))
    assert not path.is_null
    assert str(path) == "<user@example.org>"


@pytest.mark.parametrize("text", ["<postmaster>", "<Postmaster>", "<POSTMASTER>"])
def test_bare_postmaster_is_a_recipient_and_no_sender(text):
    assert parse_forward_path(text) == ForwardPath(None)
    assert str(parse_forward_path(text)) == "<postmaster>"
    with pytest.raises(MailSyntaxError):
        parse_reverse_path(text)


def test_postmaster_with_a_domain_is_a_mailbox():
    assert parse_forward_path("<Postmaster@example.org>") == ForwardPath(Mailbox("Postmaster", ORG))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<",
        ">",
        "< >",
        "<user@example.org",
        "user@example.org>",
        "user@example.org",
        " <user@example.org>",
        "<user@example.org> ",
        "<user@example.org>\n",
        "<<user@example.org>>",
        "< user@example.org>",
        "<user@example.org >",
        "<user@example.org><x@example.org>",
        "<po\u017ftma\u017fter>",
    ],
)
@pytest.mark.parametrize("parse", [parse_reverse_path, parse_forward_path])
@pytest.mark.parametrize("utf8", [False, True])
def test_what_is_no_path_is_refused(text, parse, utf8):
    with pytest.raises(MailSyntaxError):
        parse(text, utf8=utf8)


def test_the_empty_path_is_no_recipient():
    with pytest.raises(MailSyntaxError):
        parse_forward_path("<>")


def test_a_path_may_have_256_octets():
    # RFC 5321 §4.5.3.1.3: with the brackets
    domain = "a" * 63 + "." + "b" * 63 + "." + "c" * 61
    local = "u" * 64
    assert len(f"<{local}@{domain}>") == 256
    assert parse_forward_path(f"<{local}@{domain}>").mailbox == Mailbox(local, Domain(domain))
    with pytest.raises(PathTooLong, match="path is too long"):
        parse_forward_path(f"<{local}@{domain}d>")


@pytest.mark.parametrize(
    "route",
    [
        "@a.example",
        "@a.example,@b.example",
        "@[192.0.2.1]",
        "@[IPv6:2001:db8::1]",
        "@a.example,@[IPv6:2001:db8::1]",
        "@[IPv6:2001:db8::1],@b.example",
        "@[tag:x:y],@b.example",
    ],
)
def test_a_source_route_is_checked_and_ignored(route):
    assert parse_forward_path(f"<{route}:user@example.org>") == ForwardPath(Mailbox("user", ORG))
    assert parse_reverse_path(f"<{route}:user@example.org>") == ReversePath(Mailbox("user", ORG))


@pytest.mark.parametrize(
    "text",
    [
        "<@a.example>",
        "<@a.example:>",
        "<@:user@example.org>",
        "<@a.example,:user@example.org>",
        "<@a.example,b.example:user@example.org>",
        "<@a.example,,@b.example:user@example.org>",
        "<@a.example @b.example:user@example.org>",
        "<@a_.-:user@example.org>",
        "<@[192.0.2.1:user@example.org>",
        "<@192.0.2.1]:user@example.org>",
        "<@[IPv6:::1:user@example.org>",
        "<@]:[user@example.org>",
        "<@a.example:@b.example:user@example.org>",
        "<@a.example:user>",
    ],
)
def test_a_broken_source_route_is_refused(text):
    with pytest.raises(MailSyntaxError):
        parse_forward_path(text)


# Each is how some relay was opened. What parses must name the domain that decides: the last one.
@pytest.mark.parametrize(
    ("text", "mailbox"),
    [
        ("<victim%ext.test@local.test>", Mailbox("victim%ext.test", L)),
        ("<victim%ext.test@[192.0.2.25]>", Mailbox("victim%ext.test", IP)),
        ('<"victim@ext.test"@local.test>', Mailbox("victim@ext.test", L)),
        ('<"victim@ext.test"@[192.0.2.25]>', Mailbox("victim@ext.test", IP)),
        ("<@local.test:victim@ext.test>", Mailbox("victim", V)),
        ("<@[192.0.2.25]:victim@ext.test>", Mailbox("victim", V)),
        ("<@mx.local.test,@ext3.test:victim@ext.test>", Mailbox("victim", V)),
        ("<ext.test!victim@local.test>", Mailbox("ext.test!victim", L)),
        ("<ext.test!victim@[192.0.2.25]>", Mailbox("ext.test!victim", IP)),
        ("<victim@local.test.ext.test>", Mailbox("victim", Domain("local.test.ext.test"))),
        ("<victim@notlocal.test>", Mailbox("victim", Domain("notlocal.test"))),
        ("<victim@[127.0.0.1]>", Mailbox("victim", AddressLiteral(ipaddress.ip_address("127.0.0.1")))),
        ("<victim@[IPv6:::1]>", Mailbox("victim", AddressLiteral(ipaddress.ip_address("::1")))),
        ("<victim@localhost>", Mailbox("victim", Domain("localhost"))),
    ],
)
def test_an_open_relay_form_names_the_domain_that_decides(text, mailbox):
    assert parse_forward_path(text) == ForwardPath(mailbox)


@pytest.mark.parametrize(
    "text",
    [
        "<user>",
        '<"victim@ext.test">',
        '<"victim%ext.test">',
        "<victim@ext.test@local.test>",
        "<victim@ext.test@[192.0.2.25]>",
        "<ext.test!victim>",
        "<victim@ext.test.>",
        "<victim@ext.test\0@local.test>",
        "<victim@ext.test\n@local.test>",
        "<victim@ext.test\r@local.test>",
        "<victim@local.test\0.ext.test>",
        "<victim@ext。test>",
        "<victim＠ext.test>",
        "<victim@\u212aocal.test>",
        "<victim@ｌｏｃａｌ.test>",
    ],
)
@pytest.mark.parametrize("utf8", [False, True])
def test_an_open_relay_form_that_is_no_path_is_refused(text, utf8):
    with pytest.raises(MailSyntaxError):
        parse_forward_path(text, utf8=utf8)


PATH_TEXT = st.one_of(
    st.text(),
    st.text(alphabet='<>@"\\[]:,.ab1- \n\0é\u212a').map(lambda text: f"<{text}>"),
    st.from_regex(r'<(@[a-z.,:@\[\]]*:)?("([a-z \\"@<>]*)"|[a-z.+]+)@[a-z.]+>', fullmatch=True),
)


@given(PATH_TEXT, st.booleans())
@example("<\ud800@example.org>", True)
@example('<"\\\\\\""@example.org>', False)
def test_any_text_gives_a_path_or_a_syntax_error(text, utf8):
    for parse in (parse_reverse_path, parse_forward_path):
        try:
            path = parse(text, utf8=utf8)
        except MailSyntaxError:
            continue
        assert parse(str(path), utf8=utf8) == path
        assert "\n" not in str(path)
        assert "\0" not in str(path)


LOCAL_PARTS = st.text(
    alphabet=st.characters(min_codepoint=0x20, exclude_categories=["Cs", "Cc"]), min_size=1, max_size=15
)


@given(LOCAL_PARTS)
def test_any_local_part_survives_quoting(local_part):
    mailbox = Mailbox(local_part, ORG)
    assert parse_mailbox(str(mailbox), utf8=True) == mailbox


@pytest.mark.parametrize(
    "text",
    [
        "<" + "@" * 200_000 + ">",
        "<" + "a." * 100_000 + ">",
        "<" + '"\\' * 100_000 + ">",
        "<@" + "[" * 100_000 + ":a@b>",
        "<@" + "a,@" * 80 + ":a@b>",
        "<@" + "[]" * 120 + "a@b>",
        '<"' + "\\\\" * 120 + "@b>",
        "<" + "a-" * 120 + "@b>",
        "<a@" + "b-" * 120 + ">",
        "<" + "é" * 200_000 + "@b>",
    ],
    ids=lambda text: ascii(text[:20]),
)
def test_hostile_text_is_refused_at_once(text):
    start = time.process_time()
    for utf8 in (False, True):
        with pytest.raises(MailSyntaxError):
            parse_forward_path(text, utf8=utf8)
    assert time.process_time() - start < 0.2
