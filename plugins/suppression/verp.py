"""Return paths that say which message a bounce is about, and that nobody else can make (VERP). Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from pathlib import Path
from typing import Final

import attrs

_ID: Final = 6
_MAC: Final = 10
_SHORTEST_SECRET: Final = 16


@attrs.frozen
class Verp:
    """`bounces+TOKEN@domain`: an identity and the hour of its end, with an HMAC over both.

    A token is 32 letters and digits. Large and small are the same: some servers change that.
    """

    secret: bytes = attrs.field(repr=False)
    prefix: str
    domain: str

    def address(self, identity: bytes, ends: float) -> str:
        """The return path with that identity of 6 octets, good until that time."""
        body = identity + int(ends // 3600 + 1).to_bytes(4, "big")
        token = base64.b32encode(body + self._mac(body)).decode("ascii").lower()
        return f"{self.prefix}+{token}@{self.domain}"

    def is_ours(self, address: str) -> bool:
        """Whether the address looks like such a return path, be it a good one or not."""
        local, _, domain = address.rpartition("@")
        return domain.lower() == self.domain and local.lower().startswith(f"{self.prefix}+")

    def identity(self, address: str, now: float) -> bytes | None:
        """The identity in a return path; None: it was not made with the secret, or its time is over."""
        if not self.is_ours(address):
            return None
        token = address.rpartition("@")[0][len(self.prefix) + 1 :]
        try:
            octets = base64.b32decode(token.upper())
        except (binascii.Error, ValueError):
            return None
        body, mac = octets[:-_MAC], octets[-_MAC:]
        if len(octets) != _ID + 4 + _MAC or not hmac.compare_digest(mac, self._mac(body)):
            return None
        return body[:_ID] if now < int.from_bytes(body[_ID:], "big") * 3600 else None

    def _mac(self, body: bytes) -> bytes:
        # the address is signed too: one secret may serve several
        said = f"{self.prefix}@{self.domain}".encode() + b"\0" + body
        return hmac.new(self.secret, said, hashlib.sha256).digest()[:_MAC]


def read_secret(file: Path) -> bytes:
    """The secret in a file.

    Raises:
      ValueError: there is none, or a short one.
    """
    try:
        secret = file.read_bytes().strip()
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from error
    if len(secret) < _SHORTEST_SECRET:
        raise ValueError(f"{file} has to have {_SHORTEST_SECRET} octets or more: openssl rand -base64 32")
    return secret
