"""tls-server-end-point (RFC 5929 §4.1), beside what OpenSSL's certificates really are."""

from __future__ import annotations

import datetime
import hashlib
import ssl

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from elemta.auth import server_end_point


def certificate(algorithm: hashes.HashAlgorithm | None) -> bytes:
    key = (
        ed25519.Ed25519PrivateKey.generate() if algorithm is None else ec.generate_private_key(ec.SECP256R1())
    )
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mx.example.org")])
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    made = (
        x509.CertificateBuilder(
            name, name, key.public_key(), 1, start, start + datetime.timedelta(days=1)
        ).sign(key, algorithm)  # type: ignore[arg-type]
    )
    return made.public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize(
    ("algorithm", "name"),
    [(hashes.SHA256(), "sha256"), (hashes.SHA384(), "sha384"), (hashes.SHA512(), "sha512")],
)
def test_the_hash_is_that_of_the_signature(algorithm: hashes.HashAlgorithm, name: str) -> None:
    der = certificate(algorithm)
    assert server_end_point(der) == hashlib.new(name, der).digest()
    chain = ssl.DER_cert_to_PEM_cert(der) + ssl.DER_cert_to_PEM_cert(certificate(hashes.SHA256()))
    assert server_end_point(b"text before\n" + chain.encode()) == hashlib.new(name, der).digest()


def test_a_signature_without_a_hash_has_no_binding() -> None:
    assert server_end_point(certificate(None)) is None


def test_a_signature_that_nobody_knows_has_no_binding() -> None:
    der = certificate(hashes.SHA256())
    ecdsa_with_sha256 = bytes.fromhex("06082a8648ce3d040302")
    assert ecdsa_with_sha256 in der
    assert server_end_point(der.replace(ecdsa_with_sha256, ecdsa_with_sha256[:-1] + b"\x63")) is None


def test_a_certificate_of_the_usual_kind() -> None:
    pem = trustme.CA().issue_cert("mx.example.org").cert_chain_pems[0].bytes()
    assert server_end_point(pem) == hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem.decode())).digest()
