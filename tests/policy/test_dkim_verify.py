"""Signatures that arrive: what is good, what is not, and by which name (RFC 6376 6.1, RFC 8601 2.7.1)."""

from __future__ import annotations

import base64

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from dkim_bed import (
    MESSAGE,
    NOW,
    TAGS,
    ed25519_key,
    forge,
    pool,
    rsa_key,
    shape,
    verify,
    zone,
)

from elemta.config import DkimConfig
from elemta.mail import AuthResult, AuthResults, Result
from elemta.policy import dkim
from elemta.policy.canonical import BodyHashes, Form
from elemta.policy.head import MessageHead
from elemta.testing.dns import FakeResolver

RSA = rsa_key().record()
P = RSA.partition("p=")[2]


def signed(changes: dict[str, str | None] | None = None, **how: object) -> bytes:
    return forge(MESSAGE, shape(dict(TAGS), changes or {}), **how) + MESSAGE  # type: ignore[arg-type]


async def outcome(message: bytes, records: object = None, **how: object) -> tuple[str, str]:
    (result,) = await verify(message, records, **how)  # type: ignore[arg-type]
    return str(result.result), result.reason


async def test_a_message_without_signature() -> None:
    assert await outcome(MESSAGE) == ("none", "")


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
async def test_a_good_signature(piece: int) -> None:
    (result,) = await verify(signed(), piece=piece)
    assert result.passed
    assert (result.domain, result.selector, result.identity) == ("example.org", "rsa", "@example.org")
    assert (result.algorithm, result.bits, result.testing, len(result.value)) == (
        "rsa-sha256",
        1024,
        False,
        8,
    )


async def test_ed25519() -> None:
    changes = {"a": "ed25519-sha256", "s": "ed"}
    assert await outcome(signed(changes, key=ed25519_key())) == ("pass", "")


@pytest.mark.parametrize("header", list(Form))
@pytest.mark.parametrize("body", list(Form))
async def test_all_canonicalizations(header: Form, body: Form) -> None:
    assert await outcome(signed({"c": f"{header}/{body}"}, forms=(header, body))) == ("pass", "")


@pytest.mark.parametrize(
    ("value", "forms"),
    [
        (None, (Form.SIMPLE, Form.SIMPLE)),
        ("simple", (Form.SIMPLE, Form.SIMPLE)),
        ("relaxed", (Form.RELAXED, Form.SIMPLE)),
    ],
)
async def test_what_a_missing_or_half_canonicalization_means(
    value: str | None, forms: tuple[Form, Form]
) -> None:
    assert await outcome(signed({"c": value}, forms=forms)) == ("pass", "")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Subject:  one\r\n\tmore  word ", b"SUBJECT : one more\t word"),
        (b"Hello  there \t\r\n", b"Hello\tthere\r\n"),
        (b"bye\r\n\r\n\r\n", b"bye\r\n"),
        (b"Date: ", b"X-Added: yes\r\nDate: "),
        (b"Date: Tue", b"Date: Wed"),  # not signed
    ],
)
async def test_what_a_relaxed_signature_bears(old: bytes, new: bytes) -> None:
    assert old in signed()
    assert await outcome(signed().replace(old, new)) == ("pass", "")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"Subject:  one", b"Subject:  two", "signature did not verify"),
        (b"Subject:  one", b"Subject:  o ne", "signature did not verify"),
        (b"s=rsa", b"s=rsa; x=9999999999", "signature did not verify"),
        (b"Hello", b"Hallo", "body hash did not verify"),
        (b"\r\n\r\nHello", b"\r\n\r\n Hello", "body hash did not verify"),
        (b"bye\r\n", b"bye\r\nbuy\r\n", "body hash did not verify"),
    ],
)
async def test_what_it_does_not_bear(old: bytes, new: bytes, reason: str) -> None:
    assert await outcome(signed().replace(old, new, 1)) == ("fail", reason)


