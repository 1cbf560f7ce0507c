"""The PROXY header before a session: whom a load balancer speaks for (HAProxy, proxy-protocol.txt, 1 and 2).

Never guess whether there is one: a listener either expects it from all its peers, who are trusted then,
or from none (section 5 there). Section numbers below are of that text.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Final, TypeAlias

import attrs

from .errors import RemoteProtocolError

MAX_VERSION_1: Final = 107
"""Octets of a header of version 1 with its CRLF (§2.1)."""
MAX_VERSION_2: Final = 4096
"""Octets behind the first 16 of version 2; the format allows 65 535, and nobody needs them."""

_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_NAME: Final = b"PROXY "
_FIXED: Final = 16

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


@attrs.frozen(slots=True)
class ProxyEndpoint:
    """One end of the connection to the load balancer."""

    address: _Address
    port: int


@attrs.frozen(slots=True)
class ProxyTls:
    """What the load balancer says of the TLS that ended there (§2.2.6)."""

    version: str = ""
    """Such as `TLSv1.3`; empty where it was not said."""
    cipher: str = ""
    common_name: str = ""
    """Of the client's certificate."""
    verified: bool = False
    """The client showed a certificate, and it was checked with success."""


@attrs.frozen(slots=True)
class ProxyHeader:
    """Who is behind the load balancer. Without endpoints it speaks for itself or does not know: the real ones
    of the connection count then."""

    source: ProxyEndpoint | None = None
    destination: ProxyEndpoint | None = None
    """Both or neither."""
    is_local: bool = False
    """The load balancer connected on its own account, such as for a health check (LOCAL)."""
    authority: str = ""
    """The host name that the client asked for (SNI)."""
    unique_id: bytes = b""
    tls: ProxyTls | None = None
    """None: the client came in clear text, or nothing was said of it."""


class ProxyParser:
    """Takes the first octets of a connection, in any pieces, until its header is complete."""

    __slots__ = ("_buffer", "rest")

    def __init__(self) -> None:
        self._buffer = b""
        self.rest = b""
        """What came behind the header: the begin of TLS or of the session."""

    def feed(self, data: bytes) -> ProxyHeader | None:
        """The header; None while it is incomplete. Not to be called again after it was given.

        Raises:
          RemoteProtocolError: there is none, or it is malformed. Close; nothing can be answered.
        """
        self._buffer += data
        start = self._buffer[:_FIXED]
        if _SIGNATURE.startswith(start) or start.startswith(_SIGNATURE):
            return self._version_2()
        if _NAME.startswith(start) or start.startswith(_NAME):
            return self._version_1()
        raise RemoteProtocolError("no PROXY header")

    def _version_1(self) -> ProxyHeader | None:
        line = self._buffer[:MAX_VERSION_1]
        end = line.find(b"\r\n")
        text = line[:end] if end >= 0 else line.removesuffix(b"\r")
        # §2.1: neither CR nor LF alone is tolerated
        if b"\r" in text or b"\n" in text or (end < 0 and len(line) == MAX_VERSION_1):
            raise RemoteProtocolError("a PROXY line without its end")
        if end < 0:
            return None
        self.rest = self._buffer[end + 2 :]
        self._buffer = b""
        return _read_line(text)

    def _version_2(self) -> ProxyHeader | None:
        buffer = self._buffer
        if len(buffer) < _FIXED:
            return None
        size = int.from_bytes(buffer[14:16])
        if size > MAX_VERSION_2:
            raise RemoteProtocolError("a PROXY header that is too long")
        end = _FIXED + size
        command, family = buffer[12], buffer[13]
        _check_fixed(command, family)
        if len(buffer) < end:
            return None
        self.rest = buffer[end:]
        self._buffer = b""
        if command == _LOCAL:  # §2.2: everything else is to be discarded
            return ProxyHeader(is_local=True)
        if family not in _ADDRESS_SIZES:
            return ProxyHeader()
        return _read_block(buffer[:end], _ADDRESS_SIZES[family])


# --- Version 1 ----------------------------------------------------------------------------------

_LINE = re.compile(rb"PROXY TCP([46]) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) ([0-9]{1,5}) ([0-9]{1,5})")


def _read_line(line: bytes) -> ProxyHeader:
    # §2.1: what is behind UNKNOWN is to be ignored
    if line == b"PROXY UNKNOWN" or line.startswith(b"PROXY UNKNOWN "):
        return ProxyHeader()
    match = _LINE.fullmatch(line)
    if not match:
        raise RemoteProtocolError("a malformed PROXY line")
    family, *rest = (group.decode("ascii") for group in match.groups())
    source, destination, source_port, destination_port = rest
    make = ipaddress.IPv4Address if family == "4" else ipaddress.IPv6Address
    try:
        return ProxyHeader(
            ProxyEndpoint(make(source), _port(source_port)),
            ProxyEndpoint(make(destination), _port(destination_port)),
        )
    except ValueError as cause:
        raise RemoteProtocolError("a malformed PROXY line") from cause


def _port(text: str) -> int:
    port = int(text)
    if port > 65535 or text != str(port):  # §2.1: no zeros before it
        raise ValueError("port")
    return port


# --- Version 2 ----------------------------------------------------------------------------------

