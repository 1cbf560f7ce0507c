"""What no TLS context of ours may do, whichever side it is for, and how its being cut off looks."""

from __future__ import annotations

import ssl

# Debian's Python sets it: what an attacker cut off would look like what the peer ended (RFC 8446 §6.1).
_IGNORE_UNEXPECTED_EOF: int = getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)


def harden(context: ssl.SSLContext) -> ssl.SSLContext:
    """Put the limits on this context, and return it."""
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996 §4, §5: never 1.0 and 1.1
    # RFC 9325 §3.3, §3.5; Python sets NO_COMPRESSION only (RELIABILITY 6.1)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.options &= ~_IGNORE_UNEXPECTED_EOF
    return context


def is_cut_off(error: BaseException | None) -> bool:
    """Is this what `ssl` raises where a connection ended without TLS being ended before (RFC 8446 §6.1)?

    Debian 12's Python (3.11.2) raises a plain `SSLError` for it, later ones `SSLEOFError`.
    """
    return isinstance(error, ssl.SSLEOFError) or (
        isinstance(error, ssl.SSLError) and getattr(error, "reason", None) == "UNEXPECTED_EOF_WHILE_READING"
    )
