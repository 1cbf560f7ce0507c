"""Sealing: each set says what was found, and whoever validates it finds the chain good."""

from __future__ import annotations

import hashlib
import logging
import time
from pathlib import Path

import dkim as dkimpy
import pytest
from dkim_bed import (
    MESSAGE,
    NOW,
    FixedClock,
    chain,
    ed25519_key,
    hash_message,
    pool,
    rsa_key,
    sealing_key,
    sign,
    validate,
    zone,
)

from elemta.config import ArcConfig
from elemta.mail import Domain, Result
from elemta.policy.arc import ArcResult, arc_needs
from elemta.policy.canonical import Form
from elemta.policy.head import MessageHead, finish_hashes, update_fields
from elemta.policy.keyring import write_key
from elemta.policy.keys import PublicKey, parse_key_record
from elemta.policy.sealing import SEALED_FIELDS, ArcSealer, SealingKey, load_sealing_key, own_results
from elemta.policy.signatures import parse_seal
from elemta.policy.signing import SigningError

RESULTS = (
    b"Authentication-Results: mx.example.org;\r\n spf=pass smtp.mailfrom=a@example.org;\r\n"
    b" dkim=pass (1024-bit key) header.d=example.org\r\n"
)


async def seal(
    message: bytes,
    *,
    found: ArcResult | None = None,
    key: SealingKey | None = None,
    results: bytes = RESULTS,
    now: float = NOW,
) -> bytes:
    """The message with its next set; as it is where none may be added."""
    sealer = ArcSealer(key or sealing_key(), "mx.example.org", FixedClock(now), pool())
    hashed = await hash_message(message, lambda head: [*arc_needs(head), *sealer.needs()])
    verdict = found or await validate(message, now=now)
    return await sealer.seal(hashed.head, hashed.hashes, verdict, results) + message


def by_dkimpy(message: bytes) -> str:
    logging.getLogger("dkimpy").setLevel(logging.CRITICAL + 1)
    answers = {b"rsa._domainkey.example.org.": rsa_key().record().encode()}
    verdict, _, reason = dkimpy.arc_verify(message, dnsfunc=lambda name, timeout=5: answers.get(name, b""))
    return reason if verdict is None else verdict.decode()


def field(message: bytes, name: bytes) -> str:
    """The topmost of that name in relaxed form, without its name."""
    return MessageHead(message).named(name)[0].relaxed.partition(b":")[2].decode()


async def test_the_first_set() -> None:
    sealed = await seal(MESSAGE)
    assert field(sealed, b"arc-authentication-results") == (
        "i=1; mx.example.org; spf=pass smtp.mailfrom=a@example.org; dkim=pass (1024-bit key) header.d=example.org"
    )
    tags = [spec.strip().partition("=")[0] for spec in field(sealed, b"arc-message-signature").split(";")]
    assert tags == ["a", "b", "bh", "c", "d", "h", "i", "s", "t"]
    text = field(sealed, b"arc-seal")
    assert text.startswith("a=rsa-sha256; b=")
    assert text.endswith(f"=; cv=none; d=example.org; i=1; s=rsa; t={int(NOW)}")
    result = await validate(sealed)
    assert (str(result.result), result.last_instance) == ("pass", 1)


async def test_a_chain_that_we_and_dkimpy_find_good() -> None:
    message, now = MESSAGE, time.time()
    for instance in range(1, 6):
        message = await seal(message, now=now)
        result = await validate(message, now=now)
        assert (str(result.result), result.last_instance) == ("pass", instance)
        assert by_dkimpy(message) == "pass"


async def test_dkimpy_goes_on_with_our_chain_and_we_with_its() -> None:
    now = time.time()
    message = await seal(MESSAGE, now=now)
    theirs = dkimpy.arc_sign(
        b"Authentication-Results: lists.example.org; arc=pass; spf=pass\r\n" + message,
        b"rsa", b"example.org", rsa_key().pem(), b"lists.example.org",
        include_headers=[b"from", b"subject", b"to"], timestamp=int(now),
    )  # fmt: skip
    message = b"".join(theirs) + message
    assert (await validate(message, now=now)).passed
    message = await seal(message, now=now)
    assert (await validate(message, now=now)).passed
    assert by_dkimpy(message) == "pass"


async def test_the_same_facts_give_the_same_seal_as_dkimpy() -> None:
    names = [b"from", b"to", b"subject", b"date"]
    results = b"Authentication-Results: mx.example.org; spf=pass smtp.mfrom=a@example.org; dmarc=none\r\n"
    theirs = dkimpy.arc_sign(
        results + MESSAGE, b"rsa", b"example.org", rsa_key().pem(), b"mx.example.org",
        include_headers=names, timestamp=int(NOW), standardize=True,
    )  # fmt: skip
    key = sealing_key(names=tuple(names), oversigned=frozenset())
    ours = await seal(results + MESSAGE, key=key, results=results)
    for name in (b"arc-seal", b"arc-message-signature", b"arc-authentication-results"):
        assert field(ours, name) == field(b"".join(theirs), name)


