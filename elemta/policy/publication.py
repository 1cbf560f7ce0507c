"""Whether a key that we sign with is the one that stands in DNS, as those see it who verify."""

from __future__ import annotations

import enum

import attrs

from elemta.dns import Answer, RecordKind, Resolver, Status

from .keyring import SigningKey
from .keys import KeyProblem, PublicKey, find_keys, key_name


class Publication(enum.StrEnum):
    """What is wrong with the record of a key."""

    OK = "ok"
    MISSING = "missing"
    """There is no record."""
    DIFFERENT = "different"
    """It has another key."""
    REVOKED = "revoked"
    UNUSABLE = "unusable"
    """It is there, but verifiers would not use it for such signatures."""
    UNKNOWN = "unknown"
    """DNS did not answer."""


@attrs.frozen
class PublishedKey:
    """What was found at the name of a key."""

    name: str
    state: Publication
    notes: tuple[str, ...] = ()
    """What is wrong or worth knowing, one line each."""


async def look_up_key(resolver: Resolver, domain: str, selector: str, key: SigningKey) -> PublishedKey:
    """Ask for the record and compare it."""
    name = key_name(selector, domain)
    return compare_key(name, await resolver.query(name, RecordKind.TXT), key)


def compare_key(name: str, answer: Answer, key: SigningKey) -> PublishedKey:
    """Judge what was answered."""
    if answer.status is Status.FAILED:
        return PublishedKey(name, Publication.UNKNOWN, (answer.detail or "DNS gave no answer",))
    if not answer.strings:
        return PublishedKey(name, Publication.MISSING, ("there is no TXT record",))
    notes = []
    if len(answer.strings) > 1:
        notes.append(f"there are {len(answer.strings)} TXT records: which one is used is not defined")
    found = find_keys(answer.strings)
    if isinstance(found, KeyProblem):
        state = Publication.REVOKED if found is KeyProblem.REVOKED else Publication.UNUSABLE
        return PublishedKey(name, state, (*notes, found.value))
    ours = [each for each in found if key.is_pair_of(each.key)]
    if not ours:
        return PublishedKey(name, Publication.DIFFERENT, (*notes, "it has another key"))
    state, more = _judge(ours[0])
    return PublishedKey(name, state, (*notes, *more))


def _judge(key: PublicKey) -> tuple[Publication, list[str]]:
    notes = []
    state = Publication.OK
    if key.hashes is not None and b"sha256" not in key.hashes:
        state = Publication.UNUSABLE
        notes.append("h= does not allow sha256")
    if key.testing:
        notes.append("t=y: verifiers treat signed mail as if it were not signed (RFC 6376 3.6.1)")
    if key.bits < 2048 and key.kind.value == "rsa":
        notes.append(f"the key has {key.bits} bits: signers should use 2048 (RFC 8301 3.2)")
    return state, notes
