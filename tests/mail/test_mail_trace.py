"""Trace fields: what RFC 5321 §4.4 wants, and nothing that a stranger could add."""

import email
import email.policy
import email.utils
import timeit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elemta.mail import (
    NULL_PATH,
    MessageId,
    Origin,
    TlsFacts,
    date,
    parse_mailbox,
    parse_reverse_path,
    received,
    return_path,
)

MESSAGE = MessageId("01hxyz0123456789")
NOW = 1_700_000_000.9
USER = parse_mailbox("user@example.org")


def field(origin, *, recipient=USER, smtputf8=False, hostname="mx.example.org", priority=None):
    return received(
        origin,
        hostname=hostname,
        message=MESSAGE,
        recipient=recipient,
        time=NOW,
        smtputf8=smtputf8,
        priority=priority,
    )


def unfolded(raw):
    return raw.decode().replace("\r\n\t", " ").removesuffix("\r\n")


def test_received_says_who_how_and_when():
    origin = Origin(
        "session",
        "192.0.2.1",
        4711,
        "client.example",
        "ESMTPS",
        tls=TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384"),
    )
    assert field(origin) == (
        b"Received: from client.example ([192.0.2.1]) by mx.example.org (elemta)\r\n"
        b"\twith ESMTPS id 01hxyz0123456789 (TLSv1.3 TLS_AES_256_GCM_SHA384)\r\n"
        b"\tfor <user@example.org>; Tue, 14 Nov 2023 22:13:20 +0000\r\n"
    )


@pytest.mark.parametrize("priority", [-4, 0, 9])
def test_a_priority_that_was_asked_for_is_named_last(priority):
    # RFC 6710 §4.1, §7; RFC 5321 §4.4: additional clauses follow those that it has itself
    text = unfolded(field(Origin("s", "192.0.2.1", hello="c.example"), priority=priority))
    assert f" for <user@example.org> PRIORITY {priority}; Tue" in text


def test_without_one_recipient_there_is_no_for():
    text = unfolded(field(Origin("s", "192.0.2.1", hello="c.example"), recipient=None))
    assert text == (
        "Received: from c.example ([192.0.2.1]) by mx.example.org (elemta) "
        "with SMTP id 01hxyz0123456789; Tue, 14 Nov 2023 22:13:20 +0000"
    )


@pytest.mark.parametrize(
    ("peer", "shown"),
    [
        ("192.0.2.1", "[192.0.2.1]"),
        ("2001:db8::1", "[IPv6:2001:db8::1]"),
        ("fe80::1%eth0", "[IPv6:fe80::1]"),
    ],
)
def test_the_address_is_a_literal(peer, shown):
    assert f"from c.example ({shown}) by" in unfolded(field(Origin("s", peer, hello="c.example")))


@pytest.mark.parametrize("peer", ["local", ""])
def test_what_was_made_here_comes_from_nowhere(peer):
    assert unfolded(field(Origin("s", peer))).startswith("Received: by mx.example.org (elemta) with")


def test_a_client_that_said_no_name_is_its_address():
    assert "from [192.0.2.1] ([192.0.2.1]) by" in unfolded(field(Origin("s", "192.0.2.1")))


@pytest.mark.parametrize("hello", ["c.example", "[192.0.2.7]", "[IPv6:2001:db8::1]", "WIN-PC_1", "a"])
def test_an_ordinary_hello_stays_as_it_is(hello):
    assert f"from {hello} (" in unfolded(field(Origin("s", "192.0.2.1", hello=hello)))


@pytest.mark.parametrize(
    ("hello", "shown"),
    [
        ("a\r\nSubject: x", "a??Subject:?x"),
        ("a\nb", "a?b"),
        ("a\0b", "a?b"),
        ("a\x1b[2Jb", "a??2Jb"),
        ("a\x7fb", "a?b"),
        ("a\x9bb", "a?b"),
        ("a (by evil) b", "a??by?evil??b"),
        ("a; Mon", "a??Mon"),
        ("<a@b>", "?a?b?"),
        ("[a", "?a"),
        ("[[a]]", "??a??"),
        ('"a"', "?a?"),
        ("a\\", "a?"),
        ("a,b", "a?b"),
        ("münchen", "m?nchen"),
        ("\u202eevil", "?evil"),
        ("\ud800", "?"),
        ("%s{0}", "%s{0}"),
        ("(" * 300, "?" * 255),
    ],
)
def test_a_hostile_hello_is_made_harmless(hello, shown):
    assert f"from {shown} ([192.0.2.1]) by" in unfolded(field(Origin("s", "192.0.2.1", hello=hello)))


