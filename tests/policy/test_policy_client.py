"""The dossier of a client: addresses as they are meant, notes that are safe."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_bed import client

from elemta.dns import reverse_name, reversed_labels
from elemta.mail import Identity
from elemta.policy.client import parse_peer
from elemta.policy.networks import network_of


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("local", None),
        ("", None),
    ],
)
def test_a_peer_is_an_address_unmapped_and_without_scope(peer, address):
    found = client(peer).address
    assert found == (None if address is None else ipaddress.ip_address(address))


def test_notes_are_one_safe_line_of_bounded_length():
    dossier = client()
    dossier.note("hello", "\x1b[2J\r\nfake\u202e" + "x" * 1000)
    note = dossier.notes["hello"]
    assert note.isprintable()
    assert note.startswith("\\x1b[2J\\r\\nfake\\u202e")
    assert len(note) < 400


def test_a_note_is_handed_out_once_and_again_only_when_it_changes():
    dossier = client()
    dossier.note("hello", "one")
    dossier.note("greylist", "two")
    assert dossier.take_fresh_notes() == {"hello": "one", "greylist": "two"}
    dossier.note("hello", "one")
    assert dossier.take_fresh_notes() == {}
    dossier.note("hello", "three")
    assert dossier.take_fresh_notes() == {"hello": "three"}
    assert dossier.notes == {"hello": "three", "greylist": "two"}


def test_what_is_only_recorded_is_no_event():
    dossier = client()
    dossier.record("reverse-dns", "pass: a.example")
    assert dossier.take_fresh_notes() == {}
    assert dossier.notes == {"reverse-dns": "pass: a.example"}


def test_who_has_an_identity_is_authenticated():
    dossier = client()
    assert not dossier.authenticated
    dossier.identity = Identity("alice", "PLAIN")
    assert dossier.authenticated


@pytest.mark.parametrize(
    ("peer", "bits", "network"),
    [
        ("192.0.2.7", (24, 64), "192.0.2.0/24"),
        ("192.0.2.7", (32, 64), "192.0.2.7/32"),
        ("192.0.2.7", (8, 64), "192.0.0.0/8"),
        ("2001:db8:1:2:3::4", (24, 64), "2001:db8:1:2::/64"),
        ("2001:db8:1:2:3::4", (24, 48), "2001:db8:1::/48"),
        ("2001:db8:1:2:3::4", (24, 128), "2001:db8:1:2:3::4/128"),
    ],
)
def test_the_network_of_an_address(peer, bits, network):
    assert network_of(ipaddress.ip_address(peer), *bits) == network


@given(st.ip_addresses(), st.integers(8, 32), st.integers(16, 128))
def test_networks_are_those_of_the_library(address, ipv4_bits, ipv6_bits):
    bits = ipv4_bits if address.version == 4 else ipv6_bits
    expected = ipaddress.ip_network(f"{address}/{bits}", strict=False)
    assert network_of(address, ipv4_bits, ipv6_bits) == str(expected)


@given(st.ip_addresses())
def test_reverse_names_are_those_of_the_library(address):
    assert reverse_name(address) == address.reverse_pointer


def test_ipv6_is_asked_by_nibbles():
    # RFC 5782 §2.4
    labels = reversed_labels(ipaddress.ip_address("2001:db8:1:2:3:4:567:89ab"))
    assert labels == "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2"


@given(st.text())
def test_any_peer_is_an_address_or_none(peer):
    address = parse_peer(peer)
    assert address is None or getattr(address, "ipv4_mapped", None) is None
