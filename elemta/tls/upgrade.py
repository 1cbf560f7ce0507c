"""Turn a stream into a TLS stream, as either side."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

import trio

from elemta.mail import TlsFacts
from elemta.runtime import QuickSocketStream, address_block, peer_address

from .errors import TlsFailed, TlsTrouble
from .server import ServerContext

_CLIENT_BITS = (32, 64)
"""Bits of IPv4 and IPv6 addresses that tell clients apart (RFC 6177)."""
MAX_PEER_NAME = 254
"""Characters: the longest path of RFC 5321 §4.5.3.1.3 without its brackets."""


async def start_tls(
    stream: trio.abc.Stream,
    context: ssl.SSLContext,
    *,
    server_side: bool,
    hostname: str | None = None,
) -> tuple[trio.SSLStream[trio.abc.Stream], TlsFacts]:
    """Do the handshake and return the private stream with what was agreed on.

    The caller must have read and dropped nothing of it: whatever came in plain text before the
    handshake is his to refuse (RFC 3207 §4.2). `hostname` is for clients only: the name to ask for (SNI) and
    to verify, an IP address (verified as such, RFC 6066 §3: no SNI), or none, which only a context that
    does not verify accepts.

    Handshakes of a `ServerContext` take their turn (`Handshakes`); the wait for it is the caller's to bound,
    like the handshake.

    After TlsFailed or when cancelled the stream is of no more use; the caller closes it. The TLS stream
    does not insist on a closing alert: SMTP says QUIT, and peers just hang up.

    Raises:
      TlsFailed: the peer speaks no TLS, none that we do, or is not who it should be.
    """
    name = None if server_side else _server_name(hostname, context)
    try:
        tls = trio.SSLStream(stream, context, server_hostname=name, server_side=server_side)
    except (ValueError, ssl.SSLError) as error:
        raise TlsFailed(f"unusable host name: {error}") from error
    try:
        async with await _turn(stream, context):
            await tls.do_handshake()
    except trio.BrokenResourceError as error:
        raise _failure(error.__cause__) from error
    return tls, _facts(tls, context)


async def _turn(stream: trio.abc.Stream, context: ssl.SSLContext) -> AbstractAsyncContextManager[None]:
    """What to hold during the handshake."""
    if not isinstance(context, ServerContext):
        return nullcontext()
    try:
        client = address_block(peer_address(stream)[0], *_CLIENT_BITS)
        if isinstance(stream, QuickSocketStream):
            # Who says nothing has no place: a hundred silent connections would keep all others out.
            await trio.lowlevel.wait_readable(stream.socket)
    except OSError as error:
        raise TlsFailed("connection lost during the handshake") from error
    except TypeError:
        client = ""  # a stream that leads nowhere
    return context.handshakes.place(client)


def _server_name(hostname: str | None, context: ssl.SSLContext) -> bytes | None:
    name = (hostname or "").removeprefix("[").removesuffix("]").removesuffix(".")
    if not name:
        if context.check_hostname:
            raise TlsFailed("no host name to verify the certificate against", certificate=True)
        return None
    if not (name.isascii() and name.isprintable()):
        raise TlsFailed("unusable host name: not printable ASCII")
    # Names arrive as A-labels. As bytes they pass unchanged: the IDNA of Trio and of `ssl` would refuse an
    # underscore, and the latter is quadratic (RELIABILITY 6.1).
    return name.encode("ascii")


def _facts(tls: trio.SSLStream[trio.abc.Stream], context: ssl.SSLContext) -> TlsFacts:
    cipher = tls.cipher()
    certificate = None if context.verify_mode is ssl.CERT_NONE else tls.getpeercert()
    used = tls.context  # not the one we began with, where the client asked for another name
    return TlsFacts(
        version=tls.version() or "",
        cipher=cipher[0] if cipher else "",
        verified=certificate is not None and (tls.server_side or context.check_hostname),
        peer_name=_peer_name(certificate) if certificate and tls.server_side else "",
        end_point=used.certificate.end_point if isinstance(used, ServerContext) else None,
        unique=_unique(tls) if tls.server_side else None,
    )


def _unique(tls: trio.SSLStream[trio.abc.Stream]) -> bytes | None:
    """The `tls-unique` of a connection that nobody stands in the middle of, as far as it proves that.

    TLS 1.3 has none (RFC 8446 appendix C.5). Who resumes sessions on both sides can make those of two
    connections equal (the triple handshake, RFC 7627 §1), and Python does not tell whether the extension
    against it is in use; so a session that was resumed has none. A second handshake no context of ours takes.
    """
    if tls.version() != "TLSv1.2" or tls.session_reused:
        return None
    found: bytes | None = tls.get_channel_binding("tls-unique")
    return found


def _peer_name(certificate: Mapping[str, Any]) -> str:
    """Whom the certificate names, as `SSLObject.getpeercert` shows it; empty where that is no plain text."""
    names = dict(reversed(certificate.get("subjectAltName", ())))
    common = {kind: name for part in certificate.get("subject", ()) for kind, name in part}
    name = names.get("email") or names.get("DNS") or common.get("commonName") or ""
    return name if name.isprintable() and len(name) <= MAX_PEER_NAME else ""


_TROUBLES = {
    9: TlsTrouble.DATE,  # X509_V_ERR_CERT_NOT_YET_VALID
    10: TlsTrouble.DATE,  # X509_V_ERR_CERT_HAS_EXPIRED
    62: TlsTrouble.NAME,  # X509_V_ERR_HOSTNAME_MISMATCH
    64: TlsTrouble.NAME,  # X509_V_ERR_IP_ADDRESS_MISMATCH
}


def _failure(cause: BaseException | None) -> TlsFailed:
    if isinstance(cause, ssl.SSLCertVerificationError):
        trouble = _TROUBLES.get(cause.verify_code, TlsTrouble.ISSUER)
        return TlsFailed(f"certificate: {cause.verify_message}", certificate=True, trouble=trouble)
    if isinstance(cause, ssl.SSLError) and cause.reason:
        return TlsFailed(cause.reason.replace("_", " ").lower())
    return TlsFailed("connection lost during the handshake")
