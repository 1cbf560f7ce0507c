"""Private keys for signatures: read from files that nobody else may read, made, and their DNS records."""

from __future__ import annotations

import base64
import os
import re
import stat
from pathlib import Path
from typing import TypeAlias

import attrs
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from elemta.config import SigningAlgorithm

from .keys import MAXIMUM_BITS, PADDING, PREHASHED

CREDENTIAL = "credential:"
"""A path that begins so names a credential that systemd has given to the service (systemd.exec(5))."""
SIGNING_BITS = 1024
"""The shortest RSA key to sign with (RFC 8301 §3.2); new ones have 2048."""
_MAX_FILE = 64 * 1024
_STRING = 255
"""Octets of a string in a TXT record (RFC 1035 §3.3)."""
_CREDENTIAL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,200}")


class KeyFileError(Exception):
    """A key file cannot be used. The text names the file and what is wrong, and nothing that is in it."""


Algorithm: TypeAlias = SigningAlgorithm
"""a= of a signature that may be made or accepted. rsa-sha1 is neither (RFC 8301 §3.1)."""


@attrs.frozen
class SigningKey:
    """A private key that is ready for use. Its text form shows nothing of it."""

    _key: RSAPrivateKey | Ed25519PrivateKey = attrs.field(repr=False)

    @property
    def algorithm(self) -> Algorithm:
        if isinstance(self._key, RSAPrivateKey):
            return Algorithm.RSA_SHA256
        return Algorithm.ED25519_SHA256

    @property
    def bits(self) -> int:
        return self._key.key_size if isinstance(self._key, RSAPrivateKey) else 256

    def sign(self, digest: bytes) -> bytes:
        """The signature of a SHA-256 digest. RSA takes 0.4 to 2 ms: use a thread."""
        if isinstance(self._key, RSAPrivateKey):
            return self._key.sign(digest, PADDING, PREHASHED)
        return self._key.sign(digest)  # RFC 8463 §3

    def is_pair_of(self, public: RSAPublicKey | Ed25519PublicKey) -> bool:
        """Whether that is its public key."""
        return self._key.public_key() == public

    def record(self) -> str:
        """The text that must stand in DNS for it (RFC 6376 §3.6.1)."""
        if isinstance(self._key, RSAPrivateKey):
            kind = "rsa"
            public = self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        else:
            kind = "ed25519"
            public = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return f"v=DKIM1; k={kind}; p={base64.b64encode(public).decode('ascii')}"

    def pem(self) -> bytes:
        """The key itself as PKCS #8. A secret."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def make_key(algorithm: Algorithm, bits: int = 2048) -> SigningKey:
    """A new key. One of RSA takes a while: use a thread."""
    if algorithm is Algorithm.ED25519_SHA256:
        return SigningKey(Ed25519PrivateKey.generate())
    return SigningKey(rsa.generate_private_key(65537, bits))


def parse_key(data: bytes, name: str) -> SigningKey:
    """A key from PEM. Takes 40 ms for RSA, which is checked: do it once.

    Raises:
      KeyFileError: it is none that can be used; `name` stands for it in the text.
    """
    try:
        key = load_pem_private_key(data, None)
    except TypeError as cause:
        raise KeyFileError(f"{name}: the key has a passphrase: store it without one") from cause
    except Exception as cause:
        raise KeyFileError(f"{name}: is no private key in PEM") from cause
    if isinstance(key, Ed25519PrivateKey):
        return SigningKey(key)
    if not isinstance(key, RSAPrivateKey):
        raise KeyFileError(f"{name}: is neither an RSA nor an Ed25519 key")
    if not SIGNING_BITS <= key.key_size <= MAXIMUM_BITS:
        bounds = f"{SIGNING_BITS} to {MAXIMUM_BITS} bits"
        raise KeyFileError(f"{name}: has {key.key_size} bits: others accept {bounds} (RFC 8301)")
    return SigningKey(key)


def load_key(path: Path, credentials: Path | None = None) -> SigningKey:
    """The key of a PEM file that only its owner may write, and only he and his group may read.

    Args:
      credentials: the folder of systemd's credentials, for paths that begin with `credential:`.

    Raises:
      KeyFileError: there is none that can be used.
    """
    return parse_key(_read_private(resolve_key_path(path, credentials)), str(path))


def resolve_key_path(path: Path, credentials: Path | None) -> Path:
    """The file that is meant.

    Raises:
      KeyFileError: it is a credential, and there are none.
    """
    text = str(path)
    if not text.startswith(CREDENTIAL):
        return path
    name = text.removeprefix(CREDENTIAL)
    if not _CREDENTIAL_NAME.fullmatch(name):
        raise KeyFileError(f"{text}: is not the name of a credential")
    if credentials is None:
        raise KeyFileError(f"{text}: systemd gave no credentials: set LoadCredential= in the service")
    return credentials / name


def credentials_folder() -> Path | None:
    """Where systemd put the credentials of this service."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return Path(folder) if folder else None


def _read_private(path: Path) -> bytes:
    try:
        # without O_NONBLOCK a FIFO would hang the start
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            _check_private(path, os.fstat(descriptor))
            data = file.read(_MAX_FILE + 1)
    except OSError as cause:
        raise KeyFileError(f"{path}: cannot be read: {cause.strerror}") from cause
    if len(data) > _MAX_FILE:
        raise KeyFileError(f"{path}: is too large for a key")
    return data


def _check_private(path: Path, facts: os.stat_result) -> None:
    if not stat.S_ISREG(facts.st_mode):
        raise KeyFileError(f"{path}: is not a file")
    user = os.geteuid()
    if user != 0 and facts.st_uid not in (0, user):
        raise KeyFileError(f"{path}: belongs to user {facts.st_uid}: chown it to root or to user {user}")
    if stat.S_IMODE(facts.st_mode) & 0o027:
        raise KeyFileError(f"{path}: is open to others: chmod 640 or 600")


def write_key(path: Path, key: SigningKey) -> None:
    """Store a new key, durably, for its owner only. Never over a file that is there.

    Raises:
      FileExistsError: there is one.
      OSError: it cannot be made.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)  # whatever the umask
        file.write(key.pem())
        file.flush()
        os.fsync(descriptor)


def record_strings(text: str) -> list[str]:
    """A record in the strings of at most 255 octets that DNS holds (RFC 6376 §3.6.2.2)."""
    return [text[start : start + _STRING] for start in range(0, len(text), _STRING)]


def zone_line(name: str, text: str) -> str:
    """A record as a line of a zone file (RFC 1035 §5.1)."""
    strings = " ".join(f'"{string}"' for string in record_strings(text))
    return f"{name}. IN TXT ( {strings} )"
