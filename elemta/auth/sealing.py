"""Secrets that can be read back, which only CRAM-MD5 needs: encrypted with the key of a file.

Whoever has both the users file and the key file has the passwords. Without the key the sealed text
says hardly more than that there is one.
"""

from __future__ import annotations

import base64
import binascii
import os

NONCE_OCTETS = 12
BLOCK = 32
"""Octets. Secrets are filled up with NUL, which none of them has, to a multiple: most look equally long."""
MARK = "AES-256-GCM$"
"""How a sealed secret begins in the users file."""


class SealBroken(Exception):
    """A sealed secret that this key does not open, for this account."""


class Sealer:
    """Seals and opens secrets of accounts with one key."""

    def __init__(self, key: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - slow, rarely needed

        self._cipher = AESGCM(key)

    def seal(self, name: str, credential: str, secret: str) -> str:
        """Encrypt a prepared password. It opens for this account and credential only."""
        nonce = os.urandom(NONCE_OCTETS)
        data = secret.encode()
        data += b"\0" * (-len(data) % BLOCK)
        sealed = nonce + self._cipher.encrypt(nonce, data, _bound_to(name, credential))
        return MARK + base64.b64encode(sealed).decode("ascii")

    def open(self, name: str, credential: str, sealed: str) -> bytes:
        """Raises: SealBroken: another key, another account, or damage."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415

        try:
            data = base64.b64decode(sealed.removeprefix(MARK), validate=True)
            nonce, sealed_data = data[:NONCE_OCTETS], data[NONCE_OCTETS:]
            return self._cipher.decrypt(nonce, sealed_data, _bound_to(name, credential)).rstrip(b"\0")
        except (binascii.Error, ValueError, InvalidTag) as error:
            raise SealBroken(f"the recoverable secret of {name} does not open with this key") from error


def _bound_to(name: str, credential: str) -> bytes:
    return f"{name}\0{credential}".encode()
