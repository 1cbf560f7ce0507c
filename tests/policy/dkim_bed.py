"""What the tests of DKIM and ARC share: keys made once, their zone, and signatures of any shape."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Callable, Iterable, Sequence

from elemta.config import ArcConfig, DkimConfig, DomainPattern
from elemta.mail import NULL_PATH, Domain, ReversePath, split_header
from elemta.policy import arc, dkim
from elemta.policy.arc import ArcResult, read_sets
from elemta.policy.canonical import BodyNeed, Form, hash_body
from elemta.policy.dkim import DkimResult
from elemta.policy.hashing import Hashed, MessageHasher
from elemta.policy.head import Field, MessageHead, finish_hashes, update_fields
from elemta.policy.keyring import Algorithm, SigningKey, make_key
from elemta.policy.sealing import SealingKey
from elemta.policy.signing import DkimSigner, SigningEntry
from elemta.runtime import ThreadPool
from elemta.testing.dns import FakeResolver, Zone

NOW = 1_700_000_000.0
MESSAGE = (
    b"From: Alice <alice@example.org>\r\nTo: bob@example.net\r\nSubject:  one\r\n\tmore  word \r\n"
    b"Date: Tue, 14 Nov 2023 22:13:20 +0000\r\nMessage-ID: <1@example.org>\r\n\r\n"
    b"Hello  there \t\r\n\r\nbye\r\n\r\n\r\n"
)


class FixedClock:
    """A wall clock that stands still."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def time(self) -> float:
        return self.now


@functools.cache
def rsa_key(bits: int = 1024) -> SigningKey:
    return make_key(Algorithm.RSA_SHA256, bits)


@functools.cache
def ed25519_key() -> SigningKey:
    return make_key(Algorithm.ED25519_SHA256)


def zone(**extra: str) -> dict[str, dict[str, Sequence[str]]]:
    """The records of the selectors `rsa` and `ed` of example.org, and of further ones."""
    texts = {"rsa": rsa_key().record(), "ed": ed25519_key().record(), **extra}
    return {f"{selector}._domainkey.example.org": {"TXT": [text]} for selector, text in texts.items()}


def pool() -> ThreadPool:
    return ThreadPool("signatures", 1)


def entry(selector: str = "rsa", **changes: object) -> SigningEntry:
    key = rsa_key() if selector == "rsa" else ed25519_key()
    settings = {"pattern": DomainPattern(Domain("example.org")), "domain": "example.org", **changes}
    return SigningEntry(selector=selector, key=key, **settings)  # type: ignore[arg-type]


def sealing_key(**changes: object) -> SealingKey:
    return SealingKey("example.org", "rsa", rsa_key(), **changes)  # type: ignore[arg-type]


async def hash_message(
    message: bytes, plan: Callable[[MessageHead], Iterable[BodyNeed]], piece: int = 1 << 20
) -> Hashed:
    """Receive a message in pieces, as a session does."""
    hasher = MessageHasher(plan, pool())
    for start in range(0, len(message), piece):
        await hasher.write(message[start : start + piece])
    return hasher.finish()


async def sign(
    message: bytes, *entries: SigningEntry, sender: ReversePath = NULL_PATH, now: float = NOW
) -> bytes:
    """The message with its signatures."""
    signer = DkimSigner(entries or (entry(),), FixedClock(now), pool())
    hashed = await hash_message(message, lambda head: signer.needs(head, sender))
    return await signer.sign(hashed.head, hashed.hashes, sender) + message


async def verify(
    message: bytes,
    records: Zone | FakeResolver | None = None,
    config: DkimConfig = DkimConfig(),  # noqa: B008 - frozen
    *,
    now: float = NOW,
    piece: int = 1 << 20,
) -> tuple[DkimResult, ...]:
    resolver = records if isinstance(records, FakeResolver) else FakeResolver(records or zone())
    hashed = await hash_message(message, lambda head: dkim.dkim_needs(head, config), piece)
    return await dkim.check_dkim(hashed.head, hashed.hashes, config, resolver=resolver, now=now, pool=pool())


async def validate(
    message: bytes,
    records: Zone | FakeResolver | None = None,
    *,
    now: float = NOW,
    limits: DkimConfig = DkimConfig(),  # noqa: B008 - frozen
) -> ArcResult:
    resolver = records if isinstance(records, FakeResolver) else FakeResolver(records or zone())
    hashed = await hash_message(message, arc.arc_needs)
    return await arc.check_arc(
        hashed.head, hashed.hashes, ArcConfig(), limits, resolver=resolver, now=now, pool=pool()
    )


