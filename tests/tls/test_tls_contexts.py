"""Contexts from files: what they allow, what is refused, and that a reload is all or nothing."""

import ssl
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from elemta.config import TlsConfig
from elemta.tls import TlsContexts, TlsFilesError

IGNORE_UNEXPECTED_EOF = getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)  # Debian's Python sets it by default


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def files(authority, tmp_path):
    return write(authority.issue_cert("mx.local.test"), tmp_path)


def write(certificate: trustme.LeafCert, folder: Path) -> TlsConfig:
    config = TlsConfig(folder / "certificate.pem", folder / "key.pem")
    config.certificate.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(config.key)
    return config


def test_without_certificate_there_is_no_server_context():
    assert TlsContexts(TlsConfig()).server is None


def test_server_context_is_hardened(files):
    context = TlsContexts(files).server
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.options & ssl.OP_CIPHER_SERVER_PREFERENCE
    assert not context.options & IGNORE_UNEXPECTED_EOF
    assert context.verify_mode is ssl.CERT_NONE
    old = [suite for suite in context.get_ciphers() if suite["protocol"] != "TLSv1.3"]
    assert old
    assert all(suite["aead"] and suite["name"].startswith("ECDHE-") for suite in old)


def test_key_may_lie_in_the_certificate_file(authority, tmp_path):
    path = tmp_path / "both.pem"
    path.write_bytes(authority.issue_cert("mx.local.test").private_key_and_cert_chain_pem.bytes())
    assert TlsContexts(TlsConfig(certificate=path)).server is not None


def test_client_contexts(authority, tmp_path):
    contexts = TlsContexts(TlsConfig())
    verifying, opportunistic = contexts.client(True), contexts.client(False)
    assert (verifying.verify_mode, verifying.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert (opportunistic.verify_mode, opportunistic.check_hostname) == (ssl.CERT_NONE, False)
    for context in (verifying, opportunistic):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
        assert context.options & ssl.OP_NO_COMPRESSION
        assert not context.options & IGNORE_UNEXPECTED_EOF
    names = {suite["name"] for suite in opportunistic.get_ciphers()}
    # Some systems (Debian's Python) offer suites with pre-shared keys by default, which nobody has.
    usual = {suite["name"] for suite in verifying.get_ciphers() if "PSK" not in suite["name"]}
    assert names > {name for name in usual if "GCM" in name}
    assert not any("NULL" in name or "ADH" in name or "AECDH" in name for name in names)


def test_authorities_replace_those_of_the_system(authority, tmp_path):
    path = tmp_path / "authorities.pem"
    authority.cert_pem.write_to_path(path)
    context = TlsContexts(TlsConfig(), authorities=path).client(True)
    assert len(context.get_ca_certs()) == 1


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "No such file"), (b"nonsense", "no certificate or crl")]
)
def test_unusable_authorities_are_named(tmp_path, content, reason):
    path = tmp_path / "authorities.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TlsFilesError, match=reason) as caught:
        TlsContexts(TlsConfig(), authorities=path)
    assert caught.value.path == path


def damage_certificate(config, authority):
    config.certificate.write_bytes(b"nonsense")
    return config.certificate, "no certificate in PEM form"


def damage_key(config, authority):
    config.key.write_bytes(b"nonsense")
    return config.key, "no private key in PEM form"


def lose_certificate(config, authority):
    config.certificate.unlink()
    return config.certificate, "No such file or directory"


def lose_key(config, authority):
    config.key.unlink()
    return config.key, "No such file or directory"


def put_a_folder_there(config, authority):
    config.key.unlink()
    config.key.mkdir()
    return config.key, "Is a directory"


def change_key(config, authority):
    authority.issue_cert("other.test").private_key_pem.write_to_path(config.key)
    return config.key, f"not the private key of {config.certificate}"


def cut_certificate(config, authority):
    config.certificate.write_bytes(config.certificate.read_bytes()[:200])
    return config.certificate, f"with key {config.key}: "


def encrypt_key(config, authority):
    key = serialization.load_pem_private_key(config.key.read_bytes(), None)
    config.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    return config.key, "the private key is encrypted"


DAMAGES = [
    damage_certificate,
    damage_key,
    lose_certificate,
    lose_key,
    put_a_folder_there,
    change_key,
    cut_certificate,
    encrypt_key,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_unusable_files_are_named_with_a_reason(damage, files, authority):
    path, reason = damage(files, authority)
    with pytest.raises(TlsFilesError) as caught:
        TlsContexts(files)
    assert caught.value.path == path
    assert str(caught.value).startswith(f"{path}: {reason}")


@pytest.mark.parametrize("damage", DAMAGES)
def test_reload_of_unusable_files_changes_nothing(damage, files, authority):
    contexts = TlsContexts(files)
    before = (contexts.server, contexts.client(True), contexts.client(False))
    damage(files, authority)
    with pytest.raises(TlsFilesError):
        contexts.reload()
    assert (contexts.server, contexts.client(True), contexts.client(False)) == before


def test_key_without_certificate_is_a_mistake(files):
    with pytest.raises(TlsFilesError, match="a key without a certificate"):
        TlsContexts(TlsConfig(key=files.key))


def test_reload_takes_new_files(files, authority, tmp_path):
    contexts = TlsContexts(files)
    before = contexts.server
    write(authority.issue_cert("new.test"), tmp_path)
    contexts.reload()
    assert contexts.server is not before


def test_reload_takes_a_new_configuration_and_keeps_it(files):
    contexts = TlsContexts(TlsConfig())
    contexts.reload(files)
    assert contexts.server is not None
    contexts.reload()
    assert contexts.server is not None
    contexts.reload(TlsConfig())
    assert contexts.server is None
