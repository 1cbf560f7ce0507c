"""The fields DKIM-Signature, ARC-Message-Signature and ARC-Seal as values (RFC 6376 §3.5, RFC 8617 §4.1).

What can be seen without the message and without the key is checked here. A field that passes may still be
forged; one that does not is never verified.
"""

from __future__ import annotations

import re

import attrs

from elemta.mail import Domain, MailSyntaxError, Result, parse_domain

from .canonical import BodyNeed, Form
from .head import Field, MessageHead
from .keyring import Algorithm
from .keys import MAXIMUM_BITS, KeyKind, PublicKey, key_name
from .tags import TagError, decode_base64, parse_number, parse_tags, split_list

MAX_FIELD = 16 * 1024
"""Octets of one signature field."""
MAX_NAMES = 200
"""Names in h=; each costs Python about 0.2 µs for each signature."""
MAX_INSTANCE = 50
"""RFC 8617 §4.2.1."""

_KINDS = {Algorithm.RSA_SHA256: KeyKind.RSA, Algorithm.ED25519_SHA256: KeyKind.ED25519}
# RFC 5322 §2.2 is wider, but a name with other characters is in no message
_FIELD_NAME = re.compile(rb"[\x21-\x39\x3b-\x7e]+")
_INSTANCE = re.compile(rb"[0-9]{1,2}")  # RFC 8617 §4.2.1: position = 1*2DIGIT
_VALIDATION = {b"none": "none", b"pass": "pass", b"fail": "fail"}
# RFC 8617 §4.1.1: [CFWS] "i" [CFWS] "=" [CFWS] position [CFWS] ";"; of comments those without comments
_CFWS = rb"(?:[ \t]|\([^()\\]*\))*+"
_AAR = re.compile(_CFWS + rb"i" + _CFWS + rb"=" + _CFWS + rb"([0-9]{1,2})" + _CFWS + rb";")


class SignatureProblem(Exception):
    """Why a signature is not worth verifying, or is not valid; holds nothing of a stranger's."""

    def __init__(self, result: Result, reason: str, key: PublicKey | None = None) -> None:
        super().__init__(reason)
        self.result = result
        self.reason = reason
        self.key = key
        """The key that was found, where it came so far."""


@attrs.frozen(eq=False)
class Signature:
    """A signature with what all three fields have in common."""

    field: Field
    algorithm: Algorithm
    domain: Domain
    """d=: who takes responsibility, and has the key."""
    selector: str
    """s=, in A-labels and small letters."""
    value: bytes
    """b= decoded."""
    time: int | None
    """t=: when it was made."""

    @property
    def key_name(self) -> str:
        """Where its key is in DNS."""
        return key_name(self.selector, self.domain.text)

    def check_time(self, now: float, skew: float) -> None:
        """Refuse what has ended, or was made in the future (RFC 6376 §3.5)."""
        if self.time is not None and self.time - skew > now:
            raise SignatureProblem(Result.POLICY, "signature is from the future")

    def check_key(self, key: PublicKey, minimum_bits: int) -> None:
        """Refuse a key that its domain does not mean for such a signature (RFC 6376 §6.1.2), or that is weak.

        Raises:
          SignatureProblem: always PERMERROR, or POLICY for its length.
        """
        if key.kind is not _KINDS[self.algorithm]:
            raise SignatureProblem(Result.PERMERROR, "inappropriate key algorithm", key)
        if key.hashes is not None and b"sha256" not in key.hashes:
            raise SignatureProblem(Result.PERMERROR, "inappropriate hash algorithm", key)
        if key.kind is KeyKind.RSA and key.bits < minimum_bits:
            raise SignatureProblem(Result.POLICY, f"key too short ({key.bits} bits)", key)  # RFC 8301 §3.2
        if key.kind is KeyKind.RSA and key.bits > MAXIMUM_BITS:
            raise SignatureProblem(Result.POLICY, f"key too long ({key.bits} bits)", key)


