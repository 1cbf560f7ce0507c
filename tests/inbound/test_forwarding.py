"""XCLIENT and XFORWARD attributes, read and checked."""

import pytest

from elemta.inbound.forwarding import UNKNOWN_PEER, ForwardedClient, read_forwarded


def test_every_attribute_has_its_place():
    assert read_forwarded(
        {
            "ADDR": "192.0.2.7",
            "PORT": "40001",
            "NAME": "client.example",
            "HELO": "hello.example",
            "PROTO": "esmtp",
            "LOGIN": "alice",
            "IDENT": "4F2A",
            "SOURCE": "REMOTE",
            "DESTADDR": "192.0.2.1",
        }
    ) == ForwardedClient("192.0.2.7", 40001, "client.example", "hello.example", "ESMTP", "alice", "4F2A")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("IPV6:2001:db8::1", "2001:db8::1"),
        ("ipv6:2001:DB8::1", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("IPV6:::ffff:192.0.2.7", "192.0.2.7"),
        ("[UNAVAILABLE]", UNKNOWN_PEER),
        ("[tempunavail]", UNKNOWN_PEER),
    ],
)
def test_addresses(text: str, address: str):
    assert read_forwarded({"ADDR": text}) == ForwardedClient(address)


def test_what_is_not_known_is_empty_and_what_is_not_said_is_none():
    said = read_forwarded({"NAME": "[UNAVAILABLE]", "PORT": "[UNAVAILABLE]", "PROTO": "[UNAVAILABLE]"})
    assert said == ForwardedClient(name="", port=0, protocol="")
    assert said.over(ForwardedClient("192.0.2.7", 5, "x")) == ForwardedClient("192.0.2.7", 0, "", protocol="")


@pytest.mark.parametrize(
    "attributes",
    [
        {"ADDR": "client.example"},
        {"ADDR": "192.0.2.256"},
        {"ADDR": ""},
        {"PORT": "65536"},
        {"PORT": "-1"},
        {"PORT": "٣"},
        {"PROTO": "QMTP"},
        {"HELO": "a\r\nb"},
        {"NAME": "x" * 256},
        {"LOGIN": "\x1b[2J"},
        {"ADDR": "192.0.2.1", "PORT": "x"},
    ],
)
def test_what_makes_no_sense_is_refused(attributes: dict[str, str]):
    assert read_forwarded(attributes) is None