async def test_a_broken_chain_is_sealed_as_broken_and_then_no_more() -> None:
    # RFC 8617 5.1.2, 5.1
    broken = chain(2).replace(b"Hello", b"Hallo")
    sealed = await seal(broken)
    assert "cv=fail; d=example.org; i=3;" in field(sealed, b"arc-seal")
    result = await validate(sealed)
    assert (str(result.result), result.ended) == ("fail", True)
    assert by_dkimpy(sealed) == "ARC-Seal[3] reported failure, the chain is terminated"
    assert await seal(sealed) == sealed


@pytest.mark.parametrize(
    "spoil",
    [lambda text: b"ARC-Seal: i=1\r\n" + text, lambda text: text.replace(b"ARC-Seal: i=2", b"ARC-Seal: i=x")],
    ids=["incomplete", "no instance"],
)
async def test_what_is_no_chain_is_sealed_as_broken(spoil: object) -> None:
    message = spoil(chain(2))  # type: ignore[operator]
    assert "cv=fail; d=example.org; i=3;" in field(await seal(message), b"arc-seal")


async def test_nothing_is_sealed_while_a_key_is_unknown_or_behind_fifty_sets() -> None:
    message = chain(1)
    unknown = ArcResult(Result.TEMPERROR, last_instance=1)
    assert await seal(message, found=unknown) == message
    full = ArcResult(Result.PASS, last_instance=50)
    assert await seal(message, found=full) == message
    excess = b"A: b\r\n" * 3000 + MESSAGE
    assert await seal(excess) == excess


async def test_signatures_that_were_there_are_sealed_too() -> None:
    signed = await sign(MESSAGE)
    sealed = await seal(signed)
    assert ":dkim-signature;" in field(sealed, b"arc-message-signature")
    assert (await validate(sealed)).passed
    assert not (await validate(sealed.replace(b"DKIM-Signature: v=1", b"DKIM-Signature: v=2"))).passed


async def test_a_second_from_breaks_the_chain_and_new_trace_fields_do_not() -> None:
    sealed = await seal(MESSAGE)
    assert not (await validate(b"From: x@example.org\r\n" + sealed)).passed
    assert (await validate(b"Received: by x\r\nDKIM-Signature: v=1\r\n" + sealed)).passed


def tags_of(message: bytes, name: bytes) -> dict[str, str]:
    """Of the topmost field of that name."""
    specs = (spec.strip().partition("=") for spec in field(message, name).split(";"))
    return {tag: value for tag, _, value in specs}


@pytest.mark.parametrize(
    ("names", "oversigned", "listed"),
    [
        (b"subject:from:to", b"", "subject:from:to"),
        (b"from:x-none:to", b"", "from:to"),  # not there, and nothing says that it must not be added
        (b"from:x-none:to", b"from:x-none", "from:from:x-none:to"),
        (b"from:received:to", b"from", "from:from:received:received:to"),
        (b"from:arc-authentication-results", b"", "from:arc-authentication-results"),
    ],
)
async def test_which_fields_are_signed(names: bytes, oversigned: bytes, listed: str) -> None:
    message = b"Received: b\r\nReceived: a\r\n" + MESSAGE
    key = sealing_key(names=tuple(names.split(b":")), oversigned=frozenset(oversigned.split(b":")))
    sealed = await seal(message, key=key)
    assert tags_of(sealed, b"arc-message-signature")["h"] == listed
    assert (await validate(sealed)).passed
    for name in set(listed.split(":")):
        # RFC 6376 5.4.2: one more of a name breaks what was oversigned, and nothing else
        if name.startswith("arc-"):
            continue
        added = (await validate(f"{name}: new\r\n".encode() + sealed)).passed
        assert added == (name != "from" and name.encode() not in oversigned.split(b":"))


@pytest.mark.parametrize("length", [0, 1, 2, 49])
async def test_what_each_field_of_a_set_says(length: int) -> None:
    # RFC 8617 4.1: the tags of each field, and no other
    sealed = await seal(chain(length))
    ams, own = tags_of(sealed, b"arc-message-signature"), tags_of(sealed, b"arc-seal")
    assert (ams.keys(), own.keys()) == (
        {"a", "b", "bh", "c", "d", "h", "i", "s", "t"},
        {"a", "b", "cv", "d", "i", "s", "t"},
    )
    assert (own["i"], own["cv"], ams["i"]) == (str(length + 1), "pass" if length else "none", str(length + 1))
    assert "arc-seal" not in ams["h"].split(":")
    assert field(sealed, b"arc-authentication-results").startswith(f"i={length + 1}; mx.example.org; ")
    assert (await validate(sealed)).passed


