"""What is read from certificates, and when it is said that they end."""

import hashlib
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from tls_files import DAY, NOW, make_pair, write_pair

from elemta.tls import Certificate, ExpiryAlarm, TlsFilesError, read_certificate


def der(path: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(path.read_text())


def test_names_dates_and_key(tmp_path: Path):
    pair = write_pair(tmp_path, "a", "MX.Example.test", "*.example.test", "mx.example.test", days=30)
    found = read_certificate(pair.certificate)
    assert found.names == ("mx.example.test", "*.example.test")
    assert found.not_before == NOW - DAY
    assert found.not_after == NOW + 30 * DAY
    assert found.issuer == "CN=common.test"
    assert found.key == "EC secp256r1"
    assert found.fingerprint == hashlib.sha256(der(pair.certificate)).hexdigest()


def test_without_alternative_names_the_common_name_counts(tmp_path: Path):
    pair = write_pair(tmp_path, "a", alternative_names=False, common_name="Old.example.test")
    assert read_certificate(pair.certificate).names == ("old.example.test",)


@pytest.mark.parametrize(
    ("options", "digest"),
    [
        ({"digest": hashes.SHA256()}, hashlib.sha256),
        ({"digest": hashes.SHA384()}, hashlib.sha384),
        ({"algorithm": "rsa", "digest": hashes.SHA512()}, hashlib.sha512),
    ],
)
def test_tls_server_end_point_is_the_hash_that_the_signature_uses(tmp_path: Path, options, digest):
    # RFC 5929 §4.1
    pair = write_pair(tmp_path, "a", **options)
    assert read_certificate(pair.certificate).end_point == digest(der(pair.certificate)).digest()


def test_a_signature_without_a_hash_of_its_own_has_no_binding(tmp_path: Path):
    pair = write_pair(tmp_path, "a", algorithm="ed25519", digest=None)
    found = read_certificate(pair.certificate)
    assert found.end_point is None
    assert found.key == "Ed25519"


def test_the_first_certificate_of_a_chain_counts_and_a_key_before_it_does_not_matter(tmp_path: Path):
    first, key = make_pair("first.test")
    second, _ = make_pair("second.test")
    path = tmp_path / "all.pem"
    path.write_bytes(key + first + second)
    assert read_certificate(path).names == ("first.test",)


@pytest.mark.parametrize("content", [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_is_named(tmp_path: Path, content: bytes):
    path = tmp_path / "bad.pem"
    path.write_bytes(content)
    with pytest.raises(TlsFilesError, match="no certificate that can be read"):
        read_certificate(path)
    with pytest.raises(TlsFilesError, match="No such file"):
        read_certificate(tmp_path / "absent.pem")


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("mx.test", True),
        ("a.wild.test", True),
        ("wild.test", False),
        ("a.b.wild.test", False),  # RFC 6125 §6.4.3: one label
        ("other.test", False),
    ],
)
def test_names_that_it_is_for(name: str, fits: bool):
    certificate = some("mx.test", "*.wild.test")
    assert certificate.is_for(name) is fits


def some(*names: str, until: float = NOW + 90 * DAY, fingerprint: str = "00") -> Certificate:
    return Certificate(Path("a.pem"), names, "CN=x", NOW - DAY, until, fingerprint, "EC", None)


# Ends


def said(alarm: ExpiryAlarm, now: float, *certificates: Certificate) -> list[int]:
    return [expiring.days for expiring in alarm.due(certificates, now)]


def test_each_step_is_said_once():
    alarm, certificate = ExpiryAlarm(), some(until=NOW)
    days = [
        (day, said(alarm, NOW - day * DAY, certificate))
        for day in (30, 15, 14, 13, 8, 6.9, 5, 3, 2, 0.5, 0.2)
    ]
    assert [(day, each) for day, found in days for each in found] == [(14, 14), (6.9, 7), (3, 3), (0.5, 1)]
    assert said(alarm, NOW, certificate) == [0]
    assert said(alarm, NOW + 9 * DAY, certificate) == []


def test_at_the_start_only_the_nearest_step_is_said():
    assert said(ExpiryAlarm(), NOW - 2 * DAY, some(until=NOW)) == [3]
    assert said(ExpiryAlarm(), NOW + DAY, some(until=NOW)) == [0]


def test_a_new_certificate_begins_anew_and_one_that_is_used_twice_is_said_once():
    alarm = ExpiryAlarm()
    old, new = some(until=NOW), some(until=NOW + 10 * DAY, fingerprint="11")
    assert said(alarm, NOW - DAY, old, old) == [1]
    assert said(alarm, NOW - DAY, new) == [14]
    assert said(alarm, NOW - DAY, old) == [1]  # it was put back
    assert said(alarm, NOW - DAY, some(), old) == []