@attrs.frozen(eq=False)
class MessageSignature(Signature):
    """DKIM-Signature, or ARC-Message-Signature: what covers the message."""

    forms: tuple[tuple[Form, Form], ...]
    """c=: how header and body were made canonical. More than one: it does not say, either may be meant."""
    names: tuple[bytes, ...]
    """h=, in small letters."""
    body_hash: bytes
    """bh= decoded."""
    length: int | None
    """l=: octets of the canonical body that are signed; all without."""
    identity: str
    """i= as it was written, or `@` and the domain."""
    identity_domain: Domain
    """What stands behind the @ of it."""
    expires: int | None
    """x=: when it ends."""

    @property
    def needs(self) -> tuple[BodyNeed, ...]:
        """The hashes of the body that it may speak of, as `forms`."""
        return tuple(BodyNeed(body, self.length) for _, body in self.forms)

    def covers(self, head: MessageHead, name: bytes) -> bool:
        """Whether no field of that name is unsigned."""
        return 0 < len(head.named(name)) <= self.names.count(name)

    def check_key(self, key: PublicKey, minimum_bits: int) -> None:
        super().check_key(key, minimum_bits)
        # RFC 6376 §3.6.1, t=s: no subdomain may be in i=
        if key.strict and self.identity_domain != self.domain:
            raise SignatureProblem(Result.PERMERROR, "i= is a subdomain, which the key forbids", key)

    def check_time(self, now: float, skew: float) -> None:
        super().check_time(now, skew)
        if self.expires is not None and self.expires + skew < now:
            raise SignatureProblem(Result.POLICY, "signature expired")


@attrs.frozen(eq=False)
class Seal(Signature):
    """ARC-Seal: what covers the ARC fields."""

    validation: str
    """cv=: what its maker found: `none`, `pass` or `fail`."""


def parse_dkim_signature(field: Field) -> MessageSignature:
    """Read a DKIM-Signature (RFC 6376 §6.1.1).

    Raises:
      SignatureProblem: it cannot be verified.
    """
    tags = _tags(field)
    if _required(tags, b"v") != b"1":
        raise SignatureProblem(Result.NEUTRAL, "incompatible version")
    forms = _forms(tags.get(b"c", b"simple/simple"))
    return _parse_message_signature(field, tags, (forms,), tags.get(b"i"))


def parse_arc_signature(field: Field) -> MessageSignature:
    """Read an ARC-Message-Signature (RFC 8617 §4.1.2). Its instance is read by `find_instance`.

    Raises:
      SignatureProblem: it cannot be verified.
    """
    tags = _tags(field)
    # RFC 6376 §3.5 has simple/simple where c= is missing, and RFC 8617 says nothing else; the programs that
    # sign so mean relaxed/relaxed.
    both = ((Form.RELAXED, Form.RELAXED), (Form.SIMPLE, Form.SIMPLE))
    forms = (_forms(tags[b"c"]),) if b"c" in tags else both
    # §4.1.2: i= is the instance; v= is ignored like any unknown tag
    signature = _parse_message_signature(field, tags, forms, None)
    if b"arc-seal" in signature.names:  # §4.1.2: MUST NOT
        raise SignatureProblem(Result.FAIL, "h= has ARC-Seal")
    return signature


def parse_seal(field: Field) -> Seal:
    """Read an ARC-Seal (RFC 8617 §4.1.3).

    Raises:
      SignatureProblem: it cannot be verified.
    """
    tags = _tags(field)
    if b"h" in tags:
        raise SignatureProblem(Result.FAIL, "a seal has h=")  # §4.1.3: must be a failure
    validation = _VALIDATION.get(_required(tags, b"cv"))
    if validation is None:
        raise SignatureProblem(Result.NEUTRAL, "cv= is not valid")
    return Seal(
        field=field,
        algorithm=_algorithm(tags),
        domain=_domain(tags),
        selector=_selector(tags),
        value=_octets(tags, b"b"),
        time=_number(tags, b"t", 12),
        validation=validation,
    )


def find_instance(field: Field) -> int | None:
    """The number of the ARC set that a field belongs to (RFC 8617 §4.2.1); None where it has no valid one."""
    if field.name == b"arc-authentication-results":
        match = _AAR.match(field.unfolded)
        text = match[1] if match else b""
    else:
        try:
            text = _tags(field).get(b"i", b"")
        except SignatureProblem:
            return None
    if not _INSTANCE.fullmatch(text) or not 1 <= int(text) <= MAX_INSTANCE:
        return None
    return int(text)


def _tags(field: Field) -> dict[bytes, bytes]:
    if len(field.raw) > MAX_FIELD:
        raise SignatureProblem(Result.POLICY, "signature is too long")
    try:
        return parse_tags(field.value)
    except TagError as cause:
        raise SignatureProblem(Result.NEUTRAL, f"signature syntax error: {cause}") from cause


