"""A certificate that nobody vouches for, so that TLS is there before a real one is.

Whoever listens in without taking part learns nothing; whoever takes part is not found out. Nothing else in
here: certificates of authorities are fetched by programs made for that.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_SKEW = datetime.timedelta(hours=1)
"""How far clocks may be behind ours."""
_COMMON_NAME = 64
"""Characters at most (RFC 5280 appendix A.1, ub-common-name); names are looked for elsewhere anyway."""


def make_self_signed(names: Sequence[str], days: int, now: datetime.datetime) -> tuple[bytes, bytes]:
    """A certificate for these names or addresses, and its key (ECDSA P-256), as PEM.

    The key is a secret. Its certificate says of itself that it signs no others (RFC 5280 §4.2.1.9).
    """
    key = ec.generate_private_key(ec.SECP256R1())
    common = names[0] if len(names[0]) <= _COMMON_NAME else "elemta"
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return (
        made.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )


def write_pair(certificate: Path, key: Path, pair: tuple[bytes, bytes]) -> None:
    """Write both, the key for its owner only. Nothing that is there is overwritten, and no half is left.

    Raises:
      FileExistsError: one of the files is there.
      OSError: one cannot be written.
    """
    made: list[Path] = []
    try:
        for path, data, mode in ((key, pair[1], 0o600), (certificate, pair[0], 0o644)):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            made.append(path)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
    except OSError:
        for path in made:
            path.unlink()
        raise


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
