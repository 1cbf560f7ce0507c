"""Verify the DKIM signatures of a message (RFC 6376, RFC 8301, RFC 8463).

Theory of operation. A session makes a `BodyHasher` from `dkim_needs` as soon as it has the header, feeds it
the body as it comes, and gives the header and the hashes to `check_dkim` at the end: no message is ever held
or read twice. Which keys are needed is known from the header alone, so they are fetched at once; what is left
is pure, takes some 50 µs for a signature, and goes to a thread only where a stranger made the header large.

Results are those of RFC 8601 §2.7.1: `neutral` for what cannot be read, `permerror` for what RFC 6376 §6.1
calls a permanent failure before the signature is looked at, `policy` for what is valid but not good enough
for us, `fail` for what is forged or was changed on its way.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence

import attrs
import trio

from elemta.config import DkimConfig
from elemta.dns import RecordKind, Resolver, Status
from elemta.mail import AuthResult, Property, Result
from elemta.runtime import ThreadPool, run_in_thread

from .canonical import BodyHashes, BodyNeed
from .head import Field, MessageHead
from .keys import KeyProblem, Keys, PublicKey, find_keys
from .signatures import MessageSignature, SignatureProblem, parse_dkim_signature

QUICK_HEAD = 32 * 1024
"""Octets of a header up to which its signatures are verified in the loop: that takes at most 5 ms."""
_SHOWN_VALUE = 8
"""Characters of b= that tell signatures apart (RFC 6008 §4)."""


@attrs.frozen
class DkimResult:
    """What became of one signature. Texts but `reason` are a stranger's: they need quoting where they go."""

    result: Result
    reason: str = ""
    domain: str = ""
    selector: str = ""
    identity: str = ""
    """i=, or what it means where it is missing."""
    algorithm: str = ""
    bits: int = 0
    """Length of the key."""
    value: str = ""
    """The begin of b=, as header.b shows it."""
    testing: bool = False
    """The key says t=y: by RFC 6376 §3.6.1 the message is to be treated as if it were not signed."""

    @property
    def passed(self) -> bool:
        return self.result is Result.PASS

    def auth_result(self) -> AuthResult:
        """As Authentication-Results says it (RFC 8601 §2.7.1, RFC 6008 §3)."""
        found = {
            "d": self.domain, "i": self.identity, "s": self.selector, "a": self.algorithm, "b": self.value,
        }  # fmt: skip
        properties = tuple(Property("header", name, value) for name, value in found.items() if value)
        return AuthResult("dkim", self.result, self.reason, properties)


def dkim_needs(head: MessageHead, config: DkimConfig) -> list[BodyNeed]:
    """What must be hashed of the body for `check_dkim`; nothing for signatures that cannot be valid."""
    needs: list[BodyNeed] = []
    for field in _fields(head, config):
        try:
            needs += parse_dkim_signature(field).needs
        except SignatureProblem:
            continue
    return needs


async def check_dkim(
    head: MessageHead,
    hashes: BodyHashes,
    config: DkimConfig,
    *,
    resolver: Resolver,
    now: float,
    pool: ThreadPool,
) -> tuple[DkimResult, ...]:
    """The results of the topmost signatures, at most `config.signatures`; one of NONE where there are none.

    Never raises for what is in the message or in DNS. Keys that have not come within `config.timeout` give
    TEMPERROR. Cancelled, it leaves nothing behind.

    Args:
      hashes: of the body of the same message, by what `dkim_needs` said.
      now: wall-clock time.
    """
    fields = _fields(head, config)
    if head.excess:
        return (DkimResult(Result.POLICY, "the header has too many fields"),)
    if not fields:
        return (DkimResult(Result.NONE),)
    names = set()
    for field in fields:
        try:
            names.add(parse_dkim_signature(field).key_name)
        except SignatureProblem:
            continue
    keys = await fetch_keys(resolver, names, seconds=config.timeout)
    if head.size > QUICK_HEAD:
        return await run_in_thread(pool, verify_signatures, head, fields, hashes, keys, config, now)
    return verify_signatures(head, fields, hashes, keys, config, now)


def _fields(head: MessageHead, config: DkimConfig) -> Sequence[Field]:
    # RFC 6376 §6.1: in any order, and not without end
    return head.named(b"dkim-signature")[: config.signatures]


