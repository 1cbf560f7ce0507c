"""Turn a stream into a TLS stream, as either side."""

from __future__ import annotations

import ssl

import trio

from elemta.mail import TlsFacts


class TlsFailed(Exception):
    """No TLS came about; `reason` is OpenSSL's, for the operator."""

    def __init__(self, reason: str, *, certificate: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.certificate = certificate
        """Whether the peer's certificate was refused, rather than the handshake as such."""


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

    After TlsFailed or when cancelled the stream is of no more use; the caller closes it. The TLS stream
    does not insist on a closing alert: SMTP says QUIT, and peers just hang up.

    Raises:
      TlsFailed: the peer speaks no TLS, none that we do, or is not who it should be.
    """
    name = None if server_side else _server_name(hostname, context)
    try:
        tls = trio.SSLStream(
            stream, context, server_hostname=name, server_side=server_side, https_compatible=True
        )
    except (ValueError, ssl.SSLError) as error:
        raise TlsFailed(f"unusable host name: {error}") from error
    try:
        await tls.do_handshake()
    except trio.BrokenResourceError as error:
        raise _failure(error.__cause__) from error
    return tls, _facts(tls, context)


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
    verified = context.verify_mode is not ssl.CERT_NONE and tls.getpeercert() is not None
    return TlsFacts(
        version=tls.version() or "",
        cipher=cipher[0] if cipher else "",
        verified=verified and (tls.server_side or context.check_hostname),
    )


def _failure(cause: BaseException | None) -> TlsFailed:
    if isinstance(cause, ssl.SSLCertVerificationError):
        return TlsFailed(f"certificate: {cause.verify_message}", certificate=True)
    if isinstance(cause, ssl.SSLError) and cause.reason:
        return TlsFailed(cause.reason.replace("_", " ").lower())
    return TlsFailed("connection lost during the handshake")