_LOCAL: Final = 0x20
_PROXY: Final = 0x21
"""Version and command in one octet."""
_ADDRESS_SIZES: Final = {0x11: 4, 0x21: 16}
"""TCP over IPv4 and over IPv6, as family and transport in one octet."""
_UNKNOWN: Final = frozenset({0x00, 0x01, 0x02, 0x10, 0x20, 0x30})
"""Family or transport are not known to the load balancer."""

_AUTHORITY: Final = 0x02
_CRC32C: Final = 0x03
_UNIQUE_ID: Final = 0x05
_SSL: Final = 0x20
_SSL_VERSION: Final = 0x21
_SSL_COMMON_NAME: Final = 0x22
_SSL_CIPHER: Final = 0x23
_CLIENT_SSL: Final = 0x01
_CLIENT_CERTIFICATE: Final = 0x02 | 0x04
"""Shown on this connection, or in the TLS session that it resumed."""
_KNOWN: Final = frozenset(
    {_AUTHORITY, _CRC32C, _UNIQUE_ID, _SSL, _SSL_VERSION, _SSL_COMMON_NAME, _SSL_CIPHER}
)

_MAX_UNIQUE_ID: Final = 128
_MAX_TEXT: Final = 255


def _check_fixed(command: int, family: int) -> None:
    if command not in (_LOCAL, _PROXY):
        raise RemoteProtocolError("a PROXY header of an unknown version or command")
    # §2.2: the family is ignored with LOCAL. Datagrams and UNIX sockets do not lead to a mail server.
    if command == _PROXY and family not in _ADDRESS_SIZES and family not in _UNKNOWN:
        raise RemoteProtocolError("a PROXY header of a transport that is not TCP")


def _read_block(header: bytes, size: int) -> ProxyHeader:
    source, destination = _FIXED, _FIXED + size
    ports = destination + size
    if len(header) < ports + 4:
        raise RemoteProtocolError("a PROXY header without its addresses")
    values: dict[int, bytes] = {}
    for kind, start, end in _vectors(header, ports + 4):
        if kind in values:
            raise RemoteProtocolError("a PROXY header with a value given twice")
        values[kind] = header[start:end]
        if kind == _CRC32C and not _is_intact(header, start, end):
            raise RemoteProtocolError("a PROXY header with a wrong checksum")
    unique_id = values.get(_UNIQUE_ID, b"")
    if len(unique_id) > _MAX_UNIQUE_ID:  # §2.2.5
        raise RemoteProtocolError("a PROXY header with a value that is too long")
    return ProxyHeader(
        ProxyEndpoint(
            ipaddress.ip_address(header[source:destination]), int.from_bytes(header[ports : ports + 2])
        ),
        ProxyEndpoint(
            ipaddress.ip_address(header[destination:ports]), int.from_bytes(header[ports + 2 : ports + 4])
        ),
        authority=_text(values.get(_AUTHORITY, b"")),
        unique_id=unique_id,
        tls=_read_tls(values[_SSL]) if _SSL in values else None,
    )


def _vectors(data: bytes, start: int) -> Iterator[tuple[int, int, int]]:
    """Type, begin and end of each value (§2.2); padding is left out, and so are types that we do not know,
    which may stand there twice."""
    while start < len(data):
        begin = start + 3
        end = begin + int.from_bytes(data[start + 1 : begin])
        if begin > len(data) or end > len(data):
            raise RemoteProtocolError("a PROXY header with a value that is cut off")
        if data[start] in _KNOWN:
            yield data[start], begin, end
        start = end


def _read_tls(value: bytes) -> ProxyTls | None:
    if len(value) < 5:
        raise RemoteProtocolError("a PROXY header with a value that is cut off")
    client, verify = value[0], int.from_bytes(value[1:5])
    parts = {kind: _text(value[start:end]) for kind, start, end in _vectors(value, 5)}
    if not client & _CLIENT_SSL:
        return None
    return ProxyTls(
        version=parts.get(_SSL_VERSION, ""),
        cipher=parts.get(_SSL_CIPHER, ""),
        common_name=parts.get(_SSL_COMMON_NAME, ""),
        # §2.2.6: zero says that a certificate was checked, if there was one
        verified=bool(client & _CLIENT_CERTIFICATE) and verify == 0,
    )


def _text(value: bytes) -> str:
    """Text that goes into logs and trace fields."""
    if len(value) > _MAX_TEXT:
        raise RemoteProtocolError("a PROXY header with a value that is too long")
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError as cause:
        raise RemoteProtocolError("a PROXY header with text that is not UTF-8") from cause
    if not text.isprintable():
        raise RemoteProtocolError("a PROXY header with text that is not printable")
    return text


# --- CRC32C (RFC 4960, appendix B) ----------------------------------------------------------------


def _make_table() -> tuple[int, ...]:
    table = []
    for octet in range(256):
        for _ in range(8):
            octet = octet >> 1 ^ (0x82F63B78 if octet & 1 else 0)
        table.append(octet)
    return tuple(table)


_TABLE: Final = _make_table()


def _is_intact(header: bytes, start: int, end: int) -> bool:
    # §2.2.3: over the whole header, with zeros for the sum itself
    crc = 0xFFFFFFFF
    for octet in header[:start] + bytes(end - start) + header[end:]:
        crc = _TABLE[(crc ^ octet) & 0xFF] ^ crc >> 8
    return end - start == 4 and int.from_bytes(header[start:end]) == crc ^ 0xFFFFFFFF
