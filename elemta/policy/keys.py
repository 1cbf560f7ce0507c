"""Public keys as domains publish them in DNS, for DKIM and ARC (RFC 6376 §3.6, RFC 8463, RFC 8301)."""

from __future__ import annotations

import enum
import functools
from collections.abc import Sequence
from typing import Final, TypeAlias

import attrs
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from .tags import TagError, decode_base64, parse_tags, split_list

MINIMUM_BITS: Final = 1024
"""RFC 8301 §3.2: signatures with shorter RSA keys are not valid."""
MAXIMUM_BITS: Final = 4096
"""RFC 8301 §3.2 wants keys up to this; longer ones cost whoever verifies more than they are worth."""
_MAX_EXPONENT_BITS = 64
"""Others make a verification as slow as a signature; nobody uses them."""
_MAX_RECORD = 4096
"""Octets of a record. An RSA key of 4096 bits takes 740."""
MOST_RECORDS: Final = 4
"""Records of one name that are tried (RFC 6376 §6.1.2 leaves it open what several mean)."""

PADDING: Final = PKCS1v15()
PREHASHED: Final = Prehashed(SHA256())


class KeyKind(enum.StrEnum):
    """k= of a record."""

    RSA = "rsa"
    ED25519 = "ed25519"


class KeyProblem(enum.StrEnum):
    """Why a record has no key that can be used, in the words of RFC 6376 §6.1.2 where it has some."""

    NONE = "no key for signature"
    REVOKED = "key revoked"
    SYNTAX = "key syntax error"
    VERSION = "key has another version"
    KIND = "inappropriate key algorithm"
    SERVICE = "key is not for mail"
    TOO_LONG = "key record is too long"


@attrs.frozen
class PublicKey:
    """A key that can be used, with what its domain says about its use."""

    kind: KeyKind
    key: RSAPublicKey | Ed25519PublicKey
    bits: int
    hashes: frozenset[bytes] | None = None
    """The hash algorithms it may be used with (h=); any without."""
    testing: bool = False
    """t=y: the domain tries DKIM out."""
    strict: bool = False
    """t=s: the domain of i= is d=, no subdomain."""

    def verifies(self, digest: bytes, signature: bytes) -> bool:
        """Whether the signature of that SHA-256 digest is by this key. At most 1 ms."""
        try:
            if isinstance(self.key, RSAPublicKey):
                self.key.verify(signature, digest, PADDING, PREHASHED)
            else:
                self.key.verify(signature, digest)  # RFC 8463 §3: the digest is what is signed
        except InvalidSignature:
            return False
        return True


Keys: TypeAlias = tuple[PublicKey, ...] | KeyProblem
"""What there is at a name: keys to try in turn, or why there is none."""


def key_name(selector: str, domain: str) -> str:
    """Where the key of a selector is (RFC 6376 §3.6.2.1)."""
    return f"{selector}._domainkey.{domain}"


def find_keys(records: Sequence[bytes]) -> Keys:
    """The keys in the TXT records of one name."""
    problem = KeyProblem.NONE
    keys = []
    for text in records[:MOST_RECORDS]:
        found = parse_key_record(text)
        if isinstance(found, PublicKey):
            keys.append(found)
        elif problem is KeyProblem.NONE:
            problem = found
    return tuple(keys) or problem


@functools.lru_cache(maxsize=1024)
def parse_key_record(text: bytes) -> PublicKey | KeyProblem:
    """Read one record (RFC 6376 §3.6.1)."""
    if len(text) > _MAX_RECORD:
        return KeyProblem.TOO_LONG
    try:
        tags = parse_tags(text)
        return _read(tags)
    except TagError:
        return KeyProblem.SYNTAX


def _read(tags: dict[bytes, bytes]) -> PublicKey | KeyProblem:
    # §3.6.1: v= must be the first tag where it is one at all
    if b"v" in tags and (tags[b"v"] != b"DKIM1" or next(iter(tags)) != b"v"):
        return KeyProblem.VERSION
    if b"p" not in tags:
        return KeyProblem.SYNTAX
    services = split_list(tags.get(b"s", b"*"))
    if b"*" not in services and b"email" not in services:
        return KeyProblem.SERVICE
    if not tags[b"p"]:
        return KeyProblem.REVOKED
    hashes = frozenset(split_list(tags[b"h"])) if b"h" in tags else None
    flags = split_list(tags.get(b"t", b""))
    kind = tags.get(b"k", b"rsa")
    key: RSAPublicKey | Ed25519PublicKey
    if kind == b"rsa":
        loaded = _load_rsa(decode_base64(tags[b"p"]))
        if loaded is None:
            return KeyProblem.SYNTAX
        key, bits, name = loaded, loaded.key_size, KeyKind.RSA
    elif kind == b"ed25519":
        try:
            key = Ed25519PublicKey.from_public_bytes(decode_base64(tags[b"p"]))  # RFC 8463 §4
        except ValueError:
            return KeyProblem.SYNTAX
        bits, name = 256, KeyKind.ED25519
    else:
        return KeyProblem.KIND
    return PublicKey(name, key, bits, hashes, b"y" in flags, b"s" in flags)


def _load_rsa(data: bytes) -> RSAPublicKey | None:
    """An RSA key as SubjectPublicKeyInfo, as all write it (erratum 3017 of RFC 6376), or RSAPublicKey."""
    try:
        key = load_der_public_key(data)
        if not isinstance(key, RSAPublicKey):
            return None
        if key.key_size <= MAXIMUM_BITS and key.public_numbers().e.bit_length() > _MAX_EXPONENT_BITS:
            return None
    except Exception:
        return None
    return key