async def fetch_keys(
    resolver: Resolver, names: Iterable[str], *, seconds: float
) -> Mapping[str, Keys | None]:
    """The keys at all these names, asked for at the same time; None for those that nobody knows for now."""
    found: dict[str, Keys | None] = dict.fromkeys(names)

    async def fetch(name: str) -> None:
        answer = await resolver.query(name, RecordKind.TXT)
        if answer.status is not Status.FAILED:
            found[name] = find_keys(answer.strings)

    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for name in tuple(found):
                nursery.start_soon(fetch, name)
    return found


def verify_signatures(
    head: MessageHead,
    fields: Sequence[Field],
    hashes: BodyHashes,
    keys: Mapping[str, Keys | None],
    config: DkimConfig,
    now: float,
) -> tuple[DkimResult, ...]:
    """Judge these DKIM-Signature fields. Pure."""
    return tuple(_judge(head, field, hashes, keys, config, now) for field in fields)


def _judge(
    head: MessageHead,
    field: Field,
    hashes: BodyHashes,
    keys: Mapping[str, Keys | None],
    config: DkimConfig,
    now: float,
) -> DkimResult:
    try:
        signature = parse_dkim_signature(field)
    except SignatureProblem as problem:
        return DkimResult(problem.result, problem.reason)
    key: PublicKey | None = None
    try:
        key = verify_message(head, signature, hashes, keys.get(signature.key_name), config, now)
        found = Result.PASS, ""
    except SignatureProblem as problem:
        key = problem.key
        found = problem.result, problem.reason
    testing = key is not None and key.testing
    result, reason = found
    if testing and result is not Result.PASS:
        # RFC 6376 §3.6.1: like a message without a signature, even should it fail
        result, reason = Result.NEUTRAL, f"{reason} (testing)"
    return DkimResult(
        result,
        reason,
        domain=signature.domain.text,
        selector=signature.selector,
        identity=signature.identity,
        algorithm=signature.algorithm.value,
        bits=0 if key is None else key.bits,
        value=base64.b64encode(signature.value)[:_SHOWN_VALUE].decode("ascii"),
        testing=testing,
    )


def verify_message(
    head: MessageHead,
    signature: MessageSignature,
    hashes: BodyHashes,
    keys: Keys | None,
    config: DkimConfig,
    now: float,
) -> PublicKey:
    """The key that proves a signature of the message, DKIM's or ARC's.

    Raises:
      SignatureProblem: there is none.
    """
    if not signature.covers(head, b"from"):
        # RFC 6376 §5.4, §8.15: what readers see may be the one that was added
        raise SignatureProblem(Result.PERMERROR, "a From field is missing or not signed")
    signature.check_time(now, config.clock_skew)
    if keys is None:
        raise SignatureProblem(Result.TEMPERROR, "key unavailable")  # RFC 6376 §6.1.2
    if isinstance(keys, KeyProblem):
        raise SignatureProblem(Result.PERMERROR, keys.value)
    digests = [
        digest
        for (header_form, _), need in zip(signature.forms, signature.needs, strict=True)
        if hashes.digests.get(need) == signature.body_hash
        for digest in head.hashes(header_form, signature.names, signature.field)
    ]
    problem: SignatureProblem | None = None
    for key in keys:
        try:
            signature.check_key(key, config.minimum_key)
        except SignatureProblem as found:
            problem = problem or found
            continue
        if any(key.verifies(digest, signature.value) for digest in digests):
            _check_length(signature, hashes, config, key)
            return key
        reason = "signature did not verify" if digests else "body hash did not verify"
        problem = SignatureProblem(Result.FAIL, reason, key)
    assert problem is not None, "find_keys gives a key or a problem"
    raise problem


def _check_length(
    signature: MessageSignature, hashes: BodyHashes, config: DkimConfig, key: PublicKey
) -> None:
    """Refuse a valid signature that leaves a part of the body to whoever adds one (RFC 6376 §8.2)."""
    if signature.length is None:
        return
    size = max(hashes.sizes[form] for _, form in signature.forms)
    if signature.length > size:  # §3.4.5
        raise SignatureProblem(Result.FAIL, "l= is more than the body", key)
    if signature.length < size and not config.partial_body:
        raise SignatureProblem(Result.POLICY, "only a part of the body is signed", key)
