"""The PROXY header, versions 1 and 2 (HAProxy, proxy-protocol.txt)."""

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from smtp_helpers import splits

from elemta.smtp import ProxyEndpoint, ProxyHeader, ProxyParser, ProxyTls, RemoteProtocolError
from elemta.smtp.proxy import MAX_VERSION_1, MAX_VERSION_2

SIGNATURE = bytes.fromhex("0D0A0D0A000D0A515549540A")
CLIENT = ProxyEndpoint(ipaddress.ip_address("192.0.2.1"), 56324)
SERVER = ProxyEndpoint(ipaddress.ip_address("198.51.100.2"), 25)
CLIENT6 = ProxyEndpoint(ipaddress.ip_address("2001:db8::1"), 56324)
SERVER6 = ProxyEndpoint(ipaddress.ip_address("2001:db8::25"), 25)
BLOCK = CLIENT.address.packed + SERVER.address.packed + (56324).to_bytes(2) + (25).to_bytes(2)
BLOCK6 = CLIENT6.address.packed + SERVER6.address.packed + (56324).to_bytes(2) + (25).to_bytes(2)


def version_2(block: bytes, *, command: int = 0x21, family: int = 0x11) -> bytes:
    return SIGNATURE + bytes([command, family]) + len(block).to_bytes(2) + block


def tlv(kind: int, value: bytes) -> bytes:
    return bytes([kind]) + len(value).to_bytes(2) + value


def tls(client: int, verify: int, *parts: bytes) -> bytes:
    return tlv(0x20, bytes([client]) + verify.to_bytes(4) + b"".join(parts))


def crc32c(data: bytes) -> int:
    """Bit by bit, as in RFC 4960, appendix B: another way than the parser's."""
    crc = 0xFFFFFFFF
    for octet in data:
        crc ^= octet
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 & -(crc & 1))
    return crc ^ 0xFFFFFFFF


def with_checksum(block: bytes) -> bytes:
    header = version_2(block + tlv(0x03, bytes(4)))
    return header[:-4] + crc32c(header).to_bytes(4)


def read(parts: list[bytes]) -> tuple[ProxyHeader | None, bytes]:
    """The header, and what came behind it."""
    parser = ProxyParser()
    rest = b""
    header = None
    for part in parts:
        if header is None:
            header = parser.feed(part)
            rest = parser.rest
        else:
            rest += part
    return header, rest


