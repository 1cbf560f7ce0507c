"""Contexts for those who connect to us: what they may speak, and which certificate they are shown."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from pathlib import Path

from elemta.config import CertificateConfig, TlsConfig, TlsVersion
from elemta.runtime import harden

from .certificates import Certificate, read_certificate
from .errors import TlsFilesError
from .handshakes import Handshakes

SERVER_SUITES = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2; those of 1.3 are all fit. Forward secrecy and AEAD only (RFC 9325 §4.2)."""
_TICKETS = 1
"""Of TLS 1.3 in each handshake. A mail client that comes back uses one; OpenSSL's two are for browsers."""
_VERSIONS = {TlsVersion.TLS_1_2: ssl.TLSVersion.TLSv1_2, TlsVersion.TLS_1_3: ssl.TLSVersion.TLSv1_3}


class ServerContext(ssl.SSLContext):
    """A context with one certificate. The first of several hands connections over to the others (SNI)."""

    certificate: Certificate
    handshakes: Handshakes
    """Where the handshakes of all server contexts take their places."""


def server_contexts(
    config: TlsConfig, handshakes: Handshakes, *, authorities: Path | None = None
) -> tuple[ServerContext, ...]:
    """A context for each certificate of the configuration, the default one first; none without any.

    Fresh contexts have fresh keys for session tickets. With `authorities` clients are asked for a
    certificate: whoever shows one that they did not sign is turned away, whoever shows none is not.

    Raises:
      TlsFilesError
    """
    if config.certificate is None:
        if config.key is not None:
            raise TlsFilesError(config.key, "a key without a certificate")
        if config.certificates:
            raise TlsFilesError(config.certificates[0].certificate, "a further certificate, without a first")
        return ()
    first = CertificateConfig(config.certificate, config.key or config.certificate)
    contexts = tuple(
        _server_context(pair, config, handshakes, authorities) for pair in (first, *config.certificates)
    )
    if len(contexts) > 1:
        contexts[0].sni_callback = _chooser(contexts)
    return contexts


def _server_context(
    pair: CertificateConfig, config: TlsConfig, handshakes: Handshakes, authorities: Path | None
) -> ServerContext:
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    harden(context)
    context.minimum_version = _VERSIONS[config.minimum_version]
    context.set_ciphers(SERVER_SUITES)
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = _TICKETS
    _load_certificate(context, pair.certificate, pair.key)
    if authorities is not None:
        load_authorities(context, authorities)
        context.verify_mode = ssl.CERT_OPTIONAL
    context.certificate = read_certificate(pair.certificate)
    context.handshakes = handshakes
    return context


def _chooser(contexts: Sequence[ServerContext]) -> Callable[[ssl.SSLObject, str | None, object], None]:
    """What OpenSSL calls for each ClientHello. An unknown name gets the default certificate: to refuse it
    (RFC 6066 §3) would keep out mail servers that ask for a name of their own making."""
    default = contexts[0].certificate
    table: dict[str, ServerContext] = {}
    for context in contexts[1:]:
        for name in context.certificate.names:
            if name not in default.names:
                table.setdefault(name, context)

    def choose(connection: ssl.SSLObject, name: str | None, _: object) -> None:
        if not name:
            return
        name = name.lower()
        chosen = table.get(name)
        if chosen is None and not default.is_for(name):
            chosen = table.get(f"*.{name.partition('.')[2]}")
        if chosen is not None:
            connection.context = chosen

    return choose


def load_authorities(context: ssl.SSLContext, path: Path) -> None:
    """Trust the authorities of a PEM file.

    Raises:
      TlsFilesError
    """
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise TlsFilesError(path, _reason(error)) from error
    except OSError as error:
        raise TlsFilesError(path, error.strerror or type(error).__name__) from error


def _load_certificate(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    # OpenSSL does not say which of the two files its error is about: look at each first.
    _look(certificate, b"-----BEGIN CERTIFICATE-----", "certificate")
    _look(key, b"PRIVATE KEY-----", "private key")

    def refuse() -> str:  # without it, OpenSSL would ask at the terminal of whoever started us
        raise TlsFilesError(key, "the private key is encrypted; give one without a passphrase")

    try:
        context.load_cert_chain(certificate, key, password=refuse)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise TlsFilesError(key, f"not the private key of {certificate}") from error
        raise TlsFilesError(certificate, f"with key {key}: {_reason(error)}") from error


def _look(path: Path, mark: bytes, what: str) -> None:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise TlsFilesError(path, error.strerror or type(error).__name__) from error
    if mark not in text:
        raise TlsFilesError(path, f"no {what} in PEM form")


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()
