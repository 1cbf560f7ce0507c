"""What a certificate file says: names, dates, and the hash that binds a login to the connection."""

from __future__ import annotations

from pathlib import Path

import attrs
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from .errors import TlsFilesError

_UNREADABLE = (ValueError, x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)


@attrs.frozen
class Certificate:
    """One certificate as it is in use, or was when its file was read."""

    path: Path
    names: tuple[str, ...]
    """Host names that it is for, lower case, `*.example.org` for all directly below; addresses as text."""
    issuer: str
    not_before: float
    """Seconds since 1970, like `not_after`."""
    not_after: float
    fingerprint: str
    """SHA-256, hexadecimal."""
    key: str
    """Kind and size of its key, for people."""
    end_point: bytes | None
    """Channel binding `tls-server-end-point` (RFC 5929 §4.1). None where its signature has no hash of its
    own, as with Ed25519: then the binding is not defined."""

    def is_for(self, name: str) -> bool:
        """Whether a client that asks for this host name gets a certificate that fits (RFC 6125 §6.4)."""
        return name in self.names or f"*.{name.partition('.')[2]}" in self.names


def read_certificate(path: Path) -> Certificate:
    """The first certificate of a PEM file.

    Raises:
      TlsFilesError: there is none that can be read.
    """
    try:
        certificate = x509.load_pem_x509_certificates(path.read_bytes())[0]
        return Certificate(
            path=path,
            names=_names(certificate),
            issuer=certificate.issuer.rfc4514_string(),
            not_before=certificate.not_valid_before_utc.timestamp(),
            not_after=certificate.not_valid_after_utc.timestamp(),
            fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
            key=_key(certificate),
            end_point=_end_point(certificate),
        )
    except OSError as error:
        raise TlsFilesError(path, error.strerror or type(error).__name__) from error
    except _UNREADABLE as error:
        raise TlsFilesError(path, f"no certificate that can be read: {error}") from error


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        # Verifiers look at it no more (RFC 9525 §2), but a client that asks for it means this certificate.
        common = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        return tuple(str(item.value).lower() for item in common[:1])
    hosts = found.get_values_for_type(x509.DNSName)
    addresses = found.get_values_for_type(x509.IPAddress)
    return tuple(dict.fromkeys([name.lower() for name in hosts] + [str(address) for address in addresses]))


def _key(certificate: x509.Certificate) -> str:
    try:
        key = certificate.public_key()
    except (UnsupportedAlgorithm, ValueError):
        return "unknown"
    match key:
        case rsa.RSAPublicKey():
            return f"RSA {key.key_size}"
        case ec.EllipticCurvePublicKey():
            return f"EC {key.curve.name}"
        case _:
            return type(key).__name__.removesuffix("PublicKey")


def _end_point(certificate: x509.Certificate) -> bytes | None:
    try:
        used = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return None
    if used is None:
        return None
    # RFC 5929 §4.1: SHA-256 in the place of MD5 and SHA-1, else the hash of the signature itself
    weak = isinstance(used, (hashes.MD5, hashes.SHA1))
    return certificate.fingerprint(hashes.SHA256() if weak else used)