def test_with_smtputf8_a_hello_may_be_beyond_ascii():
    origin = Origin("s", "192.0.2.1", hello="münchen.example")
    assert "from münchen.example (" in unfolded(field(origin, smtputf8=True))


@pytest.mark.parametrize(
    "character", ["\u202e", "\u2028", "\x85", "\x9b", "\ud800", "\ufeff", "\u200b", "\u00a0"]
)
def test_with_smtputf8_only_what_can_be_seen_stays(character):
    origin = Origin("s", "192.0.2.1", hello=f"mü{character}x")
    assert "from mü?x (" in unfolded(field(origin, smtputf8=True))


def test_a_recipient_beyond_ascii_is_named_only_with_smtputf8():
    recipient = parse_mailbox("jörg@example.org", utf8=True)
    origin = Origin("s", "192.0.2.1", hello="c.example")
    assert b"for <" not in field(origin, recipient=recipient)
    assert "for <jörg@example.org>;" in unfolded(field(origin, recipient=recipient, smtputf8=True))


@given(
    st.text(max_size=400),
    st.booleans(),
    st.sampled_from([None, USER, parse_mailbox('"; by (x) <y>"@example.org')]),
)
def test_any_hello_gives_one_well_folded_field(hello, smtputf8, recipient):
    raw = field(Origin("s", "192.0.2.1", hello=hello), recipient=recipient, smtputf8=smtputf8)
    assert raw.startswith((b"Received: from ", b"Received:\r\n\tfrom "))
    assert raw.endswith(b" +0000\r\n")
    assert smtputf8 or raw.isascii()
    lines = raw.decode().removesuffix("\r\n").split("\r\n")
    assert "\r" not in "".join(lines)
    assert "\n" not in "".join(lines)
    for line in lines[1:]:
        assert line.startswith("\t")
        assert line.strip()
    for line in lines:
        assert len(line) < 78 or " " not in line.strip().removeprefix("from ")
        assert len(line.encode()) <= 998
    parsed = email.message_from_bytes(raw + b"\r\n", policy=email.policy.default)
    assert parsed.keys() == ["Received"]


def test_long_words_are_folded_around():
    mailbox = parse_mailbox("l" * 64 + "@" + ".".join(["d" * 60] * 3))
    raw = field(Origin("s", "192.0.2.1", hello="h" * 255), recipient=mailbox, hostname="x" * 70)
    lines = raw.decode().split("\r\n")
    assert lines[0] == "Received:"
    assert lines[1] == f"\tfrom {'h' * 255}"
    assert max(map(len, lines)) <= 998
    assert unfolded(raw).startswith("Received: from hh")


def test_a_received_field_costs_microseconds():
    origin = Origin("s", "192.0.2.1", hello="client.example", protocol="ESMTP")
    seconds = min(timeit.repeat(lambda: field(origin), number=100, repeat=5)) / 100
    assert seconds < 50e-6  # about 2 here; the bound leaves room for a busy machine


def test_return_path():
    assert return_path(NULL_PATH) == b"Return-Path: <>\r\n"
    assert return_path(parse_reverse_path('<"a b"@example.org>')) == b'Return-Path: <"a b"@example.org>\r\n'
    utf8 = parse_reverse_path("<jörg@example.org>", utf8=True)
    assert return_path(utf8) == "Return-Path: <jörg@example.org>\r\n".encode()


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (0.0, "Thu, 01 Jan 1970 00:00:00 +0000"),
        (1_700_000_000.999, "Tue, 14 Nov 2023 22:13:20 +0000"),
        (951_782_400.0, "Tue, 29 Feb 2000 00:00:00 +0000"),
        (-5.0, "Thu, 01 Jan 1970 00:00:00 +0000"),
        (1e12, "Fri, 31 Dec 9999 23:59:59 +0000"),
    ],
)
def test_a_date_is_utc_and_of_rfc_5322(time, text):
    assert date(time) == text


@given(st.integers(min_value=0, max_value=4_000_000_000))
def test_a_date_reads_back(second):
    assert email.utils.parsedate_to_datetime(date(second)).timestamp() == second
