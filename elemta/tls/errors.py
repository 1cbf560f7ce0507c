"""What can go wrong with files, and with a handshake; each text is for the operator."""

from __future__ import annotations

import enum
from pathlib import Path


class TlsFilesError(Exception):
    """A certificate or key cannot be used; the text names the file and says why."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class TlsTrouble(enum.Enum):
    """What kept TLS from coming about."""

    HANDSHAKE = "handshake"
    NAME = "name"
    """The certificate is for other names."""
    DATE = "date"
    """The certificate has expired, or is not valid yet."""
    ISSUER = "issuer"
    """Nobody whom we know vouches for the certificate."""


class TlsFailed(Exception):
    """No TLS came about; `reason` is OpenSSL's, for the operator."""

    def __init__(
        self, reason: str, *, certificate: bool = False, trouble: TlsTrouble = TlsTrouble.HANDSHAKE
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.trouble = trouble
        self.certificate = certificate
        """Whether the peer's certificate was refused, rather than the handshake as such."""
