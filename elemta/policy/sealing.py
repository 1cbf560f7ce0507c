"""Seal what is passed on: an ARC set that says what was found here (RFC 8617 §5.1).

The tags stand in alphabetical order, in lines that break only between them, and values are not folded: the
relaxed form of a seal is then the one that other programs make of the same facts.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import attrs

from elemta.config import ArcConfig
from elemta.mail import Result
from elemta.runtime import ThreadPool, WallClock, run_in_thread

from .arc import RESULTS_FIELD, SEAL_FIELD, SIGNATURE_FIELD, ArcResult, read_sets
from .canonical import BodyHashes, BodyNeed, Form
from .head import Field, MessageHead, finish_hashes, update_fields
from .keyring import KeyFileError, SigningKey, load_key
from .signatures import MAX_INSTANCE
from .signing import SIGNED_FIELDS, SigningError, fold_names, fold_tags, signed_names, with_from

SEALED_FIELDS = (*SIGNED_FIELDS, b"dkim-signature")
"""RFC 8617 §4.1.2 wants the signatures that were there signed as well."""
NEED = BodyNeed(Form.RELAXED)

_VALIDATIONS = {Result.NONE: "none", Result.PASS: "pass", Result.FAIL: "fail"}
# RFC 8601 §2.2: where quoted strings, comments and results begin and end
_MARK = re.compile(rb'\\.|["();]', re.DOTALL)
_MAX_RESULTS = 64 * 1024
_MAX_NAMES_LINE = 900


@attrs.frozen(eq=False)
class SealingKey:
    """As whom to seal, and with what."""

    domain: str
    selector: str
    key: SigningKey
    names: tuple[bytes, ...] = SEALED_FIELDS
    oversigned: frozenset[bytes] = frozenset({b"from"})


def load_sealing_key(config: ArcConfig, credentials: Path | None = None) -> SealingKey | None:
    """The key of the configuration; None where nothing is to be sealed. Use a thread.

    Raises:
      SigningError: it cannot be used.
    """
    if config.seal_domain is None or config.seal_selector is None or config.seal_key is None:
        return None
    try:
        key = load_key(config.seal_key, credentials)
    except KeyFileError as error:
        raise SigningError(f"policy.arc.seal_key: {error}") from error
    return SealingKey(
        config.seal_domain.text,
        config.seal_selector,
        key,
        with_from(config.seal_headers) if config.seal_headers else SEALED_FIELDS,
    )


class ArcSealer:
    """Seals messages that are passed on.

    Args:
      authserv_id: who found the results (RFC 8601 §2.5): our name in Authentication-Results.
      pool: threads for the arithmetic, of nobody else.
    """

    def __init__(self, key: SealingKey, authserv_id: str, clock: WallClock, pool: ThreadPool) -> None:
        self._key = key
        self._authserv_id = authserv_id
        self._clock = clock
        self._pool = pool

    @property
    def domain(self) -> str:
        """As whom it seals."""
        return self._key.domain

    def needs(self) -> list[BodyNeed]:
        """What must be hashed of the body for `seal`."""
        return [NEED]

    async def seal(self, head: MessageHead, hashes: BodyHashes, chain: ArcResult, results: bytes) -> bytes:
        """The three fields to put before the message, with CR LF.

        Empty where none may be added: behind a seal that says the chain has failed (RFC 8617 §5.1), behind
        fifty, and where a key could not be had, so that nothing is known of the chain.

        Args:
          head: as it will leave, below the fields that are added.
          chain: what `check_arc` found; cv= says the same.
          results: the Authentication-Results that we made, as fields. None of a stranger's may be among
            them: those with our name are believed.
        """
        instance = chain.last_instance + 1
        validation = _VALIDATIONS.get(chain.result)
        if validation is None or chain.ended or instance > MAX_INSTANCE or head.excess:
            return b""
        found = own_results(MessageHead(results), self._authserv_id)
        text = b"; ".join((self._authserv_id.encode("ascii"), *(found or (b"none",))))
        return await run_in_thread(
            self._pool,
            make_seal,
            self._key,
            head,
            hashes,
            instance,
            validation,
            text,
            int(self._clock.time()),
        )


def make_seal(
    key: SealingKey,
    head: MessageHead,
    hashes: BodyHashes,
    instance: int,
    validation: str,
    results: bytes,
    now: int,
) -> bytes:
    """The seal, the signature and the results, in that order. Pure, and slow as private keys are."""
    aar = Field(RESULTS_FIELD, b"ARC-Authentication-Results: i=%d; %s" % (instance, _fold_results(results)))
    signature = _make_signature(key, head.below(aar.raw), hashes, instance, now)
    tags = {
        "a": str(key.key.algorithm),
        "cv": validation,
        "d": key.domain,
        "i": str(instance),
        "s": key.selector,
        "t": str(now),
    }
    seal = _field(SEAL_FIELD, "ARC-Seal", tags, b"")
    digest = hashlib.sha256()
    if validation != "fail":  # RFC 8617 §5.1.2: of a broken chain only the own set is sealed
        for each in read_sets(head):
            update_fields(digest, each.fields, Form.RELAXED)
    update_fields(digest, (aar, signature), Form.RELAXED)
    (whole,) = finish_hashes(digest, Form.RELAXED, seal)
    seal = _field(SEAL_FIELD, "ARC-Seal", tags, key.key.sign(whole))
    return b"".join(field.raw + b"\r\n" for field in (seal, signature, aar))


def _make_signature(key: SealingKey, head: MessageHead, hashes: BodyHashes, instance: int, now: int) -> Field:
    names = signed_names(head, key.names, key.oversigned)
    tags = {
        "a": str(key.key.algorithm),
        "bh": base64.b64encode(hashes.digest(NEED)).decode("ascii"),
        "c": "relaxed/relaxed",
        "d": key.domain,
        "h": _names(names),
        "i": str(instance),
        "s": key.selector,
        "t": str(now),
    }
    unsigned = _field(SIGNATURE_FIELD, "ARC-Message-Signature", tags, b"")
    (digest,) = head.hashes(Form.RELAXED, names, unsigned)
    return _field(SIGNATURE_FIELD, "ARC-Message-Signature", tags, key.key.sign(digest))


def _names(names: list[bytes]) -> str:
    """In one line, unless that is longer than RFC 5322 §2.1.1 allows."""
    text = b":".join(names).decode("ascii")
    return text if len(text) < _MAX_NAMES_LINE else fold_names(names).removeprefix("h=")


def _field(name: bytes, shown: str, tags: dict[str, str], value: bytes) -> Field:
    whole = {**tags, "b": base64.b64encode(value).decode("ascii")}
    return Field(name, fold_tags(f"{shown}: ", (f"{tag}={whole[tag]}" for tag in sorted(whole))))


def own_results(head: MessageHead, authserv_id: str) -> list[bytes]:
    """What the Authentication-Results of that name say, with comments, without "none" (RFC 8617 §4.1.1)."""
    found: list[bytes] = []
    for field in head.named(b"authentication-results"):
        if len(field.raw) > _MAX_RESULTS:
            continue
        first, *results = split_results(field.unfolded)
        name = first.split(maxsplit=1)[:1]  # RFC 8601 §2.2: a version may follow
        if name and name[0].strip(b'"').lower() == authserv_id.lower().encode("ascii"):
            found += [result for result in results if result and result.lower() != b"none"]
    return found


def split_results(value: bytes) -> Sequence[bytes]:
    """The parts between the semicolons that are not in quoted strings or comments."""
    parts = []
    start = depth = 0
    quoted = False
    for mark in _MARK.finditer(value):
        sign = mark[0]
        if sign == b'"' and not depth:
            quoted = not quoted
        elif quoted:
            continue
        elif sign == b"(":
            depth += 1
        elif sign == b")":
            depth -= depth > 0
        elif sign == b";" and not depth:
            parts.append(value[start : mark.start()].strip())
            start = mark.end()
    parts.append(value[start:].strip())
    return parts


def _fold_results(results: bytes) -> bytes:
    """One line for each result."""
    return b";\r\n\t".join(split_results(results))
