"""Which certificates the peer showed, whether or not anybody would vouch for them."""

from __future__ import annotations

import ssl
from typing import Any

import trio

MAX_CERTIFICATES = 16
"""Of one chain; real ones have up to five, and each costs its signature."""


def peer_certificates(tls: trio.SSLStream[trio.abc.Stream]) -> tuple[bytes, ...]:
    """DER of what was shown in the handshake, the peer's own first; empty where it showed none.

    Unlike `getpeercert()` this needs no context that verifies. Before Python 3.13 the chain behind the first
    is only in an object that `ssl` keeps to itself; where that is missing, the first alone is returned.
    """
    own = tls.getpeercert(binary_form=True)
    if own is None:
        return ()
    inner: Any = tls._ssl_object
    if not hasattr(inner, "get_unverified_chain"):
        inner = getattr(inner, "_sslobj", None)
    chain = inner.get_unverified_chain() if hasattr(inner, "get_unverified_chain") else None
    shown = tuple(_der(each) for each in (chain or ())[:MAX_CERTIFICATES])
    return shown if shown and shown[0] == own else (own,)


def _der(certificate: Any) -> bytes:
    """One of the chain: octets since Python 3.13, an object of `_ssl` before."""
    if isinstance(certificate, bytes):
        return certificate
    return ssl.PEM_cert_to_DER_cert(certificate.public_bytes())
