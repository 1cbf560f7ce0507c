"""Validate the ARC chain of a message (RFC 8617 §5.2): did each that passed it on vouch for what it found?

Theory of operation. The structure is judged first and needs no DNS. Then the newest signature of the message
and all seals must be valid. A seal covers all ARC fields of the sets before it, so the hash of those is kept
and copied from seal to seal: fifty sets cost fifty times one set, not the square of that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import attrs

from elemta.config import ArcConfig, DkimConfig
from elemta.dns import Resolver
from elemta.mail import AuthResult, Result
from elemta.runtime import ThreadPool, run_in_thread

from .canonical import BodyHashes, BodyNeed, Form
from .dkim import QUICK_HEAD, fetch_keys, verify_message
from .head import Field, MessageHead, finish_hashes, update_fields
from .keys import KeyProblem, Keys
from .signatures import (
    MAX_INSTANCE,
    MessageSignature,
    Seal,
    SignatureProblem,
    find_instance,
    parse_arc_signature,
    parse_seal,
)

RESULTS_FIELD = b"arc-authentication-results"
SIGNATURE_FIELD = b"arc-message-signature"
SEAL_FIELD = b"arc-seal"
ARC_FIELDS = (RESULTS_FIELD, SIGNATURE_FIELD, SEAL_FIELD)
"""In the order in which the fields of a set are signed (RFC 8617 §5.1.1)."""
_QUICK_SETS = 10
"""Sets up to which a chain is validated in the loop."""


@attrs.frozen(eq=False)
class ArcSet:
    """The three fields of one instance."""

    results: Field
    signature: MessageSignature
    seal: Seal

    @property
    def fields(self) -> tuple[Field, Field, Field]:
        """In the order in which they are signed."""
        return self.results, self.signature.field, self.seal.field


@attrs.frozen
class ArcResult:
    """What became of the chain."""

    result: Result
    """NONE, PASS, FAIL; TEMPERROR where a key could not be had, which nobody should seal."""
    reason: str = ""
    sealers: tuple[str, ...] = ()
    """d= of the seals, the newest first. Believed only where the result is PASS."""
    selector: str = ""
    """s= of the newest seal."""
    results: bytes = b""
    """What the newest set says was found: its ARC-Authentication-Results, unfolded. A stranger's."""
    last_instance: int = 0
    """The largest instance of the message, also of a chain that is broken."""
    ended: bool = False
    """The newest seal says that the chain has failed: no other may be added (RFC 8617 §5.1)."""

    @property
    def passed(self) -> bool:
        return self.result is Result.PASS

    def auth_result(self) -> AuthResult:
        """As Authentication-Results says it (RFC 8617 §10.1)."""
        return AuthResult("arc", self.result, self.reason)


class BrokenChain(Exception):
    """The chain is not valid."""


def arc_needs(head: MessageHead) -> list[BodyNeed]:
    """What must be hashed of the body for `check_arc`."""
    try:
        sets = read_sets(head)
    except (BrokenChain, SignatureProblem):
        return []
    return list(sets[-1].signature.needs) if sets else []


async def check_arc(
    head: MessageHead,
    hashes: BodyHashes,
    config: ArcConfig,
    limits: DkimConfig,
    *,
    resolver: Resolver,
    now: float,
    pool: ThreadPool,
) -> ArcResult:
    """Validate the chain.

    Never raises for what is in the message or in DNS. Keys that have not come within `config.timeout` give
    TEMPERROR. Cancelled, it leaves nothing behind.

    Args:
      hashes: of the body of the same message, by what `arc_needs` said.
      limits: for keys and times, which are those of DKIM.
      now: wall-clock time.
    """
    last = _last_instance(head)
    if head.excess:
        return ArcResult(Result.FAIL, "the header has too many fields", last_instance=MAX_INSTANCE)
    try:
        sets = read_sets(head)
    except (BrokenChain, SignatureProblem) as cause:
        return ArcResult(Result.FAIL, str(cause), last_instance=last)
    if not sets:
        return ArcResult(Result.NONE)
    newest = sets[-1]
    found = ArcResult(
        Result.PASS,
        sealers=tuple(each.seal.domain.text for each in reversed(sets)),
        selector=newest.seal.selector,
        results=newest.results.unfolded,
        last_instance=last,
        ended=newest.seal.validation == "fail",
    )
    try:
        _check_validation(sets)
        names = {newest.signature.key_name, *(each.seal.key_name for each in sets)}
        keys = await fetch_keys(resolver, names, seconds=config.timeout)
        large = len(sets) > _QUICK_SETS or head.size > QUICK_HEAD
        if large:
            await run_in_thread(pool, _validate, head, sets, hashes, keys, limits, now)
        else:
            _validate(head, sets, hashes, keys, limits, now)
    except BrokenChain as cause:
        return attrs.evolve(found, result=Result.FAIL, reason=str(cause))
    except SignatureProblem as problem:
        result = Result.TEMPERROR if problem.result is Result.TEMPERROR else Result.FAIL
        return attrs.evolve(found, result=result, reason=problem.reason)
    return found