def _parse_message_signature(
    field: Field, tags: dict[bytes, bytes], forms: tuple[tuple[Form, Form], ...], identity: bytes | None
) -> MessageSignature:
    domain = _domain(tags)
    identity_text, identity_domain = _identity(identity, domain)
    if b"dns/txt" not in split_list(tags.get(b"q", b"dns/txt")):
        raise SignatureProblem(Result.NEUTRAL, "unknown query method")
    time, expires = _number(tags, b"t", 12), _number(tags, b"x", 12)
    if time is not None and expires is not None and expires <= time:
        raise SignatureProblem(Result.NEUTRAL, "x= is not behind t=")  # RFC 6376 §3.5
    return MessageSignature(
        field=field,
        algorithm=_algorithm(tags),
        domain=domain,
        selector=_selector(tags),
        value=_octets(tags, b"b"),
        forms=forms,
        names=_names(tags),
        body_hash=_octets(tags, b"bh"),
        length=_number(tags, b"l", 76),
        identity=identity_text,
        identity_domain=identity_domain,
        time=time,
        expires=expires,
    )


def _required(tags: dict[bytes, bytes], name: bytes) -> bytes:
    if name not in tags:
        raise SignatureProblem(Result.NEUTRAL, f"signature missing required tag {name.decode()}=")
    return tags[name]


def _algorithm(tags: dict[bytes, bytes]) -> Algorithm:
    value = _required(tags, b"a")
    if value == b"rsa-sha1":  # RFC 8301 §3.1: has permanently failed
        raise SignatureProblem(Result.PERMERROR, "rsa-sha1 is not accepted")
    try:
        return Algorithm(value.decode("ascii"))
    except ValueError as cause:
        raise SignatureProblem(Result.NEUTRAL, "unknown signature algorithm") from cause


def _domain(tags: dict[bytes, bytes]) -> Domain:
    return _as_domain(_required(tags, b"d"), "d=")


def _as_domain(value: bytes, what: str) -> Domain:
    try:
        domain = parse_domain(value.decode("utf-8"), utf8=True)  # RFC 8616 §4: it may have U-labels
    except (MailSyntaxError, UnicodeDecodeError) as cause:
        raise SignatureProblem(Result.NEUTRAL, f"{what} is not a domain") from cause
    if not isinstance(domain, Domain):
        raise SignatureProblem(Result.NEUTRAL, f"{what} is not a domain")
    return domain


def _selector(tags: dict[bytes, bytes]) -> str:
    # A selector is a domain but for its length, which the name of the key has together with d=.
    return _as_domain(_required(tags, b"s"), "s=").text


def _octets(tags: dict[bytes, bytes], name: bytes) -> bytes:
    try:
        return decode_base64(_required(tags, name))
    except TagError as cause:
        raise SignatureProblem(Result.NEUTRAL, f"{name.decode()}= is not base64") from cause


def _number(tags: dict[bytes, bytes], name: bytes, digits: int) -> int | None:
    if name not in tags:
        return None
    try:
        return parse_number(tags[name], digits)
    except TagError as cause:
        raise SignatureProblem(Result.NEUTRAL, f"{name.decode()}= is not a number") from cause


def _names(tags: dict[bytes, bytes]) -> tuple[bytes, ...]:
    names = split_list(_required(tags, b"h").lower())
    if len(names) > MAX_NAMES:
        raise SignatureProblem(Result.POLICY, "h= has too many names")
    if not all(map(_FIELD_NAME.fullmatch, names)):
        raise SignatureProblem(Result.NEUTRAL, "h= is not a list of fields")
    if b"from" not in names:
        # RFC 6376 §5.4, §6.1.1; RFC 8617 §4.1.2 has h= from there
        raise SignatureProblem(Result.PERMERROR, "From field not signed")
    return tuple(names)


def _forms(value: bytes) -> tuple[Form, Form]:
    """c= (RFC 6376 §3.5): one name is the header's, then the body's is "simple"."""
    header, _, body = value.partition(b"/")
    try:
        return Form(header.decode("ascii")), Form(body.decode("ascii") if b"/" in value else "simple")
    except ValueError as cause:
        raise SignatureProblem(Result.NEUTRAL, "unknown canonicalization") from cause


def _identity(value: bytes | None, domain: Domain) -> tuple[str, Domain]:
    """i= and its domain, which must be d= or below it (RFC 6376 §6.1.1)."""
    if value is None:
        return f"@{domain}", domain
    local, at, name = value.rpartition(b"@")
    if not at:
        raise SignatureProblem(Result.NEUTRAL, "i= is not an identity")
    found = _as_domain(name, "i=")
    if found != domain and not found.text.endswith("." + domain.text):
        raise SignatureProblem(Result.PERMERROR, "domain mismatch between i= and d=")
    return f"{local.decode('utf-8', 'replace')}@{found}", found
