"""SCRAM-SHA-256 by the example of RFC 7677, and every way to be wrong (RFC 5802)."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from elemta.auth import ScramKeys
from elemta.auth.actions import Action, Ask, Disproved, FindScram, Malformed, Proved, Situation
from elemta.auth.scram import derive_keys, fake_keys, scram_sha_256, scram_sha_256_plus

# RFC 7677 §3
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
SERVER_NONCE = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
SERVER_FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
FINAL = (
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
    b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
)
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="

SITUATION = Situation("mx.example.org", SERVER_NONCE)
KEYS = derive_keys("pencil", SALT, 4096)
END_POINT = b"hash of the certificate"
BOUND = Situation(
    "mx.example.org", SERVER_NONCE, {"tls-server-end-point": END_POINT, "tls-exporter": b"E" * 32}, True
)


def challenged(action: Action, keys: tuple[ScramKeys, ...] = (KEYS,)) -> Ask:
    assert isinstance(action, FindScram)
    asked = action.then(SALT, 4096, keys)
    assert isinstance(asked, Ask)
    return asked


def client_final(
    first: bytes, server_first: bytes, *, password: str = "pencil", binding: bytes = b""
) -> bytes:
    """What an honest client answers."""
    gs2, bare = first.split(b",n=", 1)[0] + b",", b"n=" + first.split(b",n=", 1)[1]
    nonce = server_first.split(b",")[0]
    unproved = b"c=" + base64.b64encode(gs2 + binding) + b"," + nonce
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), SALT, 4096)
    key = hmac.digest(salted, b"Client Key", "sha256")
    message = b",".join((bare, server_first, unproved))
    signature = hmac.digest(hashlib.sha256(key).digest(), message, "sha256")
    proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
    return unproved + b",p=" + base64.b64encode(proof)


def test_the_example_of_rfc_7677() -> None:
    asked = challenged(scram_sha_256(SITUATION, FIRST))
    assert asked.challenge == SERVER_FIRST
    assert asked.then(FINAL) == Proved("user", "password", True, SERVER_FINAL)


def test_without_an_initial_response_the_client_is_asked_with_nothing() -> None:
    empty = scram_sha_256(SITUATION, None)
    assert isinstance(empty, Ask)
    assert empty.challenge == b""
    assert challenged(empty.then(FIRST)).challenge == SERVER_FIRST


def test_a_wrong_password_is_disproved() -> None:
    asked = challenged(scram_sha_256(SITUATION, FIRST))
    verdict = asked.then(client_final(FIRST, asked.challenge, password="pencil2"))
    assert verdict == Disproved("user", "wrong password")


def test_any_of_an_accounts_secrets_proves_it_and_is_named() -> None:
    keys = (KEYS, derive_keys("phone secret", SALT, 4096, "app:phone"))
    asked = challenged(scram_sha_256(SITUATION, FIRST), keys)
    verdict = asked.then(client_final(FIRST, asked.challenge, password="phone secret"))
    assert isinstance(verdict, Proved)
    assert verdict.credential == "app:phone"


def test_names_are_unescaped_and_prepared() -> None:
    action = scram_sha_256(SITUATION, b"n,,n=A=2CB=3Dc,r=x")
    assert isinstance(action, FindScram)
    assert action.name == "a,b=c"


@pytest.mark.parametrize(
    ("first", "permitted"),
    [(b"n,a=USER,n=user,r=x", True), (b"n,a=other,n=user,r=x", False), (b"y,,n=user,r=x", True)],
)
def test_the_authorization_identity_must_be_the_same_account(first: bytes, permitted: bool) -> None:
    asked = challenged(scram_sha_256(SITUATION, first))
    verdict = asked.then(client_final(first, asked.challenge))
    assert isinstance(verdict, Proved)
    assert verdict.permitted is permitted


def test_extensions_are_ignored_where_the_standard_lets_them_be() -> None:
    first = b"n,,n=user,r=abc,x=later,Y=1"
    asked = challenged(scram_sha_256(SITUATION, first))
    assert isinstance(asked.then(client_final(first, asked.challenge)), Proved)


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"n,,",
        b"n,n=user,r=x",
        b"x,,n=user,r=x",
        b"n,,n=,r=x",
        b"n,,n=user,r=",
        b"n,,n=user",
        b"n,,r=x,n=user",
        b"n,,m=ext,n=user,r=x",  # RFC 5802 §5.1: a mandatory extension that we do not know
        b"n,,n=user,r=x,m=ext",
        b"n,,n=user,r=x,p=AAAA",
        b"n,,n=us=2Der,r=x",  # only =2C and =3D
        b"n,,n=user=,r=x",
        b"n,a=x=,n=user,r=x",
        b"n,,n=user,r=a b",
        b"n,,n=us\0er,r=x",
        b"n,,n=user,r=x\n",
        b"n,,n=\xff,r=x",
        b"n,,n=user,r=" + b"x" * 5000,
        b"p=,,n=user,r=x",
        b"p=tls-server-end-point,,n=user,r=x",  # binding without -PLUS
    ],
)
def test_what_is_no_first_message_is_malformed(first: bytes) -> None:
    assert isinstance(scram_sha_256(BOUND, first), Malformed)


@pytest.mark.parametrize("first", [b"n,,n=a b,r=x", b"n,a=a b,n=user,r=x"])
def test_a_name_that_nobody_can_have_is_a_failure(first: bytes) -> None:
    assert scram_sha_256(SITUATION, first) == Disproved("", "no possible name")


@pytest.mark.parametrize(
    "final",
    [
        b"",
        b"c=biws",
        b"c=biws,r=rOpr",
        b"c=biws,p=AAAA",
        FINAL + b",x=1",  # the proof is last
        FINAL.replace(b",p=", b",p=AAAA,p="),
        FINAL.replace(b"c=biws", b"c=biw"),
        FINAL.replace(b"p=dHzb", b"p=d!zb"),
        FINAL + b"\n",
        b"\xff",
    ],
)
def test_what_is_no_final_message_is_malformed(final: bytes) -> None:
    assert isinstance(challenged(scram_sha_256(SITUATION, FIRST)).then(final), Malformed)


@pytest.mark.parametrize(
    ("final", "reason"),
    [
        (FINAL.replace(b"$k0", b"$k1"), "another nonce"),
        (FINAL.replace(b"c=biws", b"c=eSws"), "another channel"),  # y,,
        (FINAL.replace(b"p=dHzb", b"p=AAAA"), "wrong password"),
        (FINAL[: FINAL.index(b",p=")] + b",p=", "wrong password"),
        (FINAL[: FINAL.index(b",p=")] + b",p=AAAA", "wrong password"),
    ],
)
def test_a_changed_final_message_is_disproved(final: bytes, reason: str) -> None:
    assert challenged(scram_sha_256(SITUATION, FIRST)).then(final) == Disproved("user", reason)


@pytest.mark.parametrize(
    ("kind", "data"), [(b"tls-server-end-point", END_POINT), (b"tls-exporter", b"E" * 32)]
)
def test_plus_binds_to_the_channel_that_the_client_names(kind: bytes, data: bytes) -> None:
    first = b"p=" + kind + b",,n=user,r=abc"
    asked = challenged(scram_sha_256_plus(BOUND, first))
    assert isinstance(asked.then(client_final(first, asked.challenge, binding=data)), Proved)
    asked = challenged(scram_sha_256_plus(BOUND, first))
    somebody_between = asked.then(client_final(first, asked.challenge, binding=b"another certificate"))
    assert somebody_between == Disproved("user", "another channel")


@pytest.mark.parametrize("first", [b"n,,n=user,r=abc", b"y,,n=user,r=abc"])
def test_plus_without_binding_is_malformed(first: bytes) -> None:
    assert isinstance(scram_sha_256_plus(BOUND, first), Malformed)


def test_plus_with_a_binding_that_is_not_offered_fails() -> None:
    verdict = scram_sha_256_plus(BOUND, b"p=tls-unique,,n=user,r=abc")
    assert verdict == Disproved("user", "a channel binding that is not offered")


def test_a_client_that_was_not_shown_plus_notices_the_downgrade() -> None:
    verdict = scram_sha_256(BOUND, b"y,,n=user,r=abc")  # RFC 5802 §6
    assert verdict == Disproved("user", "the list of mechanisms was changed on its way")
    assert isinstance(scram_sha_256(BOUND, b"n,,n=user,r=abc"), FindScram)
    assert isinstance(scram_sha_256(SITUATION, b"y,,n=user,r=abc"), FindScram)


def test_an_unknown_name_has_a_stable_salt_of_the_usual_form_that_only_the_secret_predicts() -> None:
    salt, keys = fake_keys("nobody", b"secret")
    assert fake_keys("nobody", b"secret") == (salt, keys)
    assert len(salt) == 16
    assert fake_keys("nobody2", b"secret")[0] != salt
    assert fake_keys("nobody", b"secret2")[0] != salt