GOOD = [
    (b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 25\r\n", ProxyHeader(CLIENT, SERVER)),
    (b"PROXY TCP6 2001:db8::1 2001:DB8:0::25 56324 25\r\n", ProxyHeader(CLIENT6, SERVER6)),
    (
        b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 0\r\n",
        ProxyHeader(
            ProxyEndpoint(ipaddress.ip_address("255.255.255.255"), 65535),
            ProxyEndpoint(ipaddress.ip_address("255.255.255.255"), 0),
        ),
    ),
    (b"PROXY UNKNOWN\r\n", ProxyHeader()),
    (b"PROXY UNKNOWN " + b"f" * 91 + b"\r\n", ProxyHeader()),
    (version_2(BLOCK), ProxyHeader(CLIENT, SERVER)),
    (version_2(BLOCK6, family=0x21), ProxyHeader(CLIENT6, SERVER6)),
    (version_2(b"", command=0x20, family=0x00), ProxyHeader(is_local=True)),
    (version_2(b"junk", command=0x20, family=0xFF), ProxyHeader(is_local=True)),
    (version_2(b"", family=0x00), ProxyHeader()),
    (version_2(b"junk", family=0x01), ProxyHeader()),
    (version_2(BLOCK, family=0x10), ProxyHeader()),
    (version_2(BLOCK + tlv(0x04, b"")), ProxyHeader(CLIENT, SERVER)),
    (version_2(BLOCK + tlv(0x04, b"pad") + tlv(0x04, b"pad")), ProxyHeader(CLIENT, SERVER)),
    (version_2(BLOCK + tlv(0xE0, b"\xff") + tlv(0x30, b"ns")), ProxyHeader(CLIENT, SERVER)),
    (
        version_2(BLOCK + tlv(0x02, b"mx.example.org") + tlv(0x05, b"\0\1\2")),
        ProxyHeader(CLIENT, SERVER, authority="mx.example.org", unique_id=b"\0\1\2"),
    ),
    (with_checksum(BLOCK), ProxyHeader(CLIENT, SERVER)),
    (with_checksum(BLOCK + tlv(0x02, b"mx")), ProxyHeader(CLIENT, SERVER, authority="mx")),
    (version_2(BLOCK + tls(0x00, 0, tlv(0x21, b"TLSv1.3"))), ProxyHeader(CLIENT, SERVER)),
    (version_2(BLOCK + tls(0x01, 0)), ProxyHeader(CLIENT, SERVER, tls=ProxyTls())),
    (
        version_2(BLOCK + tls(0x01, 1, tlv(0x21, b"TLSv1.3"), tlv(0x23, b"TLS_AES_256_GCM_SHA384"))),
        ProxyHeader(CLIENT, SERVER, tls=ProxyTls("TLSv1.3", "TLS_AES_256_GCM_SHA384")),
    ),
    (
        version_2(BLOCK + tls(0x07, 0, tlv(0x22, b"client.example"), tlv(0x24, b"RSA-SHA256"))),
        ProxyHeader(CLIENT, SERVER, tls=ProxyTls(common_name="client.example", verified=True)),
    ),
    (version_2(BLOCK + tls(0x03, 5)), ProxyHeader(CLIENT, SERVER, tls=ProxyTls())),
    (version_2(BLOCK + tlv(0x04, bytes(MAX_VERSION_2 - 15))), ProxyHeader(CLIENT, SERVER)),
]


@pytest.mark.parametrize(("data", "header"), GOOD, ids=range(len(GOOD)))
def test_a_header(data, header):
    assert read([data]) == (header, b"")
    assert read([data + b"EHLO x\r\n\0"]) == (header, b"EHLO x\r\n\0")


@pytest.mark.parametrize(("data", "header"), [case for case in GOOD if len(case[0]) < 200])
def test_a_header_in_any_pieces(data, header):
    for parts in splits(data + b"\r\nEHLO"):
        assert read(parts) == (header, b"\r\nEHLO")
    for end in range(len(data)):
        assert read([data[:end]]) == (None, b"")


BAD = [
    b"EHLO x\r\n",
    b"\x16\x03\x01\x02\x00",
    b"GET / HTTP/1.1\r\n",
    b"PROXX",
    b"proxy TCP4 192.0.2.1 198.51.100.2 56324 25\r\n",
    b"PROXY \r\n",
    b"PROXY TCP4\r\n",
    b"PROXY UNKNOWNX\r\n",
    b"PROXY UDP4 192.0.2.1 198.51.100.2 56324 25\r\n",
    b"PROXY TCP5 192.0.2.1 198.51.100.2 56324 25\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 25 \r\n",
    b"PROXY TCP4  192.0.2.1 198.51.100.2 56324 25\r\n",
    b"PROXY TCP4\t192.0.2.1 198.51.100.2 56324 25\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 65536\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 025\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 -25\r\n",
    b"PROXY TCP4 192.0.2.01 198.51.100.2 56324 25\r\n",
    b"PROXY TCP4 192.0.2.256 198.51.100.2 56324 25\r\n",
    b"PROXY TCP4 192.0.2 198.51.100.2 56324 25\r\n",
    b"PROXY TCP4 2001:db8::1 2001:db8::25 56324 25\r\n",
    b"PROXY TCP6 192.0.2.1 198.51.100.2 56324 25\r\n",
    b"PROXY TCP6 fe80::1%eth0 2001:db8::25 56324 25\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 25\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 25\r\r",
    b"PROXY UNKNOWN a\nb\r",
    b"PROXY UNKNOWN " + b"x" * (MAX_VERSION_1 - 15) + b"\r\n",
    b"PROXY " + b"x" * 200,
    SIGNATURE[:11] + b"\r",
    version_2(BLOCK, command=0x11),
    version_2(BLOCK, command=0x31),
    version_2(BLOCK, command=0x22),
    version_2(BLOCK, family=0x12),
    version_2(BLOCK6, family=0x22),
    version_2(bytes(216), family=0x31),
    version_2(bytes(216), family=0x32),
    version_2(BLOCK, family=0x13),
    version_2(BLOCK, family=0x41),
    version_2(BLOCK, family=0xFF),
    version_2(BLOCK[:-1]),
    version_2(b""),
    version_2(BLOCK, family=0x21),
    SIGNATURE + b"\x21\x11\xff\xff",
    SIGNATURE + b"\x21\x11" + (MAX_VERSION_2 + 1).to_bytes(2),
    version_2(BLOCK + b"\4"),
    version_2(BLOCK + b"\4\0"),
    version_2(BLOCK + b"\4\0\1"),
    version_2(BLOCK + tlv(0x02, b"mx") + tlv(0x02, b"mx")),
    version_2(BLOCK + tlv(0x02, b"\xff")),
    version_2(BLOCK + tlv(0x02, b"mx\r\nX: y")),
    version_2(BLOCK + tlv(0x02, b"m" * 256)),
    version_2(BLOCK + tlv(0x05, b"m" * 129)),
    version_2(BLOCK + tlv(0x03, bytes(4))),
    version_2(BLOCK + tlv(0x03, bytes(3))),
    version_2(BLOCK + tlv(0x03, b"")),
    with_checksum(BLOCK)[:-1] + b"\0\0"[:1],
    with_checksum(BLOCK).replace(CLIENT.address.packed, b"\x0a\0\0\1"),
    version_2(BLOCK + tlv(0x20, b"\1\0\0\0")),
    version_2(BLOCK + tls(0x01, 0, b"\x21\0\7TLS")),
    version_2(BLOCK + tls(0x01, 0, tlv(0x21, b"TLS\x1b[2J"))),
]


@pytest.mark.parametrize("data", BAD, ids=range(len(BAD)))
def test_what_is_no_header(data):
    for parts in ([data], [bytes([octet]) for octet in data], [data + b"\r\nEHLO x\r\n"]):
        with pytest.raises(RemoteProtocolError):
            read(parts)


def test_what_is_no_header_is_known_at_its_first_wrong_octet():
    for data in (b"E", b"PROXI", b"\r\n\r\n\1", SIGNATURE[:-1] + b"\r"):
        parser = ProxyParser()
        assert all(parser.feed(data[at : at + 1]) is None for at in range(len(data) - 1))
        with pytest.raises(RemoteProtocolError):
            parser.feed(data[-1:])


def test_a_header_that_is_too_long_is_refused_before_it_has_come():
    with pytest.raises(RemoteProtocolError):
        ProxyParser().feed(SIGNATURE + b"\x21\x11\xff\xff")


def test_the_longest_line():
    line = b"PROXY UNKNOWN " + b"f" * (MAX_VERSION_1 - 16) + b"\r\n"
    assert len(line) == MAX_VERSION_1
    assert read([line + b"x"]) == (ProxyHeader(), b"x")


octets = st.one_of(
    st.binary(max_size=60),
    st.binary(max_size=60).map(b"PROXY ".__add__),
    st.builds(
        lambda family, block, vectors: version_2(block + vectors, family=family),
        st.sampled_from([0x11, 0x21]),
        st.sampled_from([BLOCK, BLOCK6]),
        st.lists(st.builds(tlv, st.sampled_from([2, 3, 4, 5, 0x20, 0x21]), st.binary(max_size=20))).map(
            b"".join
        )
        | st.binary(max_size=30),
    ),
)


@given(octets, st.integers(1, 80))
@settings(deadline=None, max_examples=200)
def test_any_octets_are_a_header_or_a_remote_error_however_they_arrive(data, size):
    def outcome(parts):
        try:
            return read(parts)
        except RemoteProtocolError:
            return "error"

    whole = outcome([data])
    assert outcome([data[at : at + size] for at in range(0, len(data), size)]) == (
        whole if data else (None, b"")
    )
    assert outcome([bytes([octet]) for octet in data]) == (whole if data else (None, b""))
