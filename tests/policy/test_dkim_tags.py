"""Tag lists and the records of keys."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from dkim_bed import ed25519_key, rsa_key

from elemta.policy.keys import KeyKind, KeyProblem, PublicKey, find_keys, key_name, parse_key_record
from elemta.policy.tags import TagError, decode_base64, parse_number, parse_tags, split_list, without_value


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        (b"a=1", {b"a": b"1"}),
        (b"a=1;", {b"a": b"1"}),
        (b" a = 1 ;\r\n\tb_2= x y ; ", {b"a": b"1", b"b_2": b"x y"}),
        (b"a=;A==", {b"a": b"", b"A": b"="}),
        (b"a=\xc3\xa4", {b"a": b"\xc3\xa4"}),
    ],
)
def test_tag_lists(text: bytes, tags: dict[bytes, bytes]) -> None:
    assert parse_tags(text) == tags


@pytest.mark.parametrize(
    "text",
    [b"", b" ", b";", b"a", b"a=1;;b=2", b"a=1; ;", b"=1", b"1=a", b"a-b=1", b"a b=1", b"a=1;a=2", b"a=\x00",
     b"a=1\r", b"a=1\n b", b"\xc3\xa4=1", b"a=\x7f"],
)  # fmt: skip
def test_what_is_no_tag_list(text: bytes) -> None:
    with pytest.raises(TagError):
        parse_tags(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b" a=1; b = xyz =; c=2", (b" a=1; b =; c=2",)),
        (b" a=1; b=\r\n\txy\r\n\tz\r\n", (b" a=1; b=",)),
        (b"b=x", (b"b=",)),
        (b"bh=b; b=x;", (b"bh=b; b=;",)),
        (b"b=x \r\n\t; c=1", (b"b=; c=1", b"b= \r\n\t; c=1")),
        (b"a=1", (b"a=1",)),
    ],
)
def test_a_signature_is_taken_out(text: bytes, found: tuple[bytes, ...]) -> None:
    assert without_value(text, b"b") == found


@pytest.mark.parametrize(
    "text", [b"", b"=", b"====", b"A", b"AA", b"AAA", b"AA=A", b"AAA*", b"AAAA=", b"A===", b"AA-_"]
)
def test_what_is_no_base64(text: bytes) -> None:
    with pytest.raises(TagError):
        decode_base64(text)


def test_base64_may_have_blanks() -> None:
    assert decode_base64(b" Q U\r\n\tI=\t") == b"AB"


@pytest.mark.parametrize("text", [b"", b"-1", b"1 ", b"0x1", b"1" * 13, "٣".encode()])
def test_what_is_no_number(text: bytes) -> None:
    with pytest.raises(TagError):
        parse_number(text, 12)


def test_numbers_and_lists() -> None:
    assert parse_number(b"0012", 12) == 12
    assert split_list(b"a : b:\tc") == [b"a", b"b", b"c"]


def p_of(text: str) -> str:
    return text.partition("p=")[2]


def test_a_record_of_each_kind() -> None:
    rsa = parse_key_record(rsa_key().record().encode())
    assert isinstance(rsa, PublicKey)
    assert (rsa.kind, rsa.bits, rsa.hashes, rsa.testing, rsa.strict) == (
        KeyKind.RSA,
        1024,
        None,
        False,
        False,
    )
    ed25519 = parse_key_record(ed25519_key().record().encode())
    assert isinstance(ed25519, PublicKey)
    assert (ed25519.kind, ed25519.bits) == (KeyKind.ED25519, 256)
    assert key_name("s", "example.org") == "s._domainkey.example.org"


def test_what_a_record_says_of_its_use() -> None:
    text = f"v=DKIM1;h=sha1 : sha256;t=y:s;n=note;s=email:other;unknown=1;p={p_of(rsa_key().record())}"
    key = parse_key_record(text.encode())
    assert isinstance(key, PublicKey)
    assert (key.hashes, key.testing, key.strict) == ({b"sha1", b"sha256"}, True, True)


def test_a_bare_rsa_public_key_is_taken_as_well() -> None:
    data = base64.b64decode(p_of(rsa_key().record()))
    bare = load_der_public_key(data).public_bytes(Encoding.DER, PublicFormat.PKCS1)
    assert isinstance(parse_key_record(b"p=" + base64.b64encode(bare)), PublicKey)


P = p_of(rsa_key().record())
EC_KEY = base64.b64encode(
    ec.generate_private_key(ec.SECP256R1())
    .public_key()
    .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
).decode()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", KeyProblem.SYNTAX),
        ("v=DKIM1", KeyProblem.SYNTAX),
        ("v=DKIM1; p=", KeyProblem.REVOKED),
        ("p= ;", KeyProblem.REVOKED),
        (f"v=DKIM2; p={P}", KeyProblem.VERSION),
        (f"v=dkim1; p={P}", KeyProblem.VERSION),
        (f"p={P}; v=DKIM1", KeyProblem.VERSION),
        (f"k=rsa2; p={P}", KeyProblem.KIND),
        (f"s=other; p={P}", KeyProblem.SERVICE),
        (f"s=tlsrpt; p={P}", KeyProblem.SERVICE),
        (f"k=ed25519; p={P}", KeyProblem.SYNTAX),
        ("k=ed25519; p=AAAA", KeyProblem.SYNTAX),
        ("p=!!!!", KeyProblem.SYNTAX),
        ("p=AAAA", KeyProblem.SYNTAX),
        (f"p={EC_KEY}", KeyProblem.SYNTAX),
        (f"p={P}; p={P}", KeyProblem.SYNTAX),
        (f"p={P}; n={'x' * 4096}", KeyProblem.TOO_LONG),
        ("v=spf1 -all", KeyProblem.VERSION),
    ],
)
def test_records_without_a_usable_key(text: str, problem: KeyProblem) -> None:
    assert parse_key_record(text.encode()) is problem
    assert find_keys([text.encode()]) is problem


def test_of_several_records_those_that_can_be_used() -> None:
    record = rsa_key().record().encode()
    keys = find_keys([b"v=spf1 -all", record, ed25519_key().record().encode()])
    assert not isinstance(keys, KeyProblem)
    assert [key.kind for key in keys] == [KeyKind.RSA, KeyKind.ED25519]
    assert find_keys([b"x"] * 4 + [record]) is KeyProblem.SYNTAX  # so many are not tried
    assert find_keys([]) is KeyProblem.NONE
