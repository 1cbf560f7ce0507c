"""TLS contexts of both sides, from the configuration; replaced as a whole when certificates change."""

from __future__ import annotations

import ssl
from pathlib import Path

from elemta.config import TlsConfig

SERVER_SUITES = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2; those of 1.3 are all fit. Forward secrecy and AEAD only (RFC 9325 §4.2)."""
OPPORTUNISTIC_SUITES = "DEFAULT:!aNULL:!eNULL:!PSK:!SRP:@SECLEVEL=1"
"""For next hops that may be sent plain text as well: old encryption is better than none (RFC 7435)."""


class TlsFilesError(Exception):
    """A certificate or key cannot be used; the text names the file and says why."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class TlsContexts:
    """The contexts in use. Take one anew for each connection: a reload swaps them.

    `authorities` is a PEM file of certificate authorities to trust in place of the system's.

    Raises:
      TlsFilesError: of the constructor and of `reload`; then nothing has changed.
    """

    def __init__(self, config: TlsConfig, *, authorities: Path | None = None) -> None:
        self._authorities = authorities
        self._load(config)

    @property
    def server(self) -> ssl.SSLContext | None:
        """For those who connect to us; `None` without a certificate."""
        return self._server

    def client(self, verify: bool) -> ssl.SSLContext:
        """For next hops: with `verify` their certificate must be valid and bear the name asked for."""
        return self._verifying if verify else self._opportunistic

    def reload(self, config: TlsConfig | None = None) -> None:
        """Read all files again (those of a new configuration, if given). Open connections go on as they are.

        Either everything is replaced or, with an error, nothing is. Reads files and takes some
        milliseconds: call it in a thread where that matters.
        """
        self._load(self._config if config is None else config)

    def _load(self, config: TlsConfig) -> None:
        server = _server_context(config)
        verifying = _verifying_context(self._authorities)
        opportunistic = _opportunistic_context()
        # All has been read: from here on nothing can fail, and no other task runs in between.
        self._config = config
        self._server = server
        self._verifying = verifying
        self._opportunistic = opportunistic


def _harden(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996 §4, §5: never 1.0 and 1.1
    # RFC 9325 §3.3, §3.5; Python sets NO_COMPRESSION only (RELIABILITY 6.1)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    return context


def _server_context(config: TlsConfig) -> ssl.SSLContext | None:
    if config.certificate is None:
        if config.key is not None:
            raise TlsFilesError(config.key, "a key without a certificate")
        return None
    context = _harden(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    context.set_ciphers(SERVER_SUITES)
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    _load_certificate(context, config.certificate, config.key or config.certificate)
    return context


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


def _verifying_context(authorities: Path | None) -> ssl.SSLContext:
    context = _harden(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))  # verifies certificate and name
    if authorities is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return context
    try:
        context.load_verify_locations(authorities)
    except ssl.SSLError as error:
        raise TlsFilesError(authorities, _reason(error)) from error
    except OSError as error:
        raise TlsFilesError(authorities, error.strerror or type(error).__name__) from error
    return context


def _opportunistic_context() -> ssl.SSLContext:
    # RFC 7435: whoever would be sent plain text needs no proof of who he is
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers(OPPORTUNISTIC_SUITES)
    return _harden(context)


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()
