"""Signatures as the specification Standard Webhooks 1.0 has them, for which receivers find libraries."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from pathlib import Path
from typing import Final

PREFIX: Final = "whsec_"
SHORTEST: Final = 24
"""Octets of a secret; so says the specification."""


def read_secret(path: Path) -> bytes:
    """The secret of a file: `whsec_` and base64 of 24 octets or more.

    Raises:
      ValueError: it cannot be read, or is none; says what to do.
    """
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"the secret cannot be read: {error}") from error
    try:
        secret = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError(f"{path} is no secret: write {PREFIX} and base64 into it") from error
    if len(secret) < SHORTEST:
        raise ValueError(f"{path} has {len(secret)} octets; a secret has {SHORTEST} or more")
    return secret


def signature(secret: bytes, identity: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`."""
    content = f"{identity}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(secret, content, hashlib.sha256)).decode()