def read_sets(head: MessageHead) -> list[ArcSet]:
    """The sets, the oldest first (RFC 8617 §5.2, steps 1 and 3).

    Raises:
      BrokenChain, SignatureProblem: they are no chain.
    """
    found: dict[int, dict[bytes, Field]] = {}
    for name in ARC_FIELDS:
        fields = head.named(name)
        if len(fields) > MAX_INSTANCE:
            raise BrokenChain("too many ARC fields")
        for field in fields:
            instance = find_instance(field)
            if instance is None:
                raise BrokenChain(f"{_shown(name)} without a valid instance")
            if name in found.setdefault(instance, {}):
                raise BrokenChain(f"several {_shown(name)} of instance {instance}")
            found[instance][name] = field
    sets = []
    for instance in range(1, len(found) + 1):
        parts = found.get(instance)
        if parts is None:
            raise BrokenChain(f"instance {instance} is missing")
        if len(parts) != len(ARC_FIELDS):
            raise BrokenChain(f"instance {instance} is incomplete")
        signature = parse_arc_signature(parts[SIGNATURE_FIELD])
        sets.append(ArcSet(parts[RESULTS_FIELD], signature, parse_seal(parts[SEAL_FIELD])))
    return sets


def _check_validation(sets: list[ArcSet]) -> None:
    """RFC 8617 §5.2, steps 2 and 3 C."""
    if sets[-1].seal.validation == "fail":
        raise BrokenChain(f"instance {len(sets)} says that the chain has failed")
    for instance, each in enumerate(sets, 1):
        wanted = "none" if instance == 1 else "pass"
        if each.seal.validation != wanted:
            raise BrokenChain(f"cv= of instance {instance} is not {wanted}")


def _validate(
    head: MessageHead,
    sets: list[ArcSet],
    hashes: BodyHashes,
    keys: Mapping[str, Keys | None],
    limits: DkimConfig,
    now: float,
) -> None:
    """RFC 8617 §5.2, steps 4 and 6. Pure.

    Raises:
      SignatureProblem: something is not valid; TEMPERROR only where nothing else is wrong.
    """
    late: SignatureProblem | None = None
    newest = sets[-1].signature
    try:
        verify_message(head, newest, hashes, keys.get(newest.key_name), limits, now)
    except SignatureProblem as problem:
        late = _only_late(problem, f"ARC-Message-Signature {len(sets)}")
    before = hashlib.sha256()
    for instance, each in enumerate(sets, 1):
        own = before.copy()
        update_fields(own, each.fields[:2], Form.RELAXED)
        try:
            each.seal.check_time(now, limits.clock_skew)
            _verify_seal(each.seal, finish_hashes(own, Form.RELAXED, each.seal.field), keys, limits)
        except SignatureProblem as problem:
            late = _only_late(problem, f"ARC-Seal {instance}")
        update_fields(before, each.fields, Form.RELAXED)
    if late is not None:
        raise late


def _only_late(problem: SignatureProblem, what: str) -> SignatureProblem:
    named = SignatureProblem(problem.result, f"{what}: {problem.reason}")
    if problem.result is not Result.TEMPERROR:
        raise named from problem
    return named


def _verify_seal(
    seal: Seal, digests: tuple[bytes, ...], keys: Mapping[str, Keys | None], limits: DkimConfig
) -> None:
    found = keys.get(seal.key_name)
    if found is None:
        raise SignatureProblem(Result.TEMPERROR, "key unavailable")
    if isinstance(found, KeyProblem):
        raise SignatureProblem(Result.PERMERROR, found.value)
    problem: SignatureProblem | None = None
    for key in found:
        try:
            seal.check_key(key, limits.minimum_key)
        except SignatureProblem as refused:
            problem = problem or refused
            continue
        if any(key.verifies(digest, seal.value) for digest in digests):
            return
        problem = SignatureProblem(Result.FAIL, "signature did not verify", key)
    assert problem is not None, "find_keys gives a key or a problem"
    raise problem


def _last_instance(head: MessageHead) -> int:
    """The largest instance of any field."""
    fields = [field for name in ARC_FIELDS for field in head.named(name)[: MAX_INSTANCE + 1]]
    return max((find_instance(field) or 0 for field in fields), default=0)


def _shown(name: bytes) -> str:
    return {RESULTS_FIELD: "ARC-Authentication-Results", SIGNATURE_FIELD: "ARC-Message-Signature"}.get(
        name, "ARC-Seal"
    )