TAGS = {
    "v": "1",
    "a": "rsa-sha256",
    "c": "relaxed/relaxed",
    "d": "example.org",
    "s": "rsa",
    "t": "1699999999",
    "h": "from:subject:to",
    "bh": "{bh}",
    "b": "{b}",
}
"""A plain DKIM-Signature."""
AMS_TAGS = {"i": "1", **{name: value for name, value in TAGS.items() if name != "v"}}
SEAL_TAGS = {
    "i": "1", "a": "rsa-sha256", "cv": "none", "d": "example.org", "s": "rsa", "t": "1699999999", "b": "{b}",
}  # fmt: skip


def shape(tags: dict[str, str | None], changes: dict[str, str | None]) -> str:
    """Tags as text: changed, added, or taken out with None."""
    return "; ".join(f"{name}={value}" for name, value in {**tags, **changes}.items() if value is not None)


def forge(
    message: bytes,
    text: str,
    *,
    key: SigningKey | None = None,
    name: str = "DKIM-Signature",
    forms: tuple[Form, Form] = (Form.RELAXED, Form.RELAXED),
    names: Sequence[str] = ("from", "subject", "to"),
    length: int | None = None,
) -> bytes:
    """A signature field that is valid for what `names` and `forms` say, whatever its text says.

    In the text `{bh}` stands for the hash of the body and `{b}` for the signature.
    """
    head = MessageHead(message)
    body = message[split_header(message) :]
    need = BodyNeed(forms[1], length)
    text = text.replace("{bh}", base64.b64encode(hash_body(body, [need]).digest(need)).decode())
    raw = f"{name}: {text}".encode()
    unsigned = Field(name.lower().encode(), raw.replace(b"{b}", b""))
    digest = head.hashes(forms[0], [each.encode() for each in names], unsigned)[0]
    return raw.replace(b"{b}", base64.b64encode((key or rsa_key()).sign(digest))) + b"\r\n"


def forge_set(
    message: bytes,
    *,
    ams: str | None = None,
    seal: str | None = None,
    aar: str | None = None,
    instance: int = 1,
    names: Sequence[str] = ("from", "subject", "to"),
    forms: tuple[Form, Form] = (Form.RELAXED, Form.RELAXED),
    order: tuple[int, int, int] = (0, 1, 2),
) -> bytes:
    """The message below an ARC set whose signatures are valid, whatever their texts say."""
    validation = "none" if instance == 1 else "pass"
    ams = ams or shape(AMS_TAGS, {"i": str(instance)})
    seal = seal or shape(SEAL_TAGS, {"i": str(instance), "cv": validation})
    results = Field(
        b"arc-authentication-results",
        f"ARC-Authentication-Results: {aar or f'i={instance}; mx.example.org; spf=pass'}".encode(),
    )
    signed = forge(
        results.raw + b"\r\n" + message, ams, name="ARC-Message-Signature", names=names, forms=forms
    )
    signature = Field(b"arc-message-signature", signed.removesuffix(b"\r\n"))
    digest = hashlib.sha256()
    if "cv=fail" not in seal:
        for each in sets_of(message):
            update_fields(digest, each, Form.RELAXED)
    update_fields(digest, (results, signature), Form.RELAXED)
    unsigned = Field(b"arc-seal", f"ARC-Seal: {seal}".replace("{b}", "").encode())
    value = rsa_key().sign(finish_hashes(digest, Form.RELAXED, unsigned)[0])
    sealed = f"ARC-Seal: {seal}".encode().replace(b"{b}", base64.b64encode(value))
    fields = (sealed, signature.raw, results.raw)
    return b"".join(fields[index] + b"\r\n" for index in order) + message


def sets_of(message: bytes) -> list[tuple[Field, ...]]:
    """The sets that are there, as far as they can be read."""
    try:
        return [each.fields for each in read_sets(MessageHead(message))]
    except Exception:
        return []


def chain(length: int) -> bytes:
    """A message with a valid chain."""
    message = MESSAGE
    for instance in range(1, length + 1):
        message = forge_set(message, instance=instance)
    return message