async def test_the_seal_of_a_broken_chain_covers_its_own_set_only() -> None:
    # RFC 8617 5.1.2
    sealed = await seal(chain(1).replace(b"Hello", b"Hallo"))
    head = MessageHead(sealed)
    seal_field = head.named(b"arc-seal")[0]
    digest = hashlib.sha256()
    own_set = (head.named(b"arc-authentication-results")[0], head.named(b"arc-message-signature")[0])
    update_fields(digest, own_set, Form.RELAXED)
    (whole,) = finish_hashes(digest, Form.RELAXED, seal_field)
    key = parse_key_record(rsa_key().record().encode())
    assert isinstance(key, PublicKey)
    assert key.verifies(whole, parse_seal(seal_field).value)


async def test_results_of_several_fields_of_ours_are_told_together() -> None:
    # RFC 8617 4.1.1
    results = (
        b"Authentication-Results: mx.example.org; spf=pass (a; b) smtp.mailfrom=example.org\r\n"
        b"Authentication-Results: other.example; dkim=pass\r\n"
        b"Authentication-Results: mx.example.org; dkim=pass header.d=example.org;\r\n\tdmarc=pass\r\n"
    )
    sealed = await seal(MESSAGE, results=results)
    assert field(sealed, b"arc-authentication-results") == (
        "i=1; mx.example.org; spf=pass (a; b) smtp.mailfrom=example.org; dkim=pass header.d=example.org; dmarc=pass"
    )


async def test_results_of_our_set_can_be_signed() -> None:
    key = sealing_key(names=(b"from", b"arc-authentication-results"))
    sealed = await seal(await seal(MESSAGE, key=key), key=key)
    assert (await validate(sealed)).passed


async def test_no_line_is_longer_than_mail_may_have_it() -> None:
    sealed = await seal(b"".join(b"To: x%d@example.net\r\n" % number for number in range(400)) + MESSAGE)
    lines = sealed.split(b"\r\n")
    assert max(map(len, lines)) <= 998  # RFC 5322 2.1.1
    assert (await validate(sealed)).passed


async def test_ed25519_seals() -> None:
    key = SealingKey("example.org", "ed", ed25519_key())
    assert (await validate(await seal(MESSAGE, key=key))).passed


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        (b"", []),
        (RESULTS, [b"spf=pass smtp.mailfrom=a@example.org", b"dkim=pass (1024-bit key) header.d=example.org"]),
        (RESULTS.replace(b"mx.example.org", b"MX.example.org 1"), [b"spf=pass smtp.mailfrom=a@example.org", b"dkim=pass (1024-bit key) header.d=example.org"]),
        (RESULTS.replace(b"mx.example.org", b'"mx.example.org"'), [b"spf=pass smtp.mailfrom=a@example.org", b"dkim=pass (1024-bit key) header.d=example.org"]),
        (RESULTS.replace(b"mx.example.org", b"mx.example.com"), []),
        (RESULTS.replace(b"mx.example.org", b""), []),
        (b"Authentication-Results: mx.example.org; none\r\n", []),
        (b"Authentication-Results: mx.example.org; spf=none;\r\nAuthentication-Results: mx.example.org; a=b\r\n", [b"spf=none", b"a=b"]),
        (b'Authentication-Results: mx.example.org; spf=fail (a; (b)\\); c) reason="x; \\"y;"; a=b\r\n', [b'spf=fail (a; (b)\\); c) reason="x; \\"y;"', b"a=b"]),
        (b"Authentication-Results: mx.example.org; x=" + b"y" * 70_000 + b"\r\n", []),
    ],
)  # fmt: skip
def test_our_own_results_are_found(fields: bytes, found: list[bytes]) -> None:
    assert own_results(MessageHead(fields), "mx.example.org") == found


async def test_a_message_of_which_nothing_was_found() -> None:
    sealed = await seal(MESSAGE, results=b"")
    assert field(sealed, b"arc-authentication-results") == "i=1; mx.example.org; none"
    assert (await validate(sealed)).passed


def test_the_key_of_the_configuration(tmp_path: Path) -> None:
    assert load_sealing_key(ArcConfig()) is None
    path = tmp_path / "seal.pem"
    config = ArcConfig(seal_domain=Domain("example.org"), seal_selector="s", seal_key=path)
    with pytest.raises(SigningError, match=r"^policy\.arc\.seal_key: .*seal\.pem: cannot be read"):
        load_sealing_key(config)
    write_key(path, rsa_key())
    key = load_sealing_key(config)
    assert key is not None
    assert (key.domain, key.selector, key.names) == ("example.org", "s", SEALED_FIELDS)
    named = ArcConfig(
        seal_domain=Domain("example.org"), seal_selector="s", seal_key=path, seal_headers=("subject", "from")
    )
    key = load_sealing_key(named)
    assert key is not None
    assert key.names == (b"subject", b"from")  # in the order of the configuration
    unnamed = ArcConfig(
        seal_domain=Domain("example.org"), seal_selector="s", seal_key=path, seal_headers=("subject", "to")
    )
    key = load_sealing_key(unnamed)
    assert key is not None
    assert key.names == (b"from", b"subject", b"to")
    assert zone()