@pytest.mark.parametrize(
    ("changes", "result", "reason"),
    [
        ({"v": None}, "neutral", "signature missing required tag v="),
        ({"v": "2"}, "neutral", "incompatible version"),
        ({"a": None}, "neutral", "signature missing required tag a="),
        ({"a": "rsa-sha1"}, "permerror", "rsa-sha1 is not accepted"),
        ({"a": "rsa-md5"}, "neutral", "unknown signature algorithm"),
        ({"a": "RSA-SHA256"}, "neutral", "unknown signature algorithm"),
        ({"b": None}, "neutral", "signature missing required tag b="),
        ({"b": ""}, "neutral", "b= is not base64"),
        ({"b": "A"}, "neutral", "b= is not base64"),
        ({"bh": None}, "neutral", "signature missing required tag bh="),
        ({"bh": "*"}, "neutral", "bh= is not base64"),
        ({"c": "relaxed/relaxed/relaxed"}, "neutral", "unknown canonicalization"),
        ({"c": "nofws"}, "neutral", "unknown canonicalization"),
        ({"c": "relaxed/"}, "neutral", "unknown canonicalization"),
        ({"d": None}, "neutral", "signature missing required tag d="),
        ({"d": ""}, "neutral", "d= is not a domain"),
        ({"d": "exa mple.org"}, "neutral", "d= is not a domain"),
        ({"d": "[192.0.2.1]"}, "neutral", "d= is not a domain"),
        ({"d": "example.org."}, "neutral", "d= is not a domain"),
        ({"s": None}, "neutral", "signature missing required tag s="),
        ({"s": "a..b"}, "neutral", "s= is not a domain"),
        ({"h": None}, "neutral", "signature missing required tag h="),
        ({"h": ""}, "neutral", "h= is not a list of fields"),
        ({"h": "from:"}, "neutral", "h= is not a list of fields"),
        ({"h": "from::to"}, "neutral", "h= is not a list of fields"),
        ({"h": "fr om"}, "neutral", "h= is not a list of fields"),
        ({"h": "subject:to"}, "permerror", "From field not signed"),
        ({"h": "from" + ":x" * 200}, "policy", "h= has too many names"),
        ({"i": "alice"}, "neutral", "i= is not an identity"),
        ({"i": "@"}, "neutral", "i= is not a domain"),
        ({"i": "@example.com"}, "permerror", "domain mismatch between i= and d="),
        ({"i": "@badexample.org"}, "permerror", "domain mismatch between i= and d="),
        ({"i": "@org"}, "permerror", "domain mismatch between i= and d="),
        ({"l": "-1"}, "neutral", "l= is not a number"),
        ({"l": "1" * 77}, "neutral", "l= is not a number"),
        ({"q": "dns/other"}, "neutral", "unknown query method"),
        ({"t": "now"}, "neutral", "t= is not a number"),
        ({"t": "1700000301"}, "policy", "signature is from the future"),
        ({"x": "never"}, "neutral", "x= is not a number"),
        ({"x": "1699999999"}, "neutral", "x= is not behind t="),
        ({"t": "1690000000", "x": "1699999699"}, "policy", "signature expired"),
        ({"n": "x" * 17000}, "policy", "signature is too long"),
        ({"X-Y": "1"}, "neutral", "signature syntax error: not a list of tags"),
        ({"n": "\x7f"}, "neutral", "signature syntax error: a tag has characters that are not allowed"),
        ({"n": "1; n=2"}, "neutral", "signature syntax error: a tag stands twice"),
    ],
)  # fmt: skip
async def test_what_a_signature_must_say(changes: dict[str, str | None], result: str, reason: str) -> None:
    assert await outcome(signed(changes)) == (result, reason)


@pytest.mark.parametrize(
    "changes",
    [
        {"i": "alice@example.org"},
        {"i": "alice@Sub.example.ORG"},
        {"d": "Example.ORG", "s": "RSA"},
        {"q": "dns/other : dns/txt"},
        {"unknown": "x y", "r": ""},
        {"t": "1700000300"},
        {"x": "1700000001"},
        {"t": None, "x": "1699999700"},
        {"t": None},
        {"h": "From : SUBJECT: to"},
        {"b": "{b};"},
    ],
)
async def test_what_it_may_say(changes: dict[str, str | None]) -> None:
    assert await outcome(signed(changes)) == ("pass", "")


@pytest.mark.parametrize(
    "names", ["from:subject:to:x-none", "from:from:subject:to", "from:subject:subject:to"]
)
async def test_a_name_without_a_field_keeps_one_from_being_added(names: str) -> None:
    message = signed({"h": names}, names=names.split(":"))
    assert await outcome(message) == ("pass", "")
    for name in (b"X-None", b"From", b"Subject"):
        if names.encode().count(name.lower()) > MESSAGE.lower().count(name.lower() + b":"):
            assert (await outcome(name + b": added\r\n" + message))[0] != "pass"


