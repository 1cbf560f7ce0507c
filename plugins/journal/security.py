"""What a connection to the archive has to be: with TLS or without, and whom it has to lead to."""

from __future__ import annotations

import enum
import ssl
from pathlib import Path

import attrs

from elemta.runtime import harden


class StartTls(enum.StrEnum):
    """Whether to ask for TLS behind the greeting (RFC 3207)."""

    OFF = "off"
    OPPORTUNISTIC = "opportunistic"
    """Where it is offered, whoever it is; without it where that fails."""
    REQUIRED = "required"
    """Nothing is handed in without; whoever it is."""
    VERIFIED = "verified"
    """Only to a server with a certificate of its name that is trusted."""


@attrs.frozen
class Security:
    """What is asked for, and with what."""

    level: StartTls
    context: ssl.SSLContext | None
    """None: no TLS is asked for."""
    hostname: str
    """Of the archive, as the configuration names it."""

    def without(self) -> Security:
        """The same with no TLS."""
        return Security(StartTls.OFF, None, self.hostname)


def make_context(ca_file: Path | None, *, verify: bool) -> ssl.SSLContext:
    """A context for the archive. Blocking: it reads the authorities that are trusted.

    Raises:
      OSError: the file cannot be read, or has no certificates (`ssl.SSLError`).
    """
    context = harden(ssl.create_default_context(cafile=None if ca_file is None else str(ca_file)))
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
