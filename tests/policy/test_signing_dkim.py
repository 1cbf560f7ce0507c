"""Signing: what is signed, by which keys, and that others find it good."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import dkim as dkimpy
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from dkim_bed import MESSAGE, NOW, ed25519_key, entry, hash_message, pool, rsa_key, sign, verify, zone

from elemta.config import Canonicalization, DomainPattern, SigningAlgorithm, SigningConfig
from elemta.mail import Domain, Mailbox, ReversePath
from elemta.policy.canonical import BodyHashes, Form
from elemta.policy.head import MessageHead
from elemta.policy.keyring import (
    KeyFileError,
    SigningKey,
    credentials_folder,
    load_key,
    make_key,
    record_strings,
    write_key,
    zone_line,
)
from elemta.policy.signing import (
    DkimSigner,
    SigningEntry,
    SigningError,
    fold_names,
    fold_tags,
    load_entries,
)
from elemta.runtime import SystemClock


def tags_of(message: bytes) -> dict[str, str]:
    """The tags of the topmost signature, without blanks."""
    field = MessageHead(message).named(b"dkim-signature")[0]
    pairs = (spec.partition("=") for spec in field.unfolded.decode().split(";"))
    return {name.strip(): "".join(value.split()) for name, _, value in pairs}


def by_dkimpy(message: bytes, index: int = 0) -> bool:
    records = {f"{name}.".encode(): kinds["TXT"][0].encode() for name, kinds in zone().items()}
    return bool(dkimpy.DKIM(message).verify(index, dnsfunc=lambda name, timeout=5: records[name]))


# --- What is signed -----------------------------------------------------------------------------------------


async def test_a_signature_of_rsa_in_relaxed_form() -> None:
    signed = await sign(MESSAGE)
    tags = tags_of(signed)
    assert {name: tags[name] for name in "vacdst"} == {
        "v": "1", "a": "rsa-sha256", "c": "relaxed/relaxed", "d": "example.org", "s": "rsa", "t": str(int(NOW)),
    }  # fmt: skip
    assert "x" not in tags
    assert "l" not in tags
    (result,) = await verify(signed)
    assert result.passed


@pytest.mark.parametrize("selector", ["rsa", "ed"])
@pytest.mark.parametrize("header", list(Form))
@pytest.mark.parametrize("body", list(Form))
async def test_dkimpy_finds_each_kind_of_signature_good(selector: str, header: Form, body: Form) -> None:
    signed = await sign(MESSAGE, entry(selector, header_form=header, body_form=body), now=time.time())
    assert by_dkimpy(signed)
    (result,) = await verify(signed, now=time.time())
    assert result.passed


async def test_several_keys_sign_one_message() -> None:
    signed = await sign(MESSAGE, entry("rsa"), entry("ed"), now=time.time())
    assert [by_dkimpy(signed, index) for index in (0, 1)] == [True, True]
    assert [each.selector for each in await verify(signed, now=time.time())] == ["rsa", "ed"]


async def test_fields_are_signed_as_often_as_they_are_there_and_once_more() -> None:
    message = b"List-Id: <l.example.org>\r\nReferences: <a>\r\nReceived: x\r\nX-Other: y\r\n" + MESSAGE
    names = tags_of(await sign(message))["h"].split(":")
    assert names.count("from") == names.count("subject") == names.count("references") == 2
    assert names.count("cc") == names.count("mime-version") == 1  # not there, and not to be added
    assert names.count("list-id") == 1
    assert {"received", "x-other", "sender", "return-path"}.isdisjoint(names)


@pytest.mark.parametrize("name", ["From", "Subject", "Cc", "Date", "Content-Type"])
async def test_nothing_that_readers_are_shown_can_be_added(name: str) -> None:
    signed = await sign(MESSAGE)
    for added in (
        f"{name}: new\r\n".encode() + signed,
        signed.replace(b"\r\n\r\n", f"\r\n{name}: new\r\n\r\n".encode(), 1),
    ):
        (result,) = await verify(added)
        assert not result.passed


async def test_what_lists_and_relays_add_does_no_harm() -> None:
    signed = b"Received: by x\r\nSender: l@example.net\r\nList-Id: <l>\r\nX-Y: z\r\n" + await sign(MESSAGE)
    (result,) = await verify(signed)
    assert result.passed


async def test_without_oversigning_only_from_is_guarded() -> None:
    guarded = entry(oversigned=frozenset({b"from"}), names=(b"from", b"subject"))
    signed = await sign(MESSAGE, guarded)
    assert tags_of(signed)["h"] == "from:from:subject"
    (result,) = await verify(b"Subject: new\r\n" + signed)
    assert result.passed
    (result,) = await verify(b"From: new\r\n" + signed)
    assert not result.passed


async def test_signatures_with_an_end() -> None:
    signed = await sign(MESSAGE, entry(lifetime=86400))
    assert tags_of(signed)["x"] == str(int(NOW) + 86400)
    (result,) = await verify(signed, now=NOW + 86000)
    assert result.passed
    (result,) = await verify(signed, now=NOW + 87000)
    assert (str(result.result), result.reason) == ("policy", "signature expired")


async def test_lines_are_short_and_the_fields_end_as_fields_do() -> None:
    signed = (await sign(MESSAGE, entry("rsa"), entry("ed"))).removesuffix(MESSAGE)
    lines = signed.split(b"\r\n")
    assert lines.pop() == b""
    assert all(len(line) <= 78 for line in lines)  # RFC 5322 2.1.1
    assert all(line.startswith((b"DKIM-Signature: v=1;", b"\t")) for line in lines)
    assert signed.count(b"\n") == len(lines)


@pytest.mark.parametrize("body", [b"", b"\r\n", b"no line end", b"\r\n\r\n \t\r\n", b"x" * 100_000 + b"\r\n"])
async def test_bodies_of_every_kind(body: bytes) -> None:
    message = MESSAGE.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + body
    for form in Form:
        (result,) = await verify(await sign(message, entry(body_form=form)), piece=77)
        assert result.passed


async def test_a_message_without_an_empty_line_has_no_body() -> None:
    message = MESSAGE.partition(b"\r\n\r\n")[0] + b"\r\n"
    (result,) = await verify(await sign(message))
    assert result.passed


async def test_fields_that_are_added_before_it_leaves_are_signed_too() -> None:
    signer = DkimSigner([entry()], SystemClock(), pool())
    path = ReversePath(None)
    hashed = await hash_message(b"From: a@example.org\r\n\r\nx\r\n", lambda head: signer.needs(head, path))
    added = b"Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n"
    field = await signer.sign(hashed.head.below(added), hashed.hashes, path)
    (result,) = await verify(field + added + b"From: a@example.org\r\n\r\nx\r\n", now=time.time())
    assert result.passed
    (result,) = await verify(field + b"From: a@example.org\r\n\r\nx\r\n", now=time.time())
    assert not result.passed


async def test_so_many_fields_that_not_all_are_named() -> None:
    signed = await sign(b"To: x@example.net\r\n" * 500 + MESSAGE)
    assert len(tags_of(signed)["h"].split(":")) == 200
    (result,) = await verify(signed)
    assert result.passed


def test_folding() -> None:
    assert fold_tags("X: ", ["a=1", "b=2"]) == b"X: a=1; b=2"
    long = "b=" + "x" * 200
    assert fold_tags("X: ", ["a=1", long, "c=3"]) == f"X: a=1;\r\n\t{long};\r\n\tc=3".encode()
    names = [b"n%02d" % number for number in range(40)]
    text = fold_names(names)
    assert all(len(line) <= 78 for line in text.split("\r\n"))
    assert "".join(text.split()) == "h=" + ":".join(name.decode() for name in names)
    assert fold_tags("X: ", ["a=1", text, "c=3"]).endswith(b"n39; c=3")


# --- Whose key it is ----------------------------------------------------------------------------------------


def signer_of(*patterns: tuple[str, bool, str]) -> DkimSigner:
    entries = [
        SigningEntry(DomainPattern(Domain(domain), below), domain, selector, ed25519_key())
        for domain, below, selector in patterns
    ]
    return DkimSigner(entries, SystemClock(), pool())


SIGNER = signer_of(
    ("example.org", False, "one"), ("example.org", False, "two"), ("example.org", True, "below"),
    ("sub.example.org", True, "deep"), ("b.sub.example.org", False, "exact"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("author", "selectors"),
    [
        ("a@example.org", ["one", "two"]),
        ("a@EXAMPLE.org", ["one", "two"]),
        ("a@x.example.org", ["below"]),
        ("a@sub.example.org", ["below"]),
        ("a@a.sub.example.org", ["deep"]),
        ("a@b.sub.example.org", ["exact"]),
        ("a@c.b.sub.example.org", ["deep"]),
        ("a@badexample.org", []),
        ("a@org", []),
        ("a@[192.0.2.1]", []),
        ("nobody", []),
        ("z@other.example, a@sub.example.org, b@example.org", ["below"]),  # the first that has a key
        ('"<a@example.org>" <z@other.example>', []),
    ],
)
def test_the_closest_pattern_of_the_authors_domain_signs(author: str, selectors: list[str]) -> None:
    head = MessageHead(f"From: {author}\r\n\r\n".encode())
    assert [each.selector for each in SIGNER.choose(head, ReversePath(None))] == selectors


def test_the_senders_domain_signs_for_authors_that_have_none() -> None:
    head = MessageHead(b"From: a@example.net\r\n\r\n")
    sender = ReversePath(Mailbox("x", Domain("x.example.org")))
    assert [each.selector for each in SIGNER.choose(head, sender)] == ["below"]
    assert [need.form for need in SIGNER.needs(head, sender)] == [Form.RELAXED]


@pytest.mark.parametrize(
    "header",
    [
        b"\r\n",
        b"From: a@example.org\r\nFrom: b@example.org\r\n\r\n",
        b"From: a@example.org\r\n" + b"A: b\r\n" * 3000,
    ],
)
async def test_messages_that_nobody_signs(header: bytes) -> None:
    sender = ReversePath(Mailbox("x", Domain("example.org")))
    assert SIGNER.choose(MessageHead(header), sender) == ()
    assert await SIGNER.sign(MessageHead(header), BodyHashes({}, {}), sender) == b""


# --- Keys ---------------------------------------------------------------------------------------------------


def config(key: Path | str, **changes: object) -> SigningConfig:
    settings = {
        "domain": DomainPattern(Domain("example.org"), True),
        "selector": "s",
        "key": Path(key),
        **changes,
    }
    return SigningConfig(**settings)  # type: ignore[arg-type]


def test_entries_of_the_configuration(tmp_path: Path) -> None:
    write_key(tmp_path / "k", ed25519_key())
    plain, special = load_entries(
        [
            config(tmp_path / "k"),
            config(
                tmp_path / "k",
                sign_as=Domain("org"),
                algorithm=SigningAlgorithm.ED25519_SHA256,
                canonicalization=Canonicalization.SIMPLE_RELAXED,
                headers=("subject", "x-mine", "from"),
                oversign=False,
                lifetime=86400.0,
            ),
        ]
    )
    assert (plain.domain, plain.selector, plain.header_form, plain.body_form, plain.lifetime) == (
        "example.org", "s", Form.RELAXED, Form.RELAXED, 0,
    )  # fmt: skip
    assert b"subject" in plain.names
    assert b"subject" in plain.oversigned
    assert (special.domain, special.header_form, special.body_form) == ("org", Form.SIMPLE, Form.RELAXED)
    assert (special.names, special.oversigned) == ((b"subject", b"x-mine", b"from"), {b"from"})
    assert special.lifetime == 86400


def test_all_troubles_with_keys_are_told_at_once(tmp_path: Path) -> None:
    write_key(tmp_path / "k", ed25519_key())
    configs = [
        config(tmp_path / "none"),
        config(tmp_path / "k"),
        config(tmp_path / "k", algorithm=SigningAlgorithm.RSA_SHA256),
    ]
    with pytest.raises(SigningError) as caught:
        load_entries(configs)
    assert str(caught.value).splitlines() == [
        f"signing[0].key: {tmp_path}/none: cannot be read: No such file or directory",
        f"signing[2].key: {tmp_path}/k: is a key for ed25519-sha256, not for rsa-sha256",
    ]


@pytest.mark.parametrize("key", [rsa_key(), ed25519_key()], ids=["rsa", "ed25519"])
def test_a_key_file_is_for_its_owner_only_and_never_overwritten(tmp_path: Path, key: SigningKey) -> None:
    path = tmp_path / "key.pem"
    before = os.umask(0)
    try:
        write_key(path, key)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    loaded = load_key(path)
    assert (loaded.algorithm, loaded.bits, loaded.record()) == (key.algorithm, key.bits, key.record())
    with pytest.raises(FileExistsError):
        write_key(path, key)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        write_key(tmp_path / "link", key)


def test_old_forms_of_key_files(tmp_path: Path) -> None:
    path = tmp_path / "old.pem"
    old = load_pem_private_key(rsa_key().pem(), None).private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
    )
    path.write_bytes(old.replace(b"\n", b"\r\n"))
    path.chmod(0o640)
    assert load_key(path).record() == rsa_key().record()


def locked() -> bytes:
    key = load_pem_private_key(ed25519_key().pem(), None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))


def elliptic() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )


SHORT = b"""-----BEGIN RSA PRIVATE KEY-----
MIIBOwIBAAJBANmBe10IgY+u7h3enWTukkqtUD5PR52Tb/mPfjC0QJTocVBq6Za/
PlzfV+Py92VaCak19F4WrbVTK5Gg5tW220MCAwEAAQJAYFUKsD+uMlcFu1D3YNaR
EGYGXjJ6w32jYGJ/P072M3yWOq2S1dvDthI3nRT8MFjZ1wHDAYHrSpfDNJ3v2fvZ
cQIhAPgRPmVYn+TGd59asiqG1SZqh+p+CRYHW7B8BsicG5t3AiEA4HYNOohlgWan
8tKgqLJgUdPFbaHZO1nDyBgvV8hvWZUCIQDDdCq6hYKuKeYUy8w3j7cgJq3ih922
2qNWwdJCfCWQbwIgTY0cBvQnNe0067WQIpj2pG7pkHZR6qqZ9SE+AjNTHX0CIQCI
Mgq55Y9MCq5wqzy141rnxrJxTwK9ABo3IAFMWEov3g==
-----END RSA PRIVATE KEY-----
"""


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is no private key in PEM"),
        (b"-----BEGIN PRIVATE KEY-----\nsecret!\n-----END PRIVATE KEY-----\n", "is no private key in PEM"),
        (b"x" * 70_000, "is too large for a key"),
        (locked(), "the key has a passphrase: store it without one"),
        (elliptic(), "is neither an RSA nor an Ed25519 key"),
        (SHORT, "has 512 bits: others accept 1024 to 4096 bits (RFC 8301)"),
    ],
    ids=["empty", "junk", "large", "passphrase", "elliptic", "short"],
)
def test_files_that_hold_no_usable_key(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeyFileError) as caught:
        load_key(path)
    assert str(caught.value) == f"{path}: {reason}"


@pytest.mark.parametrize(
    ("mode", "usable"),
    [(0o600, True), (0o400, True), (0o640, True), (0o644, False), (0o660, False), (0o601, False)],
)
def test_a_key_that_others_may_read_or_write_is_not_used(tmp_path: Path, mode: int, usable: bool) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(ed25519_key().pem())
    path.chmod(mode)
    if usable:
        load_key(path)
        return
    with pytest.raises(KeyFileError, match="is open to others: chmod 640 or 600"):
        load_key(path)


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(KeyFileError, match="is not a file"):
        load_key(tmp_path / "fifo")
    with pytest.raises(KeyFileError):
        load_key(tmp_path)


def test_a_key_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key.pem"
    write_key(path, ed25519_key())
    os.chown(path, 12345, -1)
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    with pytest.raises(KeyFileError, match="belongs to user 12345: chown it to root or to user 54321"):
        load_key(path)


def test_credentials_of_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_key(tmp_path / "dkim-key", ed25519_key())
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert load_key(Path("credential:dkim-key"), credentials_folder()).record() == ed25519_key().record()
    for name in ("", "../dkim-key", ".hidden", "a/b", "a" * 300):
        with pytest.raises(KeyFileError, match="is not the name of a credential"):
            load_key(Path(f"credential:{name}"), tmp_path)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    with pytest.raises(KeyFileError, match="systemd gave no credentials"):
        load_key(Path("credential:dkim-key"), credentials_folder())


def test_keys_show_nothing_of_themselves(tmp_path: Path) -> None:
    for key in (rsa_key(), ed25519_key()):
        assert repr(key) == "SigningKey()"
        assert "PRIVATE" not in repr(entry())


def test_records_in_zone_files() -> None:
    # RFC 6376 3.6.2.2, RFC 1035 3.3
    text = make_key(SigningAlgorithm.RSA_SHA256, 2048).record()
    strings = record_strings(text)
    assert "".join(strings) == text
    assert [len(string) for string in strings] == [255, len(text) - 255]
    line = zone_line("s._domainkey.example.org", text)
    assert line == f's._domainkey.example.org. IN TXT ( "{strings[0]}" "{strings[1]}" )'