async def test_a_second_from_is_never_unsigned() -> None:
    # RFC 6376 8.15: its readers would see it
    reason = "a From field is missing or not signed"
    assert await outcome(b"From: ceo@example.org\r\n" + signed()) == ("permerror", reason)
    assert await outcome(signed().replace(b"From: Alice", b"X-From: Alice")) == ("permerror", reason)


@pytest.mark.parametrize(
    ("record", "result", "reason"),
    [
        ("v=DKIM1; p=", "permerror", "key revoked"),
        ("v=DKIM1", "permerror", "key syntax error"),
        (f"v=DKIM2; p={P}", "permerror", "key has another version"),
        (f"k=other; p={P}", "permerror", "inappropriate key algorithm"),
        (f"h=sha1; p={P}", "permerror", "inappropriate hash algorithm"),
        (f"s=tlsrpt; p={P}", "permerror", "key is not for mail"),
        pytest.param(ed25519_key().record(), "permerror", "inappropriate key algorithm", id="ed25519"),
        (f"h=sha1:sha256; k=rsa; s=*; t=s; p={P}", "pass", ""),
        (rsa_key(2048).record(), "fail", "signature did not verify"),
    ],
)
async def test_what_a_key_may_say(record: str, result: str, reason: str) -> None:
    assert await outcome(signed(), zone(rsa=record)) == (result, reason)


def _public(bits: int) -> str:
    """The record of a key with that modulus."""
    key = RSAPublicNumbers(65537, (1 << bits) - 159).public_key()
    return "p=" + base64.b64encode(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


OTHER_KEYS = {bits: _public(bits) for bits in (512, 8192)}


@pytest.mark.parametrize(
    ("bits", "minimum", "reason"),
    [
        (512, 1024, "key too short (512 bits)"),
        (1024, 2048, "key too short (1024 bits)"),
        (8192, 1024, "key too long (8192 bits)"),
    ],
)
async def test_keys_that_are_too_short_or_too_long(bits: int, minimum: int, reason: str) -> None:
    # RFC 8301 3.2. Nobody needs the private half of a key that is not used.
    record = OTHER_KEYS.get(bits, RSA)
    assert await outcome(signed(), zone(rsa=record), config=DkimConfig(minimum_key=minimum)) == (
        "policy",
        reason,
    )


async def test_a_key_that_forbids_subdomains() -> None:
    records = zone(rsa=f"t=s; p={P}")
    assert (await outcome(signed({"i": "a@example.org"}), records))[0] == "pass"
    reason = "i= is a subdomain, which the key forbids"
    assert await outcome(signed({"i": "a@sub.example.org"}), records) == ("permerror", reason)


async def test_a_domain_that_tries_dkim_out_is_treated_as_without_it() -> None:
    # RFC 6376 3.6.1
    (good,) = await verify(signed(), zone(rsa=f"t=y; p={P}"))
    assert good.passed
    assert good.testing
    broken = signed().replace(b"Hello", b"Hallo")
    assert await outcome(broken, zone(rsa=f"t=y; p={P}")) == ("neutral", "body hash did not verify (testing)")


@pytest.mark.parametrize(
    ("length", "added", "partial", "result", "reason"),
    [
        (20, b"", False, "pass", ""),
        (20, b"\r\n\r\n", False, "pass", ""),
        (20, b"more\r\n", False, "policy", "only a part of the body is signed"),
        (20, b"more\r\n", True, "pass", ""),
        (5, b"", False, "policy", "only a part of the body is signed"),
        (0, b"", False, "policy", "only a part of the body is signed"),
        (21, b"", True, "fail", "l= is more than the body"),
    ],
)  # fmt: skip
async def test_a_part_of_the_body_is_not_enough(
    length: int, added: bytes, partial: bool, result: str, reason: str
) -> None:
    # RFC 6376 8.2. The canonical body is "Hello there", an empty line and "bye": 20 octets.
    message = signed({"l": str(length)}, length=length) + added
    assert await outcome(message, config=DkimConfig(partial_body=partial)) == (result, reason)


async def test_a_key_that_dns_does_not_tell() -> None:
    assert await outcome(signed(), FakeResolver({})) == ("permerror", "no key for signature")
    failing = FakeResolver(zone(), failing={"rsa._domainkey.example.org"})
    assert await outcome(signed(), failing) == ("temperror", "key unavailable")


async def test_a_key_that_comes_too_late(autojump_clock: trio.testing.MockClock) -> None:
    late = FakeResolver(zone(), delays={"rsa._domainkey.example.org": 11.0})
    message = signed({"a": "ed25519-sha256", "s": "ed"}, key=ed25519_key())
    both = signed().removesuffix(MESSAGE) + message
    before = trio.current_time()
    first, second = await verify(both, late)
    assert (str(first.result), str(second.result)) == ("temperror", "pass")
    assert trio.current_time() - before == pytest.approx(10.0)


async def test_keys_are_asked_for_at_the_same_time(autojump_clock: trio.testing.MockClock) -> None:
    slow = FakeResolver(zone(), delays={f"{name}._domainkey.example.org": 4.0 for name in ("rsa", "ed")})
    message = signed().removesuffix(MESSAGE) + signed({"a": "ed25519-sha256", "s": "ed"}, key=ed25519_key())
    before = trio.current_time()
    assert [str(each.result) for each in await verify(message, slow)] == ["pass", "pass"]
    assert trio.current_time() - before == pytest.approx(4.0)


async def test_of_several_records_one_that_fits_is_enough() -> None:
    records = zone()
    records["rsa._domainkey.example.org"]["TXT"] = [
        "v=spf1 -all",
        rsa_key(2048).record(),
        ed25519_key().record(),
        RSA,
    ]
    assert await outcome(signed(), records) == ("pass", "")


async def test_more_signatures_than_are_looked_at() -> None:
    field = signed().removesuffix(MESSAGE)
    results = await verify(b"DKIM-Signature: v=1\r\n" * 7 + field * 2 + MESSAGE)
    assert [str(each.result) for each in results] == ["neutral"] * 7 + ["pass"]
    assert len(await verify(field * 100 + MESSAGE, config=DkimConfig(signatures=3))) == 3


async def test_a_header_with_too_many_fields() -> None:
    result, reason = await outcome(b"A: b\r\n" * 3000 + signed())
    assert (result, reason) == ("policy", "the header has too many fields")


async def test_a_large_header_is_judged_in_a_thread() -> None:
    message = signed({"h": "from:subject:to"}).replace(
        b"Date: ", b"X-Large: " + b"x" * 100_000 + b"\r\nDate: "
    )
    assert await outcome(message) == ("pass", "")


async def test_hashes_of_another_message_prove_nothing() -> None:
    head = MessageHead(signed())
    (result,) = await dkim.check_dkim(
        head, BodyHashes({}, {}), DkimConfig(), resolver=FakeResolver(zone()), now=NOW, pool=pool()
    )
    assert str(result.result) == "fail"


async def test_signatures_of_internationalized_domains() -> None:
    # RFC 8616 4
    records = {"rsa._domainkey.xn--bcher-kva.example": {"TXT": [RSA]}}
    (result,) = await verify(signed({"d": "bücher.example", "i": "ä@bücher.example"}), records)
    assert result.passed
    assert (result.domain, result.identity) == ("xn--bcher-kva.example", "ä@xn--bcher-kva.example")


async def test_what_a_stranger_wrote_does_not_get_into_reasons() -> None:
    for changes in (
        {"d": "x\x1b[31m"},
        {"s": "\x1b]0;x"},
        {"i": "@x\x1b"},
        {"h": "from:\x1b"},
        {"a": "\x1b"},
    ):
        (result,) = await verify(signed(changes))
        assert result.reason.isprintable()


async def test_what_authentication_results_say_of_it() -> None:
    (result,) = await verify(signed())
    shown = {(part.ptype, part.name): part.value for part in result.auth_result().properties}
    assert shown == {
        ("header", "d"): "example.org", ("header", "i"): "@example.org", ("header", "s"): "rsa",
        ("header", "a"): "rsa-sha256", ("header", "b"): result.value,
    }  # fmt: skip
    assert AuthResults((result.auth_result(),)).passed("dkim")
    (nothing,) = await verify(MESSAGE)
    assert nothing.auth_result() == AuthResult("dkim", Result.NONE)
    (bad,) = await verify(signed().replace(b"Hello", b"Hallo"))
    assert bad.auth_result().reason == "body hash did not verify"


async def test_a_message_with_an_empty_header() -> None:
    for piece in (1, 100):
        assert await verify(b"\r\nbody\r\n", piece=piece) == (dkim.DkimResult(Result.NONE),)
