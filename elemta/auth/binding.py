"""Channel binding data of a TLS connection, for SCRAM-SHA-256-PLUS."""

from __future__ import annotations

import hashlib
import ssl

_WEAK = frozenset({"md5", "sha1"})


def server_end_point(certificate: bytes) -> bytes | None:
    """`tls-server-end-point` for the server's own certificate, as DER or PEM (the first of several).

    The hash is that of the certificate's signature, SHA-256 in place of MD5 and SHA-1 (RFC 5929 §4.1). None
    where the signature has none or several, such as Ed25519: then the binding is not defined.
    """
    from cryptography import x509  # noqa: PLC0415 - slow to import, needed once for a certificate
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415

    der = certificate
    if b"-----BEGIN CERTIFICATE-----" in certificate:
        first = certificate[certificate.index(b"-----BEGIN CERTIFICATE-----") :]
        end = first.index(b"-----END CERTIFICATE-----") + len(b"-----END CERTIFICATE-----")
        der = ssl.PEM_cert_to_DER_cert(first[:end].decode("ascii"))
    try:
        algorithm = x509.load_der_x509_certificate(der).signature_hash_algorithm
    except UnsupportedAlgorithm:
        return None
    if algorithm is None:
        return None
    name = "sha256" if algorithm.name in _WEAK else algorithm.name
    return hashlib.new(name, der).digest()
