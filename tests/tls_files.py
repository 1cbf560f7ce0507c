"""Certificates in files, made for a test."""

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from elemta.config import CertificateConfig

NOW = 1_900_000_000.0
"""The time of these tests; certificates say so by themselves."""
DAY = 86400
SHA256 = hashes.SHA256()


def write_pair(folder: Path, name: str, *names: str, **options) -> CertificateConfig:
    """A certificate that signs itself, with its key, as `NAME.pem` and `NAME.key`."""
    certificate, key = make_pair(*(names or (name,)), **options)
    pair = CertificateConfig(folder / f"{name}.pem", folder / f"{name}.key")
    pair.certificate.write_bytes(certificate)
    pair.key.write_bytes(key)
    return pair


def make_pair(
    *names: str,
    algorithm: str = "ec",
    digest: hashes.HashAlgorithm | None = SHA256,
    now: float = NOW,
    days: float = 90,
    common_name: str = "common.test",
    alternative_names: bool = True,
    email: str = "",
) -> tuple[bytes, bytes]:
    key = {
        "ec": lambda: ec.generate_private_key(ec.SECP256R1()),
        "rsa": lambda: rsa.generate_private_key(65537, 2048),
        "ed25519": ed25519.Ed25519PrivateKey.generate,
    }[algorithm]()
    begin = datetime.datetime.fromtimestamp(now - DAY, datetime.UTC)
    end = datetime.datetime.fromtimestamp(now + days * DAY, datetime.UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    if alternative_names:
        general: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
        if email:
            general.append(x509.RFC822Name(email))
        builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=False)
    certificate = builder.sign(key, digest)
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )
