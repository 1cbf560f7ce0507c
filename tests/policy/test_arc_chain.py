"""Chains that arrive: every rule of RFC 8617 4 and 5.2, on sets whose signatures are valid but for it."""

from __future__ import annotations

import itertools

import pytest
import trio
from dkim_bed import (
    AMS_TAGS,
    MESSAGE,
    SEAL_TAGS,
    chain,
    forge_set,
    rsa_key,
    shape,
    validate,
    zone,
)

from elemta.mail import AuthResult, Result
from elemta.policy.canonical import Form
from elemta.testing.dns import FakeResolver

RSA = rsa_key().record()


async def outcome(message: bytes, records: object = None, **how: object) -> str:
    return str((await validate(message, records, **how)).result)  # type: ignore[arg-type]


def ams(changes: dict[str, str | None], **how: object) -> bytes:
    return forge_set(MESSAGE, ams=shape(dict(AMS_TAGS), changes), **how)  # type: ignore[arg-type]


def seal(changes: dict[str, str | None]) -> bytes:
    return forge_set(MESSAGE, seal=shape(dict(SEAL_TAGS), changes))


def second(changes: dict[str, str | None], ams_changes: dict[str, str | None] | None = None) -> bytes:
    tags = {"i": "2", "cv": "pass", **changes}
    return forge_set(
        chain(1),
        instance=2,
        seal=shape(dict(SEAL_TAGS), tags),
        ams=shape(dict(AMS_TAGS), {"i": "2", **(ams_changes or {})}),
    )


# --- Chains -----------------------------------------------------------------------------------------------


async def test_a_message_without_a_chain() -> None:
    result = await validate(MESSAGE)
    assert (str(result.result), result.last_instance, result.sealers) == ("none", 0, ())


@pytest.mark.parametrize("length", [1, 2, 3, 5])
async def test_a_chain(length: int) -> None:
    result = await validate(chain(length))
    assert result.passed
    assert result.sealers == ("example.org",) * length
    assert (result.selector, result.last_instance, result.ended) == ("rsa", length, False)
    assert result.results == b"i=%d; mx.example.org; spf=pass" % length


async def test_fifty_sets_and_not_one_more() -> None:
    # RFC 8617 4.2.1
    whole = chain(50)
    assert await outcome(whole) == "pass"
    assert await outcome(forge_set(whole, instance=51)) == "fail"
    assert (await validate(forge_set(whole, instance=51))).last_instance == 50


@pytest.mark.parametrize("order", list(itertools.permutations((0, 1, 2))))
async def test_the_order_of_the_fields_does_not_matter(order: tuple[int, int, int]) -> None:
    first = forge_set(MESSAGE, order=order)
    assert await outcome(first) == "pass"
    assert await outcome(forge_set(first, instance=2, order=order)) == "pass"


async def test_sets_may_stand_in_any_order() -> None:
    fields, _, body = chain(3).partition(b"From: Alice")
    parts = [part + b"\r\n" for part in fields.split(b"\r\n") if part]
    assert len(parts) == 9
    assert await outcome(b"".join(sorted(parts)) + b"From: Alice" + body) == "pass"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"ARC-Seal: ", b"arc-seal:\t"),
        (b"; cv=none", b";\r\n\tcv=none"),
        (b"Subject:  one\r\n\tmore  word ", b"subject : one more word"),
        (b"Hello  there \t\r\n", b"Hello there\r\n"),
        (b"bye\r\n\r\n\r\n", b"bye\r\n"),
        (b"ARC-Authentication-Results: i=1;", b"ARC-AUTHENTICATION-RESULTS:   i=1;"),
        (b"From: Alice", b"X-Added: a\r\nFrom: Alice"),
        (b"Date: Tue", b"Date: Wed"),
    ],
)
async def test_what_a_chain_bears(old: bytes, new: bytes) -> None:
    message = chain(1)
    assert old in message
    assert await outcome(message.replace(old, new)) == "pass"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Subject:  one", b"Subject:  two"),
        (b"Hello", b"Hallo"),
        (b"spf=pass", b"spf=fail"),
        (b"ARC-Seal: i=1; a=rsa-sha256;", b"ARC-Seal: a=rsa-sha256; i=1;"),
        (b"cv=none", b"cv=pass"),
        (b"cv=none", b"cv=none; x"),
        (b"ARC-Seal: i=1;", b"ARC-Seal: i=1; new=1;"),
        (b"ARC-Message-Signature: i=1;", b"ARC-Message-Signature: i=1; new=1;"),
        (b"From: Alice", b"From: ceo@example.org\r\nFrom: Alice"),
    ],
)
async def test_what_a_chain_does_not_bear(old: bytes, new: bytes) -> None:
    message = chain(1)
    assert old in message
    assert await outcome(message.replace(old, new, 1)) == "fail"


async def test_only_the_newest_signature_of_the_message_counts() -> None:
    # RFC 8617 5.2, step 4: the others may have been broken by those who sealed after them
    changed = chain(1).replace(b"Subject:  one", b"Subject: [list] one")
    assert await outcome(changed) == "fail"
    result = await validate(forge_set(changed, instance=2))
    assert result.passed


async def test_each_seal_counts() -> None:
    message = chain(3)
    for instance in range(1, 4):
        start = message.index(b"ARC-Seal: i=%d" % instance)
        place = message.index(b" b=", start) + 8
        broken = (
            message[:place] + (b"B" if message[place : place + 1] != b"B" else b"C") + message[place + 1 :]
        )
        result = await validate(broken)
        assert str(result.result) == "fail"
        assert result.reason == f"ARC-Seal {instance}: signature did not verify"


# --- Structure ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [b"ARC-Seal", b"ARC-Message-Signature", b"ARC-Authentication-Results"])
@pytest.mark.parametrize("instance", [1, 2])
async def test_each_set_has_each_field_once(name: bytes, instance: int) -> None:
    message = chain(2)
    start = message.index(name + b": i=%d" % instance)
    end = message.index(b"\r\n", start) + 2
    missing = await validate(message[:start] + message[end:])
    assert (str(missing.result), missing.reason) == ("fail", f"instance {instance} is incomplete")
    twice = await validate(message[start:end] + message)
    assert (str(twice.result), twice.reason) == ("fail", f"several {name.decode()} of instance {instance}")


@pytest.mark.parametrize("name", ["ARC-Seal", "ARC-Message-Signature", "ARC-Authentication-Results"])
async def test_a_lone_field_is_no_chain(name: str) -> None:
    text = {"ARC-Seal": shape(dict(SEAL_TAGS), {}), "ARC-Message-Signature": shape(dict(AMS_TAGS), {})}.get(
        name, "i=1; x; none"
    )
    assert await outcome(f"{name}: {text}\r\n".encode() + MESSAGE) == "fail"


async def test_no_set_may_be_missing() -> None:
    first_gone = chain(2)
    for name in (b"ARC-Seal", b"ARC-Message-Signature", b"ARC-Authentication-Results"):
        start = first_gone.index(name + b": i=1")
        first_gone = first_gone[:start] + first_gone[first_gone.index(b"\r\n", start) + 2 :]
    result = await validate(first_gone)
    assert (str(result.result), result.reason, result.last_instance) == ("fail", "instance 1 is missing", 2)
    assert await outcome(forge_set(chain(1), instance=3)) == "fail"


async def test_more_fields_than_fifty_sets_have() -> None:
    result = await validate(b"ARC-Seal: i=1\r\n" * 51 + MESSAGE)
    assert (str(result.result), result.reason) == ("fail", "too many ARC fields")
    assert await outcome(b"A: b\r\n" * 3000 + chain(1)) == "fail"


@pytest.mark.parametrize("value", [None, "", "0", "51", "-1", "1.0", "one", "001", "1 2", "+1"])
@pytest.mark.parametrize("field", ["ams", "seal", "aar"])
async def test_what_is_no_instance(field: str, value: str | None) -> None:
    if field == "ams":
        message = ams({"i": value})
    elif field == "seal":
        message = seal({"i": value})
    else:
        message = forge_set(
            MESSAGE, aar="mx.example.org; spf=pass" if value is None else f"i={value}; mx.example.org"
        )
    assert await outcome(message) == "fail"


@pytest.mark.parametrize(
    "aar", ["i=1; x", "i = 1 ;\r\n\tx; spf=pass", "(a) i (b) = (c) 1 (d); x", "i=01; x", "i=1; x; none;"]
)
async def test_where_the_instance_of_results_may_stand(aar: str) -> None:
    assert await outcome(forge_set(MESSAGE, aar=aar)) == "pass"


@pytest.mark.parametrize(
    "aar", ["i=1", "x; i=1", "x; spf=pass; i=1;", "I=1; x", "i=1 x; y", "((i=1; x", "j=1; x"]
)
async def test_where_it_may_not(aar: str) -> None:
    # RFC 8617 4.1.1
    assert await outcome(forge_set(MESSAGE, aar=aar)) == "fail"


async def test_an_instance_with_two_digits() -> None:
    assert await outcome(ams({"i": "01"})) == "pass"
    assert await outcome(seal({"i": "01"})) == "pass"


# --- cv= ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, "", "pass", "fail", "None", "NONE", "invalid", "none none"])
async def test_the_first_seal_says_none(value: str | None) -> None:
    assert await outcome(seal({"cv": value})) == "fail"


@pytest.mark.parametrize("value", [None, "", "none", "fail", "Pass", "true"])
async def test_later_seals_say_pass(value: str | None) -> None:
    assert await outcome(second({"cv": value})) == "fail"
    assert await outcome(second({})) == "pass"


async def test_a_chain_that_was_declared_broken_is_ended() -> None:
    message = second({"cv": "fail"})
    resolver = FakeResolver(zone())
    result = await validate(message, resolver)
    assert (str(result.result), result.ended, result.last_instance) == ("fail", True, 2)
    assert result.reason == "instance 2 says that the chain has failed"
    assert resolver.queries == []  # RFC 8617 5.2, step 2: nothing more is looked at
    # and nobody can mend it
    later = forge_set(message, instance=3)
    result = await validate(later)
    assert (str(result.result), result.ended) == ("fail", False)


# --- Tags ---------------------------------------------------------------------------------------------------

BAD_TAGS: list[dict[str, str | None]] = [
    {"a": None}, {"a": ""}, {"a": "rsa-sha1"}, {"a": "rsa-sha512"}, {"a": "sha256-rsa"}, {"a": "RSA-SHA256"},
    {"b": None}, {"b": ""}, {"b": "xxxxx"}, {"b": "{b}="}, {"b": "{b}AAAA"}, {"b": "AAAA"},
    {"d": None}, {"d": ""}, {"d": "exa_mple..org"}, {"d": "other.example"}, {"d": "org"},
    {"s": None}, {"s": ""}, {"s": "other"}, {"s": "a b"},
    {"t": "now"}, {"t": "-1"}, {"t": ""}, {"t": "1700009999"},
    {"A": "1; a"}, {"1": "x"}, {"_": "x"}, {"": "x"}, {"t": "1; t=1"}, {"x y": "1"}, {"n": "1;; m=1"},
]  # fmt: skip


@pytest.mark.parametrize("changes", BAD_TAGS, ids=str)
async def test_tags_that_no_seal_may_have(changes: dict[str, str | None]) -> None:
    assert await outcome(seal(changes)) == "fail"


@pytest.mark.parametrize(
    "changes",
    [*BAD_TAGS, {"bh": None}, {"bh": ""}, {"bh": "AAAA"}, {"bh": "{bh}="}, {"bh": "x"},
     {"c": "simple/simple"}, {"c": "simple/relaxed"}, {"c": "relaxed"}, {"c": ""}, {"c": "nowsp"}, {"c": "/"},
     {"h": None}, {"h": ""}, {"h": "subject:to"}, {"h": "from:subject:to:arc-seal"}, {"h": "from:subject:to:ARC-Seal"},
     {"h": "from;subject"}, {"h": "from:subject"}, {"h": "to:subject:from"},
     {"q": "dns"}, {"l": "x"}, {"l": "3"}, {"x": "1699999999"}, {"t": "1690000000", "x": "1690000001"}],
    ids=str,
)  # fmt: skip
async def test_tags_that_no_signature_may_have(changes: dict[str, str | None]) -> None:
    assert await outcome(ams(changes)) == "fail"


@pytest.mark.parametrize("changes", [{"h": "from:to"}, {"h": ""}, {"h": "arc-seal"}])
async def test_a_seal_with_a_list_of_fields_fails(changes: dict[str, str | None]) -> None:
    # RFC 8617 4.1.3: MUST
    result = await validate(seal(changes))
    assert (str(result.result), result.reason) == ("fail", "a seal has h=")


@pytest.mark.parametrize(
    "changes",
    [{"t": None}, {"v": "1"}, {"v": "2"}, {"bh": "x"}, {"c": "simple/simple"}, {"x": "1"}, {"l": "1"},
     {"unknown": "x y"}, {"B": "x"}, {"w": ""}, {"b": "{b};"}, {"d": "Example.ORG"}],
    ids=str,
)  # fmt: skip
async def test_tags_that_mean_nothing_to_a_seal(changes: dict[str, str | None]) -> None:
    assert await outcome(seal(changes)) == "pass"


@pytest.mark.parametrize(
    "changes",
    [{"t": None}, {"v": "1"}, {"v": "2"}, {"unknown": "x y"}, {"BH": "x"}, {"w": ""}, {"b": "{b};"},
     {"q": "dns/txt"}, {"x": "1700000001"}, {"h": "From : SUBJECT\r\n :to"}, {"c": None}],
    ids=str,
)  # fmt: skip
async def test_tags_that_a_signature_may_have(changes: dict[str, str | None]) -> None:
    # RFC 8617 4.1.2: v= is unknown, and so ignored
    assert await outcome(ams(changes)) == "pass"


@pytest.mark.parametrize("header", list(Form))
@pytest.mark.parametrize("body", list(Form))
async def test_canonicalizations_of_the_signature(header: Form, body: Form) -> None:
    assert await outcome(ams({"c": f"{header}/{body}"}, forms=(header, body))) == "pass"


async def test_a_signature_that_does_not_say_how_it_was_made() -> None:
    # RFC 6376 3.5 says simple/simple; programs mean relaxed/relaxed
    assert await outcome(ams({"c": None}, forms=(Form.SIMPLE, Form.SIMPLE))) == "pass"
    assert await outcome(ams({"c": None}, forms=(Form.RELAXED, Form.RELAXED))) == "pass"
    assert await outcome(ams({"c": None}, forms=(Form.RELAXED, Form.SIMPLE))) == "fail"


async def test_a_signature_may_cover_the_results_of_its_set() -> None:
    names = ["from", "arc-authentication-results", "subject"]
    message = ams({"h": ":".join(names)}, names=names)
    assert await outcome(message) == "pass"
    assert await outcome(message.replace(b"spf=pass", b"spf=fail")) == "fail"
    assert await outcome(forge_set(message, instance=2)) == "pass"


@pytest.mark.parametrize("blanks", [" ", "\t", "\r\n\t", " \r\n  "])
async def test_blanks_that_mean_nothing(blanks: str) -> None:
    def spread(tags: dict[str, str]) -> str:
        return ";".join(f"{blanks}{name}{blanks}={blanks}{value}" for name, value in tags.items())

    message = forge_set(
        MESSAGE, ams=spread(AMS_TAGS), seal=spread(SEAL_TAGS), aar=f"i{blanks}=1{blanks};{blanks}x"
    )
    assert await outcome(message) == "pass"


async def test_blanks_within_a_signature() -> None:
    message = chain(1)
    for name in (b"ARC-Seal", b"ARC-Message-Signature"):
        start = message.index(b" b=", message.index(name)) + 20
        folded = message[:start] + b" \r\n\t" + message[start:]
        # of a signature it is part of what the seal has signed
        assert await outcome(folded) == ("pass" if name == b"ARC-Seal" else "fail")


# --- Keys ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "record",
    ["", "v=DKIM1; p=", "v=DKIM2; " + RSA.partition("; ")[2], "k=ed25519; " + RSA.partition("k=rsa; ")[2],
     "h=sha1; " + RSA.partition("v=DKIM1; ")[2], "s=tlsrpt; " + RSA.partition("v=DKIM1; ")[2], rsa_key(2048).record()],
)  # fmt: skip
async def test_keys_that_prove_nothing(record: str) -> None:
    assert await outcome(chain(1), zone(rsa=record)) == "fail"


async def test_keys_with_flags() -> None:
    text = RSA.partition("v=DKIM1; ")[2]
    assert await outcome(chain(2), zone(rsa=f"t=y:s; h=sha256; s=*; {text}")) == "pass"


async def test_a_key_that_nobody_knows_for_now() -> None:
    name = "rsa._domainkey.example.org"
    assert await outcome(chain(1), FakeResolver({})) == "fail"
    result = await validate(chain(1), FakeResolver(zone(), failing={name}))
    assert (str(result.result), result.reason) == ("temperror", "ARC-Seal 1: key unavailable")


async def test_what_is_broken_for_good_is_not_temporary() -> None:
    other = shape(dict(SEAL_TAGS), {"s": "late"})
    message = forge_set(MESSAGE, seal=other)
    records = FakeResolver(zone(late=RSA), failing={"late._domainkey.example.org"})
    assert await outcome(message, records) == "temperror"
    assert await outcome(message.replace(b"Hello", b"Hallo"), records) == "fail"


async def test_the_key_of_every_sealer_is_asked_for_once_and_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    slow = FakeResolver(zone(), delays={"rsa._domainkey.example.org": 3.0})
    before = trio.current_time()
    assert await outcome(chain(5), slow) == "pass"
    assert trio.current_time() - before == pytest.approx(3.0)
    assert len(slow.queries) == 1


async def test_a_key_that_comes_too_late(autojump_clock: trio.testing.MockClock) -> None:
    late = FakeResolver(zone(), delays={"rsa._domainkey.example.org": 30.0})
    assert await outcome(chain(1), late) == "temperror"


async def test_of_several_records_of_a_sealer_one_that_fits_is_enough() -> None:
    records = zone()
    records["rsa._domainkey.example.org"]["TXT"] = [
        f"h=sha1; {RSA.partition('v=DKIM1; ')[2]}",
        rsa_key(2048).record(),
        RSA,
    ]
    assert await outcome(chain(2), records) == "pass"
    records["rsa._domainkey.example.org"]["TXT"] = [f"h=sha1; {RSA.partition('v=DKIM1; ')[2]}"]
    result = await validate(chain(2), records)
    assert result.reason == "ARC-Message-Signature 2: inappropriate hash algorithm"
    only_seal = forge_set(MESSAGE, seal=shape(dict(SEAL_TAGS), {"s": "weak"}))
    result = await validate(only_seal, zone(weak=f"h=sha1; {RSA.partition('v=DKIM1; ')[2]}"))
    assert result.reason == "ARC-Seal 1: inappropriate hash algorithm"


async def test_what_authentication_results_say_of_it() -> None:
    assert (await validate(chain(1))).auth_result() == AuthResult("arc", Result.PASS)
    broken = await validate(chain(1).replace(b"Hello", b"Hallo"))
    assert broken.auth_result() == AuthResult(
        "arc", Result.FAIL, "ARC-Message-Signature 1: body hash did not verify"
    )
